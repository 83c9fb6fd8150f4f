"""The hot path of accepting: `POST /events`, a plain ASGI handler.

Every microsecond here is paid for every event, so this route does without the router, the request object
and the general JSON reader that the other routes use. What it accepts and how it answers is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from embarc.core.errors import EmbarcError, Forbidden, Invalid
from embarc.core.events import EventKind
from embarc.core.submissions import Receipt, Submission
from embarc.engine.access import TENANT_HEADER
from embarc.engine.kinds import Kinds
from embarc.observe import Observe
from embarc.web import problems, strict_json
from embarc.web.event_body import EventBody, check_names, read_bodies, to_draft
from embarc.web.routes import Authenticate, read_body, unexpected

PERMISSION = "CREATE_EVENT"
MOST_EVENTS = 1000
"""Events of one request: it is one transaction, and nobody else's commit should wait for more."""
LONGEST_KEY = 255
_OK_HEADERS = [(b"content-type", b"application/json")]
_CACHED_HEADERS = [*_OK_HEADERS, (b"x-served-from-cache", b"true")]
_READ = {name.encode(): name for name in ("authorization", TENANT_HEADER, "idempotency-key")}


class Ingest:
    """`POST /events`: one event, or a list that is accepted together."""

    def __init__(
        self,
        publish: Callable[[Submission], Awaitable[Receipt]],
        authenticate: Authenticate,
        kinds: Kinds,
        observe: Observe,
    ) -> None:
        self._publish = publish
        self._authenticate = authenticate
        self._kinds = kinds
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            receipt, is_list = await self._accept(scope, receive)
        except ClientDisconnect:
            return
        except EmbarcError as error:
            await problems.answer(error)(scope, receive, send)
            return
        except Exception:
            await unexpected(self._observe, scope["method"], scope["path"])(scope, receive, send)
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
        headers = {_READ[name]: value.decode("latin-1") for name, value in scope["headers"] if name in _READ}
        client = scope.get("client")
        caller = await self._authenticate(headers, client[0] if client else "")
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
        bodies, is_list = read_bodies(compact, MOST_EVENTS)
        tenant, known = caller.tenant, self._kinds.known
        drafts = []
        for one in bodies:
            kind = known(tenant, one.entity_name, one.action_name) or await self._kind(tenant, one)
            drafts.append(to_draft(one, kind))
        receipt = await self._publish(
            Submission(
                tenant=tenant,
                drafts=tuple(drafts),
                idempotency_key=key,
                fingerprint=hashlib.sha256(compact).digest() if key is not None else b"",
            )
        )
        return receipt, is_list

    async def _kind(self, tenant: str, body: EventBody) -> EventKind:
        kind = EventKind(body.entity_name, body.action_name)
        check_names(kind)
        return await self._kinds.admit(tenant, kind)


def _answer(receipt: Receipt, is_list: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {"eventIds": receipt.event_ids} if is_list else {"eventId": receipt.event_ids[0]}
    return answer | {"deliveries": receipt.deliveries, "duplicate": receipt.duplicate}
