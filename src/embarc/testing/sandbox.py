"""The sandbox on a real SQLite file, called as one user, with its outbox open to be read."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from embarc.core.access import ALL_FUNCTIONS, Caller
from embarc.observe import Observer
from embarc.sandbox import build
from embarc.testing.asgi import Client
from embarc.web.routes import router

TODAY = date(2025, 10, 20)
DATES = {"dateFormat": "dd MMMM yyyy", "locale": "en"}
"""Belong to every request with a date."""
CALLER = Caller(
    tenant="default",
    user_id=12,
    username="john.doe",
    full_name="John Doe",
    office_id=1,
    permissions=frozenset({ALL_FUNCTIONS}),
)


class LendingCore(Client):
    """Paths are the sandbox's own (`/clients`); nothing relays what it emits. `await close()` at the end."""

    def __init__(self, path: Path, *, today: date = TODAY, caller: Caller = CALLER) -> None:
        async def authenticate(headers: Mapping[str, str], client: str) -> Caller:
            return caller

        self.sandbox = build(path, wake=lambda: None, today=lambda: today)
        super().__init__(router(self.sandbox.routes, authenticate, Observer()), "", "")

    def bodies(self) -> list[str]:
        """The text of every event in the outbox, in order."""
        connection = sqlite3.connect(self.sandbox.outbox_path)
        found = [body for (body,) in connection.execute("select body from embarc_outbox order by position")]
        connection.close()
        return found

    def events(self) -> list[dict[str, Any]]:
        """The same, read."""
        return [json.loads(body) for body in self.bodies()]

    def kinds(self) -> list[str]:
        """The kind of each, as `CLIENT.CREATE`."""
        return [f"{event['entityName']}.{event['actionName']}" for event in self.events()]

    async def close(self) -> None:
        """Let go of the database."""
        await asyncio.to_thread(self.sandbox.close)
