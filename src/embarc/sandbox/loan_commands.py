"""What is decided about a loan: approval, rejection, withdrawal, paying it out, and who looks after it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from embarc.core.errors import RuleViolation
from embarc.core.fields import Fields
from embarc.sandbox import loan_life
from embarc.sandbox.allocation import Kind
from embarc.sandbox.amounts import read_amount
from embarc.sandbox.dates import read_date
from embarc.sandbox.loan_book import LARGEST_ID, check_calendar, echo, find, forbid, settle, tell
from embarc.sandbox.loan_life import STEPS, Step
from embarc.sandbox.loan_tables import Loan, LoanTransaction
from embarc.sandbox.loan_transactions import PAYMENT_FIELDS, read_payment, record
from embarc.sandbox.staff import find_loan_officer
from embarc.web.routes import Call, Route, unsupported_command

if TYPE_CHECKING:
    from embarc.sandbox.application import Sandbox, Work

_DATES = ("note", "dateFormat", "locale")
_LONGEST_NOTE = 1000


def routes(sandbox: Sandbox) -> list[Route]:
    """The route of a loan's commands."""

    async def command(call: Call) -> dict[str, Any]:
        name = call.query.get("command", "")
        if name not in COMMANDS:
            raise unsupported_command(call, list(COMMANDS))
        return await sandbox.command(call, lambda work: _run(work, STEPS[name]))

    return [
        Route(
            method="POST",
            path="/loans/{loanId}",
            handler=command,
            permission="APPROVE_LOAN",
            summary="Commands: " + ", ".join(f"{name} (LOAN.{STEPS[name].action})" for name in COMMANDS),
            tag="sandbox",
            body={"approvedOnDate": "14 October 2025", "dateFormat": "dd MMMM yyyy", "locale": "en"},
            query=(("command", ", ".join(COMMANDS)),),
        )
    ]


def _run(work: Work, step: Step) -> dict[str, Any]:
    loan = find(work)
    step.check(loan.status)
    return COMMANDS[step.command](work, loan, step)


def _approve(work: Work, loan: Loan, step: Step) -> dict[str, Any]:
    names = ("approvedOnDate", "approvedLoanAmount", "expectedDisbursementDate")
    fields = work.call.fields("loanapplication", (*names, *_DATES))
    approved_on = read_date(fields, "approvedOnDate", required=True)
    amount = read_amount(fields, "approvedLoanAmount", digits=loan.digits) or loan.principal
    expected_on = read_date(fields, "expectedDisbursementDate") or loan.expected_disbursement_on
    _read_note(fields)
    fields.check()
    assert approved_on is not None  # noqa: S101 - `required` noted its absence
    _check_decision(work, loan, "approval", "approved", approved_on)
    if amount > loan.principal:
        message = "Loan approved amount can't be greater than loan amount demanded."
        raise forbid("approval", "amount.can't.be.greater.than.loan.amount.demanded", message)
    if expected_on < approved_on:
        message = f"The expected disbursement date {expected_on} should be either on or after the approval date {approved_on}"
        raise forbid("expecteddisbursal", "should.be.on.or.after.approval.date", message)
    _check_first_due(loan, expected_on)
    loan.approved_on, loan.approved_principal, loan.expected_disbursement_on = (
        approved_on,
        amount,
        expected_on,
    )
    check_calendar(loan)
    return _done(work, loan, step, fields, approved_on, names)


def _undo_approval(work: Work, loan: Loan, step: Step) -> dict[str, Any]:
    fields = _read_only_a_note(work)
    loan.approved_on = loan.approved_principal = None
    return _done(work, loan, step, fields, work.today, (), approvedOnDate="")


def _reject(work: Work, loan: Loan, step: Step) -> dict[str, Any]:
    fields, rejected_on = _read_day(work, "rejectedOnDate")
    _check_decision(work, loan, "reject", "rejected", rejected_on)
    loan.rejected_on = loan.closed_on = rejected_on
    return _done(work, loan, step, fields, rejected_on, ("rejectedOnDate",))


def _withdraw(work: Work, loan: Loan, step: Step) -> dict[str, Any]:
    fields, withdrawn_on = _read_day(work, "withdrawnOnDate")
    _check_decision(work, loan, "withdraw", "withdrawn", withdrawn_on)
    loan.withdrawn_on = loan.closed_on = withdrawn_on
    return _done(work, loan, step, fields, withdrawn_on, ("withdrawnOnDate",))


def _disburse(work: Work, loan: Loan, step: Step) -> dict[str, Any]:
    names = ("actualDisbursementDate", "transactionAmount")
    fields = work.call.fields("loan.disbursement", (*names, *PAYMENT_FIELDS, *_DATES))
    disbursed_on = read_date(fields, "actualDisbursementDate", required=True)
    approved = loan.approved_principal or loan.principal
    amount = read_amount(fields, "transactionAmount", digits=loan.digits) or approved
    payment = read_payment(work, fields)
    fields.check()
    assert disbursed_on is not None  # noqa: S101 - `required` noted its absence
    if disbursed_on > work.today:
        message = f"The date on which a loan is disbursed cannot be in the future: {disbursed_on}"
        raise forbid("disbursal", "cannot.be.a.future.date", message)
    if loan.approved_on is not None and disbursed_on < loan.approved_on:
        message = (
            f"The date on which a loan is disbursed cannot be before its approval date: {loan.approved_on}"
        )
        raise forbid("disbursal", "cannot.be.before.approval.date", message)
    if amount > approved:
        message = "Loan can't be disbursed, disburse amount is exceeding approved amount"
        raise forbid("disburse", "amount.must.be.less.than.approved.amount", message)
    _check_first_due(loan, disbursed_on)
    loan.disbursed_on, loan.disbursed_principal = disbursed_on, amount
    transaction = record(work, loan, Kind.DISBURSEMENT, disbursed_on, amount, payment)
    more = {"subResourceId": transaction.id}
    return _done(work, loan, step, fields, disbursed_on, (*names, *PAYMENT_FIELDS), answer=more)


def _undo_disbursal(work: Work, loan: Loan, step: Step) -> dict[str, Any]:
    """Everything that moved is reversed: the loan is as it was when it was approved."""
    fields = _read_only_a_note(work)
    moved = select(LoanTransaction).where(
        LoanTransaction.loan_id == loan.id, LoanTransaction.reversed_on.is_(None)
    )
    for transaction in work.session.scalars(moved):
        transaction.reversed_on = work.today
    loan.disbursed_on = loan.disbursed_principal = loan.charged_off_on = None
    return _done(work, loan, step, fields, work.today, (), actualDisbursementDate="")


def _assign(work: Work, loan: Loan, step: Step) -> dict[str, Any]:
    names = ("toLoanOfficerId", "fromLoanOfficerId", "assignmentDate")
    fields = work.call.fields("loan", (*names, "dateFormat", "locale"))
    officer_id = fields.integer("toLoanOfficerId", required=True, at_least=1, at_most=LARGEST_ID)
    before_id = fields.integer("fromLoanOfficerId")
    assigned_on = read_date(fields, "assignmentDate", required=True)
    fields.check()
    assert assigned_on is not None  # noqa: S101 - `required` noted its absence
    if before_id is not None and before_id != loan.loan_officer_id:
        message = (
            f"Loan with identifier {loan.id} is not assigned to Loan Officer with identifier {before_id}."
        )
        raise RuleViolation.rule("error.msg.loan.not.assigned.to.loan.officer", message)
    if assigned_on < loan.submitted_on:
        message = f"The Loan Officer assignment date ({assigned_on}) cannot be before loan submitted date ({loan.submitted_on})."
        raise RuleViolation.rule("error.msg.loan.assignment.date.is.before.loan.submitted.date", message)
    if assigned_on > work.today:
        message = f"The Loan Officer assignment date ({assigned_on}) cannot be in the future."
        raise RuleViolation.rule("error.msg.loan.assignment.date.cannot.be.in.future", message)
    loan.loan_officer_id = find_loan_officer(work, officer_id or 0).id
    return tell(work, loan, step, loan.id)


def _unassign(work: Work, loan: Loan, step: Step) -> dict[str, Any]:
    fields = work.call.fields("loan", ("unassignedDate", "dateFormat", "locale"))
    unassigned_on = read_date(fields, "unassignedDate", required=True)
    fields.check()
    assert unassigned_on is not None  # noqa: S101 - `required` noted its absence
    if loan.loan_officer_id is None:
        message = f"Loan with identifier {loan.id} is not assigned to any loan officer."
        raise RuleViolation.rule("error.msg.loan.not.assigned.to.loan.officer", message)
    if unassigned_on > work.today:
        message = f"The Loan Officer unassignment date ({unassigned_on}) cannot be in the future."
        raise RuleViolation.rule("error.msg.loan.loanofficer.unassign.date.cannot.be.a.future.date", message)
    loan.loan_officer_id = None
    return tell(work, loan, step, loan.id)


COMMANDS: dict[str, Callable[[Work, Loan, Step], dict[str, Any]]] = {
    "approve": _approve,
    "undoapproval": _undo_approval,
    "reject": _reject,
    "withdrawnByApplicant": _withdraw,
    "disburse": _disburse,
    "undodisbursal": _undo_disbursal,
    "assignloanofficer": _assign,
    "unassignloanofficer": _unassign,
}
"""Every command of `POST /loans/{id}`."""


def _done(
    work: Work,
    loan: Loan,
    step: Step,
    fields: Fields,
    on: date,
    names: tuple[str, ...],
    *,
    answer: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    settle(work, loan, step, on)
    changes = {"status": loan_life.describe(loan.status)} | echo(fields.body, *names, "note") | more
    return tell(work, loan, step, loan.id, **(answer or {}), changes=changes)


def _read_day(work: Work, name: str) -> tuple[Fields, date]:
    fields = work.call.fields("loanapplication", (name, *_DATES))
    day = read_date(fields, name, required=True)
    _read_note(fields)
    fields.check()
    assert day is not None  # noqa: S101 - `required` noted its absence
    return fields, day


def _read_only_a_note(work: Work) -> Fields:
    """Commands that need nothing may come without a body."""
    fields = Fields(work.call.json() if work.call.body else {}, "loanapplication", _DATES)
    _read_note(fields)
    fields.check()
    return fields


def _read_note(fields: Fields) -> None:
    fields.text("note", longest=_LONGEST_NOTE)


def _check_decision(work: Work, loan: Loan, action: str, done: str, on: date) -> None:
    if on < loan.submitted_on:
        message = (
            f"The date on which a loan is {done} cannot be before its submittal date: {loan.submitted_on}"
        )
        raise forbid(action, "cannot.be.before.submittal.date", message)
    if on > work.today:
        raise forbid(
            action, "cannot.be.a.future.date", f"The date on which a loan is {done} cannot be in the future."
        )


def _check_first_due(loan: Loan, disbursed_on: date) -> None:
    if loan.first_due_on is not None and disbursed_on >= loan.first_due_on:
        message = f"The date on which a loan is disbursed must be before its first repayment is due: {loan.first_due_on}"
        raise forbid("disbursal", "cannot.be.on.or.after.first.repayment.due.date", message)
