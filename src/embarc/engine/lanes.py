"""Lanes: one hook's work in this process, and how much of it may go on."""

from __future__ import annotations

import asyncio
from collections import deque

from embarc.core.attempts import Outcome
from embarc.core.deliveries import Claim
from embarc.core.hooks import Endpoint
from embarc.core.pacing import Breaker, BreakerState, RateLimit, adapted

HELD_PER_SLOT = 8
"""Deliveries that a lane holds for each attempt it may have in flight: enough to never wait for a claim."""


class Lane:
    """One hook's queue, its slots and its pacing. Times are seconds of one monotonic clock."""

    __slots__ = (
        "breaker",
        "ceiling",
        "gate",
        "has_backlog",
        "idle",
        "in_flight",
        "limit",
        "queue",
        "rate",
        "reserved",
    )

    def __init__(self, endpoint: Endpoint, now: float) -> None:
        self.ceiling = self.limit = endpoint.concurrency
        self.rate: RateLimit | None = None
        self.breaker = Breaker()
        self.queue: deque[Claim] = deque()
        self.in_flight = 0
        self.reserved = 0
        self.has_backlog = False
        self.idle: list[asyncio.Future[None]] = []
        self.gate = asyncio.Lock()
        self.configure(endpoint, now)

    def configure(self, endpoint: Endpoint, now: float) -> None:
        """Take over what the hook's configuration says today."""
        if endpoint.concurrency != self.ceiling:
            self.limit = self.ceiling = endpoint.concurrency
        wanted = endpoint.rate_limit
        if wanted != (self.rate.rate if self.rate else None):
            self.rate = RateLimit(wanted, now) if wanted else None

    def room(self, now: float) -> int:
        """Deliveries that may be added to what is held: none while the breaker is open, one to probe with."""
        held = len(self.queue) + self.in_flight + self.reserved
        if self.breaker.state is BreakerState.CLOSED:
            return self.limit * HELD_PER_SLOT - held
        return 1 - held if self.breaker.pause(now) == 0 else 0

    def has_slot(self) -> bool:
        """Whether one more attempt may be made beside those in flight."""
        return self.in_flight < self.limit

    def may_attempt(self, now: float) -> bool:
        """Whether the breaker lets an attempt through; the one that it lets through while open is its probe."""
        if self.breaker.state is BreakerState.CLOSED:
            return True
        if self.breaker.state is BreakerState.OPEN and self.breaker.pause(now) == 0:
            self.breaker.probing()
            return True
        return False

    def record(self, outcome: Outcome, *, now: float, chance: float) -> BreakerState | None:
        """Take an outcome in; returns the breaker's state where it changed between closed and not."""
        before = self.breaker.state
        if outcome.is_success and self.limit == self.ceiling and before is BreakerState.CLOSED:
            self.breaker.count(success=True, now=now)  # nearly always: nothing to decide
            return None
        self.limit = adapted(self.limit, self.ceiling, outcome)
        after = self.breaker.record(success=outcome.is_success, now=now, chance=chance)
        if (before is BreakerState.CLOSED) == (after is BreakerState.CLOSED):
            return None
        self.limit = 1  # and grows with each success: a backlog must not break what has just come back
        return after
