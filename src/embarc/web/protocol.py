"""uvicorn's HTTP protocol, with head and body of an answer in one write.

uvicorn writes them one after the other, and each write is a packet of its own: two system calls here, two wake-ups at
the caller. On the hot path that is a twentieth of the CPU of a webhook.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class OneWriteProtocol(HttpToolsProtocol):
    """For `uvicorn.Config(http=...)`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Put the joining transport between."""
        joining = JoiningTransport(cast("asyncio.Transport", transport))
        super().connection_made(cast("asyncio.Transport", joining))


class JoiningTransport:
    """Holds an answer's head back until its body comes, or until anything else is asked of the transport."""

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def write(self, data: bytes) -> None:
        """Write, or hold back what is a head and nothing more. `100 Continue` has no body to wait for."""
        if self._head:
            data, self._head = self._head + data, b""
        elif (
            data.endswith(b"\r\n\r\n")
            and data.startswith(b"HTTP/1.1 ")
            and not data.startswith(b"HTTP/1.1 1")
        ):
            self._head = data
            return
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        if self._head:
            self._transport.write(self._head)
            self._head = b""
        return getattr(self._transport, name)
