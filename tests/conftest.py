"""PostgreSQL for whichever test asks for it: one server for all of them, a database for each. Properties are not timed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from embarc.testing.postgres import Databases, PostgresServer, given_url

# How long an example takes says nothing on a machine that others use too.
settings.register_profile("embarc", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("embarc")


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    if url := given_url():
        given = Databases(url)
        yield given
        asyncio.run(given.close())
        return
    server = PostgresServer()
    yield Databases(server.start().url)
    server.close()


@pytest.fixture
async def postgres_url(databases: Databases) -> AsyncIterator[str]:
    url = await databases.fresh()
    yield url
    await databases.drop(url)


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'embarc.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url
