"""The queue in SQLite: publishing, claiming, settling."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw

from embarc.core.attempts import Outcome, Result
from embarc.core.deliveries import Claim, Settlement, State, Traffic
from embarc.core.errors import IdempotencyMismatch
from embarc.core.events import EventKind
from embarc.core.ids import event_id
from embarc.core.submissions import Receipt
from embarc.store import rows
from embarc.store.base import Due, Publication, Stale, TimestampTaken
from embarc.store.sqlite.database import Database
from embarc.store.sqlite.writer import Rows


class StoreQueue(Database):
    """The verbs of the hot path, each for many at once."""

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float],
        *,
        on_broken: Callable[[str], None] | None = None,
        inline: bool = False,
    ) -> None:
        super().__init__(path, clock, on_broken=on_broken, inline=inline)
        self._insert_events = Rows(self._sql["insert_event"])
        self._insert_deliveries = Rows(self._sql["insert_delivery"])
        self._insert_keys = Rows(self._sql["insert_idempotency_key"])
        self._settle = Rows(self._sql["settle"])
        self._insert_attempts = Rows(self._sql["insert_attempt"])

    async def publish(
        self, publication: Publication, *, lease_seconds: float
    ) -> Receipt | TimestampTaken | Stale:
        return await self._writer.submit(self._publish_all, (publication, lease_seconds))

    async def due(self) -> Sequence[Due]:
        def read(connection: apsw.Connection) -> list[Due]:
            now = self._now()
            found = connection.execute(self._sql["due"])
            return [
                Due(hook_id=hook_id, traffic=Traffic(traffic), in_seconds=(due_at - now) / 1000)
                for hook_id, traffic, due_at in found
            ]

        return await self._read(read)

    async def claim(
        self, wanted: Mapping[tuple[int, Traffic], int], *, lease_seconds: float, lease_token: int
    ) -> Sequence[Claim]:
        def work(connection: apsw.Connection) -> list[Claim]:
            now = self._now()
            leased_until = now + int(lease_seconds * 1000)
            claims = []
            for (hook_id, traffic), limit in wanted.items():
                found: list[Any] = connection.execute(
                    self._sql["select_due"], (hook_id, traffic, now, limit)
                ).fetchall()
                for tenant, key, old_token, attempts, failures, entity, action, payload in found:
                    if old_token is not None:
                        attempts += 1
                        connection.execute(
                            self._sql["insert_attempt"], _lost(tenant, key, hook_id, attempts, now)
                        )
                    connection.execute(
                        self._sql["lease"], (leased_until, lease_token, attempts, tenant, key, hook_id)
                    )
                    claims.append(
                        Claim(
                            tenant=tenant,
                            event_key=key,
                            hook_id=hook_id,
                            lease_token=lease_token,
                            attempts=attempts,
                            failures=failures,
                            traffic=traffic,
                            kind=EventKind(entity, action),
                            payload=payload,
                        )
                    )
            return claims

        return await self._write(work)

    async def renew(self, claims: Sequence[Claim], *, lease_seconds: float) -> Sequence[Claim]:
        def work(connection: apsw.Connection) -> list[Claim]:
            leased_until = self._now() + int(lease_seconds * 1000)
            return [
                claim for claim in claims if not self._update(connection, "renew", (leased_until,), claim)
            ]

        return await self._write(work)

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[bool]:
        # Encoded in the caller's thread: the writer's time is everybody's.
        prepared = [(settlement, rows.attempt_values(settlement)) for settlement in settlements]
        return await self._writer.submit(self._settle_all, prepared)

    async def surrender(self, claims: Sequence[Claim]) -> int:
        def work(connection: apsw.Connection) -> int:
            now = self._now()
            return sum(self._update(connection, "surrender", (now,), claim) for claim in claims)

        return await self._write(work)

    async def cancel(self, tenant: str, event_key: bytes, hook_id: int, reason: str) -> bool:
        return await self._change("cancel", lambda now: (now, reason, tenant, event_key, hook_id))

    async def replay(self, tenant: str, event_key: bytes, hook_id: int) -> bool:
        def work(connection: apsw.Connection) -> bool:
            connection.execute(self._sql["replay"], (self._now(), tenant, event_key, hook_id))
            found = connection.execute(self._sql["has_delivery"], (tenant, event_key, hook_id))
            return bool(found.get)

        return await self._write(work)

    async def count_waiting(self, hook_id: int, *, at_most: int) -> Mapping[Traffic, tuple[int, int]]:
        found = await self._rows("count_waiting", (hook_id, at_most))
        return {Traffic(traffic): (count, due_at_ms) for traffic, count, due_at_ms in found}

    # -- inside ------------------------------------------------------------------------------------------------

    def _publish_all(
        self, connection: apsw.Connection, items: Sequence[tuple[Publication, float]]
    ) -> list[Receipt | TimestampTaken | Stale]:
        """All publications with a few statements; where one of them is not plainly new, one after the other."""
        revision = connection.execute(self._sql["hooks_revision"]).get
        is_fresh = all(publication.revision in (None, revision) for publication, _ in items)
        if is_fresh and self._inserts_together(connection, items):
            return [_receipt(publication) for publication, _ in items]
        return [
            self._publish_one(connection, publication, lease_seconds, revision)
            for publication, lease_seconds in items
        ]

    def _inserts_together(
        self, connection: apsw.Connection, items: Sequence[tuple[Publication, float]]
    ) -> bool:
        """Insert everything; False, with nothing inserted, where a key or a timestamp was there before."""
        now = self._now()
        events: list[tuple[Any, ...]] = []
        deliveries: list[tuple[Any, ...]] = []
        keys: list[tuple[Any, ...]] = []
        for publication, lease_seconds in items:
            tenant = publication.tenant
            leased_until = now + int(lease_seconds * 1000)
            for event, wanted in publication.events:
                kind = event.kind
                events.append(
                    (tenant, event.key, kind.entity_name, kind.action_name, event.entity_id, event.timestamp_ms, now, event.payload)
                )  # fmt: skip
                for delivery in wanted:
                    token = delivery.lease_token
                    due_at = now if token is None else leased_until
                    deliveries.append(
                        (tenant, event.key, delivery.hook_id, due_at, token, delivery.order_key)
                    )
            if publication.idempotency_key is not None:
                keys.append(_key_row(publication, now))
        connection.execute("savepoint publishing")
        is_new = self._insert_keys.execute(connection, keys) == len(keys) and self._insert_events.execute(
            connection, events
        ) == len(events)
        if is_new:
            self._insert_deliveries.execute(connection, deliveries)
        else:
            connection.execute("rollback to publishing")
        connection.execute("release publishing")
        return is_new

    def _publish_one(
        self, connection: apsw.Connection, publication: Publication, lease_seconds: float, revision: int
    ) -> Receipt | TimestampTaken | Stale:
        """One publication whose key may be known, whose hooks may have changed, and whose timestamps may be taken."""
        if publication.idempotency_key is not None and (
            known := self._known_receipt(connection, publication)
        ):
            return known
        if publication.revision not in (None, revision):
            return Stale(revision)
        if self._inserts_together(connection, [(publication, lease_seconds)]):
            return _receipt(publication)
        return self._first_taken(connection, publication)

    def _first_taken(self, connection: apsw.Connection, publication: Publication) -> TimestampTaken:
        """Which event of a refused publication has a timestamp that was taken, in the store or by one before it."""
        seen: set[tuple[str, str | None, int]] = set()
        for position, (event, _) in enumerate(publication.events):
            if event.entity_id is None:
                continue
            name = (event.kind.entity_name, event.entity_id, event.timestamp_ms)
            values = (publication.tenant, event.kind.entity_name, event.entity_id)
            latest = connection.execute(self._sql["latest_timestamp"], (*values, event.timestamp_ms)).get
            if latest is not None or name in seen:
                return TimestampTaken(position, max(latest or 0, event.timestamp_ms))
            seen.add(name)
        raise AssertionError("a publication was refused and no timestamp of it is taken")

    def _known_receipt(self, connection: apsw.Connection, publication: Publication) -> Receipt | None:
        values = (publication.tenant, publication.idempotency_key)
        row: Any = connection.execute(self._sql["get_idempotency_key"], values).fetchone()
        if row is None:
            return None
        fingerprint, keys, deliveries = row
        if fingerprint != publication.fingerprint:
            raise IdempotencyMismatch
        ids = tuple(event_id(keys[start : start + 16]) for start in range(0, len(keys), 16))
        return Receipt(event_ids=ids, deliveries=deliveries, duplicate=True)

    def _settle_all(
        self, connection: apsw.Connection, items: Sequence[Sequence[tuple[Settlement, tuple[Any, ...]]]]
    ) -> list[list[bool]]:
        """All settlements with a few statements; where a lease was lost, one after the other."""
        now = self._now()
        everything = [one for item in items for one in item]
        connection.execute("savepoint settling")
        changed = self._settle.execute(
            connection, [_settle_values(settlement, now) for settlement, _ in everything]
        )
        if changed == len(everything):
            self._insert_attempts.execute(connection, [values for _, values in everything])
            settled = [[True] * len(item) for item in items]
        else:
            connection.execute("rollback to settling")
            settled = [
                [self._settle_one(connection, one, values, now) for one, values in item] for item in items
            ]
        connection.execute("release settling")
        return settled

    def _settle_one(
        self, connection: apsw.Connection, settlement: Settlement, attempt_values: tuple[Any, ...], now: int
    ) -> bool:
        is_ours = self._settle.execute(connection, [_settle_values(settlement, now)]) == 1
        if is_ours:
            self._insert_attempts.execute(connection, [attempt_values])
        return is_ours

    def _update(self, connection: apsw.Connection, query: str, values: tuple[Any, ...], claim: Claim) -> bool:
        """Run a statement that is fenced by the claim's lease token; whether the token was still the delivery's."""
        connection.execute(self._sql[query], values + _fence(claim))
        return connection.changes() > 0


def _fence(claim: Claim) -> tuple[Any, ...]:
    return (claim.tenant, claim.event_key, claim.hook_id, claim.lease_token)


def _settle_values(settlement: Settlement, now: int) -> tuple[Any, ...]:
    verdict = settlement.verdict
    waits = verdict.state is State.WAITING
    due_at = now + int((verdict.retry_in_seconds or 0) * 1000) if waits else None
    settled_at = None if waits else now
    attempts = settlement.attempt.number
    return (
        verdict.state.value,
        due_at,
        attempts,
        verdict.failures,
        settled_at,
        verdict.reason,
        *_fence(settlement.claim),
    )


def _receipt(publication: Publication) -> Receipt:
    return Receipt(
        event_ids=tuple(event_id(event.key) for event, _ in publication.events),
        deliveries=sum(len(wanted) for _, wanted in publication.events),
    )


def _key_row(publication: Publication, now: int) -> tuple[Any, ...]:
    keys = b"".join(event.key for event, _ in publication.events)
    deliveries = sum(len(wanted) for _, wanted in publication.events)
    return (publication.tenant, publication.idempotency_key, publication.fingerprint, keys, deliveries, now)


def _lost(tenant: str, key: bytes, hook_id: int, number: int, now: int) -> tuple[Any, ...]:
    """The attempt of a process that ended, or stalled past its lease, between claiming and settling."""
    outcome = Outcome(result=Result.LOST)
    return (tenant, key, hook_id, number, now, "", "", outcome.result.value, None, 0.0, Result.LOST.meaning, b"", b"", "[]")  # fmt: skip
