"""What is known of an endpoint: told as events, kept over restarts, and in the end the hook is disabled."""

from __future__ import annotations

import json

from embarc.core.events import EventKind
from embarc.core.pacing import BreakerState
from embarc.store.base import DeliveryFilter
from embarc.testing.engine import EngineLab
from embarc.testing.receiver import ScriptedReceiver

DAY = 86_400
DOWN = (500,) * 5
"""What makes the breaker open."""


async def watching(engine: EngineLab, url: str) -> int:
    body = {
        "name": "Web",
        "isActive": True,
        "events": [{"entityName": "HOOK", "actionName": "*"}],
        "config": {"Payload URL": url, "Content Type": "json"},
    }
    return (await engine.hooks.create("default", body)).hook.id


async def test_an_endpoint_that_fails_and_recovers_is_told_about_to_whoever_subscribes(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    async with ScriptedReceiver() as watcher:
        await watching(engine, watcher.url)
        receiver.answers(*DOWN, 200)
        hook_id = await engine.hook(receiver.url, concurrency="1", retry_schedule="3600")
        await engine.publish(6)
        await engine.told("hook.failing")
        failing_hook = await engine.hooks.get("default", str(hook_id))
        engine.later(40)
        await engine.told("hook.recovered")

        first, second = await watcher.received(2)
        payloads = [json.loads(request.body) for request in (first, second)]

    assert [payload["actionName"] for payload in payloads] == ["FAILING", "RECOVERED"]
    assert payloads[0]["response"]["resourceId"] == hook_id
    assert payloads[0]["response"]["reason"] == "the last attempt was answered 500"
    assert failing_hook.failing_since_ms is not None
    assert (await engine.hooks.get("default", str(hook_id))).failing_since_ms is None


async def test_a_failing_endpoint_is_still_known_as_such_after_a_restart_and_begins_with_a_probe(
    store_url: str, receiver: ScriptedReceiver
) -> None:
    receiver.answers(*DOWN, 200)
    first = await EngineLab(store_url).start()
    hook_id = await first.hook(receiver.url, concurrency="1", retry_schedule="3600")
    await first.publish(10)
    await first.told("hook.failing")
    await first.stop()

    second = EngineLab(store_url)
    await second.start()
    await receiver.received(6)
    await second.told("hook.recovered")

    assert second.dispatcher.condition(hook_id).breaker is BreakerState.CLOSED
    await second.stop()


async def test_five_days_without_one_success_disable_the_hook_and_lose_nothing(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    async with ScriptedReceiver() as watcher:
        await watching(engine, watcher.url)
        receiver.answers(500)
        hook_id = await engine.hook(receiver.url, concurrency="1", retry_schedule="3600", max_retries="50")
        await engine.publish(5)
        await engine.told("hook.failing")
        engine.later(4.9 * DAY)
        await receiver.received(6)
        still = await engine.hooks.get("default", str(hook_id))
        engine.later(0.2 * DAY)
        reason = (await engine.told("hook.disabled"))["reason"]
        requests = await watcher.received(2)
        page, _ = await engine.reader.deliveries("default", DeliveryFilter(hook_id=hook_id), None, 20)
    hook = await engine.hooks.get("default", str(hook_id))

    assert still.is_active
    assert not hook.is_active
    assert reason == hook.inactive_because == "no attempt has succeeded for 5 days"
    assert [request.header("x-embarc-event") for request in requests] == ["HOOK.FAILING", "HOOK.DISABLED"]
    assert {view.standing for view in page} == {"held"}
    assert len(page) == 5


async def test_enabling_begins_with_a_clean_record(engine: EngineLab, receiver: ScriptedReceiver) -> None:
    receiver.answers(410, 200)
    hook_id = await engine.hook(receiver.url)
    await engine.publish()
    await engine.told("hook.disabled")
    disabled = await engine.hooks.get("default", str(hook_id))

    enabled = await engine.hooks.enable("default", str(hook_id))
    engine.dispatcher.wake()
    await receiver.received(2)

    assert disabled.inactive_because == "the receiver answered 410 Gone"
    assert disabled.inactive_since_ms is not None
    assert (enabled.inactive_since_ms, enabled.inactive_because, enabled.failing_since_ms) == (None, "", None)


async def test_what_a_disabled_hook_missed_is_sent_when_it_is_asked_for(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    receiver.answers(410, 200)
    hook_id = await engine.hook(receiver.url)
    await engine.publish()
    await engine.told("hook.disabled")
    disabled = await engine.hooks.get("default", str(hook_id))
    missed_receipt = await engine.publish(3)
    await engine.publish(kind=EventKind("CLIENT", "UPDATE"))  # not subscribed to

    hook = await engine.hooks.enable("default", str(hook_id))
    assert disabled.inactive_since_ms is not None
    missed = engine.replays.missed(hook, disabled.inactive_since_ms)
    count = await engine.replays.preview("default", missed)
    await engine.replays.create("default", missed, "admin")
    engine.dispatcher.wake()
    requests = await receiver.received(5)

    assert missed_receipt.deliveries == 0
    assert count == 3
    sent = [request.header("webhook-id") for request in requests[1:]]
    assert set(missed_receipt.event_ids) < set(sent)
    assert len(sent) == 4


async def test_nothing_is_sent_between_410_and_the_disabling_of_its_hook(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    """The delivery was due at once, and went out again while the hook was still being disabled."""
    receiver.answers(410, 200)
    hook_id = await engine.hook(receiver.url, concurrency="1")

    await engine.publish(5)
    await engine.told("hook.disabled")

    assert len(receiver.requests) == 1
    waiting = await engine.store.count_waiting(hook_id, at_most=10)
    assert sum(count for count, _ in waiting.values()) == 5
