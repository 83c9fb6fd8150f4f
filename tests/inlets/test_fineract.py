"""What the inlet makes of one payload, and when a payload without a time is a repetition."""

from __future__ import annotations

import json
from typing import Any

import pytest

from embarc.core.events import EventKind
from embarc.core.inlets import Inlet
from embarc.core.submissions import Receipt, Submission
from embarc.inlets.fineract import REPEAT_SECONDS, FineractInlet, Payload, decode
from embarc.observe import Observer
from embarc.testing.clock import ManualClock

CLIENT_CREATE = {"entityName": "CLIENT", "actionName": "CREATE"}


def decoded(payload: dict[str, Any] | str, **headers: str) -> Payload:
    text = payload if isinstance(payload, str) else json.dumps(payload)
    return decode({name.replace("_", "-"): value for name, value in headers.items()}, text.encode())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("27", 27),
        ("27.0", 27),
        ("1.0E7", 10_000_000),
        ('"27"', 27),
        ('"027"', "027"),
        ('"loan-27"', "loan-27"),
        ("27.5", None),
        ("1.0E300", None),
        ("null", None),
        ("true", None),
        ('""', None),
        ("{}", None),
    ],
)
def test_an_id_is_read_however_its_number_was_written(text: str, found: int | str | None) -> None:
    payload = decoded(f'{{"entityName":"LOAN","actionName":"APPROVE","response":{{"loanId":{text}}}}}')

    assert payload.ids == ({} if found is None else {"loanId": found})
    assert payload.entity_id == (None if found is None else str(found))
    assert payload.response == f'{{"loanId":{text}}}'.encode()


def test_the_ids_at_the_top_come_before_those_of_the_response() -> None:
    payload = decoded(CLIENT_CREATE | {"clientId": 27, "response": {"clientId": 28, "savingsId": 5}})

    assert payload.ids == {"clientId": 27, "savingsId": 5}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2024-10-24T09:52:59Z", 1_729_763_579_000),
        ("2024-10-24T09:52:59.123456789Z", 1_729_763_579_123),
        ("yesterday", None),
        ("", None),
    ],
)
def test_a_time_that_cannot_be_read_does_not_lose_the_event(text: str, found: int | None) -> None:
    assert decoded(CLIENT_CREATE | {"timestamp": text}).timestamp_ms == found


def test_the_digest_tells_payloads_and_fineract_tenants_apart_and_no_order_of_keys() -> None:
    one = decoded({"entityName": "A", "actionName": "B", "clientId": 1}, fineract_platform_tenantid="t")
    turned = decoded({"clientId": 1, "actionName": "B", "entityName": "A"}, fineract_platform_tenantid="t")
    other = decoded({"entityName": "A", "actionName": "B", "clientId": 2}, fineract_platform_tenantid="t")
    tenant = decoded({"entityName": "A", "actionName": "B", "clientId": 1}, fineract_platform_tenantid="u")

    assert one.digest == turned.digest
    assert len({one.digest, other.digest, tenant.digest}) == 3


async def test_without_a_time_the_same_again_is_a_repetition_for_a_while() -> None:
    clock = ManualClock()
    keys: list[str | None] = []

    async def publish(submission: Submission) -> Receipt:
        keys.append(submission.idempotency_key)
        return Receipt(event_ids=("evt_1",), deliveries=0)

    async def find(secret: str) -> Inlet | None:
        raise AssertionError("no secret is needed here")

    async def learn(tenant: str, kind: EventKind, grouping: str) -> EventKind:
        return kind

    door = FineractInlet(find, publish, learn, clock=clock.now, observe=Observer())
    inlet = Inlet(tenant="default", id=1, name="core", digest=b"")
    payload = decoded(CLIENT_CREATE | {"response": {"resourceId": 1}})

    for pause in (0, REPEAT_SECONDS - 1, 2, REPEAT_SECONDS + 1, 1):
        clock.advance(pause)
        await door.accept(inlet, payload)

    assert [keys.index(key) for key in keys] == [0, 0, 2, 3, 3]
