"""Order with many processes over one PostgreSQL: each of these stores has its own connections, as a process has."""

from __future__ import annotations

import asyncio
import itertools
import random
import zlib
from collections.abc import AsyncIterator

import asyncpg
import pytest

from embarc.core.deliveries import State, Verdict
from embarc.core.submissions import Receipt
from embarc.store.base import NewDelivery, Publication
from embarc.store.postgres.publications import LOCKS
from embarc.store.postgres.store import PostgresStore
from embarc.testing.clock import ManualClock
from embarc.testing.lab import Factory, every_class
from embarc.testing.postgres import open_store

HOOK = 1
PROCESSES = 4
KEYS = 5
EVENTS = 300
RETRY = Verdict(state=State.WAITING, failures=1, retry_in_seconds=0)


@pytest.fixture
async def stores(postgres_url: str) -> AsyncIterator[list[PostgresStore]]:
    opened = [await open_store(postgres_url) for _ in range(PROCESSES)]
    yield opened
    for store in opened:
        await store.close()


class Ledger:
    """What was accepted, and what was attempted, in the order in which it became known."""

    def __init__(self) -> None:
        self.began: dict[bytes, int] = {}
        self.ended: dict[bytes, int] = {}
        self.order_keys: dict[bytes, str] = {}
        self.delivered: dict[str, list[bytes]] = {}
        self.in_flight: set[str] = set()
        self.time = 0

    def tick(self) -> int:
        self.time += 1
        return self.time


async def publish_all(store: PostgresStore, ledger: Ledger, seed: int, count: int) -> None:
    """Its clock goes wrong by up to an hour: keys say nothing about who was first."""
    chance = random.Random(seed)
    make = Factory(
        ManualClock(1_760_341_512.0 + seed),
    )
    make._drawn = seed * 1_000_000
    for _ in range(count):
        make.clock.seconds = 1_760_341_512.0 + seed + chance.uniform(-3600, 3600)
        order_key = f"LOAN/{chance.randrange(KEYS)}"
        event = make.event()
        delivery = NewDelivery(hook_id=HOOK, order_key=order_key)
        ledger.began[event.key] = ledger.tick()
        ledger.order_keys[event.key] = order_key
        answer = await store.publish(
            Publication(tenant="default", events=((event, (delivery,)),)), lease_seconds=60
        )
        assert isinstance(answer, Receipt)
        ledger.ended[event.key] = ledger.tick()


async def deliver_all(store: PostgresStore, ledger: Ledger, token: int) -> None:
    chance = random.Random(token)
    make = Factory(ManualClock())
    while sum(map(len, ledger.delivered.values())) < EVENTS:
        token += 1
        claims = await store.claim(every_class({HOOK: 4}), lease_seconds=60, lease_token=token)
        for claim in claims:
            order_key = ledger.order_keys[claim.event_key]
            assert order_key not in ledger.in_flight, "two of one entity at a time"
            ledger.in_flight.add(order_key)
        await asyncio.sleep(chance.uniform(0, 0.005))
        for claim in claims:
            order_key = ledger.order_keys[claim.event_key]
            ledger.in_flight.discard(order_key)
            if chance.random() < 0.2:
                await store.settle([make.settlement(claim, status=500, verdict=RETRY)])
            else:
                ledger.delivered.setdefault(order_key, []).append(claim.event_key)
                assert list(await store.settle([make.settlement(claim)])) == [True]


async def test_no_two_of_an_entity_swap_however_many_publish_and_claim(
    stores: list[PostgresStore], postgres_url: str
) -> None:
    ledger = Ledger()

    async with asyncio.timeout(120):
        await asyncio.gather(
            *(
                publish_all(store, ledger, seed, EVENTS // (PROCESSES * 3))
                for seed, store in enumerate(stores * 3, start=1)
            ),
            *(deliver_all(store, ledger, place * 10_000_000) for place, store in enumerate(stores, start=1)),
        )

    connection = await asyncpg.connect(postgres_url)
    accepted = await connection.fetch("select event_key from events order by accepted_seq")
    await connection.close()
    expected: dict[str, list[bytes]] = {}
    for (key,) in accepted:
        expected.setdefault(ledger.order_keys[key], []).append(key)
    assert ledger.delivered == expected
    for keys in ledger.delivered.values():  # whoever was answered before another one began is before it
        for earlier, later in itertools.pairwise(keys):
            assert ledger.began[earlier] < ledger.ended[later]


async def test_what_is_accepted_for_an_entity_waits_for_what_is_being_accepted_for_it_elsewhere(
    stores: list[PostgresStore], postgres_url: str
) -> None:
    """Else the one that commits first would be delivered before one with a lower number that commits later."""
    make = Factory(ManualClock())
    bucket = zlib.crc32(f"{HOOK}/LOAN/1".encode()) % LOCKS
    elsewhere = await asyncpg.connect(postgres_url)
    transaction = elsewhere.transaction()
    await transaction.start()
    await elsewhere.execute("select pg_advisory_xact_lock(1, $1)", bucket)

    def publish(store: PostgresStore, order_key: str) -> asyncio.Task[object]:
        delivery = NewDelivery(hook_id=HOOK, order_key=order_key)
        publication = Publication(tenant="default", events=((make.event(), (delivery,)),))
        return asyncio.create_task(store.publish(publication, lease_seconds=60))

    same = publish(stores[0], "LOAN/1")
    await publish(stores[1], "LOAN/2")
    await waits_for_a_lock(postgres_url)

    assert not same.done()
    await transaction.rollback()
    await elsewhere.close()
    assert isinstance(await same, Receipt)


async def waits_for_a_lock(url: str) -> None:
    connection = await asyncpg.connect(url)
    waiting = "select exists (select 1 from pg_locks where locktype = 'advisory' and not granted)"
    while not await connection.fetchval(waiting):  # noqa: ASYNC110 - the server tells nobody
        await asyncio.sleep(0.01)
    await connection.close()
