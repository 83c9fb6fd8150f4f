"""An event loop in which time passes only when everybody waits: months of sleeping in seconds, the same each time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Livelock(Exception):
    """Everybody is busy and time does not pass, or everybody waits for what never comes."""


MOST_ROUNDS = 200_000
"""Of the loop, without time passing."""


class _Selector(selectors.SelectSelector):
    """Instead of waiting it moves the loop's clock."""

    loop: VirtualLoop
    _rounds = 0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise Livelock("everybody waits and nobody will ever wake them")
        self._rounds = 0 if timeout > 0 else self._rounds + 1
        if self._rounds > MOST_ROUNDS:
            raise Livelock("everybody is busy and time does not pass")
        if timeout > 0:
            self.loop.seconds += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Begins at second 0. Nothing in it may use threads."""

    def __init__(self) -> None:
        self.seconds = 0.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Virtual seconds."""
        return self.seconds


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result, from a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
