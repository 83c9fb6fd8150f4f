"""Hostile receivers: each attempt ends in time and is told precisely, memory stays, and nobody else notices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from embarc.core.addresses import Policy, parse_allowed
from embarc.core.attempts import ANSWER_BODY_LIMIT, Outcome
from embarc.net.base import OutboundRequest, TlsMaterial
from embarc.net.transport import CurlTransport
from embarc.testing.hostile import Hostile, hostile_receivers
from embarc.testing.names import StaticResolver
from embarc.testing.process import ServiceProcess
from embarc.testing.receiver import ScriptedReceiver

LOOPBACK = Policy(allow_private=(parse_allowed("127.0.0.0/8"),))
TIMEOUT = 2.0
MOST_GROWTH = 10 * 1024 * 1024

World = tuple[dict[str, Hostile], str]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with hostile_receivers(tmp_path) as opened:
        yield opened


async def send(transport: CurlTransport, url: str, authority: str) -> tuple[Outcome, float]:
    request = OutboundRequest(
        tenant="a",
        url=url,
        header_lines=["Content-Type: text/plain"],
        body=b"x",
        timeout_seconds=TIMEOUT,
        tls=TlsMaterial(certificate=b"", key=b"", authorities=authority.encode()),
    )
    began = time.monotonic()
    outcome = await transport.send(request)
    return outcome, time.monotonic() - began


async def test_each_ends_in_time_with_a_precise_result(world: World) -> None:
    hostile, authority = world
    transport = CurlTransport(policy=LOOPBACK, resolver=StaticResolver({}))

    ended = await asyncio.gather(*(send(transport, one.url, authority) for one in hostile.values()))

    told = {name: (outcome.result, outcome.status) for name, (outcome, _) in zip(hostile, ended, strict=True)}
    assert told == {name: (one.result, one.status) for name, one in hostile.items()}
    for outcome, seconds in ended:
        assert seconds < TIMEOUT + 1
        assert len(outcome.body) <= ANSWER_BODY_LIMIT
        assert outcome.detail or outcome.status
    await transport.close()


def resident(process_id: int) -> int:
    """Bytes of memory that a process has, private ones."""
    rollup = Path(f"/proc/{process_id}/smaps_rollup").read_text()
    return sum(
        int(line.split()[1]) * 1024
        for line in rollup.splitlines()
        if line.startswith(("Private_Clean:", "Private_Dirty:"))
    )


class Embarc:
    """A running service, called without holding up the receivers that live in this process."""

    def __init__(self, service: ServiceProcess) -> None:
        self._service = service

    async def ok(self, method: str, path: str, body: object = None) -> Any:
        return await asyncio.to_thread(self._service.ok, method, path, body)

    async def hook(self, url: str, action: str, **config: str) -> int:
        events = [{"entityName": "CLIENT", "actionName": action}]
        fields = {"Payload URL": url, "Content Type": "json"} | config
        made = await self.ok(
            "POST", "hooks", {"name": "Web", "isActive": True, "events": events, "config": fields}
        )
        return int(made["resourceId"])

    async def publish(self, action: str, count: int) -> None:
        event = {"entityName": "CLIENT", "actionName": action, "response": {"resourceId": 1}}
        await self.ok("POST", "events", [event] * count)


async def test_a_service_among_them_keeps_its_memory_and_its_other_endpoints(
    world: World, tmp_path: Path
) -> None:
    hostile, authority = world
    service = await asyncio.to_thread(ServiceProcess, tmp_path)
    embarc = Embarc(service)
    try:
        async with ScriptedReceiver() as healthy:
            await embarc.hook(healthy.url, "CREATE")
            first = next(iter(hostile.values()))
            warm = await embarc.hook(first.url, "UPDATE", **{"CA Certificate": authority})
            for _ in range(5):  # what a service needs once is there before it is measured
                await embarc.publish("CREATE", 100)
            await healthy.received(500)
            await embarc.ok("DELETE", f"hooks/{warm}")
            before = resident(service.process.pid)

            config = {"CA Certificate": authority, "Timeout Seconds": "2", "Retry Schedule": "3600"}
            hooks = {await embarc.hook(one.url, "ACTIVATE", **config): name for name, one in hostile.items()}
            began = time.monotonic()
            for _ in range(3):
                await embarc.publish("ACTIVATE", 1)
            for number in range(50):
                await embarc.publish("CREATE", 1)
                await healthy.received(501 + number)  # which waits ten seconds at most

            told: dict[str, set[tuple[str, int | None]]] = {}
            for hook_id, name in hooks.items():
                told[name] = await attempts_of(embarc, hook_id, 3, began + 60)
            growth = resident(service.process.pid) - before
    finally:
        await asyncio.to_thread(service.stop)

    assert told == {name: {(one.result.value, one.status)} for name, one in hostile.items()}
    assert growth < MOST_GROWTH


async def attempts_of(embarc: Embarc, hook_id: int, count: int, until: float) -> set[tuple[str, int | None]]:
    """How the first attempts of so many deliveries of a hook ended."""
    while True:
        found = await embarc.ok("GET", f"deliveries?hookId={hook_id}")
        made = [one for one in found["pageItems"] if one["attemptCount"]]
        if len(made) >= count:
            details = [await embarc.ok("GET", f"deliveries/{one['id']}") for one in made]
            return {(one["attempts"][0]["result"], one["attempts"][0].get("status")) for one in details}
        assert time.monotonic() < until, (hook_id, found)
        await asyncio.sleep(0.1)
