"""The backends that the store contract is run on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from embarc.core.hooks import Endpoint
from embarc.store.base import Store
from embarc.store.sqlite.store import SqliteStore
from embarc.testing.clock import ManualClock
from embarc.testing.lab import Factory, StoreLab
from embarc.testing.postgres import Databases, open_store


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


class PostgresLab:
    def __init__(self, url: str, clock: ManualClock) -> None:
        self.url = url
        self.clock = clock
        self.store: Store

    async def open(self) -> PostgresLab:
        self.store = await open_store(self.url, clock=self.clock)
        return self

    async def reopen(self) -> Store:
        await self.store.close()
        return (await self.open()).store


@pytest.fixture
async def sqlite_lab(tmp_path: Path) -> AsyncIterator[StoreLab]:
    opened = await SqliteLab(tmp_path / "embarc.db", ManualClock()).open()
    yield opened
    await opened.store.close()


@pytest.fixture
async def postgres_lab(databases: Databases) -> AsyncIterator[StoreLab]:
    url = await databases.fresh()
    opened = await PostgresLab(url, ManualClock()).open()
    yield opened
    await opened.store.close()
    await databases.drop(url)


@pytest.fixture(params=["sqlite", "postgres"])
def lab(request: pytest.FixtureRequest) -> StoreLab:
    opened: StoreLab = request.getfixturevalue(f"{request.param}_lab")
    return opened


@pytest.fixture
def store(lab: StoreLab) -> Store:
    return lab.store


@pytest.fixture
def clock(lab: StoreLab) -> ManualClock:
    return lab.clock


@pytest.fixture
def make(clock: ManualClock) -> Factory:
    return Factory(clock)
