"""The inlet for an Apache Fineract: what its Web hook sends becomes an event like any other.

Fineract sends each event once, tells nothing about failures apart from a `status` in the body, and gives it no id; see
`HookEvent` and `WebHookService` of Fineract 1.11. Its Web hook needs nothing changed: it is pointed at the inlet's URL.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from embarc.core.errors import EmbarcError, Invalid, MalformedBody, NotFound
from embarc.core.events import PAYLOAD_IDS, Author, EventKind, entity_id_of
from embarc.core.fields import moment_ms
from embarc.core.inlets import Inlet
from embarc.core.submissions import Draft, Receipt, Submission
from embarc.inlets import java_text
from embarc.observe import Observe
from embarc.web import strict_json
from embarc.web.event_body import check_names
from embarc.web.routes import Call, Route

PATH = "/inlets/fineract/{secret}"
GROUPING = "fineract"
"""Of kinds that Fineract emits and the catalogue does not know."""
REPEAT_SECONDS = 60.0
"""Within which a payload without a time counts as a repetition. Fineract's client tries a connection again within 10 s."""
_FORM = "application/x-www-form-urlencoded"
_MOST_FIELDS = 100
_REMEMBER = 10_000
_PENDING_APPROVAL = 2000
_LARGEST_ID = Decimal(2**63)
_EMPTY_OBJECT = b"{}"

_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """One payload of Fineract's, decoded, by whichever transport it came."""

    kind: EventKind
    author: Author | None = None
    ids: Mapping[str, int | str] = field(default_factory=dict)
    entity_id: str | None = None
    timestamp_ms: int | None = None
    is_failure: bool = False
    """The command failed, or waits for a checker; the kind says which."""
    request: bytes = field(default=_EMPTY_OBJECT, repr=False)
    response: bytes = field(default=_EMPTY_OBJECT, repr=False)
    digest: bytes = b""
    """Of everything that was sent."""


class FineractInlet:
    """Takes what Fineract sends.

    `find` finds the inlet of a secret, `learn` adds a kind that is new to a tenant.
    """

    def __init__(
        self,
        find: Callable[[str], Awaitable[Inlet | None]],
        publish: Callable[[Submission], Awaitable[Receipt]],
        learn: Callable[[str, EventKind, str], Awaitable[EventKind]],
        *,
        clock: Callable[[], float],
        observe: Observe,
    ) -> None:
        self._find = find
        self._publish = publish
        self._learn = learn
        self._clock = clock
        self._observe = observe
        self._first_seen: dict[bytes, float] = {}

    def routes(self) -> list[Route]:
        """Where Fineract's hook points to. The secret in the path is the credential."""
        return [
            Route(
                method="GET",
                path=PATH,
                handler=self._ping,
                permission=None,
                summary="What Fineract asks when its hook is made",
                tag="inlets",
            ),
            Route(
                method="POST",
                path=PATH,
                handler=self._receive,
                permission=None,
                summary="What Apache Fineract's Web hook sends, as JSON or as a form",
                tag="inlets",
            ),
        ]

    async def accept(self, inlet: Inlet, payload: Payload) -> Receipt | None:
        """Publish one payload, once however often it comes; None where it tells of a failure that is not wanted."""
        if payload.is_failure and not inlet.forwards_failures:
            self._observe("inlet.skipped", inlet=inlet.id, tenant=inlet.tenant, kind=str(payload.kind))
            return None
        kind = await self._learn(inlet.tenant, payload.kind, GROUPING)
        draft = Draft(
            kind=kind,
            author=payload.author,
            ids=payload.ids,
            entity_id=payload.entity_id,
            timestamp_ms=payload.timestamp_ms,
            request=payload.request,
            response=payload.response,
        )
        key = f"fineract/{payload.digest.hex()}"
        if payload.timestamp_ms is None:
            key += f"/{self._window(payload.digest)}"
        return await self._publish(
            Submission(tenant=inlet.tenant, drafts=(draft,), idempotency_key=key, fingerprint=payload.digest)
        )

    async def _ping(self, call: Call) -> dict[str, Any]:
        await self._inlet(call)
        return {}

    async def _receive(self, call: Call) -> dict[str, Any]:
        inlet = await self._inlet(call)
        try:
            receipt = await self.accept(inlet, decode(call.headers, call.body))
        except EmbarcError as error:
            # Fineract does not look at the answer: whoever operates this has to learn of it here. No values: they
            # are a person's data.
            fields = [one.parameter for one in error.errors]
            self._observe(
                "inlet.refused", inlet=inlet.id, tenant=inlet.tenant, code=error.code, fields=fields
            )
            raise
        if receipt is None:
            return {"skipped": True}
        (event_id,) = receipt.event_ids
        return {"eventId": event_id, "deliveries": receipt.deliveries, "duplicate": receipt.duplicate}

    async def _inlet(self, call: Call) -> Inlet:
        inlet = await self._find(call.path["secret"])
        if inlet is None:
            raise NotFound  # as for any other path: nobody learns that this one is close
        return inlet

    def _window(self, digest: bytes) -> int:
        """The number of the window that this payload, which has no time, was first seen in.

        Two that are `REPEAT_SECONDS` apart never share one; nearer ones do, in this process in any case, and across
        processes where no border of a window lies between them.
        """
        now = self._clock()
        first = self._first_seen.pop(digest, now)
        if now - first > REPEAT_SECONDS:
            first = now
        self._first_seen[digest] = first
        if len(self._first_seen) > _REMEMBER:
            del self._first_seen[next(iter(self._first_seen))]
        return int(first // REPEAT_SECONDS)


def decode(headers: Mapping[str, str], body: bytes) -> Payload:
    """What Fineract has sent; raises `MalformedBody` or `Invalid`, naming the field."""
    is_form = headers.get("content-type", "").lower().startswith(_FORM)
    members = _members(strict_json.check(_json_of_form(body) if is_form else body))
    digest = hashlib.sha256(headers.get("fineract-platform-tenantid", "").encode())
    for name in sorted(members):
        digest.update(b"\0" + name.encode() + b"\0" + members[name])
    if "entityName" not in members:
        # Until 1.4 the body was the result alone, and only the headers named the kind.
        members = {
            "entityName": _json(headers.get("x-fineract-entity", "")),
            "actionName": _json(headers.get("x-fineract-action", "")),
            "response": _json_object(members),
            **{name: members[name] for name in PAYLOAD_IDS if name in members},
        }
    return _payload(members, digest.digest())


def _payload(members: Mapping[str, bytes], digest: bytes) -> Payload:
    response_text = _object(members, "response")
    response = _members(response_text)
    kind = EventKind(_text(members, "entityName").strip(), _text(members, "actionName").strip())
    is_failure = _text(members, "status") == "Exception"
    if is_failure:
        is_pending = _id(response.get("errorCode")) == _PENDING_APPROVAL
        kind = EventKind(kind.entity_name, kind.action_name + ("_PENDING" if is_pending else "_FAILED"))
    check_names(kind)
    found = {name: _id(members.get(name, response.get(name))) for name in PAYLOAD_IDS}
    ids = {name: one for name, one in found.items() if one is not None}
    named = {name: _id(response.get(name)) for name in ("resourceId", "resourceIdentifier")}
    return Payload(
        kind=kind,
        author=_author(members),
        ids=ids,
        entity_id=entity_id_of(kind, ids, {name: one for name, one in named.items() if one is not None}),
        timestamp_ms=_timestamp_ms(_text(members, "timestamp")),
        is_failure=is_failure,
        request=_object(members, "request"),
        response=response_text,
        digest=digest,
    )


def _json_of_form(body: bytes) -> bytes:
    """The form as JSON: maps from Java's text, scalars as what they look like."""
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise MalformedBody(f"The body is not a readable form: {error}.") from None
    members = {
        name: java_text.object_of(text) if name in ("request", "response") else java_text.scalar(text)
        for name, text in pairs
    }
    if len(members) != len(pairs):
        raise MalformedBody("The form has a field twice.")
    return _json_object({name: text.encode() for name, text in members.items()})


def _members(text: bytes) -> dict[str, bytes]:
    try:
        return {name: bytes(raw) for name, raw in _decode_members(text).items()}
    except msgspec.ValidationError:
        raise MalformedBody("The body must be a JSON object.") from None


def _object(members: Mapping[str, bytes], name: str) -> bytes:
    text = members.get(name, _EMPTY_OBJECT)
    if text == b"null":
        return _EMPTY_OBJECT
    if not text.startswith(b"{"):
        message = f"The parameter `{name}` must be an object."
        raise Invalid.field(name, f"validation.msg.event.{name}.not.an.object", message)
    return text


def _text(members: Mapping[str, bytes], name: str) -> str:
    """The value as text; empty where there is none."""
    value = msgspec.json.decode(members.get(name, b"null"))
    return value if isinstance(value, str) else "" if value is None else members[name].decode()


def _id(text: bytes | None) -> int | str | None:
    """An id: a whole number also where it went through a double (`27.0`, `1.0E7`), or a string."""
    if text is None or text.startswith((b"{", b"[")) or text in (b"null", b"true", b"false", b'""'):
        return None
    if text.startswith(b'"'):
        value: str = msgspec.json.decode(text)
        is_number = value.isascii() and value.isdigit() and len(value) < 19 and str(int(value)) == value
        return int(value) if is_number else value[:200]
    try:
        number = Decimal(text.decode())
    except InvalidOperation:
        return None
    return int(number) if abs(number) < _LARGEST_ID and number == int(number) else None


def _author(members: Mapping[str, bytes]) -> Author | None:
    user_id = _id(members.get("createdBy"))
    if user_id is None:
        return None
    return Author(
        user_id=user_id,
        username=_text(members, "createdByName"),
        full_name=_text(members, "createdByFullName"),
    )


def _timestamp_ms(text: str) -> int | None:
    """The time of publishing; None where there is none that can be read: then the time of arrival counts."""
    try:
        ms = moment_ms(text) if text else -1
    except ValueError:
        return None
    return ms if ms >= 0 else None


def _json(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode()


def _json_object(members: Mapping[str, bytes]) -> bytes:
    return b"{" + b",".join(_json(name) + b":" + text for name, text in members.items()) + b"}"
