"""Writing an event into the caller's transaction."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from embarc.core.masking import mask

TABLE = "embarc_outbox"

_DDL = {
    "sqlite": f"""create table if not exists {TABLE} (
  position integer primary key autoincrement,
  id text not null unique,
  tenant text not null,
  body text not null
)""",
}

_INSERT = "insert into {table} (id, tenant, body) values ({id}, {tenant}, {body})"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEvent:
    """An event to emit. `request` may be JSON text: then it is carried verbatim, numbers and all."""

    entity_name: str
    action_name: str
    tenant: str = "default"
    created_by: int | str | None = None
    created_by_name: str | None = None
    created_by_full_name: str | None = None
    ids: Mapping[str, int | str] = field(default_factory=dict)
    """Of officeId, clientId, loanId, savingsId, groupId those that apply."""
    entity_id: int | str | None = None
    timestamp: datetime | None = None
    """When it happened, with an offset; the time of acceptance where it is None."""
    request: str | bytes | Mapping[str, Any] = "{}"
    response: Mapping[str, Any] = field(default_factory=dict)

    def json(self) -> str:
        """The event as `POST /events` takes it, with the values of secret keys (`password`, ...) masked already."""
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
        request = self.request.decode() if isinstance(self.request, bytes) else self.request
        text = request if isinstance(request, str) else json.dumps(request)
        whole = f'{written[:-1]}, "request": {text or "{}"}, "response": {json.dumps(dict(self.response))}}}'
        return mask(whole.encode()).decode()


class _Executes(Protocol):
    """What every connection, cursor and session of the supported libraries has."""

    def execute(self, statement: Any, parameters: Any = ..., /) -> Any: ...


def ddl(dialect: str = "sqlite") -> str:
    """The statement that makes the outbox table; raises ValueError for a dialect that is not supported."""
    try:
        return _DDL[dialect]
    except KeyError:
        raise ValueError(f"The outbox knows no dialect `{dialect}`. There are: {', '.join(_DDL)}.") from None


def emit(connection: _Executes, event: OutboxEvent) -> str:
    """Write the event into the connection's open transaction and return its id.

    `connection` is a SQLAlchemy Connection or Session, or a `sqlite3` connection. Nothing is committed here: the
    event exists exactly when your own commit succeeds.
    """
    event_id = uuid.uuid4().hex
    values = {"id": event_id, "tenant": event.tenant, "body": event.json()}
    named = _INSERT.format(table=TABLE, id=":id", tenant=":tenant", body=":body")
    if type(connection).__module__.startswith("sqlalchemy"):
        from sqlalchemy import text

        connection.execute(text(named), values)
    else:
        connection.execute(named, values)
    return event_id
