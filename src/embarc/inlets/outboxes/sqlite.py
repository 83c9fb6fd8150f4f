"""An outbox in a SQLite file, such as the sandbox's.

There are no row locks and a transaction held while publishing would stop the platform's own, so nothing is locked.
Several relays on one file do each other's work twice, and nobody sees it: the keys are the same.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from embarc.inlets.outboxes.base import LANES_A_ROUND, ROWS_A_LANE, OutboxRow, columns, waiting

T = TypeVar("T")

_BUSY_SECONDS = 10
_LIMIT = LANES_A_ROUND * ROWS_A_LANE


class SqliteSource:
    """The outbox in the file at `path`, used from one thread of its own."""

    def __init__(self, path: str | Path, *, tenant: str | None = None, keep: bool = False) -> None:
        self._path = Path(path)
        self._tenant = (tenant,) if tenant is not None else ()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embarc-relay")
        self._connection: sqlite3.Connection | None = None
        which = waiting("?" if tenant is not None else None)
        self._page = (
            f"select {columns()} from embarc_outbox o where {which} order by o.position limit {_LIMIT}"  # noqa: S608 - nothing from outside
        )
        self._done = (
            "update embarc_outbox set state = 1 where id = ?"
            if keep
            else "delete from embarc_outbox where id = ?"
        )

    async def take(self) -> Sequence[OutboxRow]:
        return await self._run(self._take)

    async def finish(self, accepted: Sequence[str], refused: Mapping[str, str]) -> None:
        await self._run(self._finish, accepted, refused)

    async def let_go(self) -> None:
        await self._run(self._let_go)

    async def close(self) -> None:
        await self._run(self._let_go)
        self._thread.shutdown()

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _take(self) -> list[OutboxRow]:
        return [OutboxRow(*row) for row in self._connected().execute(self._page, self._tenant)]

    def _finish(self, accepted: Sequence[str], refused: Mapping[str, str]) -> None:
        connection = self._connected()
        connection.execute("begin immediate")
        connection.executemany(self._done, [(one,) for one in accepted])
        connection.executemany(
            "update embarc_outbox set state = 2, reason = ? where id = ?",
            [(reason, one) for one, reason in refused.items()],
        )
        connection.execute("commit")

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            # `mode=rw`: a file that is not there is an error, not a new database.
            self._connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=rw",
                uri=True,
                isolation_level=None,
                timeout=_BUSY_SECONDS,
            )
            self._connection.execute("pragma synchronous = full")
        return self._connection

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
