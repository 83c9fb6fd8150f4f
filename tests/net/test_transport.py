"""The transport: checked addresses, one deadline, and no receiver that gets the better of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest

from embarc.core.addresses import Address, Policy, parse_allowed
from embarc.core.attempts import Outcome, Result
from embarc.core.urls import parse_url
from embarc.net.base import OutboundRequest
from embarc.net.connections import _is_peer
from embarc.net.resolver import CannotResolve, SystemResolver
from embarc.net.transport import CurlTransport
from embarc.testing.names import StaticResolver
from embarc.testing.receiver import ScriptedReceiver

LOOPBACK = Policy(allow_private=(parse_allowed("127.0.0.0/8"),))
TIMEOUT = 1.0
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def transport() -> AsyncIterator[CurlTransport]:
    opened = CurlTransport(policy=LOOPBACK, resolver=SystemResolver())
    yield opened
    await opened.close()


@pytest.fixture
async def receiver() -> AsyncIterator[ScriptedReceiver]:
    async with ScriptedReceiver() as opened:
        yield opened


async def send(transport: CurlTransport, url: str, *, tenant: str = "a", timeout: float = TIMEOUT) -> Outcome:
    request = OutboundRequest(
        tenant=tenant, url=url, header_lines=["X-Test: 1"], body=b'{"a":1}', timeout_seconds=timeout
    )
    began = time.monotonic()
    outcome = await transport.send(request)
    assert time.monotonic() - began < timeout + 1
    return outcome


@asynccontextmanager
async def serving(serve: Serve, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """The URL of a server whose every connection behaves like this; in the end nothing of it is left."""
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        connections.add(task)
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, host, 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()
    for task in connections:
        task.cancel()
    await asyncio.gather(*connections, return_exceptions=True)


async def test_a_request_goes_out_as_it_was_given_and_nothing_is_added(
    transport: CurlTransport, receiver: ScriptedReceiver
) -> None:
    outcome = await send(transport, receiver.url + "?a=b%2F")

    (request,) = receiver.requests
    assert (outcome.result, outcome.status, outcome.body) == (Result.STATUS, 200, b"ok")
    assert (request.method, request.target, request.body) == ("POST", "/hook?a=b%2F", b'{"a":1}')
    names = {name.lower() for name, _ in request.headers}
    assert names == {"host", "accept", "accept-encoding", "x-test", "content-length", "content-type"}
    assert request.header("Accept-Encoding") == "identity"


async def test_connections_are_kept_and_not_shared_between_tenants(transport: CurlTransport) -> None:
    connections = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await reader.readuntil(b'{"a":1}'):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with serving(count) as url:
        for tenant in ("a", "a", "a", "b", "b"):
            await send(transport, url, tenant=tenant)

    assert connections == 2


async def test_a_receiver_that_closes_idle_connections_is_reached_again(
    transport: CurlTransport, receiver: ScriptedReceiver
) -> None:
    receiver.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 200, 204)

    assert [(await send(transport, receiver.url)).status for _ in range(3)] == [200, 200, 204]


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "93.184.216.34:8000", "[::1]"])
async def test_an_address_that_is_not_allowed_is_refused_without_saying_what_is_there(
    transport: CurlTransport, host: str
) -> None:
    outcome = await send(transport, f"http://{host}/")

    assert outcome.result is Result.DENIED


async def test_a_name_with_one_denied_address_is_refused_and_nobody_is_contacted(
    receiver: ScriptedReceiver,
) -> None:
    names = StaticResolver(
        {
            "rebound.example": "127.0.0.1 10.0.0.1",
            "inside.example": "10.0.0.1",
            "mapped.example": "::ffff:10.0.0.1",
        }
    )
    transport = CurlTransport(policy=LOOPBACK, resolver=names)

    outcomes = [await send(transport, f"http://{name}:{receiver.port}/") for name in names.names]

    assert {outcome.result for outcome in outcomes} == {Result.DENIED}
    assert receiver.requests == []
    await transport.close()


async def test_a_name_is_connected_at_its_checked_address_with_its_own_host_header(
    receiver: ScriptedReceiver,
) -> None:
    names = StaticResolver({"hooks.example": "127.0.0.1"})
    transport = CurlTransport(policy=LOOPBACK, resolver=names)

    outcome = await send(transport, f"http://hooks.example:{receiver.port}/x")

    assert outcome.status == 200
    assert receiver.requests[0].header("Host") == f"hooks.example:{receiver.port}"
    await transport.close()


async def test_a_name_whose_address_changes_to_a_denied_one_is_not_sent_to_any_more(
    receiver: ScriptedReceiver,
) -> None:
    names = StaticResolver({"rebinding.example": "127.0.0.1"})
    transport = CurlTransport(policy=LOOPBACK, resolver=names)
    url = f"http://rebinding.example:{receiver.port}/"
    first = await send(transport, url)

    names.names["rebinding.example"] = "169.254.169.254"
    second = await send(transport, url)

    assert first.status == 200
    assert second.result is Result.DENIED
    assert len(receiver.requests) == 1
    await transport.close()


async def test_a_name_that_moves_is_reached_at_its_new_address_and_not_by_the_kept_connection() -> None:
    names = StaticResolver({"moving.example": "127.0.0.1"})
    transport = CurlTransport(policy=LOOPBACK, resolver=names)
    peers: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b'{"a":1}'):
            peers.append(writer.get_extra_info("sockname")[0])
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with serving(answer, "0.0.0.0") as url:
        port = parse_url(url).port
        for address in ("127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.1"):
            names.names["moving.example"] = address
            await send(transport, f"http://moving.example:{port}/")

    assert peers == ["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.1"]
    await transport.close()


async def test_a_connection_to_another_peer_than_was_checked_is_no_success(
    transport: CurlTransport, receiver: ScriptedReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embarc.net.connections._is_peer", lambda primary_ip, key: primary_ip == "127.0.0.9")

    assert (await send(transport, receiver.url)).result is Result.DENIED


def test_the_peer_is_compared_with_the_pinned_address_or_the_proxy() -> None:
    pinned, via = "127.0.0.1", "10.0.0.1"

    assert _is_peer("127.0.0.1", ("", pinned, "", None))
    assert not _is_peer("127.0.0.2", ("", pinned, "", None))
    assert _is_peer("10.0.0.1", ("", pinned, via, None))
    assert not _is_peer("127.0.0.1", ("", pinned, via, None))


async def test_no_socket_is_opened_to_another_address_than_the_pinned_one(
    transport: CurlTransport, receiver: ScriptedReceiver
) -> None:
    """Whatever libcurl would do with the URL: here its address was swapped behind its back."""
    target = transport._target(receiver.url)
    target.checked, target.pinned = target.literal, "127.0.0.2"

    assert (await send(transport, receiver.url)).result is Result.DENIED
    assert receiver.requests == []


async def test_a_connection_is_not_kept_beyond_its_life(
    transport: CurlTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embarc.net.connections.CONNECTION_LIFE_SECONDS", 1)
    connections = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await reader.readuntil(b'{"a":1}'):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with serving(count) as url:
        await send(transport, url)
        await asyncio.sleep(2.1)  # libcurl has a clock of its own, in whole seconds
        await send(transport, url)

    assert connections == 2


async def test_a_dead_zone_does_not_stall_other_names() -> None:
    stuck, all_asked = threading.Event(), threading.Event()
    asked: list[tuple[str, str]] = []

    def look_up(host: str) -> tuple[Address, ...]:
        asked.append((host, threading.current_thread().name))
        if len(asked) == len(dead):
            all_asked.set()
        if host.endswith(".dead.example"):
            stuck.wait()
            return ()
        return (ip_address("127.0.0.1"),)

    now = 0.0
    resolver = SystemResolver(look_up=look_up, monotonic=lambda: now, look_up_seconds=0.1)
    dead = [f"{number}.dead.example" for number in range(40)]

    first = await asyncio.gather(*(resolver.resolve(name) for name in dead), return_exceptions=True)
    assert {type(error) for error in first} == {CannotResolve}
    stuck.set()
    assert await asyncio.to_thread(all_asked.wait, 20)
    stuck.clear()
    now = 6.0  # what failed is forgotten, and asked for again: apart, so that others are not behind it
    again = [asyncio.ensure_future(resolver.resolve(name)) for name in dead]
    await asyncio.sleep(0)

    assert await resolver.resolve("alive.example") == (ip_address("127.0.0.1"),)
    assert {name.rpartition("_")[0] for host, name in asked[len(dead) :] if host in dead} <= {
        "embarc-slow-resolver"
    }
    stuck.set()
    await asyncio.gather(*again, return_exceptions=True)
    resolver.close()


async def test_a_name_that_nobody_knows_is_a_dns_failure() -> None:
    transport = CurlTransport(policy=LOOPBACK, resolver=StaticResolver({}))

    assert (await send(transport, "https://unknown.example/")).result is Result.DNS
    await transport.close()


async def test_a_resolver_that_hangs_ends_with_the_deadline() -> None:
    class Hangs(StaticResolver):
        async def resolve(self, host: str) -> tuple[Address, ...]:
            await asyncio.Event().wait()
            raise AssertionError

    transport = CurlTransport(policy=LOOPBACK, resolver=Hangs({}))

    assert (await send(transport, "https://slow.example/", timeout=0.2)).result is Result.DNS
    await transport.close()


async def test_a_closed_port_is_refused(transport: CurlTransport) -> None:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()

    assert (await send(transport, f"http://127.0.0.1:{port}/")).result is Result.REFUSED


async def test_bytes_after_the_answer_are_not_taken_for_the_next_one(transport: CurlTransport) -> None:
    connections = 0

    async def splits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 418 Split\r\nContent-Length: 0\r\n\r\n"
        )
        await writer.drain()
        await reader.read()

    async with serving(splits) as url:
        statuses = [(await send(transport, url)).status for _ in range(3)]

    assert statuses == [200, 200, 200]
    assert connections == 3


async def test_a_cancelled_send_leaves_the_transport_in_order(
    transport: CurlTransport, receiver: ScriptedReceiver
) -> None:
    receiver.answers("hang", 200)
    sending = asyncio.create_task(send(transport, receiver.url, timeout=30))
    await receiver.received(1)

    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)

    assert (await send(transport, receiver.url)).status == 200


async def test_closing_ends_what_is_under_way(receiver: ScriptedReceiver) -> None:
    receiver.answers("hang")
    transport = CurlTransport(policy=LOOPBACK, resolver=SystemResolver())
    sending = asyncio.create_task(send(transport, receiver.url, timeout=30))
    await receiver.received(1)

    await transport.close()

    assert (await sending).result is Result.RESET


async def test_a_name_is_asked_for_once_and_remembered_for_a_minute() -> None:
    now, asked = 0.0, []

    def look_up(host: str) -> tuple[Address, ...]:
        asked.append(host)
        return (ip_address("127.0.0.1"),) if host == "known" else ()

    resolver = SystemResolver(look_up=look_up, monotonic=lambda: now)
    await asyncio.gather(*(resolver.resolve("known") for _ in range(5)))
    assert resolver.known("known") == (ip_address("127.0.0.1"),)
    with pytest.raises(CannotResolve):
        await resolver.resolve("unknown")
    with pytest.raises(CannotResolve):
        resolver.known("unknown")

    now = 61.0

    assert asked == ["known", "unknown"]
    assert resolver.known("known") is None
    assert resolver.known("unknown") is None
    resolver.close()
