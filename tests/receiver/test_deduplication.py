"""De-duplication over every ledger: once, although deliveries race, handlers crash, and claims run out."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy import create_engine, text

from embarc.receiver import Deduplicator, InProgress, MemoryLedger, SqliteLedger
from embarc.receiver.deduplication import Ledger, RedisLedger, SqlLedger, Standing, claim_in
from embarc.testing.clock import ManualClock

LEDGERS = ["memory", "sqlite", "sqlalchemy", "postgres", "redis"]


@pytest.fixture(params=LEDGERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ledger(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    match kind:
        case "memory":
            yield MemoryLedger()
        case "sqlite":
            opened = SqliteLedger(str(tmp_path / "received.db"))
            yield opened
            opened.close()
        case "redis":
            yield RedisLedger(request.getfixturevalue("redis_client"))
        case _:
            url = (
                f"sqlite:///{tmp_path / 'received.db'}"
                if kind == "sqlalchemy"
                else request.getfixturevalue("postgres_url")
            )
            engine = create_engine(url)
            with engine.begin() as connection:
                connection.execute(text("drop table if exists embarc_received"))
            yield SqlLedger(engine)
            engine.dispose()


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


def held_briefly(ledger: Ledger, key: str, owner: str) -> None:
    """Claim for a moment, and wait until the claim has run out. Redis has a clock of its own, so this takes real time."""
    now = time.time()
    assert ledger.claim(key, owner, now, now + 0.02) is Standing.NEW
    while time.time() < now + 0.05:
        time.sleep(0.01)


def claimed(ledger: Ledger, key: str, owner: str) -> Standing:
    now = time.time()
    return ledger.claim(key, owner, now, now + 60)


def test_a_claim_that_ran_out_is_not_its_old_owners_to_release(ledger: Ledger) -> None:
    held_briefly(ledger, "evt_1", "slow")
    assert claimed(ledger, "evt_1", "second") is Standing.NEW

    ledger.release("evt_1", "slow")

    assert claimed(ledger, "evt_1", "third") is Standing.BUSY


def test_a_claim_that_ran_out_and_was_handled_after_all_is_remembered_by_everybody(ledger: Ledger) -> None:
    held_briefly(ledger, "evt_1", "slow")
    assert claimed(ledger, "evt_1", "second") is Standing.NEW

    was_own = ledger.confirm("evt_1", "slow", time.time() + 60)
    ledger.release("evt_1", "second")  # it failed at what was done already

    assert not was_own
    assert claimed(ledger, "evt_1", "third") is Standing.DONE


def test_what_was_handled_is_remembered_although_whoever_took_over_gave_up_before(ledger: Ledger) -> None:
    held_briefly(ledger, "evt_1", "slow")
    assert claimed(ledger, "evt_1", "second") is Standing.NEW
    ledger.release("evt_1", "second")

    was_own = ledger.confirm("evt_1", "slow", time.time() + 60)

    assert not was_own
    assert claimed(ledger, "evt_1", "third") is Standing.DONE


def test_a_claim_of_ones_own_is_confirmed_and_released_as_such(ledger: Ledger) -> None:
    assert claimed(ledger, "evt_1", "one") is Standing.NEW
    assert ledger.confirm("evt_1", "one", time.time() + 60)
    assert claimed(ledger, "evt_2", "one") is Standing.NEW
    ledger.release("evt_2", "one")

    assert claimed(ledger, "evt_1", "two") is Standing.DONE
    assert claimed(ledger, "evt_2", "two") is Standing.NEW


def test_a_handler_that_outlives_its_claim_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    ledger = MemoryLedger()
    slow, other = (Deduplicator(ledger, now=clock.now, hold_seconds=60) for _ in range(2))

    with caplog.at_level(logging.WARNING), slow.once("evt_1") as first:
        clock.advance(61)
        with pytest.raises(RuntimeError), other.once("evt_1") as second:
            raise RuntimeError("it failed")

    assert first
    assert second
    assert "longer than the 60 s" in caplog.text
    with other.once("evt_1") as third:
        assert not third


WORKER = """
import random, sys, time
from embarc.receiver import Deduplicator, InProgress, SqliteLedger
kind, where = sys.argv[1:]
if kind == "sqlite":
    ledger = SqliteLedger(where)
elif kind == "redis":
    import redis
    from embarc.receiver.deduplication import RedisLedger
    ledger = RedisLedger(redis.Redis(unix_socket_path=where))
else:
    from sqlalchemy import create_engine
    from embarc.receiver.deduplication import SqlLedger
    ledger = SqlLedger(create_engine(where))
deduplicator = Deduplicator(ledger)
left = [f"evt_{number}" for number in range(60)] * 3
random.shuffle(left)
while left:
    key = left.pop()
    try:
        with deduplicator.once(key) as is_new:
            if is_new:
                if random.random() < 0.3:
                    raise RuntimeError
                print(key)
    except (InProgress, RuntimeError):
        left.insert(0, key)
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "redis"])
def test_of_processes_that_race_each_id_is_handled_by_one(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    match kind:
        case "sqlite":
            where = str(tmp_path / "shared.db")
        case "redis":
            request.getfixturevalue("redis_client")
            where = request.getfixturevalue("redis_socket")
        case _:
            where = request.getfixturevalue("postgres_url")
            engine = create_engine(where)
            with engine.begin() as connection:
                connection.execute(text("drop table if exists embarc_received"))
            engine.dispose()
    command = [sys.executable, "-c", WORKER, kind, where]
    pipe = subprocess.PIPE
    workers = [subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) for _ in range(4)]

    results = [worker.communicate(timeout=60) for worker in workers]

    assert [worker.returncode for worker in workers] == [0] * 4, results
    handled = [line for out, _ in results for line in out.split()]
    assert sorted(handled) == sorted(f"evt_{number}" for number in range(60))


@pytest.mark.parametrize("kind", ["memory", "sqlite", "sqlalchemy", "postgres"], indirect=True)
def test_a_claim_whose_process_died_is_taken_over_and_a_confirmation_is_remembered(ledger: Ledger) -> None:
    clock = ManualClock()
    deduplicator = Deduplicator(ledger, now=clock.now, hold_seconds=60)
    ledger.claim("evt_1", "dead", clock.now(), clock.now() + 60)  # and then the machine lost its power

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


def test_redis_forgets_a_claim_by_its_own_clock_and_remembers_what_was_handled(
    redis_client: redis.Redis,
) -> None:
    ledger = RedisLedger(redis_client)
    deduplicator = Deduplicator(ledger)
    held_briefly(ledger, "evt_1", "dead")

    with deduplicator.once("evt_1") as is_new:
        assert is_new

    left_ms = redis_client.pttl("embarc:received:evt_1")
    assert 29 * 86_400_000 < int(left_ms) <= 30 * 86_400_000


def test_a_redis_client_that_decodes_its_answers_will_do_as_well(redis_socket: str) -> None:
    client = redis.Redis(unix_socket_path=redis_socket, decode_responses=True)
    client.flushall()
    seen = []
    for _ in range(2):
        with Deduplicator(RedisLedger(client)).once("evt_1") as is_new:
            seen.append(is_new)
    client.close()

    assert seen == [True, False]


@pytest.mark.parametrize("kind", ["sqlalchemy", "postgres"], indirect=True)
def test_a_sql_ledger_forgets_what_nobody_repeats_any_more(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(ledger, SqlLedger)
    monkeypatch.setattr("embarc.receiver.deduplication._FORGET_EVERY", 2)
    clock = ManualClock()
    deduplicator = Deduplicator(ledger, now=clock.now)
    with deduplicator.once("evt_1"):
        pass
    clock.advance(31 * 86_400)
    with deduplicator.once("evt_2"):
        pass

    with ledger._engine.connect() as connection:
        assert connection.execute(text("select id from embarc_received")).scalars().all() == ["evt_2"]


def test_handling_and_remembering_commit_together_or_not_at_all(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    SqlLedger(engine)
    with engine.begin() as connection:
        connection.execute(text("delete from embarc_received"))
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

    with engine.begin() as connection:
        assert connection.execute(text("select count(*) from work")).scalar() == 1
        connection.execute(text("drop table work"))
    engine.dispose()
