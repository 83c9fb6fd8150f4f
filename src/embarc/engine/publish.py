"""Publishing: a submission becomes events and deliveries, in one durable transaction."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from embarc.core.deliveries import Claim, Traffic
from embarc.core.errors import OutcomeUnknown
from embarc.core.events import Event, TimestampSequence, compose_payload, entity_id_of
from embarc.core.hooks import Order
from embarc.core.ids import EventKeys
from embarc.core.masking import mask
from embarc.core.submissions import Draft, Receipt, Submission
from embarc.engine.dispatch import Dispatcher
from embarc.engine.registry import Registry
from embarc.engine.select import passes
from embarc.observe import Observe
from embarc.store.base import NewDelivery, Publication, Stale, Store

_decode_object = msgspec.json.Decoder(dict[str, object]).decode


class Publisher:
    """Accepts submissions. `publish` returns when they are on disk, not before."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        dispatcher: Dispatcher,
        *,
        clock: Callable[[], float],
        random_bits: Callable[[int], int],
        observe: Observe,
        lease_seconds: float,
    ) -> None:
        self._store = store
        self._registry = registry
        self._dispatcher = dispatcher
        self._clock = clock
        self._keys = EventKeys(random_bits)
        self._timestamps = TimestampSequence()
        self._observe = observe
        self._lease_seconds = lease_seconds

    async def publish(self, submission: Submission) -> Receipt:
        """Accept the submission: all of its events or, raising `EmbarcError`, none.

        Where this process has room for a delivery it is born claimed and goes to the dispatcher from memory.
        """
        events = [self._event(submission.tenant, draft) for draft in submission.drafts]
        while True:
            publication, claims = self._match(submission, events)
            try:
                answer = await self._store.publish(publication, lease_seconds=self._lease_seconds)
            except OutcomeUnknown:
                self._dispatcher.disown(claims)
                raise
            except BaseException:
                self._dispatcher.release(claims)
                raise
            if isinstance(answer, Receipt):
                break
            self._dispatcher.release(claims)
            if isinstance(answer, Stale):
                await self._registry.catch_up(answer.revision)
                continue
            draft = submission.drafts[answer.position]
            events[answer.position] = self._event(submission.tenant, draft, above_ms=answer.latest_ms)
        if answer.duplicate:
            self._dispatcher.release(claims)
        else:
            self._dispatcher.take(claims, unclaimed=answer.deliveries - len(claims))
        self._observe(
            "submission.accepted",
            events=len(events),
            deliveries=answer.deliveries,
            duplicate=answer.duplicate,
        )
        return answer

    def _event(self, tenant: str, draft: Draft, above_ms: int = -1) -> Event:
        now_ms = int(self._clock() * 1000)
        request, response = mask(draft.request), mask(draft.response)
        entity_id = draft.entity_id or entity_id_of(draft.kind, draft.ids, _decode_object(response))
        timestamp_ms = self._timestamps.next(
            tenant,
            draft.kind.entity_name,
            entity_id,
            max(draft.timestamp_ms if draft.timestamp_ms is not None else now_ms, above_ms + 1),
        )
        return Event(
            tenant=tenant,
            key=self._keys.next(now_ms),
            kind=draft.kind,
            entity_id=entity_id,
            timestamp_ms=timestamp_ms,
            payload=compose_payload(draft.kind, draft.author, draft.ids, timestamp_ms, request, response),
        )

    def _match(self, submission: Submission, events: list[Event]) -> tuple[Publication, list[Claim]]:
        claims: list[Claim] = []
        matched = []
        for event in events:
            deliveries = []
            for prepared in self._registry.matching(event.tenant, event.kind):
                if not passes(prepared.hook, event.kind, event.payload, self._observe):
                    continue
                hook_id = prepared.hook.id
                in_order = prepared.hook.endpoint.order is Order.ENTITY
                # Only the store knows whether an earlier one of the entity is still waiting.
                token = None if in_order else self._dispatcher.reserve(prepared)
                deliveries.append(
                    NewDelivery(
                        hook_id=hook_id, lease_token=token, order_key=event.order_key if in_order else None
                    )
                )
                if token is not None:
                    claims.append(
                        Claim(
                            tenant=event.tenant,
                            event_key=event.key,
                            hook_id=hook_id,
                            lease_token=token,
                            attempts=0,
                            failures=0,
                            traffic=Traffic.LIVE,
                            kind=event.kind,
                            payload=event.payload,
                        )
                    )
            matched.append((event, tuple(deliveries)))
        publication = Publication(
            tenant=submission.tenant,
            events=tuple(matched),
            idempotency_key=submission.idempotency_key,
            fingerprint=submission.fingerprint,
            revision=self._registry.revision,
        )
        return publication, claims
