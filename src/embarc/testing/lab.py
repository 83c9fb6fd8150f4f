"""What the store contract needs from a backend: a way to open it, and a clock to move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from embarc.core.attempts import Attempt, Outcome, Result
from embarc.core.deliveries import Claim, Settlement, Traffic, Verdict, after
from embarc.core.events import Event, EventKind, compose_payload
from embarc.core.hooks import Endpoint, Hook, SigningSecret
from embarc.core.ids import EventKeys
from embarc.core.schedules import DEFAULT_SCHEDULE
from embarc.store.base import NewDelivery, Publication, Store
from embarc.testing.clock import ManualClock


class StoreLab(Protocol):
    """A backend under test. `store` is open; `reopen` closes it as a crash would not and opens the same data again."""

    store: Store
    clock: ManualClock

    async def reopen(self) -> Store:
        """The same data, opened anew."""
        ...


def every_class(wanted: Mapping[int, int]) -> dict[tuple[int, Traffic], int]:
    """So many of each hook's live deliveries, so many of its retries, so many of its replays."""
    return {(hook_id, traffic): limit for hook_id, limit in wanted.items() for traffic in Traffic}


@dataclass(slots=True)
class Factory:
    """Makes values with sensible defaults, each different from the one before."""

    clock: ManualClock
    _drawn: int = 0
    _keys: EventKeys = field(init=False)

    def __post_init__(self) -> None:
        self._keys = EventKeys(self._bits)

    def _bits(self, count: int) -> int:
        self._drawn += 1
        return (self._drawn * 0x9E3779B97F4A7C15) & (1 << count) - 1

    def event(
        self,
        *,
        kind: EventKind = EventKind("CLIENT", "CREATE"),  # noqa: B008 - frozen
        entity_id: str | None = None,
        timestamp_ms: int | None = None,
        tenant: str = "default",
    ) -> Event:
        """An event of its own entity, unless told otherwise."""
        now_ms = int(self.clock.now() * 1000)
        key = self._keys.next(now_ms)
        timestamp_ms = now_ms if timestamp_ms is None else timestamp_ms
        return Event(
            tenant=tenant,
            key=key,
            kind=kind,
            entity_id=entity_id if entity_id is not None else key.hex(),
            timestamp_ms=timestamp_ms,
            payload=compose_payload(kind, None, {}, timestamp_ms, b'{"a":1.00}', b"{}"),
        )

    def publication(
        self, *events: Event, hooks: tuple[int, ...] = (), token: int | None = None, key: str | None = None
    ) -> Publication:
        """A publication of these events to these hooks."""
        deliveries = tuple(NewDelivery(hook_id=hook_id, lease_token=token) for hook_id in hooks)
        return Publication(
            tenant=events[0].tenant,
            events=tuple((event, deliveries) for event in events),
            idempotency_key=key,
            fingerprint=b"one" if key else b"",
        )

    def hook(self, *, tenant: str = "default", is_active: bool = True, display_name: str = "A hook") -> Hook:
        """A hook that wants CLIENT.CREATE."""
        url = "https://example.com/hook"
        return Hook(
            tenant=tenant,
            id=0,
            template="Web",
            name="Web",
            display_name=display_name,
            is_active=is_active,
            subscriptions=(EventKind("CLIENT", "CREATE"),),
            config={"Payload URL": url, "Content Type": "json"},
            endpoint=Endpoint(url=url),
            secrets=(SigningSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),),
            credentials={"Password": "p"},
        )

    def settlement(
        self,
        claim: Claim,
        *,
        status: int | None = 200,
        result: Result = Result.STATUS,
        verdict: Verdict | None = None,
        body: bytes = b"",
    ) -> Settlement:
        """The result of an attempt of this claim."""
        now = self.clock.now()
        outcome = Outcome(
            result=result,
            status=status,
            body=body,
            head=b"X-Answer: yes\r\n",
            duration_ms=1.5,
            detail="a detail",
        )
        return Settlement(
            claim=claim,
            attempt=Attempt(
                number=claim.attempts + 1,
                started_at_ms=int(now * 1000),
                url="https://example.com/hook",
                outcome=outcome,
                worker="w",
            ),
            verdict=verdict or after(claim.failures, outcome, DEFAULT_SCHEDULE, now_seconds=now, chance=0.5),
        )
