"""The life of a loan as a table: which command is allowed in which status, where it leads, what it tells.

Statuses, codes, HTTP statuses and texts are Fineract's (LoanStatus, LoanTransitionValidator, LoanCharge*Exception). It
answers 400 where the state is checked with the request, 403 where it is a rule of the domain; both are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from typing import Any

from embarc.core.errors import FieldError, Invalid, RuleViolation


class Status(IntEnum):
    """Where a loan is in its life."""

    SUBMITTED = 100
    APPROVED = 200
    ACTIVE = 300
    WITHDRAWN = 400
    REJECTED = 500
    CLOSED = 600
    WRITTEN_OFF = 601
    RESCHEDULED = 602
    OVERPAID = 700


EVERY = frozenset(Status)
CANCELLED = frozenset({Status.WITHDRAWN, Status.REJECTED})
FINISHED = frozenset({Status.CLOSED, Status.WRITTEN_OFF, Status.RESCHEDULED})
_NAMES = {
    Status.SUBMITTED: ("submitted.and.pending.approval", "Submitted and pending approval"),
    Status.APPROVED: ("approved", "Approved"),
    Status.ACTIVE: ("active", "Active"),
    Status.WITHDRAWN: ("withdrawn.by.client", "Withdrawn by applicant"),
    Status.REJECTED: ("rejected", "Rejected"),
    Status.CLOSED: ("closed.obligations.met", "Closed (obligations met)"),
    Status.WRITTEN_OFF: ("closed.written.off", "Closed (written off)"),
    Status.RESCHEDULED: ("closed.reschedule.outstanding.amount", "Closed (rescheduled)"),
    Status.OVERPAID: ("overpaid", "Overpaid"),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One command."""

    command: str
    """As the API spells it."""
    action: str
    """Of the event that it emits."""
    sources: frozenset[Status]
    target: Status | None
    """None: the status stays, or the balance decides it (`status_by_balance`)."""
    http_status: int
    code: str
    text: str
    """Code and text of the refusal in every other status."""
    entity: str = "LOAN"
    follows_balance: bool = False
    """Whether the balance decides the status afterwards."""

    def check(self, status: int) -> None:
        """Raise the refusal unless a loan in this status may take the step."""
        if status in self.sources:
            return
        error = FieldError(self.code, self.text, "id")
        raise Invalid(errors=[error]) if self.http_status == 400 else RuleViolation(errors=[error])


def _step(
    command: str,
    action: str,
    sources: Iterable[Status],
    target: Status | None,
    refusal: tuple[int, str, str],
    **more: Any,
) -> Step:
    http_status, code, text = refusal
    return Step(command, action, frozenset(sources), target, http_status, f"error.msg.{code}", text, **more)


_NOT_REPAYABLE = (
    400,
    "loan.repayment.or.waiver.account.is.not.active",
    "Loan Repayment (or its types) or Waiver is not allowed. Loan Account is not active.",
)
_NOT_CLOSABLE = (
    400,
    "loan.close.account.is.not.active",
    "Closing Loan Account is not allowed. Loan Account is not Active.",
)

STEPS: dict[str, Step] = {
    step.command: step
    for step in (
        # The application.
        _step("update", "UPDATE", {Status.SUBMITTED}, None, (
            403,
            "loan.cannot.modify.loan.in.its.present.state",
            "Loan application in its present state cannot be modified: it is not submitted and pending approval.",
        )),
        _step("delete", "DELETE", {Status.SUBMITTED}, None, (
            403,
            "loan.cannot.delete.loan.in.its.present.state",
            "Loan in its present state cannot be deleted: it is not submitted and pending approval.",
        )),
        _step("approve", "APPROVE", {Status.SUBMITTED}, Status.APPROVED, (
            400,
            "loan.approve.account.is.not.submitted.and.pending.state",
            "Loan Account Approval is not allowed. Loan Account is not in submitted and pending approval state.",
        )),
        _step("undoapproval", "APPROVALUNDO", {Status.APPROVED}, Status.SUBMITTED, (
            400,
            "loan.undo.approval.account.is.not.approved",
            "Loan Account Undo Approval is not allowed. Loan Account is not in approved state.",
        )),
        _step("reject", "REJECT", {Status.SUBMITTED}, Status.REJECTED, (
            400,
            "loan.reject.account.is.not.submitted.pending.approval.state",
            "Loan application cannot be rejected. Loan Account is not in Submitted and Pending approval state.",
        )),
        _step("withdrawnByApplicant", "WITHDRAW", {Status.SUBMITTED}, Status.WITHDRAWN, (
            403,
            "loan.withdraw.cannot.withdraw",
            "Only the loan applications with status 'Submitted and pending approval' are allowed to be withdrawn.",
        )),
        # The money goes out.
        _step("disburse", "DISBURSE", {Status.APPROVED}, Status.ACTIVE, (
            400,
            "loan.disbursal.account.is.not.approve.not.disbursed.state",
            "Loan Disbursal is not allowed. Loan Account is not in approved and not disbursed state.",
        )),
        _step("undodisbursal", "DISBURSALUNDO", {Status.ACTIVE}, Status.APPROVED, (
            400,
            "loan.undo.disbursal.account.is.not.active",
            "Loan Undo disbursal is not allowed. Loan Account is not active.",
        )),
        # Who looks after it. Fineract allows it in every status.
        _step("assignloanofficer", "UPDATELOANOFFICER", EVERY, None, (403, "", "")),
        _step("unassignloanofficer", "REMOVELOANOFFICER", EVERY, None, (403, "", "")),
        # The money comes back.
        _step("repayment", "REPAYMENT", {Status.ACTIVE, Status.CLOSED, Status.OVERPAID}, None, _NOT_REPAYABLE, follows_balance=True),
        _step("waiveinterest", "WAIVEINTERESTPORTION", {Status.ACTIVE}, None, _NOT_REPAYABLE, follows_balance=True),
        _step("adjust", "ADJUST", {Status.ACTIVE, Status.CLOSED, Status.WRITTEN_OFF, Status.OVERPAID}, None, (
            403,
            "loan.transaction.adjustment.is.only.allowed.to.repayment.or.waiver.transactions",
            "Only (non-reversed) transactions of type repayment or waiver can be adjusted.",
        ), follows_balance=True),
        _step("foreclosure", "FORECLOSURE", {Status.ACTIVE}, None, (
            400,
            "loan.foreclosure.account.is.not.active",
            "Loan foreclosure is not allowed. Loan Account is not active.",
        ), follows_balance=True),
        _step("close", "CLOSE", {Status.ACTIVE}, Status.CLOSED, _NOT_CLOSABLE),
        _step("close-rescheduled", "CLOSEASRESCHEDULED", {Status.ACTIVE}, Status.RESCHEDULED, _NOT_CLOSABLE),
        _step("creditBalanceRefund", "CREDITBALANCEREFUND", {Status.OVERPAID}, None, (
            400,
            "loan.credit.balance.refund.account.is.not.overpaid",
            "Loan Credit Balance Refund is not allowed. Loan Account is not Overpaid.",
        ), follows_balance=True),
        # It does not come back.
        _step("writeoff", "WRITEOFF", {Status.ACTIVE}, Status.WRITTEN_OFF, (
            400,
            "loan.writtenoff.account.is.not.active",
            "Loan Written off is not allowed. Loan Account is not active.",
        )),
        _step("undowriteoff", "UNDOWRITEOFF", {Status.WRITTEN_OFF}, Status.ACTIVE, (
            400,
            "loan.undo.writtenoff.account.is.not.written.off",
            "Loan Undo Written off is not allowed. Loan Account is not Written off.",
        )),
        _step("recoverypayment", "RECOVERYPAYMENT", {Status.WRITTEN_OFF}, None, (
            400,
            "loan.account.is.not.written.off",
            "Recovery repayments may only be made on loans which are written off",
        )),
        _step("charge-off", "CHARGEOFF", {Status.ACTIVE}, None, (
            403,
            "loan.is.not.active",
            "Charge-off is not allowed. Loan Account is not Active",
        )),
        _step("undo-charge-off", "UNDOCHARGEOFF", {Status.ACTIVE}, None, (
            403,
            "loan.is.not.active",
            "Undo Charge-off is not allowed. Loan Account is not Active",
        )),
        # Charges.
        _step("addCharge", "CREATE", EVERY - FINISHED - CANCELLED, None, (
            403,
            "loanCharge.cannot.be.added.as.loan.is.closed",
            "This charge cannot be added as the loan is already closed.",
        ), entity="LOANCHARGE", follows_balance=True),
        _step("payCharge", "PAY", {Status.ACTIVE}, None, (
            403,
            "loan.charge.associated.loan.inactive",
            "This charge cannot be payed as the loan associated with it is currently inactive",
        ), entity="LOANCHARGE", follows_balance=True),
        _step("waiveCharge", "WAIVE", {Status.ACTIVE}, None, (
            403,
            "loan.charge.associated.loan.inactive",
            "This loan charge cannot be waived as the loan associated with it is currently inactive",
        ), entity="LOANCHARGE", follows_balance=True),
        _step("deleteCharge", "DELETE", {Status.SUBMITTED}, None, (
            403,
            "loan.charge.associated.loan.not.in.submitted.and.pending.approval.stage",
            "This charge cannot be deleted as the loan it is associated with is not in submitted and pending approval stage",
        ), entity="LOANCHARGE"),
    )
}  # fmt: skip
"""Every command by its name."""

CREATE = Step("create", "CREATE", frozenset(), Status.SUBMITTED, 403, "", "")
"""How a loan comes into being: the one step that no loan takes."""
CLOSE = "CLOSE"
"""The action of the event that tells of a loan that closed, where the command itself was another one."""


def status_by_balance(outstanding: Decimal, overpaid: Decimal) -> Status:
    """The status of a loan that was paid out, by what it owes: active, closed on exact pay-off, overpaid on excess."""
    if outstanding > 0:
        return Status.ACTIVE
    return Status.OVERPAID if overpaid > 0 else Status.CLOSED


def describe(status: int) -> dict[str, Any]:
    """The status object of a loan's answers and of `changes.status`."""
    code, value = _NAMES[Status(status)]
    return {
        "id": status,
        "code": f"loanStatusType.{code}",
        "value": value,
        "pendingApproval": status == Status.SUBMITTED,
        "waitingForDisbursal": status == Status.APPROVED,
        "active": status == Status.ACTIVE,
        "closedObligationsMet": status == Status.CLOSED,
        "closedWrittenOff": status == Status.WRITTEN_OFF,
        "closedRescheduled": status == Status.RESCHEDULED,
        "closed": status in FINISHED,
        "overpaid": status == Status.OVERPAID,
    }
