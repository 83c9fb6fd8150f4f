"""A platform that goes on whatever fails: each event is sent again with its key until it is accepted, and noted then."""

from __future__ import annotations

import threading
import time
from http.client import HTTPException
from typing import Any

from embarc.testing.process import ServiceProcess

_PAUSE_SECONDS = 0.1
"""After a refusal; a platform would wait as `Retry-After` says."""


class Platform:
    """Threads that send events of clients, one after the other each. `start`, then `stop`, which waits for what was begun."""

    def __init__(self, *services: ServiceProcess, senders: int = 4, pause_seconds: float = 0.0) -> None:
        self.accepted: set[str] = set()
        """Ids of events that were answered 200."""
        self.unexpected: list[Any] = []
        """Answers other than 200 and 503."""
        self._pause_seconds = pause_seconds
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._send, args=(place, services[place % len(services)]))
            for place in range(senders)
        ]

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send nothing new, and wait until what was sent is accepted."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _send(self, place: int, service: ServiceProcess) -> None:
        number = 0
        while not self._is_over.is_set():
            number += 1
            self._until_accepted(service, f"{place}-{number}", place * 1_000_000 + number)
            time.sleep(self._pause_seconds)

    def _until_accepted(self, service: ServiceProcess, key: str, client: int) -> None:
        while True:
            try:
                status, answer = service.call("POST", "events", client_event(client), Idempotency_Key=key)
            except (OSError, HTTPException):
                status, answer = 503, None  # the process was killed
            if status == 200:
                with self._lock:
                    self.accepted.add(answer["eventId"])
                return
            if status != 503:
                self.unexpected.append(answer)
                return
            time.sleep(_PAUSE_SECONDS)


def client_event(client: int) -> dict[str, Any]:
    """What is posted when this client is made."""
    return {
        "entityName": "CLIENT",
        "actionName": "CREATE",
        "clientId": client,
        "response": {"resourceId": client},
    }


def client_hook(url: str, **config: str) -> dict[str, Any]:
    """A hook for it, which retries soon."""
    fields = {"Payload URL": url, "Content Type": "json", "Retry Schedule": "1,1,2,5,5,5,10,10,10,10"}
    more = {name.replace("_", " "): value for name, value in config.items()}
    return {
        "name": "Web",
        "isActive": True,
        "events": [{"entityName": "CLIENT", "actionName": "CREATE"}],
        "config": fields | more,
    }
