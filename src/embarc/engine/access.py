"""Access: who is calling. HTTP Basic (RFC 7617) against users with argon2id hashes, Bearer (RFC 6750) against API keys.

Whoever guesses is slowed down: by account and address, by address, and by account from everywhere. A credential that was
right a moment ago is not: nobody can lock somebody else out of a running session by guessing.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from embarc.core.access import ALL_FUNCTIONS, ApiKey, Caller, User
from embarc.core.errors import Forbidden, NotFound, TooManyRequests, Unauthenticated
from embarc.core.throttle import Throttle
from embarc.store.base import Store

DEFAULT_TENANT = "default"
TENANT_HEADER = "fineract-platform-tenantid"
KEY_PREFIX = "emk_"
_KEY = re.compile(r"emk_([0-9a-f]{16})_([A-Za-z0-9_-]{43})\Z")
_USED_EVERY_SECONDS = 60.0
_REMEMBER_SECONDS = 60.0
_REMEMBER = 1000


class Access:
    """Checks credentials. A password's hash costs 50 ms on purpose, so an accepted credential is remembered a while."""

    def __init__(
        self, store: Store, *, monotonic: Callable[[], float], clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._clock = clock
        self._throttles = (Throttle(5), Throttle(20), Throttle(50))
        self._monotonic = monotonic
        self._hasher = PasswordHasher()
        self._nobodys_hash = ""
        self._pepper = os.urandom(32)
        self._accepted: dict[bytes, tuple[Caller, float]] = {}
        self._checking: dict[tuple[bytes, str], asyncio.Task[tuple[Caller, float]]] = {}

    async def authenticate(self, headers: Mapping[str, str], client: str = "") -> Caller:
        """The caller behind an `Authorization` header that came from the address `client`.

        A user is one of a tenant: with a password the tenant header is a part of the name, and in the other tenant that
        user does not exist. A key says itself whose it is, and a header that names another tenant is refused.

        Raises `Unauthenticated`, `TooManyRequests` after too many wrong ones, `Forbidden` for another tenant's header.
        """
        tenant = headers.get(TENANT_HEADER)
        caller = await self._caller(headers.get("authorization", ""), tenant or DEFAULT_TENANT, client)
        if tenant is not None and tenant != caller.tenant:
            raise Forbidden("The tenant header names another tenant than the credential belongs to.")
        return caller

    async def create_key(
        self,
        tenant: str,
        name: str,
        permissions: frozenset[str],
        created_by: str,
        expires_at_ms: int | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key for a program. Returns it and its text, to be shown once."""
        key_id = os.urandom(8).hex()
        text = f"{KEY_PREFIX}{key_id}_{base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip('=')}"
        key = ApiKey(
            tenant=tenant,
            key_id=key_id,
            name=name,
            digest=hashlib.sha256(text.encode()).digest(),
            permissions=permissions,
            created_by=created_by,
            expires_at_ms=expires_at_ms,
        )
        await self._store.add_api_key(key)
        return key, text

    async def revoke_key(self, tenant: str, key_id: str) -> None:
        """Make a key worthless at once; raises `NotFound`."""
        if not await self._store.revoke_api_key(tenant, key_id):
            raise NotFound.resource(
                "error.msg.apikey.identifier.not.found",
                f"API key with identifier `{key_id[:50]}` does not exist",
                key_id[:50],
            )
        self.forget()

    async def create_admin(self, password: str) -> bool:
        """Make the user `admin` of the default tenant where nobody can sign in yet."""
        if await self._store.has_users():
            return False
        await self.add_admin(await self.hash_password(password))
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

    async def hash_password(self, password: str) -> str:
        """The argon2id hash of a password, to be stored."""
        return await asyncio.to_thread(self._hasher.hash, password)

    def forget(self) -> None:
        """Whoever is remembered has to show that the credential is still good: one of them was changed."""
        self._accepted.clear()

    async def _caller(self, authorization: str, tenant: str, client: str) -> Caller:
        # Only a keyed digest of the credential stays in memory.
        told = f"{tenant}\n{authorization}".encode("latin-1", "replace")
        digest = hashlib.blake2b(told, key=self._pepper, digest_size=16).digest()
        remembered = self._accepted.get(digest)
        if remembered and self._monotonic() < remembered[1]:
            return remembered[0]
        caller, seconds = await self._check_once((digest, client), authorization, tenant)
        while len(self._accepted) >= _REMEMBER:
            del self._accepted[next(iter(self._accepted))]
        self._accepted[digest] = (caller, self._monotonic() + seconds)
        return caller

    async def _check_once(
        self, whose: tuple[bytes, str], authorization: str, tenant: str
    ) -> tuple[Caller, float]:
        """The check of this credential from this address: of all who wait for one at a time there is one.

        Otherwise each connection of a busy client would cost a hash after a restart, and none be answered for seconds.
        """
        checking = self._checking.get(whose)
        if checking is None:
            checking = asyncio.create_task(self._check(authorization, whose[1], tenant))
            self._checking[whose] = checking
            checking.add_done_callback(lambda _: self._checking.pop(whose))
        return await asyncio.shield(checking)  # whoever goes away does not take it from the others

    async def _check(self, authorization: str, client: str, tenant: str) -> tuple[Caller, float]:
        """The caller, and for how many seconds that may be remembered."""
        scheme, _, credential = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return await self._key_holder(credential.strip(), client)
        username, password = _basic(authorization)
        return await self.sign_in(username, password, client, tenant), _REMEMBER_SECONDS

    async def sign_in(
        self, username: str, password: str, client: str = "", tenant: str = DEFAULT_TENANT
    ) -> Caller:
        """The user with this password; raises `Unauthenticated`, the same for an unknown name, or `TooManyRequests`."""
        names = (f"{tenant}/{username}@{client}", f"@{client}", f"{tenant}/{username}")
        self._check_throttles(names)
        # An unknown user costs the same work as a wrong password; the hash for that is made with whoever comes first.
        if not self._nobodys_hash:
            self._nobodys_hash = await self.hash_password(os.urandom(16).hex())
        user = await self._store.get_user(tenant, username)
        matches = await asyncio.to_thread(
            self._matches, user.password_hash if user else self._nobodys_hash, password
        )
        if user is None or not matches:
            self._note_failure(names)
            raise Unauthenticated("The user name or the password is wrong.")
        self._throttles[0].succeeded(names[0])
        return Caller(
            tenant=user.tenant,
            user_id=user.id,
            username=user.username,
            full_name=user.full_name,
            office_id=user.office_id,
            permissions=user.permissions,
        )

    async def _key_holder(self, text: str, client: str) -> tuple[Caller, float]:
        """Whoever holds this key, and for how many seconds that may be remembered."""
        names = (f"{KEY_PREFIX}@{client}", f"@{client}", "")
        self._check_throttles(names[:2])
        found = _KEY.match(text)
        key = await self._store.get_api_key(found[1]) if found else None
        given = hashlib.sha256(text.encode("utf-8", "replace")).digest()
        is_right = hmac.compare_digest(given, key.digest if key else bytes(32))
        left = _REMEMBER_SECONDS
        if key is not None and key.expires_at_ms is not None:
            left = min(left, key.expires_at_ms / 1000 - self._clock())
        if key is None or not is_right or key.revoked_at_ms is not None or left <= 0:
            self._note_failure(names[:2])
            raise Unauthenticated("The API key is wrong, was revoked, or has expired.")
        if self._clock() - (key.last_used_at_ms or 0) / 1000 > _USED_EVERY_SECONDS:
            await self._store.use_api_key(key.key_id)
        caller = Caller(
            tenant=key.tenant,
            user_id=0,
            username=f"key:{key.name}",
            full_name=key.name,
            office_id=1,
            permissions=key.permissions,
        )
        return caller, left

    def _check_throttles(self, names: Sequence[str]) -> None:
        now = self._monotonic()
        wait = max(throttle.wait(name, now) for throttle, name in zip(self._throttles, names, strict=False))
        if wait > 0:
            raise TooManyRequests(
                "Too many wrong credentials. Wait a little before the next try.",
                retry_after_seconds=math.ceil(wait),
            )

    def _note_failure(self, names: Sequence[str]) -> None:
        now = self._monotonic()
        for throttle, name in zip(self._throttles, names, strict=False):
            throttle.failed(name, now)

    def _matches(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False


def _basic(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise Unauthenticated(
            "Send a user name and password with HTTP Basic authentication, or an API key as Bearer."
        )
    try:
        username, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise Unauthenticated("The Authorization header is not valid Basic authentication.") from None
    if not colon:
        raise Unauthenticated("The Authorization header is not valid Basic authentication.")
    return username, password
