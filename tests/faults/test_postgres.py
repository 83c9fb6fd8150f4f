"""PostgreSQL failing under the store: what was answered is there, once; what was not is repeated safely."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TypeVar
from urllib.parse import urlsplit

import asyncpg
import pytest

from embarc.core.attempts import Result
from embarc.core.deliveries import State
from embarc.core.errors import OutcomeUnknown, StoreUnavailable
from embarc.core.submissions import Receipt
from embarc.store.base import EventFilter, Publication
from embarc.store.postgres.store import PostgresStore
from embarc.testing.clock import ManualClock
from embarc.testing.lab import Factory, every_class
from embarc.testing.postgres import Databases, PostgresServer, open_store
from embarc.testing.proxy import FaultProxy

LEASE = 60.0
T = TypeVar("T")


@pytest.fixture
def make() -> Factory:
    return Factory(ManualClock())


async def until_accepted(store: PostgresStore, publication: Publication) -> Receipt:
    """As a careful caller does: the same publication again until it is answered."""
    while True:
        try:
            answer = await store.publish(publication, lease_seconds=LEASE)
        except StoreUnavailable:
            await asyncio.sleep(0.02)
            continue
        assert isinstance(answer, Receipt)
        return answer


async def test_whoever_is_thrown_out_again_and_again_loses_nothing_and_writes_nothing_twice(
    postgres_url: str, make: Factory
) -> None:
    store = await open_store(postgres_url)
    publications = [make.publication(make.event(), hooks=(1,), key=f"key-{n}") for n in range(600)]
    receipts: dict[str, Receipt] = {}
    settled: list[bytes] = []
    chance = random.Random(3)

    async def publish(part: int) -> None:
        for publication in publications[part::8]:
            receipts[publication.idempotency_key or ""] = await until_accepted(store, publication)

    async def deliver() -> None:
        token = 0
        while len(settled) < len(publications):
            token += 1
            claims = await repeated(
                lambda: store.claim(every_class({1: 50}), lease_seconds=3, lease_token=token)  # noqa: B023 - called at once
            )
            settlements = [make.settlement(claim) for claim in claims]
            done = await repeated(lambda: store.settle(settlements)) if claims else []  # noqa: B023 - called at once
            settled.extend(claim.event_key for claim, ok in zip(claims, done, strict=True) if ok)
            await asyncio.sleep(0.01)

    async def throw_out() -> None:
        connection = await asyncpg.connect(postgres_url)
        try:
            while True:
                await connection.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where datname = current_database() and application_name = 'embarc'"
                )
                await asyncio.sleep(chance.uniform(0.3, 0.9))
        finally:
            connection.terminate()

    throwing = asyncio.create_task(throw_out())
    async with asyncio.timeout(120):
        await asyncio.gather(*(publish(part) for part in range(8)), deliver())
    throwing.cancel()
    await asyncio.gather(throwing, return_exceptions=True)

    events = await store.list_events("default", EventFilter(), before=None, limit=5000)
    await store.close()
    assert {record.event.key for record in events} == {one.events[0][0].key for one in publications}
    assert len(events) == len(receipts) == len(publications)
    assert sorted(settled) == sorted(record.event.key for record in events)


async def repeated(call: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await call()
        except StoreUnavailable:
            await asyncio.sleep(0.02)


@pytest.fixture
async def proxy(databases: Databases) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(urlsplit(databases.url).port or 5432) as opened:
        yield opened


@pytest.fixture
async def store(postgres_url: str, proxy: FaultProxy) -> AsyncIterator[PostgresStore]:
    opened = await open_store(
        urlsplit(postgres_url)._replace(netloc=f"postgres@127.0.0.1:{proxy.port}").geturl()
    )
    yield opened
    await opened.close()


async def warm(store: PostgresStore, make: Factory) -> None:
    """Have the statements prepared, so that the next answer is the commit's."""
    await store.publish(make.publication(make.event(), hooks=(1,), key="warm"), lease_seconds=LEASE)
    (claim,) = await store.claim(every_class({1: 1}), lease_seconds=LEASE, lease_token=1)
    await store.settle([make.settlement(claim)])


async def test_a_commit_whose_answer_was_lost_is_found_again_and_not_made_twice(
    store: PostgresStore, proxy: FaultProxy, make: Factory
) -> None:
    await warm(store, make)
    publication = make.publication(make.event(), hooks=(1,), token=5)
    proxy.swallow_answers()

    answer = await store.publish(publication, lease_seconds=LEASE)

    assert proxy.swallowed.is_set()
    assert isinstance(answer, Receipt)
    assert not answer.duplicate  # its deliveries are this process's
    assert len(await store.list_events("default", EventFilter(), before=None, limit=9)) == 2


async def test_an_outcome_that_stays_unknown_says_so_and_the_same_key_gives_the_first_receipt(
    store: PostgresStore, proxy: FaultProxy, make: Factory
) -> None:
    await warm(store, make)
    publication = make.publication(make.event(), hooks=(1,), key="k")
    proxy.swallow_answers()
    proxy.refuse()

    with pytest.raises(OutcomeUnknown) as unknown:
        await store.publish(publication, lease_seconds=LEASE)
    with pytest.raises(StoreUnavailable) as refused:
        await store.publish(make.publication(make.event()), lease_seconds=LEASE)
    proxy.refuse(False)
    again = await store.publish(make.publication(make.event(), key="k"), lease_seconds=LEASE)

    assert unknown.value.retry_after_seconds
    assert not isinstance(refused.value, OutcomeUnknown)
    assert isinstance(again, Receipt)
    assert again.duplicate
    assert len(await store.list_events("default", EventFilter(), before=None, limit=9)) == 2


async def test_a_settlement_whose_answer_was_lost_is_still_known_as_ours(
    store: PostgresStore, proxy: FaultProxy, make: Factory
) -> None:
    await warm(store, make)
    event = make.event()
    await store.publish(make.publication(event, hooks=(1,)), lease_seconds=LEASE)
    (claim,) = await store.claim(every_class({1: 1}), lease_seconds=LEASE, lease_token=2)
    proxy.swallow_answers()

    settled = await store.settle([make.settlement(claim)])

    assert proxy.swallowed.is_set()
    assert list(settled) == [True]
    (attempt,) = await store.list_attempts("default", event.key, 1)
    assert attempt.outcome.result is Result.STATUS
    record = await store.get_delivery("default", event.key, 1)
    assert record is not None
    assert record.state is State.DELIVERED


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    started = PostgresServer().start()
    yield started
    started.close()


async def test_a_server_that_crashed_is_used_again_when_it_is_back(
    server: PostgresServer, make: Factory
) -> None:
    url = await Databases(server.url).fresh()
    store = await open_store(url)
    event = make.event()
    await store.publish(make.publication(event, hooks=(1,)), lease_seconds=LEASE)
    await asyncio.to_thread(server.crash)

    with pytest.raises(StoreUnavailable) as refused:
        await store.publish(make.publication(make.event()), lease_seconds=LEASE)
    with pytest.raises(StoreUnavailable):
        await store.check()
    await asyncio.to_thread(server.start)
    await until_accepted(store, make.publication(make.event(), hooks=(1,)))
    claims = await store.claim(every_class({1: 9}), lease_seconds=LEASE, lease_token=1)
    await store.close()

    assert refused.value.retry_after_seconds
    assert event.key in {claim.event_key for claim in claims}
    assert len(claims) == 2
