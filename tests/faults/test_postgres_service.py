"""A service whose PostgreSQL fails: no accepted event is lost, and what comes twice was under way at that moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from embarc.testing.platform import Platform, client_event, client_hook
from embarc.testing.postgres import Databases, PostgresServer
from embarc.testing.process import ServiceProcess
from embarc.testing.watching import WatchingReceiver

SENDERS = 6
IN_FLIGHT = 64
"""Attempts of one hook that run, or wait to be recorded, at any moment."""
GONE_SECONDS = 15
RESUMES_WITHIN_SECONDS = 10
ARRIVES_WITHIN_SECONDS = 120


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    started = PostgresServer().start()
    yield started
    started.close()


@pytest.fixture
async def url(server: PostgresServer) -> str:
    return await Databases(server.url).empty()


@pytest.fixture
async def receiver() -> AsyncIterator[WatchingReceiver]:
    async with WatchingReceiver(work_seconds=0.005) as opened:
        yield opened


class Running:
    """A service with one hook, and a platform that sends to it without a pause."""

    def __init__(self, service: ServiceProcess, receiver: WatchingReceiver) -> None:
        self.service = service
        self.platform = Platform(service, senders=SENDERS)
        self._receiver = receiver

    async def go_on(self, *, until_more: int = 150, within_seconds: float = ARRIVES_WITHIN_SECONDS) -> None:
        """Until so many more have arrived."""
        count = len(self._receiver.paths["all"].arrived) + until_more
        await self._receiver.until("all", count, within_seconds=within_seconds)

    async def balance(self, *, faults: int) -> None:
        """Stop sending; everything accepted has arrived, nothing else has, and hardly anything twice."""
        await asyncio.to_thread(self.platform.stop)
        accepted = self.platform.accepted
        await self._receiver.until("all", len(accepted), within_seconds=ARRIVES_WITHIN_SECONDS)
        watched = self._receiver.paths["all"]
        assert self.platform.unexpected == []
        assert set(watched.arrived) == accepted
        assert watched.repeated <= faults * IN_FLIGHT


@pytest.fixture
async def running(tmp_path: Path, url: str, receiver: WatchingReceiver) -> AsyncIterator[Running]:
    service = await asyncio.to_thread(lambda: ServiceProcess(tmp_path, "--no-sandbox", store=url))
    await asyncio.to_thread(service.ok, "POST", "hooks", client_hook(receiver.url("all")))
    started = Running(service, receiver)
    started.platform.start()
    yield started
    await asyncio.to_thread(started.platform.stop)
    await asyncio.to_thread(service.stop)


async def test_whose_connections_are_all_ended_again_and_again(running: Running, url: str) -> None:
    administrator = await asyncpg.connect(url)
    for _ in range(5):
        await running.go_on()
        await administrator.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
    await administrator.close()
    await running.go_on()

    await running.balance(faults=5)


async def test_whose_server_crashes_and_recovers(running: Running, server: PostgresServer) -> None:
    for _ in range(2):
        await running.go_on()
        await asyncio.to_thread(server.crash)
        await asyncio.to_thread(server.start)
        await running.go_on()

    await running.balance(faults=2)


async def test_whose_server_is_gone_for_a_while(
    running: Running, server: PostgresServer, receiver: WatchingReceiver
) -> None:
    await running.go_on()
    await asyncio.to_thread(server.stop)
    away_until = time.monotonic() + GONE_SECONDS

    accepting = await asyncio.to_thread(
        running.service.answer, "POST", "events", client_event(7), Idempotency_Key="asked-meanwhile"
    )
    ready, _ = await asyncio.to_thread(running.service.call, "GET", "/readyz")
    alive, _ = await asyncio.to_thread(running.service.call, "GET", "/healthz")
    await asyncio.sleep(max(0.0, away_until - time.monotonic()))
    before = len(receiver.paths["all"].times)
    await asyncio.to_thread(server.start)
    await running.go_on(until_more=1, within_seconds=RESUMES_WITHIN_SECONDS)
    await running.go_on()
    ready_again, _ = await asyncio.to_thread(running.service.call, "GET", "/readyz")

    status, headers, answer = accepting
    assert status == 503
    assert int(headers["retry-after"]) > 0
    assert answer["httpStatusCode"] == "503"
    assert (alive, ready, ready_again) == (200, 503, 200)
    assert len(receiver.paths["all"].times) > before
    await running.balance(faults=1)


# -- a standby -------------------------------------------------------------------------------------------------


@pytest.fixture
async def standby(server: PostgresServer) -> AsyncIterator[PostgresServer]:
    follower = await asyncio.to_thread(lambda: PostgresServer(follows=server))
    await asyncio.to_thread(follower.start)
    administrator = await asyncpg.connect(server.url)
    await administrator.execute("alter system set synchronous_standby_names = 'standby'")
    await administrator.execute("select pg_reload_conf()")
    async with asyncio.timeout(60):
        while not await administrator.fetchval(  # noqa: ASYNC110 - of another process there is no event
            "select exists (select 1 from pg_stat_replication where sync_state = 'sync')"
        ):
            await asyncio.sleep(0.05)
    await administrator.close()
    yield follower
    follower.close()


async def test_whose_primary_dies_and_whose_standby_takes_over(
    tmp_path: Path, server: PostgresServer, standby: PostgresServer, receiver: WatchingReceiver
) -> None:
    hosts = f"127.0.0.1:{server.port},127.0.0.1:{standby.port}"
    url = f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"
    service = await asyncio.to_thread(lambda: ServiceProcess(tmp_path, "--no-sandbox", store=url))
    try:
        await asyncio.to_thread(service.ok, "POST", "hooks", client_hook(receiver.url("all")))
        running = Running(service, receiver)
        running.platform.start()
        await running.go_on()

        await asyncio.to_thread(server.crash)
        await asyncio.to_thread(standby.promote)
        await running.go_on(within_seconds=30)

        await running.balance(faults=1)
    finally:
        await asyncio.to_thread(service.stop)
