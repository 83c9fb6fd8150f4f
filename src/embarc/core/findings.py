"""What a doctor finds, and how bad it is. Levels and exit codes are those of monitoring plugins (0, 1, 2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

_MEGABYTE = 1024 * 1024


class Level(IntEnum):
    """How bad a finding is; also the exit code of a command that found nothing worse."""

    OK = 0
    WARNING = 1
    CRITICAL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at. `advice` says what to do, where something is to be done."""

    name: str
    told: str
    level: Level = Level.OK
    advice: str = ""


def worst(findings: Iterable[Finding]) -> Level:
    """The level of the worst one."""
    return max((finding.level for finding in findings), default=Level.OK)


def graded(name: str, told: str, value: float, *, warning: float, critical: float, advice: str) -> Finding:
    """A finding about a number of which more is worse, from `warning` and from `critical` on."""
    level = Level.CRITICAL if value >= critical else Level.WARNING if value >= warning else Level.OK
    return Finding(name=name, told=told, level=level, advice=advice if level else "")


def queue_age(oldest_due_seconds: float | None) -> Finding:
    """How long the delivery that waits longest has been due, None where none is; of hooks that may receive."""
    if oldest_due_seconds is None or oldest_due_seconds < 0:
        return Finding(name="queue", told="nothing is overdue")
    return graded(
        "queue",
        f"the oldest due delivery has waited {oldest_due_seconds:.0f} s",
        oldest_due_seconds,
        warning=60,
        critical=900,
        advice="Is a process that dispatches running and healthy? See its log for dispatcher.failed.",
    )


def failing_hooks(names: Sequence[str]) -> Finding:
    """Hooks whose endpoints fail now."""
    if not names:
        return Finding(name="failing hooks", told="none")
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return Finding(
        name="failing hooks",
        told=f"{len(names)}: {shown}",
        level=Level.WARNING,
        advice="GET /hooks/{id}/stats and GET /deliveries?state=waiting&hookId={id} tell why; the owner of the endpoint can mend it.",
    )


def disabled_hooks(names: Sequence[str]) -> Finding:
    """Hooks that were disabled after long failure or by their receiver."""
    if not names:
        return Finding(name="disabled hooks", told="none")
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return Finding(
        name="disabled hooks",
        told=f"{len(names)}: {shown}",
        level=Level.WARNING,
        advice="POST /hooks/{id}?command=enable switches one on again and offers what it missed.",
    )


def free_disk(free_bytes: int, total_bytes: int) -> Finding:
    """Room under the database."""
    share = free_bytes / total_bytes if total_bytes else 0.0
    level = Level.OK
    if share < 0.02 or free_bytes < 256 * _MEGABYTE:
        level = Level.CRITICAL
    elif share < 0.10 or free_bytes < 2048 * _MEGABYTE:
        level = Level.WARNING
    return Finding(
        name="free disk",
        told=f"{free_bytes / _MEGABYTE:,.0f} MB ({share:.0%})",
        level=level,
        advice="Make room, or shorten retention_days. With no room left, events are answered 503 and not accepted."
        if level
        else "",
    )


def clock_skew(seconds: float) -> Finding:
    """How far this machine's clock is from the store's. Leases and due times go by the store's clock alone."""
    return graded(
        "clock skew",
        f"{seconds:+.3f} s against the store",
        abs(seconds),
        warning=2,
        critical=60,
        advice="Timestamps of signatures come from this machine: receivers refuse more than five minutes. Check NTP.",
    )


def versions(name: str, running: tuple[int, ...], wanted: tuple[int, ...], why: str) -> Finding:
    """A version that must be at least another one."""
    told = ".".join(map(str, running))
    if running >= wanted:
        return Finding(name=name, told=told)
    return Finding(
        name=name, told=told, level=Level.CRITICAL, advice=f"Use {'.'.join(map(str, wanted))} or later: {why}"
    )


def migrations(pending: Sequence[str]) -> Finding:
    """What of the schema is still to apply."""
    if not pending:
        return Finding(name="schema", told="up to date")
    return Finding(
        name="schema",
        told=f"{len(pending)} migrations are to be applied: {', '.join(pending)}",
        level=Level.WARNING,
        advice="Run `embarc migrate`, or start this version of the service.",
    )
