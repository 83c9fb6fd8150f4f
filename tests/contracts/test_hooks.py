"""The store contract: hooks and users."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from embarc.core.access import ApiKey, User
from embarc.core.deliveries import State
from embarc.core.hooks import SigningSecret
from embarc.core.submissions import Receipt
from embarc.store.base import EventFilter, Publication, Stale, Store
from embarc.testing.clock import ManualClock
from embarc.testing.lab import Factory, StoreLab


async def test_a_hook_comes_back_as_it_was_stored(lab: StoreLab, make: Factory) -> None:
    hook = make.hook()

    added = await lab.store.add_hook(hook)

    assert added.id > 0
    assert added.version == 1
    assert replace(added, id=0, version=0, created_at_ms=0, updated_at_ms=0) == hook
    store = await lab.reopen()
    assert await store.get_hook("default", added.id) == added


async def test_a_replaced_hook_has_a_higher_version(store: Store, make: Factory, clock: ManualClock) -> None:
    added = await store.add_hook(make.hook())
    clock.advance(10)

    replaced = await store.replace_hook(
        replace(added, display_name="Another", secrets=(SigningSecret("whsec_new", 5),))
    )

    assert replaced is not None
    assert (replaced.version, replaced.display_name, replaced.secrets) == (
        2,
        "Another",
        (SigningSecret("whsec_new", 5),),
    )
    assert replaced.created_at_ms == added.created_at_ms
    assert replaced.updated_at_ms == added.updated_at_ms + 10_000


async def test_hooks_are_listed_by_display_name_and_by_tenant(store: Store, make: Factory) -> None:
    for name, tenant in (("b", "default"), ("a", "default"), ("c", "other")):
        await store.add_hook(make.hook(display_name=name, tenant=tenant))

    assert [hook.display_name for hook in await store.list_hooks("default")] == ["a", "b"]
    assert [hook.display_name for hook in await store.list_hooks()] == ["a", "b", "c"]


async def test_a_hook_of_another_tenant_cannot_be_read_changed_or_removed(
    store: Store, make: Factory
) -> None:
    added = await store.add_hook(make.hook(tenant="other"))

    assert await store.get_hook("default", added.id) is None
    assert await store.replace_hook(replace(added, tenant="default")) is None
    assert await store.remove_hook("default", added.id) is None
    assert await store.get_hook("other", added.id) == added


async def test_what_waits_for_a_removed_hook_is_cancelled_bit_by_bit(store: Store, make: Factory) -> None:
    hook = await store.add_hook(make.hook())
    event = make.event()
    await store.publish(make.publication(event, hooks=(hook.id,)), lease_seconds=60)

    removed = await store.remove_hook("default", hook.id)

    assert removed == hook
    assert await store.cancel_orphans(1) == 1
    assert await store.cancel_orphans(1) == 0
    record = await store.get_delivery("default", event.key, hook.id)
    assert record is not None
    assert (record.state, record.reason) == (State.CANCELLED, "the hook was deleted")
    assert list(await store.due()) == []
    assert await store.remove_hook("default", hook.id) is None


async def test_an_id_is_never_given_twice(store: Store, make: Factory) -> None:
    first = await store.add_hook(make.hook())
    await store.remove_hook("default", first.id)

    second = await store.add_hook(make.hook())

    assert second.id > first.id


async def test_every_change_of_a_hook_gives_the_hooks_another_revision(store: Store, make: Factory) -> None:
    revisions = [await store.hooks_revision()]

    hook = await store.add_hook(make.hook())
    revisions.append(await store.hooks_revision())
    await store.replace_hook(hook)
    revisions.append(await store.hooks_revision())
    await store.set_failing_since("default", hook.id, 1)
    revisions.append(await store.hooks_revision())
    await store.remove_hook("default", hook.id)
    revisions.append(await store.hooks_revision())
    await store.remove_hook("default", hook.id)

    assert len(set(revisions)) == 5
    assert await store.hooks_revision() == revisions[-1]


async def test_what_was_matched_against_hooks_that_have_changed_is_refused_alone(
    store: Store, make: Factory
) -> None:
    before = await store.hooks_revision()
    await store.publish(make.publication(make.event(), key="known"), lease_seconds=60)
    await store.add_hook(make.hook())
    now = await store.hooks_revision()

    def matched(revision: int | None, key: str | None = None) -> Publication:
        return replace(make.publication(make.event(), key=key), revision=revision)

    answers = await asyncio.gather(
        *(
            store.publish(one, lease_seconds=60)
            for one in (matched(now), matched(before), matched(None), matched(before, "known"), matched(now))
        )
    )

    assert answers[1] == Stale(now)
    known = answers[3]
    assert isinstance(known, Receipt)
    assert known.duplicate
    assert [type(answer) for answer in answers] == [Receipt, Stale, Receipt, Receipt, Receipt]
    assert len(await store.list_events("default", EventFilter(), before=None, limit=9)) == 4


async def test_a_user_name_is_given_once_in_a_tenant(store: Store) -> None:
    user = User(
        tenant="default",
        id=0,
        username="admin",
        full_name="App Administrator",
        office_id=1,
        permissions=frozenset({"READ_HOOK", "CREATE_HOOK"}),
        password_hash="$argon2id$...",
    )
    assert not await store.has_users()

    added = await store.add_user(user)

    assert added is not None
    assert replace(added, id=0) == user
    assert await store.get_user("default", "admin") == added
    assert await store.get_user("other", "admin") is None
    assert await store.add_user(user) is None
    assert await store.has_users()


async def test_whoever_remembers_a_credential_notices_that_it_was_taken_back(store: Store) -> None:
    key = ApiKey(
        tenant="default", key_id="k", name="n", digest=b"d", permissions=frozenset(), created_by="admin"
    )
    await store.add_api_key(key)
    user = await store.add_user(
        User(
            tenant="default",
            id=0,
            username="jane",
            full_name="Jane",
            office_id=1,
            permissions=frozenset(),
            password_hash="h",
        )
    )
    assert user is not None
    revisions = [await store.hooks_revision()]

    await store.revoke_api_key("default", "k")
    revisions.append(await store.hooks_revision())
    await store.replace_user(replace(user, password_hash="another"))
    revisions.append(await store.hooks_revision())
    await store.remove_user("default", user.id)
    revisions.append(await store.hooks_revision())
    await store.remove_user("default", user.id)

    assert len(set(revisions)) == 4
    assert await store.hooks_revision() == revisions[-1]
