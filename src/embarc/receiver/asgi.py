"""A receiver as an ASGI application: alone, or mounted in FastAPI or Starlette (`app.mount("/webhooks", asgi_app(receiver))`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from embarc.receiver.handling import BODY_LIMIT, Answer, Receiver

_Message = MutableMapping[str, Any]
AsgiApp = Callable[
    [_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]], Awaitable[None]
]


def asgi_app(receiver: Receiver) -> AsgiApp:
    """An application that answers POST requests on every path it is given."""

    async def app(
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            return
        answer = await _answer(receiver, scope, receive)
        if answer is not None:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": answer.text.encode()})

    return app


async def _answer(
    receiver: Receiver, scope: _Message, receive: Callable[[], Awaitable[_Message]]
) -> Answer | None:
    if scope["method"] != "POST":
        return Answer(405, "send webhooks with POST")
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > BODY_LIMIT:
            return Answer(413, "the body is too large")
        if not message.get("more_body"):
            break
    client = scope.get("client")
    return await receiver.handle_async(scope["headers"], body, client[0] if client else "")
