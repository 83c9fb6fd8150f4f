"""The charges of a loan: add, list, pay, waive, delete. Codes are Fineract's (LoanChargeCannotBe*Exception)."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from embarc.core.errors import NotFound, RuleViolation
from embarc.core.fields import Fields
from embarc.sandbox.allocation import Kind
from embarc.sandbox.amounts import read_amount
from embarc.sandbox.charges import PERCENT, find_definition
from embarc.sandbox.dates import read_date
from embarc.sandbox.loan_book import LARGEST_ID, account_of, find, tell
from embarc.sandbox.loan_life import STEPS, Step
from embarc.sandbox.loan_tables import Loan, LoanCharge
from embarc.sandbox.loan_transactions import (
    PAYMENT_FIELDS,
    check_day,
    finish,
    read_day,
    read_payment,
    record,
)
from embarc.sandbox.loan_view import render_charge
from embarc.sandbox.records import to_id
from embarc.sandbox.schedule import rounded
from embarc.web.routes import Call, Route, unsupported_command

if TYPE_CHECKING:
    from embarc.sandbox.application import Sandbox, Work

ZERO = Decimal(0)


def routes(sandbox: Sandbox) -> list[Route]:
    """The routes of a loan's charges."""

    async def add(call: Call) -> dict[str, Any]:
        if call.query.get("command") is not None:
            raise unsupported_command(call, ["none: this adds a charge"])
        return await sandbox.command(call, _add)

    async def command(call: Call) -> dict[str, Any]:
        name = call.query.get("command", "")
        if name not in COMMANDS:
            raise unsupported_command(call, list(COMMANDS))
        return await sandbox.command(call, COMMANDS[name])

    async def list_charges(call: Call) -> list[dict[str, Any]]:
        return await sandbox.query(call, _list)

    async def get(call: Call) -> dict[str, Any]:
        return await sandbox.query(call, _get)

    async def remove(call: Call) -> dict[str, Any]:
        return await sandbox.command(call, _delete)

    one = "/loans/{loanId}/charges/{loanChargeId}"
    dates = {"dateFormat": "dd MMMM yyyy", "locale": "en"}
    return [
        Route(
            method="POST",
            path="/loans/{loanId}/charges",
            handler=add,
            permission="CREATE_LOANCHARGE",
            summary="Add a charge to a loan; emits LOANCHARGE.CREATE",
            tag="sandbox",
            body={"chargeId": 1, "amount": 25, "dueDate": "20 November 2025"} | dates,
        ),
        Route(
            method="GET",
            path="/loans/{loanId}/charges",
            handler=list_charges,
            permission="READ_LOANCHARGE",
            summary="The charges of a loan",
            tag="sandbox",
        ),
        Route(
            method="GET",
            path=one,
            handler=get,
            permission="READ_LOANCHARGE",
            summary="One charge of a loan",
            tag="sandbox",
        ),
        Route(
            method="POST",
            path=one,
            handler=command,
            permission="PAY_LOANCHARGE",
            summary="Commands: pay (LOANCHARGE.PAY), waive (LOANCHARGE.WAIVE)",
            tag="sandbox",
            body={"transactionDate": "21 November 2025"} | dates,
            query=(("command", ", ".join(COMMANDS)),),
        ),
        Route(
            method="DELETE",
            path=one,
            handler=remove,
            permission="DELETE_LOANCHARGE",
            summary="Delete a charge of an application; emits LOANCHARGE.DELETE",
            tag="sandbox",
        ),
    ]


def _add(work: Work) -> dict[str, Any]:
    loan, step = find(work), STEPS["addCharge"]
    step.check(loan.status)
    fields = work.call.fields("loanCharge", ("chargeId", "amount", "dueDate", "dateFormat", "locale"))
    charge_id = fields.integer("chargeId", required=True, at_least=1, at_most=LARGEST_ID)
    definition = None if charge_id is None or fields.errors else find_definition(work, charge_id)
    is_percentage = definition is not None and definition.calculation == PERCENT
    given = read_amount(fields, "amount", digits=6 if is_percentage else loan.digits)
    due_on = read_date(fields, "dueDate", required=True)
    fields.check()
    assert definition is not None  # noqa: S101 - `required` noted its absence
    assert due_on is not None  # noqa: S101 - `required` noted its absence
    if not definition.is_active:
        message = f"Charge with identifier {definition.id} is not active"
        raise RuleViolation.rule("error.msg.charge.is.not.active", message)
    if definition.currency_code != loan.currency_code:
        message = "Charge and Loan must have the same currency."
        raise RuleViolation.rule(
            "error.msg.loanCharge.attach.to.loan.invalid.currency", message, "currencyCode"
        )
    if loan.charged_off_on is not None:
        message = f"Adding charge to Loan: {loan.id} is not allowed. Loan Account is Charged-off"
        raise RuleViolation.rule("error.msg.loan.is.charged.off", message)
    if due_on < (loan.disbursed_on or loan.expected_disbursement_on):
        message = (
            "This charge with specified due date cannot be added as it is before the loan's disbursement."
        )
        raise RuleViolation.rule("error.msg.loanCharge.cannot.be.added.as.not.in.repayment.schedule", message)
    amount = given or definition.amount
    principal = loan.disbursed_principal or loan.approved_principal or loan.principal
    charge = LoanCharge(
        tenant=work.tenant,
        loan_id=loan.id,
        charge_id=definition.id,
        name=definition.name,
        calculation=definition.calculation,
        given_amount=amount,
        amount=rounded(principal * amount / 100 if is_percentage else amount, loan.digits),
        due_on=due_on,
        is_penalty=definition.is_penalty,
    )
    work.session.add(charge)
    work.session.flush()
    # An overpaid loan may owe something again, or has paid the charge already.
    return finish(work, loan, step, fields, work.today, charge.id)


def _pay(work: Work) -> dict[str, Any]:
    """Money for this charge. (Fineract takes it from a savings account; here it is paid in, as by a repayment.)"""
    loan, charge, step = _begin(work, "payCharge")
    fields, on = read_day(work, "transactionDate", "amount", *PAYMENT_FIELDS)
    amount = read_amount(fields, "amount", digits=loan.digits)
    payment = read_payment(work, fields)
    fields.check()
    check_day(work, loan, on)
    owed = _outstanding(work, loan, charge)
    if amount is not None and amount > owed:
        message = f"The amount cannot be greater than what is outstanding of the charge: {owed}"
        raise RuleViolation.rule("error.msg.loan.charge.amount.exceeds.outstanding", message, "amount")
    paid = record(work, loan, Kind.CHARGE_PAYMENT, on, amount or owed, payment, charge.id)
    return finish(work, loan, step, fields, on, charge.id, subResourceId=paid.id)


def _waive(work: Work) -> dict[str, Any]:
    loan, charge, step = _begin(work, "waiveCharge")
    fields = Fields(work.call.json() if work.call.body else {}, "loanCharge", ("dateFormat", "locale"))
    fields.check()
    owed = _outstanding(work, loan, charge)
    on = min(charge.due_on, work.today)  # as Fineract dates it
    waived = record(work, loan, Kind.WAIVE_CHARGES, on, owed, None, charge.id)
    return finish(work, loan, step, fields, on, charge.id, subResourceId=waived.id)


COMMANDS: dict[str, Callable[[Work], dict[str, Any]]] = {"pay": _pay, "waive": _waive}
"""Every command of `POST /loans/{id}/charges/{id}`."""


def _delete(work: Work) -> dict[str, Any]:
    loan, step = find(work), STEPS["deleteCharge"]
    charge = _find(work, loan)
    step.check(loan.status)
    work.session.delete(charge)
    return tell(work, loan, step, charge.id)


def _begin(work: Work, command: str) -> tuple[Loan, LoanCharge, Step]:
    """The loan and its charge, which must be open; raises what Fineract refuses a settled one with."""
    loan, step = find(work), STEPS[command]
    charge = _find(work, loan)
    step.check(loan.status)
    if not _outstanding(work, loan, charge):
        if render_charge(loan, charge, account_of(work, loan))["waived"]:
            code, message = "error.msg.loan.charge.already.waived", "This loan charge has already been waived"
        else:
            code, message = "error.msg.loan.charge.already.paid", "This loan charge has been completely paid"
        raise RuleViolation.rule(code, message)
    return loan, charge, step


def _outstanding(work: Work, loan: Loan, charge: LoanCharge) -> Decimal:
    standings = account_of(work, loan).book.standings
    return sum((one.outstanding for one in standings if one.item.charge_id == charge.id), ZERO)


def _find(work: Work, loan: Loan) -> LoanCharge:
    text = work.call.path["loanChargeId"]
    found = work.session.scalar(
        select(LoanCharge).where(LoanCharge.loan_id == loan.id, LoanCharge.id == to_id(text))
    )
    if found is None:
        message = f"Loan charge with identifier {text[:50]} does not exist for loan with identifier {loan.id}"
        raise NotFound.resource("error.msg.loanCharge.id.invalid", message, text[:50])
    return found


def _list(work: Work) -> list[dict[str, Any]]:
    loan = find(work)
    account = account_of(work, loan)
    return [render_charge(loan, one, account) for one in account.charges]


def _get(work: Work) -> dict[str, Any]:
    loan = find(work)
    return render_charge(loan, _find(work, loan), account_of(work, loan))
