"""Filters and thin payloads: what of an event a hook gets."""

from __future__ import annotations

import json

import pytest

from embarc.core.envelopes import thin
from embarc.core.filters import Filter, FilterFailed

PAYLOAD = {"loanId": 7, "officeId": 3, "request": {"principal": 1000.5, "tags": ["a", "b"]}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("payload.officeId == 3", True),
        ("entity == 'LOAN' && action != 'APPROVE'", True),
        ("payload.request.principal > 2000.0", False),
        ("payload.request.tags.exists(t, t == 'b')", True),
        ("has(payload.clientId)", False),
    ],
)
def test_a_filter_sees_payload_entity_and_action(text: str, expected: bool) -> None:
    assert Filter(text).wants(PAYLOAD, "LOAN", "REPAYMENT") is expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("payload.x >", "line 1, column 12"),
        ("(payload.a\n== ", "line 2, column 4"),
        ("amount > 5", "Undefined variable or function: 'amount'"),
        ("1 + 1", "must say true or false"),
        ("payload.a.map(x, x).filter(y, y).all(z, z)", "at most 2 times"),
    ],
)
def test_a_bad_filter_is_refused_with_the_place(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Filter(text)


@pytest.mark.parametrize("text", ["payload.clientId > 5", "payload.loanId == 'x' + 1", "payload.loanId"])
def test_a_filter_that_cannot_say_raises_and_shows_nothing_of_the_payload(text: str) -> None:
    with pytest.raises(FilterFailed) as failed:
        Filter(text).wants({"loanId": 7, "request": {"name": "Alice"}}, "LOAN", "APPROVE")

    assert "Alice" not in str(failed.value)


def test_a_thin_payload_has_ids_only_and_keeps_the_order_and_every_digit() -> None:
    payload = (
        b'{"entityName":"LOAN","actionName":"REPAYMENT","createdBy":12,"createdByName":"j","createdByFullName":"J D",'
        b'"officeId":3,"clientId":9,"loanId":12345678901234567890,"timestamp":"2025-10-13T07:45:12.001Z",'
        b'"request":{"transactionAmount":10.50},"response":{"resourceId":77,"changes":{"noteId":5},"name":"x","subId":"a"}}'
    )

    slim = thin(payload)

    assert slim == (
        b'{"entityName":"LOAN","actionName":"REPAYMENT","createdBy":12,"officeId":3,"clientId":9,'
        b'"loanId":12345678901234567890,"timestamp":"2025-10-13T07:45:12.001Z","response":{"resourceId":77,"subId":"a"}}'
    )
    assert json.loads(slim)
