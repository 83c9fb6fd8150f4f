"""Processes that only answer and processes that only send: what one of them was told, the others know."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from embarc.app import Service
from embarc.observe import Observer
from embarc.settings import load_settings
from embarc.testing.asgi import Client
from embarc.testing.names import StaticResolver
from embarc.testing.postgres import KEY
from embarc.testing.receiver import ScriptedReceiver

from .conftest import CHEAP_HASH, PASSWORD

EVENT = {"entityName": "CLIENT", "actionName": "CREATE", "clientId": 7, "response": {"resourceId": 7}}


@asynccontextmanager
async def running(store: str, folder: Path, role: str) -> AsyncIterator[Service]:
    settings = load_settings(
        {},
        overrides={"store": store, "role": role, "key": KEY, "allow_private": "127.0.0.0/8"},
        directory=folder,
    )
    service = await Service.open(settings, Observer(), on_broken=pytest.fail, resolver=StaticResolver({}))
    await service.start()
    yield service
    await service.stop()


def pointing_to(receiver: ScriptedReceiver) -> dict[str, object]:
    return {
        "name": "Web",
        "isActive": True,
        "events": [{"entityName": "CLIENT", "actionName": "CREATE"}],
        "config": {"Payload URL": receiver.url, "Content Type": "json"},
    }


async def test_a_process_that_only_sends_knows_each_hook_as_it_was_when_the_event_came(
    postgres_url: str, tmp_path: Path
) -> None:
    async with (
        ScriptedReceiver() as first,
        ScriptedReceiver() as second,
        running(postgres_url, tmp_path, "api") as api,
        running(postgres_url, tmp_path, "dispatch"),
    ):
        await api.access.add_admin(CHEAP_HASH)
        client = Client(api.app, "admin", PASSWORD)

        hook = (await client.ok("POST", "hooks", pointing_to(first)))["resourceId"]
        await client.ok("POST", "events", EVENT)
        await first.received(1)
        await client.ok("PUT", f"hooks/{hook}", pointing_to(second))
        await client.ok("POST", "events", EVENT)
        await second.received(1)

        assert (len(first.requests), len(second.requests)) == (1, 1)


async def test_a_process_that_only_answers_shows_what_another_one_was_told(
    postgres_url: str, tmp_path: Path, receiver: ScriptedReceiver
) -> None:
    async with (
        running(postgres_url, tmp_path, "api") as api,
        running(postgres_url, tmp_path, "api") as other,
    ):
        await api.access.add_admin(CHEAP_HASH)
        client, elsewhere = (Client(one.app, "admin", PASSWORD) for one in (api, other))

        hook = (await client.ok("POST", "hooks", pointing_to(receiver)))["resourceId"]
        await client.ok("POST", f"hooks/{hook}?command=pause")
        await client.ok("POST", "events", EVENT)

        async with asyncio.timeout(30):
            while True:
                (delivery,) = (await elsewhere.ok("GET", "deliveries"))["pageItems"]
                if delivery["reason"] == "the hook is paused":
                    break
                await asyncio.sleep(0.05)
