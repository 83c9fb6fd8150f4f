"""An outbox in MySQL or MariaDB: the rounds of PostgreSQL, over PyMySQL in a thread of its own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import pymysql

from embarc.inlets.outboxes.base import (
    LANES_A_ROUND,
    ROWS_A_LANE,
    OutboxRow,
    busy_lanes,
    columns,
    waiting,
)

T = TypeVar("T")

_TIMEOUT_SECONDS = 30
_SESSION = (
    "set session transaction isolation level read committed",  # no locks on gaps that the platform inserts into
    "set session wait_timeout = 120",  # a relay that is frozen, or behind a cut wire, must not keep its lanes
)
_REFUSE = "update embarc_outbox set state = 2, reason = %s where id = %s"


class MysqlSource:
    """The outbox in the database at `url`, over one connection."""

    def __init__(self, url: str, *, tenant: str | None = None, keep: bool = False) -> None:
        self._where = _connect_arguments(url)
        self._tenant = (tenant,) if tenant is not None else ()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embarc-relay")
        self._connection: Any = None
        placeholder = "%s" if tenant is not None else None
        self._busy = busy_lanes(placeholder)
        self._lane = (
            f"(select {columns()}, o.position from embarc_outbox o where o.lane = %s and {waiting(placeholder)} "  # noqa: S608 - nothing from outside
            f"order by o.position limit {ROWS_A_LANE})"
        )
        self._done = (
            "update embarc_outbox set state = 1 where id in %s"
            if keep
            else "delete from embarc_outbox where id in %s"
        )

    async def take(self) -> Sequence[OutboxRow]:
        return await self._run(self._take)

    async def finish(self, accepted: Sequence[str], refused: Mapping[str, str]) -> None:
        await self._run(self._finish, accepted, refused)

    async def let_go(self) -> None:
        await self._run(self._let_go)

    async def close(self) -> None:
        await self._run(self._let_go)
        self._thread.shutdown()

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _take(self) -> list[OutboxRow]:
        connection = self._connected()
        with connection.cursor() as cursor:
            cursor.execute(self._busy, self._tenant)
            busy = [lane for (lane,) in cursor.fetchall()]
            if not busy:
                return []
            connection.begin()
            chosen = random.sample(busy, min(len(busy), LANES_A_ROUND))
            cursor.execute(
                "select lane from embarc_outbox_lane where lane in %s for update skip locked", (chosen,)
            )
            lanes = [lane for (lane,) in cursor.fetchall()]
            rows: list[OutboxRow] = []
            if lanes:
                # Lane by lane: each is a short walk through the index, however long the backlog.
                page = " union all ".join([self._lane] * len(lanes)) + " order by position"
                cursor.execute(page, [value for lane in lanes for value in (lane, *self._tenant)])
                rows = [OutboxRow(*row[:4]) for row in cursor.fetchall()]
            if not rows:
                connection.rollback()
            return rows

    def _finish(self, accepted: Sequence[str], refused: Mapping[str, str]) -> None:
        with self._connection.cursor() as cursor:
            if accepted:
                cursor.execute(self._done, (list(accepted),))
            for one, reason in refused.items():
                cursor.execute(_REFUSE, (reason, one))
        self._connection.commit()

    def _connected(self) -> Any:
        if self._connection is None:
            connection = pymysql.connect(**self._where)
            with connection.cursor() as cursor:
                for statement in _SESSION:
                    cursor.execute(statement)
            self._connection = connection
        return self._connection

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and connection.open:
            connection.close()


def _connect_arguments(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    arguments: dict[str, Any] = {
        "host": parts.hostname or "localhost",
        "port": parts.port or 3306,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "database": unquote(parts.path.lstrip("/")),
        "charset": "utf8mb4",
        "autocommit": True,
        "connect_timeout": _TIMEOUT_SECONDS,
        "read_timeout": _TIMEOUT_SECONDS,
        "write_timeout": _TIMEOUT_SECONDS,
    }
    if "unix_socket" in options:
        arguments["unix_socket"] = options["unix_socket"]
    return arguments
