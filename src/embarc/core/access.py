"""Who is calling, and what they may do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from embarc.core.events import Author

ALL_FUNCTIONS = "ALL_FUNCTIONS"
"""Fineract's permission that stands for every other."""


_READING = (
    "READ_HOOK",
    "READ_EVENT",
    "READ_DELIVERY",
    "READ_REPLAY",
    "READ_CLIENT",
    "READ_OFFICE",
    "READ_STAFF",
    "READ_USER",
    "READ_ROLE",
    "READ_CODE",
    "READ_CODEVALUE",
    "READ_LOANPRODUCT",
    "READ_LOAN",
    "READ_LOANCHARGE",
    "READ_CHARGE",
)
ROLES: dict[str, tuple[str, ...]] = {
    "administrator": (ALL_FUNCTIONS,),
    "operator": (*_READING, "OPERATE_HOOK", "UPDATE_DELIVERY", "CREATE_REPLAY"),
    "viewer": _READING,
    "auditor": ("READ_AUDIT", "READ_APIKEY", "READ_HOOK"),
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
        return permission in self.permissions or ALL_FUNCTIONS in self.permissions

    @property
    def author(self) -> Author:
        """The caller as an event's payload names them."""
        return Author(user_id=self.user_id, username=self.username, full_name=self.full_name)

    @staticmethod
    def nobody() -> Caller:
        """Whoever calls what is open to everybody."""
        return _NOBODY


_NOBODY = Caller(tenant="", user_id=0, username="", full_name="", office_id=0, permissions=frozenset())


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


def broken_links(entries: Iterable[AuditEntry]) -> Iterator[str]:
    """What is wrong with chains of entries, ordered by tenant and number: whatever was changed or taken out."""
    tenant, number, previous = "", 0, b""
    for entry in entries:
        if entry.tenant != tenant:
            tenant, number, previous = entry.tenant, 0, b""
        number += 1
        if entry.number != number:
            yield f"tenant {tenant}: entry {number} is missing"
            number = entry.number
        elif entry.digest != entry.chained(previous):
            yield f"tenant {tenant}: entry {number} was changed, or the one before it"
        previous = entry.digest
