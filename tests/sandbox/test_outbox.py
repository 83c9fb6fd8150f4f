"""The outbox and its relay: the event exists exactly when the change does, and reaches Embarc once."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from embarc.core.errors import StoreUnavailable
from embarc.core.submissions import Receipt, Submission
from embarc.inlets.relay import Relay, SqliteSource
from embarc.observe import Observer
from embarc.outbox import OutboxEvent, ddl, emit

EVENT = OutboxEvent(
    entity_name="LOAN",
    action_name="APPROVE",
    created_by=12,
    created_by_name="john.doe",
    created_by_full_name="John Doe",
    ids={"loanId": 17, "clientId": 3},
    request='{"amount": 1.00}',
    response={"resourceId": 17},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "platform.db"
    with sqlite3.connect(found) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute(ddl("sqlite"))
    connection.close()
    return found


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(path)
    yield opened
    opened.close()


def rows(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    found = [body for (body,) in connection.execute("select body from embarc_outbox order by position")]
    connection.close()
    return found


def test_an_event_is_there_after_the_commit_and_not_before(
    path: Path, connection: sqlite3.Connection
) -> None:
    emit(connection, EVENT)
    before = rows(path)
    connection.commit()

    assert before == []
    (body,) = rows(path)
    assert '"request": {"amount": 1.00}' in body
    assert json.loads(body)["loanId"] == 17


def test_a_rollback_takes_the_event_with_it(path: Path, connection: sqlite3.Connection) -> None:
    emit(connection, EVENT)
    connection.rollback()

    assert rows(path) == []


def test_it_works_in_a_sqlalchemy_session_and_its_savepoints(path: Path) -> None:
    engine = create_engine(f"sqlite:///{path}")
    with Session(engine) as session, session.begin():
        session.execute(text("create table loans (id integer)"))
        emit(session, EVENT)
    with Session(engine) as session:
        emit(session, EVENT)
        session.rollback()
    with engine.begin() as connection:
        emit(connection, EVENT)
    engine.dispose()

    assert len(rows(path)) == 2


def test_an_unknown_dialect_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="There are: sqlite"):
        ddl("oracle")


class Embarc:
    """What the relay publishes to."""

    def __init__(self) -> None:
        self.submissions: list[Submission] = []
        self.fails = 0
        self.published = asyncio.Event()
        self.failed = asyncio.Event()

    async def publish(self, submission: Submission) -> Receipt:
        if self.fails:
            self.fails -= 1
            raise StoreUnavailable
        self.submissions.append(submission)
        return Receipt(event_ids=("evt_x",), deliveries=0)


async def relaying(path: Path, embarc: Embarc) -> Relay:
    observer = Observer()
    observer.subscribe("relay.published", lambda facts: embarc.published.set())
    observer.subscribe("relay.failed", lambda facts: embarc.failed.set())
    relay = Relay(SqliteSource(path), embarc.publish, observer)
    relay.start()
    return relay


async def test_the_relay_carries_events_in_order_and_empties_the_outbox(
    path: Path, connection: sqlite3.Connection
) -> None:
    ids = [emit(connection, EVENT) for _ in range(5)]
    connection.commit()
    embarc = Embarc()

    relay = await relaying(path, embarc)
    async with asyncio.timeout(10):
        await embarc.published.wait()
    await relay.stop()

    assert [submission.idempotency_key for submission in embarc.submissions] == [
        f"outbox:{one}" for one in ids
    ]
    (draft,) = embarc.submissions[0].drafts
    assert draft.request == b'{"amount":1.00}'
    assert dict(draft.ids) == {"loanId": 17, "clientId": 3}
    assert rows(path) == []


async def test_a_commit_wakes_the_relay_at_once(path: Path, connection: sqlite3.Connection) -> None:
    embarc = Embarc()
    relay = await relaying(path, embarc)
    emit(connection, EVENT)
    connection.commit()

    relay.wake()
    async with asyncio.timeout(10):
        await embarc.published.wait()

    await relay.stop()
    assert len(embarc.submissions) == 1


async def test_what_could_not_be_published_stays_and_is_tried_again_with_the_same_key(
    path: Path, connection: sqlite3.Connection
) -> None:
    event_id = emit(connection, EVENT)
    connection.commit()
    embarc = Embarc()
    embarc.fails = 1

    relay = await relaying(path, embarc)
    async with asyncio.timeout(10):
        await embarc.failed.wait()
        left = rows(path)
        relay.wake()
        await embarc.published.wait()
    await relay.stop()

    assert len(left) == 1
    assert [submission.idempotency_key for submission in embarc.submissions] == [f"outbox:{event_id}"]
