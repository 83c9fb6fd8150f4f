"""Cross-origin calls from browsers (the CORS protocol of https://fetch.spec.whatwg.org), for origins that are named.

A page of another origin may call only what answers with its permission. Credentials travel in the `Authorization`
header that the page sets itself; an origin that is named may besides have the browser send its own (never `*`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

ANY_ORIGIN = "*"
_METHODS = b"GET, POST, PUT, DELETE"
# Fineract's clients send the tenant and, where they know of it, a second factor.
_HEADERS = b"Accept, Authorization, Content-Type, Fineract-Platform-TenantId, Fineract-Platform-TFA-Token, Idempotency-Key"
_EXPOSED = b"Retry-After, WWW-Authenticate, X-Served-From-Cache"
_REMEMBER_SECONDS = b"600"

Headers = list[tuple[bytes, bytes]]


def allow(app: ASGIApp, origins: Collection[str], bases: Sequence[str]) -> ASGIApp:
    """The application, callable under `bases` by pages of these origins; itself where there are none."""
    if not origins:
        return app
    allowed = {origin.encode() for origin in origins}
    prefixes = tuple(base + "/" for base in bases)

    async def crossing(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(prefixes):
            await app(scope, receive, send)
            return
        asked = dict(scope["headers"])
        permission = _permission(asked.get(b"origin"), allowed)
        is_preflight = scope["method"] == "OPTIONS" and b"access-control-request-method" in asked
        if is_preflight and permission:
            await send({"type": "http.response.start", "status": 204, "headers": _preflight(permission)})
            await send({"type": "http.response.body", "body": b""})
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                # Also where the origin is not allowed: a cache must not give that answer to one that is.
                added = [*permission, *_exposed(permission), (b"vary", b"Origin")]
                message = {**message, "headers": [*message.get("headers", []), *added]}
            await send(message)

        await app(scope, receive, sending)

    return crossing


def _permission(origin: bytes | None, allowed: Collection[bytes]) -> Headers:
    if origin is not None and origin in allowed:
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
        ]
    if origin is not None and ANY_ORIGIN.encode() in allowed:
        return [(b"access-control-allow-origin", b"*")]
    return []


def _exposed(permission: Headers) -> Headers:
    return [(b"access-control-expose-headers", _EXPOSED)] if permission else []


def _preflight(permission: Headers) -> Headers:
    return [
        *permission,
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", _HEADERS),
        (b"access-control-max-age", _REMEMBER_SECONDS),
        (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    ]
