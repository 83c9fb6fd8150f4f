"""Slowing down whoever guesses: each failure beyond a few doubles the wait."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 900.0
FORGET_SECONDS = 3600.0
_REMEMBER = 20_000


@dataclass(slots=True)
class _Record:
    failures: int = 0
    until: float = 0.0
    last: float = 0.0


class Throttle:
    """Counts failures by key. Times are seconds of one monotonic clock."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def wait(self, key: str, now: float) -> float:
        """Seconds before this one may try again; zero: now."""
        record = self._records.get(key)
        return max(0.0, record.until - now) if record else 0.0

    def failed(self, key: str, now: float) -> None:
        """A try failed."""
        record = self._records.pop(key, None)
        if record is None or now - record.last > FORGET_SECONDS:
            record = _Record()
        record.failures += 1
        record.last = now
        if record.failures > self._free:
            wait = FIRST_WAIT_SECONDS * 2 ** min(record.failures - self._free - 1, 20)
            record.until = now + min(wait, LONGEST_WAIT_SECONDS)
        self._records[key] = record
        while len(self._records) > _REMEMBER:
            self._records.popitem(last=False)

    def succeeded(self, key: str) -> None:
        """A try succeeded: all is forgotten."""
        self._records.pop(key, None)
