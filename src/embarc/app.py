"""The composition root: settings become parts, parts become the running service.

Only this file names a concrete store or transport.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from starlette.types import ASGIApp

from embarc.api import doors
from embarc.core.addresses import Policy, parse_allowed, parse_network, parse_port
from embarc.core.catalogue import load_catalogue
from embarc.core.errors import SettingsError
from embarc.core.members import NUMBER_BITS, Member
from embarc.engine.access import Access
from embarc.engine.audit import AuditLog
from embarc.engine.deliver import Deliverer
from embarc.engine.dispatch import Dispatcher
from embarc.engine.health import Health
from embarc.engine.hooks import Hooks
from embarc.engine.inlets import Inlets
from embarc.engine.kinds import Kinds
from embarc.engine.members import Membership
from embarc.engine.ping import Pinger
from embarc.engine.prune import Pruner
from embarc.engine.publish import Publisher
from embarc.engine.read import Reader
from embarc.engine.registry import Registry
from embarc.engine.replay import Replayer
from embarc.engine.replays import Replays
from embarc.inlets.fineract import FineractInlet
from embarc.inlets.relay import Relay, SqliteSource
from embarc.inlets.submitting import submitting
from embarc.net.guard import EgressProxy, UrlChecker, parse_proxy
from embarc.net.resolver import Resolver, SystemResolver
from embarc.net.transport import CurlTransport
from embarc.observe import Observer
from embarc.sandbox import Sandbox
from embarc.sandbox import build as build_sandbox
from embarc.settings import Settings
from embarc.store.base import Store
from embarc.stores import open_store, sandbox_path
from embarc.telemetry import Metrics
from embarc.web.routes import Route

SANDBOX_IDLE_SECONDS = 1.0
"""The sandbox wakes its relay at every commit; looking is for what a crash left."""


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
        members: Membership,
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
        self._members = members
        self._dispatcher = dispatcher
        self._sandbox = sandbox
        self._background = background

    @classmethod
    async def open(
        cls,
        settings: Settings,
        observer: Observer,
        *,
        on_broken: Callable[[str], None],
        shared_folder: Path | None = None,
        resolver: Resolver | None = None,
    ) -> Service:
        """Open the store and wire the parts; nothing runs yet. Raises `SettingsError`.

        `shared_folder` is where several processes behind one port leave their counts for each other; `resolver` replaces
        the system's.
        """
        policy, proxy = network_policy(settings)
        if settings.allow_metadata:
            observer("network.metadata_allowed")
        system_random = random.SystemRandom()
        worker = f"{os.uname().nodename}:{os.getpid()}"

        store, vault = await open_store(settings, observer, on_broken=on_broken)
        resolver = resolver or SystemResolver()
        transport = CurlTransport(policy=policy, resolver=resolver, proxy=proxy)
        kinds = Kinds(store, load_catalogue(), observe=observer, is_open=settings.open_catalogue)
        registry = Registry(store)

        dispatches = settings.role != "api"
        member = Member(number=system_random.getrandbits(NUMBER_BITS), name=worker, dispatches=dispatches)
        members = Membership(store, member, observe=observer)

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
            leads=lambda: members.leads,
            observe=observer,
            retention_days=settings.retention_days,
            attempt_retention_days=settings.attempt_retention_days,
        )

        hooks = Hooks(
            store,
            kinds,
            UrlChecker(policy, resolver),
            on_change=hooks_changed,
            clock=time.time,
            observe=observer,
        )
        deliverer = Deliverer(transport, clock=time.time, chance=random.random, worker=worker)
        dispatcher = Dispatcher(
            store,
            registry,
            deliverer,
            members=members,
            health=health,
            chance=random.random,
            monotonic=time.monotonic,
            observe=observer,
            lease_seconds=settings.lease_seconds,
        )
        store.on_announcement(dispatcher.look)
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
            leads=lambda: members.leads,
            clock=time.time,
            random_bits=random.getrandbits,
            observe=observer,
        )
        access = Access(store, monotonic=time.monotonic)
        sandbox = relay = None
        if settings.sandbox:
            woken: list[Relay] = []
            sandbox = build_sandbox(sandbox_path(settings), wake=lambda: _wake(woken))
            relay = Relay(
                SqliteSource(sandbox.outbox_path),
                submitting(publisher.publish, kinds.admit),
                observer,
                idle_seconds=SANDBOX_IDLE_SECONDS,
            )
            woken.append(relay)
        metrics = Metrics(observer, shared_folder)

        seen: int | None = None

        async def on_heartbeat() -> None:
            nonlocal seen
            metrics.share()
            # What another process has changed. Publishing and claiming may have caught up with the hooks before.
            if len(members.members) > 1 and (revision := await store.hooks_revision()) != seen:
                seen = revision
                await registry.catch_up(revision)
                access.forget()
                dispatcher.look()
                pruner.wake()

        members.on_heartbeat = on_heartbeat

        inlets = Inlets(store)
        fineract = FineractInlet(
            inlets.find, publisher.publish, kinds.learn, clock=time.time, observe=observer
        )
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
            kinds=kinds,
            check=store.check,
            metrics=metrics.render,
            observe=observer,
            inlets=inlets,
            inlet_routes=fineract.routes(),
            sandbox_routes=sandbox.routes if sandbox else [],
            cors_origins=settings.cors_origins,
            serves_api=settings.role != "dispatch",
        )
        background: list[Background] = [replays, pruner, *([relay] if relay else [])]
        return cls(
            app,
            routes,
            store,
            registry,
            transport,
            members,
            dispatcher,
            access,
            sandbox,
            background,
            observer,
        )

    async def start(self) -> None:
        """Begin to deliver, and to relay the sandbox's events."""
        await self._registry.refresh()
        await self._members.start()
        if self._members.dispatches:
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
        await self._members.stop()
        await self._transport.close()
        if self._sandbox:
            await asyncio.to_thread(self._sandbox.close)
        await self._store.close()


def _wake(relays: list[Relay]) -> None:
    for relay in relays:
        relay.wake()


def network_policy(settings: Settings) -> tuple[Policy, EgressProxy | None]:
    """What hooks may point to, and through which proxy; raises `SettingsError`."""
    with _naming("allow_private"):
        allowed = tuple(parse_allowed(text) for text in settings.allow_private)
    with _naming("deny_networks"):
        denied = tuple(parse_network(text) for text in settings.deny_networks)
    with _naming("hook_ports"):
        ports = frozenset(parse_port(text) for text in settings.hook_ports)
    with _naming("egress_proxy"):
        proxy = parse_proxy(settings.egress_proxy) if settings.egress_proxy else None
    policy = Policy(allow_private=allowed, deny=denied, ports=ports, allow_metadata=settings.allow_metadata)
    return policy, proxy


@contextmanager
def _naming(setting: str) -> Iterator[None]:
    """Turn a ValueError into one about this setting."""
    try:
        yield
    except ValueError as error:
        raise SettingsError(f"`{setting}`: {error}") from None
