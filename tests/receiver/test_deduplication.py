"""De-duplication over every ledger: once, although deliveries race and handlers crash."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import fakeredis
import pytest
from sqlalchemy import create_engine, text

from embarc.receiver import Deduplicator, InProgress, MemoryLedger, SqliteLedger
from embarc.receiver.deduplication import Ledger, RedisLedger, SqlLedger, claim_in
from embarc.testing.clock import ManualClock


@pytest.fixture(params=["memory", "sqlite", "sqlalchemy", "redis"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    match request.param:
        case "memory":
            yield MemoryLedger()
        case "sqlite":
            opened = SqliteLedger(str(tmp_path / "received.db"))
            yield opened
            opened.close()
        case "sqlalchemy":
            engine = create_engine(f"sqlite:///{tmp_path / 'received.db'}")
            yield SqlLedger(engine)
            engine.dispose()
        case _:
            client = fakeredis.FakeRedis()
            yield RedisLedger(client)
            client.close()


def test_an_id_is_handled_once(ledger: Ledger) -> None:
    deduplicator = Deduplicator(ledger)
    seen = []
    for _ in range(3):
        with deduplicator.once("evt_1") as is_new:
            seen.append(is_new)
    with deduplicator.once("evt_2") as is_new:
        seen.append(is_new)

    assert seen == [True, False, False, True]


def test_a_handler_that_fails_is_tried_again(ledger: Ledger) -> None:
    deduplicator = Deduplicator(ledger)
    with pytest.raises(RuntimeError), deduplicator.once("evt_1"):
        raise RuntimeError("the database went away")

    with deduplicator.once("evt_1") as is_new:
        assert is_new


def test_while_one_is_at_it_the_other_one_is_told_so(ledger: Ledger) -> None:
    deduplicator = Deduplicator(ledger)
    with deduplicator.once("evt_1"), pytest.raises(InProgress), deduplicator.once("evt_1"):
        pass

    with deduplicator.once("evt_1") as is_new:
        assert not is_new


def test_of_many_that_race_one_is_new(ledger: Ledger) -> None:
    deduplicator = Deduplicator(ledger)
    outcomes: list[str] = []
    start = threading.Barrier(8)

    def race() -> None:
        start.wait()
        try:
            with deduplicator.once("evt_1") as is_new:
                outcomes.append("new" if is_new else "known")
        except InProgress:
            outcomes.append("busy")

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outcomes.count("new") == 1
    assert len(outcomes) == 8


@pytest.mark.parametrize("kind", ["memory", "sqlite", "sqlalchemy"])
def test_a_claim_whose_process_died_is_taken_over_and_a_confirmation_is_remembered(
    kind: str, tmp_path: Path
) -> None:
    clock = ManualClock()
    engine = create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    ledgers: dict[str, Ledger] = {
        "memory": MemoryLedger(),
        "sqlite": SqliteLedger(str(tmp_path / "received.db")),
        "sqlalchemy": SqlLedger(engine),
    }
    deduplicator = Deduplicator(ledgers[kind], now=clock.now, hold_seconds=60)
    ledgers[kind].claim("evt_1", clock.now(), clock.now() + 60)  # and then the machine lost its power

    clock.advance(59)
    with pytest.raises(InProgress), deduplicator.once("evt_1"):
        pass
    clock.advance(2)
    with deduplicator.once("evt_1") as is_new:
        taken_over = is_new
    clock.advance(29 * 86_400)
    with deduplicator.once("evt_1") as is_new:
        remembered = not is_new

    assert taken_over
    assert remembered
    engine.dispose()
    ledgers["sqlite"].close()  # type: ignore[attr-defined] # a SqliteLedger


def test_handling_and_remembering_commit_together_or_not_at_all(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    SqlLedger(engine)
    with engine.begin() as connection:
        connection.execute(text("create table work (id text)"))

    with engine.connect() as connection:
        assert claim_in(connection, "evt_1")
        connection.execute(text("insert into work values ('evt_1')"))
        connection.rollback()  # the power went out
    for expected in (True, False):
        with engine.begin() as connection:
            is_new = claim_in(connection, "evt_1")
            if is_new:
                connection.execute(text("insert into work values ('evt_1')"))
        assert is_new is expected

    with engine.connect() as connection:
        assert connection.execute(text("select count(*) from work")).scalar() == 1
    engine.dispose()
