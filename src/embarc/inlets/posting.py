"""Rows of an outbox as calls of `POST /events`, from a process of its own.

`http.client` in a few threads: each keeps its connection. A call is safe to repeat, because the row's id is its
`Idempotency-Key`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from embarc import __version__
from embarc.core.errors import SettingsError
from embarc.inlets.relay import NotNow, OutboxRow

AT_ONCE = 16
"""Connections; while Embarc writes one commit to disk, the next sixteen events gather."""
TIMEOUT_SECONDS = 15
LONGEST_ANSWER = 64 * 1024
_REFUSALS = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)


class Poster:
    """Publishes rows to the Embarc at `to`, such as `https://embarc.example` (or the whole URL of its `/events`).

    Raises `SettingsError` for another kind of URL.
    """

    def __init__(self, to: str, *, authorization: str) -> None:
        parts = urlsplit(to)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise SettingsError(
                "`to` must be a URL such as https://embarc.example, without user and password."
            )
        self._host = parts.hostname
        self._port = parts.port
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._path = _events_path(parts.path)
        self._headers = {
            "Authorization": authorization,
            "Content-Type": "application/json",
            "User-Agent": f"Embarc-Relay/{__version__}",
        }
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="embarc-post")
        self._own = threading.local()
        self._open: set[HTTPConnection] = set()

    async def publish(self, row: OutboxRow) -> str | None:
        """Post the row: None where it was accepted, why not where it never will be.

        Raises `NotNow` where Embarc is not there, takes nothing, or does not take us; `HTTPException` where it failed.
        """
        status, retry_after, content = await asyncio.get_running_loop().run_in_executor(
            self._threads, self._post, row
        )
        answer = _object(content)
        if 200 <= status < 300:
            if "eventId" not in answer:
                raise NotNow(f"{self._host} answered {status}, but not as Embarc does. Check `to`.")
            return None
        reason = _reason(answer)
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or (status in _REFUSALS and reason):
            return f"{status}: {reason or 'the event is too large'}"
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            raise HTTPException(
                f"Embarc answered {status} to the row {row.id}: {reason or 'without a reason'}"
            )
        seconds = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None
        raise NotNow(f"Embarc answered {status}: {reason or 'without a reason'}", seconds)

    def close(self) -> None:
        """Close the connections."""
        self._threads.shutdown()
        for connection in self._open:
            connection.close()
        self._open.clear()

    def _post(self, row: OutboxRow) -> tuple[int, str, bytes]:
        headers = self._headers | {
            "Fineract-Platform-TenantId": row.tenant,
            "Idempotency-Key": f"outbox:{row.id}",
        }
        connection: HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is not None:
            try:
                return self._exchange(connection, row, headers)
            except (OSError, HTTPException):
                pass  # it was closed while it was idle; the next one tells
        connection = self._connect()
        try:
            return self._exchange(connection, row, headers)
        except (OSError, HTTPException) as error:
            raise NotNow(f"Embarc at {self._host} was not reached: {error or type(error).__name__}") from None

    def _exchange(
        self, connection: HTTPConnection, row: OutboxRow, headers: dict[str, str]
    ) -> tuple[int, str, bytes]:
        try:
            connection.request("POST", self._path, row.body.encode(), headers)
            response = connection.getresponse()
            content = response.read(LONGEST_ANSWER)
            if response.will_close or not response.isclosed():
                self._drop(connection)
            return response.status, response.getheader("Retry-After") or "", content
        except BaseException:
            self._drop(connection)
            raise

    def _connect(self) -> HTTPConnection:
        if self._tls:
            connection: HTTPConnection = HTTPSConnection(
                self._host, self._port, timeout=TIMEOUT_SECONDS, context=self._tls
            )
        else:
            connection = HTTPConnection(self._host, self._port, timeout=TIMEOUT_SECONDS)
        self._own.connection = connection
        self._open.add(connection)
        return connection

    def _drop(self, connection: HTTPConnection) -> None:
        connection.close()
        self._open.discard(connection)
        self._own.connection = None


def basic(user: str, password: str) -> str:
    """The `Authorization` of a user."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _events_path(path: str) -> str:
    path = path.rstrip("/")
    if path.endswith("/events"):
        return path
    return f"{path}/events" if path.endswith("/api/v1") else f"{path}/api/v1/events"


def _object(content: bytes) -> dict[str, Any]:
    try:
        read = json.loads(content)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def _reason(answer: dict[str, Any]) -> str:
    """What Embarc's envelope says, and of which field; empty where it is none. Values are left out."""
    if "userMessageGlobalisationCode" not in answer:
        return ""
    errors = [one for one in answer.get("errors", ()) if isinstance(one, dict)]
    told = [
        f"{one.get('parameterName')}: {one.get('defaultUserMessage')}".removeprefix(": ") for one in errors
    ]
    return "; ".join(told) or str(answer.get("defaultUserMessage"))
