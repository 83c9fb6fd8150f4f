"""Capturing events from outside: for platforms whose handlers cannot be changed.

    from embarc.outbox.middleware import AsgiCapture, Capture, Route, table_sink

    capture = Capture([Route(method="POST", path="/clients", entity_name="CLIENT", action_name="CREATE",
                             ids={"clientId": "response.clientId"})])
    app.add_middleware(AsgiCapture, capture=capture, sink=table_sink(engine))       # FastAPI, Starlette
    app.wsgi_app = WsgiCapture(app.wsgi_app, capture=capture, sink=table_sink(engine))     # Flask
    application = WsgiCapture(get_wsgi_application(), capture=capture, sink=...)    # Django, in wsgi.py

It sees a call and its answer, nothing else. **What it cannot promise, and `emit` in your own transaction can:**

* A crash, a kill or a deployment between the platform's commit and the capture loses the event. Nobody notices.
* If the sink fails (its database or Embarc is down), the event is lost; the log says so (`embarc.outbox`, an error).
* It believes the answer. A change that was rolled back after a 200 was answered becomes an event all the same, and one
  that was committed before an error was answered becomes none.
* Order: two calls about one loan that overlap are captured in the order in which their answers ended.
* What changes without a call (a nightly job, a script, another service) is not seen.

Calls pass through untouched: bodies are looked at while they go by, up to `largest_body` bytes; answers are streamed as
they come, and the event is made when the last byte is out. A compressed answer cannot be read: put this middleware
inside of what compresses.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import logging
import urllib.error
import urllib.request
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from embarc.outbox.capture import Author, Capture, CapturedCall, Route, read_query
from embarc.outbox.emitting import emit, emit_async
from embarc.outbox.event import OutboxEvent

__all__ = [
    "AsgiCapture",
    "Author",
    "Capture",
    "CapturedCall",
    "Route",
    "WsgiCapture",
    "http_sink",
    "table_sink",
]

Sink = Callable[[OutboxEvent], Any]
"""Takes the event to where it is safe. An ASGI application's may be asynchronous."""

_log = logging.getLogger("embarc.outbox")
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_HTTP_TIMEOUT_SECONDS = 10
_HTTP_TRIES = 3


class AsgiCapture:
    """ASGI middleware. A plain sink runs in a thread, so that it blocks no other call."""

    def __init__(
        self, app: Callable[[_Message, _Receive, _Send], Awaitable[None]], *, capture: Capture, sink: Sink
    ) -> None:
        self._app = app
        self._capture = capture
        self._sink = sink

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Pass the call through, and make its event when the last of the answer is out."""
        if scope["type"] != "http" or not self._capture.concerns(
            scope["method"], scope["path"], scope["query_string"].decode("latin-1")
        ):
            await self._app(scope, receive, send)
            return
        request, response = _Kept(self._capture.largest_body), _Kept(self._capture.largest_body)
        status = 0

        async def receive_and_keep() -> _Message:
            message = await receive()
            if message["type"] == "http.request":
                request.add(message.get("body", b""), is_last=not message.get("more_body"))
            return message

        async def send_and_keep(message: _Message) -> None:
            nonlocal status
            await send(message)
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                response.add(message.get("body", b""), is_last=not message.get("more_body"))
                if response.is_whole:
                    await self._take(_call(scope, status, request, response))

        await self._app(scope, receive_and_keep, send_and_keep)

    async def _take(self, call: CapturedCall) -> None:
        try:
            event = self._capture.event(call)
            if event is None:
                return
            if inspect.iscoroutinefunction(self._sink):
                await self._sink(event)
            else:
                answer = await asyncio.to_thread(self._sink, event)
                if inspect.isawaitable(answer):
                    await answer
        except Exception:  # the answer is out; the platform goes on
            _log.exception("%s %s: its event is lost", call.method, call.path)


class WsgiCapture:
    """WSGI middleware. The sink runs after the answer, in the thread that gave it."""

    def __init__(self, app: Callable[..., Iterable[bytes]], *, capture: Capture, sink: Sink) -> None:
        self._app = app
        self._capture = capture
        self._sink = sink

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Pass the call through; its event is made when the server closes the answer."""
        path = (
            (environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""))
            .encode("latin-1")
            .decode("utf-8", "replace")
        )
        if not self._capture.concerns(environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", "")):
            return self._app(environ, start_response)
        request, response = _Kept(self._capture.largest_body), _Kept(self._capture.largest_body)
        environ["wsgi.input"] = _KeptInput(environ["wsgi.input"], request)
        statuses: list[int] = []

        def start_and_keep(status: str, headers: Any, *error: Any) -> Callable[[bytes], Any]:
            write = start_response(status, headers, *error)
            statuses.append(int(status.split()[0]))

            def write_and_keep(chunk: bytes) -> Any:
                response.add(chunk, is_last=False)
                return write(chunk)

            return write_and_keep

        def ended() -> None:
            chunked = "HTTP_TRANSFER_ENCODING" in environ
            request.close(environ.get("CONTENT_LENGTH") or "", is_chunked=chunked)
            call = CapturedCall(
                method=environ["REQUEST_METHOD"],
                path=path,
                query=read_query(environ.get("QUERY_STRING", "")),
                headers={
                    name.removeprefix("HTTP_").replace("_", "-").lower(): value
                    for name, value in environ.items()
                    if name.startswith("HTTP_")
                },
                status=statuses[-1] if statuses else 0,
                request_body=request.content,
                response_body=response.content,
                context=environ,
            )
            try:
                event = self._capture.event(call)
                if event is not None:
                    self._sink(event)
            except Exception:  # the answer is out; the platform goes on
                _log.exception("%s %s: its event is lost", call.method, call.path)

        return _KeptAnswer(self._app(environ, start_and_keep), response, ended)


def table_sink(engine: Any) -> Sink:
    """A sink that writes into the outbox table, in a transaction of its own; `engine` is SQLAlchemy's Engine or AsyncEngine."""

    def into_table(event: OutboxEvent) -> None:
        with engine.begin() as connection:
            emit(connection, event)

    async def into_table_async(event: OutboxEvent) -> None:
        async with engine.begin() as connection:
            await emit_async(connection, event)

    return into_table_async if hasattr(engine, "sync_engine") else into_table


def http_sink(to: str, *, key: str = "", user: str = "", password: str = "") -> Sink:
    """A sink that posts to the Embarc at `to` with an API key, or as a user; three tries with one `Idempotency-Key`.

    Raises ValueError for a URL that is not http(s). The sink raises OSError where no try succeeded.
    """
    if urlsplit(to).scheme not in ("http", "https"):
        raise ValueError("`to` must be a URL such as https://embarc.example.")
    url = f"{to.rstrip('/').removesuffix('/api/v1')}/api/v1/events"
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    authorization = f"Bearer {key}" if key else f"Basic {login}"

    def by_http(event: OutboxEvent) -> None:
        request = urllib.request.Request(  # noqa: S310 - its scheme was checked
            url,
            event.json().encode(),
            {
                "Authorization": authorization,
                "Content-Type": "application/json",
                "Idempotency-Key": uuid.uuid4().hex,
            },
        )
        for left in reversed(range(_HTTP_TRIES)):
            try:
                with urllib.request.urlopen(request, timeout=_HTTP_TIMEOUT_SECONDS) as answer:  # noqa: S310 - as above
                    if b'"eventId"' not in answer.read(64 * 1024):
                        raise OSError(f"{url} did not answer as Embarc does.")
                return
            except urllib.error.HTTPError as error:
                with error:
                    reason = _reason(error)
                if error.code < 500 or not left:
                    raise OSError(f"Embarc answered {error.code}: {reason}") from None
            except OSError:
                if not left:
                    raise

    return by_http


class _Kept:
    """A body that passes by, kept up to a limit."""

    def __init__(self, limit: int) -> None:
        self.size = 0
        self.is_whole = False
        self._limit = limit
        self._chunks: list[bytes] = []

    def add(self, chunk: bytes, *, is_last: bool) -> None:
        self.size += len(chunk)
        self.is_whole = self.is_whole or is_last
        if self.is_too_large:
            self._chunks.clear()
        else:
            self._chunks.append(chunk)

    def close(self, length: str, *, is_chunked: bool) -> None:
        """Nothing more is read: it is whole if it is as long as its header says. An application need not read to the end."""
        announced = None if is_chunked else length or "0"
        self.is_whole = self.is_whole or str(self.size) == announced

    @property
    def is_too_large(self) -> bool:
        return self.size > self._limit

    @property
    def content(self) -> bytes | None:
        return b"".join(self._chunks) if self.is_whole and not self.is_too_large else None


class _KeptInput:
    """`wsgi.input` whose bytes are kept as the application reads them: what PEP 3333 asks of it, and no way around."""

    def __init__(self, stream: Any, kept: _Kept) -> None:
        self._stream = stream
        self._kept = kept

    def read(self, *size: int) -> bytes:
        return self._keep(self._stream.read(*size))

    def readline(self, *size: int) -> bytes:
        return self._keep(self._stream.readline(*size))

    def readlines(self, *hint: int) -> list[bytes]:
        return [self._keep(line) for line in self._stream.readlines(*hint)]

    def __iter__(self) -> Iterator[bytes]:
        for line in self._stream:
            yield self._keep(line)

    def _keep(self, chunk: bytes) -> bytes:
        self._kept.add(chunk, is_last=not chunk)
        return chunk


class _KeptAnswer:
    """An answer whose bytes are kept as the server sends them; closing it ends the call."""

    def __init__(self, answer: Iterable[bytes], kept: _Kept, ended: Callable[[], None]) -> None:
        self._answer = answer
        self._kept = kept
        self._ended = ended

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._answer:
            self._kept.add(chunk, is_last=False)
            yield chunk
        self._kept.is_whole = True

    def close(self) -> None:
        try:
            close = getattr(self._answer, "close", None)
            if close is not None:
                close()
        finally:
            if self._kept.is_whole:  # otherwise the answer never ended: it is not known to be a success
                self._ended()


def _call(scope: _Message, status: int, request: _Kept, response: _Kept) -> CapturedCall:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    request.close(headers.get("content-length", ""), is_chunked="transfer-encoding" in headers)
    return CapturedCall(
        method=scope["method"],
        path=scope["path"],
        query=read_query(scope["query_string"].decode("latin-1")),
        headers=headers,
        status=status,
        request_body=request.content,
        response_body=response.content,
        context=scope,
    )


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read(64 * 1024)).get("defaultUserMessage"))
    except (ValueError, AttributeError):
        return error.reason
