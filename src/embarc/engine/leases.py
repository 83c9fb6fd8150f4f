"""Leases: the deliveries that this process holds, by whose tokens, and until when.

Whatever has been held for a third of its lease is renewed. What turns out to be somebody else's by now is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import NoReturn

from embarc.core.deliveries import Claim
from embarc.core.members import COUNTER_BITS
from embarc.observe import Observe
from embarc.store.base import Store

_COUNTED = (1 << COUNTER_BITS) - 1


class Leases:
    """What is held; `member` is this process's number."""

    def __init__(
        self,
        store: Store,
        *,
        member: int,
        monotonic: Callable[[], float],
        observe: Observe,
        lease_seconds: float,
    ) -> None:
        self.lease_seconds = lease_seconds
        self._store = store
        self._monotonic = monotonic
        self._observe = observe
        self._first_token = member << COUNTER_BITS
        self._drawn = 0
        self._held: dict[tuple[bytes, int], tuple[Claim, float]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, claim: Claim) -> bool:
        return (claim.event_key, claim.hook_id) in self._held

    @property
    def hooks(self) -> Collection[int]:
        """Those of which a delivery is held."""
        return {hook_id for _, hook_id in self._held}

    def new_token(self) -> int:
        """Unlike every other token of anybody who is alive."""
        self._drawn = (self._drawn + 1) & _COUNTED
        return self._first_token | self._drawn

    def hold(self, claim: Claim) -> None:
        """The delivery is ours from now on."""
        self._held[claim.event_key, claim.hook_id] = (claim, self._monotonic())

    def drop(self, claim: Claim) -> None:
        """It is settled, or no longer ours."""
        self._held.pop((claim.event_key, claim.hook_id), None)

    async def surrender(self, claims: Iterable[Claim]) -> None:
        """Give back what was not attempted: it is due at once, for whoever claims it."""
        claims = list(claims)
        for claim in claims:
            self.drop(claim)
        if claims:
            given_back = await self._store.surrender(claims)
            self._observe("deliveries.surrendered", deliveries=given_back)

    async def renew_forever(self, failed: Callable[[BaseException], None]) -> NoReturn:
        """Renew what needs it, until cancelled; `failed` is told what goes wrong."""
        interval = self.lease_seconds / 3
        while True:
            await asyncio.sleep(interval / 2)
            now = self._monotonic()
            old = [claim for claim, since in self._held.values() if now - since >= interval]
            if not old:
                continue
            try:
                lost = await self._store.renew(old, lease_seconds=self.lease_seconds)
            except Exception as error:
                failed(error)
                continue
            for claim in old:
                if claim in self:
                    self._held[claim.event_key, claim.hook_id] = (claim, now)
            for claim in lost:
                self.drop(claim)
