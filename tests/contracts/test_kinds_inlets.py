"""What a store keeps of kinds of event and of inlets."""

from __future__ import annotations

from dataclasses import replace

from embarc.core.catalogue import Entry
from embarc.core.events import EventKind
from embarc.core.inlets import Inlet
from embarc.store.base import Store
from embarc.testing.clock import ManualClock
from embarc.testing.lab import StoreLab

OPENED = Entry(
    EventKind("CARD", "OPEN"), "cards", "A card was opened.", b'{"entityName":"CARD","amount":1.00}'
)
CLOSED = Entry(EventKind("CARD", "CLOSE"), "cards")


async def test_a_kind_comes_back_as_it_was_stored_by_name(lab: StoreLab) -> None:
    assert await lab.store.add_kind("default", OPENED)
    assert await lab.store.add_kind("default", CLOSED)

    store = await lab.reopen()

    assert list(await store.list_kinds("default")) == [CLOSED, OPENED]


async def test_a_kind_is_added_once_in_a_tenant(store: Store) -> None:
    await store.add_kind("default", OPENED)

    added_again = await store.add_kind("default", replace(OPENED, description="Another."))

    assert not added_again
    assert list(await store.list_kinds("default")) == [OPENED]
    assert await store.add_kind("other", CLOSED)
    assert list(await store.list_kinds("default")) == [OPENED]


async def test_names_of_kinds_differ_by_case(store: Store) -> None:
    assert await store.add_kind("default", OPENED)
    assert await store.add_kind("default", replace(OPENED, kind=EventKind("card", "OPEN")))


async def test_a_replaced_kind_is_only_the_tenants_own(store: Store) -> None:
    await store.add_kind("default", OPENED)
    changed = replace(OPENED, grouping="plastic", description="", sample=b"{}")

    assert not await store.replace_kind("other", changed)
    assert not await store.replace_kind("default", CLOSED)
    assert await store.replace_kind("default", changed)

    assert list(await store.list_kinds("default")) == [changed]
    assert list(await store.list_kinds("other")) == []


def inlet(number: int, tenant: str = "default") -> Inlet:
    return Inlet(
        tenant=tenant,
        name=f"inlet {number}",
        digest=bytes([number]) * 32,
        forwards_failures=number % 2 == 0,
        created_by="admin",
    )


async def test_an_inlet_is_found_by_the_digest_of_its_secret(lab: StoreLab, clock: ManualClock) -> None:
    added = await lab.store.add_inlet(inlet(1))
    other = await lab.store.add_inlet(inlet(2, "other"))

    store = await lab.reopen()

    assert replace(added, id=0, created_at_ms=0) == inlet(1)
    assert added.created_at_ms == int(clock.now() * 1000)
    assert await store.get_inlet(added.digest) == added
    assert await store.get_inlet(other.digest) == other
    assert await store.get_inlet(bytes(32)) is None
    assert list(await store.list_inlets("default")) == [added]


async def test_a_removed_inlet_is_gone_and_its_id_is_never_given_again(store: Store) -> None:
    first = await store.add_inlet(inlet(1))

    assert not await store.remove_inlet("other", first.id)
    assert await store.get_inlet(first.digest) == first
    assert await store.remove_inlet("default", first.id)
    assert not await store.remove_inlet("default", first.id)

    assert await store.get_inlet(first.digest) is None
    assert (await store.add_inlet(inlet(1))).id > first.id
