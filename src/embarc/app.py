"""The composition root: settings become parts, parts become the running service.

Only this file names a concrete store or transport.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from starlette.types import ASGIApp

from embarc.api import doors
from embarc.core.access import broken_links
from embarc.core.addresses import AllowedNetwork, Policy, parse_allowed
from embarc.core.catalogue import load_catalogue
from embarc.core.errors import SettingsError
from embarc.core.hook_config import parse_endpoint
from embarc.engine.access import Access
from embarc.engine.audit import AuditLog
from embarc.engine.deliver import Deliverer
from embarc.engine.dispatch import Dispatcher
from embarc.engine.health import Health
from embarc.engine.hooks import Hooks
from embarc.engine.ping import Pinger
from embarc.engine.prune import Pruner
from embarc.engine.publish import Publisher
from embarc.engine.read import Reader
from embarc.engine.registry import Registry
from embarc.engine.replay import Replayer
from embarc.engine.replays import Replays
from embarc.inlets.relay import Relay, SqliteSource
from embarc.net.resolver import SystemResolver
from embarc.net.transport import CurlTransport
from embarc.observe import Observer
from embarc.sandbox import Sandbox
from embarc.sandbox import build as build_sandbox
from embarc.settings import Settings
from embarc.store.base import Store
from embarc.store.migrate import Migration
from embarc.store.postgres.distribute import distribution
from embarc.store.sqlite.access import read_audits
from embarc.store.sqlite.store import SqliteStore
from embarc.store.vault import Vault
from embarc.telemetry import Metrics
from embarc.web.routes import Route

__all__ = ["Service", "distribution", "migrate", "verify_audits"]

SQLITE_PREFIX = "sqlite:///"
POSTGRES_SCHEMES = ("postgresql", "postgres")


class Background(Protocol):
    """Work that goes on beside everything else."""

    def start(self) -> None:
        """Begin."""
        ...

    async def stop(self) -> None:
        """End; the next start goes on."""
        ...


class Service:
    """Everything of one process, opened and started in order, stopped in the opposite one."""

    def __init__(
        self,
        app: ASGIApp,
        routes: Sequence[Route],
        store: Store,
        registry: Registry,
        transport: CurlTransport,
        dispatcher: Dispatcher,
        access: Access,
        sandbox: Sandbox | None,
        background: Sequence[Background],
        observer: Observer,
    ) -> None:
        self.app = app
        self.routes = routes
        self.access = access
        self.observe = observer
        self._store = store
        self._registry = registry
        self._transport = transport
        self._dispatcher = dispatcher
        self._sandbox = sandbox
        self._background = background

    @classmethod
    async def open(
        cls, settings: Settings, observer: Observer, *, on_broken: Callable[[str], None]
    ) -> Service:
        """Open the store and wire the parts; nothing runs yet. Raises `SettingsError`."""
        policy = Policy(allow_private=tuple(_allowed(text) for text in settings.allow_private))
        system_random = random.SystemRandom()
        worker = f"{os.uname().nodename}:{os.getpid()}"

        store, vault = await _open_store(settings, observer, on_broken)
        transport = CurlTransport(policy=policy, resolver=SystemResolver())
        catalogue = load_catalogue()
        registry = Registry(store)

        async def hooks_changed() -> None:
            await registry.refresh()
            dispatcher.wake()
            pruner.wake()

        health = Health(
            store,
            publish=lambda submission: publisher.publish(submission),
            on_change=hooks_changed,
            clock=time.time,
            observe=observer,
            disable_after_days=settings.disable_after_days,
        )
        pruner = Pruner(
            store,
            observe=observer,
            retention_days=settings.retention_days,
            attempt_retention_days=settings.attempt_retention_days,
        )

        hooks = Hooks(
            store,
            catalogue,
            policy,
            on_change=hooks_changed,
            clock=time.time,
            observe=observer,
            is_open_catalogue=settings.open_catalogue,
        )
        deliverer = Deliverer(transport, clock=time.time, chance=random.random, worker=worker)
        dispatcher = Dispatcher(
            store,
            registry,
            deliverer,
            health=health,
            random_bits=system_random.getrandbits,
            chance=random.random,
            monotonic=time.monotonic,
            observe=observer,
            lease_seconds=settings.lease_seconds,
        )
        publisher = Publisher(
            store,
            registry,
            dispatcher,
            clock=time.time,
            random_bits=random.getrandbits,
            observe=observer,
            lease_seconds=settings.lease_seconds,
        )
        replays = Replays(
            store,
            registry,
            wake_dispatcher=dispatcher.wake,
            clock=time.time,
            random_bits=random.getrandbits,
            observe=observer,
        )
        access = Access(store, monotonic=time.monotonic)
        sandbox = relay = None
        if settings.sandbox:
            woken: list[Relay] = []
            sandbox = build_sandbox(_sandbox_path(settings), wake=lambda: _wake(woken))
            relay = Relay(SqliteSource(sandbox.outbox_path), publisher.publish, observer)
            woken.append(relay)
        app, routes = doors.build(
            hooks=hooks,
            reader=Reader(store, dispatcher.why_held, dispatcher.condition),
            replayer=Replayer(store, registry, dispatcher.wake),
            replays=replays,
            pinger=Pinger(
                hooks,
                deliverer,
                clock=time.time,
                monotonic=time.monotonic,
                random_bits=random.getrandbits,
            ),
            public_keys=registry.public_keys,
            publisher=publisher,
            access=access,
            audit=AuditLog(store),
            store=store,
            fingerprint=vault.fingerprint,
            catalogue=catalogue,
            check=store.check,
            metrics=Metrics(observer).render,
            observe=observer,
            sandbox_routes=sandbox.routes if sandbox else [],
            is_open_catalogue=settings.open_catalogue,
        )
        background: list[Background] = [replays, pruner, *([relay] if relay else [])]
        return cls(app, routes, store, registry, transport, dispatcher, access, sandbox, background, observer)

    async def start(self) -> None:
        """Begin to deliver, and to relay the sandbox's events."""
        await self._registry.refresh()
        self._dispatcher.start()
        for one in self._background:
            one.start()

    def stop_claiming(self) -> None:
        """From now on nothing new is begun; what is accepted stays in the store."""
        self._dispatcher.stop_claiming()

    async def stop(self) -> None:
        """Finish or give back what is under way, then close everything."""
        for one in self._background:
            await one.stop()
        await self._dispatcher.stop()
        await self._transport.close()
        if self._sandbox:
            await asyncio.to_thread(self._sandbox.close)
        await self._store.close()


async def verify_audits(store: str) -> tuple[int, list[str]]:
    """How many entries the audit log has, and what is wrong with their chains. May be asked beside a running service.

    Raises `SettingsError` where there is no database.
    """
    if is_postgres(store):
        from embarc.store.postgres import access as postgres

        entries = await postgres.read_audits(store)
    else:
        path = database_path(store)
        if not path.exists():
            raise SettingsError(f"There is no database at {path}.")
        entries = read_audits(path)
    return len(entries), list(broken_links(entries))


async def migrate(store: str, *, dry_run: bool) -> Sequence[Migration]:
    """Bring a PostgreSQL store's schema up to date; returns what was, or would be, applied. SQLite's is when it is opened."""
    if not is_postgres(store):
        database_path(store)
        return []
    from embarc.store.postgres import database as postgres

    return await postgres.migrate(store, dry_run=dry_run)


def is_postgres(url: str) -> bool:
    """Whether a store's URL leads to PostgreSQL; raises `SettingsError` where its driver is not installed."""
    if url.partition("://")[0] not in POSTGRES_SCHEMES:
        return False
    if importlib.util.find_spec("asyncpg") is None:
        raise SettingsError("A PostgreSQL store needs its driver: install `embarc[server,postgres]`.")
    return True


def database_path(url: str) -> Path:
    """The file of a `sqlite:///` URL: three slashes and a relative path, or four and an absolute one."""
    if not url.startswith(SQLITE_PREFIX) or not url.removeprefix(SQLITE_PREFIX):
        scheme = url.partition(":")[0]
        raise SettingsError(
            f"`store` must be `sqlite:///PATH` or `postgresql://USER@HOST/DATABASE`; this one starts with `{scheme}`."
        )
    return Path(url.removeprefix(SQLITE_PREFIX))


async def _open_store(
    settings: Settings, observer: Observer, on_broken: Callable[[str], None]
) -> tuple[Store, Vault]:
    if is_postgres(settings.store):
        # Here, not above: whoever runs on SQLite needs no driver for PostgreSQL.
        from embarc.store.postgres.store import PostgresStore

        vault = Vault.from_file(Path(settings.key_file))
        opened = await PostgresStore.open(settings.store, parse_endpoint=parse_endpoint, vault=vault)
        for warning in await opened.durability():
            observer("store.alarm", reason=warning)
        return opened, vault
    database = database_path(settings.store)
    database.parent.mkdir(parents=True, exist_ok=True)
    vault = Vault.from_file(database.with_name(database.name + ".key"))
    store = await SqliteStore.open(database, parse_endpoint=parse_endpoint, vault=vault, on_broken=on_broken)
    return store, vault


def _sandbox_path(settings: Settings) -> Path:
    """The sandbox's own database: beside the store's, or beside the key where the store is no file."""
    if is_postgres(settings.store):
        return Path(settings.key_file).with_name("embarc-sandbox.db")
    database = database_path(settings.store)
    return database.with_name(database.stem + "-sandbox.db")


def _wake(relays: list[Relay]) -> None:
    for relay in relays:
        relay.wake()


def _allowed(text: str) -> AllowedNetwork:
    try:
        return parse_allowed(text)
    except ValueError as error:
        raise SettingsError(f"`allow_private`: {error}") from None
