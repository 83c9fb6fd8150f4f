"""Replays of many: which deliveries to send again, and how far a job has come."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from embarc.core.deliveries import State
from embarc.core.events import EventKind

FIRST_KEY = bytes(16)
"""Below every event's key."""

ENDED = (State.EXHAUSTED, State.CANCELLED, State.DELIVERED)
"""The states that can be replayed: what is waiting is on its way already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What one replay is about: events of a time range that one hook wants."""

    hook_id: int
    kinds: tuple[EventKind, ...] = ()
    """Only these, either part may be `*`; none: every kind that the hook wants."""
    entity_id: str | None = None
    since_ms: int = 0
    until_ms: int
    states: tuple[State, ...] = ()
    """Of the deliveries to send again."""
    missing: bool = False
    """Also events that have no delivery to the hook: it did not exist then, or was inactive."""

    def wants(self, kind: EventKind) -> bool:
        """Whether events of this kind are meant."""
        return not self.kinds or any(one.covers(kind) for one in self.kinds)


class ReplayState(StrEnum):
    """Where a job stands."""

    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayJob:
    """A replay of many, and the event it has come to."""

    tenant: str
    key: bytes
    selection: Selection
    state: ReplayState = ReplayState.RUNNING
    reached: bytes = FIRST_KEY
    queued: int = 0
    """Deliveries made due so far."""
    created_by: str
    created_at_ms: int = 0
    finished_at_ms: int | None = None
