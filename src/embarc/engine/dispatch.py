"""Dispatching: the loop that keeps every hook's attempts going, each within its own bounds.

Rules of this file:
* Every hook has a lane of its own, with its own queue and its own number of attempts in flight. A dead receiver
  fills its lane and nobody else's.
* All lanes together have a bound too. Where it is reached, lanes take turns: tenant after tenant, hook after hook. Those
  whose endpoint is failing have a small share of it, so that a hundred dead receivers leave the rest to the living.
* This process has lanes of the hooks that it works for (`members.py`); other processes have the others.
* What a lane holds is leased to this process (`leases.py`): it was born claimed (publishing reserved the room first) or
  was claimed from the store. What is not attempted is surrendered.
* While a lane's backlog of new deliveries is in the store, further ones go there too, behind it: nobody overtakes.
* A lane's slot is free again when the exchange ends. Results are settled together, one transaction at a time.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from embarc.core.attempts import Outcome, Result
from embarc.core.deliveries import Claim, Settlement, Traffic
from embarc.core.errors import EmbarcError
from embarc.core.fairness import Turns, divided_claims
from embarc.core.hooks import Hook, Order
from embarc.core.members import segment_of
from embarc.core.pacing import BreakerState, LaneCondition
from embarc.engine.deliver import Deliverer
from embarc.engine.health import Health
from embarc.engine.lanes import HELD_PER_SLOT, Lane
from embarc.engine.leases import Leases
from embarc.engine.members import Membership
from embarc.engine.registry import Prepared, Registry
from embarc.engine.settling import AGAIN_SECONDS, Settler
from embarc.observe import Observe
from embarc.store.base import Due, Store

HELD_IN_ALL = 8192
"""Deliveries that one process holds: bounds its memory whatever the backlog."""
ONE_LANES_PART = 8
"""A lane may hold at most this fraction of what is free: the last ones to come find room as well."""
IN_FLIGHT_IN_ALL = 1024
"""Attempts of one process at a time."""
IN_FLIGHT_FAILING = 64
"""Of them, those to endpoints whose last attempt failed."""
IDLE_WORKERS = 512
"""Slots that wait for more work as they are; further ones end and are made anew."""
CLAIM_PAGE = 512
POLL_SECONDS = 1.0
"""How long due work of unknown origin may go unnoticed. Wake-ups are hints, polling is the truth."""
SHORTEST_POLL_SECONDS = 0.05


class Dispatcher:
    """Holds claims and works through them. `start`, then `await stop()`."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        deliverer: Deliverer,
        *,
        members: Membership,
        health: Health,
        chance: Callable[[], float],
        monotonic: Callable[[], float],
        observe: Observe,
        lease_seconds: float,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._store = store
        self._registry = registry
        self._deliverer = deliverer
        self._members = members
        self._health = health
        self._chance = chance
        self._monotonic = monotonic
        self._observe = observe
        self._leases = Leases(
            store, member=members.number, monotonic=monotonic, observe=observe, lease_seconds=lease_seconds
        )
        self._longest_poll = self._poll = poll_seconds
        self._lanes: dict[int, Lane] = {}
        self._in_flight = 0
        self._line: Turns[int] = Turns()
        """Hooks whose lanes have work and a slot, and wait for a place in the process."""
        self._failing_line: Turns[int] = Turns()
        self._rotation = 0
        self._reserved = 0
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._workers: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._idle = 0
        self._stop_waiting = asyncio.Event()
        self._stopping = False
        self._settler = Settler(store, on_settled=self._settled, failed=self._failed)
        members.on_moved = self._on_moved
        members.busy_segments = self._busy_segments
        members.conditions = self._conditions

    # -- room, reserved by publishing --------------------------------------------------------------------------

    def reserve(self, prepared: Prepared) -> int | None:
        """A lease token for a delivery that is about to be born, or None where this lane has no room for it."""
        if not self._members.owns(prepared.hook.id) or self._stopping:
            return None
        lane = self._lane(prepared)
        if lane.has_backlog or prepared.why_held or self._room(lane) <= 0:
            return None
        lane.reserved += 1
        self._reserved += 1
        return self._leases.new_token()

    def take(self, claims: Iterable[Claim], *, unclaimed: int = 0) -> None:
        """Work on deliveries that were born with reserved tokens; `unclaimed` ones wait in the store, for whoever is to
        claim them."""
        for claim in claims:
            self._unreserve(claim)
            self._enqueue(claim)
        if unclaimed:
            self.wake()

    def release(self, claims: Iterable[Claim]) -> None:
        """Give reserved room back: these deliveries were not born."""
        for claim in claims:
            self._unreserve(claim)

    def disown(self, claims: Sequence[Claim]) -> None:
        """Nobody knows whether these were born. If they were, nobody works on them: they are surrendered when the store
        answers again, so that they need not wait for the end of a lease."""
        self.release(claims)
        if claims:
            self._tell(self._surrender_if_born, claims)

    def wake(self) -> None:
        """Something may have become due, here or at another process."""
        self._wake.set()
        self._members.announce()

    def look(self) -> None:
        """Another process says that something may have become due."""
        self._wake.set()

    def why_held(self, hook_id: int) -> str:
        """Why nothing is sent to this hook now; empty where something may be."""
        reason = self._registry.why_held(hook_id)
        return reason or self.condition(hook_id).why_held

    def condition(self, hook_id: int) -> LaneCondition:
        """How it goes with the hook's endpoint, by the word of the process that works for it."""
        if not self._members.owns(hook_id):
            return self._members.told_of(hook_id) or LaneCondition()
        lane = self._lanes.get(hook_id)
        return LaneCondition() if lane is None else lane.condition(self._monotonic())

    # -- life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to claim, settle and renew."""
        loops = {
            "claim": self._claim_forever(),
            "settle": self._settler.run_until_finished(),
            "renew": self._leases.renew_forever(self._failed),
        }
        self._tasks = [asyncio.create_task(loop, name=f"embarc_{name}") for name, loop in loops.items()]

    def stop_claiming(self) -> None:
        """No new claims: nothing is taken from the store any more, and nothing is born claimed."""
        self._stopping = True
        self._stop_waiting.set()
        self._wake.set()

    async def stop(self) -> None:
        """No new claims; wait for the attempts in flight, record them, surrender the rest."""
        self.stop_claiming()
        if not self._tasks:
            return
        claiming, settling, renewing = self._tasks
        await claiming
        waiting = [claim for lane in self._lanes.values() for claim in lane.queue.take_all()]
        for lane in self._lanes.values():
            self._dismiss(lane)
            if lane.timer is not None:
                lane.timer.cancel()
        if self._workers:
            await asyncio.wait(self._workers)
        self._settler.finish()
        await settling
        if self._workers:  # hooks that the last results disabled
            await asyncio.wait(self._workers)
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        await self._leases.surrender(waiting)

    # -- what this process works for ---------------------------------------------------------------------------

    def _on_moved(self) -> None:
        """Other hooks than before are this process's: let go of what is no longer, claim what is new."""
        for lane in self._lanes.values():
            if lane.queue and not self._members.owns(lane.hook_id):
                self._spawn(self._give_back(*lane.queue.take_all()))
        self._wake.set()

    def _busy_segments(self) -> frozenset[int]:
        """Where something is held, or about to be."""
        reserved = (lane.hook_id for lane in self._lanes.values() if lane.reserved)
        return frozenset(segment_of(hook_id) for hook_id in (*self._leases.hooks, *reserved))

    def _conditions(self) -> dict[int, LaneCondition]:
        """Of the lanes that something goes on in, or is held back in."""
        now = self._monotonic()
        return {
            hook_id: lane.condition(now)
            for hook_id, lane in self._lanes.items()
            if not (lane.is_quiet and lane.breaker.state is BreakerState.CLOSED)
            and self._members.owns(hook_id)
        }

    def _close_lanes(self) -> None:
        """Of hooks that were deleted, or that another process works for: what this one knew of them gets old."""
        for hook_id, lane in list(self._lanes.items()):
            is_ours = self._registry.get(hook_id) is not None and self._members.owns(hook_id)
            if not is_ours and lane.is_quiet:
                self._dismiss(lane)
                del self._lanes[hook_id]

    # -- claiming ----------------------------------------------------------------------------------------------

    async def _claim_forever(self) -> None:
        was_woken = True
        while not self._stopping:
            self._wake.clear()
            try:
                pause = await self._claim_due()
            except Exception as error:
                self._failed(error)
                pause = AGAIN_SECONDS
            self._adapt_poll(found_more=pause == 0, was_woken=was_woken)
            was_woken = pause == 0 or await _wait(self._wake, pause)

    def _adapt_poll(self, *, found_more: bool, was_woken: bool) -> None:
        """Where others publish what this process works for, and their announcements do not arrive, it looks more often."""
        if found_more and not was_woken and len(self._members.members) > 1:
            self._poll = min(SHORTEST_POLL_SECONDS, self._longest_poll)
        elif not found_more:
            self._poll = min(self._poll * 2, self._longest_poll)

    async def _claim_due(self) -> float:
        """Fill the lanes that have room with what is due; returns the seconds to wait for more."""
        pause = self._poll
        now = self._monotonic()
        wanted: dict[str, dict[int, dict[Traffic, int]]] = {}
        page = min(CLAIM_PAGE, HELD_IN_ALL - self._held_in_all)
        found = await self._store.due()
        if found:
            # Another process may have changed a hook: what it accepted after that is not sent as the hook was before.
            await self._registry.catch_up(await self._store.hooks_revision())
        self._close_lanes()
        for lane in self._lanes.values():
            lane.has_backlog = False
        for due in self._rotated(found):
            prepared = self._registry.get(due.hook_id)
            if prepared is None or prepared.why_held or not self._members.owns(due.hook_id):
                continue
            lane = self._lane(prepared)
            if due.in_seconds > 0:
                pause = min(pause, due.in_seconds)
                continue
            if due.traffic is Traffic.LIVE:
                lane.has_backlog = True
            pause = min(pause, lane.breaker.pause(now) or pause)
            is_closed = lane.breaker.state is BreakerState.CLOSED
            room = self._room(lane)
            if due.traffic is not Traffic.LIVE and is_closed:
                room = min(room, lane.room_for_old())
            if page > 0 and room >= (min(lane.limit, HELD_PER_SLOT // 2) if is_closed else 1):
                wanted.setdefault(lane.tenant, {}).setdefault(lane.hook_id, {})[due.traffic] = room
        if not wanted:
            return pause
        limits = divided_claims(page, wanted)
        claims = await self._store.claim(
            limits, lease_seconds=self._leases.lease_seconds, lease_token=self._leases.new_token()
        )
        self._observe(
            "deliveries.claimed", deliveries=len(claims), hooks=len({hook_id for hook_id, _ in limits})
        )
        for claim in claims:
            self._enqueue(claim)
        # Nothing where something is due: it is behind another one, whose end wakes this loop.
        return 0.0 if claims else pause

    def _rotated(self, found: Sequence[Due]) -> Sequence[Due]:
        """Each time another one first: where there is less than one for each, all have their turn."""
        if not found:
            return found
        self._rotation = (self._rotation + 1) % len(found)
        return [*found[self._rotation :], *found[: self._rotation]]

    def _room(self, lane: Lane) -> int:
        """Deliveries that this lane may add to what it holds."""
        free = HELD_IN_ALL - self._held_in_all
        return min(lane.room(self._monotonic()), free // ONE_LANES_PART)

    def _enqueue(self, claim: Claim) -> None:
        prepared = self._registry.get(claim.hook_id)
        self._leases.hold(claim)
        if prepared is None or self._stopping or not self._members.owns(claim.hook_id):
            self._spawn(self._give_back(claim))
            return
        lane = self._lane(prepared)
        lane.queue.append(claim)
        self._begin(lane)

    # -- slots -------------------------------------------------------------------------------------------------

    def _begin(self, lane: Lane) -> None:
        """Let one more of the lane's deliveries be attempted, if it may be; where the process is full, it stands in line."""
        if not lane.queue or not lane.has_slot() or self._stopping:
            return
        if not self._has_place(lane):
            (self._failing_line if lane.breaker.is_failing else self._line).add(lane.tenant, lane.hook_id)
            return
        if lane.is_paced and not self._is_its_turn(lane):
            return
        lane.in_flight += 1
        self._in_flight += 1
        claim = lane.queue.popleft()
        if lane.idle:
            self._idle -= 1
            lane.idle.pop().set_result(claim)
        else:
            self._spawn(self._work(lane, claim))

    def _is_its_turn(self, lane: Lane) -> bool:
        """Whether the lane's rate lets an attempt begin now; if not, it will be asked again when it does."""
        now = self._monotonic()
        delay = lane.delay(now)
        if delay <= 0:
            lane.take_turn(now)
            return True
        if lane.timer is None:
            lane.timer = self._loop.call_later(delay, self._on_turn, lane)
        return False

    def _on_turn(self, lane: Lane) -> None:
        lane.timer = None
        self._begin(lane)
        if lane.timer is None:
            self._begin(lane)  # sets the timer for the next one

    def _has_place(self, lane: Lane) -> bool:
        if self._in_flight >= IN_FLIGHT_IN_ALL:
            return False
        return not lane.breaker.is_failing or self._failing_in_flight() < IN_FLIGHT_FAILING

    def _failing_in_flight(self) -> int:
        return sum(lane.in_flight for lane in self._lanes.values() if lane.breaker.is_failing)

    def _following(self, lane: Lane) -> Claim | None:
        """The claim that a slot may go on with, where nobody else has to have their turn first."""
        if not lane.queue or lane.is_paced or lane.in_flight > lane.limit or self._stopping:
            return None
        if self._line and self._in_flight >= IN_FLIGHT_IN_ALL:
            return None
        if lane.breaker.is_failing and self._failing_in_flight() > IN_FLIGHT_FAILING:
            return None
        return lane.queue.popleft()

    def _end(self, lane: Lane) -> None:
        """A slot is free: whoever stands in line has their turn."""
        lane.in_flight -= 1
        self._in_flight -= 1
        while self._line and self._in_flight < IN_FLIGHT_IN_ALL:
            self._begin_next(self._line)
        while (
            self._failing_line
            and self._in_flight < IN_FLIGHT_IN_ALL
            and self._failing_in_flight() < IN_FLIGHT_FAILING
        ):
            self._begin_next(self._failing_line)
        self._begin(lane)
        if lane.has_backlog and self._room(lane) >= lane.limit:
            self._wake.set()

    def _begin_next(self, line: Turns[int]) -> None:
        lane = self._lanes.get(line.next())
        if lane is not None:
            self._begin(lane)

    def _dismiss(self, lane: Lane) -> None:
        """Let the lane's idle workers end."""
        self._idle -= len(lane.idle)
        while lane.idle:
            lane.idle.pop().set_result(None)

    # -- attempting --------------------------------------------------------------------------------------------

    async def _work(self, lane: Lane, claim: Claim | None) -> None:
        """One slot of a lane: attempts one delivery after another, and waits a while for more."""
        while claim is not None:
            try:
                while claim is not None:
                    await self._attempt(lane, claim)
                    claim = self._following(lane)
            finally:
                self._end(lane)
            if self._stopping or lane.in_flight >= lane.limit or self._idle >= IDLE_WORKERS:
                return
            # Making a task for each delivery would cost more than keeping this one.
            waiting: asyncio.Future[Claim | None] = self._loop.create_future()
            lane.idle.append(waiting)
            self._idle += 1
            claim = await waiting

    async def _attempt(self, lane: Lane, claim: Claim) -> None:
        if claim not in self._leases:
            return  # the lease was lost while it stood in line
        prepared = self._registry.get(claim.hook_id)
        may_send = prepared is not None and not prepared.why_held and self._members.owns(claim.hook_id)
        if prepared is None or not may_send or self._stopping or not lane.may_attempt(self._monotonic()):
            await self._give_back(claim)
            return
        try:
            settlement = await self._deliverer.deliver(claim, prepared)
        except Exception as error:
            # A bug of ours. The lease is let go to run out, so that the delivery is tried again and seen to be `lost`.
            self._leases.drop(claim)
            self._failed(error)
            return
        lane.is_ending = lane.is_ending or settlement.verdict.disables_hook
        self._settler.add(settlement)
        self._learn(lane, prepared.hook, settlement)

    def _learn(self, lane: Lane, hook: Hook, settlement: Settlement) -> None:
        """Let the outcome change how much goes on in this lane, and what is known of its endpoint."""
        outcome = settlement.attempt.outcome
        changed = lane.record(outcome, now=self._monotonic(), chance=self._chance())
        if outcome.is_success:
            if lane.told_failing:
                lane.told_failing = False
                self._tell(self._health.recovered, hook)
        elif self._health.is_dead(hook):
            lane.is_ending = True
            self._tell(self._disable, hook, self._health.why_dead)
        if changed is BreakerState.OPEN:
            self._spawn(self._give_back(*lane.queue.take_all()))
            if not lane.told_failing:
                lane.told_failing = True
                self._tell(self._health.failing, hook, _why(outcome))
        elif changed is BreakerState.CLOSED:
            self._wake.set()
        for _ in range(min(len(lane.queue), lane.limit - lane.in_flight)):
            self._begin(lane)

    def _tell(self, what: Callable[..., Coroutine[Any, Any, None]], *about: Any) -> None:
        """Make something known that outlives this process: again and again, where the store cannot take it."""

        async def tell() -> None:
            while True:
                try:
                    await what(*about)
                    return
                except Exception as error:
                    self._failed(error)
                    if self._stopping:
                        return
                    await _wait(self._stop_waiting, AGAIN_SECONDS)

        self._spawn(tell())

    async def _disable(self, hook: Hook, reason: str) -> None:
        await self._health.disable(hook, reason)
        if lane := self._lanes.get(hook.id):
            lane.is_ending = False  # from here on the hook says it itself

    # -- afterwards --------------------------------------------------------------------------------------------

    def _settled(self, settlement: Settlement, is_ours: bool) -> None:
        claim, verdict = settlement.claim, settlement.verdict
        self._leases.drop(claim)
        self._observe("delivery.attempted" if is_ours else "delivery.lease_lost", settlement=settlement)
        if not is_ours:
            if verdict.disables_hook and (lane := self._lanes.get(claim.hook_id)) is not None:
                lane.is_ending = False
            return
        prepared = self._registry.get(claim.hook_id)
        if verdict.disables_hook and prepared is not None:
            self._tell(self._disable, prepared.hook, verdict.reason)
        is_ordered = prepared is not None and prepared.hook.endpoint.order is Order.ENTITY
        if is_ordered or (
            verdict.retry_in_seconds is not None and verdict.retry_in_seconds < self._longest_poll
        ):
            self._wake.set()

    async def _give_back(self, *claims: Claim) -> None:
        try:
            await self._leases.surrender(claims)
        except Exception as error:  # the lease runs out by itself
            self._failed(error)

    async def _surrender_if_born(self, claims: Sequence[Claim]) -> None:
        if await self._store.surrender(claims):
            self.wake()

    # -- inside ------------------------------------------------------------------------------------------------

    @property
    def _held_in_all(self) -> int:
        return len(self._leases) + self._reserved

    def _lane(self, prepared: Prepared) -> Lane:
        lane = self._lanes.get(prepared.hook.id)
        if lane is None:
            lane = self._lanes[prepared.hook.id] = Lane(prepared, self._monotonic())
        elif lane.version != prepared.hook.version:
            lane.update(prepared, self._monotonic())
        return lane

    def _unreserve(self, claim: Claim) -> None:
        self._lanes[claim.hook_id].reserved -= 1
        self._reserved -= 1

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._workers.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._workers.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        """Whatever goes wrong here is told, and the loops go on: a dispatcher that stands still is the worst failure."""
        is_known = isinstance(error, EmbarcError)
        trace = "" if is_known else "".join(traceback.format_exception(error))
        self._observe("dispatcher.failed", reason=str(error) or repr(error), error=trace)


def _why(outcome: Outcome) -> str:
    """An attempt's failure in a few words."""
    if outcome.result is Result.STATUS:
        return f"the last attempt was answered {outcome.status}"
    return f"the last attempt ended in `{outcome.result.value}`: {outcome.result.meaning}"


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Until the event, but no longer than this; whether it came."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
