"""An installation moves from SQLite to PostgreSQL: everything goes with it, nothing happens twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import asyncpg
import pytest

from embarc.core.errors import EmbarcError, SettingsError
from embarc.engine.replay import Replayer
from embarc.settings import Settings
from embarc.store.base import DeliveryFilter
from embarc.store.keys import CannotOpen
from embarc.store.sqlite.moved import mark_of
from embarc.testing.engine import EngineLab, open_store
from embarc.testing.lived import KEY, live, seen, with_key
from embarc.testing.postgres import Databases
from embarc.testing.receiver import ScriptedReceiver
from embarc.upkeep import Copied, copy_store, verify_audits


def nothing(table: str, done: int, total: int) -> None:
    """Nobody looks at the bar."""


@pytest.fixture
async def source(tmp_path: Path) -> str:
    url = with_key(tmp_path / "embarc.db")
    async with ScriptedReceiver() as well, ScriptedReceiver() as ill:
        await live(url, well, ill)
    return url


@pytest.fixture
async def target(databases: Databases) -> AsyncIterator[str]:
    url = await databases.empty()
    yield url
    await databases.drop(url)


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


async def copy(source: str, target: str, *, page_rows: int = 3) -> Copied:
    return await copy_store(Settings(store=source), target, on_page=nothing, page_rows=page_rows)


async def seen_at_the_source(url: str) -> dict[str, object]:
    engine = await EngineLab(url).start()
    await engine.dispatcher.stop()
    try:
        return await seen(engine.store)
    finally:
        await engine.stop()


async def fetched(url: str, sql: str) -> list[Sequence[object]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


async def test_everything_is_seen_at_the_target_as_it_was_at_the_source(source: str, target: str) -> None:
    before = await seen_at_the_source(source)

    copied = await copy(source, target)

    assert copied.is_whole
    assert all(one.source > 0 for one in copied.compared), copied.compared
    store = await open_store(target, time.time)
    after = await seen(store)
    await store.close()
    assert after.keys() == before.keys()
    for name, what in before.items():
        assert after[name] == what, name


async def test_the_chains_of_the_audit_log_verify_at_the_target(source: str, target: str) -> None:
    await copy(source, target)

    verified = await verify_audits(Settings(store=target, key=KEY))

    assert verified.broken == []
    assert verified.entries == 6


async def test_ids_that_were_given_are_not_given_again_and_order_goes_on(source: str, target: str) -> None:
    await copy(source, target)
    (last_seq,) = (await fetched(target, "select max(accepted_seq) from events"))[0]

    async with ScriptedReceiver() as receiver:
        engine = await EngineLab(target).start()
        hook_id = await engine.hook(receiver.url, tenant="new")
        await engine.publish(tenant="new")
        again = await engine.publish(5, key="once")
        await engine.stop()

    assert hook_id == 6  # the fifth was deleted before
    assert again.duplicate
    ((new_seq,),) = await fetched(target, "select accepted_seq from events where tenant = 'new'")
    assert new_seq == last_seq + 1  # type: ignore[operator] # both are numbers


async def test_what_waited_is_delivered_by_a_service_on_the_target_and_in_order(
    tmp_path: Path, target: str
) -> None:
    source = with_key(tmp_path / "embarc.db")
    async with ScriptedReceiver() as well, ScriptedReceiver() as ill:
        await live(source, well, ill)
        await copy(source, target)
        sent = len(ill.requests)
        ill.answers(200)
        engine = await EngineLab(target).start()
        deliveries = await engine.store.list_deliveries("orderly", DeliveryFilter(), before=None, limit=9)
        *behind, exhausted = [one.event_key for one in deliveries]
        await Replayer(engine.store, engine.registry, engine.dispatcher.wake).replay(
            "orderly", f"dlv_{exhausted.hex()}_3"
        )
        for _ in range(3):
            await engine.next_attempt()
        await engine.stop()

    arrived = [request.header("webhook-id") for request in ill.requests[sent:]]
    assert arrived == [f"evt_{key.hex()}" for key in (exhausted, *reversed(behind))]


async def test_days_of_old_events_are_made_and_nothing_goes_to_the_rest(source: str, target: str) -> None:
    connection = apsw.Connection(str(path_of(source)))
    for table in ("events", "deliveries", "attempts"):  # ten days older
        rows: list[Any] = connection.execute(f"select distinct event_key from {table}").fetchall()
        for (key,) in rows:
            older = (int.from_bytes(key[:6]) - 864_000_000).to_bytes(6, "big") + key[6:]
            connection.execute(f"update {table} set event_key = ? where event_key = ?", (older, key))
    connection.execute("update events set timestamp_ms = timestamp_ms - 864000000")
    connection.close()

    copied = await copy(source, target)

    assert copied.is_whole
    for table in ("events", "event_times", "ended_deliveries", "attempts"):
        assert await fetched(target, f"select count(*) from {table}_rest") == [(0,)]


async def test_the_source_refuses_a_service_and_says_where_it_went_and_how_to_undo_it(
    source: str, target: str
) -> None:
    await copy(source, target)

    with pytest.raises(SettingsError, match=r"was copied to postgresql://.* delete .*embarc\.db\.moved"):
        await EngineLab(source).start()
    with pytest.raises(SettingsError, match="was copied to"):
        await copy(source, target)

    mark_of(path_of(source)).unlink()
    engine = await EngineLab(source).start()
    await engine.stop()


CHILD = textwrap.dedent("""
    import asyncio, os, signal, sys
    from embarc.settings import Settings
    from embarc.upkeep import copy_store
    source, target, left = sys.argv[1], sys.argv[2], int(sys.argv[3])
    def on_page(table, done, total):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    copied = asyncio.run(copy_store(Settings(store=source), target, on_page=on_page, page_rows=2))
    sys.exit(0 if copied.is_whole else 1)
""")


async def test_a_copy_that_is_killed_again_and_again_ends_with_exactly_the_same_rows(
    source: str, target: str
) -> None:
    before = await seen_at_the_source(source)
    chance = random.Random(7)

    killed = 0
    while True:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, source, target, str(chance.randint(2, 24))
        )
        code = await child.wait()
        if code == 0:
            break
        assert code == -signal.SIGKILL
        killed += 1
        if killed == 1:
            await nobody_starts_on_either(source, target)

    assert killed >= 2
    store = await open_store(target, time.time)
    assert await seen(store) == before
    await store.close()


async def nobody_starts_on_either(source: str, target: str) -> None:
    with pytest.raises(SettingsError, match="is being copied to"):
        await EngineLab(source).start()
    with pytest.raises(SettingsError, match="is being copied into"):
        await EngineLab(target).start()


async def test_a_copy_that_is_killed_at_any_moment_is_whole_in_the_end(source: str, target: str) -> None:
    chance = random.Random(11)
    for _ in range(3):
        started = await embarc_copy(source, target)
        try:
            async with asyncio.timeout(chance.uniform(0.5, 2.5)):
                await started.wait()
        except TimeoutError:
            started.kill()
            await started.communicate()

    if not mark_is_complete(source):
        finished = await embarc_copy(source, target)
        told, _ = await finished.communicate()
        assert finished.returncode == 0, told
        assert b"Everything is there" in told
    assert await fetched(
        target, "select count(*), count(distinct event_key) from all_deliveries"
    ) == await fetched(target, "select count(*), count(distinct event_key) from events")


async def embarc_copy(source: str, target: str) -> asyncio.subprocess.Process:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EMBARC_")}
    return await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("embarc"),
        *("store", "copy", source, target),
        env=clean,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


def mark_is_complete(source: str) -> bool:
    mark = mark_of(path_of(source))
    return mark.exists() and '"is_complete":true' in mark.read_text()


async def test_a_source_that_was_used_since_is_not_mixed_with_an_earlier_copy(
    source: str, target: str
) -> None:
    interrupted = 0

    def interrupt(table: str, done: int, total: int) -> None:
        nonlocal interrupted
        interrupted += 1
        if interrupted == 8:
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        await copy_store(Settings(store=source), target, on_page=interrupt, page_rows=2)
    mark_of(path_of(source)).unlink()

    with pytest.raises(SettingsError, match="a part of another copy"):
        await copy(source, target)


async def test_a_source_that_a_service_has_open_is_refused(source: str, target: str) -> None:
    engine = await EngineLab(source).start()

    with pytest.raises(SettingsError, match="in use by another Embarc process"):
        await copy(source, target)

    await engine.stop()
    assert not mark_of(path_of(source)).exists()


async def test_a_target_that_has_an_installation_of_its_own_is_refused(source: str, target: str) -> None:
    store = await open_store(target, time.time)
    await store.close()

    with pytest.raises(SettingsError, match="an installation of its own: there are rows in data_keys"):
        await copy(source, target)

    engine = await EngineLab(source).start()  # nothing has happened to it
    await engine.stop()


async def test_a_target_that_a_service_uses_is_refused(source: str, target: str) -> None:
    engine = await EngineLab(target).start()
    await engine.stop()
    connection = await asyncpg.connect(target)
    await connection.execute("truncate data_keys, audit_heads, hooks")
    await connection.execute("insert into members values (1, 'a machine:7', true, '{}', embarc_now_ms(null))")
    await connection.close()

    with pytest.raises(SettingsError, match="Stop these processes first, they use the target: a machine:7"):
        await copy(source, target)


async def test_another_key_is_refused_before_anything_is_written(source: str, target: str) -> None:
    with pytest.raises(CannotOpen, match="Start Embarc with the key that belongs to this store"):
        await copy_store(Settings(store=source, key="11" * 32), target, on_page=nothing)

    assert not mark_of(path_of(source)).exists()
    assert await fetched(target, "select to_regclass('data_keys')") == [(None,)]


async def test_a_text_that_postgres_cannot_store_is_told_and_the_rest_is_not_touched(
    source: str, target: str
) -> None:
    connection = apsw.Connection(str(path_of(source)))
    connection.execute("update attempts set detail = 'a' || char(0) || 'b' where number = 1")
    changed = connection.changes()
    connection.close()

    copied = await copy(source, target)

    assert copied.is_whole
    assert copied.replaced == changed > 0
    told = await fetched(target, "select distinct detail from attempts where number = 1")
    assert told == [("a\N{REPLACEMENT CHARACTER}b",)]


@pytest.mark.parametrize(
    ("source_url", "target_url"),
    [
        ("sqlite:///a.db", "sqlite:///b.db"),
        ("postgresql://u@h/a", "sqlite:///b.db"),
        ("postgresql://u@h/a", "postgresql://u@h/b"),
    ],
)
async def test_a_copy_goes_from_the_embedded_store_to_postgres(source_url: str, target_url: str) -> None:
    with pytest.raises(EmbarcError, match="A copy goes from `sqlite:///PATH` to"):
        await copy_store(Settings(store=source_url), target_url, on_page=nothing)
