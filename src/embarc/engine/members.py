"""Membership: this process among those that share the store, and which hooks it works for.

Rules of this file:
* A heartbeat shows that this process is alive, takes the segments that are its own by now, and gives up the others.
* A segment is given up when nothing of it is under way any more, so its hooks are never sent to by two processes at a time.
* Who cannot reach the store for most of the time after which others presume it dead holds nothing any more, by its own clock.
  Should it have been stopped altogether, the fence of each lease keeps it from overwriting what others did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from embarc.core.errors import StoreUnavailable
from embarc.core.members import LEADING_SEGMENT, Attendance, Member, segment_of, wanted_segments
from embarc.core.pacing import LaneCondition
from embarc.observe import Observe
from embarc.store.base import Store

HEARTBEAT_SECONDS = 1.0
ALIVE_SECONDS = 5.0
"""Without a heartbeat for so long, a member is presumed dead: its segments go to others within a heartbeat more."""
FENCED_AFTER_SECONDS = 3.5
"""By then it has stopped by itself."""
QUIET_SECONDS = 0.05
"""Between two announcements of one process: a burst of events is announced once."""


class Membership:
    """`await start()`, then `await stop()` when nothing is under way any more."""

    def __init__(
        self,
        store: Store,
        member: Member,
        *,
        observe: Observe,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        alive_seconds: float = ALIVE_SECONDS,
    ) -> None:
        self._store = store
        self._member = member
        self._observe = observe
        self._heartbeat_seconds = heartbeat_seconds
        self._alive_seconds = alive_seconds
        self._loop = asyncio.get_running_loop()
        self._held: frozenset[int] = frozenset()
        self._working: frozenset[int] = frozenset()
        self._members: tuple[Member, ...] = (member,)
        self._fence: asyncio.TimerHandle | None = None
        self._announcement: asyncio.TimerHandle | None = None
        self._is_announced_again = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._beating: asyncio.Task[None] | None = None
        self.on_moved: Callable[[], None] = lambda: None
        """Called when the segments to work for have changed."""
        self.busy_segments: Callable[[], frozenset[int]] = frozenset
        """Asked which segments something is under way in."""
        self.conditions: Callable[[], Mapping[int, LaneCondition]] = dict
        """Asked what there is to tell about the lanes of this process."""
        self.on_heartbeat: Callable[[], Awaitable[None]] | None = None
        """Awaited after each heartbeat."""

    @property
    def number(self) -> int:
        """This process's own, in its lease tokens."""
        return self._member.number

    @property
    def dispatches(self) -> bool:
        """Whether this process works for hooks at all."""
        return self._member.dispatches

    @property
    def members(self) -> tuple[Member, ...]:
        """Those that were alive at the last heartbeat."""
        return self._members

    @property
    def leads(self) -> bool:
        """Whether this process does what one does for all."""
        return LEADING_SEGMENT in self._working

    def owns(self, hook_id: int) -> bool:
        """Whether this process works for the hook."""
        return segment_of(hook_id) in self._working

    def told_of(self, hook_id: int) -> LaneCondition | None:
        """What another process told at its last heartbeat about its lane of this hook, if there was something to tell."""
        return next((told for one in self._members if (told := one.conditions.get(hook_id))), None)

    def announce(self) -> None:
        """Tell the others that something has become due which one of them works for; soon, and not too often."""
        if len(self._members) < 2:
            return
        if self._announcement is not None:
            self._is_announced_again = True
            return
        self._spawn(self._announce())
        self._announcement = self._loop.call_later(QUIET_SECONDS, self._quiet_is_over)

    async def start(self) -> None:
        """Join. When this returns, the segments that nobody else holds are held; raises `StoreUnavailable`."""
        await self.beat()  # learns who is there
        await self.beat()  # takes what is its own among them
        self._beating = asyncio.create_task(self._beat_forever(), name="embarc_heartbeat")

    async def stop(self) -> None:
        """Leave, so that others take over at once."""
        for waiting in (self._fence, self._announcement):
            if waiting is not None:
                waiting.cancel()
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, *self._tasks, return_exceptions=True)
            with suppress(StoreUnavailable):  # then they notice by themselves
                await self._store.leave(self._member)

    async def beat(self) -> None:
        """One heartbeat."""
        wanted = wanted_segments(self.number, self._members)
        # What is to be given up is kept until nothing of it is under way.
        leaving = self._held - wanted
        self._work_for(self._held & wanted)
        kept = leaving & self.busy_segments()
        told = replace(self._member, conditions=dict(self.conditions()))
        asked_at = self._loop.time()
        attendance = await self._store.attend(told, wanted=wanted | kept, alive_seconds=self._alive_seconds)
        self._learn(attendance, asked_at)
        if self.on_heartbeat is not None:
            await self.on_heartbeat()

    def _learn(self, attendance: Attendance, asked_at: float) -> None:
        before, self._members = self._members, attendance.members
        self._held = attendance.segments
        wanted = wanted_segments(self.number, self._members)
        self._work_for(self._held & wanted)
        if self._fence is not None:
            self._fence.cancel()
        after = self._alive_seconds * FENCED_AFTER_SECONDS / ALIVE_SECONDS
        self._fence = self._loop.call_at(asked_at + after, self._stop_working)
        names = sorted(one.name for one in self._members)
        if names != sorted(one.name for one in before):
            self._observe("members.changed", members=names, segments=len(self._working))

    def _work_for(self, segments: frozenset[int]) -> None:
        if segments != self._working:
            self._working = segments
            self.on_moved()

    def _stop_working(self) -> None:
        self._observe("member.fenced", segments=len(self._working))
        self._held = frozenset()
        self._work_for(frozenset())

    async def _beat_forever(self) -> None:
        while True:
            # Sooner while something moves: whoever gets it is waiting.
            is_moving = self._held != wanted_segments(self.number, self._members)
            await asyncio.sleep(self._heartbeat_seconds / (4 if is_moving else 1))
            try:
                await self.beat()
            except Exception as error:
                self._observe("heartbeat.failed", reason=str(error) or repr(error))

    async def _announce(self) -> None:
        with suppress(StoreUnavailable):  # they poll as well
            await self._store.announce()

    def _quiet_is_over(self) -> None:
        self._announcement = None
        if self._is_announced_again:
            self._is_announced_again = False
            self.announce()

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
