"""Inlets: doors at which another system's events come in, each with a secret of its own."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Inlet:
    """A door for an Apache Fineract. Only the SHA-256 of its secret is kept: it is random enough for a plain hash."""

    tenant: str
    id: int = 0
    name: str
    digest: bytes = field(repr=False)
    forwards_failures: bool = False
    """Whether failed and pending commands are events too, under kinds of their own."""
    created_by: str = ""
    created_at_ms: int = 0
