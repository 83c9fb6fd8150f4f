"""The money of a loan: repayments, waivers, write-offs, refunds, foreclosure, and taking one of them back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from embarc.core.errors import Duplicate, FieldError, NotFound, RuleViolation
from embarc.core.fields import Fields
from embarc.sandbox import loan_life
from embarc.sandbox.allocation import Kind, Part
from embarc.sandbox.amounts import read_amount
from embarc.sandbox.dates import read_date
from embarc.sandbox.loan_book import account_of, echo, find, forbid, settle, tell
from embarc.sandbox.loan_life import STEPS, Status, Step
from embarc.sandbox.loan_tables import Loan, LoanTransaction
from embarc.sandbox.loan_view import render_transaction
from embarc.sandbox.records import to_id
from embarc.web.routes import Call, Route, unsupported_command

if TYPE_CHECKING:
    from embarc.sandbox.application import Sandbox, Work

ZERO = Decimal(0)
_PAYMENT_TEXTS = ("accountNumber", "checkNumber", "routingCode", "receiptNumber", "bankNumber")
PAYMENT_FIELDS = ("paymentTypeId", *_PAYMENT_TEXTS, "externalId", "note")
_ECHOED = ("transactionDate", "transactionAmount", "amount", "dueDate", *PAYMENT_FIELDS)
_COMMON = ("transactionDate", "transactionAmount", "dateFormat", "locale")
_LONGEST_TEXT = 50
_LONGEST_NOTE = 1000
_ADJUSTABLE = (Kind.REPAYMENT, Kind.WAIVE_INTEREST, Kind.CHARGE_PAYMENT, Kind.WAIVE_CHARGES)
_EXAMPLE = {
    "transactionDate": "20 November 2025",
    "transactionAmount": 945.6,
    "dateFormat": "dd MMMM yyyy",
    "locale": "en",
}


def routes(sandbox: Sandbox) -> list[Route]:
    """The routes of a loan's transactions."""

    async def command(call: Call) -> dict[str, Any]:
        name = call.query.get("command", "")
        if name not in COMMANDS:
            raise unsupported_command(call, list(COMMANDS))
        return await sandbox.command(call, lambda work: _run(work, STEPS[name]))

    async def adjust(call: Call) -> dict[str, Any]:
        if call.query.get("command") is not None:
            raise unsupported_command(call, ["none: this adjusts or, with transactionAmount 0, reverses"])
        return await sandbox.command(call, _adjust)

    async def list_transactions(call: Call) -> list[dict[str, Any]]:
        return await sandbox.query(call, _list)

    async def get(call: Call) -> dict[str, Any]:
        return await sandbox.query(call, _get)

    return [
        Route(
            method="POST",
            path="/loans/{loanId}/transactions",
            handler=command,
            permission="REPAYMENT_LOAN",
            summary="Commands: " + ", ".join(f"{name} (LOAN.{STEPS[name].action})" for name in COMMANDS),
            tag="sandbox",
            body=_EXAMPLE,
            query=(("command", ", ".join(COMMANDS)),),
        ),
        Route(
            method="GET",
            path="/loans/{loanId}/transactions",
            handler=list_transactions,
            permission="READ_LOAN",
            summary="The transactions of a loan",
            tag="sandbox",
        ),
        Route(
            method="GET",
            path="/loans/{loanId}/transactions/{transactionId}",
            handler=get,
            permission="READ_LOAN",
            summary="One transaction",
            tag="sandbox",
        ),
        Route(
            method="POST",
            path="/loans/{loanId}/transactions/{transactionId}",
            handler=adjust,
            permission="ADJUST_LOAN",
            summary="Adjust a transaction, or reverse it with transactionAmount 0; emits LOAN.ADJUST",
            tag="sandbox",
            body=_EXAMPLE | {"transactionAmount": 0},
        ),
    ]


@dataclass(frozen=True, slots=True)
class Payment:
    """What is noted about how money was paid."""

    details: dict[str, Any]
    external_id: str | None
    note: str | None


def read_payment(work: Work, fields: Fields) -> Payment:
    """How the money is paid; mistakes are noted, an external id that is taken is refused."""
    details: dict[str, Any] = {}
    if (payment_type := fields.integer("paymentTypeId", at_least=1)) is not None:
        details["paymentTypeId"] = payment_type
    for name in _PAYMENT_TEXTS:
        if (text := fields.text(name, longest=_LONGEST_TEXT)) is not None:
            details[name] = text
    external_id = fields.text("externalId", longest=100)
    if external_id is not None:
        taken = select(LoanTransaction.id).where(
            LoanTransaction.tenant == work.tenant, LoanTransaction.external_id == external_id
        )
        if work.session.scalar(taken) is not None:
            code = "error.msg.loan.transaction.duplicate.externalId"
            message = f"Transaction with externalId `{external_id}` already exists"
            raise Duplicate(message, code=code, errors=[FieldError(code, message, "externalId", external_id)])
    return Payment(details, external_id, fields.text("note", longest=_LONGEST_NOTE))


def record(
    work: Work,
    loan: Loan,
    kind: Kind,
    on: date,
    amount: Decimal,
    payment: Payment | None = None,
    charge_id: int | None = None,
) -> LoanTransaction:
    """Write down that money moved."""
    given = payment or Payment({}, None, None)
    transaction = LoanTransaction(
        tenant=work.tenant,
        loan_id=loan.id,
        kind=kind,
        on=on,
        amount=amount,
        charge_id=charge_id,
        external_id=given.external_id,
        payment=given.details,
        note=given.note,
        submitted_on=work.today,
        reversed_on=None,
    )
    work.session.add(transaction)
    work.session.flush()
    return transaction


def check_day(work: Work, loan: Loan, on: date, action: str = "transaction") -> None:
    """Refuse a day before the money went out, or one that has not come."""
    if loan.disbursed_on is not None and on < loan.disbursed_on:
        message = f"The transaction date cannot be before the loan disbursement date: {loan.disbursed_on}"
        raise forbid(action, "cannot.be.before.disbursement.date", message)
    if on > work.today:
        raise forbid(action, "cannot.be.a.future.date", "The transaction date cannot be in the future.")


def _run(work: Work, step: Step) -> dict[str, Any]:
    loan = find(work)
    step.check(loan.status)
    return COMMANDS[step.command](work, loan, step)


def _repay(work: Work, loan: Loan, step: Step) -> dict[str, Any]:
    kind = Kind.RECOVERY_REPAYMENT if step.command == "recoverypayment" else Kind.REPAYMENT
    fields, on, amount = _read(work, loan, *PAYMENT_FIELDS)
    payment = read_payment(work, fields)
    fields.check()
    check_day(work, loan, on)
    if kind is Kind.RECOVERY_REPAYMENT:
        _check_recovery(work, loan, amount)
    transaction = record(work, loan, kind, on, amount, payment)
    return finish(work, loan, step, fields, on, transaction.id)


def _waive_interest(work: Work, loan: Loan, step: Step) -> dict[str, Any]:
    fields, on, amount = _read(work, loan, "externalId", "note", zero=True)
    payment = read_payment(work, fields)
    fields.check()
    check_day(work, loan, on)
    if amount > account_of(work, loan).book.outstanding(Part.INTEREST):
        message = "The amount of interest to waive cannot be greater than total interest outstanding on loan."
        raise forbid("waive.interest", "amount.exceeds.total.outstanding.interest", message)
    transaction = record(work, loan, Kind.WAIVE_INTEREST, on, amount, payment)
    return finish(work, loan, step, fields, on, transaction.id)


def _write_off(work: Work, loan: Loan, step: Step) -> dict[str, Any]:
    fields, on = read_day(work, "transactionDate", "note", "writeoffReasonId")
    fields.check()
    check_day(work, loan, on, "writeoff")
    account = account_of(work, loan)
    _check_last(account.last_on, on, "writeoff")
    transaction = record(work, loan, Kind.WRITE_OFF, on, account.book.outstanding())
    loan.written_off_on = on
    return finish(work, loan, step, fields, on, transaction.id)


def _undo_write_off(work: Work, loan: Loan, step: Step) -> dict[str, Any]:
    fields = _read_nothing(work)
    reversed_id = _reverse(work, loan, Kind.WRITE_OFF)
    loan.written_off_on = None
    return finish(work, loan, step, fields, work.today, reversed_id or loan.id)


def _foreclose(work: Work, loan: Loan, step: Step) -> dict[str, Any]:
    fields, on = read_day(work, "transactionDate", "note")
    fields.check()
    check_day(work, loan, on, "foreclosure")
    last_on = account_of(work, loan).last_on
    if last_on is not None and on < last_on:
        message = f"Loan foreclosure date cannot be before the last transaction date: {last_on}"
        raise RuleViolation.rule(
            "error.msg.loan.foreclosure.date.cannot.before.the.last.transaction.date", message
        )
    loan.foreclosed_on = on
    owed = account_of(work, loan).book.outstanding()
    paid = record(work, loan, Kind.REPAYMENT, on, owed) if owed else None
    return finish(work, loan, step, fields, on, loan.id if paid is None else paid.id)


def _close(work: Work, loan: Loan, step: Step) -> dict[str, Any]:
    fields, on = read_day(work, "transactionDate", "note")
    fields.check()
    check_day(work, loan, on, "close")
    account = account_of(work, loan)
    _check_last(account.last_on, on, "close.loan")
    owed = account.book.outstanding()
    if step.command == "close-rescheduled" or not owed:
        return finish(work, loan, step, fields, on, loan.id)
    if owed > loan.tolerance:
        raise forbid("close", "loan.has.money.outstanding", "A loan with money outstanding cannot be closed")
    forgiven = record(work, loan, Kind.WRITE_OFF, on, owed)
    return finish(work, loan, step, fields, on, forgiven.id)


def _charge_off(work: Work, loan: Loan, step: Step) -> dict[str, Any]:
    fields, on = read_day(work, "transactionDate", "note", "externalId", "chargeOffReasonId")
    payment = read_payment(work, fields)
    fields.check()
    if loan.charged_off_on is not None:
        message = f"Loan: {loan.id} is already charged-off"
        raise RuleViolation.rule("error.msg.loan.is.already.charged.off", message)
    check_day(work, loan, on)
    account = account_of(work, loan)
    if account.last_on is not None and on < account.last_on:
        message = (
            f"Loan: {loan.id} charge-off cannot be executed. "
            "User transaction was found after the charge-off transaction date!"
        )
        raise RuleViolation.rule("error.msg.loan.charge.off.before.last.transaction", message)
    loan.charged_off_on = on
    transaction = record(work, loan, Kind.CHARGE_OFF, on, account.book.outstanding(), payment)
    return finish(work, loan, step, fields, on, transaction.id)


def _undo_charge_off(work: Work, loan: Loan, step: Step) -> dict[str, Any]:
    fields = _read_nothing(work, "reversalExternalId")
    if loan.charged_off_on is None:
        raise RuleViolation.rule("error.msg.loan.is.not.charged.off", f"Loan: {loan.id} is not charged-off")
    reversed_id = _reverse(work, loan, Kind.CHARGE_OFF)
    loan.charged_off_on = None
    return finish(work, loan, step, fields, work.today, reversed_id or loan.id)


def _refund(work: Work, loan: Loan, step: Step) -> dict[str, Any]:
    fields, on, amount = _read(work, loan, *PAYMENT_FIELDS)
    payment = read_payment(work, fields)
    fields.check()
    check_day(work, loan, on)
    account = account_of(work, loan)
    if account.last_on is not None and on < account.last_on:
        message = f"A credit balance can be refunded from the day on that it came about: {account.last_on}"
        raise forbid("transaction", "cannot.be.before.last.transaction.date", message)
    if amount > account.book.overpaid:
        message = f"The amount to refund cannot be greater than what is overpaid: {account.book.overpaid}"
        raise forbid("transaction", "amount.exceeds.overpaid.amount", message)
    transaction = record(work, loan, Kind.CREDIT_BALANCE_REFUND, on, amount, payment)
    return finish(work, loan, step, fields, on, transaction.id)


COMMANDS: dict[str, Callable[[Work, Loan, Step], dict[str, Any]]] = {
    "repayment": _repay,
    "waiveinterest": _waive_interest,
    "writeoff": _write_off,
    "undowriteoff": _undo_write_off,
    "recoverypayment": _repay,
    "foreclosure": _foreclose,
    "close": _close,
    "close-rescheduled": _close,
    "charge-off": _charge_off,
    "undo-charge-off": _undo_charge_off,
    "creditBalanceRefund": _refund,
}
"""Every command of `POST /loans/{id}/transactions`."""


def _adjust(work: Work) -> dict[str, Any]:
    """Put the transaction back and, where an amount is given, another one in its place."""
    loan, step = find(work), STEPS["adjust"]
    old = _find(work, loan)
    if old.reversed_on is not None or old.kind not in _ADJUSTABLE:
        raise RuleViolation.rule(step.code, step.text)
    step.check(loan.status)
    fields, on, amount = _read(work, loan, *PAYMENT_FIELDS, zero=True)
    payment = read_payment(work, fields)
    fields.check()
    check_day(work, loan, on)
    # What ended the loan goes by the balance that is about to change: a write-off, a foreclosed schedule.
    _reverse(work, loan, Kind.WRITE_OFF)
    loan.written_off_on = loan.foreclosed_on = None
    old.reversed_on = work.today
    if not amount:
        return finish(work, loan, step, fields, on, old.id)
    new = record(work, loan, Kind(old.kind), on, amount, payment, old.charge_id)
    return finish(work, loan, step, fields, on, old.id, subResourceId=new.id)


def finish(
    work: Work, loan: Loan, step: Step, fields: Fields, on: date, resource_id: int, **more: Any
) -> dict[str, Any]:
    """Settle the loan's status, emit what happened, and answer."""
    _, is_changed = settle(work, loan, step, on)
    changes = echo(fields.body, *_ECHOED)
    if is_changed:
        changes["status"] = loan_life.describe(loan.status)
    closed = is_changed and loan.status == Status.CLOSED and step.follows_balance
    return tell(work, loan, step, resource_id, closed=closed, **more, changes=changes)


def read_day(work: Work, name: str, *others: str) -> tuple[Fields, date]:
    """The body's fields and its mandatory day; mistakes are noted, the day's absence is raised."""
    fields = work.call.fields("loan.transaction", (name, *others, "dateFormat", "locale"))
    on = read_date(fields, name, required=True)
    if on is None:
        fields.check()
    assert on is not None  # noqa: S101 - `check` has raised
    return fields, on


def _read(work: Work, loan: Loan, *others: str, zero: bool = False) -> tuple[Fields, date, Decimal]:
    fields, on = read_day(work, "transactionDate", "transactionAmount", *others)
    amount = read_amount(fields, "transactionAmount", required=True, digits=loan.digits, zero=zero)
    if amount is None:
        fields.check()
    return fields, on, amount or ZERO


def _read_nothing(work: Work, *others: str) -> Fields:
    """Commands that need nothing may come without a body."""
    allowed = (*_COMMON, "note", *others)
    fields = Fields(work.call.json() if work.call.body else {}, "loan.transaction", allowed)
    fields.check()
    return fields


def _check_last(last_on: date | None, on: date, action: str) -> None:
    if last_on is not None and on < last_on:
        message = f"The date must be on or after the latest transaction date: {last_on}"
        raise forbid(action, "must.occur.on.or.after.latest.transaction.date", message)


def _check_recovery(work: Work, loan: Loan, amount: Decimal) -> None:
    """No more can be recovered than was written off."""
    book = account_of(work, loan).book
    left = sum((one.written_off for one in book.standings), ZERO) - book.recovered
    if amount > left:
        message = (
            f"The transaction amount cannot be greater than what was written off and not recovered: {left}"
        )
        raise forbid("transaction", "amount.exceeds.total.outstanding", message)


def _reverse(work: Work, loan: Loan, kind: Kind) -> int | None:
    """Reverse the live transaction of this kind; its id."""
    found = work.session.scalar(
        select(LoanTransaction)
        .where(
            LoanTransaction.loan_id == loan.id,
            LoanTransaction.kind == kind,
            LoanTransaction.reversed_on.is_(None),
        )
        .order_by(LoanTransaction.id.desc())
    )
    if found is None:
        return None
    found.reversed_on = work.today
    return found.id


def _find(work: Work, loan: Loan) -> LoanTransaction:
    text = work.call.path["transactionId"]
    found = work.session.scalar(
        select(LoanTransaction).where(LoanTransaction.loan_id == loan.id, LoanTransaction.id == to_id(text))
    )
    if found is None:
        message = (
            f"Transaction with identifier {text[:50]} does not exist for loan with identifier {loan.id}."
        )
        raise NotFound.resource("error.msg.loan.transaction.id.invalid", message, text[:50])
    return found


def _list(work: Work) -> list[dict[str, Any]]:
    loan = find(work)
    account = account_of(work, loan)
    return [render_transaction(loan, one, account) for one in account.transactions]


def _get(work: Work) -> dict[str, Any]:
    loan = find(work)
    transaction = _find(work, loan)
    return render_transaction(loan, transaction, account_of(work, loan))
