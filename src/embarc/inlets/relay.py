"""The relay: carries events from a platform's outbox table to Embarc.

Rule 1: rows are read by what is there, never by a cursor over ids: a row whose transaction committed late must not be
skipped. Rule 2: an entity's rows are published one after the other, from its oldest waiting one on, each only when the
one before was accepted. Rule 3: a row's id is its idempotency key. From 2 and 3 follow order and "once", for any number
of relays, whatever dies when: what a relay publishes late or again was accepted before, and changes nothing. Locks only
spare relays the same work; nothing hangs on them.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from embarc.inlets.outboxes import OutboxRow, Source, SqliteSource
from embarc.observe import Observe

__all__ = ["NotNow", "OutboxRow", "Publish", "Relay", "Source", "SqliteSource"]

Publish = Callable[[OutboxRow], Awaitable[str | None]]
"""Publishes a row under its id. None is "accepted", durably; a text is why it will never be.

Raises `NotNow` where Embarc takes nothing at all at the moment, and anything else where only this row failed; then it is
tried again.
"""

ROUND_SECONDS = 5.0
"""After so long a round begins no further row: it holds lanes, and mostly a transaction."""
SHORTEST_PAUSE_SECONDS = 0.005
IDLE_SECONDS = 0.04
"""Pauses between looks double from one to the other. 25 looks a second are noticed by nobody but the next event."""
LOOKS_SHARE = 100
"""A pause is at least so many times as long as a look takes: looking never costs more than a hundredth."""
LOOKS = 8
FIRST_AGAIN_SECONDS = 0.1
LONGEST_AGAIN_SECONDS = 10.0
LONGEST_RETRY_AFTER_SECONDS = 60.0
LONGEST_REASON = 500


class NotNow(Exception):
    """Embarc does not take events at the moment."""

    def __init__(self, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class Relay:
    """Moves what is in the outbox. `start`, then `await stop()`."""

    def __init__(
        self,
        source: Source,
        publish: Publish,
        observe: Observe,
        *,
        at_once: int = 64,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """`at_once` entities are published side by side; an empty outbox is looked at every `idle_seconds`."""
        self._source = source
        self._publish = publish
        self._observe = observe
        self._at_once = at_once
        self._idle_seconds = idle_seconds
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to relay."""
        self._task = asyncio.create_task(self._relay_forever(), name="embarc-relay")

    def wake(self) -> None:
        """Something was committed to the outbox; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._wake.set)

    async def stop(self) -> None:
        """Finish the rows at hand. What is left in the outbox stays there."""
        self._stop.set()
        self._wake.set()
        if self._task:
            await self._task
        await self._source.close()

    async def _relay_forever(self) -> None:
        pause, again = SHORTEST_PAUSE_SECONDS, FIRST_AGAIN_SECONDS
        # The shortest of the last looks tells what one costs, the others what else went on.
        looks: deque[float] = deque(maxlen=LOOKS)
        while not self._stop.is_set():
            self._wake.clear()
            began = time.monotonic()
            one, failure = await self._try_round()
            if failure:
                if one and one.accepted:
                    again = FIRST_AGAIN_SECONDS
                await self._wait_after(failure, again)
                again = min(2 * again, LONGEST_AGAIN_SECONDS)
                continue
            again = FIRST_AGAIN_SECONDS
            if one:
                pause = SHORTEST_PAUSE_SECONDS
                continue
            looks.append(time.monotonic() - began)
            look = min(looks) if len(looks) == LOOKS else 0.0  # the very first one also connects
            await _until(self._wake, max(pause, LOOKS_SHARE * look))
            pause = min(2 * pause, self._idle_seconds)

    async def _try_round(self) -> tuple[_Round | None, Exception | None]:
        """The round, and what went wrong at either side."""
        try:
            one = await self._relay_round()
        except Exception as error:  # the outbox cannot be reached; whatever it is, it is tried again
            await self._source.let_go()
            return None, error
        return one, one.failure if one else None

    async def _wait_after(self, failure: Exception, again: float) -> None:
        wished = failure.retry_after_seconds if isinstance(failure, NotNow) else None
        seconds = max(again, min(wished or 0, LONGEST_RETRY_AFTER_SECONDS))
        self._observe("relay.failed", reason=str(failure) or type(failure).__name__, seconds=seconds)
        await _until(self._stop, seconds)

    async def _relay_round(self) -> _Round | None:
        """One page of rows carried and recorded; None where nothing waits."""
        rows = await self._source.take()
        if not rows:
            return None
        one = _Round(self._publish, self._stop, self._at_once)
        await one.carry(rows)
        await self._source.finish(one.accepted, one.refused)
        if one.accepted:
            self._observe("relay.published", events=len(one.accepted))
        for row_id, reason in one.refused.items():
            self._observe("relay.refused", row=row_id, reason=reason)
        return one


class _Round:
    """One page of rows on its way: entities side by side, the rows of each one after the other."""

    def __init__(self, publish: Publish, stop: asyncio.Event, at_once: int) -> None:
        self.accepted: list[str] = []
        self.refused: dict[str, str] = {}
        self.failure: Exception | None = None
        self._is_over = False
        self._publish = publish
        self._stop = stop
        self._ends_at = time.monotonic() + ROUND_SECONDS
        self._places = asyncio.Semaphore(at_once)

    async def carry(self, rows: Sequence[OutboxRow]) -> None:
        """Publish until the end, until Embarc takes nothing, or until the round's time is over."""
        entities: dict[str, list[OutboxRow]] = {}
        for row in rows:
            entities.setdefault(row.id if row.entity is None else f"/{row.entity}", []).append(row)
        await asyncio.gather(*(self._carry_entity(chain) for chain in entities.values()))

    async def _carry_entity(self, chain: Sequence[OutboxRow]) -> None:
        async with self._places:
            for row in chain:
                if self._is_over or self._stop.is_set() or time.monotonic() > self._ends_at:
                    return
                try:
                    reason = await self._publish(row)
                except NotNow as error:
                    self._is_over, self.failure = True, error
                    return
                except Exception as error:  # of this row, perhaps: the other entities go on
                    self.failure = self.failure or error
                    return
                if reason is not None:
                    self.refused[row.id] = reason[:LONGEST_REASON]
                    return  # the entity's next rows wait until a person has decided about this one
                self.accepted.append(row.id)


async def _until(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
