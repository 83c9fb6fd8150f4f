"""Reading: the questions that the API, the dashboard and the command line ask, answered in the same words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from embarc.core.attempts import Attempt
from embarc.core.deliveries import HELD, State, Traffic
from embarc.core.errors import NotFound
from embarc.core.hooks import Hook
from embarc.core.ids import delivery_id, event_id, parse_delivery_id, parse_event_id
from embarc.core.pacing import LaneCondition
from embarc.store.base import DeliveryFilter, DeliveryRecord, EventFilter, EventRecord, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryView:
    """A delivery and how it stands: `held` where it waits for a hook that may not receive."""

    record: DeliveryRecord
    standing: str
    held_because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One event and what became of it."""

    record: EventRecord
    deliveries: Sequence[DeliveryView]


MOST_COUNTED = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class HookStats:
    """A hook and how it goes with it."""

    hook: Hook
    held_because: str
    condition: LaneCondition
    waiting: Mapping[Traffic, tuple[int, int]]
    """By class: how many, counted up to `MOST_COUNTED` in all, and when the first is due."""


class Reader:
    """Answers questions about events and deliveries of one tenant at a time.

    `why_held` tells why a hook gets nothing now, `condition` how this process stands to its endpoint.
    """

    def __init__(
        self, store: Store, why_held: Callable[[int], str], condition: Callable[[int], LaneCondition]
    ) -> None:
        self._store = store
        self._why_held = why_held
        self._condition = condition

    async def hook_stats(self, hook: Hook) -> HookStats:
        """How it goes with a hook."""
        return HookStats(
            hook=hook,
            held_because=self._why_held(hook.id),
            condition=self._condition(hook.id),
            waiting=await self._store.count_waiting(hook.id, at_most=MOST_COUNTED),
        )

    def why_held(self, hook: Hook) -> str:
        """Why the hook gets nothing now; empty where it may."""
        return self._why_held(hook.id)

    async def events(
        self, tenant: str, which: EventFilter, cursor: str | None, limit: int
    ) -> tuple[Sequence[EventRecord], str | None]:
        """A page of events, newest first, and the cursor of the next page."""
        before = None if cursor is None else _event_key(cursor)
        found = await self._store.list_events(tenant, which, before=before, limit=limit + 1)
        return found[:limit], event_id(found[limit - 1].event.key) if len(found) > limit else None

    async def event(self, tenant: str, identifier: str) -> Story:
        """One event with its deliveries; raises `NotFound`."""
        key = _event_key(identifier)
        record = await self._store.get_event(tenant, key)
        if record is None:
            raise _no_event(identifier)
        deliveries = await self._store.list_deliveries(
            tenant, DeliveryFilter(event_key=key), before=None, limit=_MOST_DELIVERIES
        )
        return Story(record=record, deliveries=[self._view(one) for one in reversed(deliveries)])

    async def deliveries(
        self, tenant: str, which: DeliveryFilter, cursor: str | None, limit: int
    ) -> tuple[Sequence[DeliveryView], str | None]:
        """A page of deliveries, newest event first, and the cursor of the next page."""
        before = None if cursor is None else delivery_key(cursor)
        found = await self._store.list_deliveries(tenant, which, before=before, limit=limit + 1)
        following = (
            delivery_id(found[limit - 1].event_key, found[limit - 1].hook_id) if len(found) > limit else None
        )
        return [self._view(one) for one in found[:limit]], following

    async def delivery(self, tenant: str, identifier: str) -> tuple[DeliveryView, Sequence[Attempt]]:
        """One delivery with its attempts; raises `NotFound`."""
        event_key, hook_id = delivery_key(identifier)
        record = await self._store.get_delivery(tenant, event_key, hook_id)
        if record is None:
            raise no_delivery(identifier)
        return self._view(record), await self._store.list_attempts(tenant, event_key, hook_id)

    def _view(self, record: DeliveryRecord) -> DeliveryView:
        if record.state is State.WAITING and (reason := self._why_held(record.hook_id)):
            return DeliveryView(record=record, standing=HELD, held_because=reason)
        if record.behind is not None:
            ahead = delivery_id(record.behind, record.hook_id)
            return DeliveryView(record=record, standing=HELD, held_because=f"behind {ahead}")
        return DeliveryView(record=record, standing=record.state.value)


_MOST_DELIVERIES = 10_000


def delivery_key(identifier: str) -> tuple[bytes, int]:
    """The event key and hook of a delivery id; raises `NotFound`."""
    key = parse_delivery_id(identifier)
    if key is None:
        raise no_delivery(identifier)
    return key


def _event_key(identifier: str) -> bytes:
    key = parse_event_id(identifier)
    if key is None:
        raise _no_event(identifier)
    return key


def _no_event(identifier: str) -> NotFound:
    return NotFound.resource(
        "error.msg.event.identifier.not.found",
        f"Event with identifier `{identifier[:100]}` does not exist",
        identifier,
    )


def no_delivery(identifier: str) -> NotFound:
    """The error for a delivery that does not exist."""
    return NotFound.resource(
        "error.msg.delivery.identifier.not.found",
        f"Delivery with identifier `{identifier[:100]}` does not exist",
        identifier,
    )
