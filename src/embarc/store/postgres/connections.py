"""Connections to PostgreSQL: few, kept, replaced when they break; and what their errors mean to whoever asked.

No state is kept in a session, so a pooler that gives each transaction another one may stand between: then
`?statement_cache_size=0` in the URL does without prepared statements that outlive a transaction.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from embarc.core.errors import SettingsError, StoreUnavailable

T = TypeVar("T")
Connection = Any
"""An `asyncpg.Connection`."""

SCHEMES = ("postgresql", "postgres")
_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(:[0-9]{0,5})?")
"""One of those in a URL, with its port."""
RETRY_AFTER_SECONDS = 2
CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 15.0
"""A statement that takes longer is ended by the server; three seconds later we no longer wait for it."""
_LONGEST_LIFE_OF_A_PLAN = 60
"""Seconds. A plan that was made while a table was small must not outlive its growth."""
_AT_ONCE_AGAIN = 3
"""How often work is done again that is known to have left nothing behind, or to be safe to repeat."""

_SETTINGS = {
    "statement_timeout": f"{STATEMENT_SECONDS * 1000:.0f}",
    "lock_timeout": "5000",
    "idle_in_transaction_session_timeout": "30000",
    # Every statement has its index, and looks up few rows of many. What the planner believes about their number, when
    # the table is empty or the limit is a parameter, must not make it read a whole table or index instead.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    # Planning a statement anew each time costs as much as running it for one row.
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}
_LOCALLY = "; ".join(f"set local {name} = '{text}'" for name, text in _SETTINGS.items())

LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg says when a connection ends at the wrong moment
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby: the next connection may find the primary
    ConnectionError,
    OSError,
    TimeoutError,
)
"""The connection is of no use any more; what was being done may or may not have been committed."""
CONFLICTS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""The transaction was undone for another one's sake, and is worth another try."""
_UNAVAILABLE = (
    *LOST,
    *CONFLICTS,
    asyncpg.InsufficientResourcesError,  # disk full, too many connections, out of memory
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.exceptions.TargetServerAttributeNotMatched,  # of several hosts none is the primary
)


@dataclass(frozen=True, slots=True)
class Address:
    """A store's URL, taken apart: what asyncpg gets, and what is ours."""

    dsn: str
    statement_cache_size: int
    connections: int

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises `SettingsError`; the URL itself is not shown, it may hold a password."""
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise SettingsError("`store` must be `postgresql://USER@HOST/DATABASE`.")
        if not all(_HOST.fullmatch(host) for host in parts.netloc.rpartition("@")[2].split(",")):
            raise SettingsError(
                "The port in `store` is not a number. Characters like `/`, `#` and `@` in a password are written as `%2F`, `%23`, `%40`."
            )
        options = dict(parse_qsl(parts.query))
        try:
            cache = int(options.pop("statement_cache_size", "200"))
            connections = int(options.pop("connections", "6"))
        except ValueError:
            raise SettingsError("`statement_cache_size` and `connections` of `store` are numbers.") from None
        if cache < 0 or connections < 3:
            raise SettingsError(
                "`connections` of `store` must be at least 3, `statement_cache_size` not negative."
            )
        return cls(urlunsplit(parts._replace(query=urlencode(options))), cache, connections)

    @property
    def is_pooled(self) -> bool:
        """Whether each transaction may get another session."""
        return self.statement_cache_size == 0

    async def connect(self) -> Connection:
        """A new connection; raises what asyncpg raises."""
        settings = None if self.is_pooled else _SETTINGS | {"application_name": "embarc"}
        return await asyncpg.connect(
            self.dsn,
            timeout=CONNECT_SECONDS,
            command_timeout=STATEMENT_SECONDS + 3,
            statement_cache_size=self.statement_cache_size,
            max_cached_statement_lifetime=_LONGEST_LIFE_OF_A_PLAN,
            server_settings=settings,
        )


class Connections:
    """At most so many connections, made when needed; the one used last is used next."""

    def __init__(self, address: Address, at_most: int) -> None:
        self._address = address
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(at_most)
        self._is_closed = False

    async def use(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """The result of the work, which gets a connection for itself; raises `StoreUnavailable` or what the work raises."""
        try:
            return await self.use_plainly(work)
        except _UNAVAILABLE as error:
            raise unavailable(error) from error

    async def use_plainly(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """The same, but asyncpg's own errors are for the caller to understand."""
        if self._is_closed:
            raise StoreUnavailable("The store is closed.")
        async with self._free:
            connection = await self._take()
            is_well = False
            try:
                if self._address.is_pooled:
                    async with connection.transaction():
                        await connection.execute(_LOCALLY)
                        result = await work(connection)
                else:
                    result = await work(connection)
                is_well = True
                return result
            except LOST:
                raise
            except (asyncpg.PostgresError, StoreUnavailable, ValueError):
                is_well = True
                raise
            finally:
                if is_well and not self._is_closed and not connection.is_closed():
                    self._idle.append(connection)
                else:
                    connection.terminate()

    async def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return await self._address.connect()

    async def close(self) -> None:
        """Close what is idle; what is in use is closed when it is given back."""
        self._is_closed = True
        while self._idle:
            connection = self._idle.pop()
            try:
                await connection.close(timeout=CONNECT_SECONDS)
            except (*LOST, asyncpg.PostgresError):
                connection.terminate()


async def again(work: Callable[[], Awaitable[T]], on: tuple[type[BaseException], ...]) -> T:
    """Do the work, and do it again where it raises one of these; only for what may be repeated."""
    for _ in range(_AT_ONCE_AGAIN - 1):
        try:
            return await work()
        except on:
            continue
    return await work()


def unavailable(error: BaseException) -> StoreUnavailable:
    """What an error of the connection means to a caller. The server's text may name hosts, never passwords."""
    reason = str(error).partition("\n")[0] or type(error).__name__
    return StoreUnavailable(
        f"The store cannot commit: {reason.rstrip('.')}.", retry_after_seconds=RETRY_AFTER_SECONDS
    )


def is_unavailable(error: BaseException) -> bool:
    """Whether the same call may succeed later."""
    return isinstance(error, _UNAVAILABLE)
