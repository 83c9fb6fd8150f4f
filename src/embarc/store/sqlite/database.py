"""The database file: one writer, any number of readers (see `writer.py`), and the lock that keeps others out."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import apsw

from embarc.core.errors import SettingsError, StoreUnavailable
from embarc.store.migrate import load_migrations, pending
from embarc.store.queries import load_queries
from embarc.store.sqlite.moved import refuse_moved
from embarc.store.sqlite.writer import Writer, connect

T = TypeVar("T")
PACKAGE = "embarc.store.sqlite"
_READERS = 2


class Database:
    """What the parts of the store have in common: named statements, a way to write, a way to read.

    With `inline`, everything runs in the loop's own thread, so that a simulation is the same each time it runs.
    """

    _may_be_moved = False
    """Whether a database that was copied to another store may be opened all the same."""

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float],
        *,
        on_broken: Callable[[str], None] | None = None,
        inline: bool = False,
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._clock = clock
        self._inline = inline
        if not self._may_be_moved:
            refuse_moved(path)
        self._lock_file = _lock(path)
        self._sql = load_queries(PACKAGE)
        # For its owner only, and the log beside it likewise.
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        connection = connect(path, durable=not inline)
        _migrate(connection, self._now())
        self._writer = Writer(connection, on_broken, inline=inline)
        self._reader = threading.local()
        self._reader_connections: list[apsw.Connection] = []
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="embarc-store-reader")

    def _now(self) -> int:
        return int(self._clock() * 1000)

    async def _write(self, work: Callable[[apsw.Connection], T]) -> T:
        return await self._writer.submit(_each, work)

    async def _change(self, query: str, values: Callable[[int], tuple[Any, ...]]) -> bool:
        def work(connection: apsw.Connection) -> bool:
            connection.execute(self._sql[query], values(self._now()))
            return connection.changes() > 0

        return await self._write(work)

    def _change_remembered(self, connection: apsw.Connection, query: str, values: tuple[Any, ...]) -> bool:
        """Change what processes remember (a hook, who may call), and let them notice."""
        connection.execute(self._sql[query], values)
        is_changed = connection.changes() > 0
        if is_changed:
            connection.execute(self._sql["raise_hooks_revision"])
        return is_changed

    async def _change_and_tell(self, query: str, values: Callable[[int], tuple[Any, ...]]) -> bool:
        return await self._write(
            lambda connection: self._change_remembered(connection, query, values(self._now()))
        )

    async def _rows(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        return await self._read(lambda connection: connection.execute(self._sql[query], values).fetchall())

    async def _filtered(
        self, query: str, conditions: list[tuple[str, Any]], limit: int, first: tuple[Any, ...] = ()
    ) -> list[Any]:
        """The rows that meet every condition whose value is not None; a tuple fills several places."""
        used = [(condition, value) for condition, value in conditions if value is not None]
        where = " and ".join(condition for condition, _ in used)
        values = [one for _, value in used for one in (value if isinstance(value, tuple) else (value,))]
        sql = self._sql[query].format(where=where)
        return await self._read(
            lambda connection: connection.execute(sql, (*first, *values, limit)).fetchall()
        )

    async def _read(self, read: Callable[[apsw.Connection], T]) -> T:
        if self._inline:
            return self._with_reader(read)
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._with_reader, read)

    def _with_reader(self, read: Callable[[apsw.Connection], T]) -> T:
        connection = getattr(self._reader, "connection", None)
        if connection is None:
            connection = self._reader.connection = connect(self._path, read_only=True)
            self._reader_connections.append(connection)
        try:
            return read(connection)
        except (apsw.IOError, apsw.BusyError, apsw.CantOpenError) as error:
            raise StoreUnavailable(f"The store cannot be read: {error}.") from error

    async def _close(self) -> None:
        # The writer last: SQLite empties the log into the database when its last connection is closed, if that may write.
        self._readers.shutdown()
        for connection in self._reader_connections:
            connection.close()
        await self._writer.close()
        self._lock_file.close()


def _each(connection: apsw.Connection, works: Sequence[Callable[[apsw.Connection], Any]]) -> list[Any]:
    return [work(connection) for work in works]


def _lock(path: Path) -> Any:
    """Hold the database for this process alone: a second dispatcher would deliver twice."""
    lock_file = open(path.with_name(path.name + ".lock"), "w")  # noqa: SIM115 - held open as long as the store
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock_file.close()
        raise SettingsError(
            f"{path} is in use by another Embarc process. Stop that one, or give this one another --store."
        ) from None
    return lock_file


def _migrate(connection: apsw.Connection, now_ms: int) -> None:
    connection.execute(
        "create table if not exists migrations "
        "(number integer primary key, name text not null, checksum text not null, applied_at_ms integer not null) strict"
    )
    rows_applied: list[Any] = connection.execute("select number, checksum from migrations").fetchall()
    applied = dict(rows_applied)
    for migration in pending(load_migrations(PACKAGE), applied):
        with connection:  # a savepoint: schema changes are transactional in SQLite
            connection.execute(migration.sql)
            connection.execute(
                "insert into migrations values (?, ?, ?, ?)",
                (migration.number, migration.name, migration.checksum, now_ms),
            )
