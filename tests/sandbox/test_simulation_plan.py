"""The plan of a simulated portfolio: repeatable, within its days, and true to the life of clients and loans."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embarc.core.catalogue import load_catalogue
from embarc.sandbox.simulate import Api, PlayFailed
from embarc.sandbox.simulate.people import PRODUCTS
from embarc.sandbox.simulate.plan import SETUP, Command, Due, Ref, Scale, gap, make_plan

TODAY = date(2025, 10, 20)
SCALE = Scale(clients=150, days=365, seed=42, today=TODAY)
PLAN = make_plan(SCALE)

CLIENT_LEADS: dict[str, tuple[set[str | None], str]] = {
    "CLIENT.CREATE": ({None}, "pending"),
    "CLIENT.REJECT": ({"pending"}, "rejected"),
    "CLIENT.WITHDRAW": ({"pending"}, "withdrawn"),
    "CLIENT.UNDOREJECT": ({"rejected"}, "pending"),
    "CLIENT.UNDOWITHDRAWAL": ({"withdrawn"}, "pending"),
    "CLIENT.ACTIVATE": ({"pending"}, "active"),
    "CLIENT.ASSIGNSTAFF": ({"active"}, "active"),
    "CLIENT.UPDATE": ({"active"}, "active"),
    "CLIENT.CLOSE": ({"active"}, "closed"),
}
LOAN_LEADS: dict[str, tuple[set[str | None], str]] = {
    "LOAN.CREATE": ({None}, "submitted"),
    "LOAN.APPROVE": ({"submitted"}, "approved"),
    "LOAN.APPROVALUNDO": ({"approved"}, "submitted"),
    "LOAN.REJECT": ({"submitted"}, "rejected"),
    "LOAN.WITHDRAW": ({"submitted"}, "withdrawn"),
    "LOAN.DISBURSE": ({"approved"}, "active"),
    "LOAN.REPAYMENT": ({"active"}, "active"),
    "LOAN.ADJUST": ({"active"}, "active"),
    "LOAN.WRITEOFF": ({"active"}, "written off"),
    "LOAN.RECOVERYPAYMENT": ({"written off"}, "written off"),
}


def lives() -> dict[str, list[Command]]:
    found = defaultdict(list)
    for command in PLAN:
        if command.subject != SETUP:
            found[command.subject].append(command)
    return found


def names_in(command: Command) -> set[str]:
    named = set(re.findall(r"{([^}]+)}", command.path))
    for value in command.body.values():
        if isinstance(value, Ref):
            named.add(value.name)
        elif isinstance(value, Due):
            named.add(value.loan)
    return named


def loan_in(command: Command) -> str:
    found = re.search(r"{(client-\d+-loan-\d+)}", command.path)
    return found[1] if found else command.gives


def test_the_same_seed_gives_the_same_commands() -> None:
    assert make_plan(SCALE) == PLAN


def test_another_seed_gives_others() -> None:
    other = make_plan(Scale(clients=150, days=365, seed=43, today=TODAY))

    assert [command.body for command in other] != [command.body for command in PLAN]


def test_a_life_does_not_depend_on_how_many_others_there_are() -> None:
    fewer = make_plan(Scale(clients=20, days=365, seed=42, today=TODAY))

    kept = {f"client-{number}" for number in range(20)} | {SETUP}
    assert fewer == [command for command in PLAN if command.subject in kept]


@pytest.mark.parametrize("days", [1, 7, 400])
def test_nothing_happens_before_the_first_day_or_after_today(days: int) -> None:
    scale = Scale(clients=40, days=days, seed=1, today=TODAY)

    for command in make_plan(scale):
        assert scale.first_day <= command.day <= TODAY
        if command.subject != SETUP:
            told = [
                value
                for name, value in command.body.items()
                if name.endswith(("Date", "OnDate")) and name != "expectedDisbursementDate"
            ]
            assert set(told) <= {command.day.isoformat()}


def test_every_command_of_one_client_comes_after_the_one_before() -> None:
    for commands in lives().values():
        moments = [(command.day, command.second) for command in commands]
        assert moments == sorted(set(moments))


def test_every_id_was_given_by_an_earlier_command_of_the_same_client_or_of_the_setup() -> None:
    setup = {command.gives for command in PLAN if command.subject == SETUP}
    reasons = {"reason-close", "reason-reject", "reason-withdraw"}

    for commands in lives().values():
        given_ids = setup | reasons
        for command in commands:
            assert names_in(command) <= given_ids
            given_ids.add(command.gives)


def test_clients_and_loans_live_as_the_platform_allows_but_for_a_few_slips() -> None:
    slips = 0
    for commands in lives().values():
        client: str | None = None
        loans: dict[str, str | None] = {}
        for command in commands:
            if command.kind.startswith("CLIENT."):
                sources, target = CLIENT_LEADS[command.kind]
                if client not in sources:
                    assert command.kind == "CLIENT.ACTIVATE"
                    slips += 1
                    continue
                if command.kind == "CLIENT.CLOSE":
                    assert set(loans.values()) & {"submitted", "approved"} == set()
                client = target
            else:
                loan = loan_in(command)
                sources, target = LOAN_LEADS[command.kind]
                assert client == "active"
                if loans.get(loan) not in sources:
                    assert command.kind == "LOAN.APPROVE"
                    slips += 1
                    continue
                loans[loan] = target

    assert 0 < slips < len(PLAN) / 50


def test_the_portfolio_has_what_one_expects_of_it() -> None:
    kinds = [command.kind for command in PLAN]

    assert set(kinds) == {
        *CLIENT_LEADS,
        *LOAN_LEADS,
        *("OFFICE.CREATE", "STAFF.CREATE", "LOANPRODUCT.CREATE"),
    }
    assert set(kinds) <= {str(entry.kind) for entry in load_catalogue().entries}
    assert kinds.count("LOAN.REPAYMENT") > len(kinds) / 3
    late = [command for command in PLAN if command.kind == "LOAN.REPAYMENT" and command.day > due_of(command)]
    assert len(late) > 20


def due_of(command: Command) -> date:
    """When the first instalment that this repayment is for was due."""
    loan = loan_in(command)
    disbursed = next(one.day for one in PLAN if one.kind == "LOAN.DISBURSE" and loan_in(one) == loan)
    application = next(one for one in PLAN if one.gives == loan)
    product = PRODUCTS[int(application.body["productId"].name.removeprefix("product-"))]
    return product.due(disbursed, command.body["transactionAmount"].first)


def test_collections_are_posted_in_one_burst_after_the_days_other_business() -> None:
    by_day: dict[date, list[bool]] = defaultdict(list)
    for command in PLAN:
        by_day[command.day].append(command.is_burst)

    assert all(bursts == sorted(bursts) for bursts in by_day.values())
    assert all(command.is_burst == ("/transactions" in command.path) for command in PLAN)


def test_the_rate_is_reached_in_bursts_and_never_passed() -> None:
    gaps = {command.is_burst: gap(command, 50) for command in PLAN}

    assert gaps[True] == pytest.approx(1 / 50)
    assert gaps[False] > gaps[True]


@given(st.decimals(min_value=0, max_value=10**6, places=2), st.decimals(min_value=0, max_value=1, places=3))
def test_a_share_and_its_rest_make_the_whole(total: Decimal, share: Decimal) -> None:
    parts = [Due("loan", 1, 1, share=share, is_rest=is_rest).amount(total) for is_rest in (False, True)]

    assert sum(parts) == total
    assert all(part >= 0 and part == part.quantize(Decimal("0.01")) for part in parts)


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.letter)
def test_instalments_are_due_one_after_the_other(product: Any) -> None:
    dues = [product.due(date(2024, 1, 31), nth) for nth in range(1, product.instalments + 1)]

    assert dues == sorted(dues)
    assert all(after - before <= timedelta(days=31) for before, after in pairwise(dues))


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://127.0.0.1", "http://", "http://127.0.0.1:port"])
def test_what_is_no_url_is_told(url: str) -> None:
    with pytest.raises(PlayFailed, match=r"is no URL of a running Embarc, such as http://127\.0\.0\.1:8080"):
        Api(url, "admin", "x")
