"""SIGKILL at every moment: the platform before and after its commit, and relays among other relays."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from embarc.outbox import OutboxEvent, emit
from embarc.testing.process import PASSWORD, ServiceProcess

from .conftest import Database

PLATFORM = """
import sys
from sqlalchemy import create_engine, text
from embarc.outbox import OutboxEvent, emit

engine = create_engine(sys.argv[1])
connection = engine.connect()
transaction = connection.begin()
connection.execute(text("insert into loans (id) values (17)"))
emit(connection, OutboxEvent(entity_name="LOAN", action_name="APPROVE", ids={"loanId": 17}))
if sys.argv[2] == "after":
    transaction.commit()
print("here", flush=True)
sys.stdin.read()
"""
DRIVERS = {"sqlite": "pysqlite", "postgresql": "psycopg", "mysql": "pymysql"}

EVENTS = 2000
ENTITIES = 50
KILLS = 4
PATIENCE_SECONDS = 180


@pytest.mark.parametrize(("moment", "left"), [("before", 0), ("after", 1)])
def test_a_platform_that_is_killed_leaves_change_and_event_or_neither(
    database: Database, moment: str, left: int
) -> None:
    url = database.with_driver(DRIVERS[database.dialect])
    with subprocess.Popen(
        [sys.executable, "-c", PLATFORM, url, moment],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as platform:
        assert platform.stdout is not None
        assert platform.stdout.readline() == "here\n"

        platform.kill()

    assert len(database.rows()) == left
    assert len(database.loans()) == left


class RelayProcess:
    """`embarc relay` between a database and a service."""

    def __init__(self, database: Database, service: ServiceProcess, *arguments: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("EMBARC_")}
        self.process = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("embarc")),
                *("relay", "--source", database.url, "--to", f"http://127.0.0.1:{service.port}"),
                *("--user", "admin", *arguments),
            ],
            env=clean | {"EMBARC_RELAY_PASSWORD": PASSWORD},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("Relaying from ")

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        code = self.process.wait(timeout=60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def accepted(service: ServiceProcess) -> list[dict[str, Any]]:
    """Every event of the service, in the order of acceptance."""
    events: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = service.ok("GET", f"events?limit=200{cursor}")
        events += page["pageItems"]
        if not page.get("nextCursor"):
            return events[::-1]
        cursor = f"&cursor={page['nextCursor']}"


@pytest.mark.parametrize("name", ["postgres", "mariadb"])
async def test_two_relays_of_which_one_is_killed_again_and_again_publish_all_once_and_in_order(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    database: Database = request.getfixturevalue(name)
    chance = random.Random(11)
    told: dict[int, list[int]] = defaultdict(list)
    service = await asyncio.to_thread(ServiceProcess, tmp_path)
    steady = await asyncio.to_thread(RelayProcess, database, service)
    portions = [range(start, start + EVENTS // KILLS) for start in range(0, EVENTS, EVENTS // KILLS)]

    for numbers in portions:
        doomed = await asyncio.to_thread(RelayProcess, database, service)
        emitting = asyncio.create_task(asyncio.to_thread(emit_all, database, numbers, told, chance))
        await asyncio.to_thread(service_has, service, numbers[chance.randrange(len(numbers) // 2)])
        await asyncio.to_thread(doomed.end, signal.SIGKILL)  # in the middle of its work
        await emitting
    await asyncio.to_thread(outbox_is_empty, database)
    events = await asyncio.to_thread(accepted, service)

    assert await asyncio.to_thread(steady.end, signal.SIGTERM) == 0
    await asyncio.to_thread(service.stop)
    assert len(events) == EVENTS
    heard = defaultdict(list)
    for one in events:
        heard[one["payload"]["loanId"]].append(one["payload"]["request"]["number"])
    assert heard == told


def service_has(service: ServiceProcess, events: int) -> None:
    """Wait until so many events were accepted."""
    until = time.monotonic() + PATIENCE_SECONDS
    counted = re.compile(r"^embarc_events_accepted_total (\S+)", re.MULTILINE)
    while float(counted.findall(service.ok("GET", "/metrics"))[0]) < events:
        assert time.monotonic() < until


def outbox_is_empty(database: Database) -> None:
    """Wait until nothing is left to carry."""
    until = time.monotonic() + PATIENCE_SECONDS
    while database.rows():
        assert time.monotonic() < until
        time.sleep(0.05)


def emit_all(database: Database, numbers: range, told: dict[int, list[int]], chance: random.Random) -> None:
    """Emit in transactions of a few events, and write down the numbers of each loan in order."""
    left = iter(numbers)
    connection = database.connect()
    while some := list(islice(left, chance.randrange(1, 8))):
        connection.cursor().execute("begin")
        for number in some:
            loan = chance.randrange(ENTITIES)
            told[loan].append(number)
            emit(
                connection,
                OutboxEvent(
                    entity_name="LOAN",
                    action_name="APPROVE",
                    ids={"loanId": loan},
                    request={"number": number},
                ),
            )
        connection.commit()
    connection.close()
