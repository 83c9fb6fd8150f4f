"""A TCP proxy that does to a connection what networks and servers do at the worst moment."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress

Opener = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
_CHUNK = 64 * 1024


class FaultProxy:
    """Stands between a client and a server; `open_server` connects to the server. `async with FaultProxy(...) as proxy`."""

    def __init__(self, open_server: Opener) -> None:
        self.latency_seconds = 0.0
        """Added to everything that passes, each way."""
        self.slice_bytes = _CHUNK
        """Nothing passes in larger pieces than this."""
        self.severed = 0
        """Connections that were reset so far."""
        self._open_server = open_server
        self._is_passing = asyncio.Event()
        self._markers: list[bytes] = []
        self._server: asyncio.Server | None = None
        self._port = 0
        self._pipes: set[_Pipe] = set()

    async def __aenter__(self) -> FaultProxy:
        await self.resume()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.go_away()

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1; the same again after `go_away` and `resume`."""
        return self._port

    async def go_away(self) -> None:
        """Reset every connection and refuse new ones, as a server that has ended."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.sever()

    async def resume(self) -> None:
        """Listen (again), and let everything pass."""
        self._is_passing.set()
        if self._server is None:
            self._server = await asyncio.start_server(
                self._accept, "127.0.0.1", self._port, reuse_address=True
            )
            self._port = self._server.sockets[0].getsockname()[1]

    def fall_silent(self) -> None:
        """Half-open: connections stay, and nothing passes until `resume`."""
        self._is_passing.clear()

    async def sever(self) -> None:
        """Reset every connection; new ones are served."""
        for pipe in list(self._pipes):
            pipe.reset()
            await pipe.has_ended.wait()

    def drop_answer_to(self, marker: bytes) -> None:
        """Let the next request that holds these bytes reach the server, wait for its answer, and reset the connection instead
        of passing it on: the client cannot know whether its commit happened."""
        self._markers.append(marker)

    @property
    def dropped_all(self) -> bool:
        """Whether every answer that was to be dropped has been."""
        return not self._markers

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server = await self._open_server()
        except OSError:
            _reset(writer)
            return
        pipe = _Pipe(self, (reader, writer), server)
        self._pipes.add(pipe)
        try:
            await pipe.run()
        finally:
            self._pipes.discard(pipe)
            pipe.has_ended.set()

    async def pass_on(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        """Forward data as slowly and in as small pieces as is asked for."""
        await self._is_passing.wait()
        if self.latency_seconds:
            await asyncio.sleep(self.latency_seconds)
        for start in range(0, len(data), self.slice_bytes):
            writer.write(data[start : start + self.slice_bytes])
            await writer.drain()

    def take_marker(self, data: bytes) -> bool:
        """Whether the answer to this request is to be dropped."""
        for marker in self._markers:
            if marker in data:
                self._markers.remove(marker)
                return True
        return False


class _Pipe:
    """One connection, both ways."""

    def __init__(
        self,
        proxy: FaultProxy,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._tasks: list[asyncio.Task[None]] = []
        self._drops_answer = False
        self.has_ended = asyncio.Event()

    async def run(self) -> None:
        self._tasks = [asyncio.create_task(self._upwards()), asyncio.create_task(self._downwards())]
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _, writer in (self._client, self._server):
            writer.close()

    def reset(self) -> None:
        self._proxy.severed += 1
        for _, writer in (self._client, self._server):
            _reset(writer)
        for task in self._tasks:
            task.cancel()

    async def _upwards(self) -> None:
        with suppress(ConnectionError):
            while data := await self._client[0].read(_CHUNK):
                self._drops_answer = self._drops_answer or self._proxy.take_marker(data)
                await self._proxy.pass_on(data, self._server[1])

    async def _downwards(self) -> None:
        with suppress(ConnectionError):
            while data := await self._server[0].read(_CHUNK):
                if self._drops_answer:
                    self.reset()
                    return
                await self._proxy.pass_on(data, self._client[1])


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    found = writer.get_extra_info("socket")
    if found is not None and found.family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
