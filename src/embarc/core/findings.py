"""What a doctor finds, and how bad it is. Levels and exit codes are those of monitoring plugins (0, 1, 2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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


_DURABLE = {
    "fsync": "an accepted event may be lost, and the database damaged, when the machine loses power",
    "full_page_writes": "the database may be damaged when the machine loses power",
    "synchronous_commit": "an accepted event may be lost when the server crashes",
}
DURABILITY_SETTINGS = tuple(_DURABLE)
"""Settings of PostgreSQL that an accepted event hangs on."""


def durability(settings: Mapping[str, str]) -> Finding:
    """What PostgreSQL promises about a commit, by `DURABILITY_SETTINGS`."""
    off = [name for name in _DURABLE if settings.get(name) == "off"]
    if not off:
        told = ", ".join(f"{name} {settings.get(name, 'unknown')}" for name in _DURABLE)
        return Finding(name="durability", told=told)
    return Finding(
        name="durability",
        told="; ".join(f"{name} is off: {_DURABLE[name]}" for name in off),
        level=Level.CRITICAL,
        advice=f"Set {' and '.join(off)} to on, in postgresql.conf and for this role and database, and reload.",
    )


def standbys(
    states: Sequence[tuple[str, str]], *, is_standby: bool = False, wants_synchronous: bool = False
) -> Finding:
    """The standbys by name, each `sync`, `quorum`, `potential` or `async`; and whether this server is one itself."""
    if is_standby:
        return Finding(
            name="standby",
            told="this server is a standby: it accepts nothing",
            level=Level.CRITICAL,
            advice="Name the primary in the store's URL, or all hosts and target_session_attrs=read-write.",
        )
    if wants_synchronous and not any(state in ("sync", "quorum") for _, state in states):
        return Finding(
            name="standby",
            told="a synchronous standby is asked for and none is connected: commits wait for it",
            level=Level.CRITICAL,
            advice="Bring the standby back, or take it out of synchronous_standby_names and reload.",
        )
    if not states:
        return Finding(name="standby", told="none: what is accepted is on one machine")
    return Finding(name="standby", told=", ".join(f"{name} {state}" for name, state in states))


def oldest_transaction(held: Sequence[tuple[str, float]], *, sees_all: bool = True) -> Finding:
    """Who keeps dead rows from being cleared away, and for how many seconds; the longest first."""
    unseen = "" if sees_all else " (of this role's own; grant it pg_read_all_stats to see the others)"
    if not held:
        return Finding(name="oldest transaction", told="none is open" + unseen)
    holder, seconds = held[0]
    others = f" and {len(held) - 1} younger" if len(held) > 1 else ""
    return graded(
        "oldest transaction",
        f"{holder} for {seconds:.0f} s{others}{unseen}",
        seconds,
        warning=300,
        critical=3600,
        advice="Nothing is cleared away meanwhile, and claims become slower. End it: select pg_terminate_backend(PROCESS), "
        "or rollback prepared 'NAME'.",
    )


def replication_slot(name: str, transactions: int, log_bytes: int, *, is_active: bool) -> Finding:
    """What a slot keeps: the dead rows of so many transactions, and so many bytes of the log."""
    told = f"{name} keeps {log_bytes / _MEGABYTE:,.0f} MB of log and the dead rows of {transactions:,} transactions"
    share = max(transactions / 1_000_000, log_bytes / (1024 * _MEGABYTE))
    return graded(
        "replication slot",
        told + ("" if is_active else ", and nobody reads it"),
        share,
        warning=1,
        critical=16,
        advice=f"Bring its reader back, or give it up: select pg_drop_replication_slot('{name}').",
    )


def dead_rows(table: str, live: int, dead: int) -> Finding:
    """Rows of a hot table that are dead and not cleared away yet. Few of many are no trouble, nor are many of few."""
    told = f"{table}: {dead:,} dead, {live:,} live"
    share = dead / max(live, 1)
    level = Level.OK
    if dead >= 1_000_000 and share >= 2:
        level = Level.CRITICAL
    elif dead >= 100_000 and share >= 1:
        level = Level.WARNING
    return Finding(
        name="dead rows",
        told=told,
        level=level,
        advice=f"Is a transaction open for long, or autovacuum too slow? Then: vacuum {table}."
        if level
        else "",
    )


def partitions(table: str, days_ahead: int, *, has_missed: bool, alarm_days: int) -> Finding:
    """How many days ahead there are partitions, and whether new rows have gone to the rest for want of one."""
    if has_missed:
        return Finding(
            name="partitions",
            told=f"new rows of {table} are in {table}_rest: their day has no partition",
            level=Level.WARNING,
            advice="A running service makes days and moves the rows into them. If it does not, its log tells why: store.alarm.",
        )
    if days_ahead >= alarm_days:
        return Finding(name="partitions", told=f"{table} has {days_ahead} days ahead")
    return Finding(
        name="partitions",
        told=f"{table} has {max(days_ahead, 0)} days ahead",
        level=Level.CRITICAL if days_ahead < 0 else Level.WARNING,
        advice="Start a service: it makes days ahead. If one runs, its log tells why it cannot: store.alarm.",
    )


def autovacuum(settings: Mapping[str, str]) -> Finding:
    """Whether the server clears dead rows away by itself: `autovacuum` and `track_counts`."""
    off = [name for name in ("autovacuum", "track_counts") if settings.get(name) == "off"]
    if not off:
        return Finding(name="autovacuum", told="on")
    return Finding(
        name="autovacuum",
        told=f"{' and '.join(off)} off",
        level=Level.CRITICAL,
        advice="The queue's table grows with every delivery. Set it to on and reload.",
    )


def connections(used: int, most: int) -> Finding:
    """How many of the server's connections are taken."""
    return graded(
        "connections",
        f"{used} of {most}",
        used / max(most, 1),
        warning=0.8,
        critical=0.95,
        advice="Lower `?connections=` of the store's URL, put a pooler in between, or raise max_connections.",
    )


def members(names: Sequence[str], dispatching: int, overdue_seconds: float | None) -> Finding:
    """The processes that are alive, how many of them send, and for how long something has been due, None where nothing is."""
    told = f"{len(names)} alive: {', '.join(names)}" if names else "none alive"
    if dispatching or overdue_seconds is None or overdue_seconds < 0:
        return Finding(name="processes", told=told)
    return Finding(
        name="processes",
        told=f"{told}; none of them sends, and something has been due for {overdue_seconds:.0f} s",
        level=Level.CRITICAL,
        advice="Start `embarc serve` with the role `all` or `dispatch`.",
    )


def installation_key(data_keys: int, problem: str) -> Finding:
    """Whether the key that is set opens the data keys; `problem` says why not."""
    if problem:
        return Finding(
            name="key",
            told=problem,
            level=Level.CRITICAL,
            advice="No service starts with these settings. `embarc keys show` tells which key is asked for.",
        )
    return Finding(name="key", told=f"opens {data_keys} data keys" if data_keys else "nothing is sealed yet")
