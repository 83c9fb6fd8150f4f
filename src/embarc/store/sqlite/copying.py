"""A SQLite store as the source of a copy: read page by page while nobody else has it open."""

from __future__ import annotations

from typing import Any

import apsw

from embarc.core.errors import SettingsError
from embarc.store.copying import DELIVERIES, IDENTITIES, PAGE_BYTES, Facts, Key, Page, Table
from embarc.store.sqlite.moved import Moved, read_mark, told, write_mark
from embarc.store.sqlite.store import SqliteStore

_TIME_BYTES = 6
"""The first bytes of an event's key are the milliseconds of its acceptance."""


class Source(SqliteStore):
    """The store, opened as a service opens it, also in the middle of a copy. Open one with `Source.open`."""

    _may_be_moved = True

    def moved(self) -> Moved | None:
        """The copy that was begun and not finished, or None; raises `SettingsError` where one was finished."""
        moved = read_mark(self._path)
        if moved is not None and moved.is_complete:
            raise SettingsError(told(self._path, moved))
        return moved

    def mark(self, moved: Moved) -> None:
        """From now on no service opens the database."""
        write_mark(self._path, moved)

    async def facts(self) -> Facts:
        """What there is beside the rows."""

        def read(connection: apsw.Connection) -> Facts:
            (revision,) = connection.execute(self._sql["hooks_revision"]).fetchall()[0]
            given: list[Any] = connection.execute("select name, seq from sqlite_sequence").fetchall()
            last_ids = {name: _number(connection, f"select max(id) from {name}") for name in IDENTITIES}  # noqa: S608 - our own names
            last_ids |= {name: max(seq, last_ids[name]) for name, seq in given if name in IDENTITIES}
            return Facts(
                hooks_revision=_whole(revision), last_ids=last_ids, oldest_ms=self._oldest(connection)
            )

        return await self._read(read)

    async def count(self, table: Table) -> int:
        """How many rows it has."""
        sql = f"select count(*) from {table.name}"  # noqa: S608 - our own name
        return await self._read(lambda connection: _number(connection, sql))

    async def count_times(self) -> int:
        """How many events have an entity, whose timestamps are theirs alone."""
        sql = "select count(*) from events where entity_id is not null"
        return await self._read(lambda connection: _number(connection, sql))

    async def page(self, table: Table, after: Key | None, *, limit: int) -> Page | None:
        """The next rows behind a key, from the first where it is None; None at the end."""
        sql = _statement(table, is_first=after is None)
        flags = [table.columns.index(name) for name in table.flags]
        places = [table.columns.index(name) for name in table.key]

        def read(connection: apsw.Connection) -> Page | None:
            rows: list[tuple[Any, ...]] = []
            size = 0
            for row in connection.execute(sql, (*(after or ()), limit)):
                rows.append(_with_flags(row, flags))
                size += sum(len(one) for one in row if isinstance(one, str | bytes))
                if size >= PAGE_BYTES:
                    break
            return Page(rows=rows, reached=[rows[-1][place] for place in places]) if rows else None

        return await self._read(read)

    def _oldest(self, connection: apsw.Connection) -> int | None:
        found = []
        tenants: list[Any] = connection.execute(self._sql["tenants_of_attempts"]).fetchall()
        for (tenant,) in tenants:
            key: Any = connection.execute(
                "select min(event_key) from attempts where tenant = ?", (tenant,)
            ).get
            found.append(int.from_bytes(key[:_TIME_BYTES]))
        first: Any = connection.execute("select event_key from events order by accepted_seq limit 1").get
        if first is not None:
            found.append(int.from_bytes(first[:_TIME_BYTES]))
        return min(found, default=None)


def _statement(table: Table, *, is_first: bool) -> str:
    columns, source = ", ".join(table.columns), table.name
    if table is DELIVERIES:
        # Their order is that of their events' acceptance, which this store has with the events.
        columns = ", ".join(
            "coalesce(e.accepted_seq, 0)" if name == "accepted_seq" else f"d.{name}" for name in table.columns
        )
        source = "deliveries d left join events e on e.tenant = d.tenant and e.event_key = d.event_key"
    key = [f"d.{name}" if table is DELIVERIES else name for name in table.key]
    where = "" if is_first else f" where ({', '.join(key)}) > ({', '.join('?' * len(key))})"
    return f"select {columns} from {source}{where} order by {', '.join(key)} limit ?"  # noqa: S608 - our own names


def _with_flags(row: tuple[Any, ...], flags: list[int]) -> tuple[Any, ...]:
    if not flags:
        return row
    values = list(row)
    for place in flags:
        values[place] = bool(values[place])
    return tuple(values)


def _number(connection: apsw.Connection, sql: str) -> int:
    return _whole(connection.execute(sql).get or 0)


def _whole(value: Any) -> int:
    return int(value)
