"""The store contract: claiming, leases, settling."""

from __future__ import annotations

import asyncio

from embarc.core.attempts import Result
from embarc.core.deliveries import Claim, State, Verdict
from embarc.store.base import Store
from embarc.testing.clock import ManualClock
from embarc.testing.lab import Factory, StoreLab, every_class

LEASE = 60.0
HOOK = 1


async def published(store: Store, make: Factory, count: int = 1, hook: int = HOOK) -> list[bytes]:
    events = [make.event() for _ in range(count)]
    for event in events:
        await store.publish(make.publication(event, hooks=(hook,)), lease_seconds=LEASE)
    return [event.key for event in events]


async def claimed(store: Store, make: Factory, token: int = 5) -> Claim:
    await published(store, make)
    (claim,) = await store.claim(every_class({HOOK: 1}), lease_seconds=LEASE, lease_token=token)
    return claim


async def state_of(store: Store, claim: Claim) -> State:
    record = await store.get_delivery(claim.tenant, claim.event_key, claim.hook_id)
    assert record is not None
    return record.state


async def test_a_claim_takes_the_earliest_due_of_each_hook_and_no_more_than_wanted(
    store: Store, make: Factory, clock: ManualClock
) -> None:
    mine = []
    for _ in range(3):
        mine += await published(store, make)
        clock.advance(0.01)
    theirs = await published(store, make, hook=2)
    await published(store, make, hook=3)

    claims = await store.claim(every_class({HOOK: 2, 2: 5}), lease_seconds=LEASE, lease_token=5)

    assert [claim.event_key for claim in claims if claim.hook_id == HOOK] == mine[:2]
    assert [claim.event_key for claim in claims if claim.hook_id == 2] == theirs
    assert {claim.hook_id for claim in claims} == {1, 2}


async def test_equal_due_times_go_in_order_of_acceptance(store: Store, make: Factory) -> None:
    keys = await published(store, make, 10)

    claims = await store.claim(every_class({HOOK: 10}), lease_seconds=LEASE, lease_token=5)

    assert [claim.event_key for claim in claims] == keys


async def test_what_is_claimed_is_not_claimed_again_before_its_lease_ends(
    store: Store, make: Factory, clock: ManualClock
) -> None:
    await claimed(store, make)

    clock.advance(LEASE - 0.001)

    assert list(await store.claim(every_class({HOOK: 9}), lease_seconds=LEASE, lease_token=6)) == []


async def test_a_lease_that_ends_now_is_over(store: Store, make: Factory, clock: ManualClock) -> None:
    await claimed(store, make)

    clock.advance(LEASE)

    assert len(await store.claim(every_class({HOOK: 9}), lease_seconds=LEASE, lease_token=6)) == 1


async def test_claims_at_the_same_time_never_share_a_delivery(store: Store, make: Factory) -> None:
    await published(store, make, 40)

    pages = await asyncio.gather(
        *(
            store.claim(every_class({HOOK: 7}), lease_seconds=LEASE, lease_token=token)
            for token in range(1, 9)
        )
    )

    keys = [claim.event_key for page in pages for claim in page]
    assert len(keys) == len(set(keys)) == 40


async def test_a_delivery_that_was_born_claimed_is_not_due_until_its_lease_ends(
    store: Store, make: Factory, clock: ManualClock
) -> None:
    await store.publish(make.publication(make.event(), hooks=(HOOK,), token=9), lease_seconds=LEASE)

    early = await store.claim(every_class({HOOK: 1}), lease_seconds=LEASE, lease_token=6)
    clock.advance(LEASE)
    late = await store.claim(every_class({HOOK: 1}), lease_seconds=LEASE, lease_token=7)

    assert list(early) == []
    assert [claim.attempts for claim in late] == [1]


async def test_taking_over_from_a_process_that_ended_records_a_lost_attempt(
    store: Store, make: Factory, clock: ManualClock
) -> None:
    first = await claimed(store, make)
    clock.advance(LEASE)

    (second,) = await store.claim(every_class({HOOK: 1}), lease_seconds=LEASE, lease_token=6)

    (attempt,) = await store.list_attempts("default", first.event_key, HOOK)
    assert attempt.outcome.result is Result.LOST
    assert attempt.number == 1
    assert second.attempts == 1
    assert second.failures == 0


async def test_due_tells_every_hook_that_has_something_waiting(
    store: Store, make: Factory, clock: ManualClock
) -> None:
    await published(store, make, 3)
    await published(store, make, hook=4)
    clock.advance(2)
    await store.claim(every_class({4: 1}), lease_seconds=LEASE, lease_token=6)

    due = {one.hook_id: one.in_seconds for one in await store.due()}

    assert due == {HOOK: -2.0, 4: LEASE}


async def test_a_delivered_delivery_has_its_attempt_and_is_not_due(store: Store, make: Factory) -> None:
    claim = await claimed(store, make)

    assert list(await store.settle([make.settlement(claim, status=204, body=b"\x00\xff")])) == [True]

    record = await store.get_delivery("default", claim.event_key, HOOK)
    assert record is not None
    assert (record.state, record.attempts, record.due_at_ms) == (State.DELIVERED, 1, None)
    assert record.settled_at_ms is not None
    (attempt,) = await store.list_attempts("default", claim.event_key, HOOK)
    assert attempt == make.settlement(claim, status=204, body=b"\x00\xff").attempt
    assert list(await store.due()) == []


async def test_a_failed_delivery_waits_until_its_retry(
    store: Store, make: Factory, clock: ManualClock
) -> None:
    claim = await claimed(store, make)
    verdict = Verdict(state=State.WAITING, failures=1, retry_in_seconds=5)

    await store.settle([make.settlement(claim, status=500, verdict=verdict)])

    clock.advance(4.999)
    assert list(await store.claim(every_class({HOOK: 1}), lease_seconds=LEASE, lease_token=6)) == []
    clock.advance(0.001)
    (again,) = await store.claim(every_class({HOOK: 1}), lease_seconds=LEASE, lease_token=7)
    assert (again.attempts, again.failures) == (1, 1)


async def test_a_late_worker_cannot_overwrite_a_newer_attempt(
    store: Store, make: Factory, clock: ManualClock
) -> None:
    late = await claimed(store, make, token=5)
    clock.advance(LEASE)
    (newer,) = await store.claim(every_class({HOOK: 1}), lease_seconds=LEASE, lease_token=6)

    refused = await store.settle([make.settlement(late, status=200)])

    assert list(refused) == [False]
    assert await state_of(store, late) is State.WAITING
    assert list(await store.settle([make.settlement(newer, status=200)])) == [True]
    attempts = await store.list_attempts("default", late.event_key, HOOK)
    assert [attempt.outcome.result for attempt in attempts] == [Result.LOST, Result.STATUS]


async def test_settling_twice_changes_nothing_the_second_time(store: Store, make: Factory) -> None:
    claim = await claimed(store, make)

    first = await store.settle([make.settlement(claim)])
    second = await store.settle([make.settlement(claim, status=500)])

    assert (list(first), list(second)) == ([True], [False])
    assert await state_of(store, claim) is State.DELIVERED


async def test_one_lost_lease_does_not_hold_up_the_others_of_its_batch(store: Store, make: Factory) -> None:
    keys = await published(store, make, 3)
    claims = await store.claim(every_class({HOOK: 3}), lease_seconds=LEASE, lease_token=5)
    await store.cancel("default", keys[1], HOOK, "not wanted")

    settled = await store.settle([make.settlement(claim) for claim in claims])

    assert list(settled) == [True, False, True]


async def test_a_renewed_lease_is_not_taken_over(store: Store, make: Factory, clock: ManualClock) -> None:
    claim = await claimed(store, make)
    clock.advance(LEASE - 1)

    assert list(await store.renew([claim], lease_seconds=LEASE)) == []

    clock.advance(LEASE - 1)
    assert list(await store.claim(every_class({HOOK: 1}), lease_seconds=LEASE, lease_token=6)) == []


async def test_renewing_tells_which_leases_were_lost(store: Store, make: Factory, clock: ManualClock) -> None:
    late = await claimed(store, make)
    clock.advance(LEASE)
    await store.claim(every_class({HOOK: 1}), lease_seconds=LEASE, lease_token=6)

    assert list(await store.renew([late], lease_seconds=LEASE)) == [late]


async def test_a_surrendered_delivery_is_due_at_once_and_leaves_no_trace(store: Store, make: Factory) -> None:
    claim = await claimed(store, make)

    assert await store.surrender([claim]) == 1

    (again,) = await store.claim(every_class({HOOK: 1}), lease_seconds=LEASE, lease_token=6)
    assert again.attempts == 0
    assert list(await store.list_attempts("default", claim.event_key, HOOK)) == []


async def test_only_what_is_still_ours_can_be_surrendered(
    store: Store, make: Factory, clock: ManualClock
) -> None:
    late = await claimed(store, make)
    clock.advance(LEASE)
    await store.claim(every_class({HOOK: 1}), lease_seconds=LEASE, lease_token=6)

    assert await store.surrender([late]) == 0


async def test_a_cancelled_delivery_is_not_tried_and_says_why(store: Store, make: Factory) -> None:
    (key,) = await published(store, make)

    assert await store.cancel("default", key, HOOK, "not wanted")

    record = await store.get_delivery("default", key, HOOK)
    assert record is not None
    assert (record.state, record.reason) == (State.CANCELLED, "not wanted")
    assert list(await store.due()) == []
    assert not await store.cancel("default", key, HOOK, "again")


async def test_a_replayed_delivery_is_due_with_all_its_retries(store: Store, make: Factory) -> None:
    claim = await claimed(store, make)
    verdict = Verdict(state=State.EXHAUSTED, failures=11, reason="failed 11 times")
    await store.settle([make.settlement(claim, status=500, verdict=verdict)])

    assert await store.replay("default", claim.event_key, HOOK)

    (again,) = await store.claim(every_class({HOOK: 1}), lease_seconds=LEASE, lease_token=6)
    assert (again.attempts, again.failures, again.is_replay) == (1, 0, True)
    assert not await store.replay("default", bytes(16), HOOK)


async def test_what_a_process_held_when_it_ended_is_due_after_its_lease(lab: StoreLab, make: Factory) -> None:
    claim = await claimed(lab.store, make)

    store = await lab.reopen()

    lab.clock.advance(LEASE)
    (again,) = await store.claim(every_class({HOOK: 1}), lease_seconds=LEASE, lease_token=7)
    assert again.event_key == claim.event_key
