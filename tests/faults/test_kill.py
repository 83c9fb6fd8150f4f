"""SIGKILL at any moment: an event that was answered 2xx is delivered."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from http.client import HTTPException
from pathlib import Path

from embarc.testing.process import ServiceProcess
from embarc.testing.receiver import ScriptedReceiver

EVENTS = 2000
SENDERS = 8
KILLS = 3


class Senders:
    """Posts events one after the other from several threads; an answer of 200 goes into the ledger."""

    def __init__(self, service: ServiceProcess) -> None:
        self.service = service
        self.accepted: dict[int, str] = {}
        self._next = iter(range(1, EVENTS + 1))
        self._lock = threading.Lock()

    def run(self) -> None:
        threads = [threading.Thread(target=self._send) for _ in range(SENDERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _send(self) -> None:
        while True:
            with self._lock:
                number = next(self._next, None)
            if number is None:
                return
            self._send_until_accepted(number)

    def _send_until_accepted(self, number: int) -> None:
        """As a careful platform does: the same request with the same key until it is answered."""
        event = {
            "entityName": "CLIENT",
            "actionName": "CREATE",
            "clientId": number,
            "response": {"resourceId": number},
        }
        while True:
            try:
                status, answer = self.service.call("POST", "events", event, Idempotency_Key=f"event-{number}")
            except (OSError, HTTPException):
                continue  # killed; the next process answers on another port
            assert status == 200, answer
            with self._lock:
                self.accepted[number] = answer["eventId"]
            return


async def test_every_accepted_event_is_delivered_although_the_process_is_killed_again_and_again(
    tmp_path: Path,
    store_url: str,
) -> None:
    chance = random.Random(7)
    async with ScriptedReceiver() as receiver:

        def start() -> ServiceProcess:
            return ServiceProcess(tmp_path, store=store_url, EMBARC_LEASE_SECONDS="36")

        service = await asyncio.to_thread(start)
        hook = {
            "name": "Web",
            "isActive": True,
            "events": [{"entityName": "CLIENT", "actionName": "CREATE"}],
            "config": {"Payload URL": receiver.url, "Content Type": "json", "Retry Schedule": "1"},
        }
        await asyncio.to_thread(service.ok, "POST", "hooks", hook)
        senders = Senders(service)
        sending = asyncio.create_task(asyncio.to_thread(senders.run))
        for kill in range(1, KILLS + 1):
            threshold = EVENTS * kill // (KILLS + 1) + chance.randrange(100)
            await receiver.received(threshold)
            await asyncio.to_thread(service.kill)
            service = senders.service = await asyncio.to_thread(start)
        await sending
        await all_arrived(receiver, set(senders.accepted.values()))
        await asyncio.to_thread(service.stop)

    arrived = [request.header("webhook-id") for request in receiver.requests]
    assert len(senders.accepted) == EVENTS
    assert len(set(senders.accepted.values())) == EVENTS
    assert set(senders.accepted.values()) == set(arrived)
    # Repeated is at most what was in flight at a kill: sent, and its result not yet on disk. The sixteen slots go on while
    # the results before are on their way to the store, some in a transaction and some gathered for the next.
    assert len(arrived) - EVENTS <= KILLS * (4 * 16 + SENDERS)


async def all_arrived(receiver: ScriptedReceiver, wanted: set[str]) -> None:
    """Where processes may share a store, what a killed one held is another's only when its lease has ended."""
    async with asyncio.timeout(120):
        while not wanted <= {request.header("webhook-id") for request in receiver.requests}:
            with contextlib.suppress(TimeoutError):
                await receiver.received(len(receiver.requests) + 1)
