"""Repayment schedules: how a loan is paid back, to the last cent. Plain values in, plain values out.

The rules that hold for every schedule:

* the principal of all instalments is exactly what was disbursed, and what is outstanding never is negative;
* amounts are rounded half to even, as Fineract rounds; the last instalment takes up what rounding left;
* an instalment's interest is on what was outstanding in its period (declining balance), or an equal share of the
  interest of the whole term (flat);
* equal instalments are equal for all periods but the last, also where periods have different lengths: the instalment
  is that of the annuity over the periods' own rates, which is the usual formula where all of them are the same.

Numbers of the options are Fineract's (LoanProductDataValidator, `PeriodFrequencyType`, `AmortizationMethod`).
"""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from enum import IntEnum

ACTUAL = 1
"""Of `days_in_year` and `days_in_month`: what the calendar says."""
PRECISION = 50
"""Digits while calculating; amounts are rounded once, at their end."""
ZERO = Decimal(0)


class TermTooLong(ValueError):
    """The last instalment would be due after the year 9999."""


class Frequency(IntEnum):
    """The unit of a period."""

    DAYS = 0
    WEEKS = 1
    MONTHS = 2
    YEARS = 3
    WHOLE_TERM = 4
    """Of a rate only: the rate is for the whole term."""


class Amortization(IntEnum):
    """What is equal in all instalments."""

    EQUAL_PRINCIPAL = 0
    EQUAL_INSTALMENTS = 1


class InterestType(IntEnum):
    """What interest is reckoned on."""

    DECLINING_BALANCE = 0
    FLAT = 1


class InterestPeriod(IntEnum):
    """How long a period is for its interest."""

    DAILY = 0
    SAME_AS_REPAYMENT_PERIOD = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What lender and borrower agree on. `rate` is in percent per `rate_frequency`."""

    principal: Decimal
    instalments: int
    repay_every: int
    repay_frequency: Frequency
    term: int
    """Of the whole loan, in units of `repay_frequency`."""
    rate: Decimal
    rate_frequency: Frequency
    amortization: Amortization
    interest_type: InterestType
    interest_period: InterestPeriod
    days_in_year: int
    """360, 364, 365 or `ACTUAL`."""
    days_in_month: int
    """30 or `ACTUAL`."""
    digits: int
    """After the decimal point of the currency."""
    first_due_on: date | None = None
    """One period after disbursement where it is None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instalment:
    """One payment that is due."""

    number: int
    from_date: date
    due_date: date
    principal: Decimal
    interest: Decimal

    @property
    def days(self) -> int:
        """Of its period, by the calendar."""
        return (self.due_date - self.from_date).days


def schedule(terms: Terms, disbursed_on: date) -> tuple[Instalment, ...]:
    """The instalments of a loan whose principal is paid out on this day; raises `TermTooLong` beyond the year 9999."""
    days = due_dates(terms, disbursed_on)
    periods = list(zip([disbursed_on, *days[:-1]], days, strict=True))
    with localcontext() as context:
        context.prec = PRECISION
        if terms.interest_type is InterestType.FLAT:
            parts = _flat(terms, periods)
        else:
            parts = _declining(terms, [_rate_of(terms, *period) for period in periods])
    return tuple(
        Instalment(number=number, from_date=start, due_date=end, principal=principal, interest=interest)
        for number, ((start, end), (principal, interest)) in enumerate(zip(periods, parts, strict=True), 1)
    )


def due_dates(terms: Terms, disbursed_on: date) -> list[date]:
    """When the instalments are due; raises `TermTooLong` beyond the year 9999.

    Every date is reckoned from the first one, so that a loan paid on the 31st is due on the last day of a short
    month and on the 31st again afterwards.
    """
    first, start = (disbursed_on, 1) if terms.first_due_on is None else (terms.first_due_on, 0)
    try:
        return [
            _later(first, terms.repay_frequency, terms.repay_every * count)
            for count in range(start, start + terms.instalments)
        ]
    except OverflowError as error:
        raise TermTooLong(TermTooLong.__doc__) from error


def foreclosed(instalments: Sequence[Instalment], on: date, digits: int) -> tuple[Instalment, ...]:
    """The schedule of a loan that is paid back as a whole on this day.

    What was due stays; of the running period interest is due for the days that have passed; all principal that is
    left is due on the day. Interest of the days to come is not.
    """
    kept = [one for one in instalments if one.due_date <= on]
    rest = instalments[len(kept) :]
    if not rest:
        return tuple(instalments)
    running = rest[0]
    passed = max((on - running.from_date).days, 0)
    with localcontext() as context:
        context.prec = PRECISION
        interest = rounded(running.interest * passed / max(running.days, 1), digits)
    principal = sum((one.principal for one in rest), ZERO)
    last = replace(running, due_date=max(on, running.from_date), principal=principal, interest=interest)
    return (*kept, last)


def rounded(amount: Decimal, digits: int) -> Decimal:
    """The amount in whole units of the currency's smallest coin, half to even."""
    return amount.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_EVEN)


def _declining(terms: Terms, rates: Sequence[Decimal]) -> list[tuple[Decimal, Decimal]]:
    """Principal and interest of each period, interest on what is outstanding."""
    outstanding = rounded(terms.principal, terms.digits)
    instalment = rounded(_annuity(outstanding, rates), terms.digits)
    share = rounded(outstanding / terms.instalments, terms.digits)
    parts = []
    for number, rate in enumerate(rates, 1):
        interest = rounded(outstanding * rate, terms.digits)
        if number == terms.instalments:
            principal = outstanding
        elif terms.amortization is Amortization.EQUAL_PRINCIPAL:
            principal = min(share, outstanding)
        else:
            principal = min(max(instalment - interest, ZERO), outstanding)
        parts.append((principal, interest))
        outstanding -= principal
    return parts


def _annuity(principal: Decimal, rates: Sequence[Decimal]) -> Decimal:
    """The payment that, made at the end of each period, pays the principal off: principal / sum of discounts."""
    discount, total = Decimal(1), ZERO
    for rate in rates:
        discount /= 1 + rate
        total += discount
    return principal / total


def _flat(terms: Terms, periods: Sequence[tuple[date, date]]) -> list[tuple[Decimal, Decimal]]:
    """Equal shares of the principal, and of the interest that the whole principal bears over the whole term."""
    if terms.interest_period is InterestPeriod.DAILY:
        factor = sum((_rate_of(terms, *period) for period in periods), ZERO)
    else:
        factor = _annual_rate(terms) * terms.term / _periods_a_year(terms.repay_frequency, terms)
    principals = _shares(rounded(terms.principal, terms.digits), terms)
    interests = _shares(rounded(terms.principal * factor, terms.digits), terms)
    return list(zip(principals, interests, strict=True))


def _shares(total: Decimal, terms: Terms) -> list[Decimal]:
    share, left, shares = rounded(total / terms.instalments, terms.digits), total, []
    for _ in range(terms.instalments - 1):
        shares.append(min(share, left))
        left -= shares[-1]
    return [*shares, left]


def _rate_of(terms: Terms, start: date, end: date) -> Decimal:
    """What one unit of principal bears in this period."""
    annual = _annual_rate(terms)
    every = Decimal(terms.repay_every)
    if terms.interest_period is InterestPeriod.SAME_AS_REPAYMENT_PERIOD:
        return annual * every / _periods_a_year(terms.repay_frequency, terms)
    days = Decimal((end - start).days)
    if terms.repay_frequency is Frequency.MONTHS and terms.days_in_month != ACTUAL:
        days = every * terms.days_in_month
    elif terms.repay_frequency is Frequency.YEARS and terms.days_in_year != ACTUAL:
        days = every * terms.days_in_year
    return annual * days / _days_of_year(terms, start)


def _days_of_year(terms: Terms, start: date) -> int:
    """The length of the year that the period begins in."""
    if terms.days_in_year != ACTUAL:
        return terms.days_in_year
    return 366 if calendar.isleap(start.year) else 365


def _annual_rate(terms: Terms) -> Decimal:
    """As a fraction, not in percent."""
    if terms.rate_frequency is Frequency.WHOLE_TERM:
        return terms.rate / 100 * _periods_a_year(terms.repay_frequency, terms) / terms.term
    return terms.rate / 100 * _periods_a_year(terms.rate_frequency, terms)


def _periods_a_year(frequency: Frequency, terms: Terms) -> int:
    in_days = 365 if terms.days_in_year == ACTUAL else terms.days_in_year
    return {Frequency.DAYS: in_days, Frequency.WEEKS: 52, Frequency.MONTHS: 12}.get(frequency, 1)


def _later(day: date, frequency: Frequency, count: int) -> date:
    if frequency is Frequency.DAYS:
        return day + timedelta(days=count)
    if frequency is Frequency.WEEKS:
        return day + timedelta(weeks=count)
    months = day.month - 1 + count * (12 if frequency is Frequency.YEARS else 1)
    year, month = day.year + months // 12, months % 12 + 1
    if year > date.max.year:
        raise OverflowError
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))
