"""Access: who is calling. HTTP Basic (RFC 7617) against users with argon2id hashes."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
from collections.abc import Callable, Mapping

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from embarc.core.access import ALL_FUNCTIONS, Caller, User
from embarc.core.errors import Forbidden, Unauthenticated
from embarc.store.base import Store

DEFAULT_TENANT = "default"
TENANT_HEADER = "fineract-platform-tenantid"
_REMEMBER_SECONDS = 60.0
_REMEMBER = 1000


class Access:
    """Checks credentials. A password's hash costs 50 ms on purpose, so an accepted credential is remembered a while."""

    def __init__(self, store: Store, *, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._monotonic = monotonic
        self._hasher = PasswordHasher()
        self._nobodys_hash = ""
        self._pepper = os.urandom(32)
        self._accepted: dict[bytes, tuple[Caller, float]] = {}

    async def authenticate(self, headers: Mapping[str, str]) -> Caller:
        """The caller behind an `Authorization: Basic` header; raises `Unauthenticated`, `Forbidden` for another tenant."""
        caller = await self._caller(headers.get("authorization", ""))
        tenant = headers.get(TENANT_HEADER)
        if tenant is not None and tenant != caller.tenant:
            raise Forbidden("The tenant header names another tenant than the credential belongs to.")
        return caller

    async def create_admin(self, password: str) -> bool:
        """Make the user `admin` of the default tenant where nobody can sign in yet."""
        if await self._store.has_users():
            return False
        await self.add_admin(await asyncio.to_thread(self._hasher.hash, password))
        return True

    async def add_admin(self, password_hash: str) -> None:
        """Store the user `admin` with this argon2id hash."""
        await self._store.add_user(
            User(
                tenant=DEFAULT_TENANT,
                id=0,
                username="admin",
                full_name="App Administrator",
                office_id=1,
                permissions=frozenset({ALL_FUNCTIONS}),
                password_hash=password_hash,
            )
        )

    async def _caller(self, authorization: str) -> Caller:
        # Only a keyed digest of the credential stays in memory.
        digest = hashlib.blake2b(
            authorization.encode("latin-1", "replace"), key=self._pepper, digest_size=16
        ).digest()
        remembered = self._accepted.get(digest)
        if remembered and self._monotonic() < remembered[1]:
            return remembered[0]
        username, password = _basic(authorization)
        user = await self._store.get_user(DEFAULT_TENANT, username)
        # An unknown user costs the same time as a wrong password.
        if not user and not self._nobodys_hash:
            self._nobodys_hash = await asyncio.to_thread(self._hasher.hash, os.urandom(16).hex())
        matches = await asyncio.to_thread(
            self._matches, user.password_hash if user else self._nobodys_hash, password
        )
        if user is None or not matches:
            raise Unauthenticated("The user name or the password is wrong.")
        caller = Caller(
            tenant=user.tenant,
            user_id=user.id,
            username=user.username,
            full_name=user.full_name,
            office_id=user.office_id,
            permissions=user.permissions,
        )
        while len(self._accepted) >= _REMEMBER:
            del self._accepted[next(iter(self._accepted))]
        self._accepted[digest] = (caller, self._monotonic() + _REMEMBER_SECONDS)
        return caller

    def _matches(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False


def _basic(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise Unauthenticated("Send a user name and password with HTTP Basic authentication.")
    try:
        username, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise Unauthenticated("The Authorization header is not valid Basic authentication.") from None
    if not colon:
        raise Unauthenticated("The Authorization header is not valid Basic authentication.")
    return username, password
