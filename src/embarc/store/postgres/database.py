"""The database: its schema, brought up to date when it is opened, and the ways to ask it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import asyncpg

from embarc.core.errors import SettingsError
from embarc.store.migrate import Migration, load_migrations, pending
from embarc.store.postgres.connections import (
    CONFLICTS,
    Address,
    Connection,
    Connections,
    again,
    is_unavailable,
    unavailable,
)
from embarc.store.queries import load_queries

T = TypeVar("T")
PACKAGE = "embarc.store.postgres"
_MIGRATING = 7_305_419
"""Of the advisory lock that migrating processes wait for."""


class Database:
    """What the parts of the store have in common: named statements, and connections to run them on.

    The queue has its own connections, so that people who read do not make it wait. Times are the database's, unless a
    test gives a clock of its own.
    """

    def __init__(self, address: Address, clock: Callable[[], float] | None) -> None:
        self._sql = load_queries(PACKAGE)
        self._clock = clock
        self._queue = Connections(address, address.connections // 2)
        self._others = Connections(address, address.connections - address.connections // 2)

    def _now(self) -> int | None:
        """The first parameter of whatever needs the time: None is the database's own."""
        return None if self._clock is None else int(self._clock() * 1000)

    async def _rows(self, query: str, *values: Any) -> list[Any]:
        """The rows of a named statement that only reads."""
        return await self._fetch(self._sql[query], *values)

    async def _fetch(self, sql: str, *values: Any) -> list[Any]:
        async def work(connection: Connection) -> list[Any]:
            rows: list[Any] = await connection.fetch(sql, *values)
            return rows

        return await self._others.use(work)

    async def _change(self, query: str, *values: Any) -> bool:
        """Whether the statement, a change that returns its rows, changed any."""
        return bool(await self._rows(query, *values))

    async def _change_and_tell(self, query: str, *values: object) -> bool:
        """Change what processes remember (a hook, who may call), and tell them that it is old."""

        async def work(connection: Connection) -> bool:
            if not await connection.fetch(self._sql[query], *values):
                return False
            await connection.execute(self._sql["raise_hooks_revision"])
            return True

        return await self._transaction(work)

    async def _filtered(
        self, query: str, conditions: list[tuple[str, Any]], limit: int, first: tuple[Any, ...] = ()
    ) -> list[Any]:
        """The rows that meet every condition whose value is not None; a tuple fills several places (`?`)."""
        values = list(first)
        where = []
        for condition, value in conditions:
            if value is None:
                continue
            for one in value if isinstance(value, tuple) else (value,):
                values.append(one)
                condition = condition.replace("?", f"${len(values)}", 1)
            where.append(condition)
        values.append(limit)
        sql = self._sql[query].format(where=" and ".join(where), limit=f"${len(values)}")
        return await self._fetch(sql, *values)

    async def _transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Several statements, committed together; once more from the start where another transaction was preferred."""

        async def committed(connection: Connection) -> T:
            async with connection.transaction():
                return await work(connection)

        try:
            return await again(lambda: self._others.use_plainly(committed), CONFLICTS)
        except Exception as error:
            if is_unavailable(error):
                raise unavailable(error) from error
            raise

    async def _close(self) -> None:
        await self._queue.close()
        await self._others.close()


async def connect(address: Address) -> Connection:
    """One connection; raises `SettingsError` where the URL leads to no database, `StoreUnavailable` where none answers."""
    try:
        return await address.connect()
    except (
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.InvalidCatalogNameError,
        asyncpg.ClientConfigurationError,
    ) as error:
        raise SettingsError(f"`store`: {str(error).rstrip('.')}.") from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        if "unsupported startup parameter" in str(error):
            raise SettingsError(
                "A pooler refuses our settings: add `?statement_cache_size=0` to `store`, see the guide."
            ) from None
        raise unavailable(error) from error


async def migrate(url: str, *, dry_run: bool = False) -> Sequence[Migration]:
    """Bring the database to this version's schema; returns what was, or would be, applied.

    Two processes may do this at once: the second waits, and finds nothing left to do. Raises `SettingsError`,
    `StoreUnavailable`, `MigrationError`.
    """
    connection = await connect(Address.parse(url))
    try:
        async with connection.transaction():
            return await _apply(connection, dry_run=dry_run)
    except Exception as error:
        if is_unavailable(error):
            raise unavailable(error) from error
        raise
    finally:
        await connection.close(timeout=5)


async def _apply(connection: Connection, *, dry_run: bool) -> Sequence[Migration]:
    await connection.execute("set local lock_timeout = '60s'; set local statement_timeout = '10min'")
    await connection.execute("select pg_advisory_xact_lock($1)", _MIGRATING)
    # Locks on tables are waited for briefly: whoever runs meanwhile would have to wait behind us.
    await connection.execute("set local lock_timeout = '3s'")
    exists = await connection.fetchval("select to_regclass('migrations') is not null")
    applied = (
        {row[0]: row[1] for row in await connection.fetch("select number, checksum from migrations")}
        if exists
        else {}
    )
    found = pending(load_migrations(PACKAGE), applied)
    if dry_run:
        return found
    if not exists:
        await connection.execute(
            "create table migrations (number integer primary key, name text not null, checksum text not null,"
            " applied_at_ms bigint not null)"
        )
    for migration in found:
        await connection.execute(migration.sql)
        await connection.execute(
            "insert into migrations values ($1, $2, $3, (extract(epoch from clock_timestamp()) * 1000)::bigint)",
            migration.number,
            migration.name,
            migration.checksum,
        )
    return found
