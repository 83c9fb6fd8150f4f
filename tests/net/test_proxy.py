"""The egress proxy: a tunnel to the address that was checked here, for everything that is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from embarc.core.addresses import Policy, parse_allowed
from embarc.core.attempts import Outcome, Result
from embarc.net.base import OutboundRequest, TlsMaterial
from embarc.net.guard import EgressProxy, parse_proxy
from embarc.net.transport import CurlTransport
from embarc.testing.certificates import Authority
from embarc.testing.names import StaticResolver
from embarc.testing.receiver import ScriptedReceiver

LOOPBACK = Policy(allow_private=(parse_allowed("127.0.0.0/8"),))


class Proxy:
    """A CONNECT proxy that notes what it is asked for, and connects to this machine whatever that is."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.answer = b"HTTP/1.1 200 Connection established\r\n\r\n"
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        writer.write(self.answer)
        if b" 200 " not in self.answer:
            writer.close()
            return
        port = int(head.split()[1].rpartition(":")[2])
        with suppress(OSError, asyncio.CancelledError):
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(pump(reader, to_writer), pump(to_reader, writer))

    @property
    def asked(self) -> list[str]:
        return [head.split("\r\n")[0] for head in self.heads]


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    async with Proxy() as opened:
        yield opened


async def send(transport: CurlTransport, url: str, tls: TlsMaterial | None = None) -> Outcome:
    return await transport.send(
        OutboundRequest(
            tenant="a",
            url=url,
            header_lines=["Content-Type: text/plain", "Authorization: Bearer secret"],
            body=b"x",
            timeout_seconds=5,
            tls=tls,
        )
    )


async def test_plain_and_tls_go_through_a_tunnel_to_the_checked_address(proxy: Proxy, tmp_path: Path) -> None:
    authority = Authority()
    context = authority.issue("hooks.example").server_context(tmp_path)
    names = StaticResolver({"hooks.example": "127.0.0.5", "proxy.example": "127.0.0.1"})
    transport = CurlTransport(
        policy=LOOPBACK, resolver=names, proxy=EgressProxy("proxy.example", proxy.port, "user:pass")
    )
    trusted = TlsMaterial(certificate=b"", key=b"", authorities=authority.certificate.encode())
    async with ScriptedReceiver() as plain, ScriptedReceiver(context) as secure:
        outcomes = [
            await send(transport, f"http://hooks.example:{plain.port}/a"),
            await send(transport, f"https://hooks.example:{secure.port}/b", trusted),
            await send(transport, f"https://hooks.example:{secure.port}/c", trusted),
            await send(transport, f"http://127.0.0.6:{plain.port}/d"),
        ]
        await transport.close()

        assert [outcome.status for outcome in outcomes] == [200] * 4
        assert proxy.asked == [
            f"CONNECT 127.0.0.5:{plain.port} HTTP/1.1",
            f"CONNECT 127.0.0.5:{secure.port} HTTP/1.1",
            f"CONNECT 127.0.0.6:{plain.port} HTTP/1.1",
        ]
        assert all("Proxy-Authorization: Basic dXNlcjpwYXNz" in head for head in proxy.heads)
        assert not any("Bearer secret" in head for head in proxy.heads)
        received = [*plain.requests, *secure.requests]
        assert not any(name.lower().startswith("proxy-") for one in received for name, _ in one.headers)
        assert secure.requests[0].header("Host") == f"hooks.example:{secure.port}"


async def test_a_denied_address_is_not_asked_of_the_proxy(proxy: Proxy) -> None:
    names = StaticResolver({"inside.example": "10.0.0.1"})
    transport = CurlTransport(policy=LOOPBACK, resolver=names, proxy=EgressProxy("127.0.0.1", proxy.port))

    outcomes = [await send(transport, "https://inside.example/"), await send(transport, "https://10.0.0.1/")]

    assert {outcome.result for outcome in outcomes} == {Result.DENIED}
    assert proxy.heads == []
    await transport.close()


async def test_a_proxy_that_refuses_is_told_as_such(proxy: Proxy) -> None:
    proxy.answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    transport = CurlTransport(
        policy=LOOPBACK, resolver=StaticResolver({}), proxy=EgressProxy("127.0.0.1", proxy.port)
    )

    outcome = await send(transport, "http://127.0.0.1:9/")

    assert (outcome.result, outcome.status) == (Result.REFUSED, None)
    assert "egress proxy refused" in outcome.detail
    assert "403" in outcome.detail
    await transport.close()


async def test_a_proxy_of_the_environment_is_not_used(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    transport = CurlTransport(policy=LOOPBACK, resolver=StaticResolver({}))
    async with ScriptedReceiver() as receiver:
        outcome = await send(transport, receiver.url)

    assert outcome.status == 200
    assert proxy.heads == []
    await transport.close()


def test_the_settings_text_of_a_proxy() -> None:
    assert parse_proxy("http://u%40x:p%3Aw@proxy.example:3128/") == EgressProxy(
        "proxy.example", 3128, "u@x:p:w"
    )
    assert "p:w" not in repr(parse_proxy("http://u:p%3Aw@10.0.0.1:1"))
    for text in (
        "proxy.example:3128",
        "https://p:1",
        "http://p",
        "http://p:x",
        "http://p:1/path",
        "socks5://p:1",
    ):
        with pytest.raises(ValueError, match="write it as"):
            parse_proxy(text)
