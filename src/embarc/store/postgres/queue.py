"""The queue in PostgreSQL: publishing, claiming, settling, each for many in one round trip."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from embarc.core.attempts import Result
from embarc.core.deliveries import Claim, Settlement, State, Traffic
from embarc.core.events import EventKind
from embarc.core.submissions import Receipt
from embarc.store import rows
from embarc.store.base import Due, Publication, Stale, TimestampTaken
from embarc.store.postgres.connections import (
    CONFLICTS,
    LOST,
    Address,
    Connection,
    again,
    is_unavailable,
    unavailable,
)
from embarc.store.postgres.database import Database
from embarc.store.postgres.floors import Floors
from embarc.store.postgres.groups import Groups
from embarc.store.postgres.publications import Publishing

_ROWS_OF_A_GROUP = 1000
_BYTES_OF_A_ROW = 8192
"""A larger payload counts as several rows: a statement stays below some ten megabytes."""
_Prepared = tuple[Settlement, tuple[Any, ...]]


class StoreQueue(Database):
    """The verbs of the hot path."""

    def __init__(self, address: Address, clock: Callable[[], float] | None) -> None:
        super().__init__(address, clock)
        self._floors = Floors()
        self._publishing = Publishing(self._queue, self._sql, self._now)
        self._publications: Groups[tuple[Publication, float], Receipt | TimestampTaken | Stale] = Groups(
            self._publishing.run,
            weight=lambda item: sum(1 + len(event.payload) // _BYTES_OF_A_ROW for event, _ in item[0].events),
            most=_ROWS_OF_A_GROUP,
        )
        self._settling: Groups[Sequence[_Prepared], list[bool]] = Groups(
            self._settle_groups, weight=len, most=_ROWS_OF_A_GROUP
        )

    async def publish(
        self, publication: Publication, *, lease_seconds: float
    ) -> Receipt | TimestampTaken | Stale:
        return await self._publications.submit((publication, lease_seconds))

    async def due(self) -> Sequence[Due]:
        began = time.monotonic()
        looked = self._floors.lanes(began)
        if looked is None:
            rows = await self._ask("due", self._now())
        else:
            lanes = list(looked)
            columns = ([hook_id for hook_id, _ in lanes], [traffic.value for _, traffic in lanes])
            rows = await self._ask(
                "due_since", self._now(), *columns, [self._floors.of(one) for one in lanes]
            )
        found = {
            (hook_id, Traffic(traffic)): at_ms for hook_id, traffic, at_ms in rows if hook_id is not None
        }
        now_ms = next(at_ms for hook_id, _, at_ms in rows if hook_id is None)
        self._floors.learn(found.items(), looked, now_ms, began, time.monotonic())
        return [
            Due(hook_id=hook_id, traffic=traffic, in_seconds=(due_at_ms - now_ms) / 1000)
            for (hook_id, traffic), due_at_ms in found.items()
        ]

    async def claim(
        self, wanted: Mapping[tuple[int, Traffic], int], *, lease_seconds: float, lease_token: int
    ) -> Sequence[Claim]:
        values = (
            self._now(),
            [hook_id for hook_id, _ in wanted],
            [traffic.value for _, traffic in wanted],
            list(wanted.values()),
            int(lease_seconds * 1000),
            lease_token,
            Result.LOST.value,
            Result.LOST.meaning,
            [self._floors.of(lane) for lane in wanted],
        )
        return [
            Claim(
                tenant=tenant,
                event_key=key,
                hook_id=hook_id,
                lease_token=lease_token,
                attempts=attempts,
                failures=failures,
                traffic=Traffic(traffic),
                kind=EventKind(entity, action),
                payload=payload,
            )
            for tenant, key, hook_id, traffic, attempts, failures, entity, action, payload in (
                await self._ask("claim", *values)
            )
        ]

    async def renew(self, claims: Sequence[Claim], *, lease_seconds: float) -> Sequence[Claim]:
        ordered = _in_order(claims)
        renewed = await self._ask("renew", self._now(), int(lease_seconds * 1000), *_fences(ordered))
        ours = {position - 1 for (position,) in renewed}
        return [claim for place, claim in enumerate(ordered) if place not in ours]

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[bool]:
        return await self._settling.submit([(one, rows.attempt_values(one)) for one in settlements])

    async def surrender(self, claims: Sequence[Claim]) -> int:
        found = await self._ask("surrender", self._now(), *_fences(_in_order(claims)))
        return int(found[0][0])

    async def cancel(self, tenant: str, event_key: bytes, hook_id: int, reason: str) -> bool:
        found = await self._ask("cancel", self._now(), tenant, event_key, hook_id, reason)
        return bool(found[0][0])

    async def replay(self, tenant: str, event_key: bytes, hook_id: int) -> bool:
        found = await self._ask("replay", self._now(), tenant, event_key, hook_id)
        return bool(found[0][0])

    async def count_waiting(self, hook_id: int, *, at_most: int) -> Mapping[Traffic, tuple[int, int]]:
        found = await self._rows("count_waiting", hook_id, at_most)
        return {Traffic(traffic): (count, due_at_ms) for traffic, count, due_at_ms in found}

    # -- inside ------------------------------------------------------------------------------------------------

    async def _ask(
        self, query: str, *values: Any, repeat_on: tuple[type[BaseException], ...] = CONFLICTS
    ) -> list[Any]:
        """A statement of the queue; once more where another transaction was preferred."""
        try:
            return await again(lambda: self._ask_once(query, *values), repeat_on)
        except Exception as error:
            if is_unavailable(error):
                raise unavailable(error) from error
            raise

    async def _ask_once(self, query: str, *values: Any) -> list[Any]:
        async def work(connection: Connection) -> list[Any]:
            found: list[Any] = await connection.fetch(self._sql[query], *values)
            return found

        return await self._queue.use_plainly(work)

    async def _settle_groups(
        self, items: Sequence[Sequence[_Prepared]]
    ) -> Sequence[list[bool] | BaseException]:
        """All settlements of several callers; two of one delivery one after the other."""
        answers = [[False] * len(item) for item in items]
        waiting = [(place, row) for place, item in enumerate(items) for row in range(len(item))]
        while waiting:
            seen: set[tuple[bytes, int]] = set()
            group: list[tuple[int, int]] = []
            later: list[tuple[int, int]] = []
            for place, row in waiting:
                claim = items[place][row][0].claim
                key = (claim.event_key, claim.hook_id)
                (later if key in seen else group).append((place, row))
                seen.add(key)
            for position in await self._settle_together([items[place][row] for place, row in group]):
                place, row = group[position]
                answers[place][row] = True
            waiting = later
        return answers

    async def _settle_together(self, prepared: Sequence[_Prepared]) -> Collection[int]:
        """The positions of those that were still ours."""
        claims = [settlement.claim for settlement, _ in prepared]
        verdicts = [settlement.verdict for settlement, _ in prepared]
        columns = list(zip(*(values for _, values in prepared), strict=True))
        values = (
            self._now(),
            *_fences(claims),
            [verdict.state.value for verdict in verdicts],
            [
                int((verdict.retry_in_seconds or 0) * 1000) if verdict.state is State.WAITING else None
                for verdict in verdicts
            ],
            columns[3],  # the attempt's number
            [verdict.failures for verdict in verdicts],
            [verdict.reason for verdict in verdicts],
            *columns[4:],
        )
        ours = set(_places(await self._ask("settle", *values, repeat_on=(*LOST, *CONFLICTS))))
        if len(ours) < len(prepared):
            # Was the lease lost, or only the answer to this very settlement, a moment ago or in an earlier call?
            names = (*_fences(claims)[:3], columns[3], columns[4], columns[6], columns[8], columns[9])
            ours.update(_places(await self._ask("known_attempts", *names)))
        return ours


def _places(found: Sequence[Any]) -> list[int]:
    return [position - 1 for (position,) in found]


def _in_order(claims: Sequence[Claim]) -> list[Claim]:
    """As others lock them, so that nobody waits in a circle."""
    return sorted(claims, key=lambda claim: (claim.event_key, claim.hook_id))


def _fences(claims: Sequence[Claim]) -> tuple[list[Any], ...]:
    return (
        [claim.tenant for claim in claims],
        [claim.event_key for claim in claims],
        [claim.hook_id for claim in claims],
        [claim.lease_token for claim in claims],
    )
