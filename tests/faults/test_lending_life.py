"""A lending platform's whole life while everything is killed: each command that was carried out is told once, in order."""

from __future__ import annotations

import asyncio
import base64
import secrets
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from embarc.receiver import verify
from embarc.sandbox.simulate import Answer, Api, Command, Scale, make_plan, play
from embarc.testing.mortal import MortalProcess, kill_again_and_again, lasting_port
from embarc.testing.postgres import KEY
from embarc.testing.process import PASSWORD
from embarc.testing.watching import Watched, WatchingReceiver

CLIENTS = 200
DAYS = 120
SEED = 20
RATE = 80
"""Commands a second, while the service is there."""
KILL_EVERY_SECONDS = (1.0, 3.0)
LEAST_KILLS = 3
"""Of each kind of process: fewer prove nothing."""
IN_FLIGHT = 16
"""Sends of one hook at a time, as a hook has it that says nothing else."""
REFUSED_SHARE = 0.04
"""Of what comes to the receiver: it is tried again, and what is ordered waits behind it."""
PATIENCE_SECONDS = 300
HOOKS = ("ordered", "plain")

Told = tuple[str, Any]
"""The kind of an event or a command, and the `resourceId` of its answer."""
Stories = Mapping[tuple[str, Any], list[Told]]
"""What was told of each entity, in order."""


class Installation:
    """The four kinds of process on one PostgreSQL, each by its command line."""

    def __init__(self, folder: Path, store: str) -> None:
        port = lasting_port()
        self.url = f"http://127.0.0.1:{port}"
        self.outbox = folder / "embarc-sandbox.db"
        settings = {
            "EMBARC_KEY": KEY,
            "EMBARC_ADMIN_PASSWORD": PASSWORD,
            "EMBARC_ALLOW_PRIVATE": "127.0.0.0/8",
        }
        serve = ("serve", "--store", store)

        def process(name: str, *arguments: str, environment: Mapping[str, str]) -> MortalProcess:
            return MortalProcess(name, folder, *arguments, environment=environment)

        self.sandbox = process(
            "sandbox", *serve, "--role", "api", "--sandbox", "--port", str(port), environment=settings
        )
        self.dispatchers = [
            process(f"dispatcher-{name}", *serve, "--role", "dispatch", "--port", "0", environment=settings)
            for name in ("a", "b")
        ]
        source = ("--source", f"sqlite:///{self.outbox}", "--to", self.url, "--user", "admin")
        self.relay = process("relay", "relay", *source, environment={"EMBARC_RELAY_PASSWORD": PASSWORD})

    @property
    def kinds(self) -> list[list[MortalProcess]]:
        """The processes by what they do."""
        return [[self.sandbox], self.dispatchers, [self.relay]]

    async def __aenter__(self) -> Installation:
        await self.sandbox.start()  # makes the schema and the sandbox's file
        await asyncio.gather(*(one.start() for one in (*self.dispatchers, self.relay)))
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(one.stop() for kind in self.kinds for one in kind))

    def waiting_in_outbox(self) -> int:
        """Events that Embarc has not accepted yet."""
        with closing(sqlite3.connect(self.outbox, timeout=PATIENCE_SECONDS)) as connection:
            count: int = connection.execute("select count(*) from embarc_outbox").fetchone()[0]
        return count


class Ledger:
    """Every command that was answered 200, those of one client in their order."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, Mapping[str, Any]]] = []

    def note(self, command: Command, answer: Answer | None) -> None:
        if answer is not None and answer.status == 200:
            self.commands.append((command.kind, answer.json))

    @property
    def loan_ids(self) -> list[int]:
        return [answer["loanId"] for kind, answer in self.commands if kind == "LOAN.CREATE"]


async def test_each_command_is_one_event_and_each_event_arrives_in_order_although_everything_is_killed(
    postgres_url: str, tmp_path: Path
) -> None:
    ledger, chance = Ledger(), Random(SEED)
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    async with (
        WatchingReceiver(refuses=lambda: chance.random() < REFUSED_SHARE) as receiver,
        Installation(tmp_path, postgres_url) as running,
    ):
        api = Api(running.url, "admin", PASSWORD, patience_seconds=PATIENCE_SECONDS)
        for path in HOOKS:
            await asyncio.to_thread(make_hook, api, receiver.url(path), path, secret)

        await live_while_everything_is_killed(api, ledger, running)
        events = await everything_told(api, running)
        await all_delivered(api, receiver, len(events))
        closed = [loan for loan in ledger.loan_ids if await is_closed(api, loan)]
        api.close()

    expected = stories(ledger.commands)
    for loan in closed:
        expected["LOAN", loan].append(("LOAN.CLOSE", loan))  # told by itself when all is paid back
    assert len(closed) > CLIENTS / 10
    assert Counter(map(told, events)) == Counter(one for story in expected.values() for one in story)
    kills = sum(one.kills for one in running.dispatchers)
    for path in HOOKS:
        watched = receiver.paths[path]
        assert set(watched.arrived) == {event["id"] for event in events}
        assert watched.repeated <= kills * IN_FLIGHT
        assert_signed(watched, secret)
    assert_in_order(receiver.paths["ordered"], expected)


async def live_while_everything_is_killed(api: Api, ledger: Ledger, running: Installation) -> None:
    over = asyncio.Event()
    plan = make_plan(Scale(clients=CLIENTS, days=DAYS, seed=SEED, today=datetime.now(UTC).date()))
    async with asyncio.TaskGroup() as tasks:
        for number, kind in enumerate(running.kinds):
            chance = Random(f"{SEED}/{number}")
            tasks.create_task(kill_again_and_again(kind, chance, over, every_seconds=KILL_EVERY_SECONDS))
        played = await play(api, plan, rate=RATE, on_done=ledger.note)
        over.set()
    assert played.unsent.total() == 0
    assert all(sum(one.kills for one in kind) >= LEAST_KILLS for kind in running.kinds)


async def everything_told(api: Api, running: Installation) -> list[Mapping[str, Any]]:
    """All events, oldest first, once the outbox is empty."""
    await until_none(running.waiting_in_outbox)
    return (await asyncio.to_thread(pages, api, "/events?limit=200"))[::-1]


async def all_delivered(api: Api, receiver: WatchingReceiver, count: int) -> None:
    """Wait until every event has come to both hooks, and Embarc knows it."""
    for path in HOOKS:
        await receiver.until(path, count, within_seconds=PATIENCE_SECONDS)
    await until_none(lambda: len(api.ok("/deliveries?state=waiting&limit=1")["pageItems"]))


async def until_none(count: Callable[[], int]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            if await asyncio.to_thread(count) == 0:
                return
            await asyncio.sleep(0.2)


async def is_closed(api: Api, loan: int) -> bool:
    answer = await asyncio.to_thread(api.ok, f"/loans/{loan}")
    return bool(answer["status"]["code"] == "loanStatusType.closed.obligations.met")


def make_hook(api: Api, url: str, name: str, secret: str) -> None:
    config = {"Payload URL": url, "Content Type": "json", "Secret": secret, "Retry Schedule": "1"}
    if name == "ordered":
        config["Order"] = "entity"
    events = [{"entityName": "*", "actionName": "*"}]
    body = {"name": "Web", "displayName": name, "isActive": True, "events": events, "config": config}
    answer = api.call("POST", "/hooks", body)
    assert answer.status == 200, answer


def pages(api: Api, path: str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = api.ok(path + (f"&cursor={cursor}" if cursor else ""))
        found += page["pageItems"]
        cursor = page["nextCursor"]
    return found


def told(event: Mapping[str, Any]) -> Told:
    payload = event["payload"]
    return f"{payload['entityName']}.{payload['actionName']}", payload["response"]["resourceId"]


def stories(answers: Iterable[tuple[str, Mapping[str, Any]]]) -> defaultdict[tuple[str, Any], list[Told]]:
    """By entity; `answers` are kinds with what says whose they are."""
    found = defaultdict(list)
    for kind, answer in answers:
        entity = kind.partition(".")[0]
        found[entity, answer["loanId" if entity == "LOAN" else "resourceId"]].append(
            (kind, answer["resourceId"])
        )
    return found


def assert_in_order(watched: Watched, expected: Stories) -> None:
    """The first arrivals tell each entity's story as it happened, at times that never repeat."""
    payloads = [payload for _, _, payload in watched.first]
    lived = stories(
        (f"{one['entityName']}.{one['actionName']}", {**one, **one["response"]})  # type: ignore[dict-item] # it is an object
        for one in payloads
    )
    assert lived == expected
    times = defaultdict(list)
    for one in payloads:
        key = "loanId" if one["entityName"] == "LOAN" else "clientId"
        times[one["entityName"], one.get(key)].append(str(one["timestamp"]))
    for (entity, _), all_times in times.items():
        if entity in ("LOAN", "CLIENT"):
            assert all(before < after for before, after in pairwise(all_times))


def assert_signed(watched: Watched, secret: str) -> None:
    assert len(watched.samples) > CLIENTS / 10
    for headers, body in watched.samples:
        verify(headers, body, secret, tolerance_seconds=3600)
