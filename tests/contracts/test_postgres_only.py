"""What only the PostgreSQL store promises: its plans, its days, its migrations, a pooler in between, a cluster."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from embarc.core.deliveries import Traffic
from embarc.core.errors import Invalid, SettingsError, StoreUnavailable
from embarc.core.submissions import Receipt
from embarc.store.base import EventFilter
from embarc.store.migrate import MigrationError
from embarc.store.postgres.connections import Address
from embarc.store.postgres.database import migrate
from embarc.store.postgres.distribute import distribution
from embarc.store.postgres.store import PostgresStore
from embarc.store.queries import load_queries
from embarc.testing.clock import ManualClock
from embarc.testing.lab import Factory, every_class
from embarc.testing.postgres import Databases, open_store

LEASE = 60.0
DAY = 86_400
PACKAGE = "embarc.store.postgres"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def make(clock: ManualClock) -> Factory:
    return Factory(clock)


@pytest.fixture
async def store(postgres_url: str, clock: ManualClock) -> AsyncIterator[PostgresStore]:
    opened = await open_store(postgres_url, clock=clock)
    yield opened
    await opened.close()


async def ask(url: str, sql: str, *values: Any) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        found: list[Any] = await connection.fetch(sql, *values)
        return found
    finally:
        await connection.close()


# -- plans -----------------------------------------------------------------------------------------------------


async def fill(connection: Any, count: int) -> None:
    """A backlog of two hooks, one of them ordered, made in the server."""
    await connection.execute("truncate deliveries, events")
    await connection.execute(
        "insert into events (tenant, event_key, accepted_seq, entity_name, action_name, entity_id, timestamp_ms,"
        " accepted_at_ms, payload) select 'default', decode(lpad(to_hex(n), 32, '0'), 'hex'), n, 'LOAN', 'APPROVE',"
        " n::text, n, n, '{}' from generate_series(1, $1::int) n",
        count,
    )
    await connection.execute(
        "insert into deliveries (tenant, event_key, hook_id, state, due_at_ms, order_key, accepted_seq)"
        " select tenant, event_key, 1 + accepted_seq % 2, 'waiting', accepted_seq,"
        " case when accepted_seq % 2 = 1 then 'LOAN/' || accepted_seq % 1000 end, accepted_seq from events"
    )
    await connection.execute("vacuum analyze deliveries")


def scans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "Relation Name" in plan:
        yield plan
    for inner in plan.get("Plans", []):
        yield from scans(inner)


async def explained(connection: Any, statement: str, *arguments: str) -> dict[str, Any]:
    await connection.execute(f"prepare asked as {load_queries(PACKAGE)[statement]}")
    async with connection.transaction():
        found = await connection.fetchval(
            f"explain (analyze, buffers, format json) execute asked({', '.join(arguments)})"
        )
    await connection.execute("deallocate asked")
    plan: dict[str, Any] = json.loads(found)[0]["Plan"]
    return plan


ASKED = {
    "due": ("null",),
    "claim": ("null", "'{1,2}'", "'{0,0}'", "'{50,50}'", "60000", "5", "'lost'", "'lost'", "'{0,0}'"),
    "due_since": ("null", "'{1,2}'", "'{0,0}'", "'{0,0}'"),
}


@pytest.mark.parametrize("statement", list(ASKED))
async def test_a_backlog_is_never_read_through(postgres_url: str, statement: str) -> None:
    connection = await Address.parse(postgres_url).connect()
    read = []
    for count in (2_000, 20_000, 100_000):
        await fill(connection, count)
        plan = await explained(connection, statement, *ASKED[statement])
        read.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
        for scan in scans(plan):
            rows = scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0)
            assert rows * scan["Actual Loops"] < 1000, scan
            if scan["Relation Name"] == "deliveries":
                assert "Index" in scan["Node Type"] or scan["Node Type"] == "ModifyTable", scan
    await connection.close()

    small, middle, large = read
    assert max(middle, large) < small * 2 + 100


async def test_a_plan_made_on_an_empty_table_is_good_for_a_full_one(postgres_url: str) -> None:
    connection = await Address.parse(postgres_url).connect()
    await connection.execute("vacuum analyze deliveries")

    for statement, arguments in ASKED.items():
        plan = await explained(connection, statement, *arguments)
        for scan in scans(plan):
            assert scan["Relation Name"] != "deliveries" or "Seq" not in scan["Node Type"], statement
    await connection.close()


# -- days ------------------------------------------------------------------------------------------------------


async def partitions(url: str, table: str) -> list[str]:
    found = await ask(
        url,
        "select inhrelid::regclass::text from pg_inherits where inhparent = $1::text::regclass order by 1",
        table,
    )
    return [row[0] for row in found]


async def test_days_are_made_a_week_ahead(
    store: PostgresStore, postgres_url: str, clock: ManualClock
) -> None:
    clock.advance(DAY)
    assert list(await store.upkeep()) == []

    names = await partitions(postgres_url, "events")
    assert "events_20251013" in names
    assert "events_20251021" in names
    assert "events_20251022" not in names


async def test_an_event_of_a_day_that_was_not_made_is_accepted_told_about_and_moved_when_its_day_is_made(
    store: PostgresStore, postgres_url: str, make: Factory, clock: ManualClock
) -> None:
    clock.advance(30 * DAY)
    event = make.event()
    await store.publish(make.publication(event, hooks=(1,)), lease_seconds=LEASE)
    before = await ask(postgres_url, "select tableoid::regclass::text from events")
    alarms = await store.alarms()

    await store.upkeep()

    assert [row[0] for row in before] == ["events_rest"]
    assert any("events_rest" in alarm for alarm in alarms)
    assert [row[0] for row in await ask(postgres_url, "select tableoid::regclass::text from events")] == [
        "events_20251112"
    ]
    assert await store.get_event("default", event.key) is not None
    assert list(await store.upkeep()) == []


async def test_an_old_day_goes_as_a_whole_and_what_waits_moves_to_the_rest_until_it_has_ended(
    store: PostgresStore, postgres_url: str, make: Factory, clock: ManualClock
) -> None:
    ended, waits = make.event(), make.event()
    for event in (ended, waits):
        await store.publish(make.publication(event, hooks=(1,)), lease_seconds=LEASE)
    (claim,) = await store.claim(every_class({1: 1}), lease_seconds=LEASE, lease_token=5)
    await store.settle([make.settlement(claim)])
    clock.advance(40 * DAY)

    async def prune() -> int:
        total, position = 0, 0
        while True:
            deleted, after = await store.prune_events(30 * DAY, after=position, limit=10)
            total += deleted
            if after is None:
                return total
            position = after

    first = await prune()
    left = await store.list_events("default", EventFilter(), before=None, limit=9)
    claims = await store.claim(every_class({1: 9}), lease_seconds=LEASE, lease_token=6)
    await store.settle([make.settlement(one) for one in claims])
    second = await prune()

    assert first == 1
    assert [record.event.key for record in left] == [waits.key]
    assert [one.event_key for one in claims] == [waits.key]
    assert second == 1
    assert "events_20251013" not in await partitions(postgres_url, "events")
    assert await ask(postgres_url, "select * from event_times") == []


# -- migrations ------------------------------------------------------------------------------------------------


@pytest.fixture
async def empty_url(databases: Databases) -> AsyncIterator[str]:
    url = await databases.empty()
    yield url
    await databases.drop(url)


async def test_of_two_processes_that_start_at_once_one_migrates(empty_url: str) -> None:
    planned = await migrate(empty_url, dry_run=True)
    before = await ask(empty_url, "select to_regclass('events')")
    done = await asyncio.gather(*(migrate(empty_url) for _ in range(4)))

    assert before[0][0] is None
    assert sorted(len(one) for one in done) == [0, 0, 0, len(planned)]


async def test_a_database_of_a_newer_version_is_refused(postgres_url: str) -> None:
    await ask(postgres_url, "insert into migrations values (9999, 'x', 'y', 0)")

    with pytest.raises(MigrationError, match="newer Embarc"):
        await migrate(postgres_url)


async def test_a_url_that_leads_nowhere_says_what_is_wrong(postgres_url: str) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        await migrate(postgres_url + "x")
    with pytest.raises(StoreUnavailable) as refused:
        await migrate("postgresql://postgres@127.0.0.1:1/x")
    with pytest.raises(SettingsError, match="are numbers"):
        await migrate(postgres_url + "?connections=few")

    with pytest.raises(SettingsError, match="port") as wrong:
        await migrate("postgresql://embarc:secret/word@127.0.0.1/x")

    assert refused.value.retry_after_seconds
    assert "secret" not in str(wrong.value)


# -- neighbours ------------------------------------------------------------------------------------------------


async def test_what_cannot_be_stored_is_refused_alone(store: PostgresStore, make: Factory) -> None:
    bad = make.publication(make.event(entity_id="a\x00b"))
    good = [make.publication(make.event(), hooks=(1,)) for _ in range(4)]

    answers = await asyncio.gather(
        *(store.publish(one, lease_seconds=LEASE) for one in (*good[:2], bad, *good[2:])),
        return_exceptions=True,
    )

    assert [type(answer) for answer in answers] == [Receipt, Receipt, Invalid, Receipt, Receipt]


async def test_the_same_key_twice_at_once_is_accepted_once(
    store: PostgresStore, postgres_url: str, make: Factory
) -> None:
    other = await open_store(postgres_url)
    publications = [make.publication(make.event(), hooks=(1,), key=f"key-{n % 10}") for n in range(100)]

    answers = await asyncio.gather(
        *((store, other)[n % 2].publish(one, lease_seconds=LEASE) for n, one in enumerate(publications))
    )
    await other.close()

    receipts = [answer for answer in answers if isinstance(answer, Receipt)]
    assert len(receipts) == 100
    assert len({receipt.event_ids for receipt in receipts}) == 10
    assert sum(not receipt.duplicate for receipt in receipts) == 10
    assert len(await store.list_events("default", EventFilter(), before=None, limit=99)) == 10


# -- a pooler, a standby, weak settings, a cluster ------------------------------------------------------------------


async def test_without_statements_that_outlive_a_transaction_all_goes_on(
    postgres_url: str, make: Factory, clock: ManualClock
) -> None:
    store = await open_store(postgres_url + "?statement_cache_size=0", clock=clock)
    hook = await store.add_hook(make.hook())
    publications = [make.publication(make.event(), hooks=(hook.id,), key=str(n)) for n in range(30)]
    await asyncio.gather(*(store.publish(one, lease_seconds=LEASE) for one in publications))

    claims = await store.claim({(hook.id, Traffic.LIVE): 99}, lease_seconds=LEASE, lease_token=5)
    settled = await store.settle([make.settlement(claim) for claim in claims])
    again = await store.publish(
        replace(publications[0], events=make.publication(make.event()).events), lease_seconds=LEASE
    )
    await store.close()

    assert list(settled) == [True] * 30
    assert isinstance(again, Receipt)
    assert again.duplicate


async def test_a_database_that_only_reads_says_so_and_is_used_again_when_it_writes(
    store: PostgresStore, postgres_url: str, make: Factory
) -> None:
    name = postgres_url.rpartition("/")[2]
    await ask(postgres_url, f"alter database {name} set default_transaction_read_only = on")
    await ask(postgres_url, "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")  # fmt: skip

    with pytest.raises(StoreUnavailable, match="read-only"):
        await store.publish(make.publication(make.event()), lease_seconds=LEASE)
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("set default_transaction_read_only = off")
    await connection.execute(f"alter database {name} reset default_transaction_read_only")
    await connection.close()

    assert isinstance(await store.publish(make.publication(make.event()), lease_seconds=LEASE), Receipt)


async def test_settings_that_lose_accepted_events_are_told(postgres_url: str) -> None:
    name = postgres_url.rpartition("/")[2]
    sound = await open_store(postgres_url)
    await ask(postgres_url, f"alter database {name} set synchronous_commit = off")
    weak = await open_store(postgres_url)

    assert list(await sound.durability()) == []
    assert ["synchronous_commit" in warning for warning in await weak.durability()] == [True]
    await sound.close()
    await weak.close()


CITUS = """
create function create_reference_table(t regclass) returns void language plpgsql as $$ begin end $$;
create function create_distributed_table(t regclass, by text, colocate_with text default 'default') returns void
language plpgsql as $$
begin
  if exists (
    select 1 from pg_index i
    where i.indrelid = t and i.indisunique
      and (select a.attname from pg_attribute a where a.attrelid = t and a.attnum = i.indkey[0]) <> by
  ) then
    raise exception 'a unique key of % does not begin with %', t, by;
  end if;
  perform colocate_with::regclass where colocate_with <> 'default';
end $$
"""


async def test_every_table_can_be_spread_and_every_unique_key_leads_with_the_shard_key(
    postgres_url: str,
) -> None:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(CITUS)
    statements = [one for one in distribution() if "citus" not in one]

    for statement in statements:
        await connection.execute(statement)

    tables = await connection.fetch(
        "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')"
        " and not relispartition and relname <> 'migrations'"
    )
    await connection.close()
    named = {statement.split("'")[1] for statement in statements}
    assert named == {row[0] for row in tables}
