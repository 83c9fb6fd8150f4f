"""What all resources of the sandbox do alike: find a row, keep a text unique, tell what changed, answer a day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute

from embarc.core.errors import Duplicate, FieldError, Invalid, NotFound
from embarc.sandbox.tables import Client, Code, CodeValue, Office, Role, Staff, User

if TYPE_CHECKING:
    from embarc.sandbox.application import Work

Record = Client | Code | CodeValue | Office | Role | Staff | User
Found = TypeVar("Found", Client, Code, CodeValue, Office, Role, Staff, User)

_INVALID = {
    Client: ("error.msg.client.id.invalid", "Client with identifier {} does not exist"),
    Code: ("error.msg.code.identifier.not.found", "Code with identifier `{}` does not exist"),
    CodeValue: ("error.msg.codevalue.id.invalid", "Code value with identifier {} does not exist"),
    Office: ("error.msg.office.id.invalid", "Office with identifier {} does not exist"),
    Role: ("error.msg.role.id.invalid", "Role with identifier {} does not exist"),
    Staff: ("error.msg.staff.id.invalid", "Staff with identifier {} does not exist"),
    User: ("error.msg.user.id.invalid", "User with identifier {} does not exist"),
}


def find(work: Work, table: type[Found], identifier: int | str | None) -> Found:
    """The tenant's row with this id, as it stands in a path or a body; raises `NotFound` with Fineract's code."""
    wanted = select(table).where(table.tenant == work.tenant, table.id == to_id(identifier))
    found = work.session.scalar(wanted)
    if found is None:
        raise not_found(table, str(identifier))
    return found


def to_id(identifier: int | str | None) -> int:
    """The id, or 0, which nothing has, where it is none or more than a database holds."""
    text = str(identifier)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def not_found(table: type[Record], identifier: str) -> NotFound:
    """The error for an identifier that nothing has."""
    code, message = _INVALID[table]
    return NotFound.resource(code, message.format(identifier[:100]), identifier[:100])


def check_unique(
    work: Work,
    column: InstrumentedAttribute[Any],
    value: str | None,
    own: Record | None,
    *,
    code: str,
    message: str,
    parameter: str,
) -> None:
    """Raise `Duplicate` where another row of the tenant than `own` has this value."""
    if value is None:
        return
    table = column.class_
    taken = select(table.id).where(
        table.tenant == work.tenant, column == value, table.id != (own.id if own else 0)
    )
    if work.session.scalar(taken) is not None:
        raise Duplicate(message, code=code, errors=[FieldError(code, message, parameter, value)])


def change(record: Record, body: Mapping[str, Any], after: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """Give the record its new values and return what changed, as the caller wrote it.

    `after` holds for each field of the request the column and the value that it becomes.
    """
    changes = {}
    for name, (column, value) in after.items():
        if getattr(record, column) != value:
            setattr(record, column, value)
            changes[name] = body.get(name)
    return changes


def day(when: date | None) -> list[int] | None:
    """A day as Fineract answers it."""
    return None if when is None else [when.year, when.month, when.day]


def known(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not known: Fineract leaves that out."""
    return {name: value for name, value in values.items() if value is not None}


def count(text: str, name: str) -> int:
    """A whole number in the query; raises `Invalid`."""
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        message = f"The query parameter {name} must be a whole number."
        raise Invalid.field(name, "error.msg.query.parameter.value.unsupported", message, text[:50])
    return int(text)
