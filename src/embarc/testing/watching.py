"""A receiver that watches: what arrived when, how many at a time, how fast, in which order. For loads of many thousands."""

from __future__ import annotations

import asyncio
import bisect
import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

_SAMPLED_EACH = 20
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


@dataclass(slots=True)
class Watched:
    """What came to one path."""

    arrived: dict[str, int] = field(default_factory=dict)
    """`webhook-id` -> how often."""
    first: list[tuple[float, str, dict[str, object]]] = field(default_factory=list)
    """Time, id and payload of each first arrival, in their order."""
    times: list[float] = field(default_factory=list)
    samples: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    """Headers, by name in small letters, and body of some first arrivals."""
    in_flight: int = 0
    most_in_flight: int = 0

    @property
    def repeated(self) -> int:
        """Arrivals beyond the first of each id."""
        return len(self.times) - len(self.arrived)

    def most_within(self, seconds: float) -> int:
        """The most arrivals in any window of this length."""
        times = sorted(self.times)
        return max(
            (bisect.bisect_left(times, start + seconds) - place for place, start in enumerate(times)),
            default=0,
        )


class WatchingReceiver:
    """Answers 200 to everything after `work_seconds`. `async with WatchingReceiver() as receiver`.

    What `refuses` says yes to is answered 503 at once, and has not arrived.
    """

    def __init__(self, work_seconds: float = 0.0, refuses: Callable[[], bool] = lambda: False) -> None:
        self.work_seconds = work_seconds
        self.refuses = refuses
        self.paths: dict[str, Watched] = defaultdict(Watched)
        self.changed = asyncio.Event()
        self._server: asyncio.Server

    async def __aenter__(self) -> WatchingReceiver:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    def url(self, path: str) -> str:
        """Where to send, for this path."""
        port: int = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/{path}"

    async def until(self, path: str, count: int, *, within_seconds: float) -> None:
        """Wait until so many different webhooks have come to the path; raises TimeoutError."""
        async with asyncio.timeout(within_seconds):
            while len(self.paths[path].arrived) < count:
                self.changed.clear()
                await self.changed.wait()


class _Connection(asyncio.Protocol):
    def __init__(self, receiver: WatchingReceiver) -> None:
        self._receiver = receiver
        self._buffer = b""
        self._working: Watched | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._done()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        request_line, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if len(self._buffer) < end + 4 + length:
            return
        body = self._buffer[end + 4 : end + 4 + length]
        self._buffer = self._buffer[end + 4 + length :]
        if self._receiver.refuses():
            self._transport.write(_REFUSAL)
            return
        self._note(request_line.split(" ")[1].lstrip("/"), headers, body)

    def _note(self, path: str, headers: Mapping[str, str], body: bytes) -> None:
        loop = asyncio.get_running_loop()
        watched = self._receiver.paths[path]
        now = loop.time()
        webhook_id = headers["webhook-id"]
        watched.times.append(now)
        count = watched.arrived[webhook_id] = watched.arrived.get(webhook_id, 0) + 1
        if count == 1:
            if len(watched.first) % _SAMPLED_EACH == 0:
                watched.samples.append((headers, body))
            watched.first.append((now, webhook_id, json.loads(body)))
        watched.in_flight += 1
        watched.most_in_flight = max(watched.most_in_flight, watched.in_flight)
        self._working = watched
        self._receiver.changed.set()
        loop.call_later(self._receiver.work_seconds, self._answer)

    def _answer(self) -> None:
        self._done()
        if not self._transport.is_closing():
            self._transport.write(_ANSWER)

    def _done(self) -> None:
        if self._working is not None:
            self._working.in_flight -= 1
            self._working = None
