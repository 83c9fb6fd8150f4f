"""A load generator that costs as little as Python allows: many keep-alive connections posting single events.

`closed` sends the next event when the answer of the last one is there; `open` sends at a given rate, whatever the
answers do. Runs as a process of its own and prints, for each accepted event, its id, when it was sent and when the
answer came.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import sys
import time
from collections import deque
from typing import cast

import uvloop

_NUMBER = 10_000_000
"""Added to each event's number, so that every body has the same length and one head serves them all."""
_BODY = json.dumps(
    {
        "entityName": "CLIENT",
        "actionName": "CREATE",
        "createdBy": 12,
        "createdByName": "john.doe",
        "createdByFullName": "John Doe",
        "officeId": 3,
        "clientId": _NUMBER,
        "request": {
            "firstname": "Alice",
            "lastname": "Martinez",
            "externalId": f"CUST-2025-{_NUMBER}",
            "submittedOnDate": "13 October 2025",
            "dateFormat": "dd MMMM yyyy",
            "locale": "en",
            "mobileNo": "+254700000000",
            "emailAddress": "alice.martinez@example.com",
            "note": "Opened at the branch, documents checked and scanned.",
        },
        "response": {"officeId": 3, "clientId": _NUMBER, "resourceId": _NUMBER},
    },
    separators=(",", ":"),
)
"""About 500 bytes; every event is of its own client."""


class Poster(asyncio.Protocol):
    """One connection with one request under way at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._buffer = b""
        self._sent = 0.0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def post(self) -> None:
        """Send the next event."""
        self._sent = time.time()
        self.transport.write(self._load.request())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        if not self._buffer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"refused: {self._buffer!r}")
        answer = self._buffer[end + 4 :]
        if not answer.endswith(b"}"):
            return
        self._buffer = b""
        self._load.answered(self, answer, self._sent)


class Load:
    """All connections together."""

    def __init__(
        self, authorization: str, start: int, stop_at: float, *, closed: bool, kinds: int = 0
    ) -> None:
        self._kinds = kinds
        self._parts = (
            (
                f"POST /api/v1/events HTTP/1.1\r\nHost: bench\r\nAuthorization: {authorization}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(_BODY)}\r\n\r\n{_BODY}"
            )
            .encode()
            .split(b"%d" % _NUMBER)
        )
        self._number = start
        self._stop_at = stop_at
        self._closed = closed
        self.idle: deque[Poster] = deque()
        self.accepted: list[tuple[str, float, float]] = []
        self.done = asyncio.Event()
        self.under_way = 0
        self.is_over = False

    def request(self) -> bytes:
        """The bytes of the next request."""
        self._number += 1
        self.under_way += 1
        request = (b"%d" % (_NUMBER + self._number)).join(self._parts)
        if self._kinds:  # of as many entities, one after the other: E00000 is as long as CLIENT
            request = request.replace(b'"CLIENT"', b'"E%05d"' % (self._number % self._kinds))
        return request

    def answered(self, poster: Poster, answer: bytes, sent: float) -> None:
        """Note an answer and, in a closed loop, go on."""
        now = time.time()
        self.under_way -= 1
        self.accepted.append((answer[12:48].decode(), sent, now))  # {"eventId":"evt_..."
        if self._closed and now < self._stop_at:
            poster.post()
        else:
            self.idle.append(poster)
        if not self.under_way and (self._closed or self.is_over):
            self.done.set()


async def run(
    port: int, password: str, connections: int, seconds: float, rate: float, start: int, kinds: int
) -> Load:
    """Post for `seconds`; `rate` 0 is a closed loop."""
    authorization = "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()
    loop = asyncio.get_running_loop()
    load = Load(authorization, start, time.time() + seconds, closed=not rate, kinds=kinds)
    posters = []
    for _ in range(connections):
        _, poster = await loop.create_connection(lambda: Poster(load), "127.0.0.1", port)
        posters.append(poster)
    if not rate:
        for poster in posters:
            poster.post()
        await load.done.wait()
    else:
        load.idle.extend(posters)
        began, sent = time.time(), 0
        while (now := time.time()) - began < seconds:
            while sent < (now - began) * rate and load.idle:
                load.idle.popleft().post()
                sent += 1
            await asyncio.sleep(0.0005)
        load.is_over = True
        if load.under_way:
            await load.done.wait()
    for poster in posters:
        poster.transport.close()
    return load


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--kinds", type=int, default=0)
    given = parser.parse_args()
    load = uvloop.run(
        run(
            given.port, given.password, given.connections, given.seconds, given.rate, given.start, given.kinds
        )
    )
    json.dump(load.accepted, sys.stdout)


if __name__ == "__main__":
    main()
