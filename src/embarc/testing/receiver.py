"""A receiver that answers by script: `ScriptedReceiver().answers(500, "drop", 200)` reads like the scenario."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from dataclasses import dataclass

Answer = int | str | bytes
"""A status; `"drop"` closes without an answer, `"hang"` never answers, `"drip"` answers one byte a second; bytes go out
as they are."""


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """One request as it arrived."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        """The value of the first header of this name; raises KeyError."""
        for key, value in self.headers:
            if key.lower() == name.lower():
                return value
        raise KeyError(name)


class ScriptedReceiver:
    """An HTTP/1.1 server on a free loopback port. Past its script it repeats the last answer (200 at first)."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.requests: list[ReceivedRequest] = []
        self._script: deque[Answer] = deque()
        self._last: Answer = 200
        self._arrived = asyncio.Condition()
        self._server: asyncio.Server
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def answers(self, *script: Answer) -> ScriptedReceiver:
        """What to answer, in order."""
        self._script.extend(script)
        return self

    async def __aenter__(self) -> ScriptedReceiver:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """A URL that it answers."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/hook"

    async def received(self, count: int) -> list[ReceivedRequest]:
        """Wait until `count` requests have arrived; raises TimeoutError after ten seconds."""
        async with asyncio.timeout(10), self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)
        return self.requests

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - start_server runs this in a task
        self._tasks.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while await self._exchange(reader, writer):
                pass
        self._tasks.discard(task)
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip()
        request_line, *lines = head.split("\r\n")
        method, target, _ = request_line.split(" ", 2)
        headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
        length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
        body = await reader.readexactly(length)
        answer = self._script.popleft() if self._script else self._last
        self._last = answer
        async with self._arrived:
            self.requests.append(ReceivedRequest(method, target, headers, body))
            self._arrived.notify_all()
        if answer == "drop":
            return False
        if answer == "hang":
            await reader.read()
            return False
        if answer == "drip":
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n":
                writer.write(bytes([byte]))
                await asyncio.sleep(1)
            return True
        if isinstance(answer, bytes):
            writer.write(answer)
        else:
            writer.write(f"HTTP/1.1 {answer} Scripted\r\nContent-Length: 2\r\n\r\nok".encode())
        await writer.drain()
        return True
