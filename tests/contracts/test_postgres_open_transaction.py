"""Somebody's open transaction keeps PostgreSQL from cleaning up: looks and claims pass by what is dead, and miss nothing that lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest

from embarc.core.deliveries import Claim, Traffic
from embarc.store.postgres import floors
from embarc.store.postgres.floors import BEHIND_MS, Floors
from embarc.store.postgres.store import PostgresStore
from embarc.testing.clock import ManualClock
from embarc.testing.lab import Factory
from embarc.testing.postgres import open_store

LEASE = 60.0
DEAD = 20_000
NOW_MS = 1_000_000
LANE = (1, Traffic.LIVE)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def make(clock: ManualClock) -> Factory:
    return Factory(clock)


@pytest.fixture
async def store(
    postgres_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[PostgresStore]:
    """One that looks fully once, and finds that slow."""
    monkeypatch.setattr(floors, "SLOW_SECONDS", 0.0)
    monkeypatch.setattr(floors, "PAUSE", 1_000_000)
    opened = await open_store(postgres_url, clock=clock)
    yield opened
    await opened.close()


async def look_and_claim(store: PostgresStore, token: int) -> Sequence[Claim]:
    """As the dispatcher does."""
    wanted = {(due.hook_id, due.traffic): 5 for due in await store.due() if due.in_seconds <= 0}
    return await store.claim(wanted, lease_seconds=LEASE, lease_token=token)


async def test_what_an_open_transaction_keeps_from_being_cleaned_up_is_passed_by_once(
    store: PostgresStore, postgres_url: str, make: Factory, clock: ManualClock
) -> None:
    hook = await store.add_hook(make.hook())
    await store.list_hooks()
    holder, other = [await asyncpg.connect(postgres_url) for _ in range(2)]
    async with holder.transaction(isolation="repeatable_read", readonly=True):
        await holder.fetchval("select count(*) from deliveries")
        await other.execute(
            "insert into deliveries (tenant, event_key, hook_id, state, due_at_ms, accepted_seq)"
            " select 'default', decode(lpad(to_hex(n), 32, '0'), 'hex'), $1, 'waiting', n, n"
            " from generate_series(1, $2::int) n",
            hook.id,
            DEAD,
        )
        await other.execute("delete from deliveries")
        claimed = []
        for token in range(1, 6):
            await store.publish(make.publication(make.event(), hooks=(hook.id,)), lease_seconds=LEASE)
            clock.advance(2)
            claims = await look_and_claim(store, token)
            await store.settle([make.settlement(claim) for claim in claims])
            claimed.append(len(claims))
        await store.close()
        read = await entries_read(other)
    await holder.close()
    await other.close()

    assert claimed == [1] * 5
    # The full look passes them twice: on the way to the next hook, and on the way to this one's first.
    assert DEAD <= read < DEAD * 3


async def entries_read(connection: asyncpg.Connection) -> int:
    """Of the index of what is due; complete when the sessions that read them have ended."""
    while await connection.fetchval(  # noqa: ASYNC110 - of another process there is no event
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and application_name = 'embarc'"
    ):
        await asyncio.sleep(0.02)
    read: int = await connection.fetchval(
        "select idx_tup_read from pg_stat_all_indexes where indexrelname = 'deliveries_due'"
    )
    return read


async def test_nothing_that_becomes_due_is_missed_between_two_full_looks(
    store: PostgresStore, postgres_url: str, make: Factory, clock: ManualClock
) -> None:
    other = await open_store(postgres_url, clock=clock)
    first = await store.add_hook(make.hook())
    event, late = make.event(), make.event()
    await store.publish(make.publication(event, hooks=(first.id,)), lease_seconds=LEASE)
    (claim,) = await look_and_claim(store, 1)  # the one full look
    await store.settle([make.settlement(claim, status=500)])
    clock.advance(600)

    (retried,) = await look_and_claim(store, 2)
    await store.settle([make.settlement(retried)])
    await other.replay("default", event.key, first.id)
    (replayed,) = await look_and_claim(store, 3)
    await store.surrender([replayed])
    (again,) = await look_and_claim(store, 4)
    second = await other.add_hook(make.hook())
    await store.list_hooks()  # as the registry does when the revision has changed
    await other.publish(make.publication(late, hooks=(second.id,)), lease_seconds=LEASE)
    (elsewhere,) = await look_and_claim(store, 5)
    clock.advance(LEASE + 1)
    lost = await look_and_claim(store, 6)
    await other.close()

    assert [one.traffic for one in (retried, replayed, again)] == [
        Traffic.RETRY,
        Traffic.REPLAY,
        Traffic.REPLAY,
    ]
    assert (elsewhere.hook_id, elsewhere.event_key) == (second.id, late.key)
    assert {claim.hook_id for claim in lost} == {first.id, second.id}


def test_a_slow_full_look_is_made_again_when_twenty_times_as_much_time_has_gone_by() -> None:
    known = Floors()
    known.learn([(LANE, NOW_MS)], None, NOW_MS, began=10.0, ended=10.05)
    quick = known.lanes(10.05)

    known.learn([(LANE, NOW_MS)], None, NOW_MS, began=20.0, ended=21.0)

    assert quick is None
    assert known.lanes(40.9) == {(1, traffic) for traffic in Traffic}
    assert known.lanes(41.0) is None


def test_a_floor_is_the_earliest_that_lives_and_never_close_to_now() -> None:
    known = Floors()
    known.know_hooks([1, 2])

    known.learn([(LANE, 5)], None, NOW_MS, began=0.0, ended=1.0)
    before = [known.of((hook_id, Traffic.LIVE)) for hook_id in (1, 2, 3)]
    known.learn([], known.lanes(2.0), NOW_MS + 50, began=2.0, ended=2.0)
    known.learn([(LANE, NOW_MS * 2)], known.lanes(2.0), NOW_MS + 50, began=2.0, ended=2.0)

    assert before == [5, NOW_MS - BEHIND_MS, 0]
    assert known.of(LANE) == NOW_MS + 50 - BEHIND_MS
