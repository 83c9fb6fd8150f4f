"""A store that has lived: something of everything that a copy, or a look over it, may meet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from embarc.core.access import ApiKey, AuditEntry, User
from embarc.core.catalogue import Entry
from embarc.core.deliveries import State
from embarc.core.events import EventKind
from embarc.core.ids import delivery_id
from embarc.core.inlets import Inlet
from embarc.core.replays import Selection
from embarc.engine.replay import Replayer
from embarc.store.base import DeliveryFilter, EventFilter, Store
from embarc.testing.engine import EngineLab
from embarc.testing.receiver import ScriptedReceiver

TENANTS = ("default", "failing", "held", "orderly")
KEY = "00" * 32
"""Of every store that is opened for a test."""


def with_key(path: Path) -> str:
    """The URL of a SQLite store to be, whose key is that of a test."""
    beside = path.with_name(path.name + ".key")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(KEY + "\n")
    return f"sqlite:///{path}"


async def live(url: str, well: ScriptedReceiver, ill: ScriptedReceiver) -> None:
    """Let an engine work on the store: what it sends to `well` succeeds, what it sends to `ill` fails."""
    ill.answers(500)
    engine = await EngineLab(url).start()
    try:
        await engine.hook(well.url, secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")  # noqa: S106 - of a test
        await engine.hook(ill.url, tenant="failing", retry_schedule="3600")
        ordered = await engine.hook(ill.url, tenant="orderly", order="entity", max_retries="0")
        held = await engine.hook(well.url, tenant="held", authentication="basic", username="u", password="p")  # noqa: S106 - of a test
        await engine.hooks.pause("held", str(held))

        delivered = await engine.publish(5, key="once")
        for _ in range(5):
            await engine.next_attempt()
        replayer = Replayer(engine.store, engine.registry, engine.dispatcher.wake)
        await replayer.replay("default", _delivery(delivered.event_ids[0], 1))
        await engine.next_attempt()
        await engine.publish(2, tenant="failing")
        for _ in range(2):
            await engine.next_attempt()
        # The first is exhausted and stays in the way of the others.
        for _ in range(3):
            await engine.publish(tenant="orderly")
        await engine.next_attempt()
        waiting = await engine.publish(3, tenant="held")
        await replayer.cancel("held", _delivery(waiting.event_ids[0], held), "somebody")
        job = await engine.replays.create(
            "default",
            Selection(hook_id=1, until_ms=int(engine.now() * 1000) + 1, states=(State.DELIVERED,)),
            "somebody",
        )
        await engine.told("replay.ended")
        for _ in range(5):
            await engine.next_attempt()
        assert job.state == "running"  # noqa: S101 - it began so
        # The highest id is given up: it must not be given again.
        last = await engine.hook(well.url, tenant="held")
        await engine.hooks.delete("held", str(last))
        await _people(engine.store)
        assert ordered == 3  # noqa: S101 - as the test that sees it relies on
    finally:
        await engine.stop()


async def seen(store: Store) -> dict[str, Any]:
    """Everything of the store that its reading verbs show."""
    found: dict[str, Any] = {
        "hooks": list(await store.list_hooks()),
        "revision": await store.hooks_revision(),
        "data keys": list(await store.list_data_keys()),
        "tenants": list(await store.list_tenants()),
        "running": list(await store.running_replays()),
        "key": await store.get_api_key("key1"),
        "inlet": await store.get_inlet(b"d" * 32),
    }
    for tenant in TENANTS:
        deliveries = await store.list_deliveries(tenant, DeliveryFilter(), before=None, limit=200)
        found |= {
            f"users of {tenant}": list(await store.list_users(tenant)),
            f"API keys of {tenant}": list(await store.list_api_keys(tenant)),
            f"kinds of {tenant}": list(await store.list_kinds(tenant)),
            f"inlets of {tenant}": list(await store.list_inlets(tenant)),
            f"audits of {tenant}": list(await store.list_audits(tenant, before=1 << 40, limit=200)),
            f"replays of {tenant}": list(await store.list_replays(tenant, limit=200)),
            f"events of {tenant}": list(
                await store.list_events(tenant, EventFilter(), before=None, limit=200)
            ),
            f"deliveries of {tenant}": list(deliveries),
            f"attempts of {tenant}": [
                await store.list_attempts(tenant, one.event_key, one.hook_id) for one in deliveries
            ],
        }
    return found


def _delivery(event: str, hook_id: int) -> str:
    return delivery_id(bytes.fromhex(event.removeprefix("evt_")), hook_id)


async def _people(store: Store) -> None:
    for tenant in TENANTS[:2]:
        await store.add_user(
            User(
                tenant=tenant,
                id=0,
                username="äda",
                full_name="Ada",
                office_id=3,
                permissions=frozenset({"READ_HOOK"}),
                password_hash="$argon2id$",  # noqa: S106 - of a test
            )
        )
        for number in range(3):
            await store.append_audit(
                AuditEntry(tenant=tenant, username="äda", action="UPDATE_HOOK", resource_id=str(number))
            )
    await store.add_tenant("failing", "Does not go well")
    for key_id in ("key1", "key2"):
        await store.add_api_key(
            ApiKey(
                tenant="default",
                key_id=key_id,
                name="a key",
                digest=b"x" * 32,
                permissions=frozenset({"CREATE_EVENT"}),
                created_by="äda",
                expires_at_ms=1 << 42,
            )
        )
    await store.use_api_key("key1")
    await store.revoke_api_key("default", "key2")
    await store.add_kind("default", Entry(kind=EventKind("GOAT", "MILK"), grouping="g", sample=b'{"a":1.00}'))
    await store.add_inlet(Inlet(tenant="held", name="an inlet", digest=b"d" * 32, forwards_failures=True))
