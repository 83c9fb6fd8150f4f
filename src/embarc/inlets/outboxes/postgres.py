"""An outbox in PostgreSQL.

A round is one transaction: it locks lanes that no other relay has (`for update skip locked`), reads their oldest rows,
and ends with their removal. Should this process die, the server lets the lanes go with the connection.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping, Sequence

import asyncpg
from asyncpg.transaction import Transaction

from embarc.inlets.outboxes.base import (
    LANES_A_ROUND,
    ROWS_A_LANE,
    OutboxRow,
    busy_lanes,
    columns,
    waiting,
)

_TIMEOUT_SECONDS = 30
_FAREWELL_SECONDS = 5
_SESSION = {
    "application_name": "embarc-relay",
    # A table that is mostly empty and always changing has statistics that are always wrong.
    "enable_seqscan": "off",
    "jit": "off",
    # A relay that is frozen, or behind a cut wire, must not keep its lanes.
    "idle_in_transaction_session_timeout": "60s",
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
_LOCK = "select lane from embarc_outbox_lane where lane = any($1::smallint[]) for update skip locked"
_REFUSE = "update embarc_outbox set state = 2, reason = $2 where id = $1"


class PostgresSource:
    """The outbox in the database at `url`, over one connection."""

    def __init__(self, url: str, *, tenant: str | None = None, keep: bool = False) -> None:
        self._url = url
        self._tenant = (tenant,) if tenant is not None else ()
        self._connection: asyncpg.Connection | None = None
        self._transaction: Transaction | None = None
        self._busy = busy_lanes("$1" if tenant is not None else None)
        which = waiting("$2" if tenant is not None else None)
        # Lane by lane: each is a short walk through the index, however long the backlog.
        self._page = (
            f"select {columns()} from unnest($1::smallint[]) as l (lane) cross join lateral ("  # noqa: S608 - nothing from outside
            f"select * from embarc_outbox o where o.lane = l.lane and {which} order by o.position limit {ROWS_A_LANE}"
            ") o order by o.position"
        )
        self._done = (
            "update embarc_outbox set state = 1 where id = any($1::text[])"
            if keep
            else "delete from embarc_outbox where id = any($1::text[])"
        )

    async def take(self) -> Sequence[OutboxRow]:
        connection = await self._connected()
        busy = [lane for (lane,) in await connection.fetch(self._busy, *self._tenant)]
        if not busy:
            return []
        self._transaction = connection.transaction()
        await self._transaction.start()
        chosen = random.sample(busy, min(len(busy), LANES_A_ROUND))
        lanes = [lane for (lane,) in await connection.fetch(_LOCK, chosen)]
        rows = [OutboxRow(*row) for row in await connection.fetch(self._page, lanes, *self._tenant)]
        if not rows:
            transaction, self._transaction = self._transaction, None
            await transaction.rollback()
        return rows

    async def finish(self, accepted: Sequence[str], refused: Mapping[str, str]) -> None:
        assert self._connection is not None  # noqa: S101 - `take` began the round
        assert self._transaction is not None  # noqa: S101 - as above
        if accepted:
            await self._connection.execute(self._done, list(accepted))
        if refused:
            await self._connection.executemany(_REFUSE, list(refused.items()))
        transaction, self._transaction = self._transaction, None
        await transaction.commit()

    async def let_go(self) -> None:
        connection, self._connection, self._transaction = self._connection, None, None
        if connection is not None:
            connection.terminate()  # the server rolls back; a wire that is broken needs no farewell

    async def close(self) -> None:
        connection, self._connection, self._transaction = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await connection.close(timeout=_FAREWELL_SECONDS)

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(
                self._url,
                timeout=_TIMEOUT_SECONDS,
                command_timeout=_TIMEOUT_SECONDS,
                server_settings=_SESSION,
            )
        return self._connection
