"""The store contract: order by key."""

from __future__ import annotations

import random

import pytest

from embarc.core.deliveries import Claim, State, Verdict
from embarc.store.base import NewDelivery, Publication, Store
from embarc.testing.clock import ManualClock
from embarc.testing.lab import Factory, every_class

LEASE = 60.0
HOOK = 1
FAILED = Verdict(state=State.WAITING, failures=1, retry_in_seconds=30)
EXHAUSTED = Verdict(state=State.EXHAUSTED, failures=11)


async def published(store: Store, make: Factory, order_key: str) -> bytes:
    event = make.event()
    await store.publish(
        Publication(tenant="default", events=((event, (NewDelivery(hook_id=HOOK, order_key=order_key),)),)),
        lease_seconds=LEASE,
    )
    return event.key


async def claimed(store: Store, token: int = 5) -> list[Claim]:
    return list(await store.claim(every_class({HOOK: 10}), lease_seconds=LEASE, lease_token=token))


async def test_only_the_earliest_of_a_key_is_given_and_other_keys_are_not_held_up(
    store: Store, make: Factory
) -> None:
    keys = [await published(store, make, key) for key in ("LOAN/1", "LOAN/1", "LOAN/2", "LOAN/1")]

    claims = await claimed(store)

    assert [claim.event_key for claim in claims] == [keys[0], keys[2]]
    assert await claimed(store) == []


async def test_the_next_one_is_given_when_the_one_before_is_delivered(store: Store, make: Factory) -> None:
    keys = [await published(store, make, "LOAN/1") for _ in range(3)]

    given = []
    for token in range(1, 4):
        (claim,) = await claimed(store, token)
        given.append(claim.event_key)
        await store.settle([make.settlement(claim)])

    assert given == keys


async def test_a_failing_one_holds_back_what_comes_after_it_and_says_so(
    store: Store, make: Factory, clock: ManualClock
) -> None:
    first, second = [await published(store, make, "LOAN/1") for _ in range(2)]
    (claim,) = await claimed(store)
    await store.settle([make.settlement(claim, status=500, verdict=FAILED)])

    early = await claimed(store, 6)
    record = await store.get_delivery("default", second, HOOK)
    clock.advance(30)
    (again,) = await claimed(store, 7)

    assert early == []
    assert record is not None
    assert record.behind == first
    assert again.event_key == first


@pytest.mark.parametrize("release", ["cancel", "replay"])
async def test_an_exhausted_one_holds_on_until_a_person_decides(
    store: Store, make: Factory, release: str
) -> None:
    first, second = [await published(store, make, "LOAN/1") for _ in range(2)]
    (claim,) = await claimed(store)
    await store.settle([make.settlement(claim, status=500, verdict=EXHAUSTED)])
    before = await claimed(store, 6)

    if release == "cancel":
        await store.cancel("default", first, HOOK, "not wanted")
    else:
        await store.replay("default", first, HOOK)
        (again,) = await claimed(store, 7)
        await store.settle([make.settlement(again)])
    (released,) = await claimed(store, 8)

    assert before == []
    assert released.event_key == second


@pytest.mark.parametrize("seed", range(20))
async def test_no_two_of_a_key_ever_swap_whatever_fails(
    store: Store, make: Factory, clock: ManualClock, seed: int
) -> None:
    """Publishing, failing, lost processes and retries at random; the first delivery of each event tells the order."""
    chance = random.Random(seed)
    accepted: dict[str, list[bytes]] = {}
    order_of: dict[bytes, str] = {}
    delivered: dict[str, list[bytes]] = {}
    token = 0
    while sum(map(len, delivered.values())) < 60:
        if len(order_of) < 60:
            order_key = f"LOAN/{chance.randrange(4)}"
            key = await published(store, make, order_key)
            accepted.setdefault(order_key, []).append(key)
            order_of[key] = order_key
        token += 1
        claims = await claimed(store, token)
        assert len({order_of[claim.event_key] for claim in claims}) == len(claims)
        for claim in claims:
            match chance.randrange(4):
                case 0:
                    await store.settle([make.settlement(claim, status=500, verdict=FAILED)])
                case 1:
                    continue  # its process is lost; the lease ends by itself
                case _:
                    delivered.setdefault(order_of[claim.event_key], []).append(claim.event_key)
                    assert list(await store.settle([make.settlement(claim)])) == [True]
        clock.advance(chance.choice([0.1, 10, 61]))

    assert delivered == accepted
