"""The log in SQLite: events, deliveries and attempts, read back, replayed in bulk, and pruned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw
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
from embarc.store.sqlite.database import Database


class StoreLog(Database):
    """What happened, newest first."""

    async def get_event(self, tenant: str, event_key: bytes) -> EventRecord | None:
        found = await self._rows("get_event", (tenant, event_key))
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
        found = await self._rows("get_delivery", (tenant, event_key, hook_id))
        return rows.to_delivery_record(found[0]) if found else None

    async def list_deliveries(
        self, tenant: str, which: DeliveryFilter, *, before: tuple[bytes, int] | None, limit: int
    ) -> Sequence[DeliveryRecord]:
        conditions: list[tuple[str, Any]] = [
            ("d.tenant = ?", tenant),
            ("(d.event_key, d.hook_id) < (?, ?)", before),
            # In the text, not bound: only so can SQLite know that the partial index has all the rows.
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
        return [
            rows.to_attempt(row) for row in await self._rows("list_attempts", (tenant, event_key, hook_id))
        ]

    # -- replays of many ---------------------------------------------------------------------------------------

    async def list_candidates(
        self, tenant: str, selection: Selection, *, after: bytes, limit: int
    ) -> tuple[Sequence[Candidate], bytes | None]:
        first = max(after, key_below(selection.since_ms))
        last = lowest_key(selection.until_ms)
        page = (tenant, first, last, limit)
        ((reached, looked_at),) = await self._rows("events_reached", page)
        if reached is None:
            return [], None
        states = [f"d.state = '{state}'" for state in selection.states]
        if selection.missing:
            states.append("d.state is null")
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
            conditions.append((f"(e.entity_name, e.action_name) in (values {places})", values))
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
        values = (
            job.tenant,
            job.key,
            job.selection.hook_id,
            msgspec.json.encode(job.selection).decode(),
            job.reached,
            job.created_by,
        )
        await self._change("insert_replay", lambda now: (*values, now))
        stored = await self.get_replay(job.tenant, job.key)
        assert stored is not None  # noqa: S101 - replays are never deleted
        return stored

    async def get_replay(self, tenant: str, key: bytes) -> ReplayJob | None:
        found = await self._rows("get_replay", (tenant, key))
        return rows.to_replay(found[0]) if found else None

    async def list_replays(self, tenant: str, *, limit: int) -> Sequence[ReplayJob]:
        return [rows.to_replay(row) for row in await self._rows("list_replays", (tenant, limit))]

    async def running_replays(self) -> Sequence[ReplayJob]:
        return [rows.to_replay(row) for row in await self._rows("running_replays", ())]

    async def advance_replay(
        self, job: ReplayJob, deliveries: Sequence[NewDelivery], keys: Sequence[bytes], reached: bytes | None
    ) -> bool:
        def work(connection: apsw.Connection) -> bool:
            now = self._now()
            queued = 0
            for key, delivery in zip(keys, deliveries, strict=True):
                values = (job.tenant, key, delivery.hook_id, now, delivery.order_key)
                connection.execute(self._sql["queue_replayed"], values)
                queued += connection.changes()
            state = ReplayState.FINISHED if reached is None else ReplayState.RUNNING
            moved = (reached or job.reached, queued, state.value, now if reached is None else None)
            connection.execute(self._sql["advance_replay"], (*moved, job.tenant, job.key, job.reached))
            if connection.changes() == 0:
                raise _Overtaken
            return True

        try:
            return await self._write(work)
        except _Overtaken:
            return False

    async def cancel_replay(self, tenant: str, key: bytes) -> bool:
        return await self._change("cancel_replay", lambda now: (now, tenant, key))

    # -- pruning -----------------------------------------------------------------------------------------------

    async def cancel_orphans(self, limit: int) -> int:
        orphaned = await self._rows("find_orphans", ())

        def work(connection: apsw.Connection) -> int:
            cancelled = 0
            for (hook_id,) in orphaned:
                connection.execute(self._sql["cancel_orphans"], (self._now(), hook_id, limit - cancelled))
                cancelled += connection.changes()
            return cancelled

        return await self._write(work) if orphaned else 0

    async def prune_events(
        self, older_than_seconds: float, *, after: int, limit: int
    ) -> tuple[int, int | None]:
        oldest = await self._rows("oldest_events", (after, limit))
        before = self._now() - int(older_than_seconds * 1000)
        page = [row for row in oldest if row[3] < before]

        def work(connection: apsw.Connection) -> int:
            deleted = 0
            for _, tenant, key, _ in page:
                # Looked at again: it may have been replayed since it was read.
                if not connection.execute(self._sql["is_unfinished"], (tenant, key)).get:
                    connection.execute(self._sql["delete_deliveries_of_event"], (tenant, key))
                    connection.execute(self._sql["delete_event"], (tenant, key))
                    deleted += 1
            return deleted

        deleted = await self._write(work) if page else 0
        is_over = len(page) < limit
        return deleted, None if is_over else page[-1][0]

    async def prune_attempts(self, older_than_seconds: float, *, limit: int) -> int:
        tenants = await self._rows("tenants_of_attempts", ())

        def work(connection: apsw.Connection) -> int:
            before = self._now() - int(older_than_seconds * 1000)
            deleted = 0
            for (tenant,) in tenants:
                values = (tenant, lowest_key(before), before, limit - deleted)
                connection.execute(self._sql["delete_old_attempts"], values)
                deleted += connection.changes()
            return deleted

        return await self._write(work) if tenants else 0

    async def prune_keys(self, older_than_seconds: float, *, limit: int) -> int:
        def work(connection: apsw.Connection) -> int:
            before = self._now() - int(older_than_seconds * 1000)
            connection.execute(self._sql["delete_old_keys"], (before, limit))
            return connection.changes()

        return await self._write(work)

    async def upkeep(self) -> Sequence[str]:
        return []  # SQLite looks after itself


class _Overtaken(Exception):
    """The job was cancelled, or somebody else has advanced it."""


def _lowest_key(ms: int | None) -> bytes | None:
    return None if ms is None else lowest_key(ms)
