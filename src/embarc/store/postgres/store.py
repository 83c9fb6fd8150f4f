"""The second store: PostgreSQL, for many processes on many machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import asyncpg

from embarc.core.errors import SettingsError, StoreUnavailable
from embarc.core.findings import DURABILITY_SETTINGS, durability
from embarc.core.hooks import Endpoint, Hook
from embarc.store import rows
from embarc.store.postgres.access import StoreAccess
from embarc.store.postgres.connections import Address, Connection, unavailable
from embarc.store.postgres.database import migrate
from embarc.store.postgres.days import StoreDays
from embarc.store.postgres.kinds import StoreKinds
from embarc.store.postgres.log import StoreLog
from embarc.store.postgres.members import StoreMembers
from embarc.store.postgres.queue import StoreQueue
from embarc.store.vault import Vault


class PostgresStore(StoreQueue, StoreLog, StoreDays, StoreAccess, StoreKinds, StoreMembers):
    """`Store` over one PostgreSQL database. Open one with `PostgresStore.open`."""

    _hook_rows: rows.HookRows

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        parse_endpoint: Callable[[dict[str, str]], Endpoint],
        vault: Vault,
        clock: Callable[[], float] | None = None,
    ) -> PostgresStore:
        """Open the database, migrated where needed; `clock` is for tests, the real one is the database's.

        Raises `SettingsError` where the URL leads nowhere, `StoreUnavailable`, and `MigrationError` where it is too new.
        """
        await migrate(url)
        store = cls(Address.parse(url), clock)
        store._vault = vault
        store._hook_rows = rows.HookRows(vault, parse_endpoint)
        try:
            await store._refuse_unfinished_copy()
            await vault.unlock(store)
            await store.upkeep()
        except BaseException:
            await store.close()
            raise
        return store

    # -- hooks -------------------------------------------------------------------------------------------------

    async def add_hook(self, hook: Hook) -> Hook:
        await self._vault.ready(self, hook.tenant)

        async def work(connection: Connection) -> int:
            values = (hook.tenant, *self._hook_rows.values(hook))
            hook_id = int(await connection.fetchval(self._sql["insert_hook"], self._now(), *values))
            sealed = self._hook_rows.sealed_secrets(hook, hook_id)
            await connection.execute(self._sql["seal_hook"], sealed, hook_id)
            await connection.execute(self._sql["raise_hooks_revision"])
            return hook_id

        return await self._stored(hook.tenant, await self._transaction(work))

    async def replace_hook(self, hook: Hook) -> Hook | None:
        await self._vault.ready(self, hook.tenant)
        values = (
            *self._hook_rows.values(hook),
            self._hook_rows.sealed_secrets(hook, hook.id),
            hook.tenant,
            hook.id,
        )
        is_there = await self._change_and_tell("update_hook", self._now(), *values)
        return await self._stored(hook.tenant, hook.id) if is_there else None

    async def remove_hook(self, tenant: str, hook_id: int) -> Hook | None:
        hook = await self.get_hook(tenant, hook_id)
        return hook if await self._change_and_tell("delete_hook", tenant, hook_id) else None

    async def set_failing_since(self, tenant: str, hook_id: int, since_ms: int | None) -> bool:
        return await self._change_and_tell("set_failing_since", since_ms, tenant, hook_id)

    async def get_hook(self, tenant: str, hook_id: int) -> Hook | None:
        found = await self._hooks("get_hook", tenant, hook_id)
        return found[0] if found else None

    async def list_hooks(self, tenant: str | None = None) -> Sequence[Hook]:
        found = await self._hooks("list_hooks", tenant)
        if tenant is None:
            self._floors.know_hooks(hook.id for hook in found)
        return found

    async def hooks_revision(self) -> int:
        return int((await self._rows("hooks_revision"))[0][0])

    # -- the store itself --------------------------------------------------------------------------------------

    async def durability(self) -> Sequence[str]:
        """What there is to say about settings of the server under which an accepted event can be lost."""
        found = durability(dict(await self._rows("server_settings", list(DURABILITY_SETTINGS))))
        return [found.told] if found.level else []

    async def _refuse_unfinished_copy(self) -> None:
        for (source,) in await self._rows("unfinished_copies"):
            raise SettingsError(
                f"{source} is being copied into this database, which is not finished. Call `embarc store copy` again: it "
                "goes on where it was interrupted."
            )

    async def check(self) -> None:
        try:
            await self._rows("check")
        except asyncpg.PostgresError as error:
            raise unavailable(error) from error

    async def close(self) -> None:
        await self._stop_listening()
        await self._publications.close()
        await self._settling.close()
        await self._close()

    async def _hooks(self, query: str, *values: object) -> list[Hook]:
        """The hooks of a query's rows, also where another process has sealed them under a data key that it has just made."""
        found = await self._rows(query, *values)
        await self._vault.know(self, [bytes(row["sealed_secrets"]) for row in found])
        return [self._hook_rows.to_hook(row) for row in found]

    async def _stored(self, tenant: str, hook_id: int) -> Hook:
        hook = await self.get_hook(tenant, hook_id)
        if hook is None:
            raise StoreUnavailable(f"Hook {hook_id} was deleted while it was being written.")
        return hook
