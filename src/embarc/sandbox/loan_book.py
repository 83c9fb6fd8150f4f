"""One loan with everything that belongs to it, and what follows from that: its schedule, its balances, its status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from embarc.core.errors import Invalid, NotFound, RuleViolation
from embarc.sandbox import loan_life, schedule
from embarc.sandbox.allocation import Book, Item, Kind, Movement, Part, replay
from embarc.sandbox.loan_life import Step
from embarc.sandbox.loan_tables import Agreed, Loan, LoanCharge, LoanTransaction
from embarc.sandbox.records import to_id
from embarc.sandbox.schedule import (
    Amortization,
    Frequency,
    Instalment,
    InterestPeriod,
    InterestType,
    Terms,
    TermTooLong,
)

if TYPE_CHECKING:
    from embarc.sandbox.application import Work

ZERO = Decimal(0)
LARGEST_ID = 2**63 - 1
"""What a database takes as an id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A loan's account as it stands."""

    instalments: Sequence[Instalment]
    charges: Sequence[LoanCharge]
    transactions: Sequence[LoanTransaction]
    book: Book

    @property
    def last_on(self) -> date | None:
        """The day of the latest transaction that was not reversed."""
        return max((one.on for one in self.transactions if one.reversed_on is None), default=None)


def find(work: Work) -> Loan:
    """The loan that the path names; raises `NotFound`."""
    text = work.call.path["loanId"]
    loan = work.session.scalar(select(Loan).where(Loan.tenant == work.tenant, Loan.id == to_id(text)))
    if loan is None:
        raise NotFound.resource(
            "error.msg.loan.id.invalid", f"Loan with identifier {text[:50]} does not exist", text[:50]
        )
    return loan


def account_of(work: Work, loan: Loan) -> Account:
    """Reckon the account of this loan from what is stored."""
    session = work.session
    charges = session.scalars(
        select(LoanCharge).where(LoanCharge.loan_id == loan.id).order_by(LoanCharge.due_on, LoanCharge.id)
    ).all()
    transactions = session.scalars(
        select(LoanTransaction)
        .where(LoanTransaction.loan_id == loan.id)
        .order_by(LoanTransaction.on, LoanTransaction.id)
    ).all()
    instalments = instalments_of(loan)
    return Account(
        instalments=instalments,
        charges=charges,
        transactions=transactions,
        book=replay(items_of(instalments, charges, loan.foreclosed_on), _movements(transactions)),
    )


def terms_of(agreed: Agreed, principal: Decimal, term: int, first_due_on: date | None = None) -> Terms:
    """The terms of a loan as `schedule` wants them."""
    return Terms(
        principal=principal,
        instalments=agreed.number_of_repayments,
        repay_every=agreed.repay_every,
        repay_frequency=Frequency(agreed.repay_frequency),
        term=term,
        rate=agreed.rate,
        rate_frequency=Frequency(agreed.rate_frequency),
        amortization=Amortization(agreed.amortization),
        interest_type=InterestType(agreed.interest_type),
        interest_period=InterestPeriod(agreed.interest_period),
        days_in_year=agreed.days_in_year,
        days_in_month=agreed.days_in_month,
        digits=agreed.digits,
        first_due_on=first_due_on,
    )


def instalments_of(loan: Loan) -> tuple[Instalment, ...]:
    """The loan's schedule: as it was paid out or, before that, as it is planned."""
    principal = loan.disbursed_principal or loan.approved_principal or loan.principal
    terms = terms_of(loan, principal, loan.term, loan.first_due_on)
    planned = schedule.schedule(terms, loan.disbursed_on or loan.expected_disbursement_on)
    if loan.foreclosed_on is None:
        return planned
    return schedule.foreclosed(planned, loan.foreclosed_on, loan.digits)


def check_calendar(loan: Loan) -> None:
    """Refuse a loan whose last instalment would be due when there are no more dates."""
    try:
        instalments_of(loan)
    except TermTooLong as error:
        code = "validation.msg.loan.numberOfRepayments.is.greater.than.max"
        raise Invalid.field("numberOfRepayments", code, str(error)) from None


def settle(work: Work, loan: Loan, step: Step, on: date) -> tuple[Account, bool]:
    """Take the step's status, or the one that the balance asks for; tells whether it changed."""
    before = loan.status
    work.session.flush()
    account = account_of(work, loan)
    if step.target is not None:
        loan.status = step.target
    elif step.follows_balance and loan.disbursed_on is not None:
        loan.status = loan_life.status_by_balance(account.book.outstanding(), account.book.overpaid)
    if loan.status in loan_life.FINISHED and before not in loan_life.FINISHED:
        loan.closed_on = on
    elif loan.status not in loan_life.FINISHED | loan_life.CANCELLED:
        loan.closed_on = None
    return account, loan.status != before


def ids_of(loan: Loan) -> dict[str, int]:
    """The ids that every event of the loan carries."""
    return {"officeId": loan.office_id, "clientId": loan.client_id, "loanId": loan.id}


def tell(
    work: Work, loan: Loan, step: Step, resource_id: int, *, closed: bool = False, **more: Any
) -> dict[str, Any]:
    """Emit the step's event, and LOAN.CLOSE after it where the loan `closed` by it; returns the answer to the caller."""
    answer = ids_of(loan) | {"resourceId": resource_id} | more
    work.session.flush()
    work.emit(step.entity, step.action, ids_of(loan), answer)
    if closed:
        status = {"changes": {"status": loan_life.describe(loan.status)}}
        work.emit("LOAN", loan_life.CLOSE, ids_of(loan), ids_of(loan) | {"resourceId": loan.id} | status)
    return answer


def echo(body: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """What the caller sent under these names, for `changes`; decimals as plain numbers."""
    found = {name: body[name] for name in (*names, "locale", "dateFormat") if body.get(name) is not None}
    return {name: float(one) if isinstance(one, Decimal) else one for name, one in found.items()}


def forbid(action: str, postfix: str, message: str) -> RuleViolation:
    """The refusal of a step that the loan's status allows and a rule does not."""
    return RuleViolation.rule(f"error.msg.loan.{action}.{postfix}", message)


def items_of(
    instalments: Sequence[Instalment], charges: Iterable[LoanCharge], foreclosed_on: date | None
) -> list[Item]:
    """What the loan owes, instalment by instalment."""
    items = []
    for one in instalments:
        for part, amount in ((Part.INTEREST, one.interest), (Part.PRINCIPAL, one.principal)):
            items.append(Item(instalment=one.number, part=part, due_on=one.due_date, amount=amount))
    for charge in charges:
        if foreclosed_on is not None and charge.due_on > foreclosed_on:
            continue
        # With the first instalment that is due on or after the charge, else with the last one.
        with_it = next((one for one in instalments if charge.due_on <= one.due_date), instalments[-1])
        items.append(
            Item(
                instalment=with_it.number,
                part=Part.PENALTY if charge.is_penalty else Part.FEE,
                due_on=with_it.due_date,
                amount=charge.amount,
                charge_id=charge.id,
            )
        )
    return items


def _movements(transactions: Iterable[LoanTransaction]) -> list[Movement]:
    return [
        Movement(id=one.id, on=one.on, kind=Kind(one.kind), amount=one.amount, charge_id=one.charge_id)
        for one in transactions
        if one.reversed_on is None
    ]
