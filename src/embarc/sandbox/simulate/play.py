"""Playing a plan: every command over HTTP, several in flight, those of one client strictly in order.

A refusal is an answer, counted with its code. What would need an id that was never given is not sent, and counted too.
A platform that restarts is waited for, and what it has not answered is sent again under the same key: it may have been
carried out. Only a platform that cannot be reached ends the play.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from embarc.core.errors import EmbarcError
from embarc.sandbox.simulate.plan import SETUP, Command, Due, Ref, gap

IN_FLIGHT = 8
_PATIENCE_SECONDS = 30.0
"""How long one answer may take, and how long a platform that has answered before may be away."""
_AGAIN_SECONDS = 0.2
_ASK = "?associations=repaymentSchedule"
_REASONS = ("close", "reject", "withdraw")
_SETTLE_SECONDS = 10.0
"""How long the last events may take from the outbox to Embarc before they are counted as they are."""
_PLACE = re.compile(r"{([^}]+)}")


_EVENTS_A_PAGE = 200


class PlayFailed(EmbarcError):
    """The platform could not be reached, or did not answer as a sandbox does."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and JSON of one call."""

    status: int
    json: Any

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of a refusal."""
        errors = self.json.get("errors") if isinstance(self.json, Mapping) else None
        return tuple(error["userMessageGlobalisationCode"] for error in errors or ())


OnDone = Callable[[Command, Answer | None], object]


class Api:
    """Embarc's API as one user, over kept connections, one a thread. `close()` at the end."""

    def __init__(
        self, url: str, user: str, password: str, *, patience_seconds: float = _PATIENCE_SECONDS
    ) -> None:
        try:
            parts = urlsplit(url)
            self._url, self._host, self._port = url, parts.hostname or "", parts.port
        except ValueError:
            raise _no_url(url) from None
        if parts.scheme not in ("http", "https") or not self._host:
            raise _no_url(url)
        self._connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._base = parts.path.rstrip("/") + "/api/v1"
        self._headers = {
            "Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode(),
            "Content-Type": "application/json",
        }
        self._own = threading.local()
        self._opened: list[http.client.HTTPConnection] = []
        self._patience_seconds = patience_seconds
        self._was_reached = False

    def call(self, method: str, path: str, body: object = None) -> Answer:
        """One call, whose command happens once however often it is sent; raises `PlayFailed` where there is no answer
        in JSON: at once, or after a while where there was one to an earlier call."""
        raw = None if body is None else json.dumps(body)
        headers = self._headers if method == "GET" else self._headers | {"Idempotency-Key": uuid.uuid4().hex}
        deadline = time.monotonic() + self._patience_seconds
        while True:
            is_patient = self._was_reached and time.monotonic() < deadline
            try:
                answer = self._exchange(method, path, raw, headers)
            except (OSError, http.client.HTTPException, ValueError) as error:
                if not is_patient or isinstance(error, json.JSONDecodeError):
                    reason = str(error) or type(error).__name__
                    raise PlayFailed(
                        f"{method} {path} got no answer at {self._url} ({reason}). "
                        "Is `embarc serve --sandbox` running there?"
                    ) from None
            else:
                self._was_reached = True
                if answer.status != HTTPStatus.SERVICE_UNAVAILABLE or not is_patient:
                    return answer
            time.sleep(_AGAIN_SECONDS)

    def ok(self, path: str) -> Any:
        """The JSON of a question that must be answered."""
        answer = self.call("GET", path)
        if answer.status != 200:
            said = answer.json.get("defaultUserMessage") if isinstance(answer.json, Mapping) else answer.json
            hint = " Is it running with --sandbox?" if answer.status == 404 else ""
            raise PlayFailed(f"GET {path} was answered {answer.status}: {said}{hint}")
        return answer.json

    def close(self) -> None:
        """Close every connection."""
        for connection in self._opened:
            connection.close()

    def _exchange(self, method: str, path: str, raw: str | None, headers: Mapping[str, str]) -> Answer:
        connection = self._connection()
        try:
            connection.request(method, self._base + path, raw, headers)
            response = connection.getresponse()
            return Answer(response.status, json.loads(response.read()))
        except BaseException:
            connection.close()  # the next request opens it again
            raise

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._connect(self._host, self._port, timeout=self._patience_seconds)
            self._own.connection = connection
            self._opened.append(connection)
        return connection


def _no_url(url: str) -> PlayFailed:
    return PlayFailed(f"`{url}` is no URL of a running Embarc, such as http://127.0.0.1:8080.")


@dataclass(slots=True)
class Played:
    """What came of it."""

    succeeded: Counter[str] = field(default_factory=Counter)
    """Commands by kind."""
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Commands by kind and code."""
    unsent: Counter[str] = field(default_factory=Counter)
    """Commands whose ids were never given, because of an earlier refusal."""
    events: int = 0
    """Events that Embarc accepted meanwhile, those of others among them."""
    seconds: float = 0.0

    @property
    def refused_by_kind(self) -> Counter[str]:
        """The refusals without their codes."""
        found = Counter[str]()
        for (kind, _), count in self.refused.items():
            found[kind] += count
        return found


async def play(
    api: Api,
    commands: Sequence[Command],
    *,
    rate: float,
    on_done: OnDone = lambda command, answer: None,
) -> Played:
    """Send all of it, at most `rate` commands a second; `on_done` hears of each, with its answer, None where it was not
    sent. Raises `PlayFailed`."""
    with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="embarc-simulate") as threads:
        try:
            return await _Play(api, threads, on_done).run(commands, rate)
        except ExceptionGroup as several:
            raise several.exceptions[0] from None


class _Play:
    def __init__(self, api: Api, threads: ThreadPoolExecutor, on_done: OnDone) -> None:
        self._api = api
        self._threads = threads
        self._on_done = on_done
        self._ids: dict[str, Any] = {}
        self._instalments: dict[str, list[Decimal]] = {}
        self._played = Played()

    async def run(self, commands: Sequence[Command], rate: float) -> Played:
        loop = asyncio.get_running_loop()
        began, since = loop.time(), time.time()
        await self._ask_reasons()
        await self._send_in_order(commands, rate)
        self._played.seconds = loop.time() - began
        self._played.events = await self._count_events(since)
        return self._played

    async def _send_in_order(self, commands: Sequence[Command], rate: float) -> None:
        """Each at its time, after the one before it of its subject, and everything after the setup."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        free = asyncio.Semaphore(IN_FLIGHT)
        latest: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            for command in commands:
                due = max(due + gap(command, rate), loop.time())  # what was missed is not made up for
                await asyncio.sleep(due - loop.time())
                await free.acquire()
                before = latest.get(command.subject) or latest.get(SETUP)
                latest[command.subject] = tasks.create_task(self._send(command, before, free))

    async def _send(
        self, command: Command, before: asyncio.Task[None] | None, free: asyncio.Semaphore
    ) -> None:
        # Whoever waits here holds a place; the one it waits for has had one longer, so it moves on.
        try:
            if before:
                await asyncio.wait([before])
            answer = await self._call(command)
        finally:
            free.release()
        self._on_done(command, answer)

    async def _call(self, command: Command) -> Answer | None:
        try:
            path = _PLACE.sub(lambda found: str(self._ids[found[1]]), command.path)
            body = {name: await self._value(value) for name, value in command.body.items()}
        except KeyError:
            self._played.unsent[command.kind] += 1
            return None
        answer: Answer = await self._in_thread(self._api.call, command.method, path, body)
        if answer.status != 200:
            self._played.refused[command.kind, ", ".join(answer.codes) or str(answer.status)] += 1
            return answer
        self._played.succeeded[command.kind] += 1
        if command.gives:
            self._ids[command.gives] = answer.json["resourceId"]
        return answer

    async def _value(self, value: Any) -> Any:
        match value:
            case Ref(name):
                return self._ids[name]
            case Due():
                instalments = await self._schedule(value.loan)
                return float(value.amount(sum(instalments[value.first - 1 : value.last], Decimal(0))))
            case _:
                return value

    async def _schedule(self, loan: str) -> list[Decimal]:
        """What each instalment comes to; the platform's own word, asked for once a loan."""
        if loan not in self._instalments:
            answer = await self._in_thread(self._api.ok, f"/loans/{self._ids[loan]}{_ASK}")
            periods = answer["repaymentSchedule"]["periods"]
            self._instalments[loan] = [
                Decimal(str(period["totalDueForPeriod"])) for period in periods if period.get("period")
            ]
        return self._instalments[loan]

    async def _ask_reasons(self) -> None:
        for command in _REASONS:
            answer = await self._in_thread(self._api.ok, f"/clients/template?commandParam={command}")
            self._ids[f"reason-{command}"] = answer["narrations"][0]["id"]

    async def _count_events(self, since: float) -> int:
        """How many Embarc has accepted: once no more come and there is one for every success, or after a while."""
        wanted = sum(self._played.succeeded.values())
        deadline = asyncio.get_running_loop().time() + _SETTLE_SECONDS
        before = -1
        while True:
            found: int = await self._in_thread(self._count_since, since)
            if found == before >= wanted or asyncio.get_running_loop().time() > deadline:
                return found
            before = found
            await asyncio.sleep(0.2)

    def _count_since(self, since: float) -> int:
        moment = datetime.fromtimestamp(since, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        path, found = f"/events?limit={_EVENTS_A_PAGE}&since={moment}", 0
        cursor: str | None = ""
        while cursor is not None:
            page = self._api.ok(path + (f"&cursor={cursor}" if cursor else ""))
            found += len(page["pageItems"])
            cursor = page["nextCursor"]
        return found

    async def _in_thread(self, run: Callable[..., Any], *arguments: object) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, run, *arguments)
