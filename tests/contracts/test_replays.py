"""The store contract: classes of traffic, replays of many, pruning."""

from __future__ import annotations

from dataclasses import replace

from embarc.core.deliveries import State, Traffic, Verdict
from embarc.core.events import EventKind
from embarc.core.replays import FIRST_KEY, ReplayJob, ReplayState, Selection
from embarc.store.base import Candidate, DeliveryFilter, EventFilter, NewDelivery, Publication, Store
from embarc.testing.clock import ManualClock
from embarc.testing.lab import Factory, StoreLab, every_class

LEASE = 60.0
HOOK = 1
DAY = 86_400
RETRY = Verdict(state=State.WAITING, failures=1, retry_in_seconds=0)


async def published(
    store: Store, make: Factory, count: int = 1, hooks: tuple[int, ...] = (HOOK,)
) -> list[bytes]:
    events = [make.event() for _ in range(count)]
    for event in events:
        await store.publish(make.publication(event, hooks=hooks), lease_seconds=LEASE)
    return [event.key for event in events]


async def delivered(store: Store, make: Factory, count: int = 1) -> list[bytes]:
    keys = await published(store, make, count)
    claims = await store.claim(every_class({HOOK: 50}), lease_seconds=LEASE, lease_token=9)
    await store.settle([make.settlement(claim) for claim in claims if claim.event_key in keys])
    return keys


def selection(clock: ManualClock, *states: State, missing: bool = False, **more: object) -> Selection:
    until_ms = int(clock.now() * 1000) + 1
    return replace(
        Selection(hook_id=HOOK, until_ms=until_ms, states=states, missing=missing),
        **more,  # type: ignore[arg-type] # a test's own fields
    )


async def test_new_retried_and_replayed_deliveries_are_due_and_claimed_apart(
    store: Store, make: Factory
) -> None:
    replayed, retried = await published(store, make, 2)
    claims = await store.claim(every_class({HOOK: 2}), lease_seconds=LEASE, lease_token=1)
    await store.settle([make.settlement(claims[0]), make.settlement(claims[1], status=500, verdict=RETRY)])
    await store.replay("default", replayed, HOOK)
    (new,) = await published(store, make)

    due = {one.traffic for one in await store.due()}
    found = {}
    for traffic in Traffic:
        (claim,) = await store.claim({(HOOK, traffic): 5}, lease_seconds=LEASE, lease_token=2)
        found[traffic] = claim.event_key
        assert claim.traffic is traffic

    assert due == set(Traffic)
    assert found == {Traffic.LIVE: new, Traffic.RETRY: retried, Traffic.REPLAY: replayed}
    waiting = await store.count_waiting(HOOK, at_most=100)
    assert {traffic: count for traffic, (count, _) in waiting.items()} == dict.fromkeys(Traffic, 1)


async def test_candidates_come_a_page_at_a_time_and_each_once(
    store: Store, make: Factory, clock: ManualClock
) -> None:
    keys = await delivered(store, make, 7)
    missing = await published(store, make, 3, hooks=())
    await published(store, make)  # still waiting: no candidate

    found: list[Candidate] = []
    pages = 0
    wanted = selection(clock, State.DELIVERED, missing=True)
    reached: bytes | None = FIRST_KEY
    while reached is not None:
        page, reached = await store.list_candidates("default", wanted, after=reached, limit=4)
        found += page
        pages += 1

    assert [one.event_key for one in found] == keys + missing
    assert [one.state for one in found] == [State.DELIVERED] * 7 + [None] * 3
    assert pages == 3


async def test_candidates_are_of_the_kinds_entity_and_times_that_are_asked_for(
    store: Store, make: Factory, clock: ManualClock
) -> None:
    await published(store, make, 2, hooks=())
    clock.advance(10)
    start_ms = int(clock.now() * 1000)
    approved = make.event(kind=EventKind("LOAN", "APPROVE"), entity_id="5")
    other = make.event(kind=EventKind("LOAN", "APPROVE"), entity_id="6")
    for event in (approved, other):
        await store.publish(make.publication(event), lease_seconds=LEASE)

    wanted = selection(
        clock,
        missing=True,
        since_ms=start_ms,
        kinds=(EventKind("LOAN", "APPROVE"), EventKind("CLIENT", "CREATE")),
        entity_id="5",
    )
    found, reached = await store.list_candidates("default", wanted, after=FIRST_KEY, limit=10)
    elsewhere, _ = await store.list_candidates("other", wanted, after=FIRST_KEY, limit=10)

    assert [one.event_key for one in found] == [approved.key]
    assert reached is None
    assert elsewhere == []


async def test_a_job_moves_on_with_what_it_queues_and_survives_a_restart(
    lab: StoreLab, store: Store, make: Factory, clock: ManualClock
) -> None:
    (gone,) = await delivered(store, make)
    (unknown,) = await published(store, make, hooks=())
    wanted = selection(clock, State.DELIVERED, missing=True)
    job = await store.add_replay(
        ReplayJob(tenant="default", key=b"k" * 16, selection=wanted, created_by="admin")
    )

    assert await store.advance_replay(job, [NewDelivery(hook_id=HOOK)], [gone], gone)
    assert not await store.advance_replay(
        job, [NewDelivery(hook_id=HOOK)], [gone], gone
    )  # it is further by now
    store = await lab.reopen()
    (job,) = await store.running_replays()
    assert (job.reached, job.queued, job.selection) == (gone, 1, wanted)
    assert await store.advance_replay(job, [NewDelivery(hook_id=HOOK)] * 2, [gone, unknown], None)

    claims = await store.claim(every_class({HOOK: 9}), lease_seconds=LEASE, lease_token=3)
    ended = await store.get_replay("default", job.key)
    assert [(claim.event_key, claim.traffic, claim.failures) for claim in claims] == [
        (gone, Traffic.REPLAY, 0),
        (unknown, Traffic.REPLAY, 0),
    ]
    assert ended is not None
    assert (ended.state, ended.queued) == (ReplayState.FINISHED, 2)
    assert await store.running_replays() == []
    assert [one.key for one in await store.list_replays("default", limit=5)] == [job.key]
    assert await store.list_replays("other", limit=5) == []


async def test_a_cancelled_job_does_not_move_on(store: Store, make: Factory, clock: ManualClock) -> None:
    (gone,) = await delivered(store, make)
    job = await store.add_replay(
        ReplayJob(
            tenant="default", key=b"k" * 16, selection=selection(clock, State.DELIVERED), created_by="admin"
        )
    )

    assert not await store.cancel_replay("other", job.key)
    assert await store.cancel_replay("default", job.key)
    assert not await store.cancel_replay("default", job.key)
    assert not await store.advance_replay(job, [NewDelivery(hook_id=HOOK)], [gone], None)
    assert await store.claim(every_class({HOOK: 9}), lease_seconds=LEASE, lease_token=3) == []


async def test_old_events_go_with_their_deliveries_and_what_waits_or_holds_others_up_stays(
    store: Store, make: Factory, clock: ManualClock
) -> None:
    await delivered(store, make, 5)
    (waiting,) = await published(store, make)
    blocking = make.event(entity_id="9")
    ordered = (NewDelivery(hook_id=HOOK, order_key="LOAN/9"),)
    publication = Publication(tenant="default", events=((blocking, ordered),))
    await store.publish(publication, lease_seconds=LEASE)
    (claim,) = [
        one
        for one in await store.claim(every_class({HOOK: 9}), lease_seconds=LEASE, lease_token=4)
        if one.event_key == blocking.key
    ]
    await store.settle(
        [make.settlement(claim, status=500, verdict=Verdict(state=State.EXHAUSTED, failures=9))]
    )
    clock.advance(31 * DAY)
    (young,) = await delivered(store, make)

    position: int | None = 0
    total = 0
    while position is not None:
        deleted, position = await store.prune_events(30 * DAY, after=position, limit=2)
        total += deleted

    left = await store.list_events("default", EventFilter(), before=None, limit=50)
    assert total == 5
    assert {record.event.key for record in left} == {waiting, blocking.key, young}
    assert len(await store.list_deliveries("default", DeliveryFilter(), before=None, limit=50)) == 3


async def test_old_attempts_and_keys_go_little_by_little(
    store: Store, make: Factory, clock: ManualClock
) -> None:
    keys = await delivered(store, make, 5)
    for number in range(3):
        await store.publish(make.publication(make.event(), key=f"key-{number}"), lease_seconds=LEASE)
    clock.advance(91 * DAY)
    (young,) = await delivered(store, make)

    attempts = []
    while count := await store.prune_attempts(90 * DAY, limit=2):
        attempts.append(count)
    forgotten = [await store.prune_keys(30 * DAY, limit=2) for _ in range(3)]

    assert sum(attempts) == 5
    assert forgotten == [2, 1, 0]
    assert await store.list_attempts("default", keys[0], HOOK) == []
    assert len(await store.list_attempts("default", young, HOOK)) == 1


async def test_since_when_a_hook_fails_is_remembered(store: Store, make: Factory) -> None:
    hook = await store.add_hook(make.hook())

    assert await store.set_failing_since("default", hook.id, 1234)
    failing = await store.get_hook("default", hook.id)
    assert await store.set_failing_since("default", hook.id, None)
    well = await store.get_hook("default", hook.id)

    assert not await store.set_failing_since("other", hook.id, 1234)
    assert failing is not None
    assert well is not None
    assert (failing.failing_since_ms, well.failing_since_ms) == (1234, None)
    assert hook.version < failing.version < well.version
