"""`make bench-postgres`: what a claim costs while history grows, a backlog waits, or somebody's transaction stays open.

    python -m bench.backlog --deliveries 2000000 --backlog 1000000 --held-seconds 600

The store's verbs are driven as the dispatcher drives them: half of the deliveries are born claimed, half are found due and
claimed, one in a hundred fails and is retried. Every commit is durable. Zero leaves a part out; each has a fresh database.
CPU is that of this process and of every process of the server, for each delivery that went its whole way.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import asyncpg
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.postgres import Meter
from embarc.core.deliveries import Claim, Settlement, Traffic
from embarc.store.postgres.store import PostgresStore
from embarc.testing.clock import ManualClock
from embarc.testing.lab import Factory
from embarc.testing.postgres import Databases, PostgresServer, open_store

T = TypeVar("T")
HOOKS = 20
ROUND = 200
"""Deliveries that are published, claimed and settled together."""
FAILS = 100
"""One in so many."""
FAN_OUT = 10
"""Deliveries of one event of the backlog."""
LEASE = 600.0
MARKS = (0.05, 0.25, 0.5, 1.0)
"""Parts of the way at which a line of the table is written."""
CLAIMED = 9
BORN_CLAIMED = 7


@dataclass(slots=True)
class Window:
    """What was measured since the last line of a table."""

    began: float = field(default_factory=time.perf_counter)
    due: list[float] = field(default_factory=list)
    claims: list[float] = field(default_factory=list)
    claimed: int = 0
    done: int = 0


class Load:
    """Deliveries on their way, a round at a time."""

    def __init__(self, store: PostgresStore) -> None:
        self.window = Window()
        self._store = store
        self._clock = ManualClock(time.time())
        self._make = Factory(self._clock)
        self._hook = 0
        self._settled = 0

    async def round(self) -> int:
        """Publish, claim, settle; returns how many were settled."""
        self._clock.advance(max(0.0, time.time() - self._clock.now()))
        born = await self._publish(ROUND // 2, token=BORN_CLAIMED)
        await self._publish(ROUND // 2, token=None)
        claims = born + await self.claim()
        await self._store.settle([self._settlement(claim) for claim in claims])
        self.window.done += len(claims)
        return len(claims)

    async def claim(self) -> list[Claim]:
        """What is due, as the dispatcher finds it."""
        found = await _timed(self.window.due, self._store.due())
        wanted = {(due.hook_id, due.traffic): ROUND // HOOKS for due in found if due.in_seconds <= 0}
        asked = self._store.claim(wanted, lease_seconds=LEASE, lease_token=CLAIMED)
        claims = list(await _timed(self.window.claims, asked))
        self.window.claimed += len(claims)
        return claims

    async def fill(self, events: int) -> int:
        """Publish deliveries that wait, and return how many."""
        self._clock.advance(max(0.0, time.time() - self._clock.now()))
        hooks = tuple(range(1, FAN_OUT + 1))
        publications = [self._make.publication(self._make.event(), hooks=hooks) for _ in range(events)]
        await asyncio.gather(*(self._store.publish(one, lease_seconds=LEASE) for one in publications))
        return events * FAN_OUT

    async def _publish(self, count: int, *, token: int | None) -> list[Claim]:
        publications = []
        claims = []
        for _ in range(count):
            self._hook = self._hook % HOOKS + 1
            event = self._make.event()
            publications.append(self._make.publication(event, hooks=(self._hook,), token=token))
            if token is not None:
                claims.append(
                    Claim(
                        tenant=event.tenant,
                        event_key=event.key,
                        hook_id=self._hook,
                        lease_token=token,
                        attempts=0,
                        failures=0,
                        traffic=Traffic.LIVE,
                        kind=event.kind,
                        payload=event.payload,
                    )
                )
        await asyncio.gather(*(self._store.publish(one, lease_seconds=LEASE) for one in publications))
        return claims

    def _settlement(self, claim: Claim) -> Settlement:
        self._settled += 1
        return self._make.settlement(claim, status=500 if self._settled % FAILS == 0 else 200, body=b"ok")


class Report:
    """A table of lines, each of what was measured since the one before."""

    def __init__(self, title: str, load: Load, meter: Meter, connection: asyncpg.Connection) -> None:
        self.table = Table(title=title)
        for name in (
            *("", "claim p50 ms", "p99 ms", "due p50 ms", "p99 ms", "deliveries/s"),
            *("CPU us, client", "server", "dead tuples", "hot table MB", "RSS MB"),
        ):
            self.table.add_column(name, justify="right")
        self.speeds: list[float] = []
        self.load = load
        self._meter = meter
        self._connection = connection
        self.begin()

    def begin(self) -> None:
        """Measure from now."""
        self.load.window = Window()
        self._cpu = self._meter.read()

    async def line(self, name: str) -> None:
        """Write what was measured, and measure anew."""
        window = self.load.window
        seconds = time.perf_counter() - window.began
        client, server = (after - before for after, before in zip(self._meter.read(), self._cpu, strict=True))
        done = window.done or window.claimed
        dead, size = await self._hot_table()
        self.speeds.append(done / seconds)
        row = (
            name,
            *(f"{_percentile(window.claims, part):.1f}" for part in (50, 99)),
            *(f"{_percentile(window.due, part):.1f}" for part in (50, 99)),
            f"{done / seconds:,.0f}",
            f"{client / done * 1e6:.0f}",
            f"{server / done * 1e6:.0f}",
            f"{dead:,}",
            f"{size / 1e6:.1f}",
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}",
        )
        self.table.add_row(*row)
        print(" ".join(row), file=sys.stderr, flush=True)  # a run takes long, and may be interrupted
        self.begin()

    async def _hot_table(self) -> tuple[int, int]:
        found = await self._connection.fetchrow(
            "select pg_stat_get_dead_tuples(oid), pg_total_relation_size(oid) from pg_class where relname = 'deliveries'"
        )
        assert found
        return int(found[0]), int(found[1])


async def main(deliveries: int, backlog: int, held_seconds: float) -> None:
    """Measure what is asked for on a server of our own."""
    server = PostgresServer(autovacuum_naptime="15s", shared_buffers="256MB", max_wal_size="4GB").start()
    try:
        with Progress() as progress:
            tables = [
                await _measured(server, title, measure)
                for is_wanted, title, measure in (
                    (deliveries, "History grows", lambda r, u: _history(r, progress, deliveries)),
                    (backlog, "A backlog waits", lambda r, u: _backlog(r, progress, backlog)),
                    (
                        held_seconds,
                        "A transaction stays open",
                        lambda r, u: _held(r, progress, held_seconds, u),
                    ),
                )
                if is_wanted
            ]
        for table in tables:
            Console(width=150).print(table)
    finally:
        server.close()


async def _measured(
    server: PostgresServer, title: str, measure: Callable[[Report, str], Awaitable[None]]
) -> Table:
    url = await Databases(server.url).fresh()
    store = await open_store(url)
    connection = await asyncpg.connect(url)
    report = Report(title, Load(store), Meter(server.pid), connection)
    await measure(report, url)
    await connection.close()
    await store.close()
    return report.table


async def _history(report: Report, progress: Progress, deliveries: int) -> None:
    task = progress.add_task("History grows", total=deliveries)
    done = 0
    for mark in MARKS:
        while done < deliveries * mark:
            count = await report.load.round()
            done += count
            progress.update(task, completed=done)
        await report.line(f"{done:,} delivered")


async def _backlog(report: Report, progress: Progress, backlog: int) -> None:
    """Claims of a page and what is due, at several sizes of the backlog."""
    task = progress.add_task("A backlog waits", total=backlog)
    done = 0
    for mark in MARKS:
        while done < backlog * mark:
            done += await report.load.fill(ROUND // 2)
            progress.update(task, completed=done)
        report.begin()
        for _ in range(50):
            await report.load.claim()
        await report.line(f"{done:,} waiting")


async def _held(report: Report, progress: Progress, seconds: float, url: str) -> None:
    """A minute, or a quarter of the time, without; then with a snapshot that forbids to clean up anything."""
    task = progress.add_task("A transaction stays open", total=seconds * 1.5)

    async def run(part: float) -> None:
        until = time.perf_counter() + part
        while time.perf_counter() < until:
            began = time.perf_counter()
            await report.load.round()
            progress.advance(task, time.perf_counter() - began)

    await run(seconds / 4)
    await report.line("before")
    holder = await asyncpg.connect(url)
    transaction = holder.transaction(isolation="repeatable_read", readonly=True)
    await transaction.start()
    await holder.fetchval("select count(*) from deliveries")
    for mark in (0.25, 0.5, 0.75, 1.0):
        await run(seconds / 4)
        await report.line(f"held {seconds * mark:.0f} s")
    await transaction.rollback()
    await holder.close()
    await run(seconds / 4)
    await report.line("after")
    without, worst = report.speeds[0], min(report.speeds[1:5])
    report.table.caption = f"throughput while held: {worst / without:.0%} of before"


async def _timed(measured: list[float], work: Awaitable[T]) -> T:
    began = time.perf_counter()
    result = await work
    measured.append((time.perf_counter() - began) * 1000)
    return result


def _percentile(measured: list[float], part: int) -> float:
    return statistics.quantiles(measured, n=100)[part - 1] if len(measured) > 1 else 0.0


def _arguments() -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--deliveries", type=int, default=2_000_000, help="until history has so many")
    parser.add_argument("--backlog", type=int, default=1_000_000, help="until so many wait")
    parser.add_argument("--held-seconds", type=float, default=600.0, help="how long a transaction stays open")
    return vars(parser.parse_args())


if __name__ == "__main__":
    uvloop.run(main(**_arguments()))
