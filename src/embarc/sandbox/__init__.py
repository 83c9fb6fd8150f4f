"""A small lending core to try Embarc on: an ordinary SQLAlchemy application that uses the outbox as any platform would."""

from embarc.sandbox.application import Sandbox, build

__all__ = ["Sandbox", "build"]
