"""Loans: the application, its schedule, and reading. What happens to a loan afterwards: `loan_commands`, `loan_transactions`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, delete, func, select
from sqlalchemy.orm import Session

from embarc.core.errors import Duplicate, FieldError, Invalid, NotFound, RuleViolation
from embarc.core.fields import Fields
from embarc.sandbox import client_life
from embarc.sandbox.allocation import replay
from embarc.sandbox.dates import read_date
from embarc.sandbox.loan_book import (
    LARGEST_ID,
    account_of,
    check_calendar,
    echo,
    find,
    forbid,
    instalments_of,
    items_of,
    tell,
)
from embarc.sandbox.loan_life import CANCELLED, CREATE, FINISHED, STEPS, Status
from embarc.sandbox.loan_products import find_product
from embarc.sandbox.loan_tables import Agreed, Loan, LoanCharge, LoanProduct, LoanTransaction
from embarc.sandbox.loan_terms import (
    TERM_FIELDS,
    TERM_FREQUENCY,
    check_limits,
    read_choice,
    read_terms,
    render_terms,
)
from embarc.sandbox.loan_view import ASSOCIATIONS, render_loan, render_schedule
from embarc.sandbox.staff import find_loan_officer
from embarc.sandbox.tables import Client
from embarc.web.routes import Call, Route, unsupported_command

if TYPE_CHECKING:
    from embarc.sandbox.application import Sandbox, Work

_FIELDS = (
    "clientId",
    "productId",
    "loanType",
    *TERM_FIELDS,
    "loanTermFrequency",
    "loanTermFrequencyType",
    "expectedDisbursementDate",
    "submittedOnDate",
    "repaymentsStartingFromDate",
    "loanOfficerId",
    "externalId",
    "dateFormat",
    "locale",
)
_LONGEST_PAGE = 1000
_LONGEST_TERM = 1_000_000
_ORDER = {"id": Loan.id, "accountNo": Loan.account_no, "status": Loan.status}
_NEW = dict.fromkeys(
    (
        "external_id",
        "first_due_on",
        "loan_officer_id",
        "approved_principal",
        "disbursed_principal",
        "disbursed_on",
        "charged_off_on",
        "foreclosed_on",
    )
)
"""Columns that are read before the database has filled them."""
EXAMPLE = {
    "clientId": 1,
    "productId": 1,
    "loanType": "individual",
    "principal": 10000,
    "loanTermFrequency": 12,
    "loanTermFrequencyType": 2,
    "numberOfRepayments": 12,
    "repaymentEvery": 1,
    "repaymentFrequencyType": 2,
    "interestRatePerPeriod": 2,
    "amortizationType": 1,
    "interestType": 0,
    "interestCalculationPeriodType": 1,
    "transactionProcessingStrategyCode": "mifos-standard-strategy",
    "submittedOnDate": "13 October 2025",
    "expectedDisbursementDate": "20 October 2025",
    "dateFormat": "dd MMMM yyyy",
    "locale": "en",
}


def routes(sandbox: Sandbox) -> list[Route]:
    """The routes of loan applications, and of reading loans."""

    async def create(call: Call) -> dict[str, Any]:
        command = call.query.get("command")
        if command is None:
            return await sandbox.command(call, _create)
        if command != "calculateLoanSchedule":
            raise unsupported_command(call, ["calculateLoanSchedule"])
        call.notes["skip"] = True  # nothing is changed
        return await sandbox.query(call, _preview)

    async def list_loans(call: Call) -> dict[str, Any]:
        return await sandbox.query(call, _list)

    async def get(call: Call) -> dict[str, Any]:
        return await sandbox.query(call, lambda work: _render(work, find(work), _associations(call)))

    async def update(call: Call) -> dict[str, Any]:
        return await sandbox.command(call, _update)

    async def remove(call: Call) -> dict[str, Any]:
        return await sandbox.command(call, _delete)

    page = (
        ("offset", "rows to skip"),
        ("limit", "rows of a page (200)"),
        ("orderBy", ", ".join(_ORDER)),
        ("sortOrder", "asc or desc"),
        ("clientId", "only of this client"),
        ("status", "only with this id of a status, as 300"),
        ("externalId", "only with this external id"),
        ("accountNo", "only with this account number"),
    )
    return [
        Route(
            method="POST",
            path="/loans",
            handler=create,
            permission="CREATE_LOAN",
            summary="Apply for a loan; emits LOAN.CREATE. With command=calculateLoanSchedule only its schedule",
            tag="sandbox",
            body=EXAMPLE,
            query=(("command", "calculateLoanSchedule"),),
        ),
        Route(
            method="GET",
            path="/loans",
            handler=list_loans,
            permission="READ_LOAN",
            summary="List loans",
            tag="sandbox",
            query=page,
        ),
        Route(
            method="GET",
            path="/loans/{loanId}",
            handler=get,
            permission="READ_LOAN",
            summary="One loan",
            tag="sandbox",
            query=(("associations", f"all, or of {', '.join(ASSOCIATIONS)}"),),
        ),
        Route(
            method="PUT",
            path="/loans/{loanId}",
            handler=update,
            permission="UPDATE_LOAN",
            summary="Change an application; emits LOAN.UPDATE",
            tag="sandbox",
            body={"principal": 8000, "locale": "en", "dateFormat": "dd MMMM yyyy"},
        ),
        Route(
            method="DELETE",
            path="/loans/{loanId}",
            handler=remove,
            permission="DELETE_LOAN",
            summary="Delete an application; emits LOAN.DELETE",
            tag="sandbox",
        ),
    ]


@dataclass(frozen=True, slots=True)
class ClientStanding:
    """What a client's loans say about closing the client."""

    has_open: bool
    """A loan that is not closed, rejected or withdrawn: Fineract's `.loan.non-closed`."""
    has_overpaid: bool
    """A loan that the lender owes something on: `.loan.overpaid`."""


def standing_of_client(session: Session, tenant: str, client_id: int) -> ClientStanding:
    """How the loans of this client stand."""
    statuses = set(
        session.scalars(
            select(Loan.status).where(Loan.tenant == tenant, Loan.client_id == client_id).distinct()
        )
    )
    return ClientStanding(
        has_open=bool(statuses - FINISHED - CANCELLED - {Status.OVERPAID}),
        has_overpaid=Status.OVERPAID in statuses,
    )


def find_active_client(work: Work, client_id: int) -> Client:
    """The tenant's client, who must be active; raises `NotFound` and `RuleViolation`."""
    client = work.session.scalar(select(Client).where(Client.tenant == work.tenant, Client.id == client_id))
    if client is None:
        message = f"Client with identifier {client_id} does not exist"
        raise NotFound.resource("error.msg.client.id.invalid", message, client_id)
    if client.status != client_life.Status.ACTIVE:
        message = f"Client with identifier {client_id} is not active"
        raise RuleViolation.rule("error.msg.client.not.active.exception", message, value=client_id)
    return client


def _create(work: Work) -> dict[str, Any]:
    fields = work.call.fields("loan", _FIELDS)
    client_id = fields.integer("clientId", required=True, at_least=1, at_most=LARGEST_ID)
    loan_type = fields.text("loanType", required=True)
    if loan_type not in (None, "individual"):
        message = "The parameter `loanType` must be `individual`: the sandbox has no groups."
        fields.fail("loanType", "is.not.one.of.expected.enumerations", message, loan_type)
    loan = _read_new(work, fields)
    client = find_active_client(work, client_id or 0)
    loan.client_id, loan.office_id = client.id, client.office_id
    if loan.loan_officer_id is not None:
        find_loan_officer(work, loan.loan_officer_id)
    _check_submittal(work, loan, client)
    _check_unique(work, loan)
    work.session.add(loan)
    work.session.flush()
    loan.account_no = f"{loan.id:09d}"
    return tell(work, loan, CREATE, loan.id)


def _preview(work: Work) -> dict[str, Any]:
    fields = work.call.fields("loan", _FIELDS)
    loan = _read_new(work, fields)
    instalments = instalments_of(loan)
    standings = replay(items_of(instalments, (), None), ()).standings
    return render_schedule(loan, loan.principal, loan.expected_disbursement_on, instalments, standings)


def _update(work: Work) -> dict[str, Any]:
    loan = find(work)
    STEPS["update"].check(loan.status)
    fields = work.call.fields("loan", _FIELDS)
    before = _as_given(loan)
    for name in ("clientId", "productId"):
        if fields.integer(name, default=before[name]) != before[name]:
            fields.fail(name, "cannot.be.changed", f"The parameter `{name}` cannot be changed.")
    values = _read(fields, loan.digits, required=False)
    fields.check()
    if "loan_officer_id" in values:
        find_loan_officer(work, values["loan_officer_id"])
    with work.session.no_autoflush:
        for column, value in values.items():
            setattr(loan, column, value)
        product = find_product(work, loan.product_id)
        _check_terms(fields, loan, product)
        _check_submittal(work, loan, find_active_client(work, loan.client_id))
        _check_unique(work, loan)
    after = _as_given(loan)
    changed = [name for name in after if name in fields.body and after[name] != before[name]]
    changes = echo(fields.body, *changed) if changed else {}
    return tell(work, loan, STEPS["update"], loan.id, changes=changes)


def _delete(work: Work) -> dict[str, Any]:
    loan = find(work)
    STEPS["delete"].check(loan.status)
    for table in (LoanCharge, LoanTransaction):
        work.session.execute(delete(table).where(table.loan_id == loan.id))
    work.session.delete(loan)
    return tell(work, loan, STEPS["delete"], loan.id)


def _list(work: Work) -> dict[str, Any]:
    query = work.call.query
    wanted: Select[Loan] = select(Loan).where(Loan.tenant == work.tenant)
    for name, column in (("clientId", Loan.client_id), ("status", Loan.status)):
        if text := query.get(name):
            wanted = wanted.where(column == _count(text, name))
    for name, text_column in (("externalId", Loan.external_id), ("accountNo", Loan.account_no)):
        if text := query.get(name):
            wanted = wanted.where(text_column == text)
    total = work.session.scalar(select(func.count()).select_from(wanted.subquery()))
    order: Any = _ORDER.get(query.get("orderBy", "id"), Loan.id)
    ordered = order.desc() if query.get("sortOrder", "").lower() == "desc" else order.asc()
    limit = min(_count(query.get("limit", "200"), "limit") or _LONGEST_PAGE, _LONGEST_PAGE)
    page = wanted.order_by(ordered).offset(_count(query.get("offset", "0"), "offset")).limit(limit)
    found = work.session.scalars(page).all()
    return {"totalFilteredRecords": total, "pageItems": [_render(work, loan, ()) for loan in found]}


def _render(work: Work, loan: Loan, associations: tuple[str, ...]) -> dict[str, Any]:
    product = work.session.get_one(LoanProduct, loan.product_id)
    client = work.session.get_one(Client, loan.client_id)
    return render_loan(loan, product, client, account_of(work, loan), work.today, associations)


def _associations(call: Call) -> tuple[str, ...]:
    asked = {name.strip() for name in call.query.get("associations", "").split(",")}
    return ASSOCIATIONS if "all" in asked else tuple(name for name in ASSOCIATIONS if name in asked)


def _read_new(work: Work, fields: Fields) -> Loan:
    """The loan that the request describes, its terms checked, without a client; raises what is wrong."""
    product_id = fields.integer("productId", required=True, at_least=1, at_most=LARGEST_ID)
    product = None if product_id is None or fields.errors else find_product(work, product_id)
    values = _read(fields, 6 if product is None else product.digits, required=True)
    fields.check()
    assert product is not None  # noqa: S101 - `required` noted its absence
    inherited = {column: getattr(product, column) for column in Agreed.__annotations__}
    loan = Loan(
        **_NEW | inherited | values,
        tenant=work.tenant,
        product_id=product.id,
        status=Status.SUBMITTED,
        account_no="",
    )
    _check_terms(fields, loan, product)
    return loan


def _read(fields: Fields, digits: int, *, required: bool) -> dict[str, Any]:
    """What the request gives, by column; mistakes are noted."""
    values = read_terms(fields, digits=digits, required=required)
    values["term"] = fields.integer("loanTermFrequency", required=required, at_least=1, at_most=_LONGEST_TERM)
    term_frequency = read_choice(fields, TERM_FREQUENCY, required=required)
    if term_frequency not in (None, values.get("repay_frequency", term_frequency)):
        code = "validation.msg.loan.loanTermFrequencyType.not.the.same.as.repaymentFrequencyType"
        message = "The parameters `loanTermFrequencyType` and `repaymentFrequencyType` must be the same."
        fields.fail_code("loanTermFrequencyType", code, message, term_frequency)
    is_preview = required and "clientId" not in fields.body
    for name, column in (
        ("submittedOnDate", "submitted_on"),
        ("expectedDisbursementDate", "expected_disbursement_on"),
        ("repaymentsStartingFromDate", "first_due_on"),
    ):
        is_needed = required and (
            column == "expected_disbursement_on" or (column == "submitted_on" and not is_preview)
        )
        values[column] = read_date(fields, name, required=is_needed)
    values["loan_officer_id"] = fields.integer("loanOfficerId", at_least=1, at_most=LARGEST_ID)
    values["external_id"] = fields.text("externalId", longest=100)
    return {column: value for column, value in values.items() if value is not None}


def _check_terms(fields: Fields, loan: Loan, product: LoanProduct) -> None:
    """Raise what the terms contradict: the product's limits, and each other."""
    check_limits(
        fields,
        product.limits,
        {
            "principal": loan.principal,
            "numberOfRepayments": loan.number_of_repayments,
            "interestRatePerPeriod": loan.rate,
        },
    )
    if loan.term < loan.number_of_repayments * loan.repay_every:
        code = "validation.msg.loan.loanTermFrequency.less.than.repayment.structure.suggests"
        message = (
            "The parameter `loanTermFrequency` is less than the suggested loan term as indicated by "
            "`numberOfRepayments` and `repaymentEvery`."
        )
        fields.fail_code("loanTermFrequency", code, message, loan.term)
    if loan.first_due_on is not None and loan.first_due_on <= loan.expected_disbursement_on:
        message = "The parameter `repaymentsStartingFromDate` must be after `expectedDisbursementDate`."
        fields.fail("repaymentsStartingFromDate", "must.be.after.expected.disbursement.date", message)
    fields.check()
    check_calendar(loan)


def _check_submittal(work: Work, loan: Loan, client: Client) -> None:
    submitted: date = loan.submitted_on
    if submitted > work.today:
        message = "The date on which a loan is submitted cannot be in the future."
        raise forbid("submittal", "cannot.be.a.future.date", message)
    if client.activated_on is not None and submitted < client.activated_on:
        message = f"The date on which a loan is submitted cannot be earlier than client's activation date: {client.activated_on}"
        raise forbid("submittal", "cannot.be.before.client.activation.date", message)
    if submitted > loan.expected_disbursement_on:
        message = f"The date on which a loan is submitted cannot be after its expected disbursement date: {loan.expected_disbursement_on}"
        raise forbid("submittal", "cannot.be.after.expected.disbursement.date", message)


def _check_unique(work: Work, loan: Loan) -> None:
    if loan.external_id is None:
        return
    taken = select(Loan.id).where(
        Loan.tenant == work.tenant, Loan.external_id == loan.external_id, Loan.id != (loan.id or 0)
    )
    if work.session.scalar(taken) is not None:
        code = "error.msg.loan.duplicate.externalId"
        message = f"Loan with externalId `{loan.external_id}` already exists"
        raise Duplicate(
            message, code=code, errors=[FieldError(code, message, "externalId", loan.external_id)]
        )


def _as_given(loan: Loan) -> dict[str, Any]:
    """The loan's values under the names of the request, to see what a request changes."""
    rendered = render_terms(loan)
    choices = {name: rendered[name]["id"] for name in TERM_FIELDS if isinstance(rendered.get(name), dict)}
    return choices | {
        "clientId": loan.client_id,
        "productId": loan.product_id,
        "numberOfRepayments": loan.number_of_repayments,
        "repaymentEvery": loan.repay_every,
        "interestRatePerPeriod": loan.rate,
        "principal": loan.principal,
        "inArrearsTolerance": loan.tolerance,
        "transactionProcessingStrategyCode": loan.strategy,
        "loanTermFrequency": loan.term,
        "expectedDisbursementDate": loan.expected_disbursement_on,
        "submittedOnDate": loan.submitted_on,
        "repaymentsStartingFromDate": loan.first_due_on,
        "loanOfficerId": loan.loan_officer_id,
        "externalId": loan.external_id,
    }


def _count(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        message = f"The query parameter {name} must be a whole number."
        raise Invalid.field(name, "error.msg.query.parameter.value.unsupported", message, text[:50])
    return int(text)
