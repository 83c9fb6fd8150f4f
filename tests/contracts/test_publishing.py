"""The store contract: publishing."""

from __future__ import annotations

import asyncio

import pytest

from embarc.core.errors import IdempotencyMismatch
from embarc.core.ids import event_id
from embarc.core.submissions import Receipt
from embarc.store.base import DeliveryFilter, EventFilter, Publication, Store, TimestampTaken
from embarc.testing.lab import Factory, StoreLab, every_class

LEASE = 60.0


async def test_a_published_event_is_there_after_the_store_was_opened_again(
    lab: StoreLab, make: Factory
) -> None:
    event = make.event()

    receipt = await lab.store.publish(make.publication(event, hooks=(1, 2)), lease_seconds=LEASE)

    assert receipt == Receipt(event_ids=(event_id(event.key),), deliveries=2)
    store = await lab.reopen()
    record = await store.get_event("default", event.key)
    assert record is not None
    assert record.event == event
    deliveries = await store.list_deliveries("default", DeliveryFilter(), before=None, limit=10)
    assert sorted(delivery.hook_id for delivery in deliveries) == [1, 2]


async def test_an_event_that_nobody_wants_is_stored_all_the_same(store: Store, make: Factory) -> None:
    event = make.event()

    receipt = await store.publish(make.publication(event), lease_seconds=LEASE)

    assert isinstance(receipt, Receipt)
    assert receipt.deliveries == 0
    assert await store.get_event("default", event.key) is not None


async def test_the_payload_comes_back_byte_for_byte(store: Store, make: Factory) -> None:
    event = make.event()
    assert b'"a":1.00' in event.payload

    await store.publish(make.publication(event, hooks=(1,)), lease_seconds=LEASE)

    (claim,) = await store.claim(every_class({1: 1}), lease_seconds=LEASE, lease_token=5)
    assert claim.payload == event.payload
    record = await store.get_event("default", event.key)
    assert record is not None
    assert record.event.payload == event.payload


async def test_a_known_key_gives_the_first_receipt_and_writes_nothing(store: Store, make: Factory) -> None:
    first = await store.publish(
        make.publication(make.event(), make.event(), hooks=(1,), key="k"), lease_seconds=LEASE
    )

    again = await store.publish(make.publication(make.event(), hooks=(1,), key="k"), lease_seconds=LEASE)

    assert isinstance(first, Receipt)
    assert again == Receipt(event_ids=first.event_ids, deliveries=2, duplicate=True)
    assert len(await store.list_events("default", EventFilter(), before=None, limit=10)) == 2


async def test_a_known_key_with_another_body_is_refused(store: Store, make: Factory) -> None:
    await store.publish(make.publication(make.event(), key="k"), lease_seconds=LEASE)
    other = make.publication(make.event(), key="k")
    other = Publication(tenant=other.tenant, events=other.events, idempotency_key="k", fingerprint=b"two")

    with pytest.raises(IdempotencyMismatch):
        await store.publish(other, lease_seconds=LEASE)

    assert len(await store.list_events("default", EventFilter(), before=None, limit=10)) == 1


async def test_a_key_of_one_tenant_means_nothing_to_another(store: Store, make: Factory) -> None:
    await store.publish(make.publication(make.event(), key="k"), lease_seconds=LEASE)

    receipt = await store.publish(make.publication(make.event(tenant="other"), key="k"), lease_seconds=LEASE)

    assert isinstance(receipt, Receipt)
    assert not receipt.duplicate


async def test_no_two_events_of_one_entity_share_a_timestamp(store: Store, make: Factory) -> None:
    await store.publish(make.publication(make.event(entity_id="7", timestamp_ms=1000)), lease_seconds=LEASE)

    answer = await store.publish(
        make.publication(make.event(entity_id="8"), make.event(entity_id="7", timestamp_ms=1000), key="k"),
        lease_seconds=LEASE,
    )

    assert answer == TimestampTaken(position=1, latest_ms=1000)
    assert len(await store.list_events("default", EventFilter(), before=None, limit=10)) == 1
    again = await store.publish(make.publication(make.event(), key="k"), lease_seconds=LEASE)
    assert isinstance(again, Receipt)
    assert not again.duplicate


async def test_a_refused_publication_does_not_harm_its_neighbours_in_the_same_commit(
    store: Store, make: Factory
) -> None:
    await store.publish(make.publication(make.event(), key="k"), lease_seconds=LEASE)
    bad = make.publication(make.event(), key="k")
    bad = Publication(tenant=bad.tenant, events=bad.events, idempotency_key="k", fingerprint=b"two")
    good = [make.publication(make.event()) for _ in range(20)]

    answers = await asyncio.gather(
        *(store.publish(one, lease_seconds=LEASE) for one in [*good[:10], bad, *good[10:]]),
        return_exceptions=True,
    )

    assert [type(answer) for answer in answers].count(Receipt) == 20
    assert isinstance(answers[10], IdempotencyMismatch)
    assert len(await store.list_events("default", EventFilter(), before=None, limit=50)) == 21


async def test_events_are_listed_newest_first_page_by_page(store: Store, make: Factory) -> None:
    events = [make.event() for _ in range(5)]
    for event in events:
        await store.publish(make.publication(event), lease_seconds=LEASE)

    first = await store.list_events("default", EventFilter(), before=None, limit=2)
    second = await store.list_events("default", EventFilter(), before=first[-1].event.key, limit=9)

    assert [record.event.key for record in [*first, *second]] == [event.key for event in reversed(events)]


async def test_events_are_found_by_entity_and_by_time(lab: StoreLab, make: Factory) -> None:
    early = make.event(entity_id="7")
    lab.clock.advance(60)
    late = make.event(entity_id="7")
    other = make.event(entity_id="8")
    await lab.store.publish(make.publication(early, late, other), lease_seconds=LEASE)
    now_ms = int(lab.clock.now() * 1000)

    by_entity = await lab.store.list_events("default", EventFilter(entity_id="7"), before=None, limit=9)
    since = await lab.store.list_events("default", EventFilter(since_ms=now_ms - 1000), before=None, limit=9)
    until = await lab.store.list_events("default", EventFilter(until_ms=now_ms - 1000), before=None, limit=9)

    assert [record.event.key for record in by_entity] == [late.key, early.key]
    assert {record.event.key for record in since} == {late.key, other.key}
    assert [record.event.key for record in until] == [early.key]


async def test_one_tenant_does_not_see_what_another_has(store: Store, make: Factory) -> None:
    event = make.event(tenant="other")
    await store.publish(make.publication(event, hooks=(1,)), lease_seconds=LEASE)

    assert await store.get_event("default", event.key) is None
    assert await store.get_delivery("default", event.key, 1) is None
    assert list(await store.list_events("default", EventFilter(), before=None, limit=9)) == []
    assert list(await store.list_deliveries("default", DeliveryFilter(), before=None, limit=9)) == []
