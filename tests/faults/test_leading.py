"""One of two processes is killed: whatever it alone did, for its hooks or for everybody, the other one does within seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest

from embarc.core.members import LEADING_SEGMENT
from embarc.testing.platform import Platform, client_event, client_hook
from embarc.testing.process import ServiceProcess
from embarc.testing.watching import WatchingReceiver

T = TypeVar("T")
HOOKS = 12
"""So many that each of the two works for some."""
EVENTS = 6000
BATCH = 500
IN_FLIGHT = 64
"""Attempts of one hook that run, or wait to be recorded, at any moment."""
TAKEN_OVER_WITHIN_SECONDS = 10
ARRIVES_WITHIN_SECONDS = 120


async def until(answer: Callable[[], Awaitable[T | None]], *, within_seconds: float) -> T:
    """The answer, once there is one; raises TimeoutError."""
    async with asyncio.timeout(within_seconds):
        while not (found := await answer()):  # noqa: ASYNC110 - of another process there is no event
            await asyncio.sleep(0.002)
    return found


@dataclass
class Pair:
    """Two services over one PostgreSQL."""

    services: tuple[ServiceProcess, ServiceProcess]
    database: asyncpg.Connection

    async def leader(self) -> ServiceProcess | None:
        """Which of them does what one does for all."""
        name: str | None = await self.database.fetchval(
            "select name from members join segments on owner = number where segment = $1", LEADING_SEGMENT
        )
        pid = None if name is None else int(name.rpartition(":")[2])
        return next((one for one in self.services if one.process.pid == pid), None)

    async def led(self) -> tuple[ServiceProcess, ServiceProcess]:
        """The one that leads, and the other one."""
        await until(self._share, within_seconds=30)
        leader = await until(self.leader, within_seconds=30)
        first, second = self.services
        return leader, second if leader is first else first

    async def _share(self) -> bool:
        owners: int = await self.database.fetchval("select count(distinct owner) from segments")
        return owners == 2

    async def until_led_by(self, service: ServiceProcess) -> None:
        async def leads() -> bool:
            return await self.leader() is service

        await until(leads, within_seconds=TAKEN_OVER_WITHIN_SECONDS)


@pytest.fixture
async def pair(tmp_path: Path, postgres_url: str) -> AsyncIterator[Pair]:
    def start(name: str) -> ServiceProcess:
        folder = tmp_path / name
        folder.mkdir()
        return ServiceProcess(folder, "--no-sandbox", store=postgres_url)

    services = (await asyncio.to_thread(start, "one"), await asyncio.to_thread(start, "two"))
    database = await asyncpg.connect(postgres_url)
    yield Pair(services, database)
    await database.close()
    for service in services:
        if service.process.returncode is None:
            await asyncio.to_thread(service.stop)


async def call(service: ServiceProcess, method: str, path: str, body: object = None) -> Any:
    return await asyncio.to_thread(service.ok, method, path, body)


async def test_the_hooks_of_a_process_that_was_killed_go_on_in_the_other_within_seconds(pair: Pair) -> None:
    killed, other = await pair.led()
    async with WatchingReceiver(work_seconds=0.002) as receiver:
        paths = [f"hook-{number}" for number in range(HOOKS)]
        for path in paths:
            await call(other, "POST", "hooks", client_hook(receiver.url(path)))
        platform = Platform(other, senders=3, pause_seconds=0.02)
        platform.start()
        try:
            await asyncio.gather(
                *(receiver.until(path, 30, within_seconds=ARRIVES_WITHIN_SECONDS) for path in paths)
            )

            await asyncio.to_thread(killed.kill)
            at = time.monotonic()
            seen = {path: len(receiver.paths[path].arrived) for path in paths}
            await asyncio.gather(
                *(
                    receiver.until(path, seen[path] + IN_FLIGHT + 1, within_seconds=TAKEN_OVER_WITHIN_SECONDS)
                    for path in paths
                )
            )
            took = time.monotonic() - at
        finally:
            await asyncio.to_thread(platform.stop)
        for path in paths:
            await receiver.until(path, len(platform.accepted), within_seconds=ARRIVES_WITHIN_SECONDS)

    assert took < TAKEN_OVER_WITHIN_SECONDS
    assert platform.unexpected == []
    for path in paths:
        assert set(receiver.paths[path].arrived) == platform.accepted, path
        assert receiver.paths[path].repeated <= IN_FLIGHT, path


async def test_a_replay_whose_process_is_killed_in_the_middle_is_finished_by_the_other(pair: Pair) -> None:
    leader, other = await pair.led()
    accepted = []
    for start in range(0, EVENTS, BATCH):
        batch = [client_event(number) for number in range(start, start + BATCH)]
        accepted += (await call(other, "POST", "events", batch))["eventIds"]
    async with WatchingReceiver() as receiver:
        hook = await call(other, "POST", "hooks", client_hook(receiver.url("all")))
        selection = {"hookId": hook["resourceId"], "states": ["missing"]}
        job = (await call(other, "POST", "replays", selection))["id"]

        async def begun() -> Any:
            return await pair.database.fetchval("select queued from replays")

        async def ended() -> Any:
            told = await call(other, "GET", f"replays/{job}")
            return told if told["state"] != "running" else None

        queued = await until(begun, within_seconds=30)
        await asyncio.to_thread(leader.kill)
        await receiver.until("all", EVENTS, within_seconds=ARRIVES_WITHIN_SECONDS)
        told = await until(ended, within_seconds=ARRIVES_WITHIN_SECONDS)

    assert queued < EVENTS
    assert (told["state"], told["queued"]) == ("finished", EVENTS)
    assert set(receiver.paths["all"].arrived) == set(accepted)
    assert receiver.paths["all"].repeated <= IN_FLIGHT


async def test_what_waits_for_a_deleted_hook_is_cancelled_by_whoever_leads_after_the_leader_was_killed(
    pair: Pair,
) -> None:
    leader, other = await pair.led()
    hook = (await call(other, "POST", "hooks", client_hook("http://127.0.0.1:9/hook")))["resourceId"]
    await call(other, "POST", f"hooks/{hook}?command=pause")
    await call(other, "POST", "events", client_event(1))

    await asyncio.to_thread(leader.kill)
    await pair.until_led_by(other)
    await call(other, "DELETE", f"hooks/{hook}")

    async def cancelled() -> Any:
        return await pair.database.fetchval(
            "select exists (select 1 from ended_deliveries where hook_id = $1 and state = 'cancelled')", hook
        )

    await until(cancelled, within_seconds=30)
    assert await pair.database.fetchval("select count(*) from deliveries") == 0
