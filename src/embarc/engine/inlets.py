"""Inlets: made and revoked by operators, found by their secret."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Sequence

from embarc.core.errors import NotFound
from embarc.core.inlets import Inlet
from embarc.store.base import Store

_SECRET = re.compile(r"emi_[A-Za-z0-9_-]{22}\Z")


class Inlets:
    """The doors at which other systems' events come in."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(
        self, tenant: str, name: str, *, forwards_failures: bool, created_by: str
    ) -> tuple[Inlet, str]:
        """Make an inlet. Returns it and its secret, to be shown once.

        128 random bits, and not more: Fineract keeps the URL of a hook in 100 characters, and the host is in it too.
        """
        secret = "emi_" + base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
        inlet = Inlet(
            tenant=tenant,
            name=name,
            digest=_digest(secret),
            forwards_failures=forwards_failures,
            created_by=created_by,
        )
        return await self._store.add_inlet(inlet), secret

    async def find(self, secret: str) -> Inlet | None:
        """The inlet with this secret, or None."""
        return await self._store.get_inlet(_digest(secret)) if _SECRET.match(secret) else None

    async def list(self, tenant: str) -> Sequence[Inlet]:
        """The tenant's inlets, oldest first."""
        return await self._store.list_inlets(tenant)

    async def revoke(self, tenant: str, inlet_id: str) -> None:
        """Take an inlet away: its secret is worthless at once; raises `NotFound`."""
        is_number = inlet_id.isascii() and inlet_id.isdigit() and len(inlet_id) < 19
        if not is_number or not await self._store.remove_inlet(tenant, int(inlet_id)):
            raise NotFound.resource(
                "error.msg.inlet.identifier.not.found",
                f"Inlet with identifier `{inlet_id[:50]}` does not exist",
                inlet_id[:50],
            )


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
