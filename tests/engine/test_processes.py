"""Two engines over one PostgreSQL, as two processes have it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

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
