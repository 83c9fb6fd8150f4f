"""Looking an embedded store over, beside the service that has it open: nothing is written, no lock is taken for long."""

from __future__ import annotations

import fcntl
import shutil
import stat
import time
from pathlib import Path

import apsw

from embarc.core import findings
from embarc.core.findings import Finding, Level
from embarc.store.migrate import load_migrations, pending
from embarc.store.queries import load_queries
from embarc.store.sqlite.database import PACKAGE
from embarc.store.sqlite.moved import read_mark, told
from embarc.store.sqlite.writer import connect

_RESET_BUG_FIXED = (3, 51, 3)
_MEGABYTE = 1024 * 1024
_LARGE_LOG = 256 * _MEGABYTE


def examine(path: Path, *, deep: bool) -> list[Finding]:
    """Everything worth telling; `deep` reads the whole database for its integrity."""
    if not path.exists():
        told = f"there is no database at {path}"
        return [Finding(name="database", told=told, level=Level.CRITICAL, advice="Check --store.")]
    connection = connect(path, read_only=True)
    try:
        return [
            *_files(path),
            *_moved(path),
            findings.versions(
                "SQLite",
                tuple(int(part) for part in apsw.sqlite_lib_version().split(".")),
                _RESET_BUG_FIXED,
                "earlier ones can corrupt a write-ahead log.",
            ),
            _journal(connection),
            _schema(connection),
            *([_integrity(connection)] if deep else []),
            *_queue(connection),
            findings.free_disk(*_room(path)),
        ]
    finally:
        connection.close()


def _files(path: Path) -> list[Finding]:
    found = [Finding(name="database", told=f"{path}, {path.stat().st_size / _MEGABYTE:,.1f} MB")]
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        found.append(
            Finding(
                name="permissions",
                told=f"the database file has mode {mode:04o}",
                level=Level.WARNING,
                advice=f"chmod 600 {path}: it holds people's data.",
            )
        )
    log = path.with_name(path.name + "-wal")
    size = log.stat().st_size if log.exists() else 0
    found.append(
        findings.graded(
            "write-ahead log",
            f"{size / _MEGABYTE:,.1f} MB",
            size,
            warning=_LARGE_LOG,
            critical=16 * _LARGE_LOG,
            advice="Some program holds a read transaction open, so the log cannot be emptied. Find and end it.",
        )
    )
    found.append(Finding(name="service", told="running" if _is_locked(path) else "not running"))
    return found


def _moved(path: Path) -> list[Finding]:
    moved = read_mark(path)
    if moved is None:
        return []
    return [
        Finding(
            name="moved",
            told=f"copied to {moved.target}: no service starts on this file any more",
            level=Level.WARNING,
            advice=told(path, moved),
        )
    ]


def _is_locked(path: Path) -> bool:
    lock = path.with_name(path.name + ".lock")
    if not lock.exists():
        return False
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        return False


def _journal(connection: apsw.Connection) -> Finding:
    mode = str(connection.pragma("journal_mode"))
    if mode == "wal":
        return Finding(name="journal", told="wal; Embarc commits with synchronous=FULL")
    return Finding(
        name="journal",
        told=mode,
        level=Level.WARNING,
        advice="Another program changed it. Embarc sets it to wal at its next start.",
    )


def _schema(connection: apsw.Connection) -> Finding:
    rows: list[tuple[int, str]] = connection.execute("select number, checksum from migrations").fetchall()  # type: ignore[assignment] # apsw's rows are of any type
    waiting = pending(load_migrations(PACKAGE), dict(rows))
    return findings.migrations([one.name for one in waiting])


def _integrity(connection: apsw.Connection) -> Finding:
    (told,) = connection.execute("pragma integrity_check(1)").fetchall()[0]
    if told == "ok":
        return Finding(name="integrity", told="ok")
    return Finding(
        name="integrity",
        told=str(told),
        level=Level.CRITICAL,
        advice="The file is damaged. Stop the service, keep the file, and restore a backup.",
    )


def _queue(connection: apsw.Connection) -> list[Finding]:
    sql = load_queries(PACKAGE)
    oldest = connection.execute(sql["oldest_due"]).get
    failing = [str(name) for (name,) in connection.execute(sql["failing_hooks"])]
    disabled = [str(name) for (name,) in connection.execute(sql["disabled_hooks"])]
    return [
        findings.queue_age(None if oldest is None else time.time() - int(oldest) / 1000),
        findings.failing_hooks(failing),
        findings.disabled_hooks(disabled),
    ]


def _room(path: Path) -> tuple[int, int]:
    usage = shutil.disk_usage(path.parent)
    return usage.free, usage.total
