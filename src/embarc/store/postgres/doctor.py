"""Looking a PostgreSQL over, beside the services that use it: nothing is written, no lock is waited for."""

from __future__ import annotations

import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import asyncpg

from embarc.core import findings
from embarc.core.errors import StoreUnavailable
from embarc.core.findings import Finding, Level
from embarc.store.migrate import load_migrations, pending
from embarc.store.postgres.connections import Address
from embarc.store.postgres.database import PACKAGE, connect
from embarc.store.postgres.days import ALARM_DAYS, StoreDays

_MEGABYTE = 1024 * 1024
_OLDEST_VERSION = (13,)
_HOT_TABLES = ("deliveries", "idempotency_keys", "hooks", "members", "segments")
_ASKED = 3
"""How often the clock is asked: the quickest answer tells most."""
_SAME_START_SECONDS = 5.0


async def examine(url: str, *, alive_seconds: float) -> list[Finding]:
    """Everything worth telling. Raises `SettingsError` where the URL leads to no database."""
    look = _Look(Address.parse(url), None)
    found: list[Finding] = []
    try:
        await (await connect(Address.parse(url))).close()
        for part in (look.server, look.clock, look.transactions, look.schema):
            found += await part()
        for part in (look.copies, look.tables, look.queue, lambda: look.processes(alive_seconds)):
            found += await _where_there(part)
    except StoreUnavailable as error:
        found.append(
            Finding(
                name="database",
                told=str(error),
                level=Level.CRITICAL,
                advice="Services answer 503 and keep trying. Does the server run, and is the network up?",
            )
        )
    finally:
        await look.close()
    return found


async def _where_there(part: Callable[[], Awaitable[Sequence[Finding]]]) -> Sequence[Finding]:
    """What needs tables that a pending migration makes says nothing until then."""
    try:
        return await part()
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.UndefinedFunctionError):
        return []


class _Look(StoreDays):
    """The questions, a topic each."""

    async def server(self) -> Sequence[Finding]:
        about = (await self._rows("about_server"))[0]
        names = [*findings.DURABILITY_SETTINGS, "autovacuum", "track_counts", "synchronous_standby_names"]
        settings = dict(await self._rows("server_settings", names))
        states = [(row["name"], row["sync_state"] or "async") for row in await self._rows("standbys")]
        used, most = (await self._rows("sessions"))[0]
        return [
            Finding(name="database", told=f"{about['database']}, {about['bytes'] / _MEGABYTE:,.1f} MB"),
            findings.versions(
                "PostgreSQL",
                (about["version"] // 10000, about["version"] % 10000),
                _OLDEST_VERSION,
                "earlier ones do not know the statements.",
            ),
            findings.durability(settings),
            findings.standbys(
                states,
                is_standby=about["is_standby"],
                wants_synchronous=bool(settings.get("synchronous_standby_names")),
            ),
            findings.autovacuum(settings),
            findings.connections(used, most),
            await self._disk(about["started_at"]),
        ]

    async def clock(self) -> Sequence[Finding]:
        measured = []
        for _ in range(_ASKED):
            asked_at, began = time.time(), time.monotonic()
            ((there,),) = await self._rows("clock")
            round_trip = time.monotonic() - began
            # The answer was given half a round trip ago.
            measured.append((round_trip, asked_at + round_trip / 2 - there))
        return [findings.clock_skew(min(measured)[1])]

    async def transactions(self) -> Sequence[Finding]:
        about = (await self._rows("about_server"))[0]
        held = [(row["holder"], row["seconds"]) for row in await self._rows("held_back")]
        slots = [
            findings.replication_slot(name, transactions, log_bytes, is_active=is_active)
            for name, is_active, transactions, log_bytes in await self._rows("slots")
        ]
        return [findings.oldest_transaction(held, sees_all=about["sees_all"]), *slots]

    async def schema(self) -> Sequence[Finding]:
        known = load_migrations(PACKAGE)
        try:
            applied = dict(await self._fetch("select number, checksum from migrations"))
        except asyncpg.UndefinedTableError:
            applied = {}
        return [findings.migrations([one.name for one in pending(known, applied)])]

    async def copies(self) -> Sequence[Finding]:
        return [
            Finding(
                name="copy",
                told=f"{source} is being copied into this database: no service starts on it",
                level=Level.WARNING,
                advice="If it was interrupted, call `embarc store copy` again: it goes on.",
            )
            for (source,) in await self._rows("unfinished_copies")
        ]

    async def tables(self) -> Sequence[Finding]:
        days = [
            findings.partitions(one.table, one.days_ahead, has_missed=one.has_missed, alarm_days=ALARM_DAYS)
            for one in await self.horizon()
        ]
        dead = [findings.dead_rows(*row) for row in await self._rows("dead_rows", list(_HOT_TABLES))]
        return [*_told_once(days), *_told_once(dead)]

    async def queue(self) -> Sequence[Finding]:
        ((oldest,),) = await self._rows("oldest_due", False)
        return [
            findings.queue_age(oldest),
            findings.failing_hooks([row[0] for row in await self._rows("failing_hooks")]),
            findings.disabled_hooks([row[0] for row in await self._rows("disabled_hooks")]),
        ]

    async def processes(self, alive_seconds: float) -> Sequence[Finding]:
        alive = await self._rows("alive_members", None, int(alive_seconds * 1000))
        ((overdue,),) = await self._rows("oldest_due", True)
        dispatching = sum(row["dispatches"] for row in alive)
        return [findings.members([row["name"] for row in alive], dispatching, overdue)]

    async def _disk(self, started_at: float) -> Finding:
        """Room under the server's data, where that is on this machine: else only the server's own people can look."""
        found = await self._rows("data_directory")
        folder = Path(found[0][0]) if found else None
        if folder is None or not _is_here(folder, started_at):
            return Finding(
                name="free disk", told="not known: the server's disk cannot be looked at from here"
            )
        usage = shutil.disk_usage(folder)
        return findings.free_disk(usage.free, usage.total)

    async def close(self) -> None:
        await self._close()


def _told_once(found: Sequence[Finding]) -> Sequence[Finding]:
    """Each that is bad; where none is, the first for all."""
    return [one for one in found if one.level > Level.OK] or found[:1]


def _is_here(folder: Path, started_at: float) -> bool:
    """Whether a server that started then runs on this folder of this machine; a path alone could be another one's."""
    try:
        lines = (folder / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        return abs(int(lines[2]) - started_at) < _SAME_START_SECONDS
    except (OSError, ValueError, IndexError):
        return False
