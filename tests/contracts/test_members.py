"""Processes that share a store: who is alive, who works for what, and what becomes of whom."""

from __future__ import annotations

import asyncio

import pytest

from embarc.core.members import SEGMENTS, Member, segment_of, tokens_of
from embarc.core.pacing import BreakerState, LaneCondition
from embarc.store.base import Store
from embarc.testing.clock import ManualClock
from embarc.testing.lab import Factory, StoreLab, every_class
from embarc.testing.postgres import open_store

ALL = frozenset(range(SEGMENTS))
ONE = Member(number=11, name="one")
TWO = Member(
    number=22,
    name="two",
    conditions={7: LaneCondition(breaker=BreakerState.OPEN, limit=1, next_probe_seconds=12.5)},
)
ALIVE = 5.0


async def test_whoever_is_alone_gets_what_it_wants(store: Store) -> None:
    attendance = await store.attend(ONE, wanted=ALL, alive_seconds=ALIVE)

    assert attendance.members == (ONE,)
    assert attendance.segments == ALL


@pytest.fixture
def shared(postgres_lab: StoreLab) -> Store:
    return postgres_lab.store


async def test_a_segment_is_held_by_one_until_it_gives_it_up(shared: Store) -> None:
    await shared.attend(ONE, wanted=ALL, alive_seconds=ALIVE)

    refused = await shared.attend(TWO, wanted={1, 2}, alive_seconds=ALIVE)
    await shared.attend(ONE, wanted=ALL - {2}, alive_seconds=ALIVE)
    taken = await shared.attend(TWO, wanted={1, 2}, alive_seconds=ALIVE)

    assert refused.members == (ONE, TWO)
    assert refused.segments == frozenset()
    assert taken.segments == {2}


async def test_whoever_leaves_is_forgotten_at_once(shared: Store) -> None:
    await shared.attend(ONE, wanted=ALL, alive_seconds=ALIVE)

    await shared.leave(ONE)
    attendance = await shared.attend(TWO, wanted=ALL, alive_seconds=ALIVE)

    assert attendance.members == (TWO,)
    assert attendance.segments == ALL


async def test_the_segments_of_a_member_that_is_not_heard_of_go_to_others(
    shared: Store, postgres_lab: StoreLab
) -> None:
    await shared.attend(ONE, wanted=ALL, alive_seconds=ALIVE)
    postgres_lab.clock.advance(4.9)
    still = await shared.attend(TWO, wanted=ALL, alive_seconds=ALIVE)

    postgres_lab.clock.advance(0.2)
    after = await shared.attend(TWO, wanted=ALL, alive_seconds=ALIVE)
    back = await shared.attend(ONE, wanted=ALL, alive_seconds=ALIVE)

    assert still.segments == frozenset()
    assert (after.members, after.segments) == ((TWO,), ALL)
    assert back.segments == frozenset()


async def test_leases_of_a_dead_member_end_where_its_segments_are_taken_and_are_told_as_lost(
    shared: Store, postgres_lab: StoreLab
) -> None:
    clock, make = postgres_lab.clock, Factory(postgres_lab.clock)
    hooks = [(await shared.add_hook(make.hook())).id for _ in range(2)]
    await shared.attend(ONE, wanted=ALL, alive_seconds=ALIVE)
    event = make.event()
    await shared.publish(make.publication(event, hooks=tuple(hooks)), lease_seconds=60)
    token = tokens_of(ONE.number)[0] + 1
    claims = await shared.claim(every_class(dict.fromkeys(hooks, 5)), lease_seconds=60, lease_token=token)

    clock.advance(6)
    await shared.attend(TWO, wanted={segment_of(hooks[0])}, alive_seconds=ALIVE)
    again = await shared.claim(
        every_class(dict.fromkeys(hooks, 5)), lease_seconds=60, lease_token=tokens_of(TWO.number)[0] + 1
    )
    late = await shared.settle([make.settlement(claim) for claim in claims])
    attempts = await shared.list_attempts(event.tenant, event.key, hooks[0])

    assert len(claims) == 2
    assert [claim.hook_id for claim in again] == [hooks[0]]
    assert {claim.hook_id: is_ours for claim, is_ours in zip(claims, late, strict=True)} == {
        hooks[0]: False,
        hooks[1]: True,
    }
    assert [attempt.outcome.result.value for attempt in attempts] == ["lost"]


async def test_two_that_ask_at_the_same_moment_share_and_never_hold_the_same(postgres_url: str) -> None:
    clock = ManualClock()
    stores = [await open_store(postgres_url, clock=clock) for _ in range(2)]
    try:
        for round_ in range(8):
            found = await asyncio.gather(
                stores[0].attend(ONE, wanted=ALL, alive_seconds=ALIVE),
                stores[1].attend(TWO, wanted=ALL, alive_seconds=ALIVE),
            )
            held = [
                (await store.attend(member, wanted=ALL, alive_seconds=ALIVE)).segments
                for store, member in zip(stores, (ONE, TWO), strict=True)
            ]
            assert not held[0] & held[1], round_
            assert held[0] | held[1] == ALL, round_
            assert all(len(one.members) in (1, 2) for one in found)
            await stores[round_ % 2].leave((ONE, TWO)[round_ % 2])
    finally:
        for store in stores:
            await store.close()


async def test_an_announcement_reaches_the_others_and_not_oneself(postgres_url: str) -> None:
    stores = [await open_store(postgres_url) for _ in range(3)]
    heard = [asyncio.Event() for _ in stores]
    try:
        for store, event in zip(stores, heard, strict=True):
            store.on_announcement(event.set)
        for event in heard:  # each is told once, when it begins to listen
            async with asyncio.timeout(20):
                await event.wait()
            event.clear()

        await stores[0].announce()

        for event in heard[1:]:
            async with asyncio.timeout(20):
                await event.wait()
        assert not heard[0].is_set()
    finally:
        for store in stores:
            await store.close()
