"""The installed command as a process, and a receiver beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from embarc.testing.process import ServiceProcess
from embarc.testing.receiver import ScriptedReceiver


@pytest.fixture
async def receiver() -> AsyncIterator[ScriptedReceiver]:
    async with ScriptedReceiver() as opened:
        yield opened


@pytest.fixture
def service(tmp_path: Path, store_url: str) -> Iterator[ServiceProcess]:
    started = ServiceProcess(tmp_path, store=store_url)
    yield started
    if started.process.poll() is None:
        assert started.stop() == 0
