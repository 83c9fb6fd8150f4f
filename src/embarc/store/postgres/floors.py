"""Where each lane's living rows begin, so that nobody has to pass by the dead ones again and again.

A transaction that somebody keeps open, a dump or a long report, keeps PostgreSQL from cleaning up: all that was claimed and
delivered since then stays in the index, before whatever is due now. Rules of this file:
* A full look finds every lane and the earliest delivery of each. Before that one nothing lives, and what is written later
  is due later: a claim, and the next look, begin there.
* Where full looks are quick, as they nearly always are, every look is one. Where one was slow, the next is made when twenty
  times as much time has gone by; until then looks begin at the floors.
* A floor stays behind the clock, for transactions that take their time. Whatever comes up beneath it all the same, by a
  clock that was set back or by hand, is found by the next full look.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from embarc.core.deliveries import Traffic

Lane = tuple[int, Traffic]
"""A hook and a class of its deliveries."""
SLOW_SECONDS = 0.1
"""A full look that took longer is not repeated at once."""
PAUSE = 20
"""Times as long as a slow look took, until the next: a twentieth of one core."""
BEHIND_MS = 1000
"""A floor stays at least so far behind the time of the look."""


class Floors:
    """What one process knows of the lanes. Times of looks are monotonic seconds, floors are milliseconds of the store's clock."""

    def __init__(self) -> None:
        self._floors: dict[Lane, int] = {}
        self._hooks: frozenset[int] = frozenset()
        self._full_at = float("-inf")

    def know_hooks(self, hook_ids: Iterable[int]) -> None:
        """These are all hooks there are: any of them may have something due."""
        self._hooks = frozenset(hook_ids)

    def lanes(self, at: float) -> Collection[Lane] | None:
        """The lanes to look at from their floors, or None for a full look."""
        if at >= self._full_at:
            return None
        return _every_class(self._hooks.union(hook_id for hook_id, _ in self._floors))

    def of(self, lane: Lane) -> int:
        """Where the lane's living rows begin."""
        return self._floors.get(lane, 0)

    def learn(
        self,
        found: Iterable[tuple[Lane, int]],
        looked: Collection[Lane] | None,
        now_ms: int,
        began: float,
        ended: float,
    ) -> None:
        """Take in what a look found: the earliest due time of each lane that has any; `looked` is what `lanes` had said."""
        behind = now_ms - BEHIND_MS
        self._floors = dict.fromkeys(_every_class(self._hooks) if looked is None else looked, behind)
        self._floors |= {lane: min(due_at_ms, behind) for lane, due_at_ms in found}
        if looked is None:
            took = ended - began
            self._full_at = ended + took * PAUSE if took > SLOW_SECONDS else began


def _every_class(hook_ids: Iterable[int]) -> set[Lane]:
    return {(hook_id, traffic) for hook_id in hook_ids for traffic in Traffic}
