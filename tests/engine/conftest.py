"""An engine and a receiver."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from embarc.testing.engine import EngineLab
from embarc.testing.receiver import ScriptedReceiver


@pytest.fixture
async def receiver() -> AsyncIterator[ScriptedReceiver]:
    async with ScriptedReceiver() as opened:
        yield opened


@pytest.fixture
async def engine(store_url: str) -> AsyncIterator[EngineLab]:
    started = await EngineLab(store_url).start()
    yield started
    await started.stop()
