"""The log in PostgreSQL: events, deliveries and attempts, read back, and replayed in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from embarc.core.attempts import Attempt
from embarc.core.deliveries import State
from embarc.core.events import ANY, EventKind
from embarc.core.ids import key_below, lowest_key
from embarc.core.replays import ReplayJob, ReplayState, Selection
from embarc.store import rows
from embarc.store.base import (
    Candidate,
    DeliveryFilter,
    DeliveryRecord,
    EventFilter,
    EventRecord,
    NewDelivery,
)
from embarc.store.postgres.connections import Connection
from embarc.store.postgres.database import Database


class StoreLog(Database):
    """What happened, newest first."""

    async def get_event(self, tenant: str, event_key: bytes) -> EventRecord | None:
        found = await self._rows("get_event", tenant, event_key)
        return rows.to_event_record(found[0]) if found else None

    async def list_events(
        self, tenant: str, which: EventFilter, *, before: bytes | None, limit: int
    ) -> Sequence[EventRecord]:
        conditions: list[tuple[str, Any]] = [
            ("tenant = ?", tenant),
            ("event_key < ?", before),
            ("entity_name = ?", which.entity_name),
            ("action_name = ?", which.action_name),
            ("entity_id = ?", which.entity_id),
            ("event_key >= ?", _lowest_key(which.since_ms)),
            ("event_key < ?", _lowest_key(which.until_ms)),
        ]
        return [rows.to_event_record(row) for row in await self._filtered("list_events", conditions, limit)]

    async def get_delivery(self, tenant: str, event_key: bytes, hook_id: int) -> DeliveryRecord | None:
        which = DeliveryFilter(event_key=event_key, hook_id=hook_id)
        found = await self.list_deliveries(tenant, which, before=None, limit=1)
        return found[0] if found else None

    async def list_deliveries(
        self, tenant: str, which: DeliveryFilter, *, before: tuple[bytes, int] | None, limit: int
    ) -> Sequence[DeliveryRecord]:
        conditions: list[tuple[str, Any]] = [
            ("d.tenant = ?", tenant),
            ("(d.event_key, d.hook_id) < (?, ?)", before),
            # In the text, not bound: only so can it be known that the partial index has all the rows.
            (f"d.state = '{which.state}'", () if which.state else None),
            ("d.hook_id = ?", which.hook_id),
            ("d.event_key = ?", which.event_key),
            ("e.entity_name = ?", which.entity_name),
            ("e.action_name = ?", which.action_name),
            ("e.entity_id = ?", which.entity_id),
            ("d.event_key >= ?", _lowest_key(which.since_ms)),
            ("d.event_key < ?", _lowest_key(which.until_ms)),
        ]
        return [
            rows.to_delivery_record(row) for row in await self._filtered("list_deliveries", conditions, limit)
        ]

    async def list_attempts(self, tenant: str, event_key: bytes, hook_id: int) -> Sequence[Attempt]:
        return [rows.to_attempt(row) for row in await self._rows("list_attempts", tenant, event_key, hook_id)]

    # -- replays of many ---------------------------------------------------------------------------------------

    async def list_candidates(
        self, tenant: str, selection: Selection, *, after: bytes, limit: int
    ) -> tuple[Sequence[Candidate], bytes | None]:
        first = max(after, key_below(selection.since_ms))
        page = await self._rows("events_reached", tenant, first, lowest_key(selection.until_ms), limit)
        if not page:
            return [], None
        ((reached, looked_at),) = page
        states = [f"coalesce(d.state, h.state) = '{state}'" for state in selection.states]
        if selection.missing:
            states.append("coalesce(d.state, h.state) is null")
        kinds = [kind for kind in selection.kinds if ANY not in kind]
        conditions: list[tuple[str, Any]] = [
            ("e.tenant = ?", tenant),
            ("e.event_key > ?", first),
            ("e.event_key <= ?", reached),
            ("e.entity_id = ?", selection.entity_id),
            (f"({' or '.join(states)})", ()),
        ]
        if kinds and len(kinds) == len(selection.kinds):
            places = ", ".join(["(?, ?)"] * len(kinds))
            values = tuple(name for kind in kinds for name in kind)
            conditions.append((f"(e.entity_name, e.action_name) in ({places})", values))
        found = await self._filtered("list_candidates", conditions, limit, first=(selection.hook_id,))
        candidates = [
            Candidate(
                event_key=key,
                kind=EventKind(entity, action),
                entity_id=entity_id,
                state=None if state is None else State(state),
                payload=payload,
            )
            for key, entity, action, entity_id, state, payload in found
        ]
        return candidates, reached if looked_at == limit else None

    async def add_replay(self, job: ReplayJob) -> ReplayJob:
        selection = msgspec.json.encode(job.selection).decode()
        values = (job.tenant, job.key, job.selection.hook_id, selection, job.reached, job.created_by)
        return rows.to_replay((await self._rows("insert_replay", self._now(), *values))[0])

    async def get_replay(self, tenant: str, key: bytes) -> ReplayJob | None:
        found = await self._rows("get_replay", tenant, key)
        return rows.to_replay(found[0]) if found else None

    async def list_replays(self, tenant: str, *, limit: int) -> Sequence[ReplayJob]:
        return [rows.to_replay(row) for row in await self._rows("list_replays", tenant, limit)]

    async def running_replays(self) -> Sequence[ReplayJob]:
        return [rows.to_replay(row) for row in await self._rows("running_replays")]

    async def advance_replay(
        self, job: ReplayJob, deliveries: Sequence[NewDelivery], keys: Sequence[bytes], reached: bytes | None
    ) -> bool:
        wanted = (
            [job.tenant] * len(keys),
            list(keys),
            [one.hook_id for one in deliveries],
            [one.order_key for one in deliveries],
        )
        state = ReplayState.FINISHED if reached is None else ReplayState.RUNNING

        async def work(connection: Connection) -> bool:
            now = self._now()
            await connection.execute(self._sql["lock_hook_for_replay"], job.selection.hook_id)
            queued = await connection.fetchval(self._sql["queue_replayed"], now, *wanted)
            moved = (now, reached or job.reached, queued, state.value, job.tenant, job.key, job.reached)
            if not await connection.fetch(self._sql["advance_replay"], *moved):
                raise _Overtaken
            return True

        try:
            return await self._transaction(work)
        except _Overtaken:
            return False

    async def cancel_replay(self, tenant: str, key: bytes) -> bool:
        return await self._change("cancel_replay", self._now(), tenant, key)

    # -- deleted hooks -----------------------------------------------------------------------------------------

    async def cancel_orphans(self, limit: int) -> int:
        cancelled = 0
        for (hook_id,) in await self._rows("find_orphans"):
            ((count,),) = await self._rows("cancel_orphans", self._now(), hook_id, limit - cancelled)
            cancelled += count
        return cancelled


class _Overtaken(ValueError):
    """The job was cancelled, or somebody else has advanced it."""


def _lowest_key(ms: int | None) -> bytes | None:
    return None if ms is None else lowest_key(ms)
