"""Behind a real PgBouncer that gives each transaction another session: nobody can listen, and all goes on by looking."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from embarc.core.deliveries import State, Traffic
from embarc.core.submissions import Receipt
from embarc.store.base import Store
from embarc.testing.clock import ManualClock
from embarc.testing.lab import Factory, every_class
from embarc.testing.platform import client_event, client_hook
from embarc.testing.pooler import PgBouncer
from embarc.testing.postgres import Databases, open_store
from embarc.testing.process import ServiceProcess
from embarc.testing.watching import WatchingReceiver

LEASE = 60.0
HOOKS = 12
"""So many that each of two processes works for some."""
ARRIVES_WITHIN_SECONDS = 8


@pytest.fixture
def pooler(databases: Databases) -> Iterator[PgBouncer]:
    with PgBouncer(databases.url) as started:
        yield started


@pytest.fixture
def pooled_url(pooler: PgBouncer, postgres_url: str) -> str:
    return pooler.url(postgres_url)


@pytest.fixture
async def stores(pooled_url: str, clock: ManualClock) -> AsyncIterator[tuple[Store, Store]]:
    first, second = [await open_store(pooled_url, clock=clock) for _ in range(2)]
    yield first, second
    await first.close()
    await second.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def make(clock: ManualClock) -> Factory:
    return Factory(clock)


async def test_publications_of_two_at_once_are_accepted_once_each(
    stores: tuple[Store, Store], make: Factory
) -> None:
    publications = [make.publication(make.event(), hooks=(1,), key=f"key-{n % 20}") for n in range(200)]

    answers = await asyncio.gather(
        *(stores[n % 2].publish(one, lease_seconds=LEASE) for n, one in enumerate(publications))
    )
    repeated = replace(publications[0], events=make.publication(make.event()).events)
    again = await stores[1].publish(repeated, lease_seconds=LEASE)

    receipts = [answer for answer in (*answers, again) if isinstance(answer, Receipt)]
    assert len(receipts) == 201
    assert sum(not receipt.duplicate for receipt in receipts) == 20


async def test_what_two_claim_at_once_is_given_once_and_settled_by_whoever_has_it(
    stores: tuple[Store, Store], make: Factory, clock: ManualClock
) -> None:
    publications = [make.publication(make.event(), hooks=(1,)) for _ in range(100)]
    await asyncio.gather(*(stores[0].publish(one, lease_seconds=LEASE) for one in publications))

    found = await asyncio.gather(
        *(
            stores[place % 2].claim(every_class({1: 10}), lease_seconds=LEASE, lease_token=place + 1)
            for place in range(20)
        )
    )
    claims = [claim for one in found for claim in one]
    settled = await stores[0].settle([make.settlement(claim) for claim in claims[:50]])
    retried = await stores[1].settle([make.settlement(claim, status=500) for claim in claims[50:]])
    late = await stores[1].settle([make.settlement(claims[0])])
    clock.advance(600)
    again = await stores[0].claim({(1, Traffic.RETRY): 100}, lease_seconds=LEASE, lease_token=99)

    assert len({claim.event_key for claim in claims}) == len(claims) == 100
    assert all(settled)
    assert all(retried)
    assert list(late) == [True]  # the same attempt, known already
    assert {claim.event_key for claim in again} == {claim.event_key for claim in claims[50:]}
    record = await stores[1].get_delivery("default", claims[0].event_key, 1)
    assert record is not None
    assert record.state is State.DELIVERED


async def test_what_one_process_accepts_for_the_hooks_of_another_arrives_soon_by_looking_alone(
    tmp_path: Path, pooled_url: str
) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    services = [
        await asyncio.to_thread(
            lambda folder=folder: ServiceProcess(folder, "--no-sandbox", store=pooled_url)  # type: ignore[misc] # mypy cannot infer a lambda's default
        )
        for folder in folders
    ]
    async with WatchingReceiver() as receiver:
        try:
            for number in range(HOOKS):
                body = client_hook(receiver.url(f"hook-{number}"))
                await asyncio.to_thread(services[0].ok, "POST", "hooks", body)
            accepted = []
            for turn in range(6):
                answer = await asyncio.to_thread(services[turn % 2].ok, "POST", "events", client_event(turn))
                accepted.append(answer["eventId"])
                await asyncio.gather(
                    *(
                        receiver.until(f"hook-{number}", turn + 1, within_seconds=ARRIVES_WITHIN_SECONDS)
                        for number in range(HOOKS)
                    )
                )
        finally:
            for service in services:
                await asyncio.to_thread(service.stop)

    for number in range(HOOKS):
        watched = receiver.paths[f"hook-{number}"]
        assert sorted(watched.arrived) == sorted(accepted)
        assert watched.repeated == 0
