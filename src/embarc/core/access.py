"""Who is calling, and what they may do."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from embarc.core.events import Author

SHORTEST_PASSWORD = 12
"""Characters of an operator's password."""
ALL_FUNCTIONS = "ALL_FUNCTIONS"
"""Fineract's permission that stands for every other."""


ALL_READING = "ALL_FUNCTIONS_READ"
"""Fineract's permission that stands for every `READ_...`; here for all but those about who may call and who did what."""
ABOUT_ACCESS = frozenset(
    {"READ_APIKEY", "READ_AUDIT", "READ_INLET", "READ_OPERATOR", "READ_PERMISSION", "READ_TENANT"}
)
"""What reads about access: each has to be given by name."""

ROLES: dict[str, tuple[str, ...]] = {
    "administrator": (ALL_FUNCTIONS,),
    "operator": (ALL_READING, "OPERATE_HOOK", "UPDATE_DELIVERY", "CREATE_REPLAY"),
    "viewer": (ALL_READING,),
    "auditor": ("READ_AUDIT", "READ_APIKEY", "READ_INLET", "READ_OPERATOR", "READ_HOOK"),
    "emitter": ("CREATE_EVENT",),
}
"""What each role may do, in Fineract's spelling of permissions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The authenticated user behind a request. The tenant comes from the credential, never from a header alone."""

    tenant: str
    user_id: int
    username: str
    full_name: str
    office_id: int
    permissions: frozenset[str]

    def may(self, permission: str) -> bool:
        """Whether the caller holds this permission."""
        return (
            permission in self.permissions
            or ALL_FUNCTIONS in self.permissions
            or (
                ALL_READING in self.permissions
                and permission.startswith("READ_")
                and permission not in ABOUT_ACCESS
            )
        )

    @property
    def author(self) -> Author:
        """The caller as an event's payload names them."""
        return Author(user_id=self.user_id, username=self.username, full_name=self.full_name)

    @staticmethod
    def nobody() -> Caller:
        """Whoever calls what is open to everybody."""
        return _NOBODY


_NOBODY = Caller(tenant="", user_id=0, username="", full_name="", office_id=0, permissions=frozenset())


def role_of(permissions: frozenset[str]) -> str | None:
    """The role that has exactly these permissions, or None."""
    return next((role for role, given in ROLES.items() if frozenset(given) == permissions), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody who can sign in. The password is kept as an argon2id hash (RFC 9106)."""

    tenant: str
    id: int
    username: str
    full_name: str
    office_id: int
    permissions: frozenset[str]
    password_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key of a program. Only the SHA-256 of its text is kept."""

    tenant: str
    key_id: str
    name: str
    digest: bytes = field(repr=False)
    permissions: frozenset[str]
    created_by: str
    created_at_ms: int = 0
    expires_at_ms: int | None = None
    last_used_at_ms: int | None = None
    revoked_at_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One change: who did what to what, and how it was before and after, in JSON without secrets."""

    tenant: str
    number: int = 0
    at_ms: int = 0
    username: str
    action: str
    resource_id: str = ""
    before: str = ""
    after: str = ""
    digest: bytes = b""
    """Of this entry and the digest of the one before it."""

    def chained(self, previous: bytes) -> bytes:
        """The digest that this entry must have after one with the digest `previous`."""
        told = (
            self.tenant,
            self.number,
            self.at_ms,
            self.username,
            self.action,
            self.resource_id,
            self.before,
            self.after,
        )
        return hashlib.sha256(previous + json.dumps(told, separators=(",", ":")).encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditHead:
    """Where a tenant's chain ends: the number and digest of the last entry, signed with a key that the store has not."""

    tenant: str
    number: int
    digest: bytes
    signature: bytes


def broken_links(
    entries: Iterable[AuditEntry], heads: Iterable[AuditHead], sign: Callable[[str, int, bytes], bytes]
) -> Iterator[str]:
    """What is wrong with chains of entries, ordered by tenant and number: whatever was changed or taken out.

    `sign` gives the signature that a head must have. Each digest covers the one before, so a head that is signed vouches
    for the whole chain, and for where it ends.
    """
    ends: dict[str, tuple[int, bytes]] = {}
    tenant, number, previous = "", 0, b""
    for entry in entries:
        if entry.tenant != tenant:
            tenant, number, previous = entry.tenant, 0, b""
        number += 1
        if entry.number != number:
            yield f"tenant {tenant}: entry {number} is missing"
            number = entry.number
        elif not hmac.compare_digest(entry.digest, entry.chained(previous)):
            yield f"tenant {tenant}: entry {number} was changed, or the one before it"
        previous = entry.digest
        ends[tenant] = (number, previous)
    for head in heads:
        last, digest = ends.pop(head.tenant, (0, b""))
        if not hmac.compare_digest(head.signature, sign(head.tenant, head.number, head.digest)):
            yield f"tenant {head.tenant}: the signature of the log's end is wrong"
        elif last < head.number:
            yield f"tenant {head.tenant}: {head.number - last} entries are missing at the end, after entry {last}"
        elif last > head.number or not hmac.compare_digest(digest, head.digest):
            yield f"tenant {head.tenant}: the log does not end with what was signed as its end, entry {head.number}"
    for tenant in ends:
        yield f"tenant {tenant}: the signature of the log's end is missing"
