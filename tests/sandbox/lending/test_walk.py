"""A loan in the hands of somebody who tries anything: what holds after every step."""

from __future__ import annotations

import random
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from embarc.sandbox.loan_commands import COMMANDS as DECISIONS
from embarc.sandbox.loan_transactions import COMMANDS as TRANSACTIONS

from .conftest import DATES, TODAY, Lender

STEPS = 60
DATE_FIELDS = {
    "approve": "approvedOnDate",
    "reject": "rejectedOnDate",
    "withdrawnByApplicant": "withdrawnOnDate",
    "disburse": "actualDisbursementDate",
    "assignloanofficer": "assignmentDate",
    "unassignloanofficer": "unassignedDate",
}
WITHOUT_A_DAY = ("undoapproval", "undodisbursal", "undowriteoff", "undo-charge-off")
WITH_AN_AMOUNT = ("repayment", "waiveinterest", "recoverypayment", "creditBalanceRefund")
# What ends a life early is tried less often, so that much happens before.
RARE = ("reject", "withdrawnByApplicant", "close-rescheduled", "undodisbursal", "undoapproval")


class Walker:
    """Gives random commands to one loan."""

    def __init__(self, lender: Lender, seed: int) -> None:
        self.lender = lender
        self.random = random.Random(seed)
        self.loan_id = 0
        self.transactions: list[int] = []
        self.charges: list[int] = []

    def day(self) -> str:
        """Mostly one that makes sense."""
        return (TODAY - timedelta(days=self.random.randint(-5, 160))).isoformat()

    def amount(self) -> str:
        """Of money."""
        return str(Decimal(self.random.choice([1, 999, 30900, 91800, self.random.randint(1, 99999)])) / 100)

    async def step(self) -> tuple[int, str]:
        """One command; the HTTP status of its answer, and what it was."""
        http, loan = self.lender.http, f"/loans/{self.loan_id}"
        name = self.random.choice([*DECISIONS, *TRANSACTIONS, "adjust", "adjust", "charge", "pay", "waive"])
        if name in RARE and self.random.random() < 0.8:
            name = "repayment"
        body: dict[str, Any] = dict(DATES)
        match name:
            case "adjust":
                one = self.random.choice(self.transactions or [0])
                amount = self.random.choice(["0", self.amount()])
                body |= {"transactionDate": self.day(), "transactionAmount": amount}
                path = f"{loan}/transactions/{one}"
            case "charge":
                body |= {"chargeId": self.lender.charge_id, "dueDate": self.day()}
                path = f"{loan}/charges"
            case "pay" | "waive":
                body |= {"transactionDate": self.day()} if name == "pay" else {}
                path = f"{loan}/charges/{self.random.choice(self.charges or [0])}?command={name}"
            case _:
                if name not in WITHOUT_A_DAY:
                    body[DATE_FIELDS.get(name, "transactionDate")] = self.day()
                if name in WITH_AN_AMOUNT:
                    body["transactionAmount"] = self.amount()
                if name == "assignloanofficer":
                    body["toLoanOfficerId"] = 4
                place = "" if name in DECISIONS else "/transactions"
                path = f"{loan}{place}?command={name}"
        answer = await http.call("POST", path, body)
        if answer.status == 200 and name == "charge":
            self.charges.append(answer.json["resourceId"])
        elif answer.status == 200 and name in (*TRANSACTIONS, "adjust"):
            self.transactions.append(answer.json.get("subResourceId", answer.json["resourceId"]))
        return answer.status, name


def check_books(loan: Any) -> None:
    """Money in is money allocated, nothing is below zero, and the status is what the balance says."""
    if "summary" not in loan:
        assert loan["status"]["id"] in (100, 200, 400, 500)
        return
    schedule, summary = loan["repaymentSchedule"], loan["summary"]
    moved = [one for one in loan["transactions"] if not one["manuallyReversed"]]

    def total(*codes: str) -> Decimal:
        wanted = {f"loanTransactionType.{code}" for code in codes}
        return sum(
            (Decimal(str(one["amount"])) for one in moved if one["type"]["code"] in wanted), Decimal(0)
        )

    overpaid = Decimal(str(loan.get("totalOverpaid", 0)))
    repaid = Decimal(str(summary["totalRepayment"]))
    refunded = total("creditBalanceRefund")
    lent_again = Decimal(str(schedule["totalPrincipalExpected"])) - Decimal(
        str(summary["principalDisbursed"])
    )
    outstanding = Decimal(str(summary["totalOutstanding"]))
    assert total("repayment", "chargePayment") - (refunded - lent_again) == repaid + overpaid
    assert outstanding >= 0
    assert overpaid >= 0
    assert not (outstanding and overpaid)
    assert outstanding == Decimal(str(schedule["totalOutstanding"]))
    for period in schedule["periods"][1:]:
        assert period["totalOutstandingForPeriod"] >= 0
        assert period["principalLoanBalanceOutstanding"] >= 0
    status = loan["status"]["id"]
    assert status in (300, 600, 601, 602, 700)
    if status == 602:
        return
    if status == 601:
        assert outstanding == 0
    else:
        assert status == (300 if outstanding else 700 if overpaid else 600)


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_is_tried_the_books_are_right_and_every_success_is_told_once(
    lender: Lender, seed: int
) -> None:
    walker = Walker(lender, seed)
    walker.loan_id = await (lender.active() if seed % 4 else lender.applied())
    succeeded: list[str] = []

    for _ in range(STEPS):
        before, told = lender.dump(), len(lender.events())
        status, name = await walker.step()
        new = lender.events()[told:]
        assert status in (200, 400, 403, 404), name
        if status != 200:
            assert lender.dump() == before, name
            continue
        succeeded.append(name)
        assert len(new) == 1 or (len(new) == 2 and new[1] == "LOAN.CLOSE"), (name, new)
        check_books(await lender.loan(walker.loan_id))

    assert len(succeeded) >= 5
