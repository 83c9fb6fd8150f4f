"""A TCP proxy that fails on demand: between a client and its server, on loopback."""

from __future__ import annotations

import asyncio
from types import TracebackType


class FaultProxy:
    """Forwards to a server until told otherwise. `async with FaultProxy(port) as proxy`, then connect to `proxy.port`."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.swallowed = asyncio.Event()
        """Set when an answer was swallowed."""
        self._target = port
        self._swallow = 0
        self._is_closed_to_new = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> FaultProxy:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None  # noqa: S101 - entered
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def swallow_answers(self, count: int = 1) -> None:
        """The next answers of the server do not arrive: their connections end instead, after the server has worked."""
        self.swallowed.clear()
        self._swallow = count

    def refuse(self, is_refusing: bool = True) -> None:
        """New connections end at once, or no longer."""
        self._is_closed_to_new = is_refusing

    def cut(self) -> None:
        """End every connection now."""
        for writer in self._writers:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_closed_to_new:
            writer.transport.abort()
            return
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, server_writer}
        self._start(self._forward(reader, server_writer))
        self._start(self._forward(server_reader, writer, is_answer=True))

    def _start(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)  # type: ignore[arg-type] # a coroutine of ours
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool = False
    ) -> None:
        try:
            while data := await reader.read(65_536):
                if is_answer and self._swallow:
                    self._swallow -= 1
                    self.swallowed.set()
                    break
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()
