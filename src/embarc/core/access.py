"""Who is calling, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass, field

from embarc.core.events import Author

ALL_FUNCTIONS = "ALL_FUNCTIONS"
"""Fineract's permission that stands for every other."""


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
