"""The backends that the store contract is run on. A second one is a second lab and one more parameter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from embarc.core.hooks import Endpoint
from embarc.store.base import Store
from embarc.store.sqlite.store import SqliteStore
from embarc.testing.clock import ManualClock
from embarc.testing.lab import Factory, StoreLab


def endpoint_of(config: dict[str, str]) -> Endpoint:
    return Endpoint(url=config["Payload URL"])


class SqliteLab:
    def __init__(self, path: Path, clock: ManualClock) -> None:
        self.path = path
        self.clock = clock
        self.store: Store

    async def open(self) -> SqliteLab:
        self.store = await SqliteStore.open(self.path, parse_endpoint=endpoint_of, clock=self.clock.now)
        return self

    async def reopen(self) -> Store:
        await self.store.close()
        return (await self.open()).store


@pytest.fixture(params=["sqlite"])
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreLab]:
    opened = await SqliteLab(tmp_path / "embarc.db", ManualClock()).open()
    yield opened
    await opened.store.close()


@pytest.fixture
def store(lab: StoreLab) -> Store:
    return lab.store


@pytest.fixture
def clock(lab: StoreLab) -> ManualClock:
    return lab.clock


@pytest.fixture
def make(clock: ManualClock) -> Factory:
    return Factory(clock)
