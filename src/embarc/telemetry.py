"""Where observations go in a running service: log lines and metrics. Never a payload, never a secret."""

from __future__ import annotations

import logging
import os
import pickle
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
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
    "heartbeat.failed",
    "member.fenced",
    "inlet.refused",
    "process.ended",
    "network.metadata_allowed",
    "pruning.failed",
    "relay.failed",
    "relay.refused",
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
    "inlet.skipped",
}
_COUNTED = (
    "dispatcher.failed",
    "filter.failed",
    "heartbeat.failed",
    "member.fenced",
    "inlet.refused",
    "pruning.failed",
    "relay.failed",
    "relay.refused",
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


@dataclass(slots=True)
class Counts:
    """What one process has counted since its start."""

    events: int = 0
    duplicates: int = 0
    lost: int = 0
    sum_ms: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(_BUCKETS_MS) + 1))
    results: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            events=self.events + other.events,
            duplicates=self.duplicates + other.duplicates,
            lost=self.lost + other.lost,
            sum_ms=self.sum_ms + other.sum_ms,
            buckets=[mine + theirs for mine, theirs in zip(self.buckets, other.buckets, strict=True)],
            results=self.results + other.results,
            failures=self.failures + other.failures,
        )


class Metrics(Collector):
    """Counts observations in plain numbers, rendered when somebody scrapes: counting costs next to nothing.

    Several processes behind one port share a folder: each leaves its counts there, and whichever is asked tells the sum, with
    those that have ended, so that no counter falls.
    """

    def __init__(self, observer: Observer, folder: Path | None = None) -> None:
        self._counts = Counts()
        self._file = None if folder is None else folder / f"{os.getpid()}-{time.time_ns()}.counts"
        observer.subscribe("submission.accepted", self._on_accepted)
        observer.subscribe("delivery.attempted", self._on_attempted)
        observer.subscribe("delivery.lease_lost", self._on_lost)
        for name in _COUNTED:
            observer.subscribe(name, lambda facts, name=name: self._counts.failures.update([name]))  # type: ignore[misc] # mypy cannot infer a lambda's default
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def render(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self._registry)

    def share(self) -> None:
        """Leave the counts where the other processes find them."""
        if self._file is not None:
            beside = self._file.with_suffix(".new")
            beside.write_bytes(pickle.dumps(self._counts))
            beside.replace(self._file)

    def collect(self) -> Iterator[Metric]:
        """What is counted, as metric families."""
        counts = self._of_all()
        yield CounterMetricFamily(
            "embarc_events_accepted", "Events accepted and on disk.", value=counts.events
        )
        yield CounterMetricFamily(
            "embarc_submissions_duplicate",
            "Submissions whose idempotency key was known.",
            value=counts.duplicates,
        )
        attempts = CounterMetricFamily(
            "embarc_attempts", "Attempts by how they ended and what follows.", labels=("result", "state")
        )
        for (result, state), count in sorted(counts.results.items()):
            attempts.add_metric((result, state), count)
        yield attempts
        durations = HistogramMetricFamily("embarc_attempt_duration_seconds", "Duration of attempts.")
        cumulative, total = [], 0
        for bound, count in zip(
            [*(str(ms / 1000) for ms in _BUCKETS_MS), "+Inf"], counts.buckets, strict=True
        ):
            total += count
            cumulative.append((bound, total))
        durations.add_metric((), cumulative, counts.sum_ms / 1000)
        yield durations
        yield CounterMetricFamily(
            "embarc_leases_lost", "Attempts whose lease had gone to somebody else.", value=counts.lost
        )
        failures = CounterMetricFamily("embarc_failures", "Failures of our own parts.", labels=("part",))
        for name, count in sorted(counts.failures.items()):
            failures.add_metric((name,), count)
        yield failures
        yield GaugeMetricFamily("embarc_up", "Whether the service answers.", value=1)

    def _of_all(self) -> Counts:
        if self._file is None:
            return self._counts
        others = [path for path in self._file.parent.glob("*.counts") if path != self._file]
        return sum((pickle.loads(path.read_bytes()) for path in others), self._counts)  # noqa: S301 - written by us, in a folder of ours alone

    def _on_accepted(self, facts: Mapping[str, Any]) -> None:
        if facts["duplicate"]:
            self._counts.duplicates += 1
        else:
            self._counts.events += facts["events"]

    def _on_attempted(self, facts: Mapping[str, Any]) -> None:
        settlement: Settlement = facts["settlement"]
        outcome = settlement.attempt.outcome
        counts = self._counts
        counts.results[outcome.result.value, settlement.verdict.state.value] += 1
        counts.sum_ms += outcome.duration_ms
        for place, bound in enumerate(_BUCKETS_MS):
            if outcome.duration_ms <= bound:
                counts.buckets[place] += 1
                return
        counts.buckets[-1] += 1

    def _on_lost(self, facts: Mapping[str, Any]) -> None:
        self._counts.lost += 1
