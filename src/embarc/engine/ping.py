"""Pinging: one signed test to a hook's endpoint, now, by the same way and under the same guard as every delivery.

It is `HOOK.PING`, is not stored, and is not tried again. Each hook has one at a time and one a second: whoever may configure
hooks must not have a port scanner.
"""

from __future__ import annotations

from collections.abc import Callable

from embarc.core.attempts import Attempt
from embarc.core.deliveries import Claim, Traffic
from embarc.core.errors import TooManyRequests
from embarc.core.events import EventKind, compose_payload
from embarc.core.ids import EventKeys
from embarc.engine.deliver import Deliverer
from embarc.engine.hooks import Hooks
from embarc.engine.registry import Prepared

KIND = EventKind("HOOK", "PING")
SPACING_SECONDS = 1.0
_REMEMBER = 10_000


class Pinger:
    """Sends tests."""

    def __init__(
        self,
        hooks: Hooks,
        deliverer: Deliverer,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        random_bits: Callable[[int], int],
    ) -> None:
        self._hooks = hooks
        self._deliverer = deliverer
        self._clock = clock
        self._monotonic = monotonic
        self._keys = EventKeys(random_bits)
        self._next: dict[int, float] = {}

    async def ping(self, tenant: str, hook_id: str) -> Attempt:
        """Send one and wait for its outcome; an inactive or paused hook can be tested too.

        Raises `NotFound`, or `TooManyRequests` within a second of the one before.
        """
        hook = await self._hooks.get(tenant, hook_id)
        now = self._monotonic()
        if now < self._next.get(hook.id, 0.0):
            raise TooManyRequests(retry_after_seconds=1)
        if len(self._next) >= _REMEMBER:
            self._next.clear()
        self._next[hook.id] = now + hook.endpoint.timeout_seconds
        try:
            now_ms = int(self._clock() * 1000)
            payload = compose_payload(KIND, None, {}, now_ms, b"{}", b'{"resourceId":%d}' % hook.id)
            claim = Claim(
                tenant=tenant,
                event_key=self._keys.next(now_ms),
                hook_id=hook.id,
                lease_token=0,
                attempts=0,
                failures=0,
                traffic=Traffic.LIVE,
                kind=KIND,
                payload=payload,
            )
            settlement = await self._deliverer.deliver(claim, Prepared.of(hook))
        finally:
            self._next[hook.id] = self._monotonic() + SPACING_SECONDS
        return settlement.attempt
