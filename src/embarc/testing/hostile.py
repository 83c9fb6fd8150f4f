"""Receivers that misbehave in every way that matters, each a raw socket server on loopback."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import struct
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from embarc.core.attempts import Result
from embarc.testing.certificates import Authority

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Hostile:
    """One of them, and what must come of an attempt; `status` where the answer counts."""

    url: str
    result: Result
    status: int | None = None


def _sends(*parts: bytes, then_waits: bool = False) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if then_waits:
            await reader.read()

    return serve


def _drips(head: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(1)

    return serve


def _repeats(head: bytes, part: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(part)
            await writer.drain()

    return serve


async def _resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _is_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


def _ok(*headers: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", *headers, "", ""]).encode()


def _http() -> Mapping[str, tuple[Serve, Result, int | None]]:
    bomb = gzip.compress(b"\0" * 200 * _MEGABYTE)
    zipped = _ok("Content-Encoding: gzip", f"Content-Length: {len(bomb)}")
    chunked = _ok("Transfer-Encoding: chunked")
    status = Result.STATUS
    return {
        "one byte a second in the headers": (_drips(_ok("X: ")[:-4]), Result.TIMEOUT, None),
        "one byte a second in the body": (_drips(_ok("Content-Length: 9999")), Result.TIMEOUT, None),
        "no answer": (_is_silent, Result.TIMEOUT, None),
        "an endless body": (_repeats(_ok(), b"x" * 65_536), status, 200),
        "endless chunks": (_repeats(chunked, b"1\r\nx\r\n" * 10_000), status, 200),
        "an endless chunk extension": (_repeats(chunked + b"1;", b"x" * 65_536), Result.TIMEOUT, None),
        "a header of 5 MB": (_sends(_ok("X: " + "y" * 5 * _MEGABYTE)), Result.TOO_LARGE, None),
        "20,000 headers": (_sends(_ok(*(f"X-{n}: y" for n in range(20_000)))), Result.TOO_LARGE, None),
        "endless trailers": (_repeats(chunked + b"0\r\n", b"X: y\r\n" * 1000), Result.TOO_LARGE, None),
        "200,000 interim answers": (
            _sends(b"HTTP/1.1 100 Continue\r\n\r\n" * 200_000),
            Result.TOO_LARGE,
            None,
        ),
        "interim answers with early hints": (
            _sends(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 200_000),
            Result.TOO_LARGE,
            None,
        ),
        "a compressed bomb": (_sends(zipped, bomb), status, 200),
        "an early close": (_sends(), Result.RESET, None),
        "a close within the headers": (_sends(b"HTTP/1.1 200 OK\r\nContent-"), Result.RESET, None),
        "a reset": (_resets, Result.RESET, None),
        "garbage before the answer": (_sends(b"220 mail.example ESMTP\r\n" + _ok()), Result.PROTOCOL, None),
        "garbage of bytes": (_sends(bytes(range(256)) * 40), Result.PROTOCOL, None),
        "garbage after the answer": (
            _sends(_ok("Content-Length: 2") + b"ok" + b"\0garbage" * 999, then_waits=True),
            status,
            200,
        ),
        "a second answer after the first": (
            _sends(_ok("Content-Length: 2") + b"ok" + _ok("Content-Length: 0"), then_waits=True),
            status,
            200,
        ),
        "a body shorter than it says": (_sends(_ok("Content-Length: 100") + b"short"), Result.RESET, None),
        "a length that is no number": (_sends(_ok("Content-Length: x") + b"ok"), Result.PROTOCOL, None),
        "a negative length": (_sends(_ok("Content-Length: -5") + b"ok"), Result.PROTOCOL, None),
        "a chunk size that is none": (_sends(chunked + b"zz\r\nok\r\n0\r\n\r\n"), Result.PROTOCOL, None),
        "a chunk size past 64 bits": (_sends(chunked + b"f" * 17 + b"\r\nok"), Result.PROTOCOL, None),
        "a chunk longer than it says": (_sends(chunked + b"2\r\nokay\r\n0\r\n\r\n"), Result.PROTOCOL, None),
        "chunks that end early": (_sends(chunked + b"5\r\nok"), Result.RESET, None),
    }


@asynccontextmanager
async def hostile_receivers(folder: Path) -> AsyncIterator[tuple[dict[str, Hostile], str]]:
    """All of them by name, and the PEM of the authority that the TLS ones are judged by."""
    authority = Authority()
    good = authority.issue("receiver")
    tasks: set[asyncio.Task[None]] = set()

    def serving(serve: Serve, *, after_the_request: bool = True) -> Serve:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            if task is not None:
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            try:
                if after_the_request:
                    await reader.readuntil(b"\r\n\r\n")
                await serve(reader, writer)
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
                pass
            finally:
                writer.close()

        return connected

    async with AsyncExitStack() as stack:
        found: dict[str, Hostile] = {}

        async def add(
            name: str,
            serve: Serve,
            result: Result,
            status: int | None,
            *,
            scheme: str = "http",
            tls: ssl.SSLContext | None = None,
        ) -> None:
            server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
            stack.callback(server.close)
            port = server.sockets[0].getsockname()[1]
            found[name] = Hostile(f"{scheme}://127.0.0.1:{port}/", result, status)

        for name, (serve, result, status) in _http().items():
            await add(name, serving(serve), result, status)

        contexts = {
            "an expired certificate": authority.issue("receiver", life=timedelta(days=-1)).server_context(
                folder
            ),
            "a certificate of another name": authority.issue("receiver", address="127.0.0.9").server_context(
                folder
            ),
            "a certificate of an unknown authority": Authority().issue("receiver").server_context(folder),
            "a self-signed certificate": Authority("127.0.0.1").itself().server_context(folder),
            "TLS 1.1 only": _old_tls(good.server_context(folder)),
        }
        ok = serving(_sends(_ok("Content-Length: 0", "Connection: close")))
        for name, context in contexts.items():
            await add(name, ok, Result.TLS, None, scheme="https", tls=context)
        await add(
            "a good certificate", ok, Result.STATUS, 200, scheme="https", tls=good.server_context(folder)
        )
        for name, serve, result in (
            ("plain http on a TLS port", _sends(_ok()), Result.TLS),
            ("a close within the handshake", _sends(), Result.TLS),
            ("a stalled handshake", _is_silent, Result.TLS_TIMEOUT),
        ):
            await add(name, serving(serve, after_the_request=False), result, None, scheme="https")
        full = stack.enter_context(_full_backlog())
        found["a full backlog"] = Hostile(
            f"http://127.0.0.1:{full.getsockname()[1]}/", Result.CONNECT_TIMEOUT
        )
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        found["a closed port"] = Hostile(f"http://127.0.0.1:{port}/", Result.REFUSED)

        yield found, authority.certificate

        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def _full_backlog() -> Iterator[socket.socket]:
    """A listener whose queue is full: the kernel lets nobody in any more, and says nothing."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening


def _old_tls(context: ssl.SSLContext) -> ssl.SSLContext:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is the point
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context
