"""Health: what is known about an endpoint outlives the process, is told as an event, and in the end disables its hook.

`HOOK.FAILING`, `HOOK.RECOVERED` and `HOOK.DISABLED` are events like any other: hooks can subscribe to them. Telling twice
what happened once is prevented by an idempotency key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from hashlib import sha256

import msgspec

from embarc.core.events import EventKind, timestamp_text
from embarc.core.hooks import Hook
from embarc.core.submissions import Draft, Receipt, Submission
from embarc.observe import Observe
from embarc.store.base import Store

_DAY_SECONDS = 86_400


class Health:
    """Keeps the book of failing endpoints."""

    def __init__(
        self,
        store: Store,
        *,
        publish: Callable[[Submission], Awaitable[Receipt]],
        on_change: Callable[[], Awaitable[None]],
        clock: Callable[[], float],
        observe: Observe,
        disable_after_days: float,
    ) -> None:
        self._store = store
        self._publish = publish
        self._on_change = on_change
        self._clock = clock
        self._observe = observe
        self._disable_after_days = disable_after_days

    @property
    def why_dead(self) -> str:
        """The reason for which `is_dead` disables."""
        return f"no attempt has succeeded for {self._disable_after_days:g} days"

    def is_dead(self, hook: Hook) -> bool:
        """Whether the endpoint has been failing for so long that its hook is to be disabled."""
        since = hook.failing_since_ms
        limit_ms = self._disable_after_days * _DAY_SECONDS * 1000
        return since is not None and limit_ms > 0 and self._now_ms() - since >= limit_ms

    async def failing(self, hook: Hook, reason: str) -> None:
        """The breaker has opened: tell, and remember since when."""
        now = self._now_ms()
        await self._tell(hook, "FAILING", now, reason)
        if await self._store.set_failing_since(hook.tenant, hook.id, now):
            await self._on_change()
            self._observe("hook.failing", hook=hook.id, tenant=hook.tenant, reason=reason)

    async def recovered(self, hook: Hook) -> None:
        """An attempt has succeeded again."""
        await self._tell(hook, "RECOVERED", self._now_ms(), "")
        if await self._store.set_failing_since(hook.tenant, hook.id, None):
            await self._on_change()
            self._observe("hook.recovered", hook=hook.id, tenant=hook.tenant)

    async def disable(self, hook: Hook, reason: str) -> None:
        """Switch the hook off; what waits for it is held, what happens from now on can be replayed."""
        stored = await self._store.get_hook(hook.tenant, hook.id)
        if stored is None or not stored.is_active:
            return
        now = self._now_ms()
        await self._tell(hook, "DISABLED", now, reason)
        await self._store.replace_hook(
            replace(stored, is_active=False, inactive_since_ms=now, inactive_because=reason)
        )
        await self._on_change()
        self._observe("hook.disabled", hook=hook.id, tenant=hook.tenant, reason=reason)

    async def _tell(self, hook: Hook, action: str, at_ms: int, reason: str) -> None:
        """Publish the event, once for this version of the hook: each of these changes makes a new one."""
        told = {"resourceId": hook.id, "displayName": hook.display_name, "since": timestamp_text(at_ms)}
        key = f"embarc/hook/{hook.id}/{action}/{hook.version}"
        draft = Draft(
            kind=EventKind("HOOK", action),
            entity_id=str(hook.id),
            response=msgspec.json.encode(told | ({"reason": reason} if reason else {})),
        )
        fingerprint = sha256(key.encode()).digest()
        await self._publish(
            Submission(tenant=hook.tenant, drafts=(draft,), idempotency_key=key, fingerprint=fingerprint)
        )

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
