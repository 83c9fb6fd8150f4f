"""Loan products: what the lender offers. Codes and rules are Fineract's (LoanProductDataValidator)."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from embarc.core.errors import Duplicate, FieldError, NotFound
from embarc.core.fields import Fields
from embarc.sandbox.amounts import number, read_amount
from embarc.sandbox.loan_book import echo
from embarc.sandbox.loan_tables import LoanProduct
from embarc.sandbox.loan_terms import (
    COUNTS,
    DAYS_IN_MONTH,
    DAYS_IN_YEAR,
    TERM_FIELDS,
    check_limits,
    read_choice,
    read_terms,
    render_terms,
)
from embarc.sandbox.records import to_id
from embarc.web.routes import Call, Route

if TYPE_CHECKING:
    from embarc.sandbox.application import Sandbox, Work

NO_ACCOUNTING = 1
_LIMITED = ("principal", "numberOfRepayments", "interestRatePerPeriod")
_LIMITS = tuple(f"{end}{name[0].upper()}{name[1:]}" for name in _LIMITED for end in ("min", "max"))
_TEXTS = {
    "name": ("name", 100),
    "shortName": ("short_name", 4),
    "description": ("description", 500),
    "externalId": ("external_id", 100),
}
_FIELDS = (
    *_TEXTS,
    *TERM_FIELDS,
    *_LIMITS,
    "currencyCode",
    "digitsAfterDecimal",
    "inMultiplesOf",
    "daysInYearType",
    "daysInMonthType",
    "isInterestRecalculationEnabled",
    "accountingRule",
    "locale",
    "dateFormat",
)
_ABSENT = {"description": None, "external_id": None, "principal": None, "tolerance": Decimal(0)}
EXAMPLE = {
    "name": "Business loan",
    "shortName": "BUSI",
    "currencyCode": "USD",
    "digitsAfterDecimal": 2,
    "principal": 10000,
    "minPrincipal": 100,
    "maxPrincipal": 50000,
    "numberOfRepayments": 12,
    "repaymentEvery": 1,
    "repaymentFrequencyType": 2,
    "interestRatePerPeriod": 2,
    "interestRateFrequencyType": 2,
    "amortizationType": 1,
    "interestType": 0,
    "interestCalculationPeriodType": 1,
    "transactionProcessingStrategyCode": "mifos-standard-strategy",
    "daysInYearType": 365,
    "daysInMonthType": 30,
    "isInterestRecalculationEnabled": False,
    "accountingRule": 1,
    "locale": "en",
}


def routes(sandbox: Sandbox) -> list[Route]:
    """The routes of loan products."""

    async def create(call: Call) -> dict[str, Any]:
        return await sandbox.command(call, _create)

    async def list_products(call: Call) -> list[dict[str, Any]]:
        return await sandbox.query(call, _list)

    async def get(call: Call) -> dict[str, Any]:
        return await sandbox.query(
            call, lambda work: render(find_product(work, to_id(call.path["productId"])))
        )

    async def update(call: Call) -> dict[str, Any]:
        return await sandbox.command(call, _update)

    return [
        Route(
            method="POST",
            path="/loanproducts",
            handler=create,
            permission="CREATE_LOANPRODUCT",
            summary="Create a loan product; emits LOANPRODUCT.CREATE",
            tag="sandbox",
            body=EXAMPLE,
        ),
        Route(
            method="GET",
            path="/loanproducts",
            handler=list_products,
            permission="READ_LOANPRODUCT",
            summary="List loan products",
            tag="sandbox",
        ),
        Route(
            method="GET",
            path="/loanproducts/{productId}",
            handler=get,
            permission="READ_LOANPRODUCT",
            summary="One loan product",
            tag="sandbox",
        ),
        Route(
            method="PUT",
            path="/loanproducts/{productId}",
            handler=update,
            permission="UPDATE_LOANPRODUCT",
            summary="Change a loan product; emits LOANPRODUCT.UPDATE",
            tag="sandbox",
            body={"interestRatePerPeriod": 1.75, "locale": "en"},
        ),
    ]


def find_product(work: Work, product_id: int) -> LoanProduct:
    """The tenant's product; raises `NotFound`."""
    found = work.session.scalar(
        select(LoanProduct).where(LoanProduct.tenant == work.tenant, LoanProduct.id == product_id)
    )
    if found is None:
        message = f"Loan product with identifier {product_id} does not exist"
        raise NotFound.resource("error.msg.loanproduct.id.invalid", message, product_id)
    return found


def render(product: LoanProduct) -> dict[str, Any]:
    """A product as Fineract answers it."""
    rendered = {
        "id": product.id,
        "name": product.name,
        "shortName": product.short_name,
        "description": product.description,
        "externalId": product.external_id,
        "status": "loanProduct.active",
        "principal": None if product.principal is None else number(product.principal),
        "accountingRule": {"id": NO_ACCOUNTING, "code": "accountingRuleType.none", "value": "NONE"},
    }
    limits = {name: number(Decimal(text)) for name, text in product.limits.items()}
    return {
        name: value
        for name, value in (rendered | render_terms(product) | limits).items()
        if value is not None
    }


def _create(work: Work) -> dict[str, Any]:
    fields = work.call.fields("loanproduct", _FIELDS)
    fields.text("locale", required=True)
    currency_code = fields.text("currencyCode", required=True, longest=3)
    digits = fields.integer("digitsAfterDecimal", required=True, at_least=0, at_most=6)
    values = _read(fields, digits or 0, required=True)
    limits = values.pop("limits")
    fields.check()
    product = LoanProduct(
        tenant=work.tenant,
        currency_code=currency_code,
        digits=digits,
        limits=limits,
        accounting_rule=NO_ACCOUNTING,
        **_ABSENT | values,
    )
    _check_limits(fields, product)
    fields.check()
    _check_unique(work, product)
    work.session.add(product)
    work.session.flush()
    answer = {"resourceId": product.id}
    work.emit("LOANPRODUCT", "CREATE", {}, answer)
    return answer


def _update(work: Work) -> dict[str, Any]:
    product = find_product(work, to_id(work.call.path["productId"]))
    fields = work.call.fields("loanproduct", _FIELDS)
    before = _as_given(product)
    currency_code = fields.text("currencyCode", longest=3)
    product.digits = fields.integer("digitsAfterDecimal", default=product.digits, at_least=0, at_most=6) or 0
    values = _read(fields, product.digits, required=False)
    limits = values.pop("limits")
    fields.check()
    product.currency_code = currency_code or product.currency_code
    product.limits = product.limits | limits
    for column, value in values.items():
        setattr(product, column, value)
    _check_limits(fields, product)
    fields.check()
    with work.session.no_autoflush:
        _check_unique(work, product)
    work.session.flush()
    after = _as_given(product)
    changed = [name for name in after if name in fields.body and after[name] != before.get(name)]
    answer = {"resourceId": product.id, "changes": echo(fields.body, *changed) if changed else {}}
    work.emit("LOANPRODUCT", "UPDATE", {}, answer)
    return answer


def _list(work: Work) -> list[dict[str, Any]]:
    found = work.session.scalars(
        select(LoanProduct).where(LoanProduct.tenant == work.tenant).order_by(LoanProduct.name)
    )
    return [render(product) for product in found]


def _read(fields: Fields, digits: int, *, required: bool) -> dict[str, Any]:
    """What the request gives, by column; mistakes are noted."""
    values = read_terms(fields, digits=digits, required=required)
    for name, (column, longest) in _TEXTS.items():
        is_needed = name in ("name", "shortName") and (required or name in fields.body)
        if (text := fields.text(name, required=is_needed, longest=longest)) is not None:
            values[column] = text
    for choice in (DAYS_IN_YEAR, DAYS_IN_MONTH):
        if (value := read_choice(fields, choice, required=required)) is not None:
            values[choice.column] = value
    values["limits"] = {
        name: format(limit, "f")
        for name in _LIMITS
        if (limit := read_amount(fields, name, digits=_digits_of(name, digits), zero="Interest" in name))
        is not None
    }
    rule = fields.integer("accountingRule", required=required, at_least=1, at_most=4)
    if rule not in (None, NO_ACCOUNTING):
        message = "The sandbox keeps no ledger: `accountingRule` must be 1 (none)."
        fields.fail("accountingRule", "is.not.supported", message, rule)
    recalculates = fields.boolean("isInterestRecalculationEnabled")
    if recalculates is None and required:
        message = "The parameter `isInterestRecalculationEnabled` is mandatory."
        fields.fail("isInterestRecalculationEnabled", "cannot.be.blank", message)
    elif recalculates:
        message = "The sandbox does not recalculate interest: `isInterestRecalculationEnabled` must be false."
        fields.fail("isInterestRecalculationEnabled", "is.not.supported", message, recalculates)
    return values


def _digits_of(name: str, digits: int) -> int:
    if "Principal" in name:
        return digits
    return 6 if "Interest" in name else 0


def _check_limits(fields: Fields, product: LoanProduct) -> None:
    """The least must not exceed the most, and the proposal lies between them."""
    limits = product.limits
    for least, most in zip(_LIMITS[::2], _LIMITS[1::2], strict=True):
        if least in limits and most in limits and Decimal(limits[least]) > Decimal(limits[most]):
            message = f"The parameter `{least}` must be less than or equal to `{most}`."
            fields.fail(least, "is.greater.than.max", message, limits[least])
    proposed: dict[str, Decimal | int] = {
        "numberOfRepayments": product.number_of_repayments,
        "interestRatePerPeriod": product.rate,
    }
    if product.principal is not None:
        proposed["principal"] = product.principal
    check_limits(fields, limits, proposed)


def _check_unique(work: Work, product: LoanProduct) -> None:
    for name, column, value, code in (
        ("name", LoanProduct.name, product.name, "error.msg.product.loan.duplicate.name"),
        (
            "shortName",
            LoanProduct.short_name,
            product.short_name,
            "error.msg.product.loan.duplicate.short.name",
        ),
        (
            "externalId",
            LoanProduct.external_id,
            product.external_id,
            "error.msg.product.loan.duplicate.externalId",
        ),
    ):
        if value is None:
            continue
        taken = select(LoanProduct.id).where(
            LoanProduct.tenant == work.tenant, column == value, LoanProduct.id != (product.id or 0)
        )
        if work.session.scalar(taken) is not None:
            message = f"Loan product with {name} `{value}` already exists"
            raise Duplicate(message, code=code, errors=[FieldError(code, message, name, value)])


def _as_given(product: LoanProduct) -> dict[str, Any]:
    """The product's values under the names of the request, to see what a request changes."""
    named = {name: getattr(product, column) for name, (column, _) in _TEXTS.items()}
    named |= {name: getattr(product, column) for name, column in COUNTS.items()}
    rendered = render(product)
    named |= {name: rendered[name]["id"] for name in TERM_FIELDS if isinstance(rendered.get(name), dict)}
    return (
        named
        | product.limits
        | {
            "principal": product.principal,
            "inArrearsTolerance": product.tolerance,
            "interestRatePerPeriod": product.rate,
            "transactionProcessingStrategyCode": product.strategy,
            "currencyCode": product.currency_code,
            "digitsAfterDecimal": product.digits,
            "daysInYearType": product.days_in_year,
            "daysInMonthType": product.days_in_month,
        }
    )
