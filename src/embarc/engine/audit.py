"""The audit log: every change with who made it, how it was before and after, each entry chained to the one before."""

from __future__ import annotations

from collections.abc import Sequence

from embarc.core.access import AuditEntry, Caller
from embarc.store.base import PAGE_LIMIT, Store

_FIRST = 2**62


class AuditLog:
    """Writes entries and reads them back."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def record(
        self, caller: Caller, action: str, *, resource_id: str = "", before: str = "", after: str = ""
    ) -> None:
        """Add an entry; `before` and `after` are JSON texts without secrets."""
        await self._store.append_audit(
            AuditEntry(
                tenant=caller.tenant,
                username=caller.username,
                action=action,
                resource_id=resource_id,
                before=before,
                after=after,
            )
        )

    async def page(
        self, tenant: str, cursor: int | None, limit: int = PAGE_LIMIT
    ) -> tuple[Sequence[AuditEntry], int | None]:
        """The newest entries below the cursor, and the cursor of the next page."""
        found = await self._store.list_audits(tenant, before=cursor or _FIRST, limit=limit + 1)
        return found[:limit], found[limit - 1].number if len(found) > limit else None
