"""Submissions: events on their way in, before they are accepted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from embarc.core.events import Author, EventKind
from embarc.core.values import value


@value
class Draft:
    """An event as a platform tells it: not yet accepted, no id, perhaps no time."""

    kind: EventKind
    author: Author | None = None
    ids: Mapping[str, int | str] = field(default_factory=dict)
    """Of `PAYLOAD_IDS`, those that apply."""
    entity_id: str | None = None
    """Of the entity the event is about; derived from `ids` and the response where it is None."""
    timestamp_ms: int | None = None
    """When it happened; the time of acceptance where it is None."""
    request: bytes = b"{}"
    """The JSON text that the platform's caller sent, checked and without insignificant whitespace."""
    response: bytes = b"{}"

    def __repr__(self) -> str:
        return f"<Draft {self.kind} {dict(self.ids)}>"  # request and response are a person's data


@value
class Submission:
    """Events that are accepted together or not at all. With a key, only once."""

    tenant: str
    drafts: tuple[Draft, ...]
    idempotency_key: str | None = None
    fingerprint: bytes = b""
    """A hash of what the caller sent: the same key with another fingerprint is a mistake of the caller's."""


@value
class Receipt:
    """What became of a submission, given out only after it is durable."""

    event_ids: tuple[str, ...]
    deliveries: int
    """Made for all the events together."""
    duplicate: bool = False
    """The key was known: this is the receipt of the first time."""
