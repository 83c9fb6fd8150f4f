"""The one writer of the database file, with group commit.

Rules of this file:
* One thread and one connection write and checkpoint. SQLite before 3.51.3 could corrupt a WAL when two did,
  and a second writer would only wait for the first anyway.
* While one commit runs, work gathers; the next transaction takes all of it. Under load a commit is shared by
  dozens of callers, and `synchronous=FULL` costs next to nothing.
* Items of one kind are run together (`Run` gets a list), so that a statement serves many of them: each statement
  gives up the interpreter's lock and has to win it back from a busy loop, which costs more than the statement.
* An item that fails must not fail its neighbours: the shared transaction is rolled back and each item runs again in
  one of its own. So a run is written to be safe to repeat: it only touches the database.
* Nobody is told of success before COMMIT has returned.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import apsw

from embarc.core.errors import EmbarcError, StoreUnavailable

Item = TypeVar("Item")
Result = TypeVar("Result")
Run = Callable[[apsw.Connection, Sequence[Item]], Sequence[Result]]
"""Does its work for several items; a result for each, in their order."""
_Waiting = tuple[Run[Any, Any], Any, "asyncio.Future[Any]"]

# Pages between checkpoints: each one costs two syncs of the database file, and 16 MB of WAL are read back fast.
_CHECKPOINT_PAGES = 4000
_CACHE_KIB = 32 * 1024
RETRY_AFTER_SECONDS = 5

# Seconds to let work gather before a commit, by the size of the last one. Someone who is alone does not wait; under load
# a larger group costs everybody less, and the loop keeps the interpreter's lock meanwhile.
_BUSY_FROM = 3
_WINDOW_PER_ITEM = 0.000_1
_LONGEST_WINDOW = 0.004


def connect(path: Path, *, read_only: bool = False, durable: bool = True) -> apsw.Connection:
    """A connection with the settings that make an answered commit durable (WAL, synchronous=FULL), unless a simulation
    has no use for that."""
    flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    connection = apsw.Connection(str(path), flags=flags, statementcachesize=200)
    connection.set_busy_timeout(10_000)
    if not read_only:
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full" if durable else "off")
        connection.pragma("wal_autocheckpoint", _CHECKPOINT_PAGES)
        connection.pragma("journal_size_limit", 64 * 1024 * 1024)
    connection.pragma("cache_size", -_CACHE_KIB)
    connection.pragma("temp_store", "memory")
    connection.pragma("trusted_schema", 0)
    return connection


class Writer:
    """Runs what is submitted in shared transactions, items of one kind in the order of submission."""

    def __init__(
        self,
        connection: apsw.Connection,
        on_broken: Callable[[str], None] | None = None,
        *,
        inline: bool = False,
    ) -> None:
        self._connection = connection
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Waiting] = []
        self._has_work = threading.Event()
        self._closing = False
        self._broken: str | None = None
        self._inline = inline
        self._thread = threading.Thread(target=self._run, name="embarc-store-writer", daemon=True)
        if not inline:
            self._thread.start()

    def submit(self, run: Run[Item, Result], item: Item) -> asyncio.Future[Result]:
        """The item's result, once it is committed. Call from the loop's thread only."""
        if self._closing:
            raise StoreUnavailable("The store is closed.")
        future: asyncio.Future[Result] = self._loop.create_future()
        if self._inline and not self._waiting:
            self._loop.call_soon(self._run_inline)
        self._waiting.append((run, item, future))  # list.append is atomic: the writer swaps the whole list
        if not self._has_work.is_set():
            self._has_work.set()
        return future

    @property
    def backlog(self) -> int:
        """Items that no transaction has taken yet."""
        return len(self._waiting)

    async def close(self) -> None:
        """Commit what was submitted, then stop the thread and close the connection."""
        if not self._closing:
            self._closing = True
            if self._inline:
                self._run_inline()
            else:
                self._has_work.set()
                await asyncio.to_thread(self._thread.join)
            self._connection.close()

    def _run(self) -> None:
        last = 0
        while True:
            self._has_work.wait()
            if last >= _BUSY_FROM and not self._closing:
                time.sleep(min(_LONGEST_WINDOW, last * _WINDOW_PER_ITEM))
            self._has_work.clear()
            batch, self._waiting = self._waiting, []
            last = len(batch)
            if batch:
                self._answer(batch, self._commit(batch))
            elif self._closing:
                return
            if self._closing:
                self._has_work.set()

    def _run_inline(self) -> None:
        batch, self._waiting = self._waiting, []
        if batch:
            _resolve([future for _, _, future in batch], self._commit(batch))

    def _commit(self, batch: list[_Waiting]) -> list[tuple[bool, Any]]:
        if self._broken is not None:
            return [(False, StoreUnavailable(self._broken))] * len(batch)
        try:
            return self._together(batch)
        except Exception:
            return [self._alone(waiting) for waiting in batch]

    def _together(self, batch: list[_Waiting]) -> list[tuple[bool, Any]]:
        connection = self._connection
        places: dict[Run[Any, Any], list[int]] = {}
        for place, (run, _, _) in enumerate(batch):
            places.setdefault(run, []).append(place)
        results: list[tuple[bool, Any]] = [(False, None)] * len(batch)
        connection.execute("begin immediate")
        try:
            for run, taken in places.items():
                found = run(connection, [batch[place][1] for place in taken])
                for place, result in zip(taken, found, strict=True):
                    results[place] = (True, result)
            connection.execute("commit")
        except BaseException:
            self._roll_back()
            raise
        return results

    def _alone(self, waiting: _Waiting) -> tuple[bool, Any]:
        if self._broken is not None:
            return (False, StoreUnavailable(self._broken))
        try:
            return self._together([waiting])[0]
        except EmbarcError as error:
            return (False, error)
        except apsw.IOError as error:
            # After a failed sync the kernel may have dropped the dirty pages: what a second try reports
            # proves nothing (PostgreSQL learnt this in 2018). Nothing is accepted any more.
            self._broken = f"The disk under the database reported an error ({error}). Embarc stops accepting."
            if self._on_broken:
                self._loop.call_soon_threadsafe(self._on_broken, self._broken)
            return (False, StoreUnavailable(self._broken))
        except (apsw.FullError, apsw.BusyError, apsw.CantOpenError, apsw.ReadOnlyError) as error:
            return (
                False,
                StoreUnavailable(
                    f"The store cannot commit: {error}.", retry_after_seconds=RETRY_AFTER_SECONDS
                ),
            )
        except Exception as error:
            return (False, error)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("rollback")

    def _answer(self, batch: list[_Waiting], results: list[tuple[bool, Any]]) -> None:
        futures = [future for _, _, future in batch]
        self._loop.call_soon_threadsafe(_resolve, futures, results)


def _resolve(futures: list[asyncio.Future[Any]], results: list[tuple[bool, Any]]) -> None:
    for future, (succeeded, result) in zip(futures, results, strict=True):
        if future.done():  # its caller was cancelled; the work is committed all the same
            continue
        if succeeded:
            future.set_result(result)
        else:
            future.set_exception(result)


class Rows:
    """A statement with `values (...)`, for any number of rows in few executions.

    It is prepared for 64, 32, ... 1 rows; each execution releases and wins back the interpreter's lock once.
    """

    def __init__(self, statement: str) -> None:
        found = _VALUES.search(statement)
        if found is None:
            raise ValueError(f"no `values (...)` in: {statement}")
        before, after = statement[: found.start(1)], statement[found.end(1) :]
        self._statements = [
            (count, before + ", ".join([found[1]] * count) + after) for count in (64, 32, 16, 8, 4, 2, 1)
        ]

    def execute(self, connection: apsw.Connection, rows: Sequence[tuple[Any, ...]]) -> int:
        """Run it for all rows; returns how many rows of the table changed."""
        start, total, changed = 0, len(rows), 0
        for count, statement in self._statements:
            while total - start >= count:
                values = [value for row in rows[start : start + count] for value in row]
                connection.execute(statement, values)
                changed += connection.changes()
                start += count
        return changed


_VALUES = re.compile(r"\bvalues (\([^()]*\))")
