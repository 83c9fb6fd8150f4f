"""A hundred hooks, ten of them dead: the others do not notice. (`make bench-isolation` has the numbers.)"""

from __future__ import annotations

import asyncio

from embarc.core.events import EventKind
from embarc.core.submissions import Draft, Submission
from embarc.testing.engine import EngineLab
from embarc.testing.receiver import ScriptedReceiver

HOOKS = 100
HANGING = 5
DRIPPING = 5
EVENTS = 1000
RATE = 200


def kind(number: int) -> EventKind:
    return EventKind("CLIENT", f"ACTION{number}")


async def add_hook(engine: EngineLab, url: str, number: int) -> int:
    body = {
        "name": "Web",
        "isActive": True,
        "events": [{"entityName": "CLIENT", "actionName": kind(number).action_name}],
        "config": {"Payload URL": url, "Content Type": "json", "Timeout Seconds": "30"},
    }
    return (await engine.hooks.create("default", body)).hook.id


async def test_ninety_hooks_get_everything_while_ten_others_are_stuck(store_url: str) -> None:
    engine = await EngineLab(store_url, is_open_catalogue=True).start()
    async with (
        ScriptedReceiver().answers("hang") as hanging,
        ScriptedReceiver().answers("drip") as dripping,
        ScriptedReceiver() as alive,
    ):
        urls = [hanging.url] * HANGING + [dripping.url] * DRIPPING
        urls += [alive.url] * (HOOKS - len(urls))
        hook_ids = [await add_hook(engine, url, number) for number, url in enumerate(urls)]

        for number in range(EVENTS):
            draft = Draft(kind=kind(number % HOOKS), ids={"clientId": number})
            await engine.publisher.publish(Submission(tenant="default", drafts=(draft,)))
            await asyncio.sleep(1 / RATE)
        requests = await alive.received(EVENTS * 90 // HOOKS)

        # Not one of the stuck attempts has ended, and they have all that they may have.
        dead = hook_ids[: HANGING + DRIPPING]
        conditions = [engine.dispatcher.condition(hook_id) for hook_id in dead]
        assert len({request.header("webhook-id") for request in requests}) == EVENTS * 90 // HOOKS
        assert all(condition.in_flight == 10 for condition in conditions)
        settled = [(await engine.next_attempt()).claim.hook_id for _ in range(EVENTS * 90 // HOOKS)]
        assert not set(settled) & set(dead)
        await engine.transport.close()
    await engine.stop()
