"""A deterministic simulation: the real engine and a real SQLite store among receivers, people and crashes of a seed.

`python -m embarc.testing.simulation --seeds 500` runs that many; `--seed 17` runs one again, exactly as it was. Time is
virtual: a seed is a month of traffic in which receivers break and recover, people pause, replay, cancel, change and
delete, and the process is stopped or dies in the middle of anything. Promises are checked at every send and at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import hashlib
import multiprocessing
import os
import random
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from embarc.core.addresses import Policy, parse_allowed
from embarc.core.catalogue import load_catalogue
from embarc.core.deliveries import State
from embarc.core.errors import EmbarcError
from embarc.core.events import EventKind
from embarc.core.hook_config import parse_endpoint
from embarc.core.ids import delivery_id, parse_event_id
from embarc.core.members import NUMBER_BITS, Member
from embarc.core.submissions import Draft, Submission
from embarc.engine.deliver import Deliverer
from embarc.engine.dispatch import Dispatcher
from embarc.engine.health import Health
from embarc.engine.hooks import Hooks
from embarc.engine.kinds import Kinds
from embarc.engine.members import Membership
from embarc.engine.prune import Pruner
from embarc.engine.publish import Publisher
from embarc.engine.registry import Registry
from embarc.engine.replay import Replayer
from embarc.engine.replays import Replays
from embarc.net.guard import UrlChecker
from embarc.observe import Observer
from embarc.store.base import DeliveryFilter, DeliveryRecord
from embarc.store.sqlite.store import SqliteStore
from embarc.store.vault import Vault
from embarc.testing.names import StaticResolver
from embarc.testing.simulated import DAY, HOUR, Ledger, Receivers, Violation
from embarc.testing.virtual import Livelock, run_virtually

EPOCH = 1_760_341_512.0
TENANT = "default"
KIND = EventKind("LOAN", "REPAYMENT")
ENTITIES = 5


class Life:
    """One process from its start to its end."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def begin(self) -> None:
        """Open the store and start everything, as the composition root does."""
        self.world.life = self
        world, chance = self.world, self.world.chance
        loop = asyncio.get_running_loop()
        observer = Observer()
        observer.subscribe("dispatcher.failed", world.on_failure)
        observer.subscribe("replay.failed", world.on_failure)
        observer.subscribe("pruning.failed", world.on_failure)
        observer.subscribe("delivery.attempted", world.on_attempted)
        self.store = await SqliteStore.open(
            world.path, parse_endpoint=parse_endpoint, vault=world.vault, clock=world.clock, inline=True
        )
        self.registry = Registry(self.store)

        async def hooks_changed() -> None:
            await self.registry.refresh()
            self.dispatcher.wake()
            self.pruner.wake()

        policy = Policy(allow_private=(parse_allowed("127.0.0.0/8"),))
        kinds = Kinds(self.store, CATALOGUE, observe=observer, is_open=False)
        self.hooks = Hooks(
            self.store,
            kinds,
            UrlChecker(policy, StaticResolver({})),
            on_change=hooks_changed,
            clock=world.clock,
            observe=observer,
        )
        health = Health(
            self.store,
            publish=lambda submission: self.publisher.publish(submission),
            on_change=hooks_changed,
            clock=world.clock,
            observe=observer,
            disable_after_days=5,
        )
        self.members = Membership(
            self.store,
            Member(number=chance.getrandbits(NUMBER_BITS), name="w"),
            observe=observer,
            heartbeat_seconds=DAY,
            alive_seconds=5 * DAY,
        )
        self.dispatcher = Dispatcher(
            self.store,
            self.registry,
            Deliverer(world.receivers, clock=world.clock, chance=chance.random, worker="w"),
            members=self.members,
            health=health,
            chance=chance.random,
            monotonic=loop.time,
            observe=observer,
            lease_seconds=900,
            poll_seconds=HOUR,
        )
        world.receivers.dispatcher = self.dispatcher
        self.publisher = Publisher(
            self.store,
            self.registry,
            self.dispatcher,
            clock=world.clock,
            random_bits=chance.getrandbits,
            observe=observer,
            lease_seconds=900,
        )
        self.replayer = Replayer(self.store, self.registry, self.dispatcher.wake)
        self.replays = Replays(
            self.store,
            self.registry,
            wake_dispatcher=self.dispatcher.wake,
            leads=lambda: True,
            poll_seconds=DAY,
            clock=world.clock,
            random_bits=chance.getrandbits,
            observe=observer,
        )
        self.pruner = Pruner(
            self.store,
            leads=lambda: True,
            observe=observer,
            retention_days=365,
            attempt_retention_days=365,
            round_seconds=DAY,
        )
        await self.registry.refresh()
        await self.members.start()
        self.dispatcher.start()
        self.replays.start()
        self.pruner.start()

    async def stop(self) -> None:
        """As Ctrl-C does."""
        await self.replays.stop()
        await self.pruner.stop()
        await self.dispatcher.stop()
        await self.members.stop()
        await self.store.close()

    async def die(self) -> None:
        """As SIGKILL does: whatever was going on is not going on any more."""
        ledger = self.world.ledger
        ledger.gone.clear()  # an answer that was not recorded yet is forgotten
        for under_way in ledger.in_flight.values():
            ledger.excused.update(under_way)
        ledger.excused.update(
            (one.claim.event_key, one.claim.hook_id) for one in self.dispatcher._settler.waiting
        )
        ledger.excused.update(self.dispatcher._leases._held.keys())  # with an answer that is not recorded yet
        if self.world.chance.random() < 0.5:
            self.store._writer._waiting.clear()  # else: committed, and nobody was told
        self.dispatcher._stopping = True  # nothing begins while its tasks are ended one by one
        others = sorted((task for task in asyncio.all_tasks() if not _is_ours(task)), key=_age)
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self.store.close()


class World:
    """Everything of one seed."""

    def __init__(self, seed: int, path: Path, vault: Vault) -> None:
        self.seed = seed
        self.path = path
        self.vault = vault
        self.chance = random.Random(seed)  # noqa: S311 - a simulation
        self.ledger = Ledger()
        self.receivers = Receivers(self.chance, self.ledger, self.broken)
        self.violation = ""
        self._is_broken = asyncio.Event()
        self.life: Life
        self.attempts = 0
        self.crashes = 0
        self._urls = 0

    def clock(self) -> float:
        """Seconds since 1970."""
        return EPOCH + asyncio.get_running_loop().time()

    def broken(self, what: str) -> None:
        """A promise was broken: the simulation ends here."""
        self.violation = self.violation or what
        self._is_broken.set()

    def on_failure(self, facts: Mapping[str, Any]) -> None:
        """Nothing inside may fail: the store is well."""
        self.broken(f"something failed inside: {facts['reason']}")

    def on_attempted(self, facts: object) -> None:
        """Count."""
        self.attempts += 1

    async def run(self, days: float) -> None:
        """Until the end of all trouble, or until a promise is broken: raises `Violation`."""
        if current := asyncio.current_task():
            current.set_name("sim-main")
        living = asyncio.create_task(self._lives(days), name="sim-0")
        breaking = asyncio.create_task(self._is_broken.wait(), name="sim-9")
        await asyncio.wait({living, breaking}, return_when=asyncio.FIRST_COMPLETED)
        if self.violation:
            living.cancel()
            await asyncio.wait({living})
            await self.life.die()
            raise Violation(self.violation)
        breaking.cancel()
        living.result()

    async def _lives(self, days: float) -> None:
        loop = asyncio.get_running_loop()
        end = days * DAY
        first = True
        while loop.time() < end:
            life = Life(self)
            await life.begin()
            if first:
                for _ in range(3):
                    await self._new_hook(life)
                first = False
            await self._live(life, min(end, loop.time() + self.chance.expovariate(1 / (days * DAY / 4))))
        await self._heal()

    async def _live(self, life: Life, until: float) -> None:
        loop = asyncio.get_running_loop()
        traffic = asyncio.create_task(self._traffic(life), name="sim-1")
        people = asyncio.create_task(self._people(life), name="sim-2")
        done, _ = await asyncio.wait({traffic, people}, timeout=until - loop.time())
        for task in done:
            task.result()
        if self.chance.random() < 0.7:
            self.crashes += 1
            await life.die()
        else:
            for task in (traffic, people):
                task.cancel()
            await asyncio.gather(traffic, people, return_exceptions=True)
            await life.stop()
        for hook_id, under_way in self.ledger.in_flight.items():
            if under_way:
                raise Violation(f"hook {hook_id} has attempts under way after its process ended")
        self.ledger.trace.append(f"{loop.time():.3f} end of a life")

    async def _traffic(self, life: Life) -> None:
        while True:
            await asyncio.sleep(self.chance.expovariate(1 / (12 * HOUR)))
            count = self.chance.choices((1, 2, 5, 40), (50, 25, 20, 5))[0]
            await asyncio.gather(*(self._publish(life) for _ in range(count)))
            if count == 40:  # while they are under way
                await asyncio.sleep(self.chance.uniform(0, 20))
                await self._do_something(life)

    async def _publish(self, life: Life) -> None:
        entity = str(self.chance.randrange(ENTITIES))
        draft = Draft(kind=KIND, ids={"loanId": int(entity)}, request=b'{"transactionAmount":10.50}')
        wanted = {one.hook.id for one in life.registry.matching(TENANT, KIND)}
        receipt = await life.publisher.publish(Submission(tenant=TENANT, drafts=(draft,)))
        key = parse_event_id(receipt.event_ids[0]) or b""
        self.ledger.accepted[key] = (entity, receipt.deliveries)
        still_wanted = {one.hook.id for one in life.registry.matching(TENANT, KIND)}
        if wanted == still_wanted and receipt.deliveries != len(wanted):
            raise Violation(f"an event for {len(wanted)} hooks made {receipt.deliveries} deliveries")
        for hook_id in wanted & still_wanted:
            if self.receivers.limits[hook_id][2]:
                self.ledger.in_order[hook_id, entity].append(key)

    async def _people(self, life: Life) -> None:
        while True:
            await asyncio.sleep(self.chance.expovariate(1 / (10 * HOUR)))
            await self._do_something(life)

    async def _do_something(self, life: Life) -> None:
        deed = self.chance.choice(
            (
                self._pause,
                self._resume,
                self._enable,
                self._replay_one,
                self._replay_one,
                self._cancel_one,
                self._replay_many,
                self._move,
                self._delete,
                self._new_hook,
            )
        )
        self.ledger.trace.append(f"{asyncio.get_running_loop().time():.3f} {deed.__name__}")
        try:
            await deed(life)
        except EmbarcError as error:
            self.ledger.trace.append(f"refused: {error}")

    async def _new_hook(self, life: Life) -> None:
        if len(await life.hooks.list(TENANT)) >= 4:
            return
        chance = self.chance
        in_order = chance.random() < 0.5
        limit = chance.choice((1, 2, 16))
        rate = chance.choice((None, None, 2.0))
        self._urls += 1
        config = {
            "Payload URL": f"http://127.0.0.1:9000/{self._urls}",
            "Content Type": "json",
            "Order": "entity" if in_order else "none",
            "Concurrency": str(limit),
            "Retry Schedule": chance.choice(("5,300,1800,7200", "60", "5,300,1800,7200,18000,36000")),
            "Max Retries": chance.choice(("2", "6", "20")),
        }
        if rate:
            config["Rate Limit"] = str(rate)
        events = [{"entityName": "LOAN", "actionName": "*"}]
        body = {"name": "Web", "isActive": True, "events": events, "config": config}
        self._expect_next(limit, rate, in_order)
        created = await life.hooks.create(TENANT, body)
        self.receivers.limits[created.hook.id] = (limit, rate, in_order)

    def _expect_next(self, limit: int, rate: float | None, in_order: bool) -> None:
        """It may be sent to before its creation is answered."""
        following = max(self.receivers.limits, default=0) + 1
        self.receivers.limits[following] = (limit, rate, in_order)

    async def _some_hook(self, life: Life) -> str:
        hooks = await life.hooks.list(TENANT)
        return str(self.chance.choice(sorted(hook.id for hook in hooks))) if hooks else "0"

    async def _pause(self, life: Life) -> None:
        hook = await life.hooks.pause(TENANT, await self._some_hook(life))
        self.ledger.paused.add(hook.id)

    async def _resume(self, life: Life) -> None:
        hook_id = await self._some_hook(life)
        self.ledger.paused.discard(int(hook_id))
        await life.hooks.resume(TENANT, hook_id)

    async def _enable(self, life: Life) -> None:
        hook_id = await self._some_hook(life)
        self.ledger.gone.discard(int(hook_id))
        await life.hooks.enable(TENANT, hook_id)

    async def _move(self, life: Life) -> None:
        hook = await life.hooks.get(TENANT, await self._some_hook(life))
        self._urls += 1
        config = {**hook.config, "Payload URL": f"http://127.0.0.1:9000/{self._urls}"}
        await life.hooks.update(TENANT, str(hook.id), {"config": config})

    async def _delete(self, life: Life) -> None:
        if self.chance.random() < 0.3:
            hook = await life.hooks.delete(TENANT, await self._some_hook(life))
            self.ledger.deleted.add(hook.id)

    async def _some_delivery(self, life: Life) -> DeliveryRecord | None:
        which = DeliveryFilter(state=self.chance.choice(list(State)))
        found = await life.store.list_deliveries(TENANT, which, before=None, limit=50)
        return self.chance.choice(found) if found else None

    async def _replay_one(self, life: Life) -> None:
        if record := await self._some_delivery(life):
            key = (record.event_key, record.hook_id)
            self.ledger.excused[key] += 1
            self.ledger.meddled_with.add(key)
            await life.replayer.replay(TENANT, delivery_id(*key))

    async def _cancel_one(self, life: Life) -> None:
        if record := await self._some_delivery(life):
            key = (record.event_key, record.hook_id)
            self.ledger.meddled_with.add(key)
            if record.state in (State.WAITING, State.EXHAUSTED):
                self.ledger.given_up.add(key)
            await life.replayer.cancel(TENANT, delivery_id(*key), "somebody")

    async def _replay_many(self, life: Life) -> None:
        hook = await life.hooks.get(TENANT, await self._some_hook(life))
        await life.replays.create(
            TENANT, life.replays.missed(hook, int((self.clock() - 5 * DAY) * 1000)), "somebody"
        )

    # -- the end -----------------------------------------------------------------------------------------------

    async def _heal(self) -> None:
        """Every receiver is well, every hook on: in the end everything has arrived."""
        life = Life(self)
        await life.begin()
        self.receivers.are_well = True
        self.ledger.paused.clear()
        self.ledger.gone.clear()
        for hook in await life.hooks.list(TENANT):
            await life.hooks.resume(TENANT, str(hook.id))
            await life.hooks.enable(TENANT, str(hook.id))
        for _ in range(400):
            await asyncio.sleep(HOUR)
            exhausted = await self._in_state(life, State.EXHAUSTED)
            alive = {hook.id for hook in await life.hooks.list(TENANT)}
            for record in exhausted:
                if record.hook_id in alive:
                    self.ledger.excused[record.event_key, record.hook_id] += 1
                    await life.replayer.replay(TENANT, delivery_id(record.event_key, record.hook_id))
            if not exhausted and not await self._in_state(life, State.WAITING):
                break
        await self._check_end(life)
        await life.stop()

    async def _in_state(self, life: Life, state: State) -> list[DeliveryRecord]:
        found = await life.store.list_deliveries(TENANT, DeliveryFilter(state=state), before=None, limit=5000)
        return [one for one in found if one.hook_id not in self.ledger.deleted or state is State.WAITING]

    async def _check_end(self, life: Life) -> None:
        ledger = self.ledger
        for event_key, (_, count) in ledger.accepted.items():
            which = DeliveryFilter(event_key=event_key)
            found = await life.store.list_deliveries(TENANT, which, before=None, limit=100)
            if len(found) < count:
                raise Violation(f"{event_key.hex()} had {count} deliveries and has {len(found)}")
            for record in found:
                self._check_delivery(record)
                await self._check_attempts(life, record)
        for key, times in ledger.processed.items():
            if times > 1 + ledger.excused[key]:
                raise Violation(f"{delivery_id(*key)} was taken {times} times, {ledger.excused[key]} excused")

    async def _check_attempts(self, life: Life, record: DeliveryRecord) -> None:
        """Whatever was sent is in the log, as an attempt or as one that was lost."""
        key = (record.event_key, record.hook_id)
        if key in self.ledger.meddled_with or record.hook_id in self.ledger.deleted:
            return
        attempts = await life.store.list_attempts(TENANT, *key)
        if len(attempts) < self.ledger.sent[key]:
            raise Violation(
                f"{delivery_id(*key)} was sent {self.ledger.sent[key]} times, {len(attempts)} are in the log"
            )
        if [one.number for one in attempts] != list(range(1, len(attempts) + 1)):
            raise Violation(f"{delivery_id(*key)} has attempts with wrong numbers")

    def _check_delivery(self, record: DeliveryRecord) -> None:
        key = (record.event_key, record.hook_id)
        name = delivery_id(*key)
        if record.state is State.DELIVERED:
            if not self.ledger.processed[key]:
                raise Violation(f"{name} is `delivered` and never arrived")
        elif record.state is State.CANCELLED:
            if key not in self.ledger.given_up and record.hook_id not in self.ledger.deleted:
                raise Violation(f"{name} is `cancelled` and nobody cancelled it")
        elif record.hook_id not in self.ledger.deleted:
            raise Violation(f"{name} is `{record.state}` although every receiver has been well for days")


CATALOGUE = load_catalogue()


@dataclass(frozen=True, slots=True)
class Report:
    """What became of one seed."""

    seed: int
    events: int
    attempts: int
    crashes: int
    digest: str
    """Of everything that happened, in order: the same for the same seed."""
    violation: str = ""


def simulate(seed: int, *, days: float = 30.0) -> Report:
    """Run one seed."""
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 - a private folder in it
    with tempfile.TemporaryDirectory(prefix="embarc-simulation-", dir=base) as folder:
        world = World(seed, Path(folder) / "embarc.db", Vault.from_file(Path(folder) / "key"))
        violation = ""
        try:
            run_virtually(world.run(days))
        except (Violation, Livelock) as broken:
            violation = str(broken)
        except Exception as error:  # a bug; told with its seed, like everything else
            violation = "".join(traceback.format_exception(error))
        digest = hashlib.sha256("\n".join(world.ledger.trace).encode()).hexdigest()
        return Report(seed, len(world.ledger.accepted), world.attempts, world.crashes, digest, violation)


def simulate_many(
    seeds: Sequence[int], *, days: float = 30.0, processes: int | None = None, shows_progress: bool = False
) -> list[Report]:
    """Run seeds on all processors; stops at nothing."""
    clean = multiprocessing.get_context("spawn")  # whatever runs in the caller has no part in it
    with ProcessPoolExecutor(processes or os.cpu_count(), mp_context=clean) as pool:
        reports = pool.map(functools.partial(simulate, days=days), seeds, chunksize=5)
        console = Console(stderr=True, quiet=not shows_progress)
        return list(track(reports, "simulating", total=len(seeds), console=console))


def _is_ours(task: asyncio.Task[object]) -> bool:
    """Whether it belongs to the world and not to the process that dies."""
    return task.get_name() in ("sim-main", "sim-0", "sim-9")


def _age(task: asyncio.Task[object]) -> tuple[str, int]:
    """Tasks in the order of their making, whatever their addresses."""
    name, _, number = task.get_name().rpartition("-")
    return (name, int(number)) if number.isdigit() else (task.get_name(), 0)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=500, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one, with everything that happened")
    parser.add_argument("--days", type=float, default=30.0, help="virtual days of trouble")
    given = parser.parse_args()
    if given.seed is not None:
        reports = [simulate(given.seed, days=given.days)]
    else:
        reports = simulate_many(
            range(given.first, given.first + given.seeds), days=given.days, shows_progress=True
        )
    broken = [report for report in reports if report.violation]
    for report in broken:
        print(f"seed {report.seed}: {report.violation}")
    totals = Counter[str]()
    for report in reports:
        totals.update(events=report.events, attempts=report.attempts, crashes=report.crashes)
    print(
        f"{len(reports)} seeds of {given.days:g} days: {totals['events']} events, {totals['attempts']} attempts, "
        f"{totals['crashes']} crashes, {len(broken)} violations"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
