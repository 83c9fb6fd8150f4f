"""Dispatching: nothing lost, nothing twice, nobody slowed by somebody else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from embarc.core.attempts import Result
from embarc.core.deliveries import Claim, Settlement, State
from embarc.core.errors import StoreUnavailable
from embarc.core.ids import delivery_id, parse_event_id
from embarc.core.ids import event_id as event_id_of
from embarc.engine import dispatch
from embarc.engine.lanes import HELD_PER_SLOT
from embarc.engine.registry import Prepared
from embarc.store.base import DeliveryFilter, DeliveryRecord
from embarc.testing.engine import EngineLab
from embarc.testing.receiver import ScriptedReceiver


async def states(engine: EngineLab, hook_id: int) -> set[str]:
    found = await engine.store.list_deliveries(
        "default", DeliveryFilter(hook_id=hook_id), before=None, limit=5000
    )
    return {record.state.value for record in found}


async def test_results_that_end_while_others_are_being_settled_are_not_lost(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    """A settlement used to be appended to the list that was already on its way to the store."""
    hook_id = await engine.hook(receiver.url)
    await asyncio.gather(*(engine.publish() for _ in range(300)))

    settled = [await engine.next_attempt() for _ in range(300)]

    assert len({settlement.claim.event_key for settlement in settled}) == 300
    assert await states(engine, hook_id) == {"delivered"}
    assert len(receiver.requests) == 300


async def test_a_receiver_that_never_answers_holds_up_nobody_else(engine: EngineLab) -> None:
    async with ScriptedReceiver().answers("hang") as dead, ScriptedReceiver() as alive:
        await engine.hook(dead.url, concurrency="2", timeout_seconds="30")
        alive_id = await engine.hook(alive.url)
        await dead_is_full(engine, dead)

        await engine.publish(100)
        await alive.received(102)

        assert len(dead.requests) == 2
        async with asyncio.timeout(10):
            while await states(engine, alive_id) != {"delivered"}:
                await engine.next_attempt()


async def dead_is_full(engine: EngineLab, dead: ScriptedReceiver) -> None:
    await engine.publish(2)
    await dead.received(2)


async def test_attempts_in_flight_stay_within_the_hooks_concurrency_and_halve_when_nobody_answers(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    receiver.answers("hang")
    await engine.hook(receiver.url, concurrency="3", timeout_seconds="1", max_retries="0")
    await engine.publish(7)
    await receiver.received(3)

    for _ in range(3):
        await engine.next_attempt()
    await receiver.received(4)
    await engine.next_attempt()

    assert len(receiver.requests) <= 5  # three at first, then one at a time


async def test_a_backlog_beyond_what_a_process_holds_is_worked_off_in_order(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    count = HELD_PER_SLOT * 10
    hook_id = await engine.hook(receiver.url, concurrency="1")
    receipt = await engine.publish(count)

    requests = await receiver.received(count)

    assert [request.header("webhook-id") for request in requests] == list(receipt.event_ids)
    for _ in range(count):
        await engine.next_attempt()
    assert await states(engine, hook_id) == {"delivered"}


async def test_stopping_ends_what_is_in_flight_and_gives_back_the_rest(store_url: str) -> None:
    async with ScriptedReceiver().answers("hang", 200) as receiver:
        engine = await EngineLab(store_url).start()
        await engine.hook(receiver.url, concurrency="1", timeout_seconds="1", retry_schedule="1")
        await engine.publish(5)
        await receiver.received(1)
        await engine.stop()
        at_stop = len(receiver.requests)

        again = EngineLab(store_url)
        again.offset = 100  # past the retry of the one that was in flight
        await again.start()
        settled = [await again.next_attempt() for _ in range(5)]
        await again.stop()

    assert at_stop == 1
    assert sorted(settlement.attempt.number for settlement in settled) == [1, 1, 1, 1, 2]
    assert {settlement.verdict.state for settlement in settled} == {State.DELIVERED}


async def test_a_delivery_whose_process_vanished_is_delivered_by_the_next_one(store_url: str) -> None:
    async with ScriptedReceiver().answers("hang", 200) as receiver:
        engine = await EngineLab(store_url).start()
        await engine.hook(receiver.url)
        receipt = await engine.publish()
        await receiver.received(1)
        await vanish(engine)

        again = await EngineLab(store_url).start()
        again.later(61)  # past its lease, which others have to wait for where several processes share a store
        await again.next_attempt()
        key = parse_event_id(receipt.event_ids[0])
        assert key is not None
        attempts = await again.store.list_attempts("default", key, 1)
        await again.stop()

    assert [attempt.outcome.result for attempt in attempts] == [Result.LOST, Result.STATUS]
    assert len({request.header("webhook-id") for request in receiver.requests}) == 1


async def vanish(engine: EngineLab) -> None:
    """End as a killed process does: nothing is settled, nothing given back. Only the file's lock is let go."""
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        if task.get_name().startswith("embarc_") or task in engine.dispatcher._workers:
            task.cancel()
    await asyncio.sleep(0)
    await engine.transport.close()
    await engine.store.close()


async def test_a_lease_is_renewed_while_its_attempt_runs(store_url: str) -> None:
    async with ScriptedReceiver().answers("hang") as receiver:
        engine = await EngineLab(store_url).start(lease_seconds=0.6)
        await engine.hook(receiver.url, timeout_seconds="2", max_retries="0")
        await engine.publish()

        settlement = await engine.next_attempt()

        assert settlement.attempt.outcome.result is Result.TIMEOUT
        assert len(receiver.requests) == 1
        await engine.stop()


async def test_an_endpoint_that_keeps_failing_is_left_alone_and_probed_with_one(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    failing, recovered = asyncio.Event(), asyncio.Event()
    engine.observer.subscribe("hook.failing", lambda facts: failing.set())
    engine.observer.subscribe("hook.recovered", lambda facts: recovered.set())
    receiver.answers(500, 500, 500, 500, 500, 500, 200)
    hook_id = await engine.hook(receiver.url, concurrency="1", retry_schedule="3600")
    await engine.publish(10)
    async with asyncio.timeout(10):
        await failing.wait()
    for _ in range(5):
        await engine.next_attempt()
    page, _ = await engine.reader.deliveries("default", DeliveryFilter(hook_id=hook_id), None, 20)

    engine.later(40)
    probe = await engine.next_attempt()
    engine.later(30)
    at_second_pause = len(receiver.requests)
    engine.later(60)
    async with asyncio.timeout(10):
        await recovered.wait()
    for _ in range(4):
        await engine.next_attempt()

    assert {view.standing for view in page} == {"held"}
    assert "keeps failing" in page[0].held_because
    assert probe.attempt.outcome.status == 500
    assert at_second_pause == 6
    attempts = [record.attempts for record in await records(engine, hook_id)]
    assert sum(attempts) == len(receiver.requests) == 10
    assert max(attempts) == 1  # nothing was spent while the breaker was open


async def records(engine: EngineLab, hook_id: int) -> Sequence[DeliveryRecord]:
    return await engine.store.list_deliveries(
        "default", DeliveryFilter(hook_id=hook_id), before=None, limit=100
    )


async def test_a_rate_limit_spaces_attempts_out_whatever_the_concurrency(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    await engine.hook(receiver.url, rate_limit="20", concurrency="16")
    await engine.publish(9)

    times = [(await engine.next_attempt()).attempt.started_at_ms for _ in range(9)]

    # Never faster than the rate; two may go in the first tenth of a second.
    assert (max(times) - min(times)) / 1000 >= (9 - 1 - 2) / 20


async def test_a_paused_hook_keeps_its_events_and_gets_them_when_it_is_resumed(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    hook_id = await engine.hook(receiver.url)
    await engine.hooks.pause("default", str(hook_id))
    receipt = await engine.publish(3)
    page, _ = await engine.reader.deliveries("default", DeliveryFilter(hook_id=hook_id), None, 20)
    before = len(receiver.requests)

    await engine.hooks.resume("default", str(hook_id))
    engine.dispatcher.wake()
    requests = await receiver.received(3)

    assert receipt.deliveries == 3
    assert before == 0
    assert {(view.standing, view.held_because) for view in page} == {("held", "the hook is paused")}
    assert {request.header("webhook-id") for request in requests} == set(receipt.event_ids)


async def test_events_of_one_entity_arrive_in_order_although_attempts_fail(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    hook_id = await engine.hook(receiver.url, order="entity", retry_schedule="0.05", max_retries="50")
    script: list[int | str] = [200, 500, 200, 500, 503, 200, 200, "drop", 200]
    receiver.answers(*script * 3)
    receipts = [await engine.publish(4) for _ in range(5)]
    wanted = [event_id for receipt in receipts for event_id in receipt.event_ids]

    delivered: list[str] = []
    while len(delivered) < 20:
        settlement = await engine.next_attempt()
        if settlement.verdict.state is State.DELIVERED:
            delivered.append(event_id_of(settlement.claim.event_key))
        else:
            engine.later(100)

    assert delivered == wanted
    assert await states(engine, hook_id) == {"delivered"}


async def test_a_delivery_that_waits_for_another_one_says_for_which(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    receiver.answers(500)
    hook_id = await engine.hook(receiver.url, order="entity", retry_schedule="3600")
    receipt = await engine.publish(2)
    await engine.next_attempt()

    first, second = [(await engine.reader.event("default", one)).deliveries[0] for one in receipt.event_ids]

    assert first.standing == "waiting"
    assert second.standing == "held"
    assert second.held_because == f"behind {delivery_id(first.record.event_key, hook_id)}"
    assert len(receiver.requests) == 1


async def test_a_bug_in_an_attempt_neither_stops_the_lane_nor_loses_the_delivery(
    store_url: str, receiver: ScriptedReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await EngineLab(store_url).start(lease_seconds=0.5)
    await engine.hook(receiver.url, concurrency="1")
    deliver, failed = engine.dispatcher._deliverer.deliver, asyncio.Event()
    engine.observer.subscribe("dispatcher.failed", lambda facts: failed.set())

    async def breaks(*_: object) -> None:
        monkeypatch.setattr(engine.dispatcher._deliverer, "deliver", deliver)
        raise RuntimeError("a bug")

    monkeypatch.setattr(engine.dispatcher._deliverer, "deliver", breaks)
    receipt = await engine.publish(2)

    settled = [await engine.next_attempt() for _ in range(2)]

    assert failed.is_set()
    assert {event_id_of(settlement.claim.event_key) for settlement in settled} == set(receipt.event_ids)
    assert sorted(settlement.attempt.number for settlement in settled) == [1, 2]
    await engine.stop()


async def test_a_store_that_cannot_commit_for_a_while_delays_results_and_loses_none(
    engine: EngineLab, receiver: ScriptedReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle, refused = engine.store.settle, asyncio.Event()

    async def refuses(*_: object) -> None:
        monkeypatch.setattr(engine.store, "settle", settle)
        refused.set()
        raise StoreUnavailable

    monkeypatch.setattr(engine.store, "settle", refuses)
    await engine.hook(receiver.url)
    await engine.publish(3)

    settled = [await engine.next_attempt() for _ in range(3)]

    assert refused.is_set()
    assert {settlement.verdict.state for settlement in settled} == {State.DELIVERED}
    assert len(receiver.requests) == 3


async def test_a_hook_that_is_disabled_by_the_last_result_does_not_hold_up_the_stop(
    store_url: str, receiver: ScriptedReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settler used to wait for another result after the one that disabled the hook."""
    receiver.answers(410)
    engine = await EngineLab(store_url).start()
    hook_id = await engine.hook(receiver.url)
    deliver, begun, gate = engine.dispatcher._deliverer.deliver, asyncio.Event(), asyncio.Event()

    async def waits(claim: Claim, prepared: Prepared) -> Settlement:
        begun.set()
        await gate.wait()
        return await deliver(claim, prepared)

    monkeypatch.setattr(engine.dispatcher._deliverer, "deliver", waits)
    await engine.publish()
    await begun.wait()

    stopping = asyncio.create_task(engine.dispatcher.stop())
    gate.set()
    async with asyncio.timeout(10):
        await stopping

    hook = await engine.store.get_hook("default", hook_id)
    assert hook is not None
    assert not hook.is_active
    await engine.transport.close()
    await engine.store.close()


async def test_where_the_process_is_full_tenants_take_turns_however_many_hooks_they_have(
    engine: EngineLab, receiver: ScriptedReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "IN_FLIGHT_IN_ALL", 0)
    for tenant, hooks in (("many", 4), ("one", 1)):
        for _ in range(hooks):
            await engine.hook(receiver.url, tenant=tenant)
        await engine.publish(20, tenant=tenant)
    monkeypatch.setattr(dispatch, "IN_FLIGHT_IN_ALL", 1)

    await engine.publish(tenant="one")
    settled = [await engine.next_attempt() for _ in range(40)]

    # Four hooks against one, and yet every second attempt is the other tenant's.
    assert 19 <= sum(one.claim.tenant == "one" for one in settled) <= 21
    hooks_of_many = [one.claim.hook_id for one in settled if one.claim.tenant == "many"]
    assert {hooks_of_many.count(hook_id) for hook_id in set(hooks_of_many)} <= {4, 5, 6}


async def test_failing_endpoints_have_a_small_share_of_the_process(
    engine: EngineLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "IN_FLIGHT_FAILING", 2)
    async with ScriptedReceiver().answers(500, "hang") as dead, ScriptedReceiver() as alive:
        dead_ids = [
            await engine.hook(dead.url, concurrency="8", retry_schedule="0", timeout_seconds="30")
            for _ in range(3)
        ]
        await engine.publish()  # each fails once, or hangs
        await engine.next_attempt()
        await engine.publish(10)
        await dead.received(4)
        alive_id = await engine.hook(alive.url)

        await engine.publish(50)
        await alive.received(50)
        failing = [engine.dispatcher.condition(hook_id).in_flight for hook_id in dead_ids]

        assert engine.dispatcher.condition(alive_id).limit == 16
        assert min(failing) <= 2
