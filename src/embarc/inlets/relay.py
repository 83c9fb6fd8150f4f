"""The relay: carries events from a platform's outbox table to Embarc.

Rows are read by what is there, never by a cursor over ids: a row whose transaction committed late must not be
skipped. A row is published with its id as idempotency key and deleted afterwards; a crash between the two publishes
it again, and the key makes that the same event.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol, TypeVar

from embarc.core.events import EventKind
from embarc.core.submissions import Receipt, Submission
from embarc.observe import Observe
from embarc.web import strict_json
from embarc.web.event_body import check_names, read_bodies, to_draft

T = TypeVar("T")

PAGE = 500
POLL_SECONDS = 1.0
AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One event in the outbox."""

    id: str
    tenant: str
    body: str

    def __repr__(self) -> str:
        return f"<OutboxRow {self.id}>"  # the body is a person's data


class Source(Protocol):
    """An outbox table."""

    async def pending(self, limit: int) -> Sequence[OutboxRow]:
        """The oldest rows."""
        ...

    async def remove(self, ids: Sequence[str]) -> None:
        """Delete rows that were accepted."""
        ...

    async def close(self) -> None:
        """Let go of it."""
        ...


class SqliteSource:
    """The outbox of a platform that keeps its data in SQLite, here the sandbox."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embarc-relay")
        self._connection: sqlite3.Connection | None = None

    async def pending(self, limit: int) -> Sequence[OutboxRow]:
        return await self._run(self._pending, limit)

    async def remove(self, ids: Sequence[str]) -> None:
        await self._run(self._remove, ids)

    async def close(self) -> None:
        await self._run(self._close)
        self._thread.shutdown()

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(self._path, isolation_level=None, timeout=10)
            self._connection.execute("pragma synchronous = full")
        return self._connection

    def _pending(self, limit: int) -> list[OutboxRow]:
        found = self._open().execute(
            "select id, tenant, body from embarc_outbox order by position limit ?", (limit,)
        )
        return [OutboxRow(*row) for row in found]

    def _remove(self, ids: Sequence[str]) -> None:
        connection = self._open()
        connection.execute("begin immediate")
        connection.executemany("delete from embarc_outbox where id = ?", [(one,) for one in ids])
        connection.execute("commit")

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class Relay:
    """Moves what is in the outbox. `start`, then `await stop()`."""

    def __init__(
        self, source: Source, publish: Callable[[Submission], Awaitable[Receipt]], observe: Observe
    ) -> None:
        self._source = source
        self._publish = publish
        self._observe = observe
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to relay."""
        self._task = asyncio.create_task(self._relay_forever(), name="embarc-relay")

    def wake(self) -> None:
        """Something was committed to the outbox; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._wake.set)

    async def stop(self) -> None:
        """Finish the page at hand. What is left in the outbox stays there."""
        self._stopping = True
        self._wake.set()
        if self._task:
            await self._task
        await self._source.close()

    async def _relay_forever(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                moved = await self._relay_page()
                pause = 0.0 if moved == PAGE else POLL_SECONDS
            except Exception as error:  # whatever it is, the outbox is tried again
                self._observe("relay.failed", reason=str(error))
                pause = AGAIN_SECONDS
            if pause:
                await self._sleep(pause)

    async def _relay_page(self) -> int:
        rows = await self._source.pending(PAGE)
        if not rows:
            return 0
        # Together, so that they share commits; submitted in the table's order, and accepted in that order.
        answers = await asyncio.gather(*(self._relay_row(row) for row in rows), return_exceptions=True)
        accepted = [
            row.id for row, answer in zip(rows, answers, strict=True) if not isinstance(answer, BaseException)
        ]
        if accepted:
            await self._source.remove(accepted)
            self._observe("relay.published", events=len(accepted))
        failed = [answer for answer in answers if isinstance(answer, BaseException)]
        if failed:
            raise failed[0]
        return len(rows)

    async def _relay_row(self, row: OutboxRow) -> Receipt:
        compact = strict_json.check(row.body.encode())
        (body,), _ = read_bodies(compact, 1)
        kind = EventKind(body.entity_name, body.action_name)
        check_names(kind)
        return await self._publish(
            Submission(
                tenant=row.tenant,
                drafts=(to_draft(body, kind),),
                idempotency_key=f"outbox:{row.id}",
                fingerprint=sha256(compact).digest(),
            )
        )

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
