"""Deliveries: the duty to bring one event to one hook, and what becomes of it.

Rules of this file:
* It decides and does nothing else: no clock, no chance, no store. Time comes in as seconds, chance as a
  number in [0, 1).
* There is no "running" state. A delivery that somebody works on is `waiting` with `due_at` at the end of
  a lease; a dead process's delivery simply becomes due again.
* `TRANSITIONS` is the whole truth about states; `docs/reference/states.md` is drawn from it.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

from embarc.core.attempts import Attempt, Outcome, Result
from embarc.core.events import EventKind
from embarc.core.schedules import RetrySchedule, parse_retry_after
from embarc.core.values import value


class State(StrEnum):
    """Where a delivery stands."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    EXHAUSTED = "exhausted"
    CANCELLED = "cancelled"

    @property
    def meaning(self) -> str:
        """One sentence for people."""
        return _MEANING[self]


_MEANING = {
    State.WAITING: "Will be tried at its due time, or is being tried now.",
    State.DELIVERED: "The receiver answered 2xx.",
    State.EXHAUSTED: "Every try failed. Stays listed and can be replayed.",
    State.CANCELLED: "Nobody wants it any more: a person cancelled it, or its hook was deleted.",
}


class Traffic(IntEnum):
    """Why a delivery is on its way. Each class keeps a share of a hook's attempts: none hides the others."""

    LIVE = 0
    RETRY = 1
    REPLAY = 2


SHARES = {Traffic.LIVE: 3, Traffic.RETRY: 1, Traffic.REPLAY: 1}
"""Of five, while all three have something to do."""

HELD = "held"
"""How a waiting delivery is shown while its hook may not receive. It is not a state of its own: nothing has to
be rewritten when a hook with a million waiting deliveries is switched off or on."""

TRANSITIONS: tuple[tuple[State, str, State], ...] = (
    (State.WAITING, "the receiver answers 2xx", State.DELIVERED),
    (State.WAITING, "an attempt fails, a retry is left", State.WAITING),
    (State.WAITING, "an attempt fails, no retry is left", State.EXHAUSTED),
    (State.WAITING, "the receiver refuses the message for good", State.EXHAUSTED),
    (State.WAITING, "the receiver answers 410, its hook is disabled", State.WAITING),
    (State.WAITING, "a person cancels it, or its hook is deleted", State.CANCELLED),
    (State.EXHAUSTED, "a person cancels it", State.CANCELLED),
    (State.DELIVERED, "a person replays it", State.WAITING),
    (State.EXHAUSTED, "a person replays it", State.WAITING),
    (State.CANCELLED, "a person replays it", State.WAITING),
)


@value
class Claim:
    """A delivery that this process may attempt until its lease ends. The token proves that it still may."""

    tenant: str
    event_key: bytes
    hook_id: int
    lease_token: int
    attempts: int
    """Attempts made before this one, also those of earlier processes and before a replay."""
    failures: int
    """Failures that count against the retries."""
    traffic: Traffic
    kind: EventKind
    payload: bytes

    @property
    def is_replay(self) -> bool:
        """Whether somebody asked for it again."""
        return self.traffic is Traffic.REPLAY

    def __repr__(self) -> str:
        return f"<Claim {self.event_key.hex()} -> hook {self.hook_id}, attempt {self.attempts + 1}>"


@value
class Verdict:
    """What an attempt's outcome means for its delivery and its hook."""

    state: State
    failures: int
    retry_in_seconds: float | None = None
    """Set exactly when the state is `waiting`."""
    disables_hook: bool = False
    reason: str = ""


@value
class Settlement:
    """An attempt and its verdict, to be recorded together under the claim's lease."""

    claim: Claim
    attempt: Attempt
    verdict: Verdict


_DELIVERED = Verdict(state=State.DELIVERED, failures=0)
_OVERLOADED = frozenset({Result.TIMEOUT, Result.CONNECT_TIMEOUT, Result.TLS_TIMEOUT})


def after(
    failures: int, outcome: Outcome, schedule: RetrySchedule, *, now_seconds: float, chance: float
) -> Verdict:
    """What follows from the outcome of an attempt that had `failures` failures before it.

    A 2xx whose body asks for nothing more is delivered. 410 Gone disables the hook and holds the delivery.
    Everything else, 3xx included, spends a retry.
    """
    if outcome.is_success:
        return _DELIVERED
    failures += 1
    wish = (outcome.header("webhook-delivery") or "").strip().lower()
    if outcome.status == 410 or wish == "disable":
        reason = (
            "the receiver answered 410 Gone" if outcome.status == 410 else "the receiver asked to be disabled"
        )
        # Stays due: it is held while the hook is disabled, and the first to go when a person enables it again.
        return Verdict(
            state=State.WAITING, failures=failures, retry_in_seconds=0.0, disables_hook=True, reason=reason
        )
    if wish == "abort-message":
        return Verdict(
            state=State.EXHAUSTED, failures=failures, reason="the receiver refused this message for good"
        )
    delay = schedule.delay(
        failures,
        chance,
        retry_after=parse_retry_after(outcome.header("retry-after"), now_seconds),
        overloaded=outcome.status == 429 or outcome.result in _OVERLOADED,
    )
    if delay is None:
        return Verdict(state=State.EXHAUSTED, failures=failures, reason=f"failed {failures} times")
    return Verdict(state=State.WAITING, failures=failures, retry_in_seconds=delay)
