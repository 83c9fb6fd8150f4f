"""Replays of many, filters, and what is old."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest

from embarc.core.deliveries import State
from embarc.core.errors import NotFound, RuleViolation
from embarc.core.events import EventKind
from embarc.core.ids import replay_id
from embarc.core.replays import ReplayState, Selection
from embarc.engine.prune import Pruner
from embarc.store.base import DeliveryFilter, EventFilter
from embarc.testing.engine import EngineLab
from embarc.testing.receiver import ScriptedReceiver

DAY = 86_400


def selection(engine: EngineLab, hook_id: int, *states: State, missing: bool = False) -> Selection:
    return Selection(hook_id=hook_id, until_ms=int(engine.now() * 1000) + 1, states=states, missing=missing)


async def finished(engine: EngineLab, identifier: str) -> int:
    facts = await engine.told("replay.ended")
    assert facts == {"replay": identifier, "state": "finished"}
    return (await engine.replays.get("default", identifier)).queued


async def test_a_replay_sends_everything_again_with_the_same_ids(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    hook_id = await engine.hook(receiver.url)
    receipts = [await engine.publish(100) for _ in range(12)]
    await receiver.received(1200)
    for _ in range(1200):
        await engine.next_attempt()
    wanted = selection(engine, hook_id, State.DELIVERED)

    count = await engine.replays.preview("default", wanted)
    job = await engine.replays.create("default", wanted, "admin")
    queued = await finished(engine, replay_id(job.key))
    requests = await receiver.received(2400)

    again = requests[1200:]
    assert count == queued == 1200
    assert {request.header("webhook-id") for request in again} == {
        one for receipt in receipts for one in receipt.event_ids
    }
    assert {request.header("x-embarc-replay") for request in again} == {"1"}


async def test_a_replay_goes_on_after_a_restart(store_url: str, receiver: ScriptedReceiver) -> None:
    first = await EngineLab(store_url).start()
    for _ in range(12):
        await first.publish(100)
    hook_id = await first.hook(receiver.url)
    await first.replays.stop()  # before it has begun
    job = await first.replays.create("default", selection(first, hook_id, missing=True), "admin")
    await first.stop()

    second = await EngineLab(store_url).start()
    queued = await finished(second, replay_id(job.key))
    requests = await receiver.received(1200)

    assert queued == 1200
    assert len({request.header("webhook-id") for request in requests}) == 1200
    await second.stop()


async def test_events_from_before_the_hook_existed_can_be_sent_and_only_those_it_wants(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    wanted = await engine.publish(2)
    await engine.publish(3, kind=EventKind("CLIENT", "UPDATE"))
    hook_id = await engine.hook(receiver.url)

    job = await engine.replays.create("default", selection(engine, hook_id, missing=True), "admin")
    requests = await receiver.received(2)

    assert await finished(engine, replay_id(job.key)) == 2
    assert {request.header("webhook-id") for request in requests} == set(wanted.event_ids)


async def test_a_replay_of_a_hook_that_is_deleted_ends_and_what_waits_for_it_is_cancelled(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    await engine.replays.stop()
    hook_id = await engine.hook(receiver.url)
    await engine.hooks.pause("default", str(hook_id))
    await engine.publish(450)
    job = await engine.replays.create("default", selection(engine, hook_id, missing=True), "admin")
    await engine.hooks.delete("default", str(hook_id))
    shown, _ = await engine.reader.deliveries("default", DeliveryFilter(hook_id=hook_id), None, 1)

    engine.replays.start()
    assert (await engine.told("replay.ended"))["state"] == ReplayState.CANCELLED
    await pruner(engine).round()

    found = await engine.store.list_deliveries(
        "default", DeliveryFilter(state=State.CANCELLED), before=None, limit=1000
    )
    assert (shown[0].standing, shown[0].held_because) == ("held", "the hook was deleted")
    assert len(found) == 450
    assert {record.reason for record in found} == {"the hook was deleted"}
    with pytest.raises(RuleViolation):
        await engine.replays.cancel("default", replay_id(job.key))
    with pytest.raises(NotFound):
        await engine.replays.create("default", selection(engine, hook_id, missing=True), "admin")


def pruner(engine: EngineLab) -> Pruner:
    return Pruner(
        engine.store,
        leads=lambda: True,
        observe=engine.observer,
        retention_days=30,
        attempt_retention_days=90,
    )


async def test_what_is_old_is_pruned_and_what_waits_is_not(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    pruned: list[Mapping[str, Any]] = []
    engine.observer.subscribe("history.pruned", pruned.append)
    done = await engine.hook(receiver.url)
    await engine.publish(450)
    await receiver.received(450)
    for _ in range(450):
        await engine.next_attempt()
    await engine.hooks.delete("default", str(done))
    paused = await engine.hook(receiver.url)
    await engine.hooks.pause("default", str(paused))
    await engine.publish(3)
    engine.later(91 * DAY)

    await pruner(engine).round()

    left = await engine.store.list_events("default", EventFilter(), before=None, limit=1000)
    assert len(left) == 3
    assert [(facts["events"], facts["attempts"]) for facts in pruned] == [(450, 450)]


async def test_a_replay_of_many_leaves_room_for_what_is_new(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    for _ in range(20):
        await engine.publish(100)
    hook_id = await engine.hook(receiver.url, rate_limit="200")
    job = await engine.replays.create("default", selection(engine, hook_id, missing=True), "admin")
    await finished(engine, replay_id(job.key))
    started = time.monotonic()

    receipt = await engine.publish(20)
    fresh = set(receipt.event_ids)
    async with asyncio.timeout(20):
        while fresh:
            settled = await engine.next_attempt()
            fresh.discard("evt_" + settlement_key(settled))

    # 2,000 replays at 200 a second are ten seconds' work; what is new went in between.
    assert len(receiver.requests) < 1000
    assert time.monotonic() - started < 8


def settlement_key(settled: object) -> str:
    return str(settled.claim.event_key.hex())  # type: ignore[attr-defined] # a Settlement


async def test_a_filter_chooses_among_events_and_one_that_cannot_say_sends(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    await engine.hook(receiver.url, filter="payload.clientId == 8")
    unsure_id = await engine.hook(receiver.url, filter="payload.loanId > 5")

    receipt = await engine.publish()
    (request,) = await receiver.received(1)

    assert receipt.deliveries == 1
    assert request.header("x-embarc-delivery").endswith(f"_{unsure_id}")
    (facts,) = [facts for name, facts in engine.facts if name == "filter.failed"]
    assert facts["hook"] == unsure_id
    assert "loanId" in facts["reason"]


async def test_a_thin_hook_gets_ids_only(engine: EngineLab, receiver: ScriptedReceiver) -> None:
    await engine.hook(receiver.url, payload="thin")

    await engine.publish()
    (request,) = await receiver.received(1)

    assert b'"request"' not in request.body
    assert request.body.endswith(b'"response":{"resourceId":7}}')
