"""The sandbox put together: its database, its unit of work, its routes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.orm import Session

from embarc.core.access import Caller
from embarc.core.errors import SettingsError
from embarc.core.masking import mask
from embarc.outbox import OutboxEvent, ddl, emit
from embarc.sandbox import clients, codes, offices, staff, users
from embarc.sandbox.idempotency import keep_answer, known_answer
from embarc.sandbox.lending import lending_routes
from embarc.sandbox.seeding import seed
from embarc.sandbox.tables import Base, Office
from embarc.web import strict_json
from embarc.web.routes import Call, Route

T = TypeVar("T")
_VERSION = 3
"""Of the tables. Another one is not migrated: a sandbox holds nothing that must be kept."""


@dataclass(frozen=True, slots=True)
class Work:
    """One command: the session of its transaction, who gave it, and the day it is."""

    session: Session
    call: Call
    today: date

    @property
    def caller(self) -> Caller:
        """Who gave the command."""
        return self.call.caller

    @property
    def tenant(self) -> str:
        """Whose data it is about."""
        return self.call.caller.tenant

    def emit(
        self,
        entity: str,
        action: str,
        ids: Mapping[str, int],
        response: Mapping[str, Any],
        *,
        entity_id: int | None = None,
    ) -> None:
        """Tell what happened, in this transaction; `request` is what the caller sent, verbatim but for its secrets.

        `entity_id` is needed only where neither `ids` nor `resourceId` in the response is that of the entity.
        """
        author = self.caller.author
        emit(
            self.session,
            OutboxEvent(
                tenant=self.tenant,
                entity_name=entity,
                action_name=action,
                created_by=author.user_id,
                created_by_name=author.username,
                created_by_full_name=author.full_name,
                ids=ids,
                entity_id=entity_id,
                request=mask(strict_json.check(self.call.body)) if self.call.body else b"{}",
                response=response,
            ),
        )


class Sandbox:
    """The running sandbox."""

    def __init__(self, path: Path, *, wake: Callable[[], object], today: Callable[[], date]) -> None:
        self.outbox_path = path
        self._wake = wake
        self._today = today
        self._engine = _engine(path)
        self._writing = threading.Lock()
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="embarc-sandbox")
        self.routes: list[Route] = [
            *clients.routes(self),
            *offices.routes(self),
            *staff.routes(self),
            *users.routes(self),
            *codes.routes(self),
            *lending_routes(self),
        ]

    async def command(self, call: Call, run: Callable[[Work], T]) -> T:
        """Run a command in a transaction, its event with it; then wake the relay. One whose `Idempotency-Key` is known is
        not run: its answer is given again."""

        def in_thread() -> T:
            with self._session() as session:
                if (known := known_answer(session, call)) is not None:
                    return cast("T", known)  # it is the JSON of one
                answer = run(Work(session, call, self._today()))
                keep_answer(session, call, answer)
                return answer

        answer = await asyncio.get_running_loop().run_in_executor(self._threads, in_thread)
        self._wake()
        return answer

    async def query(self, call: Call, run: Callable[[Work], T]) -> T:
        """Answer a question."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._query, call, run)

    def close(self) -> None:
        """Let go of the database."""
        self._threads.shutdown()
        self._engine.dispose()

    def _query(self, call: Call, run: Callable[[Work], T]) -> T:
        with Session(self._engine) as session:
            return run(Work(session, call, self._today()))

    @contextmanager
    def _session(self) -> Iterator[Session]:
        # SQLite lets those who wait sleep and try again; a lock lets the next one in at once.
        with self._writing, Session(self._engine, expire_on_commit=False) as session, session.begin():
            session.execute(text("begin immediate"))
            yield session


def build(path: Path, *, wake: Callable[[], object], today: Callable[[], date] | None = None) -> Sandbox:
    """Open the sandbox's database, made where it is new."""
    return Sandbox(path, wake=wake, today=today or (lambda: datetime.now(UTC).date()))


def _engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 10})

    @event.listens_for(engine, "connect")
    def _settings(connection: Any, _: Any) -> None:
        connection.isolation_level = (
            None  # we say BEGIN ourselves: a transaction that writes says so at its start
        )
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute("pragma foreign_keys = on")

    with engine.begin() as connection:
        if inspect(connection).has_table(Office.__tablename__):
            _check_version(connection, path)
        connection.execute(text(f"pragma user_version = {_VERSION}"))
        Base.metadata.create_all(connection)
        for statement in ddl("sqlite"):
            connection.execute(text(statement))
    with Session(engine) as session, session.begin():
        seed(session)
    return engine


def _check_version(connection: Connection, path: Path) -> None:
    found = connection.execute(text("pragma user_version")).scalar()
    if found != _VERSION:
        raise SettingsError(
            f"{path} is the sandbox of another version of Embarc, and is not carried over. Move it away to start with a "
            "new one; the events that it has told stay in Embarc's own store."
        )
