"""Delivering: what is sent, what is recorded, when it is tried again."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import parse_qs

import pytest

from embarc.core.attempts import Result
from embarc.core.deliveries import State
from embarc.core.events import EventKind
from embarc.core.ids import delivery_id, parse_event_id
from embarc.receiver import verify
from embarc.testing.engine import EngineLab
from embarc.testing.receiver import ScriptedReceiver


async def test_what_was_sent_is_what_was_signed_is_what_is_stored(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    hook_id = await engine.hook(receiver.url)
    receipt = await engine.publish()

    (request,) = await receiver.received(1)
    await engine.next_attempt()

    story = await engine.reader.event("default", receipt.event_ids[0])
    hook = await engine.store.get_hook("default", hook_id)
    assert hook is not None
    assert request.body == story.record.event.payload
    assert b'"request":{"amount":1.00}' in request.body
    assert (
        verify(request.headers, request.body, [secret.text for secret in hook.secrets]).id
        == receipt.event_ids[0]
    )
    assert story.deliveries[0].standing == "delivered"


async def test_a_delivery_carries_every_header_that_is_promised(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    hook_id = await engine.hook(receiver.url)
    receipt = await engine.publish()

    (request,) = await receiver.received(1)

    key = parse_event_id(receipt.event_ids[0])
    assert key is not None
    assert request.method == "POST"
    assert request.target == "/hook"
    assert request.header("Content-Type") == "application/json; charset=UTF-8"
    assert request.header("User-Agent").startswith("Embarc/")
    assert request.header("webhook-id") == receipt.event_ids[0]
    assert request.header("X-Embarc-Event") == "CLIENT.CREATE"
    assert request.header("X-Embarc-Delivery") == delivery_id(key, hook_id)
    assert request.header("X-Embarc-Attempt") == "1"
    assert request.header("X-Fineract-Entity") == "CLIENT"
    assert request.header("X-Fineract-Action") == "CREATE"
    assert request.header("Fineract-Platform-TenantId") == "default"
    assert int(request.header("webhook-timestamp")) > 0
    assert "X-Embarc-Replay" not in dict(request.headers)


async def test_the_form_has_one_field_a_key_and_keeps_every_number(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    await engine.hook(receiver.url, content_type="form")
    await engine.publish()

    (request,) = await receiver.received(1)

    assert request.header("Content-Type") == "application/x-www-form-urlencoded"
    fields = parse_qs(request.body.decode(), strict_parsing=True)
    assert list(fields) == ["entityName", "actionName", "clientId", "timestamp", "request", "response"]
    assert fields["entityName"] == ["CLIENT"]
    assert fields["clientId"] == ["7"]
    assert fields["request"] == ['{"amount":1.00}']


async def test_a_failure_is_tried_again_with_the_same_id_and_a_new_timestamp(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    receiver.answers(500, 200)
    await engine.hook(receiver.url, retry_schedule="5,300")
    await engine.publish()
    first = await engine.next_attempt()

    engine.later(6)
    second = await engine.next_attempt()

    assert first.verdict.state is State.WAITING
    assert first.verdict.retry_in_seconds == 5
    assert second.verdict.state is State.DELIVERED
    one, two = receiver.requests
    assert one.header("webhook-id") == two.header("webhook-id")
    assert one.body == two.body
    assert (one.header("X-Embarc-Attempt"), two.header("X-Embarc-Attempt")) == ("1", "2")
    assert int(two.header("webhook-timestamp")) >= int(one.header("webhook-timestamp")) + 6


async def test_a_delivery_whose_retries_are_spent_is_exhausted_and_stays_listed(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    receiver.answers(500)
    await engine.hook(receiver.url, max_retries="1", retry_schedule="1")
    receipt = await engine.publish()
    await engine.next_attempt()
    engine.later(2)
    last = await engine.next_attempt()

    assert last.verdict.state is State.EXHAUSTED
    (view,) = (await engine.reader.event("default", receipt.event_ids[0])).deliveries
    assert (view.standing, view.record.attempts) == ("exhausted", 2)
    engine.later(1000)
    assert list(await engine.store.due()) == []


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (301, Result.STATUS),
        (404, Result.STATUS),
        ("drop", Result.RESET),
        (b"garbage\r\n\r\n", Result.PROTOCOL),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", Result.TIMEOUT),
    ],
)
async def test_everything_but_a_complete_2xx_is_a_failure_with_its_reason(
    engine: EngineLab, receiver: ScriptedReceiver, answer: int | str | bytes, result: Result
) -> None:
    receiver.answers(answer)
    await engine.hook(receiver.url, timeout_seconds="1")
    await engine.publish()

    settlement = await engine.next_attempt()

    assert settlement.attempt.outcome.result is result
    assert settlement.verdict.state is State.WAITING
    assert len(receiver.requests) == 1


async def test_a_redirect_is_not_followed(engine: EngineLab, receiver: ScriptedReceiver) -> None:
    target = receiver.url.replace("/hook", "/elsewhere")
    receiver.answers(f"HTTP/1.1 307 Moved\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode(), 200)
    await engine.hook(receiver.url)
    await engine.publish()

    settlement = await engine.next_attempt()

    assert settlement.attempt.outcome.status == 307
    assert [request.target for request in receiver.requests] == ["/hook"]


async def test_the_first_sixteen_kilobytes_of_the_answer_are_kept(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    receiver.answers(b"HTTP/1.1 200 OK\r\nX-Trace: abc\r\nContent-Length: 40000\r\n\r\n" + b"x" * 40_000)
    await engine.hook(receiver.url)
    receipt = await engine.publish()

    settlement = await engine.next_attempt()

    assert settlement.verdict.state is State.DELIVERED
    (view,) = (await engine.reader.event("default", receipt.event_ids[0])).deliveries
    _, (attempt,) = await engine.reader.delivery(
        "default", delivery_id(view.record.event_key, view.record.hook_id)
    )
    assert attempt.outcome.body == b"x" * 16_384
    assert ("X-Trace", "abc") in attempt.outcome.headers
    assert attempt.outcome.status == 200
    assert attempt.url == receiver.url
    assert attempt.outcome.duration_ms > 0


async def test_retry_after_puts_the_next_try_off(engine: EngineLab, receiver: ScriptedReceiver) -> None:
    receiver.answers(b"HTTP/1.1 503 Busy\r\nRetry-After: 14400\r\nContent-Length: 0\r\n\r\n")
    await engine.hook(receiver.url, retry_schedule="5")
    await engine.publish()

    settlement = await engine.next_attempt()

    assert settlement.verdict.retry_in_seconds is not None
    assert 14_400 <= settlement.verdict.retry_in_seconds <= 14_400 * 1.1


async def test_410_disables_the_hook_and_holds_what_waits(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    receiver.answers(410)
    hook_id = await engine.hook(receiver.url)
    disabled = asyncio.Event()
    engine.observer.subscribe("hook.disabled", lambda facts: disabled.set())
    receipt = await engine.publish()

    async with asyncio.timeout(10):
        await disabled.wait()

    hook = await engine.store.get_hook("default", hook_id)
    assert hook is not None
    assert not hook.is_active
    (view,) = (await engine.reader.event("default", receipt.event_ids[0])).deliveries
    assert (view.standing, view.held_because) == ("held", "the hook is not active")


async def test_an_inactive_hook_gets_nothing_and_what_waited_goes_out_when_it_is_active_again(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    receiver.answers(500, 200)
    hook_id = await engine.hook(receiver.url, retry_schedule="1")
    await engine.publish()
    await engine.next_attempt()
    await engine.hooks.update("default", str(hook_id), {"isActive": False})
    engine.later(10)
    receipt = await engine.publish()

    await engine.hooks.update("default", str(hook_id), {"isActive": True})
    engine.dispatcher.wake()
    settlement = await engine.next_attempt()

    assert receipt.deliveries == 0
    assert settlement.verdict.state is State.DELIVERED
    assert len(receiver.requests) == 2


async def test_a_changed_url_takes_what_waits_with_it(engine: EngineLab, receiver: ScriptedReceiver) -> None:
    receiver.answers(500, 200)
    hook_id = await engine.hook(receiver.url, retry_schedule="1")
    await engine.publish()
    await engine.next_attempt()
    config = {"Payload URL": receiver.url + "/new", "Content Type": "json"}
    await engine.hooks.update("default", str(hook_id), {"config": config})

    engine.later(2)
    await engine.next_attempt()

    assert [request.target for request in receiver.requests] == ["/hook", "/hook/new"]


async def test_wildcards_choose_by_entity_or_by_action(engine: EngineLab, receiver: ScriptedReceiver) -> None:
    body = {
        "name": "Web",
        "isActive": True,
        "events": [{"entityName": "LOAN", "actionName": "*"}, {"entityName": "*", "actionName": "ACTIVATE"}],
        "config": {"Payload URL": receiver.url, "Content Type": "json"},
    }
    await engine.hooks.create("default", body)

    counts = [
        (await engine.publish(kind=EventKind(*kind.split(".")))).deliveries
        for kind in ("LOAN.APPROVE", "CLIENT.ACTIVATE", "CLIENT.CREATE")
    ]

    assert counts == [1, 1, 0]


async def test_no_two_events_of_one_entity_have_the_same_timestamp(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    engine.observer.subscribe("submission.accepted", lambda facts: None)
    await engine.hook(receiver.url)
    await engine.publish(20)
    await asyncio.gather(*(engine.publish() for _ in range(20)))

    requests = await receiver.received(40)

    stamps = [json.loads(request.body)["timestamp"] for request in requests]
    assert len(set(stamps)) == 40


async def test_a_repeated_key_delivers_once(engine: EngineLab, receiver: ScriptedReceiver) -> None:
    await engine.hook(receiver.url)

    first = await engine.publish(key="k")
    again = await engine.publish(key="k")
    await engine.next_attempt()

    assert again.duplicate
    assert again.event_ids == first.event_ids
    assert len(receiver.requests) == 1
