"""When to try again: a list of waits, jitter on top, and what the receiver asked for.

The default is the example of the Standard Webhooks specification (section "Retry schedule"): ten retries
over three days, so that a receiver that is down over a weekend still gets its events.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

DEFAULT_WAITS = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0, 86400.0)
DEFAULT_MAX_RETRIES = 10
JITTER = 0.2
"""Each wait is moved by at most this share of itself, so that a thousand failures do not return as one wave."""
LONGEST_RETRY_AFTER = 86_400.0
"""Seconds. A bank's maintenance window says four hours and means it; a week is a mistake and is ignored."""
OVERLOADED_AT_LEAST = 60.0
"""Seconds to leave a receiver alone that said 429 or did not answer in time."""


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """Seconds to wait after the first, second, ... failure. Past its end the last wait repeats."""

    waits: tuple[float, ...] = DEFAULT_WAITS
    max_retries: int = DEFAULT_MAX_RETRIES

    def delay(
        self, failures: int, chance: float, *, retry_after: float | None = None, overloaded: bool = False
    ) -> float | None:
        """Seconds until the next try after `failures` failures, or None where no try is left.

        `chance` in [0, 1) places the wait within the jitter. `retry_after` is what the receiver asked
        for: the next try is never earlier. `overloaded` is a 429 or a timeout.
        """
        if failures > self.max_retries:
            return None
        wait = self.waits[min(failures, len(self.waits)) - 1] if self.waits else 0.0
        if overloaded:
            wait = max(wait, OVERLOADED_AT_LEAST)
        wait *= 1 + JITTER * (2 * chance - 1)
        if retry_after is not None:
            wait = max(
                wait, retry_after * (1 + JITTER * chance / 2)
            )  # after the time asked for, never before
        return wait

    @property
    def text(self) -> str:
        """As written in a hook's configuration."""
        return ",".join(f"{wait:g}" for wait in self.waits)


DEFAULT_SCHEDULE = RetrySchedule()


def parse_retry_after(text: str | None, now_seconds: float) -> float | None:
    """The seconds of a `Retry-After` header (RFC 9110 section 10.2.3), a number or an HTTP date.

    None where it is absent, unreadable, in the past, or beyond a day: an absurd wish is no wish.
    """
    if not text:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:12])
    else:
        try:
            when = parsedate_to_datetime(text)
        except (ValueError, TypeError, OverflowError):
            return None
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        seconds = (when - datetime.fromtimestamp(now_seconds, UTC)).total_seconds()
    return seconds if 0 <= seconds <= LONGEST_RETRY_AFTER else None
