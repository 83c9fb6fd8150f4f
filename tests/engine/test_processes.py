"""Two engines over one PostgreSQL, as two processes have it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from embarc.core.ids import delivery_id, parse_event_id
from embarc.core.replays import ReplayState, Selection
from embarc.engine.replay import Replayer
from embarc.testing.engine import EngineLab
from embarc.testing.receiver import ScriptedReceiver


@pytest.fixture
async def engines(postgres_url: str) -> AsyncIterator[tuple[EngineLab, EngineLab]]:
    first, second = [await EngineLab(postgres_url).start() for _ in range(2)]
    yield first, second
    await first.stop()
    await second.stop()


async def test_an_event_reaches_a_hook_that_another_process_has_just_made(
    engines: tuple[EngineLab, EngineLab], receiver: ScriptedReceiver
) -> None:
    here, elsewhere = engines
    await here.publish()
    await elsewhere.hook(receiver.url)

    receipt = await here.publish()

    assert receipt.deliveries == 1
    (request,) = await receiver.received(1)
    assert request.header("webhook-id") == receipt.event_ids[0]


async def test_an_event_does_not_wait_for_a_hook_that_another_process_has_deleted(
    engines: tuple[EngineLab, EngineLab], receiver: ScriptedReceiver
) -> None:
    here, elsewhere = engines
    hook_id = await here.hook(receiver.url)
    await elsewhere.registry.refresh()
    await elsewhere.hooks.delete("default", str(hook_id))

    receipt = await here.publish()

    assert receipt.deliveries == 0


@pytest.mark.parametrize("maker", [0, 1])
async def test_a_replay_for_a_hook_that_another_process_has_just_made_sends_what_it_selects(
    engines: tuple[EngineLab, EngineLab], receiver: ScriptedReceiver, maker: int
) -> None:
    """The process that worked on it took the hook for a deleted one, and ended the replay with nothing sent."""
    here, elsewhere = engines
    receipt = await here.publish()
    hook_id = await elsewhere.hook(receiver.url)
    missed = Selection(hook_id=hook_id, until_ms=int(here.now() * 1000) + 1, states=(), missing=True)

    counted = await here.replays.preview("default", missed)
    job = await engines[maker].replays.create("default", missed, "admin")
    (request,) = await receiver.received(1)

    assert counted == 1
    assert request.header("webhook-id") == receipt.event_ids[0]
    told = await here.store.get_replay("default", job.key)
    assert told is not None
    assert told.state is not ReplayState.CANCELLED


async def test_a_delivery_to_a_hook_that_another_process_has_just_made_can_be_replayed_here(
    engines: tuple[EngineLab, EngineLab], receiver: ScriptedReceiver
) -> None:
    """It was refused: the hook was said to be deleted."""
    here, elsewhere = engines
    hook_id = await elsewhere.hook(receiver.url)
    receipt = await elsewhere.publish()
    event_key = parse_event_id(receipt.event_ids[0])
    assert event_key is not None
    replayer = Replayer(here.store, here.registry, here.dispatcher.wake)

    await replayer.replay("default", delivery_id(event_key, hook_id))
    requests = await receiver.received(1)  # by whichever of the two works for the hook

    assert {request.header("webhook-id") for request in requests} == set(receipt.event_ids)
