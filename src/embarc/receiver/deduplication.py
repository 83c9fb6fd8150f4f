"""Processing each webhook once, although it may arrive more than once and the handler may crash half-way.

A webhook is first claimed, then handled, then confirmed. Another delivery of the same id meanwhile is told to come back
later; one after the confirmation is a known duplicate. A claim whose process died is taken over when its time is up: each claim
has its owner, and one that was taken over is not its old owner's to release. What was confirmed is remembered for longer than
any sender repeats itself.

Handling in the same database transaction as the confirmation is the only way to do something *exactly* once: `claim_in`.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import Any, Protocol

log = logging.getLogger("embarc.receiver")

DAY_SECONDS = 86_400.0
REMEMBER_SECONDS = 30 * DAY_SECONDS
"""Retries take three days, a replay may come weeks later."""
HOLD_SECONDS = 60.0
"""How long a claim holds: longer than the handler takes."""


class Standing(StrEnum):
    """What is known of an id when it is claimed."""

    NEW = "new"
    BUSY = "busy"
    DONE = "done"


class InProgress(Exception):
    """The same webhook is being handled right now. Answer 503: its sender tries again."""


class Ledger(Protocol):
    """Where claims and confirmations are kept. Each verb is atomic. `owner` is a token of one claim, drawn anew for each."""

    def claim(self, key: str, owner: str, now: float, hold_until: float) -> Standing:
        """Claim the key until a time, if nobody has confirmed it and no claim of it holds."""
        ...

    def confirm(self, key: str, owner: str, forget_at: float) -> bool:
        """It was handled; remember that until a time, whoever holds the claim by now. Whether it was still this owner."""
        ...

    def release(self, key: str, owner: str) -> None:
        """It was not handled: the next one may, if the claim is still this owner's."""
        ...


class Deduplicator:
    """Handles each id once. `ledger` may be shared by many processes."""

    def __init__(
        self,
        ledger: Ledger | None = None,
        *,
        remember_seconds: float = REMEMBER_SECONDS,
        hold_seconds: float = HOLD_SECONDS,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger or MemoryLedger()
        self._remember_seconds = remember_seconds
        self._hold_seconds = hold_seconds
        self._now = now

    @contextmanager
    def once(self, key: str) -> Iterator[bool]:
        """`with deduplicator.once(webhook.id) as is_new:` handle it where it is new.

        The block's end confirms, an exception releases. Raises `InProgress` where somebody else is at it.
        """
        now = self._now()
        owner = secrets.token_hex(8)
        standing = self._ledger.claim(key, owner, now, now + self._hold_seconds)
        if standing is Standing.BUSY:
            raise InProgress(key)
        if standing is Standing.DONE:
            yield False
            return
        try:
            yield True
        except BaseException:
            self._ledger.release(key, owner)
            raise
        if not self._ledger.confirm(key, owner, self._now() + self._remember_seconds):
            log.warning(
                "webhook %s took longer than the %g s that a claim holds and may have been handled twice: "
                "give the Deduplicator longer hold_seconds",
                key,
                self._hold_seconds,
            )


class MemoryLedger:
    """For one process, and as long as it lives: for tests, and where a duplicate after a restart does no harm."""

    def __init__(self, most: int = 100_000) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._until: dict[str, tuple[float, str]] = {}
        """Until when, and whose claim it is; nobody's once it was handled."""

    def claim(self, key: str, owner: str, now: float, hold_until: float) -> Standing:
        with self._lock:
            until, held_by = self._until.get(key, (0.0, ""))
            if until > now:
                return Standing.BUSY if held_by else Standing.DONE
            self._until.pop(key, None)
            while len(self._until) >= self._most:
                del self._until[next(iter(self._until))]
            self._until[key] = (hold_until, owner)
            return Standing.NEW

    def confirm(self, key: str, owner: str, forget_at: float) -> bool:
        with self._lock:
            _, held_by = self._until.get(key, (0.0, ""))
            self._until[key] = (forget_at, "")
            return held_by == owner

    def release(self, key: str, owner: str) -> None:
        with self._lock:
            if self._until.get(key, (0.0, ""))[1] == owner:
                del self._until[key]


_DDL = """
create table if not exists embarc_received (
  id varchar(200) not null primary key,
  until_time double precision not null,
  is_done integer not null,
  owner varchar(40) not null
)"""
# Each placeholder is written as its driver wants it.
_TAKE_OVER = "update embarc_received set until_time = {0}, is_done = 0, owner = {1} where id = {2} and until_time <= {3}"
_INSERT = "insert into embarc_received (id, until_time, is_done, owner) values ({0}, {1}, {2}, {3})"
_LOOK = "select is_done from embarc_received where id = {0}"
_CONFIRM_OWN = "update embarc_received set until_time = {0}, is_done = 1 where id = {1} and owner = {2}"
_CONFIRM = "update embarc_received set until_time = {0}, is_done = 1 where id = {1}"
_RELEASE = "delete from embarc_received where id = {0} and is_done = 0 and owner = {1}"
_FORGET = "delete from embarc_received where until_time <= {0} and is_done = 1"
_FORGET_EVERY = 1000


class SqliteLedger:
    """In a SQLite file of its own, shared by the processes of one machine."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute(_DDL)
        self._claims = 0

    def claim(self, key: str, owner: str, now: float, hold_until: float) -> Standing:
        with self._lock:
            self._claims += 1
            if self._claims % _FORGET_EVERY == 0:
                self._run(_FORGET, now)
            try:
                self._run(_INSERT, key, hold_until, 0, owner)
                return Standing.NEW
            except sqlite3.IntegrityError:
                if self._run(_TAKE_OVER, hold_until, owner, key, now).rowcount:
                    return Standing.NEW
                found = self._run(_LOOK, key).fetchone()
                return Standing.DONE if found and found[0] else Standing.BUSY

    def confirm(self, key: str, owner: str, forget_at: float) -> bool:
        with self._lock:
            if self._run(_CONFIRM_OWN, forget_at, key, owner).rowcount:
                return True
            with suppress(sqlite3.IntegrityError):  # somebody else's claim is there
                self._run(_INSERT, key, forget_at, 1, owner)
            self._run(_CONFIRM, forget_at, key)
            return False

    def release(self, key: str, owner: str) -> None:
        with self._lock:
            self._run(_RELEASE, key, owner)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _run(self, statement: str, *values: object) -> sqlite3.Cursor:
        return self._connection.execute(statement.format(*"?" * len(values)), values)


_RELEASE_OWN = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"
_DONE = b"done"


class RedisLedger:
    """In Redis 6.2 or later: `client` is a `redis.Redis`. Remembers as long as Redis does: give it persistence."""

    def __init__(self, client: Any, *, prefix: str = "embarc:received:") -> None:
        self._client = client
        self._prefix = prefix

    def claim(self, key: str, owner: str, now: float, hold_until: float) -> Standing:
        name = self._prefix + key
        milliseconds = max(1, int((hold_until - now) * 1000))
        if self._client.set(name, owner, nx=True, px=milliseconds):
            return Standing.NEW
        return Standing.DONE if _bytes(self._client.get(name)) == _DONE else Standing.BUSY

    def confirm(self, key: str, owner: str, forget_at: float) -> bool:
        before = self._client.set(self._prefix + key, _DONE, pxat=int(forget_at * 1000), get=True)
        return _bytes(before) == owner.encode()

    def release(self, key: str, owner: str) -> None:
        self._client.eval(_RELEASE_OWN, 1, self._prefix + key, owner)


def _bytes(found: Any) -> bytes | None:
    """What a client answered, whether it decodes or not."""
    return found.encode() if isinstance(found, str) else found


class SqlLedger:
    """In any database that SQLAlchemy reaches: `engine` is a `sqlalchemy.Engine`."""

    def __init__(self, engine: Any) -> None:
        from sqlalchemy.exc import IntegrityError, ProgrammingError

        self._engine = engine
        self._claims = 0
        try:
            self._create()
        except (IntegrityError, ProgrammingError):  # PostgreSQL: another process made it at the same moment
            self._create()

    def claim(self, key: str, owner: str, now: float, hold_until: float) -> Standing:
        from sqlalchemy.exc import IntegrityError

        self._claims += 1
        if self._claims % _FORGET_EVERY == 0:
            with self._engine.begin() as connection:
                _run(connection, _FORGET, now)
        try:
            with self._engine.begin() as connection:
                _run(connection, _INSERT, key, hold_until, 0, owner)
            return Standing.NEW
        except IntegrityError:
            with self._engine.begin() as connection:
                if _run(connection, _TAKE_OVER, hold_until, owner, key, now).rowcount:
                    return Standing.NEW
                found = _run(connection, _LOOK, key).fetchone()
                return Standing.DONE if found and found[0] else Standing.BUSY

    def confirm(self, key: str, owner: str, forget_at: float) -> bool:
        from sqlalchemy.exc import IntegrityError

        with self._engine.begin() as connection:
            if _run(connection, _CONFIRM_OWN, forget_at, key, owner).rowcount:
                return True
        with suppress(IntegrityError), self._engine.begin() as connection:  # somebody else's claim is there
            _run(connection, _INSERT, key, forget_at, 1, owner)
        with self._engine.begin() as connection:
            _run(connection, _CONFIRM, forget_at, key)
        return False

    def release(self, key: str, owner: str) -> None:
        with self._engine.begin() as connection:
            _run(connection, _RELEASE, key, owner)

    def _create(self) -> None:
        with self._engine.begin() as connection:
            connection.exec_driver_sql(_DDL)


def claim_in(
    connection: Any, key: str, *, remember_seconds: float = REMEMBER_SECONDS, now: float | None = None
) -> bool:
    """Claim and confirm an id inside the transaction that handles it: both commit or neither, so it is handled exactly once.

    `connection` is a SQLAlchemy connection or session; the table is `SqlLedger`'s. True where the id is new. Another
    transaction with the same id waits for this one, or fails by the table's key and is tried again by its sender.
    """
    found = _run(connection, _LOOK, key).fetchone()
    if found is not None:
        return False
    _run(connection, _INSERT, key, (time.time() if now is None else now) + remember_seconds, 1, "")
    return True


def _run(connection: Any, statement: str, *values: Any) -> Any:
    from sqlalchemy import text

    names = [f":v{place}" for place in range(len(values))]
    return connection.execute(
        text(statement.format(*names)), {f"v{place}": value for place, value in enumerate(values)}
    )
