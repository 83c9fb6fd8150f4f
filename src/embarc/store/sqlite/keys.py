"""Data keys in SQLite, and the places of what is sealed with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw

from embarc.core.errors import SettingsError
from embarc.store import rows
from embarc.store.base import DataKey, Sealed
from embarc.store.queries import load_queries
from embarc.store.sqlite.database import PACKAGE, Database
from embarc.store.sqlite.writer import connect
from embarc.store.vault import INSTALLATION, Vault


class StoreKeys(Database):
    """Keys that are wrapped, and values that are sealed."""

    _vault: Vault

    async def list_data_keys(self) -> Sequence[DataKey]:
        return [rows.to_data_key(row) for row in await self._rows("list_data_keys", ())]

    async def add_data_key(self, key: DataKey) -> bool:
        def work(connection: apsw.Connection) -> bool:
            values = (key.key_id, key.tenant, key.wrapped, key.wrapped_by, self._now())
            if connection.execute(self._sql["insert_data_key"], values).get is None:
                return False
            if key.tenant == INSTALLATION:
                unsigned: list[Any] = connection.execute(self._sql["unsigned_audit_heads"]).fetchall()
                for tenant, number, digest in unsigned:
                    self._put_head(connection, tenant, number, digest)
            return True

        return await self._write(work)

    async def rewrap_data_keys(self, keys: Sequence[DataKey]) -> bool:
        def work(connection: apsw.Connection) -> bool:
            if connection.execute(self._sql["count_data_keys"]).get != len(keys):
                return False
            for key in keys:
                connection.execute(self._sql["rewrap_data_key"], (key.wrapped, key.wrapped_by, key.key_id))
            return True

        return await self._write(work)

    async def succeed_data_keys(self, keys: Sequence[DataKey]) -> None:
        def work(connection: apsw.Connection) -> None:
            for key in keys:
                connection.execute(self._sql["retire_data_key"], (key.tenant,))
                values = (key.key_id, key.tenant, key.wrapped, key.wrapped_by, self._now())
                connection.execute(self._sql["insert_data_key"], values)

        await self._write(work)

    async def list_stale_seals(self, *, limit: int) -> Sequence[Sealed]:
        return [rows.to_sealed(row) for row in await self._rows("list_stale_seals", (limit,))]

    async def replace_seal(self, sealed: Sealed, value: bytes) -> bool:
        return await self._change(
            f"replace_seal_in_{sealed.table}", lambda now: (value, sealed.row, sealed.value)
        )

    async def remove_retired_data_keys(self) -> int:
        def work(connection: apsw.Connection) -> int:
            connection.execute(self._sql["remove_retired_data_keys"])
            return connection.changes()

        return await self._write(work)

    def _put_head(self, connection: apsw.Connection, tenant: str, number: int, digest: bytes) -> None:
        signature = self._vault.sign_head(tenant, number, digest)
        connection.execute(self._sql["put_audit_head"], (tenant, number, digest, signature))


def read_data_keys(path: Path) -> Sequence[DataKey]:
    """The data keys of a database, read beside whoever has it open; raises `SettingsError` where there can be none yet."""
    connection = connect(path, read_only=True)
    try:
        return [rows.to_data_key(row) for row in connection.execute(load_queries(PACKAGE)["list_data_keys"])]
    except apsw.SQLError:
        raise SettingsError(
            f"{path} was made by an older Embarc. Start this one on it once, then try again."
        ) from None
    finally:
        connection.close()
