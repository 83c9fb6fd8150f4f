"""A clock that moves when told."""

from __future__ import annotations


class ManualClock:
    """Seconds since 1970, standing still. Pass `clock.now` where a clock is wanted."""

    def __init__(self, start: float = 1_760_341_512.001) -> None:
        self.seconds = start

    def now(self) -> float:
        """The time."""
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds
