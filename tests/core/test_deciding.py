"""Decisions of the core: verdicts, schedules, payloads, ids, masks, names."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embarc.core.attempts import Outcome, Result
from embarc.core.catalogue import load_catalogue
from embarc.core.deliveries import TRANSITIONS, State, after
from embarc.core.events import (
    Author,
    EventKind,
    TimestampSequence,
    compose_payload,
    entity_id_of,
    timestamp_text,
)
from embarc.core.ids import EventKeys, delivery_id, event_id, parse_delivery_id, parse_event_id
from embarc.core.schedules import DEFAULT_SCHEDULE, LONGEST_RETRY_AFTER, RetrySchedule, parse_retry_after

NOW = 1_760_341_512.0


def answered(status: int, head: bytes = b"") -> Outcome:
    return Outcome(result=Result.STATUS, status=status, head=head)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_2xx_is_delivered(status: int) -> None:
    assert after(3, answered(status), DEFAULT_SCHEDULE, now_seconds=NOW, chance=0).state is State.DELIVERED


@pytest.mark.parametrize("status", [100, 199, 300, 301, 307, 400, 401, 404, 429, 500, 503])
def test_everything_else_is_tried_again(status: int) -> None:
    found = after(0, answered(status), DEFAULT_SCHEDULE, now_seconds=NOW, chance=0.5)

    assert found.state is State.WAITING
    assert found.failures == 1
    assert found.retry_in_seconds is not None


@pytest.mark.parametrize("result", [result for result in Result if result is not Result.STATUS])
def test_no_answer_is_tried_again(result: Result) -> None:
    found = after(0, Outcome(result=result), DEFAULT_SCHEDULE, now_seconds=NOW, chance=0.5)

    assert found.state is State.WAITING


def test_after_the_last_retry_it_is_exhausted() -> None:
    schedule = RetrySchedule((1.0,), max_retries=2)

    states = [
        after(failures, answered(500), schedule, now_seconds=NOW, chance=0).state for failures in range(4)
    ]

    assert states == [State.WAITING, State.WAITING, State.EXHAUSTED, State.EXHAUSTED]


@pytest.mark.parametrize(
    ("outcome", "least"),
    [(answered(429), 60 * 0.8), (Outcome(result=Result.TIMEOUT), 60 * 0.8), (answered(500), 5 * 0.8)],
)
def test_an_overloaded_receiver_is_left_alone_for_longer(outcome: Outcome, least: float) -> None:
    found = after(0, outcome, DEFAULT_SCHEDULE, now_seconds=NOW, chance=0)

    assert found.retry_in_seconds == pytest.approx(least)


def test_what_the_receiver_asks_for_is_done() -> None:
    gone = after(0, answered(410), DEFAULT_SCHEDULE, now_seconds=NOW, chance=0)
    disable = after(
        0, answered(500, b"webhook-delivery: disable\r\n"), DEFAULT_SCHEDULE, now_seconds=NOW, chance=0
    )
    abort = after(
        0, answered(500, b"Webhook-Delivery: Abort-Message\r\n"), DEFAULT_SCHEDULE, now_seconds=NOW, chance=0
    )

    assert gone.disables_hook
    assert disable.disables_hook
    assert abort.state is State.EXHAUSTED
    assert not abort.disables_hook


@given(failures=st.integers(1, 60), chance=st.floats(0, 1, exclude_max=True), retries=st.integers(0, 50))
def test_the_jitter_stays_within_a_fifth(failures: int, chance: float, retries: int) -> None:
    schedule = RetrySchedule(max_retries=retries)
    delay = schedule.delay(failures, chance)

    if failures > retries:
        assert delay is None
    else:
        wait = schedule.waits[min(failures, len(schedule.waits)) - 1]
        assert delay is not None
        assert wait * 0.8 <= delay <= wait * 1.2


@given(asked=st.floats(0, LONGEST_RETRY_AFTER), chance=st.floats(0, 1, exclude_max=True))
def test_nobody_comes_earlier_than_asked(asked: float, chance: float) -> None:
    delay = DEFAULT_SCHEDULE.delay(1, chance, retry_after=asked)

    assert delay is not None
    assert delay >= asked


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("86400", 86400.0),
        ("Mon, 13 Oct 2025 07:46:12 GMT", 60.0),
        ("86401", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("Mon, 13 Oct 2025 07:40:00 GMT", None),
        ("Mon, 99 Oct 2025 07:40:00 GMT", None),
        ("9" * 500, None),
        ("²", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_date_and_absurd_wishes_are_ignored(
    text: str | None, seconds: float | None
) -> None:
    assert parse_retry_after(text, NOW) == seconds


@given(st.text(max_size=50))
def test_no_retry_after_whatever_raises(text: str) -> None:
    parse_retry_after(text, NOW)


def test_every_state_can_be_reached_and_the_table_names_only_states() -> None:
    reached = {target for _, _, target in TRANSITIONS}

    assert reached == set(State)
    assert all(source in State for source, _, _ in TRANSITIONS)


def test_the_payload_has_the_documented_keys_in_order() -> None:
    payload = compose_payload(
        EventKind("LOAN", "APPROVE"),
        Author(user_id=12, username="john.doe", full_name='Jöhn "D"'),
        {"loanId": 5, "clientId": 9876, "officeId": 3},
        1_760_341_512_001,
        b'{"a":1.00}',
        b'{"resourceId":5}',
    )

    assert payload.decode() == (
        '{"entityName":"LOAN","actionName":"APPROVE","createdBy":12,"createdByName":"john.doe",'
        '"createdByFullName":"Jöhn \\"D\\"","officeId":3,"clientId":9876,"loanId":5,'
        '"timestamp":"2025-10-13T07:45:12.001Z","request":{"a":1.00},"response":{"resourceId":5}}'
    )
    assert json.loads(payload)["createdBy"] == 12


@pytest.mark.parametrize(
    ("kind", "ids", "response", "expected"),
    [
        ("CLIENT.CREATE", {"clientId": 7}, {"resourceId": 7}, "7"),
        ("LOAN.REPAYMENT", {"loanId": 5, "clientId": 7}, {"resourceId": 99}, "5"),
        ("LOAN.REPAYMENT", {}, {"resourceId": 99, "loanId": 5}, "5"),
        ("LOANPRODUCT.CREATE", {}, {"resourceId": 3}, "3"),
        ("REPORT.CREATE", {}, {"resourceIdentifier": "x"}, "x"),
        ("REPORT.CREATE", {}, {}, None),
    ],
)
def test_the_entity_is_found_in_what_the_event_carries(
    kind: str, ids: dict[str, int | str], response: dict[str, object], expected: str | None
) -> None:
    assert entity_id_of(EventKind(*kind.split(".")), ids, response) == expected


def test_timestamps_of_one_entity_rise_and_others_are_not_touched() -> None:
    sequence = TimestampSequence(remember=2)

    given_out = [sequence.next("t", "LOAN", "1", 100) for _ in range(3)]

    assert given_out == [100, 101, 102]
    assert sequence.next("t", "LOAN", "2", 100) == 100
    assert sequence.next("t", "LOAN", None, 100) == 100
    assert sequence.next("t", "LOAN", "1", 50) == 103


def test_timestamps_are_utc_with_milliseconds() -> None:
    assert timestamp_text(0) == "1970-01-01T00:00:00.000Z"
    assert timestamp_text(1_760_341_512_001) == "2025-10-13T07:45:12.001Z"


@given(st.lists(st.integers(0, 2**47), min_size=2, max_size=50), st.integers(0, 2**32))
def test_keys_rise_whatever_the_clock_does_and_are_uuids_of_version_7(times: list[int], seed: int) -> None:
    keys = EventKeys(random.Random(seed).getrandbits)

    made = [keys.next(ms) for ms in times]

    assert made == sorted(set(made))
    assert all(key[6] >> 4 == 7 and key[8] >> 6 == 2 for key in made)
    assert int.from_bytes(made[0][:6], "big") == times[0]


@given(st.binary(min_size=16, max_size=16), st.integers(1, 10**17))
def test_ids_are_read_back(key: bytes, hook_id: int) -> None:
    assert parse_event_id(event_id(key)) == key
    assert parse_delivery_id(delivery_id(key, hook_id)) == (key, hook_id)


@pytest.mark.parametrize(
    "text", ["", "evt_", "evt_" + "g" * 32, "EVT_" + "0" * 32, "evt_" + "0" * 33, "evt_" + "0" * 32 + "\n"]
)
def test_what_is_not_an_id_is_none(text: str) -> None:
    assert parse_event_id(text) is None
    assert parse_delivery_id(text) is None


def test_the_catalogue_names_what_was_probably_meant() -> None:
    catalogue = load_catalogue()

    assert catalogue.knows(EventKind("CLIENT", "CREATE"))
    assert catalogue.nearest(EventKind("CLIENT", "CREAT")) == EventKind("CLIENT", "CREATE")
    assert catalogue.nearest(EventKind("client", "create")) == EventKind("CLIENT", "CREATE")
    assert catalogue.nearest(EventKind("LOANS", "APPROVED")) == EventKind("LOAN", "APPROVE")
    assert catalogue.can_subscribe(EventKind("*", "*"))
    assert catalogue.can_subscribe(EventKind("LOAN", "*"))
    assert not catalogue.can_subscribe(EventKind("*", "NOPE"))
    assert not catalogue.can_subscribe(EventKind("NOPE", "*"))
