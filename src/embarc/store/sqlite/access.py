"""Access in SQLite: users, keys of programs, tenants, and the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import apsw
import msgspec

from embarc.core.access import ApiKey, AuditEntry, AuditHead, User
from embarc.store import rows
from embarc.store.queries import load_queries
from embarc.store.sqlite.database import PACKAGE
from embarc.store.sqlite.keys import StoreKeys
from embarc.store.sqlite.writer import connect


class StoreAccess(StoreKeys):
    """Who may do what, and who did."""

    async def add_user(self, user: User) -> User | None:
        def work(connection: apsw.Connection) -> bool:
            permissions = msgspec.json.encode(sorted(user.permissions)).decode()
            values = (
                user.tenant,
                user.username,
                user.full_name,
                user.office_id,
                permissions,
                user.password_hash,
            )
            return connection.execute(self._sql["insert_user"], (*values, self._now())).get is not None

        return await self.get_user(user.tenant, user.username) if await self._write(work) else None

    async def get_user(self, tenant: str, username: str) -> User | None:
        found = await self._rows("get_user", (tenant, username))
        return rows.to_user(found[0]) if found else None

    async def list_users(self, tenant: str) -> Sequence[User]:
        return [rows.to_user(row) for row in await self._rows("list_users", (tenant,))]

    async def replace_user(self, user: User) -> bool:
        permissions = msgspec.json.encode(sorted(user.permissions)).decode()
        values = (user.full_name, user.office_id, permissions, user.password_hash, user.tenant, user.id)
        return await self._change_and_tell("update_user", lambda now: values)

    async def remove_user(self, tenant: str, user_id: int) -> bool:
        return await self._change_and_tell("delete_user", lambda now: (tenant, user_id))

    async def has_users(self) -> bool:
        return bool((await self._rows("has_users", ()))[0][0])

    async def add_tenant(self, name: str, display_name: str) -> bool:
        def work(connection: apsw.Connection) -> bool:
            values = (name, display_name, self._now())
            return connection.execute(self._sql["insert_tenant"], values).get is not None

        return await self._write(work)

    async def list_tenants(self) -> Sequence[tuple[str, str, int]]:
        return [
            (name, display_name, at_ms) for name, display_name, at_ms in await self._rows("list_tenants", ())
        ]

    async def add_api_key(self, key: ApiKey) -> None:
        values = (
            key.key_id,
            key.tenant,
            key.name,
            key.digest,
            msgspec.json.encode(sorted(key.permissions)).decode(),
            key.created_by,
        )
        await self._change("insert_api_key", lambda now: (*values, now, key.expires_at_ms))

    async def get_api_key(self, key_id: str) -> ApiKey | None:
        found = await self._rows("get_api_key", (key_id,))
        return rows.to_api_key(found[0]) if found else None

    async def list_api_keys(self, tenant: str) -> Sequence[ApiKey]:
        return [rows.to_api_key(row) for row in await self._rows("list_api_keys", (tenant,))]

    async def revoke_api_key(self, tenant: str, key_id: str) -> bool:
        return await self._change_and_tell("revoke_api_key", lambda now: (now, tenant, key_id))

    async def use_api_key(self, key_id: str) -> None:
        await self._change("use_api_key", lambda now: (now, key_id))

    async def append_audit(self, entry: AuditEntry) -> AuditEntry:
        def work(connection: apsw.Connection) -> AuditEntry:
            last = connection.execute(self._sql["last_audit"], (entry.tenant,)).fetchone()
            number, previous = (last[0] + 1, last[1]) if last else (1, b"")
            numbered = replace(entry, number=number, at_ms=self._now())
            chained = replace(numbered, digest=numbered.chained(previous))
            connection.execute(self._sql["insert_audit"], rows.audit_values(chained))
            self._put_head(connection, chained.tenant, chained.number, chained.digest)
            return chained

        return await self._write(work)

    async def list_audits(self, tenant: str, *, before: int, limit: int) -> Sequence[AuditEntry]:
        return [rows.to_audit(row) for row in await self._rows("list_audits", (tenant, before, limit))]


def read_audits(path: Path) -> tuple[Sequence[AuditEntry], Sequence[AuditHead]]:
    """Everybody's entries by tenant and number, and the heads, read beside whoever has the database open."""
    connection, queries = connect(path, read_only=True), load_queries(PACKAGE)
    try:
        with connection:  # one snapshot of both
            entries = [rows.to_audit(row) for row in connection.execute(queries["all_audits"])]
            heads = [rows.to_audit_head(row) for row in connection.execute(queries["list_audit_heads"])]
        return entries, heads
    finally:
        connection.close()
