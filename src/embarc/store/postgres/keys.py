"""Data keys in PostgreSQL, and the places of what is sealed with them."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from embarc.core.errors import SettingsError
from embarc.store import rows
from embarc.store.base import DataKey, Sealed
from embarc.store.postgres.connections import Address, Connection
from embarc.store.postgres.database import PACKAGE, Database, connect
from embarc.store.queries import load_queries
from embarc.store.vault import INSTALLATION, Vault


class StoreKeys(Database):
    """Keys that are wrapped, and values that are sealed."""

    _vault: Vault

    async def list_data_keys(self) -> Sequence[DataKey]:
        return [rows.to_data_key(row) for row in await self._rows("list_data_keys")]

    async def add_data_key(self, key: DataKey) -> bool:
        async def work(connection: Connection) -> bool:
            values = (key.key_id, key.tenant, key.wrapped, key.wrapped_by)
            if await connection.fetchval(self._sql["insert_data_key"], self._now(), *values) is None:
                return False
            if key.tenant == INSTALLATION:
                for tenant, number, digest in await connection.fetch(self._sql["unsigned_audit_heads"]):
                    await self._put_head(connection, tenant, number, bytes(digest))
            return True

        return await self._transaction(work)

    async def rewrap_data_keys(self, keys: Sequence[DataKey]) -> bool:
        async def work(connection: Connection) -> bool:
            there = {row[0] for row in await connection.fetch(self._sql["lock_data_keys"])}
            if there != {key.key_id for key in keys}:
                return False
            for key in keys:
                await connection.execute(
                    self._sql["rewrap_data_key"], key.wrapped, key.wrapped_by, key.key_id
                )
            return True

        return await self._transaction(work)

    async def succeed_data_keys(self, keys: Sequence[DataKey]) -> None:
        async def work(connection: Connection) -> None:
            for key in keys:
                await connection.execute(self._sql["retire_data_key"], key.tenant)
                values = (key.key_id, key.tenant, key.wrapped, key.wrapped_by)
                await connection.fetchval(self._sql["insert_data_key"], self._now(), *values)

        await self._transaction(work)

    async def list_stale_seals(self, *, limit: int) -> Sequence[Sealed]:
        return [rows.to_sealed(row) for row in await self._rows("list_stale_seals", limit)]

    async def replace_seal(self, sealed: Sealed, value: bytes) -> bool:
        return await self._change(f"replace_seal_in_{sealed.table}", value, sealed.row, sealed.value)

    async def remove_retired_data_keys(self) -> int:
        return len(await self._rows("remove_retired_data_keys"))

    async def _put_head(self, connection: Connection, tenant: str, number: int, digest: bytes) -> None:
        signature = self._vault.sign_head(tenant, number, digest)
        await connection.execute(self._sql["put_audit_head"], tenant, number, digest, signature)


async def read_data_keys(url: str) -> Sequence[DataKey]:
    """The data keys of a database; raises `SettingsError` where there can be none yet, and `StoreUnavailable`."""
    connection = await connect(Address.parse(url))
    try:
        found = await connection.fetch(load_queries(PACKAGE)["list_data_keys"])
        return [rows.to_data_key(row) for row in found]
    except asyncpg.UndefinedTableError:
        raise SettingsError("This database is not one of Embarc's: run `embarc migrate` first.") from None
    finally:
        await connection.close()
