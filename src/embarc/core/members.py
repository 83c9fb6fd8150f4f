"""Members: the processes that share one store, and which of them works for which hooks.

Every hook belongs to one of `SEGMENTS` segments, and every segment to at most one member. So a hook's deliveries are all
sent by one process: its concurrency, rate, order and breaker hold over all processes without a word between them. Who
wants which segment follows from who is alive, by rendezvous hashing: when a member comes or goes, only its share moves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from embarc.core.pacing import LaneCondition

SEGMENTS = 256
"""Enough for a fair division among dozens of processes, few enough to send the list in every heartbeat."""
LEADING_SEGMENT = 0
"""Whoever holds it does what one process does for all: pruning, replays."""
NUMBER_BITS = 30
"""Of a member's number. It begins each of its lease tokens, so that the store can tell whose a lease is."""
COUNTER_BITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A process. `conditions` is what it tells about the lanes of which there is something to tell."""

    number: int
    name: str
    dispatches: bool = True
    conditions: Mapping[int, LaneCondition] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attendance:
    """What a member learns at its heartbeat."""

    members: tuple[Member, ...]
    """Those alive, this one among them."""
    segments: frozenset[int]
    """Those that this member holds now."""


def segment_of(hook_id: int) -> int:
    """The segment of a hook."""
    return hook_id % SEGMENTS


def tokens_of(number: int) -> tuple[int, int]:
    """The range of a member's lease tokens, its end excluded."""
    return number << COUNTER_BITS, (number + 1) << COUNTER_BITS


def wanted_segments(number: int, alive: Iterable[Member]) -> frozenset[int]:
    """The segments that this member should hold, of those who are alive and dispatch."""
    numbers = sorted(member.number for member in alive if member.dispatches)
    if number not in numbers:
        return frozenset()
    return frozenset(segment for segment in range(SEGMENTS) if _owner(segment, numbers) == number)


def _owner(segment: int, numbers: Collection[int]) -> int:
    """Rendezvous hashing (Thaler and Ravishankar, 1998): the one with the highest weight for this segment."""
    return max(numbers, key=lambda number: blake2b(f"{number}/{segment}".encode(), digest_size=8).digest())
