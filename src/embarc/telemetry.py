"""Where observations go in a running service: log lines and metrics. Never a payload, never a secret."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from embarc.core.deliveries import Settlement, State
from embarc.core.ids import delivery_id
from embarc.observe import NAMES, Observer

_WARNINGS = {
    "dispatcher.failed",
    "hook.disabled",
    "hook.failing",
    "delivery.lease_lost",
    "pruning.failed",
    "relay.failed",
    "replay.failed",
    "request.failed",
    "store.alarm",
    "store.broken",
}
_QUIET = {
    "submission.accepted",
    "deliveries.claimed",
    "deliveries.surrendered",
    "filter.failed",
    "relay.published",
    "hooks.changed",
}
_COUNTED = (
    "dispatcher.failed",
    "filter.failed",
    "pruning.failed",
    "relay.failed",
    "replay.failed",
    "request.failed",
    "store.alarm",
    "store.broken",
)
_BUCKETS_MS = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000)


def log_to(observer: Observer, level: str) -> None:
    """One JSON line for each observation on standard error; what happens all the time only at `debug`."""
    least = getattr(logging, level.upper())
    log = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(least),
    )
    for name in NAMES:
        if name == "delivery.attempted":
            observer.subscribe(name, lambda facts: _log_attempt(log, facts["settlement"], least))
        elif name == "delivery.lease_lost":
            observer.subscribe(
                name, lambda facts: log.warning("delivery.lease_lost", **_facts(facts["settlement"]))
            )
        elif name in _QUIET:
            if least <= logging.DEBUG:
                observer.subscribe(name, lambda facts, name=name: log.debug(name, **facts))  # type: ignore[misc] # mypy cannot infer a lambda's default
        else:
            write = log.warning if name in _WARNINGS else log.info
            observer.subscribe(name, lambda facts, name=name, write=write: write(name, **facts))  # type: ignore[misc] # as above


def _log_attempt(log: Any, settlement: Settlement, least: int) -> None:
    if settlement.verdict.state is not State.DELIVERED:
        log.warning("delivery.attempted", **_facts(settlement))
    elif least <= logging.DEBUG:
        log.debug("delivery.attempted", **_facts(settlement))


def _facts(settlement: Settlement) -> dict[str, Any]:
    claim, outcome, verdict = settlement.claim, settlement.attempt.outcome, settlement.verdict
    return {
        "delivery": delivery_id(claim.event_key, claim.hook_id),
        "hook": claim.hook_id,
        "tenant": claim.tenant,
        "kind": str(claim.kind),
        "attempt": settlement.attempt.number,
        "result": outcome.result.value,
        "status": outcome.status,
        "detail": outcome.detail,
        "duration_ms": round(outcome.duration_ms, 1),
        "state": verdict.state.value,
        "retry_in_seconds": verdict.retry_in_seconds,
        "reason": verdict.reason,
    }


class Metrics(Collector):
    """Counts observations in plain numbers, rendered when somebody scrapes: counting costs next to nothing."""

    def __init__(self, observer: Observer) -> None:
        self._events = 0
        self._duplicates = 0
        self._results: Counter[tuple[str, str]] = Counter()
        self._buckets = [0] * (len(_BUCKETS_MS) + 1)
        self._sum_ms = 0.0
        self._lost = 0
        self._failures: Counter[str] = Counter()
        observer.subscribe("submission.accepted", self._on_accepted)
        observer.subscribe("delivery.attempted", self._on_attempted)
        observer.subscribe("delivery.lease_lost", self._on_lost)
        for name in _COUNTED:
            observer.subscribe(name, lambda facts, name=name: self._failures.update([name]))  # type: ignore[misc] # mypy cannot infer a lambda's default
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def render(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """What is counted, as metric families."""
        yield CounterMetricFamily(
            "embarc_events_accepted", "Events accepted and on disk.", value=self._events
        )
        yield CounterMetricFamily(
            "embarc_submissions_duplicate",
            "Submissions whose idempotency key was known.",
            value=self._duplicates,
        )
        attempts = CounterMetricFamily(
            "embarc_attempts", "Attempts by how they ended and what follows.", labels=("result", "state")
        )
        for (result, state), count in sorted(self._results.items()):
            attempts.add_metric((result, state), count)
        yield attempts
        durations = HistogramMetricFamily("embarc_attempt_duration_seconds", "Duration of attempts.")
        counts, total = [], 0
        for bound, count in zip(
            [*(str(ms / 1000) for ms in _BUCKETS_MS), "+Inf"], self._buckets, strict=True
        ):
            total += count
            counts.append((bound, total))
        durations.add_metric((), counts, self._sum_ms / 1000)
        yield durations
        yield CounterMetricFamily(
            "embarc_leases_lost", "Attempts whose lease had gone to somebody else.", value=self._lost
        )
        failures = CounterMetricFamily("embarc_failures", "Failures of our own parts.", labels=("part",))
        for name, count in sorted(self._failures.items()):
            failures.add_metric((name,), count)
        yield failures
        yield GaugeMetricFamily("embarc_up", "Whether the service answers.", value=1)

    def _on_accepted(self, facts: Mapping[str, Any]) -> None:
        if facts["duplicate"]:
            self._duplicates += 1
        else:
            self._events += facts["events"]

    def _on_attempted(self, facts: Mapping[str, Any]) -> None:
        settlement: Settlement = facts["settlement"]
        outcome = settlement.attempt.outcome
        self._results[outcome.result.value, settlement.verdict.state.value] += 1
        self._sum_ms += outcome.duration_ms
        for place, bound in enumerate(_BUCKETS_MS):
            if outcome.duration_ms <= bound:
                self._buckets[place] += 1
                return
        self._buckets[-1] += 1

    def _on_lost(self, facts: Mapping[str, Any]) -> None:
        self._lost += 1
