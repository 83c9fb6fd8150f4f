"""Fairness: who gets how much of what is not enough for all.

Rules of this file:
* Tenants share evenly, then the hooks of each tenant, then the classes of traffic of each hook, by their weights.
* What somebody does not need goes to the others (max-min fairness): nothing is held free for nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

from embarc.core.deliveries import SHARES, Claim, Traffic

Key = TypeVar("Key", bound=Hashable)


def divided(
    total: int, wanted: Mapping[Key, int], weights: Mapping[Key, int] | None = None
) -> dict[Key, int]:
    """Divide `total` among those who want some, nobody more than it wants, by weight where given."""
    given = dict.fromkeys(wanted, 0)
    hungry = [key for key, amount in wanted.items() if amount > 0]
    left = total
    while hungry and left > 0:
        weight = {key: weights[key] if weights else 1 for key in hungry}
        in_all = sum(weight.values())
        portion = {key: left * weight[key] // in_all for key in hungry}
        if not any(portion.values()):  # less than one for each: to the first ones
            portion = {key: 1 if place < left else 0 for place, key in enumerate(hungry)}
        for key in hungry:
            taken = min(portion[key], wanted[key] - given[key])
            given[key] += taken
            left -= taken
        hungry = [key for key in hungry if given[key] < wanted[key]]
    return given


class Turns(Generic[Key]):
    """Whose turn it is: one tenant after the other, and within each one hook after the other."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Key]] = {}
        """Tenants in the order of their turns; each has the keys that wait, in theirs."""
        self._waiting: set[Key] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, tenant: str, key: Key) -> None:
        """Let it stand in line, once."""
        if key not in self._waiting:
            self._waiting.add(key)
            self._queues.setdefault(tenant, deque()).append(key)

    def next(self) -> Key:
        """Whoever's turn it is; it no longer stands in line. Raises LookupError where nobody does."""
        if not self._queues:
            raise LookupError("nobody waits for a turn")
        tenant = next(iter(self._queues))
        queue = self._queues.pop(tenant)
        key = queue.popleft()
        if queue:
            self._queues[tenant] = queue  # at the end: the others come first now
        self._waiting.discard(key)
        return key


_ROUND = (Traffic.LIVE, Traffic.RETRY, Traffic.LIVE, Traffic.REPLAY, Traffic.LIVE)
assert all(_ROUND.count(traffic) == share for traffic, share in SHARES.items())  # noqa: S101 - two tables agree


class ClaimQueue:
    """Claims of one hook that wait for an attempt: the classes by their shares, each first in, first out."""

    __slots__ = ("_live", "_others", "_place")

    def __init__(self) -> None:
        self._live: deque[Claim] = deque()
        self._others: dict[Traffic, deque[Claim]] = {}
        self._place = 0

    def __len__(self) -> int:
        return len(self._live) + self.not_live

    @property
    def not_live(self) -> int:
        """How many are retries or replays."""
        return sum(map(len, self._others.values())) if self._others else 0

    def append(self, claim: Claim) -> None:
        """Put it at the end of its class."""
        if claim.traffic is Traffic.LIVE:
            self._live.append(claim)
        else:
            self._others.setdefault(claim.traffic, deque()).append(claim)

    def popleft(self) -> Claim:
        """The next one to attempt; raises IndexError where there is none."""
        if not self._others:
            return self._live.popleft()
        for step in range(1, len(_ROUND) + 1):
            place = (self._place + step) % len(_ROUND)
            queue = self._live if _ROUND[place] is Traffic.LIVE else self._others.get(_ROUND[place])
            if queue:
                self._place = place
                claim = queue.popleft()
                if not queue:
                    self._others.pop(claim.traffic, None)
                return claim
        raise IndexError("no claim waits")

    def take_all(self) -> list[Claim]:
        """Every claim that waits; none does afterwards."""
        found = [*self._live, *(claim for queue in self._others.values() for claim in queue)]
        self._live.clear()
        self._others.clear()
        return found


def divided_claims(
    page: int, wanted: Mapping[str, Mapping[int, Mapping[Traffic, int]]]
) -> dict[tuple[int, Traffic], int]:
    """Divide a page of claims among tenants, then hooks, then classes of traffic."""
    rooms = {
        tenant: {hook_id: max(classes.values()) for hook_id, classes in hooks.items()}
        for tenant, hooks in wanted.items()
    }
    limits: dict[tuple[int, Traffic], int] = {}
    for tenant, amount in divided(
        page, {tenant: sum(hooks.values()) for tenant, hooks in rooms.items()}
    ).items():
        for hook_id, share in divided(amount, rooms[tenant]).items():
            for traffic, limit in divided(share, wanted[tenant][hook_id], SHARES).items():
                if limit:
                    limits[hook_id, traffic] = limit
    return limits
