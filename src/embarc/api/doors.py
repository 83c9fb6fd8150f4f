"""All doors for programs, put together: which path leads to whom."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from embarc.api import access as access_api
from embarc.api import eventkinds, log, mifos
from embarc.api import hooks as hooks_api
from embarc.api import inlets as inlets_api
from embarc.api import operators as operators_api
from embarc.api import replays as replays_api
from embarc.api.ingest import PERMISSION, Ingest
from embarc.core.errors import StoreUnavailable
from embarc.engine.access import Access
from embarc.engine.audit import AuditLog
from embarc.engine.hooks import Hooks
from embarc.engine.inlets import Inlets
from embarc.engine.kinds import Kinds
from embarc.engine.operators import Operators
from embarc.engine.ping import Pinger
from embarc.engine.publish import Publisher
from embarc.engine.read import Reader
from embarc.engine.replay import Replayer
from embarc.engine.replays import Replays
from embarc.observe import Observe
from embarc.store.base import Store
from embarc.web import cors, openapi
from embarc.web.routes import Call, Route, router

BASE = "/api/v1"
BASES = (BASE, "/fineract-provider/api/v1")
_INLET = "/inlets/fineract/"
_POST_EVENTS = frozenset(base + "/events" for base in BASES)

_OF_ACCESS = {
    *("READ_PERMISSION", "READ_APIKEY", "CREATE_APIKEY", "DELETE_APIKEY", "READ_AUDIT", "READ_TENANT"),
    *("CREATE_TENANT", "UPDATE_HOOK"),
    *("READ_OPERATOR", "CREATE_OPERATOR", "UPDATE_OPERATOR", "DELETE_OPERATOR"),
}
_EVENT_EXAMPLE = {
    "entityName": "CLIENT",
    "actionName": "CREATE",
    "createdBy": 12,
    "createdByName": "john.doe",
    "createdByFullName": "John Doe",
    "officeId": 3,
    "clientId": 9876,
    "request": {"firstname": "Alice", "lastname": "Martinez"},
    "response": {"resourceId": 9876, "officeId": 3},
}


def build(
    *,
    hooks: Hooks,
    reader: Reader,
    replayer: Replayer,
    replays: Replays,
    pinger: Pinger,
    public_keys: Callable[[], Sequence[str]],
    publisher: Publisher,
    access: Access,
    audit: AuditLog,
    store: Store,
    fingerprint: Callable[[str], str],
    kinds: Kinds,
    check: Callable[[], Awaitable[None]],
    metrics: Callable[[], bytes],
    observe: Observe,
    inlets: Inlets,
    inlet_routes: Sequence[Route],
    sandbox_routes: Sequence[Route],
    cors_origins: Sequence[str],
    serves_api: bool = True,
) -> tuple[ASGIApp, list[Route]]:
    """The ASGI application of the service, and every route that it answers; without the API only `/healthz` and the like."""
    ingest = Ingest(publisher.publish, access.authenticate, kinds, observe)
    routes = [
        *hooks_api.routes(hooks, kinds, reader, replays, pinger, fingerprint),
        *eventkinds.routes(kinds),
        *log.routes(reader, replayer),
        *replays_api.routes(replays),
        *inlets_api.routes(inlets, BASE + _INLET + "{secret}"),
        *inlet_routes,
        *mifos.routes(),
        *(
            replace(route, is_audited=False) for route in sandbox_routes
        ),  # its own business, as at any platform
    ]
    permissions = sorted(
        {route.permission for route in routes if route.permission} | {PERMISSION} | _OF_ACCESS
    )
    routes += access_api.routes(access, audit, store, permissions)
    routes += operators_api.routes(Operators(store, access), permissions, fingerprint)
    documented = [*routes, _post_events_route()]

    async def write_down(call: Call, route: Route, answer: Any) -> None:
        command = call.query.get("command")
        named = next(iter(call.path.values()), "")
        await audit.record(
            call.caller,
            f"{route.method} {route.path}" + (f"?command={command}" if command else ""),
            resource_id=call.notes.get("resource_id", named),
            before=call.notes.get("before", ""),
            after=call.notes.get("after", ""),
        )

    api = router(routes, access.authenticate, observe, write_down)
    service_routes = _service_routes(check, metrics, public_keys, documented)
    service = router(service_routes, access.authenticate, observe)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        handler: ASGIApp
        path: str = scope["path"]
        if not serves_api:
            handler = service
        elif path in _POST_EVENTS and scope["method"] == "POST":
            handler = ingest
        else:
            base = next((base for base in BASES if path.startswith(base + "/")), None)
            handler = service if base is None else api
            scope = scope if base is None else {**scope, "path": _within(path, base), "root_path": ""}
        await handler(scope, receive, send)

    return cors.allow(app, cors_origins, BASES), [*documented, *service_routes]


def _within(path: str, base: str) -> str:
    """The path below the base. An inlet's may end in a slash: Fineract's hooks cannot do without."""
    inner = path[len(base) :]
    return inner.removesuffix("/") if inner.startswith(_INLET) else inner


def _post_events_route() -> Route:
    """Documented like the others; `Ingest` answers it."""

    async def never(call: Call) -> Any:
        raise AssertionError("POST /events is answered before the router")

    return Route(
        method="POST",
        path="/events",
        handler=never,
        permission=PERMISSION,
        summary="Accept one event, or a list in one transaction; 200 means durable. Header: Idempotency-Key",
        tag="events",
        body=_EVENT_EXAMPLE,
    )


def _service_routes(
    check: Callable[[], Awaitable[None]],
    metrics: Callable[[], bytes],
    public_keys: Callable[[], Sequence[str]],
    documented: Sequence[Route],
) -> list[Route]:
    document = msgspec.json.encode(openapi.document(documented, BASE))
    page = openapi.page(documented, BASE)

    async def healthz(call: Call) -> dict[str, str]:
        return {"status": "alive"}

    async def readyz(call: Call) -> dict[str, str]:
        try:
            await check()
        except StoreUnavailable as error:
            error.retry_after_seconds = error.retry_after_seconds or 5
            raise
        return {"status": "ready"}

    async def scrape(call: Call) -> Response:
        return Response(metrics(), media_type="text/plain; version=0.0.4")

    async def keys(call: Call) -> dict[str, Any]:
        return {"keys": [{"algorithm": "ed25519", "publicKey": key} for key in public_keys()]}

    async def openapi_json(call: Call) -> Response:
        return Response(document, media_type="application/json")

    async def docs(call: Call) -> Response:
        return HTMLResponse(
            page, headers={"Content-Security-Policy": _PAGE_POLICY, "X-Content-Type-Options": "nosniff"}
        )

    paths: list[tuple[str, Any, str]] = [
        ("/healthz", healthz, "The process is alive"),
        ("/readyz", readyz, "The store can be read and written"),
        ("/metrics", scrape, "Metrics in the text format of Prometheus"),
        ("/.well-known/embarc/keys", keys, "Public keys of hooks that sign with ed25519"),
        ("/openapi.json", openapi_json, "This API as OpenAPI"),
        ("/docs", docs, "This API as a page"),
    ]
    return [
        Route(method="GET", path=path, handler=handler, permission=None, summary=summary, tag="service")
        for path, handler, summary in paths
    ]


_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
