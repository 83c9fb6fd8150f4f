"""`embarc doctor` beside a PostgreSQL: each thing that can be bad is made so, and is found."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from embarc.core.findings import Level
from embarc.core.ids import lowest_key
from embarc.settings import Settings
from embarc.testing.engine import EngineLab
from embarc.testing.postgres import Databases, PostgresServer
from embarc.testing.receiver import ScriptedReceiver
from embarc.upkeep import copy_store, examine

KEY = "00" * 32
Found = dict[str, tuple[Level, str]]


async def look(url: str, *, key: str = KEY) -> Found:
    """Findings by name; of those with one name the worst."""
    found: Found = {}
    for one in await examine(Settings(store=url, key=key), deep=False):
        found[one.name] = max(found.get(one.name, (Level.OK, "")), (one.level, one.told))
    return found


async def embarc_doctor(url: str, **environment: str) -> tuple[int | None, dict[str, Any]]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EMBARC_")}
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("embarc"),
        *("doctor", "--json", "--store", url),
        env=clean | environment,
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await process.communicate()
    return process.returncode, json.loads(told)


@pytest.fixture
async def connection(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    opened = await asyncpg.connect(postgres_url)
    yield opened
    opened.terminate()


async def test_a_store_that_is_well_has_nothing_that_needs_attention(postgres_url: str) -> None:
    engine = await EngineLab(postgres_url).start()
    try:
        found = await look(postgres_url)
    finally:
        await engine.stop()

    bad = {name: what for name, what in found.items() if what[0] > Level.OK and name != "free disk"}
    assert bad == {}
    assert found["processes"][1] == "1 alive: test"
    assert found["key"][1].startswith("opens ")
    assert found["schema"][1] == "up to date"
    assert set(found) >= {"PostgreSQL", "durability", "standby", "clock skew", "oldest transaction", "queue"}


async def test_the_command_exits_by_the_worst_finding(postgres_url: str) -> None:
    engine = await EngineLab(postgres_url).start()
    async with ScriptedReceiver() as receiver:
        hook_id = await engine.hook(receiver.url)
        await engine.hooks.pause("default", str(hook_id))
        await engine.publish()
        await engine.hooks.resume("default", str(hook_id))
        await engine.next_attempt()
    await engine.stop()

    code, found = await embarc_doctor(postgres_url, EMBARC_KEY="11" * 32)

    assert code == 2
    assert found["level"] == "CRITICAL"
    (key,) = [one for one in found["findings"] if one["name"] == "key"]
    assert key["level"] == "CRITICAL"
    assert "are protected by the key" in key["told"]


async def test_a_key_is_not_made_by_looking(postgres_url: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)

    found = await look(postgres_url, key="")

    assert found["key"][0] is Level.CRITICAL
    assert list(tmp_path.iterdir()) == []


async def test_a_transaction_that_is_left_open_is_found_with_who_holds_it(
    postgres_url: str, connection: asyncpg.Connection
) -> None:
    async with connection.transaction():
        await connection.fetchval("select txid_current()")

        found = await look(postgres_url)

    assert found["oldest transaction"][1].startswith(f"process {connection.get_server_pid()} (postgres")


async def test_rows_that_went_to_the_rest_are_found_and_a_horizon_that_has_come(
    postgres_url: str, connection: asyncpg.Connection
) -> None:
    day = time.strftime("%Y%m%d", time.gmtime())
    await connection.execute(f"drop table if exists attempts_{day}")
    now_ms = int(time.time() * 1000)
    await connection.execute(
        "insert into attempts values ('t', $1, 1, 1, $2, '', '', 'status', 200, 1, '', '', '', '[]')",
        lowest_key(now_ms),
        now_ms,
    )

    found = await look(postgres_url)

    # The template's days are those of a clock that stands still: the present has none yet.
    assert found["partitions"][0] is Level.CRITICAL
    told = [
        one.told
        for one in await examine(Settings(store=postgres_url, key=KEY), deep=False)
        if one.name == "partitions"
    ]
    assert "new rows of attempts are in attempts_rest: their day has no partition" in told
    assert "events has 0 days ahead" in told


async def test_a_failing_a_disabled_hook_and_a_delivery_that_nobody_sends_are_found(
    postgres_url: str, connection: asyncpg.Connection
) -> None:
    engine = await EngineLab(postgres_url).start()
    async with ScriptedReceiver() as receiver:
        for name in ("failing", "disabled", "well"):
            await engine.hook(receiver.url, tenant=name)
        await engine.dispatcher.stop()
        await engine.publish(tenant="well")
    await engine.stop()
    await connection.execute("update hooks set display_name = tenant")
    await connection.execute("update hooks set failing_since_ms = 1 where tenant = 'failing'")
    await connection.execute(
        "update hooks set is_active = false, inactive_because = 'gone' where tenant = 'disabled'"
    )
    await connection.execute("update deliveries set due_at_ms = embarc_now_ms(null) - 100000")

    found = await look(postgres_url)

    assert found["failing hooks"] == (Level.WARNING, "1: failing")
    assert found["disabled hooks"] == (Level.WARNING, "1: disabled")
    assert found["queue"][0] is Level.WARNING
    assert found["processes"][0] is Level.CRITICAL
    assert found["processes"][1].startswith(
        "none alive; none of them sends, and something has been due for 10"
    )


async def test_a_schema_that_is_behind_is_found_and_the_server_is_looked_at_nevertheless(
    databases: Databases,
) -> None:
    url = await databases.empty()

    found = await look(url)
    await databases.drop(url)

    assert found["schema"][0] is Level.WARNING
    assert "first" in found["schema"][1]
    assert found["durability"][0] is Level.OK
    assert "queue" not in found


async def test_a_copy_that_was_interrupted_is_found_on_both_sides(
    tmp_path: Path, databases: Databases
) -> None:
    source, target = f"sqlite:///{tmp_path / 'embarc.db'}", await databases.empty()
    engine = await EngineLab(source).start()
    await engine.stop()

    def interrupt(table: str, done: int, total: int) -> None:
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        await copy_store(Settings(store=source), target, on_page=interrupt)

    assert (await look(target))["copy"][0] is Level.WARNING
    assert (await look(source, key=""))["moved"][0] is Level.WARNING
    await databases.drop(target)


async def test_a_server_that_may_forget_is_found_and_so_is_what_it_holds(tmp_path: Path) -> None:
    """A server of its own: these settings are the server's, and are read when it starts."""
    server = PostgresServer(
        fsync="off",
        full_page_writes="off",
        autovacuum="off",
        max_connections="10",
        superuser_reserved_connections="0",
        max_prepared_transactions="2",
    ).start()
    try:
        engine = await EngineLab(server.url).start()
        await engine.stop()
        others = [await asyncpg.connect(server.url) for _ in range(7)]
        await others[0].execute("begin; select txid_current(); prepare transaction 'left over'")
        await others[0].execute("select pg_create_physical_replication_slot('unread', true)")

        found = await look(server.url)

        assert found["durability"][0] is Level.CRITICAL
        assert "fsync is off" in found["durability"][1]
        assert "full_page_writes is off" in found["durability"][1]
        assert found["autovacuum"] == (Level.CRITICAL, "autovacuum off")
        assert found["connections"] == (Level.WARNING, "8 of 10")
        assert found["oldest transaction"][1].startswith("prepared transaction left over (postgres)")
        assert "unread keeps" in found["replication slot"][1]
        assert "and nobody reads it" in found["replication slot"][1]
        assert found["free disk"][1].endswith("%)")  # its folder is on this machine

        await others[0].execute("alter system set synchronous_standby_names = 'another'")
        for one in others:
            one.terminate()
        server.stop()
        server.start()  # reads it

        assert (await look(server.url))["standby"][0] is Level.CRITICAL
    finally:
        server.close()


async def test_a_standby_is_found_and_looked_at_all_the_same() -> None:
    server = PostgresServer().start()
    try:
        engine = await EngineLab(server.url).start()
        await engine.stop()
        server.stop()
        Path(server.data, "standby.signal").touch()
        server.start()

        found = await look(server.url)
    finally:
        server.close()

    assert found["standby"] == (Level.CRITICAL, "this server is a standby: it accepts nothing")
    assert found["schema"][0] is Level.OK
    assert found["queue"][0] is Level.OK


async def test_a_server_that_does_not_answer_is_critical() -> None:
    found = await look("postgresql://postgres@127.0.0.1:1/nothing")

    assert found["database"][0] is Level.CRITICAL
