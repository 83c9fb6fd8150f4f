"""Lanes: one hook's work in this process, and how much of it may go on."""

from __future__ import annotations

import asyncio

from embarc.core.attempts import Outcome
from embarc.core.deliveries import Claim
from embarc.core.fairness import ClaimQueue
from embarc.core.hooks import Endpoint
from embarc.core.pacing import Breaker, BreakerState, LaneCondition, RateLimit, SlowStart, adapted
from embarc.engine.registry import Prepared

HELD_PER_SLOT = 8
"""Deliveries that a lane holds for each attempt it may have in flight: enough to never wait for a claim."""


class Lane:
    """One hook's queue, its slots and its pacing. Times are seconds of one monotonic clock."""

    __slots__ = (
        "breaker",
        "ceiling",
        "has_backlog",
        "hook_id",
        "idle",
        "in_flight",
        "is_ending",
        "is_held",
        "limit",
        "queue",
        "rate",
        "reserved",
        "slow_start",
        "tenant",
        "timer",
        "told_failing",
        "version",
    )

    def __init__(self, prepared: Prepared, now: float) -> None:
        hook = prepared.hook
        self.hook_id = hook.id
        self.tenant = hook.tenant
        self.ceiling = self.limit = hook.endpoint.concurrency
        self.rate: RateLimit | None = None
        self.slow_start: SlowStart | None = None
        self.breaker = Breaker()
        self.queue = ClaimQueue()
        self.in_flight = 0
        self.reserved = 0
        self.has_backlog = False
        self.idle: list[asyncio.Future[Claim | None]] = []
        self.timer: asyncio.TimerHandle | None = None
        """Wakes the lane when its rate lets the next attempt begin."""
        self.is_held = bool(prepared.why_held)
        self.is_ending = False
        """The hook is about to be disabled: nothing more is sent, although it still says that it is active."""
        self.told_failing = hook.failing_since_ms is not None
        if self.told_failing:  # so it was when its last process ended: begin with a probe, not with a burst
            self.breaker.distrust(now)
        self.version = hook.version
        self._configure(hook.endpoint, now)

    def update(self, prepared: Prepared, now: float) -> None:
        """Take over what the hook says today. One that was held and may receive again starts slowly."""
        if prepared.hook.version == self.version:
            return
        self.version = prepared.hook.version
        if self.is_held and not prepared.why_held:
            self.slow_start = SlowStart(now)
        self.is_held = bool(prepared.why_held)
        self._configure(prepared.hook.endpoint, now)

    def _configure(self, endpoint: Endpoint, now: float) -> None:
        if endpoint.concurrency != self.ceiling:
            self.limit = self.ceiling = endpoint.concurrency
        wanted = endpoint.rate_limit
        if wanted != (self.rate.rate if self.rate else None):
            self.rate = RateLimit(wanted, now) if wanted else None

    def room(self, now: float) -> int:
        """Deliveries that may be added to what is held: none while the breaker is open, one to probe with."""
        if self.is_ending:
            return 0
        held = len(self.queue) + self.in_flight + self.reserved
        if self.breaker.state is BreakerState.CLOSED:
            return self.limit * HELD_PER_SLOT - held
        return 1 - held if self.breaker.pause(now) == 0 else 0

    def room_for_old(self) -> int:
        """Of that, for what is not new: half of the lane at most, so that new deliveries find room."""
        return self.limit * HELD_PER_SLOT // 2 - self.queue.not_live

    def condition(self, now: float) -> LaneCondition:
        """How it goes."""
        return LaneCondition(
            breaker=self.breaker.state,
            in_flight=self.in_flight,
            limit=self.limit,
            held=len(self.queue) + self.in_flight,
            next_probe_seconds=self.breaker.pause(now) or None,
        )

    @property
    def is_quiet(self) -> bool:
        """Whether nothing of it is under way or waits here."""
        return not self.queue and not self.in_flight and not self.reserved

    @property
    def is_paced(self) -> bool:
        """Whether attempts have to wait for their turn in time."""
        return self.rate is not None or self.slow_start is not None

    def delay(self, now: float) -> float:
        """Seconds until the next attempt may begin; zero: now."""
        if self.slow_start is not None and self.slow_start.is_over(now):
            self.slow_start = None
        by_rate = self.rate.delay(now) if self.rate is not None else 0.0
        by_slow_start = self.slow_start.delay(now) if self.slow_start is not None else 0.0
        return max(by_rate, by_slow_start)

    def take_turn(self, now: float) -> None:
        """An attempt begins."""
        if self.rate is not None:
            self.rate.take(now)
        if self.slow_start is not None:
            self.slow_start.take(now)

    def has_slot(self) -> bool:
        """Whether one more attempt may be made beside those in flight."""
        return self.in_flight < self.limit

    def may_attempt(self, now: float) -> bool:
        """Whether the breaker lets an attempt through; the one that it lets through while open is its probe."""
        if self.is_ending:
            return False
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
        if after is BreakerState.CLOSED:
            self.slow_start = SlowStart(now)
        return after
