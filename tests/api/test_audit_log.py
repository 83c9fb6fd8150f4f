"""The audit log, touched: what was changed, taken out, cut off or set back, and who could notice."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest

from embarc.core.access import AuditEntry
from embarc.testing.asgi import Client


@pytest.fixture
async def log(client: Client, tmp_path: Path) -> Path:
    """The folder of a service whose audit log has four entries."""
    for number in range(4):
        await client.ok("POST", "apikeys", {"name": f"key-{number}", "role": "viewer"})
    return tmp_path


def execute(folder: Path, *statements: str) -> list[Any]:
    connection = apsw.Connection(str(folder / "embarc.db"))
    found: list[Any] = []
    for statement in statements:
        found = connection.execute(statement).fetchall()
    connection.close()
    return found


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EMBARC_")}
    command = [str(Path(sys.executable).with_name("embarc")), "audit", "verify", "--store"]
    return subprocess.run(
        [*command, f"sqlite:///{folder / 'embarc.db'}", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=clean | environment,
    )


async def verify(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(run, folder, *arguments, **environment)


async def test_a_log_that_nobody_touched_is_whole(log: Path) -> None:
    done = await verify(log)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].startswith("default ends with entry 4, ")
    assert done.stdout.splitlines()[1] == "4 entries, 0 broken"


@pytest.mark.parametrize(
    ("statements", "told"),
    [
        (["update audits set username = 'somebody' where number = 2"], "entry 2 was changed"),
        (["update audits set after = '{}' where number = 4"], "entry 4 was changed"),
        (["delete from audits where number = 2"], "entry 2 is missing"),
        (["delete from audits where number = 1"], "entry 1 is missing"),
        (["delete from audits where number > 2"], "2 entries are missing at the end, after entry 2"),
        (["delete from audits"], "4 entries are missing at the end, after entry 0"),
        (["delete from audits where number > 2", "delete from audit_heads"], "log's end is missing"),
        (["update audit_heads set signature = zeroblob(32)"], "signature of the log's end is wrong"),
        (["update audit_heads set signature = x''"], "signature of the log's end is wrong"),
        (
            [
                "delete from audits where number > 3",
                "update audit_heads set number = 3, digest = (select digest from audits where number = 3)",
            ],
            "signature of the log's end is wrong",
        ),
        (["update audits set tenant = 'acme' where number = 4"], "tenant acme: the signature"),
    ],
)
async def test_whatever_is_changed_or_taken_out_is_noticed(
    log: Path, statements: list[str], told: str
) -> None:
    execute(log, *statements)

    done = await verify(log)

    assert done.returncode == 1
    if not told.startswith("tenant acme"):
        assert told in done.stderr
    else:
        assert "tenant acme: entry 1 is missing" in done.stderr


async def test_a_chain_that_was_computed_anew_does_not_end_as_it_was_signed(log: Path) -> None:
    """Whoever holds the database can compute every digest. They cannot sign."""
    previous = b""
    connection = apsw.Connection(str(log / "embarc.db"))
    rows: list[Any] = connection.execute("select * from audits order by number").fetchall()
    for tenant, number, at_ms, username, action, resource, before, after, _ in rows:
        forged = AuditEntry(
            tenant=tenant,
            number=number,
            at_ms=at_ms,
            username="somebody" if number == 2 else username,
            action=action,
            resource_id=resource,
            before=before,
            after=after,
        )
        previous = forged.chained(previous)
        values = (forged.username, previous, number)
        connection.execute("update audits set username = ?, digest = ? where number = ?", values)
    connection.close()

    done = await verify(log)

    assert done.returncode == 1
    assert done.stderr == ("tenant default: the log does not end with what was signed as its end, entry 4\n")


async def test_a_database_that_was_set_back_is_noticed_by_whoever_kept_the_heads(
    log: Path, client: Client
) -> None:
    execute(log, "pragma wal_checkpoint(truncate)")
    earlier = log.parent / f"{log.name}-earlier"
    shutil.copytree(log, earlier)
    await client.ok("POST", "apikeys", {"name": "late", "role": "viewer"})
    heads = log / "heads.json"

    at_first = await verify(log, "--heads", str(heads))
    set_back = await verify(earlier)
    compared = await verify(earlier, "--heads", str(heads))
    await client.ok("POST", "apikeys", {"name": "later", "role": "viewer"})
    went_on = await verify(log, "--heads", str(heads))

    assert at_first.returncode == 0
    assert set_back.returncode == 0  # by itself it is whole: it was so once
    assert compared.returncode == 1
    assert "entry 5 is not what it was" in compared.stderr
    assert went_on.returncode == 0
    assert '"default",\n  6' in heads.read_text()


async def test_without_the_key_nothing_can_be_said(log: Path) -> None:
    done = await verify(log, EMBARC_KEY="22" * 32)

    assert done.returncode == 2
    assert "protected by the key" in done.stderr
