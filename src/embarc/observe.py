"""Telling what happened, once: the same call feeds the log, the metrics and the tests.

`observe("delivery.attempted", hook=7, ...)` goes to whoever subscribed to that name. The log is one such
subscriber: one wide line a unit of work, never a payload, never a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

Listener = Callable[[Mapping[str, Any]], None]

NAMES = {
    "submission.accepted": "Events were accepted: they are on disk.",
    "delivery.attempted": "An attempt was made and recorded.",
    "delivery.lease_lost": "An attempt ended after its lease: another process owns the delivery, nothing was overwritten.",
    "deliveries.claimed": "Due deliveries were taken from the store.",
    "deliveries.surrendered": "Deliveries that were not attempted were given back.",
    "dispatcher.failed": "Something went wrong in the dispatcher, mostly the store; it is told, and tried again.",
    "filter.failed": "A hook's filter could not say whether it wants an event; the event is sent.",
    "heartbeat.failed": "A heartbeat did not reach the store; after a few, this process stops sending until one does.",
    "history.pruned": "Old events, attempts and idempotency keys were deleted.",
    "hook.failing": "An endpoint keeps failing: nothing is sent to it until a probe succeeds.",
    "hook.recovered": "A failing endpoint answers again; sending begins slowly.",
    "hook.disabled": "A hook was disabled: its receiver asked for it, or nothing has succeeded for days.",
    "hooks.changed": "The hooks in memory were read again.",
    "inlet.refused": "What came in at an inlet could not be read and is lost: its sender does not try again.",
    "inlet.skipped": "A failed or pending command came in at an inlet that does not forward them.",
    "kind.added": "An event of a new kind was published, and the kind added to its tenant's catalogue.",
    "member.fenced": "No heartbeat has reached the store for so long that others will take over: this process stops sending.",
    "members.changed": "Processes that share the store have come or gone.",
    "process.ended": "One of several processes ended without being asked to; it is started again.",
    "network.metadata_allowed": "DANGEROUS: this installation lets hooks point to the metadata services of clouds.",
    "pruning.failed": "Old history could not be deleted, and is tried again in the next round.",
    "relay.failed": "The outbox could not be read or published from, and is tried again.",
    "relay.published": "Events of an outbox were accepted.",
    "relay.refused": "An event of an outbox was refused for good: it is kept and marked with the reason, and its entity waits.",
    "replay.failed": "A replay could not go on, mostly because of the store, and is tried again.",
    "replay.ended": "A replay has made all of its deliveries due, or its hook was deleted.",
    "request.failed": "A request ended in an error of ours; its caller was answered 500.",
    "service.started": "The service answers requests.",
    "service.stopping": "The service was asked to stop: no new claims, running attempts end.",
    "service.stopped": "The service has stopped; nothing is held.",
    "store.alarm": "The store works, and somebody has to look at it soon.",
    "store.broken": "The disk reported an error: the process stops accepting and ends.",
}
"""Every name there is, and what it means."""


class Observe(Protocol):
    """The call itself."""

    def __call__(self, name: str, /, **facts: Any) -> None:
        """Tell that this happened."""
        ...


class Observer:
    """An `Observe` with subscribers."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Listener]] = {name: [] for name in NAMES}

    def __call__(self, name: str, /, **facts: Any) -> None:
        """Tell every subscriber of this name."""
        for listener in self._listeners[name]:
            listener(facts)

    def subscribe(self, name: str, listener: Listener) -> None:
        """Call the listener with the facts each time this happens; unknown names raise KeyError."""
        self._listeners[name].append(listener)
