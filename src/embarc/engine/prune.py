"""Pruning: what is old is deleted a little at a time, and what waits for a deleted hook is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from embarc.observe import Observe
from embarc.store.base import Store

PAGE = 200
"""Rows of one transaction: everybody else's commit waits for it."""
PAUSE_SECONDS = 0.02
"""Between two pages."""
ROUND_SECONDS = 600.0
_DAY_SECONDS = 86_400


class Pruner:
    """Works in the background, in the process that leads: `start`, `wake` after a hook was deleted, `await stop()`."""

    def __init__(
        self,
        store: Store,
        *,
        leads: Callable[[], bool],
        observe: Observe,
        retention_days: float,
        attempt_retention_days: float,
        round_seconds: float = ROUND_SECONDS,
    ) -> None:
        self._store = store
        self._leads = leads
        self._observe = observe
        self._seconds = retention_days * _DAY_SECONDS
        self._attempt_seconds = attempt_retention_days * _DAY_SECONDS
        self._round_seconds = round_seconds
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, with a round at once."""
        self._task = asyncio.create_task(self._run(), name="embarc_prune")

    def wake(self) -> None:
        """A hook was deleted."""
        self._wake.set()

    async def stop(self) -> None:
        """End between two pages."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def round(self) -> None:
        """One round over everything, and what the store needs for its own sake."""
        for alarm in await self._store.upkeep():
            self._observe("store.alarm", reason=alarm)
        await self.cancel_orphans()
        position: int | None = 0
        events = 0
        while position is not None:
            deleted, position = await self._store.prune_events(self._seconds, after=position, limit=PAGE)
            events += deleted
            await asyncio.sleep(PAUSE_SECONDS)
        attempts = await self._pages(
            lambda limit: self._store.prune_attempts(self._attempt_seconds, limit=limit)
        )
        keys = await self._pages(lambda limit: self._store.prune_keys(self._seconds, limit=limit))
        if events or attempts or keys:
            self._observe("history.pruned", events=events, attempts=attempts, keys=keys)

    async def cancel_orphans(self) -> None:
        """Cancel what waits for hooks that were deleted."""
        await self._pages(self._store.cancel_orphans)

    async def _run(self) -> None:
        work = self.round
        while True:
            self._wake.clear()
            try:
                if self._leads():
                    await work()
            except Exception as error:
                self._observe("pruning.failed", reason=str(error) or repr(error))
            try:
                async with asyncio.timeout(self._round_seconds):
                    await self._wake.wait()
                work = self.cancel_orphans
            except TimeoutError:
                work = self.round

    async def _pages(self, step: Callable[[int], Awaitable[int]]) -> int:
        total = 0
        while True:
            done = await step(PAGE)
            total += done
            if done == 0:
                return total
            await asyncio.sleep(PAUSE_SECONDS)
