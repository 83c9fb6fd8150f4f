"""Four processes over one PostgreSQL, one of them killed every few seconds: nothing is lost, every limit holds for all together."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

from embarc.testing.process import ServiceProcess
from embarc.testing.watching import WatchingReceiver

EVENTS = 5_500
BATCH = 25
SENDERS = 6
PLAIN_HOOKS = 8
LOANS = 120
RATE = 40
CONCURRENCY = 3
KILLS_EVERY_SECONDS = (2.0, 4.0)


class Platform:
    """Emits events of loans, each loan's in order, and repeats a batch with its key until it is answered."""

    def __init__(self, service: ServiceProcess) -> None:
        self._service = service
        self.accepted: dict[int, str] = {}
        self._lock = threading.Lock()

    def run(self) -> None:
        threads = [threading.Thread(target=self._send, args=(place,)) for place in range(SENDERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _send(self, place: int) -> None:
        loans = range(place, LOANS, SENDERS)
        numbers = range(place, EVENTS, SENDERS)
        for start in range(0, len(numbers), BATCH):
            batch = list(numbers[start : start + BATCH])
            events = [event(number, loans[number // SENDERS % len(loans)]) for number in batch]
            answer = self._until_accepted(f"batch-{place}-{start}", events)
            with self._lock:
                self.accepted.update(zip(batch, answer["eventIds"], strict=True))

    def _until_accepted(self, key: str, events: list[dict[str, Any]]) -> Any:
        while True:
            try:
                status, answer = self._service.call("POST", "events", events, Idempotency_Key=key)
            except (OSError, HTTPException):
                continue  # the process that had taken the call was killed
            if status == 503:
                continue
            assert status == 200, answer
            return answer


def event(number: int, loan: int) -> dict[str, Any]:
    action = "APPROVE" if number % 10 == 0 else "REPAYMENT"
    return {
        "entityName": "LOAN",
        "actionName": action,
        "loanId": loan + 1,
        "request": {"number": number},
        "response": {"resourceId": loan + 1},
    }


def children_of(process_id: int) -> list[int]:
    text = Path(f"/proc/{process_id}/task/{process_id}/children").read_text()
    return [int(child) for child in text.split()]


async def kill_now_and_then(service: ServiceProcess, is_over: Callable[[], bool]) -> int:
    chance = random.Random(11)
    kills = 0
    while not is_over():
        await asyncio.sleep(chance.uniform(*KILLS_EVERY_SECONDS))
        if not is_over() and (children := children_of(service.process.pid)):
            os.kill(chance.choice(children), signal.SIGKILL)
            kills += 1
    return kills


def hook(url: str, action: str, **config: str) -> dict[str, Any]:
    fields = {"Payload URL": url, "Content Type": "json", "Retry Schedule": "1,1,2,5,5,5,10,10,10,10"}
    events = [{"entityName": "LOAN", "actionName": action}]
    more = {name.replace("_", " "): value for name, value in config.items()}
    return {"name": "Web", "isActive": True, "events": events, "config": fields | more}


async def test_four_processes_of_which_one_is_killed_now_and_then_lose_nothing_and_keep_every_limit(
    tmp_path: Path, postgres_url: str
) -> None:
    service = await asyncio.to_thread(
        ServiceProcess,
        tmp_path,
        *("--processes", "4", "--no-sandbox"),
        store=postgres_url,
    )
    hooks = {f"plain-{place}": hook("", "*") for place in range(PLAIN_HOOKS)} | {
        "in-order": hook("", "*", Order="entity"),
        "paced": hook("", "APPROVE", Rate_Limit=str(RATE)),
        "narrow": hook("", "*", Concurrency=str(CONCURRENCY)),
    }
    async with WatchingReceiver(work_seconds=0.002) as receiver:
        try:
            for path, body in hooks.items():
                body["config"]["Payload URL"] = receiver.url(path)
                await asyncio.to_thread(service.ok, "POST", "hooks", body)
            platform = Platform(service)
            sending = asyncio.create_task(asyncio.to_thread(platform.run))
            wanted = {path: EVENTS if path != "paced" else EVENTS // 10 for path in hooks}
            arriving = asyncio.gather(
                *(receiver.until(path, count, within_seconds=400) for path, count in wanted.items())
            )
            kills = await kill_now_and_then(service, lambda: arriving.done())
            await sending
            await arriving
        finally:
            await asyncio.to_thread(service.stop)

    accepted = set(platform.accepted.values())
    assert len(platform.accepted) == len(accepted) == EVENTS
    assert kills >= 3
    for path in hooks:
        arrived = set(receiver.paths[path].arrived)
        assert arrived <= accepted, path
        assert path == "paced" or arrived == accepted, path
    # Duplicates: at most what one process had in flight, or not yet settled, when it was killed.
    repeated = sum(one.repeated for one in receiver.paths.values())
    assert repeated <= kills * 16 * len(hooks)
    assert receiver.paths["narrow"].most_in_flight <= CONCURRENCY
    assert receiver.paths["paced"].most_within(10) <= RATE * 10 * 1.1
    assert inversions(receiver) == []


def inversions(receiver: WatchingReceiver) -> list[tuple[object, int, int]]:
    """First arrivals at the ordered hook that came before an earlier one of their loan."""
    latest: dict[object, int] = {}
    found = []
    for _, _, payload in receiver.paths["in-order"].first:
        request = payload["request"]
        assert isinstance(request, dict)
        loan, number = payload["loanId"], int(request["number"])
        if number < latest.get(loan, -1):
            found.append((loan, latest[loan], number))
        latest[loan] = max(number, latest.get(loan, -1))
    return found
