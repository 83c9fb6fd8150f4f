"""The embedded store: SQLite in one file, one writer, any number of readers (see `writer.py`)."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec

from embarc.core.access import User
from embarc.core.attempts import Attempt, Outcome, Result
from embarc.core.deliveries import Claim, Settlement, State
from embarc.core.errors import IdempotencyMismatch, SettingsError, StoreUnavailable
from embarc.core.events import EventKind
from embarc.core.hooks import Endpoint, Hook
from embarc.core.ids import event_id
from embarc.core.submissions import Receipt
from embarc.store import rows
from embarc.store.base import (
    DeliveryFilter,
    DeliveryRecord,
    Due,
    EventFilter,
    EventRecord,
    Publication,
    TimestampTaken,
)
from embarc.store.migrate import load_migrations, pending
from embarc.store.queries import load_queries
from embarc.store.sqlite.writer import Rows, Writer, connect
from embarc.store.vault import Vault

T = TypeVar("T")
_PACKAGE = "embarc.store.sqlite"
_READERS = 2


class SqliteStore:
    """`Store` over one SQLite file. Open one with `SqliteStore.open`."""

    def __init__(
        self, path: Path, writer: Writer, hook_rows: rows.HookRows, clock: Callable[[], float], lock_file: Any
    ) -> None:
        self._path = path
        self._writer = writer
        self._hook_rows = hook_rows
        self._clock = clock
        self._lock_file = lock_file
        self._sql = load_queries(_PACKAGE)
        self._insert_events = Rows(self._sql["insert_event"])
        self._insert_deliveries = Rows(self._sql["insert_delivery"])
        self._insert_keys = Rows(self._sql["insert_idempotency_key"])
        self._settle = Rows(self._sql["settle"])
        self._insert_attempts = Rows(self._sql["insert_attempt"])
        self._reader = threading.local()
        self._reader_connections: list[apsw.Connection] = []
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="embarc-store-reader")

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        parse_endpoint: Callable[[dict[str, str]], Endpoint],
        vault: Vault | None = None,
        clock: Callable[[], float] = time.time,
        on_broken: Callable[[str], None] | None = None,
    ) -> SqliteStore:
        """Open the database, made and migrated where needed; the key lies beside it unless a vault is given.

        Raises `SettingsError` where another process has it open, `MigrationError` where it is too new.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        lock_file = _lock(path)
        os.close(
            os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
        )  # for its owner only, and the log beside it likewise
        connection = connect(path)
        _migrate(connection, int(clock() * 1000))
        vault = vault or Vault.from_file(path.with_name(path.name + ".key"))
        store = cls(
            path, Writer(connection, on_broken), rows.HookRows(vault, parse_endpoint), clock, lock_file
        )
        await store.end_leases()
        return store

    # -- the queue ---------------------------------------------------------------------------------------------

    async def publish(self, publication: Publication, *, lease_seconds: float) -> Receipt | TimestampTaken:
        return await self._writer.submit(self._publish_all, (publication, lease_seconds))

    async def due(self) -> Sequence[Due]:
        def read(connection: apsw.Connection) -> list[Due]:
            now = self._now()
            found = connection.execute(self._sql["due"])
            return [Due(hook_id=hook_id, in_seconds=(due_at - now) / 1000) for hook_id, due_at in found]

        return await self._read(read)

    async def claim(
        self, wanted: Mapping[int, int], *, lease_seconds: float, lease_token: int
    ) -> Sequence[Claim]:
        def work(connection: apsw.Connection) -> list[Claim]:
            now = self._now()
            leased_until = now + int(lease_seconds * 1000)
            claims = []
            for hook_id, limit in wanted.items():
                found: list[Any] = connection.execute(
                    self._sql["select_due"], (hook_id, now, limit)
                ).fetchall()
                for tenant, key, old_token, attempts, failures, is_replay, entity, action, payload in found:
                    if old_token is not None:
                        attempts += 1
                        connection.execute(
                            self._sql["insert_attempt"], _lost(tenant, key, hook_id, attempts, now)
                        )
                    connection.execute(
                        self._sql["lease"], (leased_until, lease_token, attempts, tenant, key, hook_id)
                    )
                    claims.append(
                        Claim(
                            tenant=tenant,
                            event_key=key,
                            hook_id=hook_id,
                            lease_token=lease_token,
                            attempts=attempts,
                            failures=failures,
                            is_replay=bool(is_replay),
                            kind=EventKind(entity, action),
                            payload=payload,
                        )
                    )
            return claims

        return await self._write(work)

    async def renew(self, claims: Sequence[Claim], *, lease_seconds: float) -> Sequence[Claim]:
        def work(connection: apsw.Connection) -> list[Claim]:
            leased_until = self._now() + int(lease_seconds * 1000)
            return [
                claim for claim in claims if not self._update(connection, "renew", (leased_until,), claim)
            ]

        return await self._write(work)

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[bool]:
        # Encoded in the caller's thread: the writer's time is everybody's.
        prepared = [(settlement, rows.attempt_values(settlement)) for settlement in settlements]
        return await self._writer.submit(self._settle_all, prepared)

    async def surrender(self, claims: Sequence[Claim]) -> int:
        def work(connection: apsw.Connection) -> int:
            now = self._now()
            return sum(self._update(connection, "surrender", (now,), claim) for claim in claims)

        return await self._write(work)

    async def cancel(self, tenant: str, event_key: bytes, hook_id: int, reason: str) -> bool:
        return await self._change("cancel", lambda now: (now, reason, tenant, event_key, hook_id))

    async def replay(self, tenant: str, event_key: bytes, hook_id: int) -> bool:
        return await self._change("replay", lambda now: (now, tenant, event_key, hook_id))

    # -- hooks -------------------------------------------------------------------------------------------------

    async def add_hook(self, hook: Hook) -> Hook:
        def work(connection: apsw.Connection) -> int:
            now = self._now()
            values = (hook.tenant, *self._hook_rows.values(hook), now, now)
            hook_id = int(connection.execute(self._sql["insert_hook"], values).get)
            connection.execute(
                self._sql["seal_hook"], (self._hook_rows.sealed_secrets(hook, hook_id), hook_id)
            )
            return hook_id

        hook_id = await self._write(work)
        return await self._stored(hook.tenant, hook_id)

    async def replace_hook(self, hook: Hook) -> Hook | None:
        def work(connection: apsw.Connection) -> bool:
            values = (
                *self._hook_rows.values(hook),
                self._hook_rows.sealed_secrets(hook, hook.id),
                self._now(),
                hook.tenant,
                hook.id,
            )
            return connection.execute(self._sql["update_hook"], values).get is not None

        return await self._stored(hook.tenant, hook.id) if await self._write(work) else None

    async def remove_hook(self, tenant: str, hook_id: int) -> Hook | None:
        hook = await self.get_hook(tenant, hook_id)

        def work(connection: apsw.Connection) -> bool:
            connection.execute(self._sql["delete_hook"], (tenant, hook_id))
            if connection.changes() == 0:
                return False
            connection.execute(self._sql["cancel_deliveries_of_hook"], (self._now(), hook_id))
            return True

        return hook if await self._write(work) else None

    async def get_hook(self, tenant: str, hook_id: int) -> Hook | None:
        found = await self._rows("get_hook", (tenant, hook_id))
        return self._hook_rows.to_hook(found[0]) if found else None

    async def list_hooks(self, tenant: str | None = None) -> Sequence[Hook]:
        return [self._hook_rows.to_hook(row) for row in await self._rows("list_hooks", (tenant,))]

    # -- the log -----------------------------------------------------------------------------------------------

    async def get_event(self, tenant: str, event_key: bytes) -> EventRecord | None:
        found = await self._rows("get_event", (tenant, event_key))
        return rows.to_event_record(found[0]) if found else None

    async def list_events(
        self, tenant: str, which: EventFilter, *, before: bytes | None, limit: int
    ) -> Sequence[EventRecord]:
        conditions: list[tuple[str, Any]] = [
            ("tenant = ?", tenant),
            ("event_key < ?", before),
            ("entity_name = ?", which.entity_name),
            ("action_name = ?", which.action_name),
            ("entity_id = ?", which.entity_id),
            ("event_key >= ?", _lowest_key(which.since_ms)),
            ("event_key < ?", _lowest_key(which.until_ms)),
        ]
        return [rows.to_event_record(row) for row in await self._filtered("list_events", conditions, limit)]

    async def get_delivery(self, tenant: str, event_key: bytes, hook_id: int) -> DeliveryRecord | None:
        found = await self._rows("get_delivery", (tenant, event_key, hook_id))
        return rows.to_delivery_record(found[0]) if found else None

    async def list_deliveries(
        self, tenant: str, which: DeliveryFilter, *, before: tuple[bytes, int] | None, limit: int
    ) -> Sequence[DeliveryRecord]:
        conditions: list[tuple[str, Any]] = [
            ("d.tenant = ?", tenant),
            ("(d.event_key, d.hook_id) < (?, ?)", before),
            # In the text, not bound: only so can SQLite know that the partial index has all the rows.
            (f"d.state = '{which.state}'", () if which.state else None),
            ("d.hook_id = ?", which.hook_id),
            ("d.event_key = ?", which.event_key),
            ("e.entity_name = ?", which.entity_name),
            ("e.action_name = ?", which.action_name),
            ("e.entity_id = ?", which.entity_id),
            ("d.event_key >= ?", _lowest_key(which.since_ms)),
            ("d.event_key < ?", _lowest_key(which.until_ms)),
        ]
        return [
            rows.to_delivery_record(row) for row in await self._filtered("list_deliveries", conditions, limit)
        ]

    async def list_attempts(self, tenant: str, event_key: bytes, hook_id: int) -> Sequence[Attempt]:
        return [
            rows.to_attempt(row) for row in await self._rows("list_attempts", (tenant, event_key, hook_id))
        ]

    # -- access ------------------------------------------------------------------------------------------------

    async def add_user(self, user: User) -> User | None:
        def work(connection: apsw.Connection) -> bool:
            permissions = msgspec.json.encode(sorted(user.permissions)).decode()
            values = (
                user.tenant,
                user.username,
                user.full_name,
                user.office_id,
                permissions,
                user.password_hash,
            )
            return connection.execute(self._sql["insert_user"], (*values, self._now())).get is not None

        return await self.get_user(user.tenant, user.username) if await self._write(work) else None

    async def get_user(self, tenant: str, username: str) -> User | None:
        found = await self._rows("get_user", (tenant, username))
        return rows.to_user(found[0]) if found else None

    async def has_users(self) -> bool:
        return bool((await self._rows("has_users", ()))[0][0])

    # -- the store itself --------------------------------------------------------------------------------------

    async def end_leases(self) -> None:
        """Make due whatever is leased. Whoever holds the database's lock knows that nobody else is alive to hold a lease."""
        await self._change("end_leases", lambda now: (now, now))

    async def check(self) -> None:
        await self._rows("has_users", ())
        await self._write(lambda connection: None)

    async def close(self) -> None:
        # The writer last: SQLite empties the log into the database when its last connection is closed, if that may write.
        self._readers.shutdown()
        for connection in self._reader_connections:
            connection.close()
        await self._writer.close()
        self._lock_file.close()

    # -- inside ------------------------------------------------------------------------------------------------

    def _now(self) -> int:
        return int(self._clock() * 1000)

    def _publish_all(
        self, connection: apsw.Connection, items: Sequence[tuple[Publication, float]]
    ) -> list[Receipt | TimestampTaken]:
        """All publications with a few statements; where one of them is not plainly new, one after the other."""
        if self._inserts_together(connection, items):
            return [_receipt(publication) for publication, _ in items]
        return [
            self._publish_one(connection, publication, lease_seconds) for publication, lease_seconds in items
        ]

    def _inserts_together(
        self, connection: apsw.Connection, items: Sequence[tuple[Publication, float]]
    ) -> bool:
        """Insert everything; False, with nothing inserted, where a key or a timestamp was there before."""
        now = self._now()
        events: list[tuple[Any, ...]] = []
        deliveries: list[tuple[Any, ...]] = []
        keys: list[tuple[Any, ...]] = []
        for publication, lease_seconds in items:
            tenant = publication.tenant
            leased_until = now + int(lease_seconds * 1000)
            for event, wanted in publication.events:
                kind = event.kind
                events.append(
                    (tenant, event.key, kind.entity_name, kind.action_name, event.entity_id, event.timestamp_ms, now, event.payload)
                )  # fmt: skip
                for delivery in wanted:
                    token = delivery.lease_token
                    due_at = now if token is None else leased_until
                    deliveries.append(
                        (tenant, event.key, delivery.hook_id, due_at, token, delivery.order_key)
                    )
            if publication.idempotency_key is not None:
                keys.append(_key_row(publication, now))
        connection.execute("savepoint publishing")
        is_new = self._insert_keys.execute(connection, keys) == len(keys) and self._insert_events.execute(
            connection, events
        ) == len(events)
        if is_new:
            self._insert_deliveries.execute(connection, deliveries)
        else:
            connection.execute("rollback to publishing")
        connection.execute("release publishing")
        return is_new

    def _publish_one(
        self, connection: apsw.Connection, publication: Publication, lease_seconds: float
    ) -> Receipt | TimestampTaken:
        """One publication whose key may be known and whose timestamps may be taken."""
        if publication.idempotency_key is not None and (
            known := self._known_receipt(connection, publication)
        ):
            return known
        if self._inserts_together(connection, [(publication, lease_seconds)]):
            return _receipt(publication)
        return self._first_taken(connection, publication)

    def _first_taken(self, connection: apsw.Connection, publication: Publication) -> TimestampTaken:
        """Which event of a refused publication has a timestamp that was taken, in the store or by one before it."""
        seen: set[tuple[str, str | None, int]] = set()
        for position, (event, _) in enumerate(publication.events):
            if event.entity_id is None:
                continue
            name = (event.kind.entity_name, event.entity_id, event.timestamp_ms)
            values = (publication.tenant, event.kind.entity_name, event.entity_id)
            latest = connection.execute(self._sql["latest_timestamp"], (*values, event.timestamp_ms)).get
            if latest is not None or name in seen:
                return TimestampTaken(position, max(latest or 0, event.timestamp_ms))
            seen.add(name)
        raise AssertionError("a publication was refused and no timestamp of it is taken")

    def _known_receipt(self, connection: apsw.Connection, publication: Publication) -> Receipt | None:
        values = (publication.tenant, publication.idempotency_key)
        row: Any = connection.execute(self._sql["get_idempotency_key"], values).fetchone()
        if row is None:
            return None
        fingerprint, keys, deliveries = row
        if fingerprint != publication.fingerprint:
            raise IdempotencyMismatch
        ids = tuple(event_id(keys[start : start + 16]) for start in range(0, len(keys), 16))
        return Receipt(event_ids=ids, deliveries=deliveries, duplicate=True)

    def _settle_all(
        self, connection: apsw.Connection, items: Sequence[Sequence[tuple[Settlement, tuple[Any, ...]]]]
    ) -> list[list[bool]]:
        """All settlements with a few statements; where a lease was lost, one after the other."""
        now = self._now()
        everything = [one for item in items for one in item]
        connection.execute("savepoint settling")
        changed = self._settle.execute(
            connection, [_settle_values(settlement, now) for settlement, _ in everything]
        )
        if changed == len(everything):
            self._insert_attempts.execute(connection, [values for _, values in everything])
            settled = [[True] * len(item) for item in items]
        else:
            connection.execute("rollback to settling")
            settled = [
                [self._settle_one(connection, one, values, now) for one, values in item] for item in items
            ]
        connection.execute("release settling")
        return settled

    def _settle_one(
        self, connection: apsw.Connection, settlement: Settlement, attempt_values: tuple[Any, ...], now: int
    ) -> bool:
        is_ours = self._settle.execute(connection, [_settle_values(settlement, now)]) == 1
        if is_ours:
            self._insert_attempts.execute(connection, [attempt_values])
        return is_ours

    def _update(self, connection: apsw.Connection, query: str, values: tuple[Any, ...], claim: Claim) -> bool:
        """Run a statement that is fenced by the claim's lease token; whether the token was still the delivery's."""
        connection.execute(self._sql[query], values + _fence(claim))
        return connection.changes() > 0

    async def _write(self, work: Callable[[apsw.Connection], T]) -> T:
        return await self._writer.submit(_each, work)

    async def _change(self, query: str, values: Callable[[int], tuple[Any, ...]]) -> bool:
        def work(connection: apsw.Connection) -> bool:
            connection.execute(self._sql[query], values(self._now()))
            return connection.changes() > 0

        return await self._write(work)

    async def _stored(self, tenant: str, hook_id: int) -> Hook:
        hook = await self.get_hook(tenant, hook_id)
        if hook is None:
            raise StoreUnavailable(f"Hook {hook_id} was deleted while it was being written.")
        return hook

    async def _rows(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        return await self._read(lambda connection: connection.execute(self._sql[query], values).fetchall())

    async def _filtered(self, query: str, conditions: list[tuple[str, Any]], limit: int) -> list[Any]:
        """The rows that meet every condition whose value is not None; a tuple fills several places."""
        used = [(condition, value) for condition, value in conditions if value is not None]
        where = " and ".join(condition for condition, _ in used)
        values = [one for _, value in used for one in (value if isinstance(value, tuple) else (value,))]
        sql = self._sql[query].format(where=where)
        return await self._read(lambda connection: connection.execute(sql, (*values, limit)).fetchall())

    async def _read(self, read: Callable[[apsw.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._with_reader, read)

    def _with_reader(self, read: Callable[[apsw.Connection], T]) -> T:
        connection = getattr(self._reader, "connection", None)
        if connection is None:
            connection = self._reader.connection = connect(self._path, read_only=True)
            self._reader_connections.append(connection)
        try:
            return read(connection)
        except (apsw.IOError, apsw.BusyError, apsw.CantOpenError) as error:
            raise StoreUnavailable(f"The store cannot be read: {error}.") from error


def _each(connection: apsw.Connection, works: Sequence[Callable[[apsw.Connection], Any]]) -> list[Any]:
    return [work(connection) for work in works]


def _fence(claim: Claim) -> tuple[Any, ...]:
    return (claim.tenant, claim.event_key, claim.hook_id, claim.lease_token)


def _settle_values(settlement: Settlement, now: int) -> tuple[Any, ...]:
    verdict = settlement.verdict
    waits = verdict.state is State.WAITING
    due_at = now + int((verdict.retry_in_seconds or 0) * 1000) if waits else None
    settled_at = None if waits else now
    attempts = settlement.attempt.number
    return (
        verdict.state.value,
        due_at,
        attempts,
        verdict.failures,
        settled_at,
        verdict.reason,
        *_fence(settlement.claim),
    )


def _receipt(publication: Publication) -> Receipt:
    return Receipt(
        event_ids=tuple(event_id(event.key) for event, _ in publication.events),
        deliveries=sum(len(wanted) for _, wanted in publication.events),
    )


def _key_row(publication: Publication, now: int) -> tuple[Any, ...]:
    keys = b"".join(event.key for event, _ in publication.events)
    deliveries = sum(len(wanted) for _, wanted in publication.events)
    return (publication.tenant, publication.idempotency_key, publication.fingerprint, keys, deliveries, now)


def _lost(tenant: str, key: bytes, hook_id: int, number: int, now: int) -> tuple[Any, ...]:
    """The attempt of a process that ended, or stalled past its lease, between claiming and settling."""
    outcome = Outcome(result=Result.LOST)
    return (tenant, key, hook_id, number, now, "", "", outcome.result.value, None, 0.0, Result.LOST.meaning, b"", b"", "[]")  # fmt: skip


def _lowest_key(ms: int | None) -> bytes | None:
    """The smallest UUIDv7 of this millisecond: keys carry the time of acceptance in their first 48 bits."""
    return None if ms is None else max(ms, 0).to_bytes(6, "big") + bytes(10)


def _lock(path: Path) -> Any:
    """Hold the database for this process alone: a second dispatcher would deliver twice."""
    lock_file = open(path.with_name(path.name + ".lock"), "w")  # noqa: SIM115 - held open as long as the store
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock_file.close()
        raise SettingsError(
            f"{path} is in use by another Embarc process. Stop that one, or give this one another --store."
        ) from None
    return lock_file


def _migrate(connection: apsw.Connection, now_ms: int) -> None:
    connection.execute(
        "create table if not exists migrations "
        "(number integer primary key, name text not null, checksum text not null, applied_at_ms integer not null) strict"
    )
    rows_applied: list[Any] = connection.execute("select number, checksum from migrations").fetchall()
    applied = dict(rows_applied)
    for migration in pending(load_migrations(_PACKAGE), applied):
        with connection:  # a savepoint: schema changes are transactional in SQLite
            connection.execute(migration.sql)
            connection.execute(
                "insert into migrations values (?, ?, ?, ?)",
                (migration.number, migration.name, migration.checksum, now_ms),
            )
