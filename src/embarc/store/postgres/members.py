"""The processes that share a PostgreSQL: who is alive, who works for which segment, and a word to the others.

A word is a notification outside of every other transaction, so nobody's commit waits for it. Behind a pooler in transaction
mode nobody can listen: then the others find what is due by looking.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import asyncpg
import msgspec

from embarc.core.members import Attendance, Member, tokens_of
from embarc.core.pacing import LaneCondition
from embarc.store.postgres.connections import LOST, Address, Connection
from embarc.store.postgres.database import Database

CHANNEL = "embarc"
LISTEN_AGAIN_SECONDS = 1.0
_decode_conditions = msgspec.json.Decoder(dict[int, LaneCondition]).decode


class StoreMembers(Database):
    """Heartbeats and announcements."""

    def __init__(self, address: Address, clock: Callable[[], float] | None) -> None:
        super().__init__(address, clock)
        self._address = address
        self._own_name = secrets.token_hex(8)
        self._listening: asyncio.Task[None] | None = None

    async def attend(self, member: Member, *, wanted: Collection[int], alive_seconds: float) -> Attendance:
        alive_ms = int(alive_seconds * 1000)
        conditions = msgspec.json.encode(dict(member.conditions)).decode()

        async def work(connection: Connection) -> Attendance:
            values = (member.number, member.name, member.dispatches, conditions)
            await connection.execute(self._sql["put_member"], self._now(), *values)
            alive = [
                _member(row)
                for row in await connection.fetch(self._sql["alive_members"], self._now(), alive_ms)
            ]
            await connection.execute(self._sql["give_up_segments"], member.number, list(wanted))
            numbers = [one.number for one in alive]
            taken = await connection.fetch(self._sql["take_segments"], member.number, list(wanted), numbers)
            for former in {row[1] for row in taken if row[1] is not None}:
                segments = [segment for segment, owner in taken if owner == former]
                await connection.execute(self._sql["end_leases"], self._now(), *tokens_of(former), segments)
            await connection.execute(self._sql["forget_dead_members"], self._now(), alive_ms * 10)
            held = await connection.fetch(self._sql["own_segments"], member.number)
            return Attendance(members=tuple(alive), segments=frozenset(row[0] for row in held))

        return await self._transaction(work)

    async def leave(self, member: Member) -> None:
        async def work(connection: Connection) -> None:
            await connection.execute(self._sql["give_up_segments"], member.number, [])
            await connection.execute(self._sql["delete_member"], member.number)

        await self._transaction(work)

    async def announce(self) -> None:
        await self._rows("announce", CHANNEL, self._own_name)

    def on_announcement(self, wake: Callable[[], None]) -> None:
        if not self._address.is_pooled and self._listening is None:
            self._listening = asyncio.create_task(self._listen_forever(wake), name="embarc_listen")

    async def _listen_forever(self, wake: Callable[[], None]) -> None:
        def heard(connection: Any, process: int, channel: str, payload: object) -> None:
            if payload != self._own_name:
                wake()

        while True:
            with suppress(*LOST, asyncpg.PostgresError):
                connection = await self._address.connect()
                ended = asyncio.Event()
                connection.add_termination_listener(lambda _, ended=ended: ended.set())
                try:
                    await connection.add_listener(CHANNEL, heard)
                    wake()  # for what was announced while nobody listened
                    await ended.wait()
                finally:
                    connection.terminate()
            await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    async def _stop_listening(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)


def _member(row: Any) -> Member:
    number, name, dispatches, conditions = row
    return Member(number=number, name=name, dispatches=dispatches, conditions=_decode_conditions(conditions))
