"""How fast one endpoint may be sent to: its rate limit, its concurrency, its breaker.

Rules of this file:
* Plain state machines: time comes in as seconds of any monotonic clock, chance as a number in [0, 1).
* They protect the receiver and everybody else's share of this process. They never spend a retry: what may not go
  out now stays due.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from embarc.core.attempts import Outcome, Result

BURST_SECONDS = 0.1
"""Of its rate that an endpoint may receive at once: a window of ten seconds is exact to one per cent."""

SLOW_START_RATE = 10.0
SLOW_START_STEP_SECONDS = 5.0
SLOW_START_SECONDS = 40.0

_OVERLOAD_STATUSES = frozenset({429, 503})
_NO_ANSWER = frozenset(
    {Result.REFUSED, Result.CONNECT_TIMEOUT, Result.TLS_TIMEOUT, Result.TIMEOUT, Result.RESET, Result.DNS}
)

OPEN_AFTER_IN_A_ROW = 5
OPEN_AT_SHARE = 0.7
OPEN_AT_LEAST = 20
WINDOW_SECONDS = 300.0
FIRST_PAUSE_SECONDS = 30.0
LONGEST_PAUSE_SECONDS = 900.0
_SLICES = 10


class RateLimit:
    """At most `rate` a second, evenly (the generic cell rate algorithm, ITU-T I.371). Begins without a burst."""

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._next = now + BURST_SECONDS

    def delay(self, now: float) -> float:
        """Seconds until the next one may go; zero: now."""
        return max(0.0, self._next - BURST_SECONDS - now)

    def take(self, now: float) -> None:
        """One goes now."""
        self._next = max(self._next, now) + 1 / self.rate


class SlowStart:
    """What has come back, or was paused, is not run over by its backlog: ten a second at first, doubled every five.

    It is over after forty seconds, at a rate of more than a thousand a second.
    """

    def __init__(self, now: float) -> None:
        self._began = now
        self._limit = RateLimit(SLOW_START_RATE, now)

    def is_over(self, now: float) -> bool:
        """Whether it no longer holds anything back."""
        return now - self._began >= SLOW_START_SECONDS

    def delay(self, now: float) -> float:
        """Seconds until the next one may go; zero: now."""
        return 0.0 if self.is_over(now) else self._limit.delay(now)

    def take(self, now: float) -> None:
        """One goes now."""
        self._limit.rate = SLOW_START_RATE * 2 ** ((now - self._began) // SLOW_START_STEP_SECONDS)
        self._limit.take(now)


def adapted(limit: int, ceiling: int, outcome: Outcome) -> int:
    """The attempts that may be under way after this outcome: half after a sign of overload, one more after success."""
    if outcome.is_success:
        return min(limit + 1, ceiling)
    if outcome.result in _NO_ANSWER or outcome.status in _OVERLOAD_STATUSES:
        return max(limit // 2, 1)
    return min(limit, ceiling)


class BreakerState(StrEnum):
    """Whether an endpoint is being attempted."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneCondition:
    """How one hook's attempts go, as it is shown."""

    breaker: BreakerState = BreakerState.CLOSED
    in_flight: int = 0
    limit: int = 0
    held: int = 0
    next_probe_seconds: float | None = None

    @property
    def why_held(self) -> str:
        """Why nothing is sent; empty where something is."""
        if self.breaker is BreakerState.CLOSED:
            return ""
        pause = self.next_probe_seconds
        return (
            f"the endpoint keeps failing, the next probe is in {pause:.0f} s"
            if pause
            else "the endpoint is probed"
        )


@dataclass(slots=True)
class _Slice:
    """Attempts of a part of the window."""

    until: float
    attempts: int = 0
    failures: int = 0


@dataclass(slots=True)
class Breaker:
    """Stops attempts to an endpoint that fails, and finds out with one at a time whether it is back.

    Opens after five failures in a row, or when 70 % of at least 20 attempts of the last five minutes failed. The
    first pause is 30 s, doubled each time the probe fails, up to 15 min, with jitter.
    """

    state: BreakerState = BreakerState.CLOSED
    _in_a_row: int = 0
    _slices: deque[_Slice] = field(default_factory=lambda: deque(maxlen=_SLICES))
    _pause: float = FIRST_PAUSE_SECONDS
    _probe_at: float = 0.0

    def pause(self, now: float) -> float:
        """Seconds during which nothing may be attempted; zero: go on, or probe."""
        if self.state is BreakerState.CLOSED:
            return 0.0
        return max(0.0, self._probe_at - now)

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt failed, or none is made because they all do."""
        return self._in_a_row > 0 or self.state is not BreakerState.CLOSED

    def distrust(self, now: float) -> None:
        """Begin with a probe: it was failing when it was last heard of."""
        self.state = BreakerState.OPEN
        self._probe_at = now

    def probing(self) -> None:
        """One attempt is made to see whether the endpoint is back."""
        self.state = BreakerState.HALF_OPEN

    def record(self, *, success: bool, now: float, chance: float) -> BreakerState:
        """Take the result of an attempt in; returns the state that follows."""
        if success and self.state is not BreakerState.CLOSED:
            self._close()
            return self.state
        self.count(success=success, now=now)
        if self.state is BreakerState.HALF_OPEN:
            self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
            self._open(now, chance)
        elif self.state is BreakerState.CLOSED and not success and self._is_failing(now):
            self._open(now, chance)
        return self.state

    def count(self, *, success: bool, now: float) -> None:
        """Count an attempt, by slices of half a minute, and decide nothing."""
        if not self._slices or now >= self._slices[-1].until:
            self._slices.append(_Slice(now + WINDOW_SECONDS / _SLICES))
        latest = self._slices[-1]
        latest.attempts += 1
        if success:
            self._in_a_row = 0
        else:
            self._in_a_row += 1
            latest.failures += 1

    def _is_failing(self, now: float) -> bool:
        if self._in_a_row >= OPEN_AFTER_IN_A_ROW:
            return True
        recent = [one for one in self._slices if one.until > now - WINDOW_SECONDS]
        attempts = sum(one.attempts for one in recent)
        return attempts >= OPEN_AT_LEAST and sum(one.failures for one in recent) >= OPEN_AT_SHARE * attempts

    def _open(self, now: float, chance: float) -> None:
        self.state = BreakerState.OPEN
        self._probe_at = now + self._pause * (1 + 0.2 * chance)

    def _close(self) -> None:
        self.state = BreakerState.CLOSED
        self._in_a_row = 0
        self._slices.clear()
        self._pause = FIRST_PAUSE_SECONDS
