"""Data keys and the values that are sealed with them, on every store."""

from __future__ import annotations

from dataclasses import replace

from embarc.store.base import DataKey, Store
from embarc.testing.lab import Factory, StoreLab


async def a_key(store: Store, tenant: str, number: int = 1) -> DataKey:
    """A further key, wrapped by whatever wraps those that are there."""
    (first, *_) = await store.list_data_keys()
    return DataKey(tenant=tenant, key_id=bytes([number]) * 8, wrapped=b"wrapped", wrapped_by=first.wrapped_by)


async def test_the_installation_has_a_key_of_its_own_and_each_tenant_gets_one_with_its_first_secret(
    store: Store, make: Factory
) -> None:
    at_first = [key.tenant for key in await store.list_data_keys()]
    await store.add_hook(make.hook(tenant="acme"))
    await store.add_hook(make.hook(tenant="acme"))

    assert at_first == [""]
    assert [key.tenant for key in await store.list_data_keys()] == ["", "acme"]


async def test_a_tenant_has_one_key_in_force(store: Store) -> None:
    assert await store.add_data_key(await a_key(store, "acme", 1))
    assert not await store.add_data_key(await a_key(store, "acme", 2))

    stored = [key for key in await store.list_data_keys() if key.tenant == "acme"]
    assert [(key.key_id, key.wrapped, key.is_retired) for key in stored] == [(b"\x01" * 8, b"wrapped", False)]
    assert stored[0].created_at_ms > 0


async def test_a_process_that_missed_a_rotation_adds_no_key(store: Store) -> None:
    late = replace(await a_key(store, "acme"), wrapped_by="another")

    assert not await store.add_data_key(late)
    assert [key.tenant for key in await store.list_data_keys()] == [""]


async def test_all_keys_are_wrapped_anew_or_none(store: Store) -> None:
    await store.add_data_key(await a_key(store, "acme"))
    keys = await store.list_data_keys()
    changed = [replace(key, wrapped=b"anew", wrapped_by="next") for key in keys]

    assert not await store.rewrap_data_keys(changed[:1])
    untouched = await store.list_data_keys()
    assert await store.rewrap_data_keys(changed)

    assert untouched == keys
    assert {(key.wrapped, key.wrapped_by) for key in await store.list_data_keys()} == {(b"anew", "next")}


async def test_what_lies_under_a_retired_key_is_stale_until_it_is_replaced(
    store: Store, make: Factory
) -> None:
    hook = await store.add_hook(make.hook(tenant="acme"))
    await store.add_hook(make.hook(tenant="other"))
    assert await store.list_stale_seals(limit=10) == []
    successor = await a_key(store, "acme")

    await store.succeed_data_keys([successor])
    (stale,) = await store.list_stale_seals(limit=10)
    kept = await store.remove_retired_data_keys()
    replaced = await store.replace_seal(stale, b"\x02" + successor.key_id + b"anew")
    again = await store.replace_seal(stale, b"too late")
    removed = await store.remove_retired_data_keys()

    assert (stale.tenant, stale.table, stale.row, stale.column) == ("acme", "hooks", hook.id, "secrets")
    assert (kept, replaced, again, removed) == (0, True, False, 1)
    assert await store.list_stale_seals(limit=10) == []
    assert [key.key_id for key in await store.list_data_keys() if key.tenant == "acme"] == [successor.key_id]


async def test_secrets_come_back_after_a_restart(lab: StoreLab, store: Store, make: Factory) -> None:
    hook = await store.add_hook(make.hook(tenant="acme"))

    store = await lab.reopen()

    assert await store.get_hook("acme", hook.id) == hook
