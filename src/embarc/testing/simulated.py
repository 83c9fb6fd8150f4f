"""The world around a simulated Embarc: receivers with good and bad times, and a ledger of what they saw."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from embarc.core.attempts import Outcome, Result
from embarc.core.ids import delivery_id, parse_delivery_id, parse_event_id
from embarc.core.pacing import BreakerState
from embarc.engine.dispatch import Dispatcher
from embarc.net.base import OutboundRequest

HOUR = 3600.0
DAY = 24 * HOUR
Key = tuple[bytes, int]


class Violation(AssertionError):
    """A promise was broken."""


@dataclass(slots=True)
class Ledger:
    """What the world outside has seen: what was promised to whom, and what arrived."""

    accepted: dict[bytes, tuple[str, int]] = field(default_factory=dict)
    """Event key -> entity and number of deliveries that the receipt told."""
    in_order: dict[tuple[int, str], list[bytes]] = field(default_factory=lambda: defaultdict(list))
    """Accepted events by ordered hook and entity."""
    processed: Counter[Key] = field(default_factory=Counter)
    """How often a receiver took a delivery and did its work."""
    sent: Counter[Key] = field(default_factory=Counter)
    meddled_with: set[Key] = field(default_factory=set)
    """Replayed or cancelled by a person, perhaps while an attempt was under way that then counts for nothing."""
    excused: Counter[Key] = field(default_factory=Counter)
    """Reasons for which it may have come once more: a crash, an answer that got lost, a replay."""
    given_up: set[Key] = field(default_factory=set)
    """Cancelled by a person."""
    in_flight: dict[int, set[Key]] = field(default_factory=lambda: defaultdict(set))
    sent_at: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    paused: set[int] = field(default_factory=set)
    deleted: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    """Hooks whose receiver answered 410 and that nobody has enabled since."""
    trace: list[str] = field(default_factory=list)


class Receivers:
    """A `Transport` to receivers with good and bad times."""

    def __init__(self, chance: random.Random, ledger: Ledger, on_violation: Callable[[str], None]) -> None:
        self._chance = chance
        self._ledger = ledger
        self._on_violation = on_violation
        self._phases: dict[str, tuple[float, str]] = {}
        self.are_well = False
        self.dispatcher: Dispatcher
        self.limits: dict[int, tuple[int, float | None, bool]] = {}
        """Hook -> concurrency, rate, order."""

    async def send(self, request: OutboundRequest) -> Outcome:
        now = asyncio.get_running_loop().time()
        lines = dict(line.split(": ", 1) for line in request.header_lines)
        key = parse_delivery_id(lines["X-Embarc-Delivery"])
        event_key = parse_event_id(lines["webhook-id"])
        if key is None or event_key != key[0]:
            raise Violation(f"wrong ids: {lines}")
        try:
            self._check(key, now)
        except Violation as violation:
            self._on_violation(str(violation))
            raise
        under_way = self._ledger.in_flight[key[1]]
        under_way.add(key)
        try:
            outcome = await self._answer(request, key, now)
        finally:
            under_way.discard(key)
        if outcome.status == 410:
            self._ledger.gone.add(key[1])
        self._ledger.trace.append(f"{now:.3f} {lines['X-Embarc-Delivery']} {outcome.result} {outcome.status}")
        return outcome

    async def close(self) -> None:
        """Nothing to close."""

    def _check(self, key: Key, now: float) -> None:
        event_key, hook_id = key
        ledger = self._ledger
        limit, rate, in_order = self.limits[hook_id]
        name = delivery_id(event_key, hook_id)
        if hook_id in ledger.paused:
            raise Violation(f"{name} was sent while its hook was paused")
        if hook_id in ledger.deleted:
            raise Violation(f"{name} was sent after its hook was deleted")
        if hook_id in ledger.gone:
            raise Violation(f"{name} was sent although its receiver had answered 410")
        if len(ledger.in_flight[hook_id]) >= limit:
            raise Violation(f"{name} is one more attempt at a time than {limit}")
        if key in ledger.in_flight[hook_id]:
            raise Violation(f"{name} is attempted twice at a time")
        if (
            self.dispatcher.condition(hook_id).breaker is not BreakerState.CLOSED
            and ledger.in_flight[hook_id]
        ):
            raise Violation(f"{name} was sent beside a probe")
        ledger.sent[key] += 1
        sent_at = ledger.sent_at[hook_id]
        sent_at.append(now)
        if rate is not None:
            recent = sum(1 for moment in reversed(sent_at[-int(rate * 11) - 2 :]) if moment > now - 10)
            if recent > rate * 10 * 1.1 + 1:
                raise Violation(f"{name} is the {recent}th in 10 s at a limit of {rate} a second")
        if in_order and event_key in ledger.accepted:
            self._check_order(key, ledger.accepted[event_key][0])

    def _check_order(self, key: Key, entity: str) -> None:
        event_key, hook_id = key
        for earlier in self._ledger.in_order[hook_id, entity]:
            if earlier >= event_key:
                continue
            before = (earlier, hook_id)
            if not self._ledger.processed[before] and before not in self._ledger.given_up:
                raise Violation(
                    f"{delivery_id(*key)} overtook {delivery_id(*before)} of the same entity {entity}"
                )

    async def _answer(self, request: OutboundRequest, key: Key, now: float) -> Outcome:
        chance = self._chance
        mood = "well" if self.are_well else self._mood(request.url, now)
        if mood == "flaky":
            mood = chance.choice(("well", "broken", "silent", "lossy"))
        if mood == "silent":
            await asyncio.sleep(request.timeout_seconds)
            return Outcome(result=Result.TIMEOUT, duration_ms=request.timeout_seconds * 1000)
        seconds = chance.uniform(0.01, 2.0)
        await asyncio.sleep(seconds / 2)
        if mood in ("well", "lossy"):
            self._ledger.processed[key] += 1
        if mood == "lossy":
            self._ledger.excused[key] += 1
        await asyncio.sleep(seconds / 2)
        return {
            "well": Outcome(result=Result.STATUS, status=200),
            "lossy": Outcome(result=Result.RESET),
            "broken": Outcome(result=Result.STATUS, status=500),
            "absent": Outcome(result=Result.REFUSED),
            "busy": Outcome(result=Result.STATUS, status=429, head=b"Retry-After: 600\r\n"),
            "gone": Outcome(result=Result.STATUS, status=410),
            "refusing": Outcome(
                result=Result.STATUS, status=422, head=b"webhook-delivery: abort-message\r\n"
            ),
        }[mood]

    def set_mood(self, url: str, mood: str, *, until: float) -> None:
        """Let a receiver behave in one way until a virtual second."""
        self._phases[url] = (until, mood)

    def _mood(self, url: str, now: float) -> str:
        until, mood = self._phases.get(url, (0.0, ""))
        while until <= now:
            until = max(until, now - 10 * DAY) + self._chance.expovariate(1 / (18 * HOUR))
            mood = self._chance.choices(
                ("well", "flaky", "silent", "broken", "absent", "lossy", "busy", "gone", "refusing"),
                (50, 12, 8, 8, 8, 5, 5, 2, 2),
            )[0]
            self._phases[url] = (until, mood)
        return mood
