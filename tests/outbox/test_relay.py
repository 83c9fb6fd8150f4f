"""The relay: what is in the outbox reaches Embarc once and in order, whatever fails on either side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from embarc.core.errors import SettingsError, StoreUnavailable
from embarc.core.events import EventKind
from embarc.core.submissions import Receipt, Submission
from embarc.inlets.outboxes import open_source, shown
from embarc.inlets.relay import NotNow, OutboxRow, Relay
from embarc.inlets.submitting import submitting
from embarc.observe import Observer
from embarc.outbox import OutboxEvent, emit
from embarc.store.base import EventFilter
from embarc.testing.engine import EngineLab

from .conftest import Database

PATIENCE_SECONDS = 60


def event(loan: int, number: int = 0, **changes: Any) -> OutboxEvent:
    return OutboxEvent(
        **{
            "entity_name": "LOAN",
            "action_name": "REPAYMENT",
            "ids": {"loanId": loan},
            "request": f'{{"amount": {number}.00}}',
            "response": {"resourceId": number},
        }
        | changes
    )


def commit(database: Database, *events: OutboxEvent) -> list[str]:
    """Emit the events in one transaction; their ids."""
    connection = database.connect()
    connection.cursor().execute("begin")
    ids = [emit(connection, one) for one in events]
    connection.commit()
    connection.close()
    return ids


class Embarc:
    """What rows are published to; answers as scripted, and knows keys."""

    def __init__(self) -> None:
        self.rows: list[OutboxRow] = []
        self.failures: list[Exception] = []
        self.refuses: dict[str, str] = {}
        self.breaks: set[str] = set()
        self._changed = asyncio.Condition()

    async def publish(self, row: OutboxRow) -> str | None:
        if self.failures:
            raise self.failures.pop(0)
        if row.id in self.breaks:
            raise RuntimeError("an error of ours")
        if row.id in self.refuses:
            return self.refuses[row.id]
        await asyncio.sleep(0)
        async with self._changed:
            if row.id not in self.ids:
                self.rows.append(row)
            self._changed.notify_all()
        return None

    @property
    def ids(self) -> list[str]:
        return [row.id for row in self.rows]

    async def has(self, *ids: str) -> None:
        """Wait until these rows were accepted."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._changed:
            await self._changed.wait_for(lambda: set(ids) <= set(self.ids))


class Told:
    """What the relay observed, to be waited for."""

    def __init__(self, observer: Observer, name: str) -> None:
        self._queue: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        observer.subscribe(name, self._queue.put_nowait)

    async def next(self) -> Mapping[str, Any]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._queue.get()


@asynccontextmanager
async def relaying(
    database: Database, embarc: Embarc, observer: Observer | None = None, **options: Any
) -> AsyncIterator[Relay]:
    relay = Relay(open_source(database.url, **options), embarc.publish, observer or Observer())
    relay.start()
    try:
        yield relay
    finally:
        await relay.stop()


async def test_events_are_carried_in_order_and_the_outbox_is_empty_afterwards(database: Database) -> None:
    ids = commit(database, *(event(loan=number % 3, number=number) for number in range(30)))
    embarc = Embarc()

    async with relaying(database, embarc):
        await embarc.has(*ids)

    for loan in range(3):
        assert [row.id for row in embarc.rows if row.entity == f"default/LOAN/{loan}"] == ids[loan::3]
    assert database.rows() == []


async def test_what_is_committed_later_is_found_without_being_told(database: Database) -> None:
    embarc = Embarc()
    async with relaying(database, embarc):
        for number in range(3):
            (row_id,) = commit(database, event(1, number))
            await embarc.has(row_id)

    assert database.rows() == []


async def test_a_transaction_that_commits_after_a_younger_one_is_not_skipped(
    postgres: Database, mariadb: Database
) -> None:
    for database in (postgres, mariadb):
        embarc = Embarc()
        slow = database.connect()
        slow.cursor().execute("begin")
        late = emit(slow, event(1))
        async with relaying(database, embarc):
            await embarc.has(*commit(database, event(2)))
            slow.commit()
            slow.close()

            await embarc.has(late)


async def test_accepted_rows_are_kept_where_it_is_asked_for(database: Database) -> None:
    ids = commit(database, event(1), event(2))
    embarc = Embarc()

    async with relaying(database, embarc, keep=True):
        await embarc.has(*ids)
    async with relaying(database, embarc, keep=True):
        await embarc.has(*commit(database, event(3)))

    assert database.rows("state") == [1, 1, 1]
    assert len(embarc.rows) == 3


async def test_only_the_tenants_own_rows_are_carried(database: Database) -> None:
    commit(database, event(1, tenant="other"))
    embarc = Embarc()

    async with relaying(database, embarc, tenant="default"):
        await embarc.has(*commit(database, event(1)))

    assert database.rows("tenant") == ["other"]


async def test_a_refused_event_is_kept_with_the_reason_and_holds_back_its_own_entity_only(
    database: Database,
) -> None:
    poison, held, other = commit(database, event(1, 1), event(1, 2), event(2, 3))
    embarc = Embarc()
    embarc.refuses[poison] = "400: entityName: There is no event LOAN.REPAYMNT."
    observer = Observer()
    refused = Told(observer, "relay.refused")

    async with relaying(database, embarc, observer):
        told = await refused.next()
        await embarc.has(other)
        later = commit(database, event(1, 4), event(3, 5))
        await embarc.has(later[1])

    assert told == {"row": poison, "reason": "400: entityName: There is no event LOAN.REPAYMNT."}
    assert embarc.ids == [other, later[1]]
    assert database.rows("id, state, reason") == [
        (poison, 2, "400: entityName: There is no event LOAN.REPAYMNT."),
        (held, 0, None),
        (later[0], 0, None),
    ]


@pytest.mark.parametrize(
    "decision",
    [
        "delete from embarc_outbox where state = 2",
        "update embarc_outbox set state = 0, reason = null where state = 2",
    ],
)
async def test_a_person_decides_about_a_refused_event_and_its_entity_goes_on(
    database: Database, decision: str
) -> None:
    poison, held = commit(database, event(1, 1), event(1, 2))
    embarc = Embarc()
    embarc.refuses[poison] = "400: no"
    observer = Observer()
    refused = Told(observer, "relay.refused")

    async with relaying(database, embarc, observer):
        await refused.next()
        embarc.refuses.clear()
        database.query(decision)
        await embarc.has(held)

    assert embarc.ids == ([held] if decision.startswith("delete") else [poison, held])
    assert database.rows() == []


async def test_events_of_no_known_entity_hold_back_nothing(database: Database) -> None:
    unknown: dict[str, Any] = {"ids": {}, "response": {}}
    poison, next_one = commit(database, event(1, 0, **unknown), event(1, 0, **unknown))
    embarc = Embarc()
    embarc.refuses[poison] = "400: no"

    async with relaying(database, embarc):
        await embarc.has(next_one)

    assert database.rows() == [poison]


async def test_an_outage_of_embarc_loses_nothing_and_keeps_the_order(database: Database) -> None:
    ids = commit(database, *(event(loan=1, number=number) for number in range(10)))
    embarc = Embarc()
    embarc.failures = [NotNow("Embarc answered 503"), NotNow("connection refused", 0.2)]
    observer = Observer()
    failed = Told(observer, "relay.failed")

    async with relaying(database, embarc, observer):
        first, second = await failed.next(), await failed.next()
        await embarc.has(*ids)

    assert first == {"reason": "Embarc answered 503", "seconds": 0.1}
    assert second == {"reason": "connection refused", "seconds": 0.2}
    assert embarc.ids == ids
    assert database.rows() == []


async def test_an_event_that_embarc_fails_on_stops_its_own_entity_only(database: Database) -> None:
    broken, behind = commit(database, event(1, 1), event(1, 2))
    embarc = Embarc()
    embarc.breaks.add(broken)
    observer = Observer()
    failed = Told(observer, "relay.failed")

    async with relaying(database, embarc, observer):
        await failed.next()
        await embarc.has(*commit(database, event(2), event(3)))
        embarc.breaks.clear()
        await embarc.has(broken, behind)

    assert embarc.ids[2:] == [broken, behind]


async def test_under_back_pressure_nothing_further_is_begun(sqlite: Database) -> None:
    ids = commit(sqlite, *(event(loan=number) for number in range(300)))
    embarc = Embarc()
    embarc.failures = [NotNow("503") for _ in range(5)]
    observer = Observer()
    failed = Told(observer, "relay.failed")

    async with relaying(sqlite, embarc, observer):
        for _ in range(5):
            await failed.next()
        begun = len(embarc.rows)
        await embarc.has(*ids)

    assert begun == 0


async def test_an_outage_of_the_database_is_survived(
    postgres: Database, mariadb: Database, mariadb_socket: str
) -> None:
    kill_postgres = (
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'embarc-relay'"
    )
    for database in (postgres, mariadb):
        embarc = Embarc()
        observer = Observer()
        failed = Told(observer, "relay.failed")
        async with relaying(database, embarc, observer):
            await embarc.has(*commit(database, event(1)))
            if database is postgres:
                database.query(kill_postgres)
            else:
                name = database.url.partition("?")[0].rpartition("/")[2]
                for (one,) in database.query(
                    f"select id from information_schema.processlist where db = '{name}' and id <> connection_id()"
                ):
                    database.query(f"kill {one}")
            await failed.next()
            await embarc.has(*commit(database, event(1)))


async def test_a_missing_table_is_told_and_waited_for(postgres: Database) -> None:
    postgres.query("alter table embarc_outbox rename to away")
    embarc = Embarc()
    observer = Observer()
    failed = Told(observer, "relay.failed")

    async with relaying(postgres, embarc, observer):
        told = await failed.next()
        postgres.query("alter table away rename to embarc_outbox")
        await embarc.has(*commit(postgres, event(1)))

    assert 'relation "embarc_outbox" does not exist' in told["reason"]


async def test_a_wake_ends_the_pause(sqlite: Database) -> None:
    embarc = Embarc()
    relay = Relay(open_source(sqlite.url), embarc.publish, Observer(), idle_seconds=3600)
    relay.start()
    for _ in range(5):
        ids = commit(sqlite, event(1))

        relay.wake()

        await embarc.has(*ids)
    await relay.stop()


async def test_stopping_leaves_what_was_not_begun(sqlite: Database) -> None:
    ids = commit(sqlite, *(event(1, number) for number in range(5)))
    embarc = Embarc()
    relay: Relay
    stopping: list[asyncio.Task[None]] = []

    async def publish(row: OutboxRow) -> str | None:
        stopping.append(asyncio.create_task(relay.stop()))
        await asyncio.sleep(0)
        return await embarc.publish(row)

    relay = Relay(open_source(sqlite.url), publish, Observer())
    relay.start()
    await embarc.has(ids[0])
    await stopping[0]

    assert embarc.ids == ids[:1]
    assert sqlite.rows() == ids[1:]


class Engine:
    """The engine's publish, and a catalogue to which every kind may be added."""

    def __init__(self) -> None:
        self.submissions: list[Submission] = []
        self.error: Exception | None = None
        self.submit = submitting(self.publish, self.admit)

    async def publish(self, submission: Submission) -> Receipt:
        if self.error:
            raise self.error
        self.submissions.append(submission)
        return Receipt(event_ids=("evt_x",), deliveries=0)

    async def admit(self, tenant: str, kind: EventKind) -> EventKind:
        return kind


def row_of(body: str) -> OutboxRow:
    return OutboxRow(id="a1", tenant="acme", entity=None, body=body)


async def test_a_row_becomes_a_submission_with_its_id_as_key() -> None:
    engine = Engine()

    assert await engine.submit(row_of(event(17, 5).json())) is None

    (submission,) = engine.submissions
    assert (submission.tenant, submission.idempotency_key) == ("acme", "outbox:a1")
    (draft,) = submission.drafts
    assert draft.request == b'{"amount":5.00}'
    assert dict(draft.ids) == {"loanId": 17}


@pytest.mark.parametrize(
    "body",
    [
        '{"entityName": "LOAN"}',
        "not JSON",
        event(1, entity_name="a\nb").json(),
        event(1, created_by=1).json(),
        event(1, request="[]").json(),
    ],
)
async def test_what_embarc_can_never_take_is_refused_with_a_reason(body: str) -> None:
    engine = Engine()

    assert await engine.submit(row_of(body))

    assert engine.submissions == []


async def test_a_store_that_cannot_commit_is_back_pressure() -> None:
    engine = Engine()
    engine.error = StoreUnavailable(retry_after_seconds=7)

    with pytest.raises(NotNow) as caught:
        await engine.submit(row_of(event(1).json()))

    assert caught.value.retry_after_seconds == 7


@pytest.mark.parametrize("is_open", [False, True])
async def test_a_kind_that_nobody_knows_is_refused_or_learnt_as_by_http(
    tmp_path: Path, *, is_open: bool
) -> None:
    engine = await EngineLab(f"sqlite:///{tmp_path / 'embarc.db'}", is_open_catalogue=is_open).start()
    submit = submitting(engine.publisher.publish, engine.kinds.admit)
    body = event(17, action_name="REPAYMANT").json()

    reason = await submit(row_of(body))
    events, _ = await engine.reader.events("acme", EventFilter(), None, 10)
    catalogue = await engine.kinds.catalogue("acme")
    await engine.stop()

    if is_open:
        assert reason is None
        assert [str(record.event.kind) for record in events] == ["LOAN.REPAYMANT"]
        assert catalogue.named("LOAN.REPAYMANT") is not None
    else:
        assert reason is not None
        assert "There is no event LOAN.REPAYMANT. Did you mean LOAN.REPAYMENT?" in reason
        assert events == []


@pytest.mark.parametrize("url", ["oracle://x/y", "sqlite://", "embarc.db"])
def test_a_source_that_is_not_one_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="must be postgresql"):
        open_source(url)


def test_a_url_is_shown_without_its_password() -> None:
    assert shown("postgresql://ann:secret@db.example:5432/core") == "postgresql://db.example:5432/core"
