"""Work for many callers in one round trip: while one group is under way, the next one gathers.

Nobody waits for company: a lone item goes at once, and under load a group grows to what came in during the last round
trip. The runner answers every item, with a result or with an exception of its own, so that one fails without its neighbours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from embarc.core.errors import StoreUnavailable

Item = TypeVar("Item")
Result = TypeVar("Result")


class Groups(Generic[Item, Result]):
    """Gathers items and gives them to `run`, a group at a time. `weight` tells an item's rows, `most` bounds a group's."""

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Result | BaseException]]],
        *,
        weight: Callable[[Item], int],
        most: int,
    ) -> None:
        self._run = run
        self._weight = weight
        self._most = most
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    def submit(self, item: Item) -> asyncio.Future[Result]:
        """The item's result, once its group is committed."""
        if self._is_closed:
            raise StoreUnavailable("The store is closed.")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name="embarc_store_groups")
        return future

    async def close(self) -> None:
        """Finish what was submitted."""
        self._is_closed = True
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        try:
            while self._waiting:
                group = self._next()
                try:
                    results = await self._run([item for item, _ in group])
                except Exception as error:
                    results = [error] * len(group)
                for (_, future), result in zip(group, results, strict=True):
                    if future.done():  # its caller was cancelled; the work is committed all the same
                        continue
                    if isinstance(result, BaseException):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        finally:
            self._task = None

    def _next(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        total = 0
        for count, (item, _) in enumerate(self._waiting):
            total += self._weight(item)
            if total > self._most and count:
                group, self._waiting = self._waiting[:count], self._waiting[count:]
                return group
        group, self._waiting = self._waiting, []
        return group
