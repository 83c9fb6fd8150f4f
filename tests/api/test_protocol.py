"""Head and body of an answer leave in one write, and nobody waits for a body that never comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from embarc.web.protocol import JoiningTransport, OneWriteProtocol
from embarc.web.routes import read_body


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    body = await read_body(receive)
    headers = [] if scope["path"] == "/nothing" else [(b"content-length", b"%d" % (len(body) + 2))]
    status = 204 if scope["path"] == "/nothing" else 200
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if status == 204 else b"ok" + body})


@pytest.fixture
async def connection() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    loop = asyncio.get_running_loop()
    config = uvicorn.Config(app, http=OneWriteProtocol, lifespan="off", log_config=None, access_log=False)
    config.load()
    state = uvicorn.server.ServerState()
    server = await loop.create_server(lambda: OneWriteProtocol(config, state, {}), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    yield reader, writer
    writer.close()
    await writer.wait_closed()
    for open_connection in list(state.connections):
        open_connection.shutdown()
    server.close()
    await server.wait_closed()


async def head(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        return await reader.readuntil(b"\r\n\r\n")


async def test_answers_follow_one_another_on_a_kept_connection(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    reader, writer = connection

    for body in (b"", b"1234"):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        assert (await head(reader)).startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(len(body) + 2) == b"ok" + body


@pytest.mark.parametrize("request_line", [b"HEAD / HTTP/1.1", b"GET /nothing HTTP/1.1"])
async def test_an_answer_without_a_body_does_not_wait_for_one(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], request_line: bytes
) -> None:
    reader, writer = connection

    for _ in range(2):
        writer.write(request_line + b"\r\nHost: x\r\n\r\n")
        assert (await head(reader)).startswith(b"HTTP/1.1 20")


async def test_a_caller_that_asks_before_it_sends_is_told_to_go_on(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    reader, writer = connection

    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    assert (await head(reader)).startswith(b"HTTP/1.1 100")
    writer.write(b"1234")

    assert (await head(reader)).startswith(b"HTTP/1.1 200")


def test_head_and_body_are_one_write() -> None:
    class Transport:
        written: list[bytes] = []  # noqa: RUF012 - one instance

        def write(self, data: bytes) -> None:
            self.written.append(data)

    joining = JoiningTransport(Transport())  # type: ignore[arg-type] # only write is used

    joining.write(b"HTTP/1.1 200 OK\r\n\r\n")
    joining.write(b"body")

    assert Transport.written == [b"HTTP/1.1 200 OK\r\n\r\nbody"]
