"""The hooks in memory: what publishing matches against and what delivering sends with.

A snapshot, replaced as a whole. Everything that is the same in every send to a hook is prepared here once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from embarc.core import envelopes
from embarc.core.events import EventKind
from embarc.core.hooks import Hook, Signature
from embarc.core.signatures import Signer
from embarc.engine.credentials import (
    Authenticator,
    authenticator,
    constant_credential_lines,
    public_key,
    sent_secrets,
    signing_function,
    tls_material,
)
from embarc.net.base import TlsMaterial
from embarc.store.base import Store


@dataclass(frozen=True, slots=True)
class Prepared:
    """A hook with what its sends have in common."""

    hook: Hook
    signer: Signer = field(repr=False)
    constant_lines: tuple[str, ...] = field(repr=False)  # they carry credentials
    why_held: str
    """Why the hook may not receive; empty where it may."""
    secrets: tuple[bytes, ...] = field(repr=False)
    """What an answer must not show in the log: values that are sent, and what they are made of."""
    authenticator: Authenticator | None = field(repr=False, default=None)
    tls: TlsMaterial | None = field(repr=False, default=None)

    @classmethod
    def of(cls, hook: Hook) -> Prepared:
        """Prepare a hook."""
        endpoint = hook.endpoint
        held = (
            "the hook is not active" if not hook.is_active else "the hook is paused" if hook.is_paused else ""
        )
        credential_lines = [
            *endpoint.headers,
            *constant_credential_lines(endpoint, hook.credentials),
        ]
        secrets = [
            (one.text, None if one.expires_at_ms is None else one.expires_at_ms / 1000)
            for one in hook.secrets
        ]
        return cls(
            hook,
            Signer(
                secrets if endpoint.signature is not Signature.ED25519 else [],
                sign=signing_function(hook.signing_key) if endpoint.signature is not Signature.HMAC else None,
            ),
            (*envelopes.constant_lines(hook), *credential_lines),
            held,
            (*sent_secrets(credential_lines), *(value.encode() for value in hook.credentials.values())),
            authenticator(hook),
            tls_material(hook),
        )


class Registry:
    """All hooks of this installation, by id and by what they want."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._hooks: dict[int, Prepared] = {}
        self._refreshing = asyncio.Lock()
        self.revision: int | None = None
        """Of the hooks in memory; the store has another one as soon as one of them changes."""
        self._matches: dict[tuple[str, EventKind], tuple[Prepared, ...]] = {}

    async def refresh(self) -> None:
        """Read the hooks again; those that did not change keep what was prepared."""
        # Before the hooks: what changes in between is then noticed once more, never missed.
        revision = await self._store.hooks_revision()
        hooks = await self._store.list_hooks()
        known = self._hooks
        self._hooks = {
            hook.id: known[hook.id]
            if hook.id in known and known[hook.id].hook.version == hook.version
            else Prepared.of(hook)
            for hook in hooks
        }
        self._matches = {}
        self.revision = revision

    async def catch_up(self, revision: int) -> None:
        """Read the hooks again, unless what is in memory is of this revision; once for everybody who asks meanwhile."""
        async with self._refreshing:
            if self.revision != revision:
                await self.refresh()

    def __len__(self) -> int:
        return len(self._hooks)

    def get(self, hook_id: int) -> Prepared | None:
        """The hook, or None where it was deleted."""
        return self._hooks.get(hook_id)

    def public_keys(self) -> list[str]:
        """Of the hooks that sign with a key of their own."""
        return sorted(
            public_key(one.hook.signing_key)
            for one in self._hooks.values()
            if one.hook.signing_key and one.hook.endpoint.signature is not Signature.HMAC
        )

    def why_held(self, hook_id: int) -> str:
        """Why this hook may not receive now; empty where it may."""
        prepared = self._hooks.get(hook_id)
        return "the hook was deleted" if prepared is None else prepared.why_held

    def matching(self, tenant: str, kind: EventKind) -> tuple[Prepared, ...]:
        """The active hooks of the tenant that want events of this kind, paused ones too: theirs are kept."""
        found = self._matches.get((tenant, kind))
        if found is None:
            found = tuple(
                prepared
                for prepared in self._hooks.values()
                if prepared.hook.tenant == tenant and prepared.hook.is_active and prepared.hook.wants(kind)
            )
            self._matches[tenant, kind] = found
        return found
