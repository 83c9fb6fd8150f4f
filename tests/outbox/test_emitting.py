"""The event exists exactly when the change does: committed together or not at all, by every library."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import aiosqlite
import asyncpg
import psycopg
import pymysql
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from embarc.outbox import OutboxEvent, ddl, emit, emit_async
from embarc.outbox.emitting import NoTransaction

from .conftest import Database

EVENT = OutboxEvent(
    entity_name="LOAN",
    action_name="APPROVE",
    created_by=12,
    created_by_name="john.doe",
    created_by_full_name="Jöhn “Doe”",
    ids={"loanId": 17, "clientId": 3},
    request='{"amount": 1.00, "note": null}',
    response={"resourceId": 17},
)

INSERT = "insert into loans (id) values (17)"
DRIVERS = {"sqlite": "pysqlite", "postgresql": "psycopg", "mysql": "pymysql"}
ASYNC_DRIVERS = {"sqlite": "aiosqlite", "postgresql": "asyncpg"}


class Undo(Exception):
    """Makes a transaction end in a rollback."""


# Each way opens a transaction and gives: the connection to emit on, and how to run a statement on it.
Way = tuple[Any, Callable[[str], Any]]


@contextmanager
def sqlalchemy_connection(database: Database) -> Iterator[Way]:
    engine = create_engine(database.with_driver(DRIVERS[database.dialect]), poolclass=NullPool)
    with engine.begin() as connection:
        yield connection, lambda statement: connection.execute(text(statement))


@contextmanager
def sqlalchemy_session(database: Database) -> Iterator[Way]:
    engine = create_engine(database.with_driver(DRIVERS[database.dialect]), poolclass=NullPool)
    with Session(engine) as session, session.begin():
        yield session, lambda statement: session.execute(text(statement))


@contextmanager
def dbapi(database: Database) -> Iterator[Way]:
    connection = database.connect()
    cursor = connection.cursor()
    cursor.execute("begin")
    try:
        yield connection, cursor.execute
    except Undo:
        connection.rollback()
        raise
    else:
        connection.commit()
    finally:
        connection.close()


@contextmanager
def dbapi_cursor(database: Database) -> Iterator[Way]:
    with dbapi(database) as (connection, execute):
        yield connection.cursor(), execute


WAYS = [sqlalchemy_connection, sqlalchemy_session, dbapi, dbapi_cursor]


@pytest.mark.parametrize("way", WAYS)
def test_the_event_commits_with_the_change(database: Database, way: Any) -> None:
    with way(database) as (connection, execute):
        execute(INSERT)
        event_id = emit(connection, EVENT)
        before = database.rows()

    assert before == []
    assert database.rows() == [event_id]
    assert database.loans() == [17]
    ((tenant, entity, state, body),) = database.rows("tenant, entity, state, body")
    assert (tenant, entity, state) == ("default", "default/LOAN/17", 0)
    assert '"request": {"amount": 1.00, "note": null}' in body
    assert json.loads(body)["createdByFullName"] == "Jöhn “Doe”"


@pytest.mark.parametrize("way", WAYS)
def test_a_rollback_takes_the_event_with_the_change(database: Database, way: Any) -> None:
    with suppress(Undo), way(database) as (connection, execute):
        execute(INSERT)
        emit(connection, EVENT)
        raise Undo

    assert database.rows() == []
    assert database.loans() == []


@pytest.mark.parametrize("way", WAYS)
def test_a_rollback_to_a_savepoint_takes_what_came_after_it(database: Database, way: Any) -> None:
    with way(database) as (connection, execute):
        execute(INSERT)
        kept = emit(connection, EVENT)
        execute("savepoint here")
        execute(INSERT)
        emit(connection, EVENT)
        execute("rollback to savepoint here")

    assert database.rows() == [kept]
    assert database.loans() == [17]


def test_it_works_in_a_nested_transaction_of_a_session(database: Database) -> None:
    with sqlalchemy_session(database) as (session, execute):
        kept = emit(session, EVENT)
        with suppress(Undo), session.begin_nested():
            execute(INSERT)
            emit(session, EVENT)
            raise Undo

    assert database.rows() == [kept]
    assert database.loans() == []


@pytest.mark.parametrize("way", [dbapi, dbapi_cursor])
def test_what_would_commit_the_event_alone_is_refused(database: Database, way: Any) -> None:
    connection = database.connect()

    with pytest.raises(NoTransaction):
        emit(connection if way is dbapi else connection.cursor(), EVENT)

    connection.close()
    assert database.rows() == []


def test_sqlalchemys_autocommit_is_refused(database: Database) -> None:
    url = database.with_driver(DRIVERS[database.dialect])
    by_engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    by_option = create_engine(url, poolclass=NullPool).execution_options(isolation_level="AUTOCOMMIT")

    with by_engine.connect() as connection, pytest.raises(NoTransaction):
        emit(connection, EVENT)
    with Session(by_option) as session, pytest.raises(NoTransaction):
        emit(session, EVENT)

    assert database.rows() == []


@asynccontextmanager
async def async_connection(database: Database) -> AsyncIterator[Way]:
    engine = create_async_engine(database.with_driver(ASYNC_DRIVERS[database.dialect]), poolclass=NullPool)
    async with engine.begin() as connection:
        yield connection, lambda statement: connection.execute(text(statement))


@asynccontextmanager
async def async_session(database: Database) -> AsyncIterator[Way]:
    engine = create_async_engine(database.with_driver(ASYNC_DRIVERS[database.dialect]), poolclass=NullPool)
    async with AsyncSession(engine) as session, session.begin():
        yield session, lambda statement: session.execute(text(statement))


@asynccontextmanager
async def by_asyncpg(database: Database) -> AsyncIterator[Way]:
    connection = await asyncpg.connect(database.url)
    try:
        async with connection.transaction():
            yield connection, connection.execute
    finally:
        await connection.close()


@asynccontextmanager
async def by_async_psycopg(database: Database) -> AsyncIterator[Way]:
    async with await psycopg.AsyncConnection.connect(database.url) as connection:
        yield connection, connection.execute


@asynccontextmanager
async def by_aiosqlite(database: Database) -> AsyncIterator[Way]:
    async with aiosqlite.connect(database.url.removeprefix("sqlite:///")) as connection:
        try:
            yield connection, connection.execute
        except Undo:
            await connection.rollback()
            raise
        await connection.commit()


ASYNC_WAYS = [
    ("sqlite", async_connection),
    ("sqlite", async_session),
    ("sqlite", by_aiosqlite),
    ("postgres", async_connection),
    ("postgres", async_session),
    ("postgres", by_asyncpg),
    ("postgres", by_async_psycopg),
]


@pytest.mark.parametrize(("name", "way"), ASYNC_WAYS)
async def test_the_event_commits_with_the_change_asynchronously(
    name: str, way: Any, request: pytest.FixtureRequest
) -> None:
    database: Database = request.getfixturevalue(name)

    async with way(database) as (connection, execute):
        await execute(INSERT)
        event_id = await emit_async(connection, EVENT)
        before = database.rows()

    assert before == []
    assert database.rows() == [event_id]
    assert database.loans() == [17]


@pytest.mark.parametrize(("name", "way"), ASYNC_WAYS)
async def test_rollbacks_take_the_event_asynchronously(
    name: str, way: Any, request: pytest.FixtureRequest
) -> None:
    database: Database = request.getfixturevalue(name)

    with suppress(Undo):
        async with way(database) as (connection, execute):
            await execute(INSERT)
            await emit_async(connection, EVENT)
            raise Undo
    async with way(database) as (connection, execute):
        await execute(INSERT)
        await execute("savepoint here")
        await emit_async(connection, EVENT)
        await execute("rollback to savepoint here")

    assert database.rows() == []
    assert database.loans() == [17]


async def test_an_asynchronous_connection_that_would_commit_the_event_alone_is_refused(
    postgres: Database, sqlite: Database
) -> None:
    by_pg = await asyncpg.connect(postgres.url)
    with pytest.raises(NoTransaction):
        await emit_async(by_pg, EVENT)
    await by_pg.close()
    async with await psycopg.AsyncConnection.connect(postgres.url, autocommit=True) as connection:
        with pytest.raises(NoTransaction):
            await emit_async(connection, EVENT)
    path = sqlite.url.removeprefix("sqlite:///")
    async with aiosqlite.connect(path, isolation_level=None) as by_sqlite:
        with pytest.raises(NoTransaction):
            await emit_async(by_sqlite, EVENT)

    assert postgres.rows() == sqlite.rows() == []


async def test_the_wrong_colour_of_function_is_told_the_right_one(sqlite: Database) -> None:
    path = sqlite.url.removeprefix("sqlite:///")
    async with aiosqlite.connect(path) as connection:
        with pytest.raises(TypeError, match="await emit_async"):
            emit(connection, EVENT)
    plain = sqlite.connect()
    with pytest.raises(TypeError, match="call `emit"):
        await emit_async(plain, EVENT)
    plain.close()


def test_an_unknown_connection_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(TypeError, match=r"does not know builtins\.dict.*asyncpg"):
        emit({}, EVENT)


def test_connections_with_the_drivers_usual_settings_need_no_begin(
    sqlite: Database, postgres: Database, mariadb: Database, mariadb_socket: str
) -> None:
    name = mariadb.url.partition("?")[0].rpartition("/")[2]
    connections: list[tuple[Database, Any]] = [
        (sqlite, sqlite3.connect(sqlite.url.removeprefix("sqlite:///"))),
        (postgres, psycopg.connect(postgres.url)),
        (mariadb, pymysql.connect(unix_socket=mariadb_socket, user="root", database=name)),
    ]
    for database, connection in connections:
        emit(connection, EVENT)
        before = database.rows()
        connection.commit()
        connection.close()

        assert before == []
        assert len(database.rows()) == 1


def test_the_ddl_may_be_run_again_and_unknown_dialects_are_refused(database: Database) -> None:
    for statement in ddl(database.dialect):
        database.query(statement)

    assert database.rows() == []
    with pytest.raises(ValueError, match="There are: sqlite, postgresql, mysql, mariadb"):
        ddl("oracle")


def test_an_entity_is_what_embarc_orders_by() -> None:
    repayment = OutboxEvent(
        entity_name="LOAN", action_name="REPAYMENT", response='{"resourceId": 900, "loanId": 17}'
    )
    unknown = OutboxEvent(entity_name="LOAN", action_name="REPAYMENT", response="not JSON")
    long = OutboxEvent(entity_name="LOAN", action_name="REPAYMENT", entity_id="9" * 500)

    assert repayment.entity == "default/LOAN/17"
    assert unknown.entity is None
    assert long.entity is not None
    assert len(long.entity) == 64
