"""The engine over its real parts: a store, libcurl, a clock that can jump."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from embarc.core.addresses import Policy, parse_allowed
from embarc.core.catalogue import load_catalogue
from embarc.core.deliveries import Settlement
from embarc.core.events import EventKind
from embarc.core.hook_config import parse_endpoint
from embarc.core.members import NUMBER_BITS, Member
from embarc.core.submissions import Draft, Receipt, Submission
from embarc.engine.deliver import Deliverer
from embarc.engine.dispatch import Dispatcher
from embarc.engine.health import Health
from embarc.engine.hooks import Hooks
from embarc.engine.kinds import Kinds
from embarc.engine.members import Membership
from embarc.engine.publish import Publisher
from embarc.engine.read import Reader
from embarc.engine.registry import Registry
from embarc.engine.replays import Replays
from embarc.net.guard import UrlChecker
from embarc.net.transport import CurlTransport
from embarc.observe import Observer
from embarc.store.base import Store
from embarc.store.keys import LocalKey
from embarc.store.postgres.store import PostgresStore
from embarc.store.sqlite.store import SqliteStore
from embarc.store.vault import Vault
from embarc.stores import database_path, is_postgres
from embarc.testing.names import StaticResolver

CLIENT_CREATE = EventKind("CLIENT", "CREATE")


async def open_store(url: str, clock: Callable[[], float]) -> Store:
    """The store behind a URL, as the service opens it, but for its clock and its key."""
    if is_postgres(url):
        return await PostgresStore.open(
            url, parse_endpoint=parse_endpoint, vault=Vault(LocalKey(bytes(32), "a test")), clock=clock
        )
    return await SqliteStore.open(database_path(url), parse_endpoint=parse_endpoint, clock=clock)


class EngineLab:
    """Everything between the doors and the wire, over the store with this URL."""

    def __init__(
        self,
        url: str,
        *,
        is_open_catalogue: bool = False,
        policy: Policy | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.url = url
        self.policy = policy or Policy(allow_private=(parse_allowed("127.0.0.0/8"),))
        self.names = StaticResolver({"localhost": "127.0.0.1"} | dict(names or {}))
        self.is_open_catalogue = is_open_catalogue
        self.offset = 0.0
        self.disable_after_days = 5.0
        self.attempted: asyncio.Queue[Settlement] = asyncio.Queue()
        self._noted = asyncio.Event()
        self.facts: list[tuple[str, Mapping[str, Any]]] = []

    def now(self) -> float:
        return time.time() + self.offset

    def monotonic(self) -> float:
        return time.monotonic() + self.offset

    async def start(self, lease_seconds: float = 60.0) -> EngineLab:
        self.observer = Observer()
        self.observer.subscribe(
            "delivery.attempted", lambda facts: self.attempted.put_nowait(facts["settlement"])
        )
        for name in (
            "delivery.lease_lost",
            "hook.disabled",
            "dispatcher.failed",
            "deliveries.surrendered",
            "hook.failing",
            "hook.recovered",
            "replay.ended",
            "filter.failed",
        ):
            self.observer.subscribe(name, lambda facts, name=name: self._note(name, facts))  # type: ignore[misc] # mypy cannot infer a lambda's default
        self.store = await open_store(self.url, self.now)
        policy = self.policy
        self.transport = CurlTransport(policy=policy, resolver=self.names)
        self.registry = Registry(self.store)
        self.kinds = Kinds(
            self.store, load_catalogue(), observe=self.observer, is_open=self.is_open_catalogue
        )
        self.hooks = Hooks(
            self.store,
            self.kinds,
            UrlChecker(policy, self.names),
            on_change=self.registry.refresh,
            clock=self.now,
            observe=self.observer,
        )
        health = Health(
            self.store,
            publish=lambda submission: self.publisher.publish(submission),
            on_change=self.registry.refresh,
            clock=self.now,
            observe=self.observer,
            disable_after_days=self.disable_after_days,
        )
        number = random.getrandbits(NUMBER_BITS)
        self.members = Membership(self.store, Member(number=number, name="test"), observe=self.observer)
        self.dispatcher = Dispatcher(
            self.store,
            self.registry,
            Deliverer(self.transport, clock=self.now, chance=lambda: 0.5, worker="test"),
            members=self.members,
            health=health,
            chance=lambda: 0.5,
            monotonic=self.monotonic,
            observe=self.observer,
            lease_seconds=lease_seconds,
        )
        self.publisher = Publisher(
            self.store,
            self.registry,
            self.dispatcher,
            clock=self.now,
            random_bits=random.getrandbits,
            observe=self.observer,
            lease_seconds=lease_seconds,
        )
        self.reader = Reader(self.store, self.dispatcher.why_held, self.dispatcher.condition)
        self.replays = Replays(
            self.store,
            self.registry,
            wake_dispatcher=self.dispatcher.wake,
            leads=lambda: True,
            clock=self.now,
            random_bits=random.getrandbits,
            observe=self.observer,
        )
        await self.registry.refresh()
        await self.members.start()
        self.dispatcher.start()
        self.replays.start()
        return self

    async def stop(self) -> None:
        await self.replays.stop()
        await self.dispatcher.stop()
        await self.members.stop()
        await self.transport.close()
        await self.store.close()

    async def hook(self, url: str, *, tenant: str = "default", **config: str) -> int:
        fields = {"Payload URL": url, "Content Type": "json"} | {
            name.replace("_", " ").title(): value for name, value in config.items()
        }
        events = [{"entityName": "CLIENT", "actionName": "CREATE"}]
        body = {"name": "Web", "isActive": True, "events": events, "config": fields}
        return (await self.hooks.create(tenant, body)).hook.id

    async def publish(
        self,
        count: int = 1,
        *,
        kind: EventKind = CLIENT_CREATE,
        key: str | None = None,
        tenant: str = "default",
    ) -> Receipt:
        draft = Draft(
            kind=kind, ids={"clientId": 7}, request=b'{"amount":1.00}', response=b'{"resourceId":7}'
        )
        return await self.publisher.publish(
            Submission(tenant=tenant, drafts=(draft,) * count, idempotency_key=key, fingerprint=b"one")
        )

    async def next_attempt(self) -> Settlement:
        async with asyncio.timeout(10):
            return await self.attempted.get()

    async def told(self, name: str) -> Mapping[str, Any]:
        """Wait for the first observation of this name; returns its facts."""
        async with asyncio.timeout(20):
            while not (found := [facts for told, facts in self.facts if told == name]):
                self._noted.clear()
                await self._noted.wait()
        return found[0]

    def _note(self, name: str, facts: Mapping[str, Any]) -> None:
        self.facts.append((name, facts))
        self._noted.set()

    def later(self, seconds: float) -> None:
        """Let the store's clock jump, and the dispatcher notice."""
        self.offset += seconds
        self.dispatcher.wake()
