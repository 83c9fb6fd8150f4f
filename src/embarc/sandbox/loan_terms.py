"""The terms that products propose and loans agree on: read from a request, checked, written into an answer.

Names, options and codes are Fineract's (LoanProductDataValidator, LoanApplicationValidator).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from embarc.core.fields import Fields
from embarc.sandbox.amounts import number, read_amount
from embarc.sandbox.loan_tables import Agreed
from embarc.sandbox.schedule import ACTUAL

STRATEGIES = {"mifos-standard-strategy": "Penalties, Fees, Interest, Principal order"}
LONGEST = 1000
"""Instalments, and units of a period."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A field whose value is one of some numbers, each with Fineract's code and words for it."""

    name: str
    column: str
    options: Mapping[int, tuple[str, str]]

    def describe(self, value: int) -> dict[str, Any]:
        """The object that stands for the number in answers."""
        code, words = self.options[value]
        return {"id": value, "code": code, "value": words}


def _frequencies(prefix: str, words: tuple[str, ...]) -> dict[int, tuple[str, str]]:
    units = ("days", "weeks", "months", "years", "whole_term")
    return {place: (f"{prefix}.periodFrequencyType.{units[place]}", word) for place, word in enumerate(words)}


REPAYMENT_FREQUENCY = Choice(
    "repaymentFrequencyType",
    "repay_frequency",
    _frequencies("repaymentFrequency", ("Days", "Weeks", "Months", "Years")),
)
TERM_FREQUENCY = Choice(
    "loanTermFrequencyType",
    "repay_frequency",
    _frequencies("loanTermFrequency", ("Days", "Weeks", "Months", "Years")),
)
RATE_FREQUENCY = Choice(
    "interestRateFrequencyType",
    "rate_frequency",
    _frequencies("interestRateFrequency", ("Per day", "Per week", "Per month", "Per year", "Whole term")),
)
AMORTIZATION = Choice(
    "amortizationType",
    "amortization",
    {
        0: ("amortizationType.equal.principal", "Equal principal payments"),
        1: ("amortizationType.equal.installments", "Equal installments"),
    },
)
INTEREST_TYPE = Choice(
    "interestType",
    "interest_type",
    {0: ("interestType.declining.balance", "Declining Balance"), 1: ("interestType.flat", "Flat")},
)
INTEREST_PERIOD = Choice(
    "interestCalculationPeriodType",
    "interest_period",
    {
        0: ("interestCalculationPeriodType.daily", "Daily"),
        1: ("interestCalculationPeriodType.same.as.repayment.period", "Same as repayment period"),
    },
)
DAYS_IN_MONTH = Choice(
    "daysInMonthType",
    "days_in_month",
    {ACTUAL: ("DaysInMonthType.actual", "Actual"), 30: ("DaysInMonthType.days30", "30 Days")},
)
DAYS_IN_YEAR = Choice(
    "daysInYearType",
    "days_in_year",
    {
        ACTUAL: ("DaysInYearType.actual", "Actual"),
        360: ("DaysInYearType.days360", "360 Days"),
        364: ("DaysInYearType.days364", "364 Days"),
        365: ("DaysInYearType.days365", "365 Days"),
    },
)
AGREED = (REPAYMENT_FREQUENCY, AMORTIZATION, INTEREST_TYPE, INTEREST_PERIOD, RATE_FREQUENCY)
COUNTS = {"numberOfRepayments": "number_of_repayments", "repaymentEvery": "repay_every"}
TERM_FIELDS = (
    *(choice.name for choice in AGREED),
    *COUNTS,
    "interestRatePerPeriod",
    "principal",
    "transactionProcessingStrategyCode",
    "inArrearsTolerance",
)


def read_terms(fields: Fields, *, digits: int, required: bool) -> dict[str, Any]:
    """The terms that the request gives, by column; mistakes are noted. Where not `required`, any may be absent."""
    found: dict[str, Any] = {}
    for choice in AGREED:
        is_optional = choice is RATE_FREQUENCY and fields.resource == "loan"  # the product's holds
        found[choice.column] = read_choice(fields, choice, required=required and not is_optional)
    for name, column in COUNTS.items():
        found[column] = fields.integer(name, required=required, at_least=1, at_most=LONGEST)
    found["rate"] = read_amount(fields, "interestRatePerPeriod", required=required, zero=True)
    found["principal"] = read_amount(
        fields, "principal", required=required and fields.resource == "loan", digits=digits
    )
    found["tolerance"] = read_amount(fields, "inArrearsTolerance", digits=digits, zero=True)
    strategy = fields.text("transactionProcessingStrategyCode", required=required)
    if strategy is not None and strategy not in STRATEGIES:
        message = (
            f"The parameter `transactionProcessingStrategyCode` must be one of [ {', '.join(STRATEGIES)} ] ."
        )
        fields.fail(
            "transactionProcessingStrategyCode",
            "is.not.one.of.expected.enumerations",
            message,
            strategy[:100],
        )
    found["strategy"] = strategy
    return {column: value for column, value in found.items() if value is not None}


def read_choice(fields: Fields, choice: Choice, *, required: bool) -> int | None:
    """One of the choice's numbers; anything else is noted."""
    value = fields.integer(choice.name, required=required)
    if value is None or value in choice.options:
        return value
    options = ", ".join(map(str, choice.options))
    message = f"The parameter `{choice.name}` must be one of [ {options} ] ."
    fields.fail(choice.name, "is.not.one.of.expected.enumerations", message, value)
    return None


def check_limits(fields: Fields, limits: Mapping[str, str], values: Mapping[str, Decimal | int]) -> None:
    """Note which of the values are not within the product's limits."""
    for name, value in values.items():
        capital = name[0].upper() + name[1:]
        least, most = (
            Decimal(limits[key]) if (key := f"{end}{capital}") in limits else None for end in ("min", "max")
        )
        below, above = least is not None and value < least, most is not None and value > most
        if not (below or above):
            continue
        if least is not None and most is not None:
            rule, words = "amount.is.not.within.min.max.range", f"between {least} and {most}"
        else:
            rule = "is.less.than.min" if below else "is.greater.than.max"
            words = f"at least {least}" if below else f"at most {most}"
        fields.fail(name, rule, f"The parameter `{name}` must be {words}.", str(value))


def render_terms(agreed: Agreed) -> dict[str, Any]:
    """The terms as products and loans answer them."""
    return {
        "currency": currency(agreed),
        "numberOfRepayments": agreed.number_of_repayments,
        "repaymentEvery": agreed.repay_every,
        "interestRatePerPeriod": number(agreed.rate),
        "inArrearsTolerance": number(agreed.tolerance),
        "transactionProcessingStrategyCode": agreed.strategy,
        "transactionProcessingStrategyName": STRATEGIES[agreed.strategy],
        "isInterestRecalculationEnabled": False,
    } | {
        choice.name: choice.describe(getattr(agreed, choice.column))
        for choice in (*AGREED, DAYS_IN_MONTH, DAYS_IN_YEAR)
    }


def currency(agreed: Agreed) -> dict[str, Any]:
    """The currency object."""
    code = agreed.currency_code
    return {
        "code": code,
        "name": code,
        "decimalPlaces": agreed.digits,
        "nameCode": f"currency.{code}",
        "displayLabel": code,
    }
