"""Settling: results become history, together, one transaction at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from embarc.core.deliveries import Settlement
from embarc.store.base import Store

AGAIN_SECONDS = 1.0
"""Pause before the store is asked again after it failed."""


class Settler:
    """`add` results while `run_until_finished` records them; `on_settled` is told of each, and whether it was still ours."""

    def __init__(
        self,
        store: Store,
        *,
        on_settled: Callable[[Settlement, bool], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self.waiting: list[Settlement] = []
        self._store = store
        self._on_settled = on_settled
        self._failed = failed
        self._has_work = asyncio.Event()
        self._is_finished = False

    def add(self, settlement: Settlement) -> None:
        """Record this soon."""
        self.waiting.append(settlement)
        self._has_work.set()

    def finish(self) -> None:
        """Nothing more comes."""
        self._is_finished = True
        self._has_work.set()

    async def run_until_finished(self) -> None:
        """While one transaction runs, results gather for the next."""
        while not self._is_finished or self.waiting:
            await self._has_work.wait()
            self._has_work.clear()
            batch, self.waiting = self.waiting, []
            if not batch:
                continue
            try:
                settled = await self._store.settle(batch)
            except Exception as error:
                self._failed(error)
                if not self._is_finished:  # the leases still hold for a while; past them, others try again
                    self.waiting = batch + self.waiting
                    self._has_work.set()
                    await asyncio.sleep(AGAIN_SECONDS)
                continue
            for settlement, is_ours in zip(batch, settled, strict=True):
                self._on_settled(settlement, is_ours)
