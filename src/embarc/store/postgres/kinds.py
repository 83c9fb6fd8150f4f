"""Kinds of event and inlets in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from embarc.core.catalogue import Entry
from embarc.core.inlets import Inlet
from embarc.store import rows
from embarc.store.postgres.database import Database


class StoreKinds(Database):
    """What a tenant's events are called, and the doors at which another system's come in."""

    async def add_kind(self, tenant: str, entry: Entry) -> bool:
        values = (tenant, *entry.kind, entry.grouping, entry.description, entry.sample)
        return await self._change("insert_kind", self._now(), *values)

    async def replace_kind(self, tenant: str, entry: Entry) -> bool:
        values = (entry.grouping, entry.description, entry.sample, tenant, *entry.kind)
        return await self._change("update_kind", *values)

    async def list_kinds(self, tenant: str) -> Sequence[Entry]:
        return [rows.to_kind(row) for row in await self._rows("list_kinds", tenant)]

    async def add_inlet(self, inlet: Inlet) -> Inlet:
        values = (inlet.tenant, inlet.name, inlet.digest, inlet.forwards_failures, inlet.created_by)
        ((inlet_id, created_at_ms),) = await self._rows("insert_inlet", self._now(), *values)
        return replace(inlet, id=inlet_id, created_at_ms=created_at_ms)

    async def get_inlet(self, digest: bytes) -> Inlet | None:
        found = await self._rows("get_inlet", digest)
        return rows.to_inlet(found[0]) if found else None

    async def list_inlets(self, tenant: str) -> Sequence[Inlet]:
        return [rows.to_inlet(row) for row in await self._rows("list_inlets", tenant)]

    async def remove_inlet(self, tenant: str, inlet_id: int) -> bool:
        return await self._change("delete_inlet", tenant, inlet_id)
