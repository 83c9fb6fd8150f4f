"""Writing an event into the caller's transaction, whichever library it belongs to.

Rule 1: nothing is ever committed here. Rule 2: a connection that would commit the event on its own, because no
transaction is open and it commits each statement, is refused: the event would not be part of the change. Rule 3: the
libraries are recognised by the name of the module their classes come from, and none of them is imported unless the
caller has done so.
"""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Mapping
from typing import Any

from embarc.outbox.event import OutboxEvent
from embarc.outbox.schema import LANES, TABLE

_COLUMNS = ("id", "lane", "tenant", "entity", "body")
_INSERT = f"insert into {TABLE} ({', '.join(_COLUMNS)}) values "  # noqa: S608 - names of ours
_NAMED = f"{_INSERT}({', '.join(':' + name for name in _COLUMNS)})"
_FORMAT = f"{_INSERT}({', '.join('%s' for _ in _COLUMNS)})"
_NUMBERED = f"{_INSERT}({', '.join(f'${number}' for number in range(1, len(_COLUMNS) + 1))})"

_IN_TRANSACTION = 1
"""MySQL's SERVER_STATUS_IN_TRANS."""


class NoTransaction(RuntimeError):
    """The connection has no open transaction and commits each statement: the event would not be part of your change."""

    def __init__(self, how: str) -> None:
        super().__init__(f"{self.__doc__} {how}")


def emit(connection: Any, event: OutboxEvent) -> str:
    """Write the event into the connection's open transaction and return its id, 32 characters.

    `connection` is a SQLAlchemy Connection or Session, a connection or cursor of psycopg, `sqlite3`, PyMySQL or
    mysqlclient, or a Django connection. Nothing is committed: the event exists exactly when your own commit succeeds,
    and a rollback, also to a savepoint before it, takes it away.

    Emit after you have changed, and thereby locked, what the event is about: then two transactions on one loan
    have their events in the order of their commits.

    Raises `NoTransaction` where the event would be committed alone, TypeError for asynchronous connections
    (`await emit_async(...)`) and unknown ones, and whatever the library raises.
    """
    values = _values(event)
    library = _library(connection)
    if _is_async(connection, library):
        raise TypeError(f"{_name(connection)} is asynchronous: call `await emit_async(connection, event)`.")
    match library:
        case "sqlalchemy":
            from sqlalchemy import text

            _check_sqlalchemy(connection.connection() if hasattr(connection, "flush") else connection)
            connection.execute(text(_NAMED), values)
        case "sqlite3":
            _check_sqlite(connection)
            connection.execute(_NAMED, values)
        case "django":
            if connection.get_autocommit() and not connection.in_atomic_block:
                raise NoTransaction("Emit inside `with transaction.atomic():`.")
            with connection.cursor() as cursor:
                cursor.execute(_FORMAT, tuple(values.values()))
        case "psycopg":
            _check_psycopg(connection)
            connection.execute(_FORMAT, tuple(values.values()))
        case "pymysql" | "MySQLdb":
            _execute_mysql(connection, tuple(values.values()))
        case _:
            raise _unknown(connection)
    return str(values["id"])


async def emit_async(connection: Any, event: OutboxEvent) -> str:
    """`emit` for asynchronous connections, with the same promises.

    `connection` is a SQLAlchemy AsyncConnection or AsyncSession, an asyncpg connection, a connection or cursor of
    psycopg's asynchronous kind, or an aiosqlite connection.
    """
    values = _values(event)
    library = _library(connection)
    if not _is_async(connection, library):
        raise TypeError(f"{_name(connection)} is not asynchronous: call `emit(connection, event)`.")
    match library:
        case "sqlalchemy":
            from sqlalchemy import text

            bound = await connection.connection() if hasattr(connection, "flush") else connection
            _check_sqlalchemy(bound.sync_connection)
            await connection.execute(text(_NAMED), values)
        case "asyncpg":
            if not connection.is_in_transaction():
                raise NoTransaction("Emit inside `async with connection.transaction():`.")
            await connection.execute(_NUMBERED, *values.values())
        case "psycopg":
            _check_psycopg(connection)
            await connection.execute(_FORMAT, tuple(values.values()))
        case _:
            _check_sqlite(connection)
            await connection.execute(_NAMED, values)
    return str(values["id"])


def _values(event: OutboxEvent) -> Mapping[str, Any]:
    event_id = uuid.uuid4().hex
    entity = event.entity
    return {
        "id": event_id,
        "lane": zlib.crc32((entity or event_id).encode()) % LANES,
        "tenant": event.tenant,
        "entity": entity,
        "body": event.json(),
    }


def _library(connection: Any) -> str:
    """The library a connection comes from; a class derived from its own counts as its own."""
    known = ("sqlalchemy", "asyncpg", "psycopg", "aiosqlite", "sqlite3", "pymysql", "MySQLdb", "django")
    for kind in type(connection).__mro__:
        root = kind.__module__.split(".")[0]
        if root in known:
            return root
    raise _unknown(connection)


def _is_async(connection: Any, library: str) -> bool:
    if library in ("asyncpg", "aiosqlite"):
        return True
    return library in ("sqlalchemy", "psycopg") and any(
        kind.__name__.startswith(("Async", "async_")) for kind in type(connection).__mro__
    )


def _check_sqlalchemy(connection: Any) -> None:
    levels = (
        connection.get_execution_options().get("isolation_level"),
        getattr(
            connection.dialect, "_on_connect_isolation_level", None
        ),  # `create_engine(isolation_level=...)`
    )
    if (levels[0] or levels[1]) == "AUTOCOMMIT":
        raise NoTransaction("Its isolation level is AUTOCOMMIT; choose another one for this connection.")


def _check_sqlite(connection: Any) -> None:
    # With Python's usual settings the statement itself opens the transaction; with None it is the caller's BEGIN.
    owner = getattr(connection, "connection", connection)  # a cursor's
    if owner.isolation_level is None and not owner.in_transaction:
        raise NoTransaction("Say `begin` first.")


def _check_psycopg(connection: Any) -> None:
    owner = getattr(connection, "connection", connection)
    if owner.autocommit and owner.info.transaction_status.name == "IDLE":
        raise NoTransaction("Emit inside `with connection.transaction():`.")


def _execute_mysql(connection: Any, values: tuple[Any, ...]) -> None:
    if not hasattr(connection, "cursor"):  # it is a cursor itself
        _check_mysql(connection.connection)
        connection.execute(_FORMAT, values)
        return
    _check_mysql(connection)
    cursor = connection.cursor()
    try:
        cursor.execute(_FORMAT, values)
    finally:
        cursor.close()


def _check_mysql(connection: Any) -> None:
    # mysqlclient does not tell whether a transaction is open; PyMySQL does.
    status = getattr(connection, "server_status", _IN_TRANSACTION)
    if connection.get_autocommit() and not status & _IN_TRANSACTION:
        raise NoTransaction("Call `connection.begin()` first.")


def _unknown(connection: Any) -> TypeError:
    return TypeError(
        f"The outbox does not know {_name(connection)}. It takes connections of SQLAlchemy, psycopg, asyncpg, "
        "sqlite3, aiosqlite, PyMySQL, mysqlclient and Django."
    )


def _name(connection: Any) -> str:
    return f"{type(connection).__module__}.{type(connection).__qualname__}"
