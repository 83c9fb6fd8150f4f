"""An engine and a receiver."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from embarc.testing.engine import EngineLab
from embarc.testing.receiver import ScriptedReceiver


@pytest.fixture
async def receiver() -> AsyncIterator[ScriptedReceiver]:
    async with ScriptedReceiver() as opened:
        yield opened


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[EngineLab]:
    started = await EngineLab(tmp_path / "embarc.db").start()
    yield started
    await started.stop()
