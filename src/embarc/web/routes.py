"""Routes: one table of what a door answers, turned into an ASGI application.

A handler gets a `Call` (who, path, query, body) and returns plain data; everything else is the same for all
of them: authentication, permission, body limit, strict JSON, the error envelope. The table also feeds the
OpenAPI document and the tests that check every route.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from embarc.core.access import Caller
from embarc.core.errors import EmbarcError, Forbidden, Invalid, MethodNotAllowed, NotFound, TooLarge
from embarc.core.fields import Fields
from embarc.observe import Observe
from embarc.web import problems, strict_json

BODY_LIMIT = 1024 * 1024
"""Bytes of a request's body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, as a handler sees it."""

    caller: Caller
    path: Mapping[str, str]
    query: QueryParams
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    client: str = ""
    """The address that it came from."""
    target: str = ""
    """Method, path and query as they were sent, below the base: what tells one command from another."""
    answer_headers: dict[str, str] = field(default_factory=dict)
    """Headers that the answer is to have besides its own."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What the audit log is to tell: `resource_id`, `before`, `after`; `skip` where nothing was changed."""

    def json(self) -> Any:
        """The body as strict JSON; raises `MalformedBody`."""
        return strict_json.parse(self.body)

    def fields(self, resource: str, allowed: Collection[str]) -> Fields:
        """The body's fields, ready to be read; names beyond `allowed` are noted as errors."""
        return Fields(self.json(), resource, allowed)


Handler = Callable[[Call], Awaitable[Any]]
"""Returns what is rendered as JSON with status 200, or a ready `Response`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One row of the table. `permission` is Fineract's name for it; None means open to everybody."""

    method: str
    path: str
    handler: Handler
    permission: str | None
    summary: str
    tag: str
    body: Any = None
    """An example of the request's body, for the OpenAPI document."""
    query: Sequence[tuple[str, str]] = ()
    """Query parameters and what each means, for the OpenAPI document."""
    is_audited: bool = True
    """Whether the audit log tells of it, where it is no GET."""


Authenticate = Callable[[Mapping[str, str], str], Awaitable[Caller]]
"""Finds the caller behind a request's headers and address; raises `Unauthenticated`, `Forbidden` or `TooManyRequests`."""
Audit = Callable[[Call, Route, Any], Awaitable[None]]
"""Writes down that a call has changed something; gets its answer too."""


def router(
    routes: Sequence[Route], authenticate: Authenticate, observe: Observe, audit: Audit | None = None
) -> ASGIApp:
    """An ASGI application that answers these routes, each under the base path it is mounted at."""
    methods: dict[str, set[str]] = {}
    for route in routes:
        methods.setdefault(route.path, set()).add(route.method)
    table = Router(
        routes=[
            StarletteRoute(r.path, _Endpoint(r, authenticate, observe, audit), methods=[r.method])
            for r in routes
        ],
        redirect_slashes=False,
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            # With an "app" in the scope Starlette raises what it would otherwise answer as plain text.
            await table({**scope, "app": table}, receive, send)
        except HTTPException as error:  # how Starlette says that no route matched
            problem = MethodNotAllowed() if error.status_code == 405 else NotFound()
            await problems.answer(problem)(scope, receive, send)

    return app


def unsupported_command(call: Call, known: Collection[str]) -> Invalid:
    """The error for a `?command=` that this resource does not have."""
    name = call.query.get("command")
    return Invalid.field(
        "command",
        "error.msg.query.parameter.value.unsupported",
        f"The query parameter command has an unsupported value of: {name}. There are: {', '.join(known)}.",
        name,
    )


def unexpected(observe: Observe, method: str, path: str) -> Response:
    """The answer to an error of ours: the log gets its inside, the caller not a word of it."""
    observe("request.failed", method=method, path=path, error=traceback.format_exc())
    return problems.answer(EmbarcError())


async def read_body(receive: Receive, limit: int = BODY_LIMIT) -> bytes:
    """The whole body of a request; raises `TooLarge` as soon as it exceeds `limit` bytes."""
    message = await receive()
    chunk: bytes = message.get("body", b"")
    if not message.get("more_body") and len(chunk) <= limit:
        return chunk
    chunks, size = [chunk], len(chunk)
    while message.get("more_body") and size <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
    if size > limit:
        raise TooLarge(f"The body of the request exceeds {limit} bytes.")
    return b"".join(chunks)


class _Endpoint:
    """The ASGI endpoint of one route."""

    def __init__(
        self, route: Route, authenticate: Authenticate, observe: Observe, audit: Audit | None
    ) -> None:
        self.audit = audit if route.is_audited and route.method != "GET" and route.permission else None
        self.route = route
        self.authenticate = authenticate
        self.observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._answer(Request(scope, receive))
        except ClientDisconnect:
            return
        except EmbarcError as error:
            response = problems.answer(error)
        except Exception:
            # A path with a secret in it is told as it stands in the table.
            path = self.route.path if "secret" in scope.get("path_params", {}) else scope["path"]
            response = unexpected(self.observe, scope["method"], path)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        caller = await self._caller(request)
        call = Call(
            caller=caller,
            path=request.path_params,
            query=request.query_params,
            headers=request.headers,
            body=await read_body(request.receive),
            client=request.client.host if request.client else "",
            target=f"{request.method} {request.scope['path']}?{request.url.query}",
        )
        answered = await self.route.handler(call)
        if self.audit is not None and not call.notes.get("skip"):
            await self.audit(call, self.route, answered)
        if isinstance(answered, Response):
            return answered
        return Response(
            msgspec.json.encode(answered), media_type="application/json", headers=call.answer_headers
        )

    async def _caller(self, request: Request) -> Caller:
        if self.route.permission is None:
            return Caller.nobody()
        caller = await self.authenticate(request.headers, request.client.host if request.client else "")
        if not caller.may(self.route.permission):
            raise Forbidden(f"Calling this needs the permission {self.route.permission}.")
        return caller
