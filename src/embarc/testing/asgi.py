"""Calling an ASGI application without a socket."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message

_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """What the application answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body's JSON value."""
        return json.loads(self.body)

    @property
    def codes(self) -> list[str]:
        """The code of each error in Fineract's envelope."""
        return [error["userMessageGlobalisationCode"] for error in self.json["errors"]]

    @property
    def parameters(self) -> list[str]:
        """The field that each error names."""
        return [error["parameterName"] for error in self.json["errors"]]


class Client:
    """Calls one application as one user."""

    def __init__(self, app: ASGIApp, username: str, password: str) -> None:
        self._app = app
        self._authorization = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()

    async def call(self, method: str, path: str, body: object = None, **headers: str | None) -> Answer:
        """One request. `body` may be bytes, to be sent as they are; a header of None is left out."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent: dict[str, str | None] = {
            "authorization": self._authorization,
            "content-type": "application/json",
        }
        sent |= {name.replace("_", "-").lower(): value for name, value in headers.items()}
        target, _, query = (path if path.startswith("/") else f"/api/v1/{path}").partition("?")
        parts = [raw[start : start + _CHUNK] for start in range(0, len(raw), _CHUNK)] or [b""]
        messages = [
            {"type": "http.request", "body": part, "more_body": place < len(parts) - 1}
            for place, part in enumerate(parts)
        ]
        answered: list[Message] = []

        async def receive() -> Message:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            answered.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": target,
            "raw_path": target.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [
                (name.encode(), value.encode("latin-1")) for name, value in sent.items() if value is not None
            ],
            "server": ("test", 80),
            "client": ("test", 1),
        }
        await self._app(scope, receive, send)
        start, *bodies = answered
        found = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], found, b"".join(message.get("body", b"") for message in bodies))

    async def ok(self, method: str, path: str, body: object = None, **headers: str | None) -> Any:
        """The JSON of a call that must succeed."""
        answer = await self.call(method, path, body, **headers)
        if answer.status != 200:
            raise AssertionError(f"{method} {path} was answered {answer.status}: {answer.body.decode()}")
        return answer.json
