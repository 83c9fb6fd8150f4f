"""The schema moves on while processes of the version before still run: they are not disturbed, and hardly made to wait."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from embarc.core.errors import StoreUnavailable
from embarc.core.submissions import Receipt
from embarc.store.migrate import Migration, load_migrations
from embarc.store.postgres import database
from embarc.store.postgres.connections import Address, Connections
from embarc.store.postgres.database import PACKAGE, migrate
from embarc.store.postgres.publications import Publishing
from embarc.store.queries import parse_queries
from embarc.testing.clock import ManualClock
from embarc.testing.lab import Factory
from embarc.testing.postgres import Databases

BEFORE = Path(__file__).parents[1] / "data" / "postgres"
FIRST = load_migrations(PACKAGE)[0]
LOCK_SECONDS = 3.0
"""For so long a migration waits for a lock, and others behind it."""
LEASE = 60.0


def statements_of(file: str) -> dict[str, str]:
    """What a version before had, each with the places filled that depend on a filter."""
    found = parse_queries((BEFORE / file).read_text())
    return {name: sql.replace("{where}", "true").replace("{limit}", "1") for name, sql in found.items()}


@pytest.fixture
async def url(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A database as the first version left it."""
    url = await databases.empty()
    with monkeypatch.context() as patched:
        patched.setattr(database, "load_migrations", lambda package: [FIRST])
        await migrate(url)
    yield url
    await databases.drop(url)


class Process:
    """A process of the first version, as far as the database sees it: its statements on a connection that it keeps."""

    def __init__(self, url: str, statements: dict[str, str]) -> None:
        self._connections = Connections(Address.parse(url), 1)
        self._publishing = Publishing(self._connections, statements, lambda: None)
        self._make = Factory(ManualClock(time.time()))
        self.longest_wait = 0.0
        self.accepted = 0

    async def publish(self) -> None:
        began = time.monotonic()
        publication = self._make.publication(self._make.event(), hooks=(1,), key=str(self.accepted))
        (answer,) = await self._publishing.run([(publication, LEASE)])
        assert isinstance(answer, Receipt)
        self.accepted += 1
        self.longest_wait = max(self.longest_wait, time.monotonic() - began)

    async def publish_until(self, is_over: asyncio.Event) -> None:
        while not is_over.is_set():
            await self.publish()
            await asyncio.sleep(0)

    async def close(self) -> None:
        await self._connections.close()


@pytest.mark.parametrize("file", sorted(path.name for path in BEFORE.glob("*.sql")))
async def test_every_statement_of_versions_before_is_understood_by_the_schema_of_today(
    url: str, file: str
) -> None:
    connection = await asyncpg.connect(url)
    statements = statements_of(file)
    before = {name: await connection.prepare(sql) for name, sql in statements.items()}

    await migrate(url)
    after = {name: await connection.prepare(sql) for name, sql in statements.items()}
    columns = [
        {name: [column.name for column in one.get_attributes()] for name, one in prepared.items()}
        for prepared in (before, after)
    ]
    found = {name: await one.fetch() for name, one in before.items() if not one.get_parameters()}
    await connection.close()

    assert len(after) > 40
    assert columns[0] == columns[1]
    assert found["hooks_revision"][0]["revision"] == 1


async def test_a_process_of_the_version_before_goes_on_while_the_schema_moves_on(url: str) -> None:
    process = Process(url, statements_of("queries_0001.sql"))
    await process.publish()
    is_over = asyncio.Event()
    publishing = asyncio.create_task(process.publish_until(is_over))

    applied = await migrate(url)
    is_over.set()
    await publishing
    for _ in range(20):
        await process.publish()
    await process.close()
    connection = await asyncpg.connect(url)
    stored = await connection.fetchval("select count(*) from events")
    await connection.close()

    assert [one.number for one in applied] == [one.number for one in load_migrations(PACKAGE)[1:]]
    assert stored == process.accepted
    assert process.longest_wait < LOCK_SECONDS


async def test_a_migration_that_waits_for_a_reader_gives_up_before_whoever_waits_behind_it_suffers(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rough = Migration(9, "rough", "alter table deliveries add column more integer")
    monkeypatch.setattr(database, "load_migrations", lambda package: [FIRST, rough])
    process = Process(url, statements_of("queries_0001.sql"))
    await process.publish()
    reader = await asyncpg.connect(url)
    is_over = asyncio.Event()

    async with reader.transaction():
        await reader.fetchval("select count(*) from deliveries")
        publishing = asyncio.create_task(process.publish_until(is_over))
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            await migrate(url)
        is_over.set()
        await publishing
    await process.close()
    left = await reader.fetch("select number from migrations")
    applied = await migrate(url)
    await reader.close()

    assert process.longest_wait < LOCK_SECONDS + 1.5
    assert [row[0] for row in left] == [1]
    assert [one.number for one in applied] == [9]


async def test_a_dry_run_tells_what_would_be_done_and_does_nothing(url: str) -> None:
    def run(*more: str) -> list[str]:
        command = [str(Path(sys.executable).with_name("embarc")), "migrate", "--store", url, *more]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    names = [f"{one.number:04d}_{one.name}" for one in load_migrations(PACKAGE)[1:]]

    twice = [await asyncio.to_thread(run, "--dry-run") for _ in range(2)]
    done = await asyncio.to_thread(run)
    again = await asyncio.to_thread(run)

    assert twice == [[*(f"{name} (not applied)" for name in names), f"{len(names)} to apply"]] * 2
    assert done == [*names, f"{len(names)} applied"]
    assert again == ["0 applied"]
