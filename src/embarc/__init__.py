"""Embarc: reliable webhooks for lending platforms."""

__version__ = "0.1.0"
