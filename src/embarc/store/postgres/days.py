"""History by day: made ahead, and dropped as a whole when it is old.

Rules of this file:
* A table that grows with time is divided by day. Dropping a day is one quick step; deleting its rows would leave the
  table full of holes.
* What still waits, or holds others back, stays: when its day is dropped it moves to the rest, the partition for whatever
  has no day, and is deleted from there, row by row, when it is old and has ended.
* Locks are asked for briefly. Whoever cannot have one now tries again in the next round.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from embarc.core.ids import lowest_key
from embarc.store.postgres.connections import Connection
from embarc.store.postgres.database import Database

DAYS_AHEAD = 7
ALARM_DAYS = 2
_LOCK_SECONDS = 1
_READS_ALL = "set local enable_seqscan = on; set local enable_hashjoin = on"
_MAKING_DAYS = 3
"""Of the advisory lock under which days are made and dropped."""
_BY_KEY = ("events", "ended_deliveries", "attempts")
_BY_TIME = "event_times"
_TABLES = (*_BY_KEY, _BY_TIME)


@dataclass(frozen=True, slots=True)
class _Day:
    """A day in UTC, and its bounds as the tables have them."""

    date: date

    @classmethod
    def at(cls, ms: int) -> _Day:
        return cls(datetime.fromtimestamp(ms / 1000, UTC).date())

    @property
    def starts_ms(self) -> int:
        return int(datetime(self.date.year, self.date.month, self.date.day, tzinfo=UTC).timestamp() * 1000)

    @property
    def ends_ms(self) -> int:
        return self.after(1).starts_ms

    def after(self, days: int) -> _Day:
        return _Day(self.date + timedelta(days=days))

    def partition(self, table: str) -> str:
        return f"{table}_{self.date:%Y%m%d}"

    def bounds(self, table: str) -> tuple[str, str]:
        if table == _BY_TIME:
            return str(self.starts_ms), str(self.ends_ms)
        return _literal(lowest_key(self.starts_ms)), _literal(lowest_key(self.ends_ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """A table that is divided by day, and whether that goes well."""

    table: str
    until: date
    """The last day there is."""
    days_ahead: int
    has_missed: bool
    """Whether rows of today or later are in the rest."""


class StoreDays(Database):
    """Makes days and drops them."""

    async def upkeep(self) -> Sequence[str]:
        today = await self._today()
        await self._make_days(today.after(-1), today)
        return await self.alarms()

    async def make_days(self, since_ms: int) -> None:
        """Make the days since then, for what has happened before this database was there."""
        await self._make_days(_Day.at(since_ms), await self._today())

    async def _make_days(self, first: _Day, today: _Day) -> None:
        count = (today.after(DAYS_AHEAD).date - first.date).days + 1
        for table in _TABLES:
            known = {day.date for day in await self._days(table)}
            for day in map(first.after, range(count)):
                if day.date not in known:
                    await self._exclusively(lambda connection, t=table, d=day: _make(connection, t, d))  # type: ignore[misc] # mypy cannot infer a lambda's default

    async def _today(self) -> _Day:
        return _Day.at((await self._rows("now_ms", self._now()))[0][0])

    async def horizon(self) -> Sequence[Horizon]:
        """How far ahead there are days, and where rows of today or later have gone to the rest nevertheless."""
        today = await self._today()
        found = []
        for table in _TABLES:
            days = await self._days(table)
            until = days[-1].date if days else today.after(-1).date
            column, since = (
                ("timestamp_ms", str(today.starts_ms))
                if table == _BY_TIME
                else ("event_key", _literal(lowest_key(today.starts_ms)))
            )
            missed = await self._fetch(
                f"select exists (select 1 from {table}_rest where {column} >= {since})"  # noqa: S608 - our own names
            )
            # A platform's own times may lie ahead.
            has_missed = bool(missed[0][0]) and table != _BY_TIME
            found.append(
                Horizon(table=table, until=until, days_ahead=(until - today.date).days, has_missed=has_missed)
            )
        return found

    async def alarms(self) -> Sequence[str]:
        """What an operator should know about the days, a sentence each."""
        alarms = []
        for one in await self.horizon():
            if one.days_ahead < ALARM_DAYS:
                alarms.append(
                    f"The partitions of {one.table} end on {one.until}: days ahead could not be made."
                )
            if one.has_missed:
                alarms.append(f"New rows of {one.table} go to {one.table}_rest: their day has no partition.")
        return alarms

    # -- dropping ----------------------------------------------------------------------------------------------

    async def prune_events(
        self, older_than_seconds: float, *, after: int, limit: int
    ) -> tuple[int, int | None]:
        before_ms = await self._before(older_than_seconds)
        for table in ("events", "ended_deliveries", _BY_TIME):
            days = await self._days(table)
            if days and days[0].ends_ms <= before_ms:
                day = days[0]
                return await self._exclusively(lambda c, d=day: _drop_day_of_events(c, d)), after + 1  # type: ignore[misc] # likewise
        deleted = await self._transaction(lambda c: _delete_from_the_rest(c, before_ms, limit))
        return deleted, after + 1 if deleted == limit else None

    async def prune_attempts(self, older_than_seconds: float, *, limit: int) -> int:
        before_ms = await self._before(older_than_seconds)
        for day in await self._days("attempts"):
            if day.ends_ms > before_ms:
                break
            if count := await self._exclusively(
                lambda c, d=day: _drop_day_of_attempts(c, d, before_ms)  # type: ignore[misc] # mypy cannot infer a lambda's default
            ):
                return count
        return int((await self._rows("delete_old_attempts", lowest_key(before_ms), before_ms, limit))[0][0])

    async def prune_keys(self, older_than_seconds: float, *, limit: int) -> int:
        before_ms = await self._before(older_than_seconds)
        return int((await self._rows("delete_old_keys", before_ms, limit))[0][0])

    # -- inside ------------------------------------------------------------------------------------------------

    async def _before(self, older_than_seconds: float) -> int:
        return int((await self._rows("now_ms", self._now()))[0][0]) - int(older_than_seconds * 1000)

    async def _days(self, table: str) -> list[_Day]:
        found = await self._rows("days", table)
        return [_Day(datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC).date()) for _, text in found]

    async def _exclusively(self, work: Callable[[Connection], Awaitable[int]]) -> int:
        """Work on the schema in one transaction, one process at a time."""

        async def alone(connection: Connection) -> int:
            await connection.execute("select pg_advisory_xact_lock($1, 0)", _MAKING_DAYS)
            await connection.execute(
                f"set local lock_timeout = '{_LOCK_SECONDS}s'; set local statement_timeout = '10min'"
            )
            return await work(connection)

        return await self._transaction(alone)


async def _make(connection: Connection, table: str, day: _Day) -> int:
    """Attach a new partition, with whatever of its day went to the rest so far."""
    name, rest = day.partition(table), f"{table}_rest"
    if await _exists(connection, name):
        return 0
    low, high = day.bounds(table)
    column = "timestamp_ms" if table == _BY_TIME else "event_key"
    await connection.execute(f"create table {name} (like {table} including all)")
    await connection.execute(f"lock table {rest} in access exclusive mode")
    await connection.execute(
        f"with moved as (delete from {rest} where {column} >= {low} and {column} < {high} returning *)"  # noqa: S608 - our own names
        f" insert into {name} select * from moved"
    )
    # Attached, not made in place: that would lock the whole table against everybody.
    await connection.execute(
        f"alter table {table} attach partition {name} for values from ({low}) to ({high})"
    )
    return 0


async def _drop_day_of_events(connection: Connection, day: _Day) -> int:
    """Drop a day's events, their ended deliveries and their times; returns how many events went."""
    names = {table: day.partition(table) for table in ("events", "ended_deliveries", _BY_TIME)}
    present = {table: name for table, name in names.items() if await _exists(connection, name)}
    low, high = day.bounds("events")
    unfinished = f"(select d.tenant, d.event_key from deliveries d where d.event_key >= {low} and d.event_key < {high})"  # noqa: S608 - our own bounds
    await connection.execute(_READS_ALL)
    if _BY_TIME in present:  # looked through before anybody has to wait
        await connection.execute(
            f"create temp table kept on commit drop as select * from {present[_BY_TIME]}"  # noqa: S608 - our own names
            # Also those of events that were accepted later than they happened.
            f" where event_key >= {high} or (tenant, event_key) in {unfinished}"
        )
    gone = 0
    for table, name in present.items():
        count = await _rows_of(connection, name)
        await connection.execute(f"alter table {table} detach partition {name}")
        source = (
            "select * from kept"
            if table == _BY_TIME
            else f"select * from {name} where (tenant, event_key) in {unfinished}"  # noqa: S608 - our own names
        )
        done = await connection.execute(f"insert into {table} {source}")
        await connection.execute(f"drop table {name}")
        if table == "events":
            gone = count - int(done.split()[-1])
    return max(gone, 0)


async def _drop_day_of_attempts(connection: Connection, day: _Day, before_ms: int) -> int:
    name = day.partition("attempts")
    if not await _exists(connection, name):
        return 0
    await connection.execute(_READS_ALL)
    count = await _rows_of(connection, name)
    await connection.execute(  # looked through before anybody has to wait
        f"create temp table kept on commit drop as select * from {name} where started_at_ms >= {before_ms}"  # noqa: S608 - our own names
    )
    await connection.execute(f"alter table attempts detach partition {name}")
    done = await connection.execute(
        f"insert into attempts select a.* from {name} a join deliveries d using (tenant, event_key, hook_id)"  # noqa: S608 - our own names
        " where d.state = 'waiting' union select * from kept"
    )
    await connection.execute(f"drop table {name}")
    return max(count - int(done.split()[-1]), 0)


async def _delete_from_the_rest(connection: Connection, before_ms: int, limit: int) -> int:
    """In two steps: whether one waits again is asked when nobody can make it wait any more."""
    locked = await connection.fetch(
        "select e.tenant, e.event_key from events_rest e where e.event_key < $1 and not exists ("
        "select 1 from deliveries d where d.tenant = e.tenant and d.event_key = e.event_key)"
        " limit $2 for update of e skip locked",
        lowest_key(before_ms),
        limit,
    )
    if not locked:
        return 0
    keys = ([row[0] for row in locked], [row[1] for row in locked])
    for table in ("ended_deliveries", _BY_TIME, "events"):
        done = await connection.execute(
            f"delete from {table} t using unnest($1::text[], $2::bytea[]) gone (tenant, event_key)"  # noqa: S608 - our own names
            " where t.tenant = gone.tenant and t.event_key = gone.event_key and not exists ("
            "select 1 from deliveries d where d.tenant = t.tenant and d.event_key = t.event_key)",
            *keys,
        )
    return int(done.split()[-1])


async def _rows_of(connection: Connection, name: str) -> int:
    """Counted where that is quick, estimated where it would read gigabytes."""
    is_small = await connection.fetchval(
        "select pg_relation_size($1::text::regclass) < 64 * 1024 * 1024", name
    )
    if is_small:
        return int(await connection.fetchval(f"select count(*) from {name}"))  # noqa: S608 - our own name
    return int(
        await connection.fetchval(
            "select reltuples::bigint from pg_class where oid = $1::text::regclass", name
        )
    )


async def _exists(connection: Connection, name: str) -> bool:
    return bool(await connection.fetchval("select to_regclass($1) is not null", name))


def _literal(key: bytes) -> str:
    return f"'\\x{key.hex()}'"
