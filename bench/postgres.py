"""What the PostgreSQL store costs: CPU microseconds of this process and of the server for each publish, claim and settle.

    python -m bench.postgres

Every commit is durable. So many callers at a time share a round trip as the batch says; a born-claimed delivery needs no
claim. The server's share is everything that its processes used meanwhile, also writing ahead and cleaning up.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import uvloop

from embarc.core.attempts import Attempt, Outcome, Result
from embarc.core.deliveries import Claim, Settlement, Traffic, Verdict, after
from embarc.core.schedules import DEFAULT_SCHEDULE
from embarc.store.postgres.store import PostgresStore
from embarc.testing.clock import ManualClock
from embarc.testing.lab import Factory
from embarc.testing.postgres import Databases, PostgresServer, open_store

T = TypeVar("T")
BATCHES = ((1, 1500), (10, 6000), (100, 20_000))
"""Batch, and operations measured with it."""
LEASE = 600.0
DELIVERED = Outcome(
    result=Result.STATUS, status=200, head=b"Content-Type: text/plain\r\n", body=b"ok", duration_ms=3.0
)


class Meter:
    """CPU seconds of this process and of a server's processes."""

    def __init__(self, server: int) -> None:
        self._server = server

    def read(self) -> tuple[float, float]:
        """Client and server so far."""
        return time.process_time(), sum(_cpu_seconds(pid) for pid in [self._server, *_children(self._server)])

    async def measure(self, name: str, batch: int, count: int, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work and print a line of the table."""
        client, server = self.read()
        began = time.perf_counter()
        await work()
        seconds = time.perf_counter() - began
        client, server = (after - before for after, before in zip(self.read(), (client, server), strict=True))
        print(
            f"{name:<24} {batch:>5} {client / count * 1e6:>8.1f} {server / count * 1e6:>8.1f}"
            f" {(client + server) / count * 1e6:>8.1f} {count / seconds:>9.0f}/s",
            flush=True,
        )


async def main() -> None:
    """Measure everything on a server of our own."""
    server = PostgresServer(autovacuum_naptime="15s", shared_buffers="256MB").start()
    try:
        url = await Databases(server.url).fresh()
        store = await open_store(url)
        meter = Meter(server.pid)
        print(f"{'':<24} {'batch':>5} {'client':>8} {'server':>8} {'us/op':>8}")
        for batch, count in BATCHES:
            await _round(store, meter, batch, count)
        await store.close()
    finally:
        server.close()


async def _round(store: PostgresStore, meter: Meter, batch: int, count: int) -> None:
    clock = ManualClock(time.time())
    make = Factory(clock)
    publications = {
        token: [make.publication(make.event(), hooks=(batch,), token=token) for _ in range(count)]
        for token in (None, 7)
    }

    def publish(token: int | None) -> Callable[[], Awaitable[None]]:
        async def work() -> None:
            for page in _pages(publications[token], batch):
                await asyncio.gather(*(store.publish(one, lease_seconds=LEASE) for one in page))

        return work

    claims: list[Claim] = []

    async def claim() -> None:
        while len(claims) < count:
            claims.extend(
                await store.claim({(batch, Traffic.LIVE): batch}, lease_seconds=LEASE, lease_token=9)
            )

    async def settle() -> None:
        for page in _pages(settlements, batch):
            await store.settle(page)

    await meter.measure("publish", batch, count, publish(None))
    await meter.measure("claim", batch, count, claim)
    settlements = [_settlement(one) for one in claims]
    await meter.measure("settle", batch, count, settle)
    await meter.measure("publish born claimed", batch, count, publish(7))


def _settlement(claim: Claim) -> Settlement:
    verdict: Verdict = after(claim.failures, DELIVERED, DEFAULT_SCHEDULE, now_seconds=0, chance=0.5)
    attempt = Attempt(
        number=claim.attempts + 1,
        started_at_ms=int(time.time() * 1000),
        url="https://example.com/hook",
        outcome=DELIVERED,
        worker="bench",
    )
    return Settlement(claim=claim, attempt=attempt, verdict=verdict)


def _pages(items: Sequence[T], size: int) -> Sequence[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _children(pid: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(entry))
    return found


def _cpu_seconds(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except OSError:
        return 0.0


if __name__ == "__main__":
    uvloop.run(main())
