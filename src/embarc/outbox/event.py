"""The event as a platform tells it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

from embarc.core.events import EventKind, entity_id_of
from embarc.core.masking import mask

LONGEST_ENTITY = 200
"""Characters of an entity's key as it is written; MySQL's indexes want a limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEvent:
    """An event to emit. `request` and `response` may be JSON text: then they are carried verbatim, numbers and all."""

    entity_name: str
    action_name: str
    tenant: str = "default"
    created_by: int | str | None = None
    created_by_name: str | None = None
    created_by_full_name: str | None = None
    ids: Mapping[str, int | str] = field(default_factory=dict)
    """Of officeId, clientId, loanId, savingsId, groupId those that apply."""
    entity_id: int | str | None = None
    """Of the entity the event is about, where neither `ids` nor the response name it."""
    timestamp: datetime | None = None
    """When it happened, with an offset; the time of acceptance where it is None."""
    request: str | bytes | Mapping[str, Any] = "{}"
    response: str | bytes | Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<OutboxEvent {self.entity_name}.{self.action_name} {dict(self.ids)}>"  # the rest is a person's data

    def json(self) -> str:
        """The event as `POST /events` takes it, with the values of secret keys (`password`, ...) masked already; raises
        TypeError or ValueError for what JSON cannot say."""
        members: dict[str, Any] = {
            "entityName": self.entity_name,
            "actionName": self.action_name,
            "createdBy": self.created_by,
            "createdByName": self.created_by_name,
            "createdByFullName": self.created_by_full_name,
            **self.ids,
            "entityId": self.entity_id,
            "timestamp": None if self.timestamp is None else self.timestamp.isoformat(),
        }
        written = json.dumps({name: value for name, value in members.items() if value is not None})
        whole = f'{written[:-1]}, "request": {_text(self.request)}, "response": {_text(self.response)}}}'
        return mask(whole.encode()).decode()

    @property
    def entity(self) -> str | None:
        """What events that must not overtake one another have in common; None where no entity is known.

        It is what Embarc itself orders by, with the tenant before it.
        """
        kind = EventKind(self.entity_name, self.action_name)
        entity_id = self.entity_id
        if entity_id is None:
            entity_id = entity_id_of(kind, self.ids, _members(self.response))
        if entity_id is None:
            return None
        key = f"{self.tenant}/{self.entity_name}/{entity_id}"
        return key if len(key) <= LONGEST_ENTITY else sha256(key.encode()).hexdigest()


def _text(document: str | bytes | Mapping[str, Any]) -> str:
    if isinstance(document, Mapping):
        return json.dumps(dict(document), allow_nan=False)
    return (document.decode() if isinstance(document, bytes) else document) or "{}"


def _members(document: str | bytes | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(document, Mapping):
        return document
    try:
        read = json.loads(document or "{}")
    except ValueError:
        return {}  # Embarc refuses it, and its answer tells what is wrong
    return read if isinstance(read, dict) else {}
