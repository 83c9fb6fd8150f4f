"""Secrets at rest: AES-256-GCM under a data key for each tenant, bound to the row they belong to.

The data keys are random, lie in the store wrapped by the installation's key (`keys.py`), and are opened once. So another
key for the installation means to wrap a few data keys anew, and nothing else is touched.

A sealed value is `format (1) | data key id (8) | nonce (12) | ciphertext and tag`. The associated data names format, data
key, tenant, table, row and column: a ciphertext that is copied to another row, or to another tenant, does not open (NIST SP
800-38D). A random nonce is good for 2^32 values under one key; a tenant's hooks do not change that often.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from embarc.core.errors import Conflict
from embarc.store.base import DataKey, DataKeys
from embarc.store.keys import KEY_BYTES, NONCE_BYTES, CannotOpen, KeyFile, LocalKey, WrappingKey

INSTALLATION = ""
"""The tenant of the one data key that is nobody's: it fingerprints secrets and signs the heads of the audit log."""
_FORMAT = b"\x02"
_ID_BYTES = 8
_PAGE = 100


class Vault:
    """Seals and opens. `unlock` comes first, and `ready` before something of a tenant is sealed for the first time."""

    def __init__(self, wrapping: WrappingKey) -> None:
        self._wrapping = wrapping
        self._ciphers: dict[bytes, AESGCM] = {}
        self._active: dict[str, bytes] = {}
        self._fingerprint_key = self._signing_key = b""
        self._making = asyncio.Lock()

    @classmethod
    def from_file(cls, path: Path) -> Vault:
        """A vault whose installation's key is in this file, made on first use."""
        return cls(KeyFile(path) if KeyFile.is_at(path) else KeyFile.make(path))

    @property
    def wrapping(self) -> WrappingKey:
        """The installation's key."""
        return self._wrapping

    async def unlock(self, store: DataKeys) -> None:
        """Open the store's data keys, and seal anew whatever is not under one that is in force. Raises `CannotOpen`."""
        await self.learn(await store.list_data_keys())
        await self.ready(store, INSTALLATION)
        await self._seal_anew(store)

    async def learn(self, keys: Sequence[DataKey]) -> None:
        """Open these data keys, all that the store has. Raises `CannotOpen`."""
        plain = await self._unwrap(keys)
        # Replaced as a whole: the store's writer seals in a thread of its own.
        self._ciphers = {key.key_id: AESGCM(one) for key, one in zip(keys, plain, strict=True)}
        self._active = {key.tenant: key.key_id for key in keys if not key.is_retired}
        for key, one in zip(keys, plain, strict=True):
            if key.tenant == INSTALLATION:
                self._derive(one)
        if keys and INSTALLATION not in self._active:
            raise CannotOpen(
                "The installation's own data key is missing from the store: its table of data keys was tampered with, or "
                "restored in part. Restore the whole database."
            )

    async def ready(self, store: DataKeys, tenant: str) -> None:
        """Let the tenant have a data key, made where there is none; costs nothing where it is known already."""
        if tenant in self._active:
            return
        async with self._making:
            if tenant in self._active:
                return
            key, plain = await self._new_key(tenant)
            if tenant == INSTALLATION:
                self._derive(plain)  # before it is stored: storing it signs what is not signed yet
            if await store.add_data_key(key):  # only now may anything be sealed with it
                self._ciphers[key.key_id] = AESGCM(plain)
                self._active[tenant] = key.key_id
            else:
                await self.learn(await store.list_data_keys())

    async def know(self, store: DataKeys, sealed: Iterable[bytes]) -> None:
        """Read the data keys again where one of these values is under a key that another process has made since."""
        if any(one[1 : 1 + _ID_BYTES] not in self._ciphers for one in sealed):
            await self.learn(await store.list_data_keys())

    def seal(self, plain: bytes, tenant: str, *place: object) -> bytes:
        """`plain`, readable again only under this tenant, table, row and column."""
        key_id = self._active[tenant]
        nonce = os.urandom(NONCE_BYTES)
        bound = _bind(key_id, tenant, place)
        return _FORMAT + key_id + nonce + self._ciphers[key_id].encrypt(nonce, plain, bound)

    def open(self, sealed: bytes, tenant: str, *place: object) -> bytes:
        """What was sealed under this context; raises `CannotOpen`."""
        key_id, start = bytes(sealed[1 : 1 + _ID_BYTES]), 1 + _ID_BYTES + NONCE_BYTES
        cipher = self._ciphers.get(key_id)
        if sealed[:1] != _FORMAT or cipher is None:
            raise CannotOpen
        try:
            nonce = sealed[1 + _ID_BYTES : start]
            return cipher.decrypt(nonce, sealed[start:], _bind(key_id, tenant, place))
        except (InvalidTag, ValueError):
            raise CannotOpen from None

    def fingerprint(self, plain: str) -> str:
        """Tells whether two secrets are the same, and nothing else about them, to whoever has not the key."""
        return hmac.digest(self._fingerprint_key, plain.encode(), "sha256").hex()[:16]

    def sign_head(self, tenant: str, number: int, digest: bytes) -> bytes:
        """A code that says: so many entries has this tenant's audit log, and this is the digest of the last."""
        told = json.dumps([tenant, number, digest.hex()]).encode()
        return hmac.digest(self._signing_key, told, "sha256")

    async def rewrap(self, store: DataKeys, wrapping: WrappingKey) -> int:
        """Let another key wrap the data keys; returns how many. Nothing that they seal is touched."""
        keys = await store.list_data_keys()
        wrapped = await wrapping.wrap(await self._unwrap(keys))
        changed = [
            replace(key, wrapped=one, wrapped_by=wrapping.key_id)
            for key, one in zip(keys, wrapped, strict=True)
        ]
        if not await store.rewrap_data_keys(changed):
            raise Conflict("The data keys were changed meanwhile by another process. Stop it and try again.")
        self._wrapping = wrapping
        return len(changed)

    async def rotate_data_keys(self, store: DataKeys) -> tuple[int, int]:
        """Give every tenant a new data key and seal everything anew; returns how many keys and how many values.

        Goes on where an earlier rotation was interrupted. The installation's own key stays: nothing is sealed with it.
        """
        keys = await store.list_data_keys()
        successors = []
        if not any(key.is_retired for key in keys):
            made = [await self._new_key(key.tenant) for key in keys if key.tenant != INSTALLATION]
            successors = [key for key, _ in made]
            await store.succeed_data_keys(successors)
            await self.learn(await store.list_data_keys())
        return len(successors), await self._seal_anew(store)

    async def _seal_anew(self, store: DataKeys) -> int:
        count = 0
        while stale := await store.list_stale_seals(limit=_PAGE):
            for one in stale:
                await self.ready(store, one.tenant)
                place = (one.tenant, one.table, one.row, one.column)
                if await store.replace_seal(one, self.seal(self._open_any(one.value, place), *place)):
                    count += 1
        await store.remove_retired_data_keys()
        return count

    def _open_any(self, sealed: bytes, place: tuple[str, str, int | str, str]) -> bytes:
        if sealed[:1] == _FORMAT or not isinstance(self._wrapping, LocalKey):
            return self.open(sealed, *place)
        return self._wrapping.open_first_format(sealed, place)

    async def _unwrap(self, keys: Sequence[DataKey]) -> Sequence[bytes]:
        try:
            plain = await self._wrapping.unwrap([key.wrapped for key in keys])
        except CannotOpen as error:
            wrapped_by = ", ".join(sorted({key.wrapped_by for key in keys}))
            if wrapped_by == self._wrapping.key_id:
                raise
            own = self._wrapping
            given = f"the one from {own.source} is {own.key_id}" if isinstance(own, LocalKey) else str(error)
            raise CannotOpen(
                f"The secrets in this store are protected by the key {wrapped_by}; {given.rstrip('.')}. Start Embarc with the "
                "key that belongs to this store."
            ) from None
        if any(_id_of(one) != key.key_id for key, one in zip(keys, plain, strict=True)):
            raise CannotOpen(f"What {self._wrapping.source} unwraps is not what was wrapped.")
        return plain

    async def _new_key(self, tenant: str) -> tuple[DataKey, bytes]:
        plain = os.urandom(KEY_BYTES)
        (wrapped,) = await self._wrapping.wrap([plain])
        key = DataKey(tenant=tenant, key_id=_id_of(plain), wrapped=wrapped, wrapped_by=self._wrapping.key_id)
        return key, plain

    def _derive(self, plain: bytes) -> None:
        self._fingerprint_key = hmac.digest(plain, b"embarc fingerprints", "sha256")
        self._signing_key = hmac.digest(plain, b"embarc heads of the audit log", "sha256")


def _id_of(key: bytes) -> bytes:
    """Says which key it is: also whether the right one came out of its wrapping."""
    return hashlib.sha256(b"embarc data key id" + key).digest()[:_ID_BYTES]


def _bind(key_id: bytes, tenant: str, place: tuple[object, ...]) -> bytes:
    return json.dumps([_FORMAT[0], key_id.hex(), tenant, *map(str, place)]).encode()
