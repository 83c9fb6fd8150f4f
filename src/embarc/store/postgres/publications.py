"""Publishing in PostgreSQL: what came in together is written together, and what cannot be is found out and answered.

Rules of this file:
* The statement expects that everything is new, as nearly everything is: one round trip, and it raises where something is
  not. Then three questions tell which publications have their answer already; the others are written without them.
* Whatever could not stand in one statement (the same key or timestamp twice) goes one after the other.
* After a broken connection it is unknown whether the commit happened. The same statement is sent again: an event's key
  is unique, so nothing is written twice, and an event that is there already was written by us.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import asyncpg

from embarc.core.errors import IdempotencyMismatch, Invalid, OutcomeUnknown
from embarc.core.ids import event_id
from embarc.core.submissions import Receipt
from embarc.store.base import Publication, Stale, TimestampTaken
from embarc.store.postgres.connections import (
    CONFLICTS,
    LOST,
    RETRY_AFTER_SECONDS,
    Connection,
    Connections,
    again,
    is_unavailable,
    unavailable,
)

Item = tuple[Publication, float]
Answer = Receipt | TimestampTaken | Stale | BaseException

_REFUSED = "EB001"
LOCKS = 256
"""Entities share so many locks: a lock for each would fill the server's table of them."""


class Publishing:
    """Writes groups of publications."""

    def __init__(
        self, connections: Connections, statements: Mapping[str, str], now: Callable[[], int | None]
    ) -> None:
        self._connections = connections
        self._sql = statements
        self._now = now

    async def run(self, items: Sequence[Item]) -> Sequence[Answer]:
        """An answer for each, in their order."""
        answers: list[Answer | None] = [_repeats_itself(publication) for publication, _ in items]
        waiting = [place for place, answer in enumerate(answers) if answer is None]
        while waiting:
            group, waiting = _apart(items, waiting)
            for place, answer in zip(
                group, await self._answers([items[place] for place in group]), strict=True
            ):
                answers[place] = answer
        return [answer for answer in answers if answer is not None]

    async def _answers(self, items: Sequence[Item]) -> Sequence[Answer]:
        try:
            return await self._together(items)
        except _InDoubt:
            return [OutcomeUnknown(retry_after_seconds=RETRY_AFTER_SECONDS) for _ in items]
        except Exception as error:
            if is_unavailable(error):
                return [unavailable(error) for _ in items]
            if len(items) == 1:
                return [_unstorable() if isinstance(error, asyncpg.DataError) else error]
        # Something in one of them cannot be stored at all.
        return [answer for item in items for answer in await self._answers([item])]

    async def _together(self, items: Sequence[Item]) -> Sequence[Answer]:
        """Write those that are new; each round that fails gives at least one of them its answer."""
        answers: dict[int, Answer] = {}
        left = list(range(len(items)))
        while left:
            group = [items[place] for place in left]
            if await self._insert(group):
                answers |= {place: _receipt(items[place][0]) for place in left}
                break
            found = await again(lambda group=group: self._classify(group), LOST)  # type: ignore[misc] # mypy cannot infer a lambda's default
            answers |= {left[position]: answer for position, answer in found.items()}
            left = [place for place in left if place not in answers]
        return [answers[place] for place in range(len(items))]

    async def _insert(self, items: Sequence[Item]) -> bool:
        """Write everything; False, with nothing written, where something was there before or the hooks have changed.

        Tried again where the connection broke; raises `_InDoubt` where in the end nobody knows what became of it.
        """
        values = _columns(items)
        now = self._now()
        is_sent = False

        async def work(connection: Connection) -> None:
            nonlocal is_sent
            is_sent = True
            await connection.fetchval(self._sql["publish"], now, *values)

        try:
            await again(lambda: self._connections.use_plainly(work), (*LOST, *CONFLICTS))
        except asyncpg.UniqueViolationError:
            return False
        except LOST as error:
            if is_sent and not isinstance(error, asyncpg.ReadOnlySQLTransactionError):
                raise _InDoubt from error
            raise
        except asyncpg.PostgresError as error:
            if error.sqlstate != _REFUSED:
                raise
            return False
        return True

    async def _classify(self, items: Sequence[Item]) -> dict[int, Answer]:
        """The answers of those that are not plainly new, by position."""
        publications = [publication for publication, _ in items]
        owners = [(place, at) for place, one in enumerate(publications) for at in range(len(one.events))]
        events = [event for one in publications for event, _ in one.events]
        keyed = [place for place, one in enumerate(publications) if one.idempotency_key is not None]

        async def work(connection: Connection) -> tuple[Any, Any, Any, int]:
            tenants = [event.tenant for event in events]
            keys = [event.key for event in events]
            return (
                await connection.fetch(self._sql["known_events"], tenants, keys),
                await connection.fetch(
                    self._sql["get_idempotency_keys"],
                    [publications[place].tenant for place in keyed],
                    [publications[place].idempotency_key for place in keyed],
                ),
                await connection.fetch(
                    self._sql["latest_timestamps"],
                    tenants,
                    [event.kind.entity_name for event in events],
                    [event.entity_id for event in events],
                    [event.timestamp_ms for event in events],
                    keys,
                ),
                await connection.fetchval(self._sql["hooks_revision"]),
            )

        known, keys, taken, revision = await self._connections.use_plainly(work)
        answers: dict[int, Answer] = {}
        for (position,) in known:
            place, _ = owners[position - 1]
            answers[place] = _receipt(publications[place])
        for position, *first in keys:
            place = keyed[position - 1]
            answers.setdefault(place, _first_receipt(publications[place], *first))
        for position, latest_ms in sorted(taken):
            place, at = owners[position - 1]
            answers.setdefault(place, TimestampTaken(at, latest_ms))
        for place, one in enumerate(publications):
            if one.revision is not None and one.revision != revision:
                answers.setdefault(place, Stale(revision))
        return answers


def _unstorable() -> Invalid:
    return Invalid.field(
        "entityId", "validation.msg.event.not.storable", "Names and ids cannot contain the character U+0000."
    )


class _InDoubt(Exception):
    """The connection broke after the statement was sent, and there was no way to ask again."""


def _columns(items: Sequence[Item]) -> tuple[Any, ...]:
    """The parameters of `publish`, but for the time."""
    events: list[tuple[Any, ...]] = []
    deliveries: list[tuple[Any, ...]] = []
    keys: list[tuple[Any, ...]] = []
    locks: set[int] = set()
    times = 0
    revision: int | None = None
    for publication, lease_seconds in items:
        tenant = publication.tenant
        lease_ms = int(lease_seconds * 1000)
        if publication.revision is not None and (revision is None or publication.revision < revision):
            revision = publication.revision
        for event, wanted in publication.events:
            kind = event.kind
            key = event.key
            events.append(
                (tenant, key, kind.entity_name, kind.action_name, event.entity_id, event.timestamp_ms, event.payload)
            )  # fmt: skip
            times += event.entity_id is not None
            for one in wanted:
                token = one.lease_token
                deliveries.append(
                    (tenant, key, one.hook_id, 0 if token is None else lease_ms, token, one.order_key, len(events))
                )  # fmt: skip
                if one.order_key is not None:
                    locks.add(zlib.crc32(f"{one.hook_id}/{one.order_key}".encode()) % LOCKS)
        if publication.idempotency_key is not None:
            event_keys = b"".join(event.key for event, _ in publication.events)
            made = sum(len(wanted) for _, wanted in publication.events)
            keys.append((tenant, publication.idempotency_key, publication.fingerprint, event_keys, made))
    tenants, *event_columns = _turned(events, 7)
    # Locks and keys in one order for everybody, so that nobody waits in a circle.
    return (
        sorted(locks), tenants, *_turned(sorted(keys), 5), *event_columns, *_turned(deliveries, 7), times, revision,
    )  # fmt: skip


def _turned(table: Sequence[tuple[Any, ...]], width: int) -> list[Sequence[Any]]:
    return list(zip(*table, strict=True)) if table else [()] * width


def _apart(items: Sequence[Item], places: Sequence[int]) -> tuple[list[int], list[int]]:
    """Those that can be written in one statement, and those that have to wait for their outcome."""
    group: list[int] = []
    later: list[int] = []
    seen: set[Any] = set()
    for place in places:
        publication = items[place][0]
        names: set[Any] = {
            (publication.tenant, event.kind.entity_name, event.entity_id, event.timestamp_ms)
            for event, _ in publication.events
            if event.entity_id is not None
        }
        names.update((publication.tenant, event.key) for event, _ in publication.events)
        if publication.idempotency_key is not None:
            names.add((publication.tenant, publication.idempotency_key, ""))
        if seen.isdisjoint(names):
            group.append(place)
        else:
            later.append(place)
        seen |= names
    return group, later


def _repeats_itself(publication: Publication) -> TimestampTaken | None:
    """Two events of one publication with the same timestamp of one entity."""
    if len(publication.events) == 1:
        return None
    seen: set[tuple[str, str, int]] = set()
    for position, (event, _) in enumerate(publication.events):
        if event.entity_id is None:
            continue
        name = (event.kind.entity_name, event.entity_id, event.timestamp_ms)
        if name in seen:
            return TimestampTaken(position, event.timestamp_ms)
        seen.add(name)
    return None


def _first_receipt(
    publication: Publication, fingerprint: bytes, keys: bytes, deliveries: int
) -> Receipt | IdempotencyMismatch:
    if bytes(fingerprint) != publication.fingerprint:
        return IdempotencyMismatch()
    ids = tuple(event_id(keys[start : start + 16]) for start in range(0, len(keys), 16))
    return Receipt(event_ids=ids, deliveries=deliveries, duplicate=True)


def _receipt(publication: Publication) -> Receipt:
    return Receipt(
        event_ids=tuple(event_id(event.key) for event, _ in publication.events),
        deliveries=sum(len(wanted) for _, wanted in publication.events),
    )
