"""Replaying and cancelling: what a person decides about one delivery."""

from __future__ import annotations

from collections.abc import Callable

from embarc.core.errors import RuleViolation
from embarc.engine.read import delivery_key, no_delivery
from embarc.engine.registry import Registry
from embarc.store.base import Store


class Replayer:
    """Changes what becomes of a delivery. `wake` tells the dispatcher that something may be due."""

    def __init__(self, store: Store, registry: Registry, wake: Callable[[], None]) -> None:
        self._store = store
        self._registry = registry
        self._wake = wake

    async def replay(self, tenant: str, identifier: str) -> None:
        """Send it again, whatever became of it, with all its retries and the same id.

        Raises `NotFound`, or `RuleViolation` where the hook was deleted: there is nowhere to send it.
        """
        event_key, hook_id = delivery_key(identifier)
        # Another process may have made the hook a moment ago.
        if self._registry.get(hook_id) is None:
            await self._registry.catch_up(await self._store.hooks_revision())
        if self._registry.get(hook_id) is None and await self._store.get_delivery(tenant, event_key, hook_id):
            message = f"The hook {hook_id} of this delivery was deleted."
            raise RuleViolation.rule("error.msg.delivery.hook.deleted", message, value=identifier)
        if not await self._store.replay(tenant, event_key, hook_id):
            raise no_delivery(identifier)
        self._wake()

    async def cancel(self, tenant: str, identifier: str, username: str) -> None:
        """Give it up, and let go what it holds back; raises `NotFound`, or `RuleViolation` where it has ended."""
        event_key, hook_id = delivery_key(identifier)
        if await self._store.cancel(tenant, event_key, hook_id, f"cancelled by {username}"):
            self._wake()
            return
        record = await self._store.get_delivery(tenant, event_key, hook_id)
        if record is None:
            raise no_delivery(identifier)
        raise RuleViolation.rule(
            "error.msg.delivery.not.waiting",
            f"Only a waiting or exhausted delivery can be cancelled; this one is {record.state}.",
            value=identifier,
        )
