"""A simulated portfolio against a real server: every command that succeeded is one event, in the order of each client and
each loan."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from embarc.sandbox.simulate import Api, Scale, make_plan, play
from embarc.testing.process import PASSWORD, ServiceProcess

BY_ITSELF = {"LOAN.CLOSE"}
"""Told by the platform when a loan is paid back; nobody's command."""


def kind_of(event: dict[str, Any]) -> str:
    return f"{event['entityName']}.{event['actionName']}"


def events_of(service: ServiceProcess) -> list[dict[str, Any]]:
    """All of them, oldest first."""
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = service.ok("GET", f"events?limit=200{f'&cursor={cursor}' if cursor else ''}")
        found += page["pageItems"]
        cursor = page["nextCursor"]
    return found[::-1]


async def test_every_command_that_succeeded_is_one_event_in_the_order_of_its_entity(
    service: ServiceProcess,
) -> None:
    commands = make_plan(Scale(clients=25, days=60, seed=11, today=datetime.now(UTC).date()))
    api = Api(f"http://127.0.0.1:{service.port}", "admin", PASSWORD)

    played = await play(api, commands, rate=1000)
    api.close()

    events = await asyncio.to_thread(events_of, service)
    told = Counter(kind_of(event) for event in events)
    assert played.succeeded["LOAN.REPAYMENT"] > 20
    assert played.unsent.total() == 0
    assert {kind: count for kind, count in told.items() if kind not in BY_ITSELF} == played.succeeded
    assert played.events == len(events)
    planned, lived = defaultdict(list), defaultdict(list)
    for command in commands:
        planned[command.subject].append(command.kind)
    subjects = {
        event["payload"]["clientId"]: f"client-{int(event['payload']['request']['externalId'][-6:])}"
        for event in events
        if kind_of(event) == "CLIENT.CREATE"
    }
    for event in events:
        if "clientId" in event["payload"] and kind_of(event) not in BY_ITSELF:
            subject = subjects[event["payload"]["clientId"]]
            lived[subject, event["entityName"], event["entityId"]].append(kind_of(event))
    assert len({subject for subject, *_ in lived}) == 25
    for (subject, *_), kinds in lived.items():
        rest = iter(planned[subject])
        assert all(kind in rest for kind in kinds), f"{subject} was told {kinds}, planned {planned[subject]}"


async def test_the_same_seed_a_second_time_is_refused_and_tells_nothing(service: ServiceProcess) -> None:
    commands = make_plan(Scale(clients=3, days=10, seed=12, today=datetime.now(UTC).date()))
    api = Api(f"http://127.0.0.1:{service.port}", "admin", PASSWORD)
    await play(api, commands, rate=1000)
    before = len(await asyncio.to_thread(events_of, service))

    again = await play(api, commands, rate=1000)
    api.close()

    assert again.succeeded.total() == 0
    assert again.refused["OFFICE.CREATE", "error.msg.office.duplicate.name"] == 3
    assert len(await asyncio.to_thread(events_of, service)) == before


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = str(Path(sys.executable).with_name("embarc"))
    return subprocess.run(
        [command, "sandbox", "simulate", "--clients", "3", "--days", "5", "--seed", "1", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_command_sums_up_what_happened(service: ServiceProcess) -> None:
    here = ("--url", f"http://127.0.0.1:{service.port}", "--password", PASSWORD, "--rate", "500")
    done = simulate(*here)
    again = simulate(*here)

    assert done.returncode == 0, done.stderr
    assert "CLIENT.CREATE" in done.stdout
    assert "events accepted by Embarc meanwhile" in done.stdout
    assert "played here before" not in done.stdout
    assert "played here before" in again.stdout


def test_the_command_says_what_is_wrong(service: ServiceProcess) -> None:
    wrong = simulate("--url", f"http://127.0.0.1:{service.port}", "--password", "wrong")
    nobody = simulate("--url", "http://127.0.0.1:1", "--password", "x")

    assert (wrong.returncode, nobody.returncode) == (2, 2)
    assert "401" in wrong.stderr
    assert "Is `embarc serve --sandbox` running there?" in nobody.stderr
    assert PASSWORD not in wrong.stderr + nobody.stderr
