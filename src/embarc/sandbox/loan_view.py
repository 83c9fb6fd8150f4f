"""Loans as Fineract answers them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from embarc.sandbox import loan_life
from embarc.sandbox.allocation import Kind, Part, Standing
from embarc.sandbox.amounts import number
from embarc.sandbox.loan_book import Account
from embarc.sandbox.loan_tables import Agreed, Loan, LoanCharge, LoanProduct, LoanTransaction
from embarc.sandbox.loan_terms import TERM_FREQUENCY, currency, render_terms
from embarc.sandbox.schedule import Instalment
from embarc.sandbox.tables import Client

ZERO = Decimal(0)
_PARTS = {
    "principal": Part.PRINCIPAL,
    "interest": Part.INTEREST,
    "feeCharges": Part.FEE,
    "penaltyCharges": Part.PENALTY,
}
_KINDS = {
    Kind.DISBURSEMENT: ("disbursement", "Disbursement"),
    Kind.REPAYMENT: ("repayment", "Repayment"),
    Kind.WAIVE_INTEREST: ("waiver", "Waive interest"),
    Kind.WRITE_OFF: ("writeOff", "Close (as written-off)"),
    Kind.RECOVERY_REPAYMENT: ("recoveryRepayment", "Repayment (after write-off)"),
    Kind.WAIVE_CHARGES: ("waiveCharges", "Waive loan charges"),
    Kind.CHARGE_PAYMENT: ("chargePayment", "Charge Payment"),
    Kind.CREDIT_BALANCE_REFUND: ("creditBalanceRefund", "Credit Balance Refund"),
    Kind.CHARGE_OFF: ("chargeoff", "Charge-off"),
}
_FLAGS = {Kind.WAIVE_INTEREST: "waiveInterest", Kind.CHARGE_OFF: "chargeoff"}
ASSOCIATIONS = ("repaymentSchedule", "transactions", "charges")
SPECIFIED_DUE_DATE = {"id": 2, "code": "chargeTimeType.specifiedDueDate", "value": "Specified due date"}
CALCULATIONS = {
    1: ("chargeCalculationType.flat", "Flat"),
    2: ("chargeCalculationType.percent.of.amount", "% Amount"),
}
REGULAR = {"id": 0, "code": "chargepaymentmode.regular", "value": "Regular"}


def render_loan(
    loan: Loan,
    product: LoanProduct,
    client: Client,
    account: Account,
    today: date,
    associations: Collection[str] = (),
) -> dict[str, Any]:
    """The loan; what is not known is left out. `associations`: of `ASSOCIATIONS`."""
    terms = render_terms(loan)
    terms["termFrequency"] = loan.term
    terms["termPeriodFrequencyType"] = TERM_FREQUENCY.describe(loan.repay_frequency)
    amount = loan.disbursed_principal or loan.approved_principal or loan.principal
    rendered: dict[str, Any] = {
        "id": loan.id,
        "accountNo": loan.account_no,
        "externalId": loan.external_id,
        "status": loan_life.describe(loan.status),
        "subStatus": _FORECLOSED if loan.foreclosed_on else None,
        "clientId": client.id,
        "clientAccountNo": client.account_no,
        "clientName": client.display_name,
        "clientOfficeId": client.office_id,
        "loanProductId": product.id,
        "loanProductName": product.name,
        "loanType": {"id": 1, "code": "accountType.individual", "value": "Individual"},
        "loanOfficerId": loan.loan_officer_id,
        "principal": number(amount),
        "proposedPrincipal": number(loan.principal),
        "approvedPrincipal": number(loan.approved_principal or loan.principal),
        **terms,
        "repaymentsStartingFromDate": day(loan.first_due_on),
        "timeline": _timeline(loan, account),
        "chargedOff": loan.charged_off_on is not None,
        "inArrears": False,
    }
    if loan.disbursed_on is not None:
        rendered["summary"] = _summary(loan, account, today)
        rendered["inArrears"] = "overdueSinceDate" in rendered["summary"]
        if account.book.overpaid > 0:
            rendered["totalOverpaid"] = number(account.book.overpaid)
    if "repaymentSchedule" in associations:
        start = loan.disbursed_on or loan.expected_disbursement_on
        rendered["repaymentSchedule"] = render_schedule(
            loan, amount, start, account.instalments, account.book.standings
        )
    if "transactions" in associations:
        rendered["transactions"] = [render_transaction(loan, one, account) for one in account.transactions]
    if "charges" in associations:
        rendered["charges"] = [render_charge(loan, one, account) for one in account.charges]
    return _known(rendered)


def render_schedule(
    agreed: Agreed,
    principal: Decimal,
    disbursed_on: date,
    instalments: Iterable[Instalment],
    standings: Iterable[Standing],
) -> dict[str, Any]:
    """The repayment schedule: first the disbursement, then every instalment."""
    every = list(standings)
    balance, periods = principal, []
    for one in instalments:
        own = [standing for standing in every if standing.item.instalment == one.number]
        balance -= sum((s.item.amount for s in own if s.item.part is Part.PRINCIPAL), ZERO)
        periods.append(_period(one, own, max(balance, ZERO)))
    totals = _sums(every)
    return {
        "currency": currency(agreed),
        "loanTermInDays": sum(period["daysInPeriod"] for period in periods),
        "totalPrincipalDisbursed": number(principal),
        "totalPrincipalExpected": totals["principalDue"],
        "totalPrincipalPaid": totals["principalPaid"],
        "totalInterestCharged": totals["interestDue"],
        "totalFeeChargesCharged": totals["feeChargesDue"],
        "totalPenaltyChargesCharged": totals["penaltyChargesDue"],
        "totalWaived": number(sum((one.waived for one in every), ZERO)),
        "totalWrittenOff": number(sum((one.written_off for one in every), ZERO)),
        "totalRepaymentExpected": number(sum((one.item.amount for one in every), ZERO)),
        "totalRepayment": number(sum((one.paid for one in every), ZERO)),
        "totalPaidInAdvance": number(sum((one.paid_early for one in every), ZERO)),
        "totalPaidLate": number(sum((one.paid_late for one in every), ZERO)),
        "totalOutstanding": number(sum((one.outstanding for one in every), ZERO)),
        "periods": [
            {
                "dueDate": day(disbursed_on),
                "principalDisbursed": number(principal),
                "principalLoanBalanceOutstanding": number(principal),
            },
            *periods,
        ],
    }


def render_transaction(loan: Loan, transaction: LoanTransaction, account: Account) -> dict[str, Any]:
    """One movement of money, with what became of it."""
    kind = Kind(transaction.kind)
    code, words = _KINDS[kind]
    applied = account.book.applied.get(transaction.id)
    rendered: dict[str, Any] = {
        "id": transaction.id,
        "loanId": loan.id,
        "externalId": transaction.external_id,
        "officeId": loan.office_id,
        "type": {"id": int(kind), "code": f"loanTransactionType.{code}", "value": words}
        | {_FLAGS.get(one, name): one is kind for one, (name, _) in _KINDS.items()},
        "date": day(transaction.on),
        "currency": currency(loan),
        "paymentDetailData": transaction.payment or None,
        "amount": number(transaction.amount),
        "note": transaction.note,
        "submittedOnDate": day(transaction.submitted_on),
        "manuallyReversed": transaction.reversed_on is not None,
        "reversedOnDate": day(transaction.reversed_on),
    }
    if applied is not None and kind not in (Kind.DISBURSEMENT, Kind.RECOVERY_REPAYMENT):
        for name, part in _PARTS.items():
            rendered[f"{name}Portion"] = number(applied.parts[part])
        rendered["overpaymentPortion"] = number(applied.overpaid)
    if applied is not None:
        rendered["outstandingLoanBalance"] = number(applied.principal_after)
    return _known(rendered)


def render_charge(loan: Loan, charge: LoanCharge, account: Account) -> dict[str, Any]:
    """A charge of the loan and how it stands."""
    own = [one for one in account.book.standings if one.item.charge_id == charge.id]
    paid, waived, written_off, outstanding = (
        sum((getattr(one, name) for one in own), ZERO)
        for name in ("paid", "waived", "written_off", "outstanding")
    )
    code, words = CALCULATIONS[charge.calculation]
    return {
        "id": charge.id,
        "chargeId": charge.charge_id,
        "loanId": loan.id,
        "name": charge.name,
        "chargeTimeType": SPECIFIED_DUE_DATE,
        "dueDate": day(charge.due_on),
        "chargeCalculationType": {"id": charge.calculation, "code": code, "value": words},
        "chargePaymentMode": REGULAR,
        "currency": currency(loan),
        "amount": number(charge.amount),
        "amountPaid": number(paid),
        "amountWaived": number(waived),
        "amountWrittenOff": number(written_off),
        "amountOutstanding": number(outstanding),
        "amountOrPercentage": number(charge.given_amount),
        "penalty": charge.is_penalty,
        "paid": not outstanding and not waived,
        "waived": not outstanding and waived > 0,
    }


def day(value: date | None) -> list[int] | None:
    """A date as Fineract writes it."""
    return None if value is None else [value.year, value.month, value.day]


_FORECLOSED = {"id": 100, "code": "loanSubStatusType.foreclosed", "value": "Foreclosed"}


def _timeline(loan: Loan, account: Account) -> dict[str, Any]:
    return _known(
        {
            "submittedOnDate": day(loan.submitted_on),
            "rejectedOnDate": day(loan.rejected_on),
            "withdrawnOnDate": day(loan.withdrawn_on),
            "approvedOnDate": day(loan.approved_on),
            "expectedDisbursementDate": day(loan.expected_disbursement_on),
            "actualDisbursementDate": day(loan.disbursed_on),
            "expectedMaturityDate": day(account.instalments[-1].due_date),
            "writeOffOnDate": day(loan.written_off_on),
            "chargedOffOnDate": day(loan.charged_off_on),
            "closedOnDate": day(loan.closed_on),
        }
    )


def _summary(loan: Loan, account: Account, today: date) -> dict[str, Any]:
    standings = account.book.standings
    late = [one for one in standings if one.item.due_on < today and one.outstanding > 0]
    summary: dict[str, Any] = {
        "currency": currency(loan),
        "principalDisbursed": number(loan.disbursed_principal or ZERO),
    }
    for name, value in _sums(standings).items():
        if name not in ("principalDue", "principalWaived"):
            summary[name.replace("Due", "Charged")] = value
    for name, part in _PARTS.items():
        owed = sum((one.outstanding for one in late if one.item.part is part), ZERO)
        summary[f"{name}Overdue"] = number(owed)
    expected = sum((one.item.amount for one in standings), ZERO)
    cost = expected - (loan.disbursed_principal or ZERO)
    summary |= {
        "totalExpectedRepayment": number(expected),
        "totalRepayment": number(sum((one.paid for one in standings), ZERO)),
        "totalExpectedCostOfLoan": number(cost),
        "totalWaived": number(sum((one.waived for one in standings), ZERO)),
        "totalWrittenOff": number(sum((one.written_off for one in standings), ZERO)),
        "totalOutstanding": number(account.book.outstanding()),
        "totalOverdue": number(sum((one.outstanding for one in late), ZERO)),
        "totalRecovered": number(account.book.recovered),
    }
    if late:
        summary["overdueSinceDate"] = day(min(one.item.due_on for one in late))
    return summary


def _period(instalment: Instalment, own: list[Standing], balance: Decimal) -> dict[str, Any]:
    outstanding = sum((one.outstanding for one in own), ZERO)
    is_complete = not outstanding
    settled = [one.settled_on for one in own if one.settled_on is not None]
    return _known(
        {
            "period": instalment.number,
            "fromDate": day(instalment.from_date),
            "dueDate": day(instalment.due_date),
            "complete": is_complete,
            "obligationsMetOnDate": day(max(settled)) if is_complete and settled else None,
            "daysInPeriod": instalment.days,
            **_sums(own),
            "principalOriginalDue": number(instalment.principal),
            "interestOriginalDue": number(instalment.interest),
            "principalLoanBalanceOutstanding": number(balance),
            "totalDueForPeriod": number(sum((one.item.amount for one in own), ZERO)),
            "totalPaidForPeriod": number(sum((one.paid for one in own), ZERO)),
            "totalPaidInAdvanceForPeriod": number(sum((one.paid_early for one in own), ZERO)),
            "totalPaidLateForPeriod": number(sum((one.paid_late for one in own), ZERO)),
            "totalWaivedForPeriod": number(sum((one.waived for one in own), ZERO)),
            "totalWrittenOffForPeriod": number(sum((one.written_off for one in own), ZERO)),
            "totalOutstandingForPeriod": number(outstanding),
            "totalInstallmentAmountForPeriod": number(instalment.principal + instalment.interest),
        }
    )


def _sums(standings: Collection[Standing]) -> dict[str, int | float]:
    """principalDue, principalPaid, ... over these items."""
    sums: dict[str, int | float] = {}
    for name, part in _PARTS.items():
        own = [one for one in standings if one.item.part is part]
        sums[f"{name}Due"] = number(sum((one.item.amount for one in own), ZERO))
        sums[f"{name}Paid"] = number(sum((one.paid for one in own), ZERO))
        sums[f"{name}Waived"] = number(sum((one.waived for one in own), ZERO))
        sums[f"{name}WrittenOff"] = number(sum((one.written_off for one in own), ZERO))
        sums[f"{name}Outstanding"] = number(sum((one.outstanding for one in own), ZERO))
    return sums


def _known(rendered: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in rendered.items() if value is not None}
