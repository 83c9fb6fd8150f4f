"""Replays of many: durable jobs that make deliveries due again, however many there are.

A job walks through the events of its time range, a page at a time, and moves on in the same transaction that makes the
page's deliveries due: after a restart it goes on exactly where it was. Of the processes that share the store, the one
that leads works on them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from embarc.core.deliveries import State
from embarc.core.errors import NotFound, RuleViolation
from embarc.core.events import order_key_of
from embarc.core.hooks import Hook, Order
from embarc.core.ids import EventKeys, parse_replay_id, replay_id
from embarc.core.replays import FIRST_KEY, ReplayJob, ReplayState, Selection
from embarc.engine.registry import Registry
from embarc.engine.select import passes
from embarc.observe import Observe
from embarc.store.base import Candidate, NewDelivery, Store

PAGE = 500
"""Events that one step looks at: its deliveries are made due in one transaction."""
POLL_SECONDS = 2.0
"""Another process may have made a job, or the one that leads may have ended."""
AGAIN_SECONDS = 1.0
LISTED = 200


class Replays:
    """Makes jobs and works on them: `start`, then `await stop()`."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        *,
        wake_dispatcher: Callable[[], None],
        leads: Callable[[], bool],
        clock: Callable[[], float],
        random_bits: Callable[[int], int],
        observe: Observe,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._store = store
        self._registry = registry
        self._wake_dispatcher = wake_dispatcher
        self._leads = leads
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._keys = EventKeys(random_bits)
        self._observe = observe
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # -- what people ask for -----------------------------------------------------------------------------------

    async def create(self, tenant: str, selection: Selection, username: str) -> ReplayJob:
        """Begin a job; raises `NotFound` where there is no such hook."""
        await self._hook(tenant, selection.hook_id)
        key = self._keys.next(int(self._clock() * 1000))
        job = await self._store.add_replay(
            ReplayJob(tenant=tenant, key=key, selection=selection, created_by=username)
        )
        self._wake.set()
        return job

    async def preview(self, tenant: str, selection: Selection) -> int:
        """How many deliveries a job with this selection would make due now; raises `NotFound`."""
        hook = await self._hook(tenant, selection.hook_id)
        count = 0
        after: bytes | None = FIRST_KEY
        while after is not None:
            found, after = await self._store.list_candidates(tenant, selection, after=after, limit=PAGE)
            count += len(self._chosen(hook, selection, found))
        return count

    async def get(self, tenant: str, identifier: str) -> ReplayJob:
        """The job; raises `NotFound`."""
        key = parse_replay_id(identifier)
        job = None if key is None else await self._store.get_replay(tenant, key)
        if job is None:
            raise NotFound.resource(
                "error.msg.replay.identifier.not.found",
                f"Replay with identifier `{identifier[:100]}` does not exist",
                identifier[:100],
            )
        return job

    async def list(self, tenant: str) -> Sequence[ReplayJob]:
        """The newest jobs."""
        return await self._store.list_replays(tenant, limit=LISTED)

    async def cancel(self, tenant: str, identifier: str) -> None:
        """End a running job; what it has made due stays due. Raises `NotFound`, or `RuleViolation` where it has ended."""
        job = await self.get(tenant, identifier)
        if not await self._store.cancel_replay(tenant, job.key):
            raise RuleViolation.rule(
                "error.msg.replay.not.running", "Only a running replay can be cancelled.", value=identifier
            )

    def missed(self, hook: Hook, since_ms: int) -> Selection:
        """What the hook did not get since then: events without a delivery, and deliveries that were given up."""
        return Selection(
            hook_id=hook.id,
            since_ms=since_ms,
            until_ms=int(self._clock() * 1000) + 1,
            states=(State.EXHAUSTED,),
            missing=True,
        )

    # -- working -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Go on with whatever is unfinished."""
        self._task = asyncio.create_task(self._run(), name="embarc_replays")

    async def stop(self) -> None:
        """End between two pages; the next start goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                while self._leads() and (jobs := await self._store.running_replays()):
                    for job in jobs:  # a page of each: a long job does not hold up a short one
                        await self._step(job)
            except Exception as error:
                self._observe("replay.failed", reason=str(error) or repr(error))
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._wake.wait()

    async def _step(self, job: ReplayJob) -> None:
        """Make the next page's deliveries due."""
        await self._catch_up()
        prepared = self._registry.get(job.selection.hook_id)
        if prepared is None:
            if await self._store.cancel_replay(job.tenant, job.key):
                self._observe("replay.ended", replay=replay_id(job.key), state=ReplayState.CANCELLED.value)
            return
        hook = prepared.hook
        found, reached = await self._store.list_candidates(
            job.tenant, job.selection, after=job.reached, limit=PAGE
        )
        chosen = self._chosen(hook, job.selection, found)
        in_order = hook.endpoint.order is Order.ENTITY
        deliveries = [
            NewDelivery(
                hook_id=hook.id, order_key=order_key_of(one.kind, one.entity_id) if in_order else None
            )
            for one in chosen
        ]
        if not await self._store.advance_replay(job, deliveries, [one.event_key for one in chosen], reached):
            return
        if chosen:
            self._wake_dispatcher()
        if reached is None:
            self._observe("replay.ended", replay=replay_id(job.key), state=ReplayState.FINISHED.value)

    def _chosen(self, hook: Hook, selection: Selection, found: Sequence[Candidate]) -> Sequence[Candidate]:
        return [
            one
            for one in found
            if selection.wants(one.kind) and (one.state is not None or self._is_missed(hook, one))
        ]

    def _is_missed(self, hook: Hook, one: Candidate) -> bool:
        return hook.wants(one.kind) and passes(hook, one.kind, one.payload, self._observe)

    async def _catch_up(self) -> None:
        """Another process may have made the hook, or changed what it wants, a moment ago."""
        await self._registry.catch_up(await self._store.hooks_revision())

    async def _hook(self, tenant: str, hook_id: int) -> Hook:
        await self._catch_up()
        prepared = self._registry.get(hook_id)
        if prepared is None or prepared.hook.tenant != tenant:
            raise NotFound.resource(
                "error.msg.hook.identifier.not.found",
                f"Hook with identifier `{hook_id}` does not exist",
                str(hook_id),
            )
        return prepared.hook
