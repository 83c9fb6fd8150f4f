"""Events: something that happened at the platform, once, never changed.

An `EventKind` is the pair (entity name, action name), written `CLIENT.CREATE`. (Fineract calls the pair
an event; here an event is one occurrence of it.) `compose_payload` writes the payload exactly once; the
same bytes are stored, signed and sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring as _quote
from typing import NamedTuple

from embarc.core.values import value

ANY = "*"
"""Stands for every entity, or every action, in a subscription."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ .\-]{0,99}\Z")

# The order is part of the wire contract.
PAYLOAD_IDS = ("officeId", "clientId", "loanId", "savingsId", "groupId")

# The id that names the entity itself, where the event carries ids of several.
_OWN_ID = {
    "CLIENT": "clientId",
    "OFFICE": "officeId",
    "LOAN": "loanId",
    "SAVINGSACCOUNT": "savingsId",
    "GROUP": "groupId",
    "CENTER": "groupId",
}


class EventKind(NamedTuple):
    """What sort of thing happened: an entity and an action, either of which may be `*` in a subscription."""

    entity_name: str
    action_name: str

    def __str__(self) -> str:
        return f"{self.entity_name}.{self.action_name}"

    def covers(self, other: EventKind) -> bool:
        """Whether a subscription to this kind wants an event of the `other` kind."""
        return self.entity_name in (ANY, other.entity_name) and self.action_name in (ANY, other.action_name)

    @staticmethod
    def is_name(text: str) -> bool:
        """Whether `text` can be an entity's or action's name: it travels in HTTP headers and log lines."""
        return _NAME.match(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who did it: the platform's user behind the command."""

    user_id: int | str
    username: str
    full_name: str


@value
class Event:
    """One occurrence. `payload` is the exact JSON that receivers get."""

    tenant: str
    key: bytes
    kind: EventKind
    entity_id: str | None
    timestamp_ms: int
    payload: bytes

    @property
    def order_key(self) -> str | None:
        """What events that must not overtake one another have in common; None where no entity is known."""
        return order_key_of(self.kind, self.entity_id)

    def __repr__(self) -> str:
        return f"<Event {self.kind} {self.key.hex()} of {self.entity_id}>"  # the payload is a person's data


def order_key_of(kind: EventKind, entity_id: str | None) -> str | None:
    """The key of the entity that an event of this kind is about; None where it is not known."""
    return None if entity_id is None else f"{kind.entity_name}/{entity_id}"


def own_id_of(kind: EventKind) -> str | None:
    """The key of the payload that names the entity of this kind itself, `loanId` for a loan; None for most."""
    return _OWN_ID.get(kind.entity_name)


def entity_id_of(kind: EventKind, ids: Mapping[str, int | str], response: Mapping[str, object]) -> str | None:
    """The id of the entity the event is about: what order and the timestamp's uniqueness go by.

    A loan's repayment answers with the transaction as `resourceId`, so the loan's own id comes first.
    """
    own = own_id_of(kind)
    for found in (ids.get(own), response.get(own)) if own else ():
        if isinstance(found, int | str):
            return str(found)
    found = response.get("resourceId", response.get("resourceIdentifier"))
    return str(found) if isinstance(found, int | str) else None


def compose_payload(
    kind: EventKind,
    author: Author | None,
    ids: Mapping[str, int | str],
    timestamp_ms: int,
    request: bytes,
    response: bytes,
) -> bytes:
    """The payload's bytes, keys in the documented order; `request` and `response` are JSON text, kept verbatim."""
    head = f'{{"entityName":{_quote(kind.entity_name)},"actionName":{_quote(kind.action_name)},'
    if author is not None:
        head += (
            f'"createdBy":{_scalar(author.user_id)},"createdByName":{_quote(author.username)},'
            f'"createdByFullName":{_quote(author.full_name)},'
        )
    for name in PAYLOAD_IDS:
        if name in ids:
            head += f'"{name}":{_scalar(ids[name])},'
    head += f'"timestamp":"{timestamp_text(timestamp_ms)}","request":'
    return b"".join((head.encode(), request or b"{}", b',"response":', response or b"{}", b"}"))


def timestamp_text(ms: int) -> str:
    """UTC with milliseconds, as in `2025-10-13T07:45:12.001Z`."""
    seconds, millis = divmod(ms, 1000)
    return f"{_second_text(seconds)}.{millis:03d}Z"


@lru_cache(maxsize=64)
def _second_text(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def _scalar(value: int | str) -> str:
    return _quote(value) if isinstance(value, str) else str(value)


class TimestampSequence:
    """Gives each entity strictly rising milliseconds, so that (entity id, timestamp) names one event.

    Remembers a bounded number of entities. What it forgets, or what another process gave out, the store's
    unique key catches; then `at_least` starts above what is there.
    """

    def __init__(self, remember: int = 65_536) -> None:
        self._last: dict[tuple[str, str, str], int] = {}
        self._remember = remember

    def next(self, tenant: str, entity_name: str, entity_id: str | None, at_least: int) -> int:
        """The first free millisecond at or after `at_least` for this entity."""
        if entity_id is None:
            return at_least
        key = (tenant, entity_name, entity_id)
        last = self._last.pop(key, -1)
        chosen = at_least if at_least > last else last + 1
        self._last[key] = chosen  # re-inserted at the end: the dict's order is the order of use
        if len(self._last) > self._remember:
            del self._last[next(iter(self._last))]
        return chosen
