"""A receiver that costs as little as Python allows: answers 200 to everything, notes when each webhook arrived.

Runs as a process of its own, so that its CPU is not the service's. Prints its port, then serves until standard
input closes; then prints `webhook-id` and arrival time of everything as JSON. `hang` as argument never answers, `drip`
answers one byte a second.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_ID = b"webhook-id: "


class Sink(asyncio.Protocol):
    """One connection."""

    def __init__(self, arrived: dict[str, float]) -> None:
        self._arrived = arrived
        self._buffer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data
        while (end := buffer.find(b"\r\n\r\n")) >= 0:
            head = buffer[:end]
            place = head.lower().find(b"content-length: ")
            length = int(head[place + 16 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
            if len(buffer) < end + 4 + length:
                break
            found = head.find(_ID)
            self._arrived.setdefault(head[found + len(_ID) :].split(b"\r\n", 1)[0].decode(), time.time())
            self._transport.write(_ANSWER)
            buffer = buffer[end + 4 + length :]
        self._buffer = buffer


class Dead(asyncio.Protocol):
    """A connection of a receiver that never answers, or so slowly that it is the same."""

    def __init__(self, drips: bool) -> None:
        self._left = list(_ANSWER) if drips else []
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._drip()

    def _drip(self) -> None:
        if self._left and not self._transport.is_closing():
            self._transport.write(bytes([self._left.pop(0)]))
            asyncio.get_running_loop().call_later(1, self._drip)


async def main() -> None:
    """Serve until standard input closes."""
    mode = sys.argv[1] if len(sys.argv) > 1 else "answer"
    arrived: dict[str, float] = {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Sink(arrived) if mode == "answer" else Dead(drips=mode == "drip"), "127.0.0.1", 0
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()
    json.dump(arrived, sys.stdout)


if __name__ == "__main__":
    uvloop.run(main())
