"""The embedded store: SQLite in one file, one writer, any number of readers (see `writer.py`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Self

import apsw

from embarc.core.errors import StoreUnavailable
from embarc.core.hooks import Endpoint, Hook
from embarc.core.members import Attendance, Member
from embarc.store import rows
from embarc.store.sqlite.access import StoreAccess
from embarc.store.sqlite.keys import StoreKeys
from embarc.store.sqlite.kinds import StoreKinds
from embarc.store.sqlite.log import StoreLog
from embarc.store.sqlite.queue import StoreQueue
from embarc.store.vault import Vault


class SqliteStore(StoreQueue, StoreLog, StoreAccess, StoreKeys, StoreKinds):
    """`Store` over one SQLite file. Open one with `SqliteStore.open`."""

    _hook_rows: rows.HookRows

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        parse_endpoint: Callable[[dict[str, str]], Endpoint],
        vault: Vault | None = None,
        clock: Callable[[], float] = time.time,
        on_broken: Callable[[str], None] | None = None,
        inline: bool = False,
    ) -> Self:
        """Open the database, made and migrated where needed; the key lies beside it unless a vault is given.

        `inline` is for simulations: no threads, and not durable. Raises `SettingsError` where another process has it
        open, `MigrationError` where it is too new, `CannotOpen` where the vault's key is not the one of its data keys.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        vault = vault or Vault.from_file(path.with_name(path.name + ".key"))
        store = cls(path, clock, on_broken=on_broken, inline=inline)
        store._vault = vault
        store._hook_rows = rows.HookRows(vault, parse_endpoint)
        try:
            await vault.unlock(store)
            await store.end_leases()
        except BaseException:
            await store.close()
            raise
        return store

    # -- hooks -------------------------------------------------------------------------------------------------

    async def add_hook(self, hook: Hook) -> Hook:
        await self._vault.ready(self, hook.tenant)

        def work(connection: apsw.Connection) -> int:
            now = self._now()
            values = (hook.tenant, *self._hook_rows.values(hook), now, now)
            hook_id = int(connection.execute(self._sql["insert_hook"], values).get)
            connection.execute(
                self._sql["seal_hook"], (self._hook_rows.sealed_secrets(hook, hook_id), hook_id)
            )
            connection.execute(self._sql["raise_hooks_revision"])
            return hook_id

        hook_id = await self._write(work)
        return await self._stored(hook.tenant, hook_id)

    async def replace_hook(self, hook: Hook) -> Hook | None:
        await self._vault.ready(self, hook.tenant)

        def work(connection: apsw.Connection) -> bool:
            values = (
                *self._hook_rows.values(hook),
                self._hook_rows.sealed_secrets(hook, hook.id),
                self._now(),
                hook.tenant,
                hook.id,
            )
            return self._change_remembered(connection, "update_hook", values)

        return await self._stored(hook.tenant, hook.id) if await self._write(work) else None

    async def remove_hook(self, tenant: str, hook_id: int) -> Hook | None:
        hook = await self.get_hook(tenant, hook_id)

        def work(connection: apsw.Connection) -> bool:
            return self._change_remembered(connection, "delete_hook", (tenant, hook_id))

        return hook if await self._write(work) else None

    async def set_failing_since(self, tenant: str, hook_id: int, since_ms: int | None) -> bool:
        values = (since_ms, tenant, hook_id)
        return await self._write(
            lambda connection: self._change_remembered(connection, "set_failing_since", values)
        )

    async def get_hook(self, tenant: str, hook_id: int) -> Hook | None:
        found = await self._rows("get_hook", (tenant, hook_id))
        return self._hook_rows.to_hook(found[0]) if found else None

    async def list_hooks(self, tenant: str | None = None) -> Sequence[Hook]:
        return [self._hook_rows.to_hook(row) for row in await self._rows("list_hooks", (tenant,))]

    async def hooks_revision(self) -> int:
        return int((await self._rows("hooks_revision", ()))[0][0])

    # -- the members that share it: whoever holds the database's lock is alone ----------------------------------

    async def attend(self, member: Member, *, wanted: Collection[int], alive_seconds: float) -> Attendance:
        return Attendance(members=(member,), segments=frozenset(wanted))

    async def leave(self, member: Member) -> None:
        return None

    async def announce(self) -> None:
        return None

    def on_announcement(self, wake: Callable[[], None]) -> None:
        return None

    # -- the store itself --------------------------------------------------------------------------------------

    async def end_leases(self) -> None:
        """Make due whatever is leased. Whoever holds the database's lock knows that nobody else is alive to hold a lease."""
        await self._change("end_leases", lambda now: (now, now))

    async def check(self) -> None:
        await self._rows("has_users", ())
        await self._write(lambda connection: None)

    async def close(self) -> None:
        await self._close()

    async def _stored(self, tenant: str, hook_id: int) -> Hook:
        hook = await self.get_hook(tenant, hook_id)
        if hook is None:
            raise StoreUnavailable(f"Hook {hook_id} was deleted while it was being written.")
        return hook
