"""What only the embedded store promises: its file, its settings, its writer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from embarc.core.attempts import Result
from embarc.core.errors import SettingsError, StoreUnavailable
from embarc.core.hooks import Endpoint
from embarc.store.migrate import Migration, MigrationError, load_migrations, pending
from embarc.store.sqlite.store import SqliteStore
from embarc.store.sqlite.writer import Writer, connect
from embarc.testing.clock import ManualClock
from embarc.testing.lab import Factory, every_class


async def opened(path: Path) -> SqliteStore:
    return await SqliteStore.open(path, parse_endpoint=lambda config: Endpoint(url=config["Payload URL"]))


def write(writer: Writer, work: Callable[[apsw.Connection], object]) -> asyncio.Future[object]:
    return writer.submit(lambda connection, works: [work(connection) for work in works], work)


async def test_a_database_in_use_is_refused_with_the_way_out(tmp_path: Path) -> None:
    store = await opened(tmp_path / "embarc.db")

    with pytest.raises(SettingsError, match="in use by another Embarc process"):
        await opened(tmp_path / "embarc.db")

    await store.close()
    await (await opened(tmp_path / "embarc.db")).close()


def test_an_answered_commit_is_synced_to_the_disk(tmp_path: Path) -> None:
    connection = connect(tmp_path / "embarc.db")

    assert connection.pragma("journal_mode") == "wal"
    assert connection.pragma("synchronous") == 2
    connection.close()


def test_the_library_has_the_fix_of_the_wal_reset_bug() -> None:
    assert tuple(map(int, apsw.sqlite_lib_version().split("."))) >= (3, 51, 3)


async def test_what_a_process_held_when_it_ended_is_due_as_soon_as_another_opens_the_database(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    store = await opened(tmp_path / "embarc.db")
    event = Factory(clock).event()
    await store.publish(Factory(clock).publication(event, hooks=(1,), token=5), lease_seconds=60)
    await store.close()

    store = await opened(tmp_path / "embarc.db")

    (claim,) = await store.claim(every_class({1: 1}), lease_seconds=60, lease_token=6)
    assert (claim.event_key, claim.attempts) == (event.key, 1)
    (lost,) = await store.list_attempts("default", event.key, 1)
    assert lost.outcome.result is Result.LOST
    await store.close()


async def test_a_closed_store_is_one_file_and_its_key(tmp_path: Path) -> None:
    store = await opened(tmp_path / "embarc.db")
    await store.add_hook(Factory(ManualClock()).hook())
    await store.close()

    assert {file.name for file in tmp_path.iterdir()} == {"embarc.db", "embarc.db.key", "embarc.db.lock"}


async def test_secrets_are_not_readable_in_the_file(tmp_path: Path) -> None:
    store = await opened(tmp_path / "embarc.db")
    await store.add_hook(Factory(ManualClock()).hook())
    await store.close()

    content = b"".join(file.read_bytes() for file in tmp_path.glob("embarc.db*") if file.suffix != ".key")

    assert b"https://example.com/hook" in content
    assert b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" not in content


async def test_a_failing_piece_of_work_does_not_fail_the_others_of_its_commit(tmp_path: Path) -> None:
    writer = Writer(connect(tmp_path / "w.db"))
    await write(writer, lambda connection: connection.execute("create table t (x integer primary key)"))

    def insert(value: int) -> asyncio.Future[object]:
        return write(writer, lambda connection: connection.execute("insert into t values (?)", (value,)))

    answers = await asyncio.gather(*(insert(value) for value in (1, 2, 2, 3)), return_exceptions=True)

    assert [type(answer) for answer in answers].count(apsw.ConstraintError) == 1
    found = await write(writer, lambda connection: connection.execute("select x from t").fetchall())
    assert found == [(1,), (2,), (3,)]
    await writer.close()


async def test_a_full_disk_refuses_for_now_and_recovers(tmp_path: Path) -> None:
    connection = connect(tmp_path / "w.db")
    writer = Writer(connection)
    await write(writer, lambda connection: connection.execute("create table t (x blob)"))
    connection.pragma("max_page_count", 5)

    with pytest.raises(StoreUnavailable) as refused:
        await write(writer, lambda connection: connection.execute("insert into t values (zeroblob(100000))"))
    connection.pragma("max_page_count", 1_000_000)
    await write(writer, lambda connection: connection.execute("insert into t values (zeroblob(100000))"))

    assert refused.value.retry_after_seconds
    assert await write(writer, lambda connection: connection.execute("select count(*) from t").get) == 1
    await writer.close()


async def test_after_an_error_of_the_disk_nothing_is_accepted_any_more(tmp_path: Path) -> None:
    told: list[str] = []
    writer = Writer(connect(tmp_path / "w.db"), told.append)

    def breaks(connection: apsw.Connection) -> None:
        raise apsw.IOError("IOError: disk I/O error")

    with pytest.raises(StoreUnavailable):
        await write(writer, breaks)
    with pytest.raises(StoreUnavailable, match="stops accepting"):
        await write(writer, lambda connection: connection.execute("create table t (x)"))

    assert len(told) == 1
    await writer.close()


async def test_closing_commits_what_was_submitted(tmp_path: Path) -> None:
    writer = Writer(connect(tmp_path / "w.db"))
    created = write(writer, lambda connection: connection.execute("create table t (x)"))

    await writer.close()

    assert created.done()
    with pytest.raises(StoreUnavailable):
        write(writer, lambda connection: None)


def test_a_migration_that_was_edited_after_it_was_applied_is_refused() -> None:
    (first, *_) = load_migrations("embarc.store.sqlite")
    edited = Migration(first.number, first.name, first.sql + "-- a change")

    assert pending([first], {first.number: first.checksum}) == []
    with pytest.raises(MigrationError, match="was changed"):
        pending([edited], {first.number: first.checksum})
    with pytest.raises(MigrationError, match="newer Embarc"):
        pending([first], {first.number: first.checksum, 999: "x"})
