"""The life of a loan: in every status every command, driven through the real routes.

The two tables here are written from Fineract's sources and not from ours.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from embarc.testing.asgi import Answer

from .conftest import DATES, OWED, Lender

SUBMITTED, APPROVED, ACTIVE, WITHDRAWN, REJECTED = 100, 200, 300, 400, 500
CLOSED, WRITTEN_OFF, RESCHEDULED, OVERPAID = 600, 601, 602, 700
STATUSES = (
    SUBMITTED,
    APPROVED,
    ACTIVE,
    WITHDRAWN,
    REJECTED,
    CLOSED,
    WRITTEN_OFF,
    RESCHEDULED,
    OVERPAID,
)
ON: dict[str, object] = {"transactionDate": "2026-05-01"}
BODIES: dict[str, dict[str, object]] = {
    "approve": {"approvedOnDate": "2026-01-10"},
    "undoapproval": {},
    "reject": {"rejectedOnDate": "2026-01-10"},
    "withdrawnByApplicant": {"withdrawnOnDate": "2026-01-10"},
    "disburse": {"actualDisbursementDate": "2026-01-15"},
    "undodisbursal": {},
    "assignloanofficer": {"toLoanOfficerId": 4, "assignmentDate": "2026-01-10"},
    "unassignloanofficer": {"unassignedDate": "2026-01-20"},
    "repayment": ON | {"transactionAmount": 10},
    "waiveinterest": ON | {"transactionAmount": 2},
    "writeoff": ON,
    "undowriteoff": {},
    "recoverypayment": ON | {"transactionAmount": 10},
    "foreclosure": ON,
    "close": ON,
    "close-rescheduled": ON,
    "charge-off": ON,
    "undo-charge-off": {},
    "creditBalanceRefund": ON | {"transactionAmount": 50},
}

ALLOWED: dict[tuple[str, int], tuple[int, list[str]]] = {
    ("update", SUBMITTED): (SUBMITTED, ["LOAN.UPDATE"]),
    ("delete", SUBMITTED): (0, ["LOAN.DELETE"]),
    ("approve", SUBMITTED): (APPROVED, ["LOAN.APPROVE"]),
    ("undoapproval", APPROVED): (SUBMITTED, ["LOAN.APPROVALUNDO"]),
    ("reject", SUBMITTED): (REJECTED, ["LOAN.REJECT"]),
    ("withdrawnByApplicant", SUBMITTED): (WITHDRAWN, ["LOAN.WITHDRAW"]),
    ("disburse", APPROVED): (ACTIVE, ["LOAN.DISBURSE"]),
    ("undodisbursal", ACTIVE): (APPROVED, ["LOAN.DISBURSALUNDO"]),
    ("repayment", ACTIVE): (ACTIVE, ["LOAN.REPAYMENT"]),
    ("repayment", CLOSED): (OVERPAID, ["LOAN.REPAYMENT"]),
    ("repayment", OVERPAID): (OVERPAID, ["LOAN.REPAYMENT"]),
    ("waiveinterest", ACTIVE): (ACTIVE, ["LOAN.WAIVEINTERESTPORTION"]),
    ("adjust", ACTIVE): (ACTIVE, ["LOAN.ADJUST"]),
    ("adjust", CLOSED): (ACTIVE, ["LOAN.ADJUST"]),
    ("adjust", WRITTEN_OFF): (ACTIVE, ["LOAN.ADJUST"]),
    ("adjust", OVERPAID): (OVERPAID, ["LOAN.ADJUST"]),
    ("foreclosure", ACTIVE): (CLOSED, ["LOAN.FORECLOSURE", "LOAN.CLOSE"]),
    ("close", ACTIVE): (CLOSED, ["LOAN.CLOSE"]),
    ("close-rescheduled", ACTIVE): (RESCHEDULED, ["LOAN.CLOSEASRESCHEDULED"]),
    ("creditBalanceRefund", OVERPAID): (CLOSED, ["LOAN.CREDITBALANCEREFUND", "LOAN.CLOSE"]),
    ("writeoff", ACTIVE): (WRITTEN_OFF, ["LOAN.WRITEOFF"]),
    ("undowriteoff", WRITTEN_OFF): (ACTIVE, ["LOAN.UNDOWRITEOFF"]),
    ("recoverypayment", WRITTEN_OFF): (WRITTEN_OFF, ["LOAN.RECOVERYPAYMENT"]),
    ("charge-off", ACTIVE): (ACTIVE, ["LOAN.CHARGEOFF"]),
    ("undo-charge-off", ACTIVE): (ACTIVE, ["LOAN.UNDOCHARGEOFF"]),
    ("addCharge", SUBMITTED): (SUBMITTED, ["LOANCHARGE.CREATE"]),
    ("addCharge", APPROVED): (APPROVED, ["LOANCHARGE.CREATE"]),
    ("addCharge", ACTIVE): (ACTIVE, ["LOANCHARGE.CREATE"]),
    ("addCharge", OVERPAID): (OVERPAID, ["LOANCHARGE.CREATE"]),
    ("payCharge", ACTIVE): (ACTIVE, ["LOANCHARGE.PAY"]),
    ("waiveCharge", ACTIVE): (ACTIVE, ["LOANCHARGE.WAIVE"]),
    ("deleteCharge", SUBMITTED): (SUBMITTED, ["LOANCHARGE.DELETE"]),
} | {
    (f"{word}loanofficer", status): (status, [f"LOAN.{action}LOANOFFICER"])
    for status in STATUSES
    for word, action in (("assign", "UPDATE"), ("unassign", "REMOVE"))
}
REPAYMENT_OR_WAIVER = (400, "error.msg.loan.repayment.or.waiver.account.is.not.active")
CHARGE_INACTIVE = (403, "error.msg.loan.charge.associated.loan.inactive")
NOT_PENDING = "in.submitted.and.pending.approval.stage"
REFUSED: dict[str, tuple[int, str]] = {
    "update": (403, "error.msg.loan.cannot.modify.loan.in.its.present.state"),
    "delete": (403, "error.msg.loan.cannot.delete.loan.in.its.present.state"),
    "approve": (400, "error.msg.loan.approve.account.is.not.submitted.and.pending.state"),
    "undoapproval": (400, "error.msg.loan.undo.approval.account.is.not.approved"),
    "reject": (400, "error.msg.loan.reject.account.is.not.submitted.pending.approval.state"),
    "withdrawnByApplicant": (403, "error.msg.loan.withdraw.cannot.withdraw"),
    "disburse": (400, "error.msg.loan.disbursal.account.is.not.approve.not.disbursed.state"),
    "undodisbursal": (400, "error.msg.loan.undo.disbursal.account.is.not.active"),
    "repayment": REPAYMENT_OR_WAIVER,
    "waiveinterest": REPAYMENT_OR_WAIVER,
    "adjust": (
        403,
        "error.msg.loan.transaction.adjustment.is.only.allowed.to.repayment.or.waiver.transactions",
    ),
    "foreclosure": (400, "error.msg.loan.foreclosure.account.is.not.active"),
    "close": (400, "error.msg.loan.close.account.is.not.active"),
    "close-rescheduled": (400, "error.msg.loan.close.account.is.not.active"),
    "creditBalanceRefund": (400, "error.msg.loan.credit.balance.refund.account.is.not.overpaid"),
    "writeoff": (400, "error.msg.loan.writtenoff.account.is.not.active"),
    "undowriteoff": (400, "error.msg.loan.undo.writtenoff.account.is.not.written.off"),
    "recoverypayment": (400, "error.msg.loan.account.is.not.written.off"),
    "charge-off": (403, "error.msg.loan.is.not.active"),
    "undo-charge-off": (403, "error.msg.loan.is.not.active"),
    "addCharge": (403, "error.msg.loanCharge.cannot.be.added.as.loan.is.closed"),
    "payCharge": CHARGE_INACTIVE,
    "waiveCharge": CHARGE_INACTIVE,
    "deleteCharge": (403, f"error.msg.loan.charge.associated.loan.not.{NOT_PENDING}"),
}
FEE = 25
PAID = 10
"""A first repayment of every loan that was paid out; the fee takes it."""


class Case:
    """A loan with a charge and, where there was money to pay, a repayment."""

    def __init__(self, lender: Lender) -> None:
        self.lender = lender
        self.loan_id = self.charge_id = self.repayment_id = 0

    async def in_status(self, status: int) -> Case:
        """Lead a new loan to this status as its users would."""
        lender = self.lender
        self.loan_id = loan_id = await lender.applied()
        self.charge_id = await lender.charged(loan_id)
        if status in (SUBMITTED, APPROVED, WITHDRAWN, REJECTED):
            # It has been active once: what it has left are reversed transactions.
            await self._pay_out()
            await lender.command(loan_id, "undodisbursal")
            await lender.command(loan_id, "undoapproval")
        match status:
            case 200:
                await lender.command(loan_id, "approve", approvedOnDate="2026-01-10")
            case 400:
                await lender.command(loan_id, "withdrawnByApplicant", withdrawnOnDate="2026-01-10")
            case 500:
                await lender.command(loan_id, "reject", rejectedOnDate="2026-01-10")
            case 300 | 600 | 601 | 602 | 700:
                await self._pay_out()
        match status:
            case 600:
                await lender.pay(loan_id, OWED + FEE - PAID)
            case 601:
                await lender.transact(loan_id, "writeoff", transactionDate="2026-03-01")
            case 602:
                await lender.transact(loan_id, "close-rescheduled", transactionDate="2026-03-01")
            case 700:
                await lender.pay(loan_id, OWED + FEE - PAID + 50)
        assert await lender.status(loan_id) == status
        return self

    async def give(self, command: str) -> Answer:
        """The command, with a body that is in order."""
        http, loan, one = self.lender.http, f"/loans/{self.loan_id}", self.charge_id
        match command:
            case "update":
                return await http.call("PUT", loan, {"principal": 800} | DATES)
            case "delete":
                return await http.call("DELETE", loan)
            case "adjust":
                body = ON | {"transactionAmount": 0} | DATES
                return await http.call("POST", f"{loan}/transactions/{self.repayment_id}", body)
            case "addCharge":
                due = {"chargeId": self.lender.charge_id, "dueDate": "2026-02-10"} | DATES
                return await http.call("POST", f"{loan}/charges", due)
            case "payCharge":
                return await http.call("POST", f"{loan}/charges/{one}?command=pay", ON | DATES)
            case "waiveCharge":
                return await http.call("POST", f"{loan}/charges/{one}?command=waive", {})
            case "deleteCharge":
                return await http.call("DELETE", f"{loan}/charges/{one}")
        return await self.lender.refused(self.loan_id, command, **BODIES[command])

    async def _pay_out(self) -> None:
        await self.lender.command(self.loan_id, "approve", approvedOnDate="2026-01-10")
        await self.lender.command(self.loan_id, "disburse", actualDisbursementDate="2026-01-15")
        self.repayment_id = (await self.lender.pay(self.loan_id, PAID, on="2026-02-01"))["resourceId"]


async def has_an_officer(case: Case) -> None:
    await case.lender.command(case.loan_id, "assignloanofficer", **BODIES["assignloanofficer"])


async def is_nearly_paid(case: Case) -> None:
    await case.lender.pay(case.loan_id, OWED + FEE - PAID - 10)


async def is_charged_off(case: Case) -> None:
    await case.lender.transact(case.loan_id, "charge-off", **ON)


BEFORE: dict[str, Callable[[Case], Awaitable[None]]] = {
    "unassignloanofficer": has_an_officer,
    "close": is_nearly_paid,
    "undo-charge-off": is_charged_off,
}
"""What a command needs besides the status."""


@pytest.mark.parametrize(("command", "status"), sorted(ALLOWED), ids=lambda one: str(one))
async def test_what_is_allowed_leads_to_the_right_status_and_emits_the_right_events(
    lender: Lender, command: str, status: int
) -> None:
    case = await Case(lender).in_status(status)
    if prepare := BEFORE.get(command):
        await prepare(case)
    told = len(lender.events())

    answer = await case.give(command)

    after, kinds = ALLOWED[command, status]
    assert answer.status == 200, answer.body
    assert lender.events()[told:] == kinds
    if after:
        assert await lender.status(case.loan_id) == after
    else:
        assert (await lender.http.call("GET", f"/loans/{case.loan_id}")).status == 404


@pytest.mark.parametrize("status", STATUSES)
async def test_what_is_not_allowed_is_refused_as_fineract_does_and_changes_and_emits_nothing(
    lender: Lender, status: int
) -> None:
    case = await Case(lender).in_status(status)
    before = lender.dump()
    wrong = []

    commands = [command for command in REFUSED if (command, status) not in ALLOWED]
    for command in commands:
        answer = await case.give(command)
        if (answer.status, answer.codes) != (REFUSED[command][0], [REFUSED[command][1]]):
            wrong.append((command, answer.status, answer.codes))
        assert lender.dump() == before, command

    assert wrong == []
    assert len(commands) >= 7


def test_the_tables_know_every_command() -> None:
    from embarc.sandbox.loan_life import STEPS

    assert {command for command, _ in ALLOWED} == set(STEPS)
    assert set(REFUSED) | {"assignloanofficer", "unassignloanofficer"} == set(STEPS)
