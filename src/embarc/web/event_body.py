"""An event as a platform writes it in JSON: the payload's keys, by whichever door it comes in."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from embarc.core.errors import EmbarcError, FieldError, Invalid, MalformedBody
from embarc.core.events import Author, EventKind
from embarc.core.submissions import Draft

_EMPTY_OBJECT = msgspec.Raw(b"{}")

Id = int | str | None


class EventBody(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """One event, of which only the kind is required."""

    entity_name: str
    action_name: str
    created_by: Id = None
    created_by_name: str | None = None
    created_by_full_name: str | None = None
    office_id: Id = None
    client_id: Id = None
    loan_id: Id = None
    savings_id: Id = None
    group_id: Id = None
    entity_id: Id = None
    timestamp: str | None = None
    request: msgspec.Raw = _EMPTY_OBJECT
    response: msgspec.Raw = _EMPTY_OBJECT


_decode_one = msgspec.json.Decoder(EventBody).decode
_decode_list = msgspec.json.Decoder(list[EventBody]).decode


def read_bodies(compact: bytes, most: int) -> tuple[list[EventBody], bool]:
    """The event, or the list of 1 to `most` events, of a checked JSON text; and whether it was a list.

    Raises `Invalid` naming the field, `MalformedBody` where it is neither.
    """
    is_list = compact.startswith(b"[")
    try:
        bodies = _decode_list(compact) if is_list else [_decode_one(compact)]
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    if not 0 < len(bodies) <= most:
        raise Invalid.field(
            "events", "validation.msg.event.count", f"Send 1 to {most} events in one request.", len(bodies)
        )
    return bodies, is_list


def to_draft(body: EventBody, kind: EventKind) -> Draft:
    """The draft of an event of this kind; raises `Invalid`."""
    ids: dict[str, int | str] = {}
    if body.office_id is not None:
        ids["officeId"] = body.office_id
    if body.client_id is not None:
        ids["clientId"] = body.client_id
    if body.loan_id is not None:
        ids["loanId"] = body.loan_id
    if body.savings_id is not None:
        ids["savingsId"] = body.savings_id
    if body.group_id is not None:
        ids["groupId"] = body.group_id
    return Draft(
        kind=kind,
        author=_author(body),
        ids=ids,
        entity_id=None if body.entity_id is None else str(body.entity_id),
        timestamp_ms=None if body.timestamp is None else _timestamp_ms(body.timestamp),
        request=_object_text(body.request, "request"),
        response=_object_text(body.response, "response"),
    )


def check_names(kind: EventKind) -> None:
    """Raise `Invalid` where a part of the kind could not travel in a header."""
    for parameter, name in (("entityName", kind.entity_name), ("actionName", kind.action_name)):
        if not EventKind.is_name(name):
            raise Invalid.field(
                parameter,
                f"validation.msg.event.{parameter}.invalid",
                f"The parameter `{parameter}` must be a name of 1 to 100 letters, digits, `_`, `-`, `.` or spaces.",
                name[:100],
            )


def _invalid(message: str) -> EmbarcError:
    """msgspec's words ("Expected `int`, got `str` - at `$[0].clientId`") as an answer that names the field."""
    what, _, place = message.partition(" - at `$")
    parameter = place.rstrip("`").lstrip(".")
    code = "validation.msg.event.invalid"
    if "unknown field" in what:
        name = what.split("`")[1]
        parameter, code = f"{parameter}.{name}".lstrip("."), "error.msg.parameter.unsupported"
        what = f"The parameter {name} is not supported"
    elif "missing required field" in what:
        name = what.split("`")[1]
        parameter, code = f"{parameter}.{name}".lstrip("."), f"validation.msg.event.{name}.cannot.be.blank"
        what = f"The parameter `{name}` is mandatory"
    elif not parameter:
        return MalformedBody(f"The body must be an event or a list of events: {what}.")
    return Invalid(errors=[FieldError(code, f"{what}.", parameter)])


def _object_text(raw: msgspec.Raw, parameter: str) -> bytes:
    text = bytes(raw)
    if not text.startswith(b"{"):
        raise Invalid.field(
            parameter,
            f"validation.msg.event.{parameter}.not.an.object",
            f"The parameter `{parameter}` must be an object.",
        )
    return text


def _author(body: EventBody) -> Author | None:
    given = (body.created_by, body.created_by_name, body.created_by_full_name)
    if given == (None, None, None):
        return None
    if body.created_by is None or body.created_by_name is None or body.created_by_full_name is None:
        raise Invalid.field(
            "createdBy",
            "validation.msg.event.createdBy.incomplete",
            "Send createdBy, createdByName and createdByFullName together, or none of them.",
        )
    return Author(user_id=body.created_by, username=body.created_by_name, full_name=body.created_by_full_name)


def _timestamp_ms(text: str) -> int:
    try:
        when = datetime.fromisoformat(text)
        if when.tzinfo is None:
            raise ValueError("no offset")
        ms = int(when.astimezone(UTC).timestamp() * 1000)
        if ms < 0:
            raise ValueError("before 1970")
    except (ValueError, OverflowError):
        raise Invalid.field(
            "timestamp",
            "validation.msg.event.timestamp.invalid",
            "The parameter `timestamp` must be a time in ISO 8601 with an offset, such as 2025-10-13T07:45:12.001Z.",
            text[:100],
        ) from None
    return ms
