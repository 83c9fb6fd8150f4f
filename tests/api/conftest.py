"""The whole service behind its ASGI application, composed as `embarc serve` composes it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from embarc.app import Service
from embarc.observe import Observer
from embarc.settings import load_settings
from embarc.testing.asgi import Client
from embarc.testing.names import StaticResolver
from embarc.testing.receiver import ScriptedReceiver

PASSWORD = "a-test-password"
# A real argon2id hash with the smallest parameters: the hash says how it is verified.
CHEAP_HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    settings = load_settings(
        {},
        overrides={
            "store": f"sqlite:///{tmp_path / 'embarc.db'}",
            "sandbox": True,
            "allow_private": "127.0.0.0/8",
        },
        directory=tmp_path,
    )
    opened = await Service.open(settings, Observer(), on_broken=pytest.fail, resolver=StaticResolver({}))
    await opened.access.add_admin(CHEAP_HASH)
    await opened.start()
    yield opened
    await opened.stop()


@pytest.fixture
def client(service: Service) -> Client:
    return Client(service.app, "admin", PASSWORD)


@pytest.fixture
async def receiver() -> AsyncIterator[ScriptedReceiver]:
    async with ScriptedReceiver() as opened:
        yield opened
