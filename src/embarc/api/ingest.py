"""The hot path of accepting: `POST /events`, a plain ASGI handler.

Every microsecond here is paid for every event, so this route does without the router, the request object
and the general JSON reader that the other routes use. What it accepts and how it answers is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from embarc.core.access import Caller
from embarc.core.catalogue import Catalogue
from embarc.core.errors import EmbarcError, FieldError, Forbidden, Invalid, MalformedBody
from embarc.core.events import Author, EventKind
from embarc.core.submissions import Draft, Receipt, Submission
from embarc.web import problems, strict_json
from embarc.web.routes import read_body

PERMISSION = "CREATE_EVENT"
MOST_EVENTS = 1000
"""Events of one request: it is one transaction, and nobody else's commit should wait for more."""
LONGEST_KEY = 255
_OK_HEADERS = [(b"content-type", b"application/json")]
_CACHED_HEADERS = [*_OK_HEADERS, (b"x-served-from-cache", b"true")]
_EMPTY_OBJECT = msgspec.Raw(b"{}")

Id = int | str | None


class EventBody(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """One event as a platform posts it: the payload's keys, of which only the kind is required."""

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


class Ingest:
    """`POST /events`: one event, or a list that is accepted together."""

    def __init__(
        self,
        publish: Callable[[Submission], Awaitable[Receipt]],
        authenticate: Callable[[Mapping[str, str]], Awaitable[Caller]],
        catalogue: Catalogue,
        *,
        is_open_catalogue: bool,
    ) -> None:
        self._publish = publish
        self._authenticate = authenticate
        self._catalogue = catalogue
        self._is_open_catalogue = is_open_catalogue
        self._kinds: dict[tuple[str, str], EventKind] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            receipt, is_list = await self._accept(scope, receive)
        except ClientDisconnect:
            return
        except EmbarcError as error:
            await problems.answer(error)(scope, receive, send)
            return
        body = msgspec.json.encode(_answer(receipt, is_list))
        headers = _CACHED_HEADERS if receipt.duplicate else _OK_HEADERS
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [*headers, (b"content-length", b"%d" % len(body))],
            }
        )
        await send({"type": "http.response.body", "body": body})

    async def _accept(self, scope: Scope, receive: Receive) -> tuple[Receipt, bool]:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        caller = await self._authenticate(headers)
        if not caller.may(PERMISSION):
            raise Forbidden(f"Calling this needs the permission {PERMISSION}.")
        body = await read_body(receive)
        key = headers.get("idempotency-key")
        if key is not None and not 0 < len(key) <= LONGEST_KEY:
            raise Invalid.field(
                "Idempotency-Key",
                "validation.msg.event.idempotencyKey.exceeds.max.length",
                f"The header Idempotency-Key must have 1 to {LONGEST_KEY} characters.",
            )
        compact = strict_json.check(body)
        is_list = compact.startswith(b"[")
        drafts = [self._draft(one, position) for position, one in enumerate(_bodies(compact, is_list))]
        receipt = await self._publish(
            Submission(
                tenant=caller.tenant,
                drafts=tuple(drafts),
                idempotency_key=key,
                fingerprint=hashlib.sha256(compact).digest() if key is not None else b"",
            )
        )
        return receipt, is_list

    def _draft(self, body: EventBody, position: int) -> Draft:
        kind = self._kinds.get((body.entity_name, body.action_name)) or self._kind(body)
        ids = {}
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

    def _kind(self, body: EventBody) -> EventKind:
        kind = EventKind(body.entity_name, body.action_name)
        for parameter, name in (("entityName", kind.entity_name), ("actionName", kind.action_name)):
            if not EventKind.is_name(name):
                raise Invalid.field(
                    parameter,
                    f"validation.msg.event.{parameter}.invalid",
                    f"The parameter `{parameter}` must be a name of 1 to 100 letters, digits, `_`, `-`, `.` or spaces.",
                    name[:100],
                )
        if not self._catalogue.knows(kind) and not self._is_open_catalogue:
            near = self._catalogue.nearest(kind)
            raise Invalid.field(
                "entityName",
                "validation.msg.event.kind.unknown",
                f"There is no event {kind}." + (f" Did you mean {near}?" if near else ""),
                str(kind),
            )
        if len(self._kinds) < 10_000:
            self._kinds[body.entity_name, body.action_name] = kind
        return kind


def _bodies(compact: bytes, is_list: bool) -> list[EventBody]:
    try:
        bodies = _decode_list(compact) if is_list else [_decode_one(compact)]
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    if not 0 < len(bodies) <= MOST_EVENTS:
        raise Invalid.field(
            "events",
            "validation.msg.event.count",
            f"Send 1 to {MOST_EVENTS} events in one request.",
            len(bodies),
        )
    return bodies


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


def _answer(receipt: Receipt, is_list: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {"eventIds": receipt.event_ids} if is_list else {"eventId": receipt.event_ids[0]}
    return answer | {"deliveries": receipt.deliveries, "duplicate": receipt.duplicate}
