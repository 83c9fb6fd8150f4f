"""A PostgreSQL database as the target of a copy.

Rules of this file:
* A page and the word that it is there are committed together. So a copy that ended anywhere, also in the middle of a
  commit, goes on behind the last page that is there, and writes no row twice.
* Only an empty database is copied into, or one that holds the beginning of this very copy.
* What still waits, or holds others back, goes to the hot table, as if it had been accepted here.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import asyncpg
import msgspec

from embarc.core.errors import SettingsError
from embarc.store.copying import DELIVERIES, EVENTS, TABLES, Facts, Key, Page, Table
from embarc.store.postgres.connections import Address, Connection
from embarc.store.postgres.database import migrate
from embarc.store.postgres.days import StoreDays

Progress = dict[str, tuple[int, list[Any]]]
"""Of each table that was begun: how many rows are there, and the key of the last."""

MOST_DAYS = 120
"""More than anything is kept by default. What is older goes to the rest, from where it is pruned row by row."""
_LONG_SECONDS = 3600.0
_UNREPRESENTABLE = (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)
_TIMES = ("tenant", "entity_name", "entity_id", "timestamp_ms", "event_key")
_ENDED = tuple(name for name in DELIVERIES.columns if name not in ("due_at_ms", "lease_token"))


class Target(StoreDays):
    """The database, for a copy alone. Open one with `Target.open`."""

    progress: Progress
    replaced: int
    """Texts that held a NUL, which PostgreSQL has no way to store."""

    @classmethod
    async def open(cls, url: str) -> Target:
        """The database, migrated where needed. Raises `SettingsError`, `StoreUnavailable`, `MigrationError`."""
        await migrate(url)
        target = cls(Address.parse(url), None)
        target.progress = {}
        target.replaced = 0
        return target

    async def check_free(self, copy_id: str, *, alive_seconds: float) -> bool:
        """Whether this copy was finished here already. Raises `SettingsError` where the database is somebody else's."""
        found = await self._fetch("select copy_id, source, progress, finished_at_ms from copies")
        if found:
            known_id, source, progress, finished_at_ms = found[0]
            if known_id != copy_id:
                raise SettingsError(
                    f"The target holds {'' if finished_at_ms else 'a part of '}another copy, of {source}, from before that "
                    "database was used again, or from another one. Give an empty database."
                )
            self.progress = msgspec.msgpack.decode(progress, type=Progress)
            return finished_at_ms is not None
        alive = await self._rows("alive_members", None, int(alive_seconds * 1000))
        if alive:
            names = ", ".join(row["name"] for row in alive)
            raise SettingsError(f"Stop these processes first, they use the target: {names}.")
        for table in TABLES:
            if (await self._fetch(f"select exists (select 1 from {table.name})"))[0][0]:  # noqa: S608 - our own name
                raise SettingsError(
                    f"The target has an installation of its own: there are rows in {table.name}. Give an empty database, on "
                    "which no service was started yet."
                )
        return False

    async def begin(self, copy_id: str, source: str, facts: Facts) -> None:
        """Keep services away, and make the days of what will come."""
        await self._fetch(
            "insert into copies (copy_id, source, progress, started_at_ms)"
            " values ($1, $2, $3, embarc_now_ms(null)) on conflict do nothing",
            copy_id,
            source,
            msgspec.msgpack.encode(self.progress),
        )
        if facts.oldest_ms is not None:
            earliest_ms = int(time.time() * 1000) - MOST_DAYS * 24 * 3600 * 1000
            await self.make_days(max(facts.oldest_ms, earliest_ms))

    def reached(self, table: Table) -> tuple[int, Key | None]:
        """How many rows are there, and the key of the last."""
        return self.progress.get(table.name, (0, None))

    async def write(self, table: Table, page: Page) -> None:
        """Add a page behind those that are there."""
        done, _ = self.reached(table)
        progress = self.progress | {table.name: (done + len(page.rows), list(page.reached))}
        try:
            await self._write(table, page.rows, progress)
        except _UNREPRESENTABLE:
            await self._write(table, [self._without_nul(row) for row in page.rows], progress)
        self.progress = progress

    async def _write(self, table: Table, rows: Sequence[tuple[Any, ...]], progress: Progress) -> None:
        async def work(connection: Connection) -> None:
            await connection.execute("set local statement_timeout = 0")
            for name, columns, records in _divided(table, rows):
                await connection.copy_records_to_table(
                    name, records=records, columns=columns, timeout=_LONG_SECONDS
                )
            await connection.execute(
                "update copies set progress = $1 where finished_at_ms is null",
                msgspec.msgpack.encode(progress),
            )

        await self._transaction(work)

    def _without_nul(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        values = []
        for one in row:
            if isinstance(one, str) and "\0" in one:
                self.replaced += 1
                one = one.replace("\0", "\N{REPLACEMENT CHARACTER}")
            values.append(one)
        return tuple(values)

    async def counts(self) -> Mapping[str, int]:
        """How many rows there are, by the names of the source's tables; `event_times` beside them."""
        counts: dict[str, int] = {}

        async def work(connection: Connection) -> None:
            await connection.execute("set local statement_timeout = 0; set local enable_seqscan = on")
            for name in (*(table.name for table in TABLES), "event_times"):
                relation = "all_deliveries" if name == DELIVERIES.name else name
                counts[name] = await connection.fetchval(
                    f"select count(*) from {relation}",  # noqa: S608 - our own names
                    timeout=_LONG_SECONDS,
                )

        await self._transaction(work)
        return counts

    async def finish(self, facts: Facts) -> None:
        """Go on numbering where the source has stopped, and let services in."""

        async def work(connection: Connection) -> None:
            await connection.execute("set local statement_timeout = 0")
            await connection.execute("update hooks_revision set revision = $1", facts.hooks_revision)
            for name, last_id in facts.last_ids.items():
                if last_id:
                    await connection.execute(
                        "select setval(pg_get_serial_sequence($1, 'id'), $2, true)", name, last_id
                    )
            _, reached = self.reached(EVENTS)
            if reached:
                await connection.execute("select setval('accepted_seq', $1, true)", reached[0])
            await connection.execute("analyze", timeout=_LONG_SECONDS)
            await connection.execute("update copies set finished_at_ms = embarc_now_ms(null)")

        await self._transaction(work)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._close()


def _divided(
    table: Table, rows: Sequence[tuple[Any, ...]]
) -> Iterable[tuple[str, Sequence[str], Sequence[tuple[Any, ...]]]]:
    """The tables here that these rows of a table there go to."""
    if table is DELIVERIES:
        yield from _by_heat(rows)
        return
    yield table.name, table.columns, rows
    if table is EVENTS:
        places = [table.columns.index(name) for name in _TIMES]
        has_entity = table.columns.index("entity_id")
        yield (
            "event_times",
            _TIMES,
            [tuple(row[place] for place in places) for row in rows if row[has_entity] is not None],
        )


def _by_heat(
    rows: Sequence[tuple[Any, ...]],
) -> Iterable[tuple[str, Sequence[str], Sequence[tuple[Any, ...]]]]:
    columns = DELIVERIES.columns
    state, order_key = columns.index("state"), columns.index("order_key")
    places = [columns.index(name) for name in _ENDED]
    settled_at = _ENDED.index("settled_at_ms")
    hot, ended = [], []
    for row in rows:
        if row[state] == "waiting" or (row[state] == "exhausted" and row[order_key] is not None):
            hot.append(row)
        else:
            values = [row[place] for place in places]
            values[settled_at] = values[settled_at] or 0
            ended.append(tuple(values))
    yield "deliveries", columns, hot
    yield "ended_deliveries", _ENDED, ended
