"""Access in PostgreSQL: users, keys of programs, tenants, and the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import asyncpg
import msgspec

from embarc.core.access import ApiKey, AuditEntry, AuditHead, User
from embarc.core.errors import SettingsError
from embarc.store import rows
from embarc.store.postgres.connections import Address, Connection
from embarc.store.postgres.database import PACKAGE, connect
from embarc.store.postgres.keys import StoreKeys
from embarc.store.queries import load_queries


class StoreAccess(StoreKeys):
    """Who may do what, and who did."""

    async def add_user(self, user: User) -> User | None:
        values = (
            user.tenant,
            user.username,
            user.full_name,
            user.office_id,
            msgspec.json.encode(sorted(user.permissions)).decode(),
            user.password_hash,
        )
        is_new = await self._change("insert_user", self._now(), *values)
        return await self.get_user(user.tenant, user.username) if is_new else None

    async def get_user(self, tenant: str, username: str) -> User | None:
        found = await self._rows("get_user", tenant, username)
        return rows.to_user(found[0]) if found else None

    async def list_users(self, tenant: str) -> Sequence[User]:
        return [rows.to_user(row) for row in await self._rows("list_users", tenant)]

    async def replace_user(self, user: User) -> bool:
        permissions = msgspec.json.encode(sorted(user.permissions)).decode()
        values = (user.full_name, user.office_id, permissions, user.password_hash, user.tenant, user.id)
        return await self._change_and_tell("update_user", *values)

    async def remove_user(self, tenant: str, user_id: int) -> bool:
        return await self._change_and_tell("delete_user", tenant, user_id)

    async def has_users(self) -> bool:
        return bool((await self._rows("has_users"))[0][0])

    async def add_tenant(self, name: str, display_name: str) -> bool:
        return await self._change("insert_tenant", self._now(), name, display_name)

    async def list_tenants(self) -> Sequence[tuple[str, str, int]]:
        return [(name, display_name, at_ms) for name, display_name, at_ms in await self._rows("list_tenants")]

    async def add_api_key(self, key: ApiKey) -> None:
        permissions = msgspec.json.encode(sorted(key.permissions)).decode()
        values = (key.key_id, key.tenant, key.name, key.digest, permissions, key.created_by)
        await self._rows("insert_api_key", self._now(), *values, key.expires_at_ms)

    async def get_api_key(self, key_id: str) -> ApiKey | None:
        found = await self._rows("get_api_key", key_id)
        return rows.to_api_key(found[0]) if found else None

    async def list_api_keys(self, tenant: str) -> Sequence[ApiKey]:
        return [rows.to_api_key(row) for row in await self._rows("list_api_keys", tenant)]

    async def revoke_api_key(self, tenant: str, key_id: str) -> bool:
        return await self._change_and_tell("revoke_api_key", self._now(), tenant, key_id)

    async def use_api_key(self, key_id: str) -> None:
        await self._change("use_api_key", self._now(), key_id)

    async def append_audit(self, entry: AuditEntry) -> AuditEntry:
        async def work(connection: Connection) -> AuditEntry:
            last = await connection.fetchrow(self._sql["last_audit"], entry.tenant)
            number, previous = (last[0] + 1, bytes(last[1])) if last else (1, b"")
            now = await connection.fetchval(self._sql["now_ms"], self._now())
            numbered = replace(entry, number=number, at_ms=now)
            chained = replace(numbered, digest=numbered.chained(previous))
            await connection.execute(self._sql["insert_audit"], *rows.audit_values(chained))
            await self._put_head(connection, chained.tenant, chained.number, chained.digest)
            return chained

        while True:
            try:
                return await self._transaction(work)
            except asyncpg.UniqueViolationError:
                continue  # somebody else's entry came first: ours goes behind it

    async def list_audits(self, tenant: str, *, before: int, limit: int) -> Sequence[AuditEntry]:
        return [rows.to_audit(row) for row in await self._rows("list_audits", tenant, before, limit)]


async def read_audits(url: str) -> tuple[Sequence[AuditEntry], Sequence[AuditHead]]:
    """Everybody's entries by tenant and number, and the heads; raises `SettingsError` and `StoreUnavailable`."""
    connection, queries = await connect(Address.parse(url)), load_queries(PACKAGE)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):  # one snapshot of both
            entries = [rows.to_audit(row) for row in await connection.fetch(queries["all_audits"])]
            heads = [rows.to_audit_head(row) for row in await connection.fetch(queries["list_audit_heads"])]
        return entries, heads
    except asyncpg.UndefinedTableError:
        raise SettingsError("This database is not one of Embarc's: run `embarc migrate` first.") from None
    finally:
        await connection.close()
