"""Names of things. Sixteen bytes inside the store, a prefix and hexadecimal digits outside.

An event's id is a UUIDv7 (RFC 9562 section 5.7), so ids sort by the time of acceptance and no two
machines need to agree on a counter. A delivery needs no id of its own: it *is* the pair (event, hook),
which also makes a second delivery of one event to one hook impossible.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_EVENT = re.compile(r"evt_([0-9a-f]{32})\Z")
_REPLAY = re.compile(r"rpl_([0-9a-f]{32})\Z")
_DELIVERY = re.compile(r"dlv_([0-9a-f]{32})_([1-9][0-9]{0,17})\Z")


def event_id(key: bytes) -> str:
    """`evt_` and 32 hexadecimal digits: also the `webhook-id` of every send of this event."""
    return "evt_" + key.hex()


def parse_event_id(text: str) -> bytes | None:
    """The sixteen bytes of an event id, or None where `text` is not one."""
    found = _EVENT.match(text)
    return bytes.fromhex(found[1]) if found else None


def delivery_id(event_key: bytes, hook_id: int) -> str:
    """`dlv_`, the event's digits, and the hook's number."""
    return f"dlv_{event_key.hex()}_{hook_id}"


def parse_delivery_id(text: str) -> tuple[bytes, int] | None:
    """The event's sixteen bytes and the hook's number, or None where `text` is not a delivery id."""
    found = _DELIVERY.match(text)
    return (bytes.fromhex(found[1]), int(found[2])) if found else None


def replay_id(key: bytes) -> str:
    """`rpl_` and 32 hexadecimal digits."""
    return "rpl_" + key.hex()


def parse_replay_id(text: str) -> bytes | None:
    """The sixteen bytes of a replay's id, or None where `text` is not one."""
    found = _REPLAY.match(text)
    return bytes.fromhex(found[1]) if found else None


class EventKeys:
    """Makes event keys that rise strictly, also within a millisecond and when the clock steps back.

    Layout of RFC 9562 section 5.7: 48 bits of milliseconds, version, 12 random bits, variant, 62 bits of which
    the highest starts as 0; a key of the same millisecond adds a random step to them (section 6.2, method 2).
    """

    def __init__(self, random_bits: Callable[[int], int]) -> None:
        self._random_bits = random_bits
        self._last_ms = -1
        self._head = 0
        self._tail = 0

    def next(self, now_ms: int) -> bytes:
        """Sixteen bytes, larger than all before."""
        if now_ms > self._last_ms:
            self._last_ms = now_ms
            drawn = self._random_bits(73)
            self._head = (now_ms << 16 | 0x7000 | drawn >> 61) << 64 | 0x8 << 60
            self._tail = drawn & (1 << 61) - 1
        else:
            self._tail += 1 + self._random_bits(24)
        return (self._head | self._tail).to_bytes(16, "big")


def lowest_key(ms: int) -> bytes:
    """The smallest key of this millisecond: keys carry the time of acceptance in their first 48 bits."""
    return max(ms, 0).to_bytes(6, "big") + bytes(10)


def key_below(ms: int) -> bytes:
    """A key that is lower than those of this millisecond and higher than those before it."""
    return max(int.from_bytes(lowest_key(ms)) - 1, 0).to_bytes(16, "big")
