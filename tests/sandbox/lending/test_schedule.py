"""Schedules: worked examples to the cent, and what holds for every one of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embarc.sandbox.schedule import (
    ACTUAL,
    Amortization,
    Frequency,
    Instalment,
    InterestPeriod,
    InterestType,
    Terms,
    TermTooLong,
    due_dates,
    foreclosed,
    schedule,
)

TERMS = Terms(
    principal=Decimal(10000),
    instalments=12,
    repay_every=1,
    repay_frequency=Frequency.MONTHS,
    term=12,
    rate=Decimal(2),
    rate_frequency=Frequency.MONTHS,
    amortization=Amortization.EQUAL_INSTALMENTS,
    interest_type=InterestType.DECLINING_BALANCE,
    interest_period=InterestPeriod.SAME_AS_REPAYMENT_PERIOD,
    days_in_year=365,
    days_in_month=30,
    digits=2,
)
DAY = date(2025, 1, 31)
EQUAL_PRINCIPAL = Amortization.EQUAL_PRINCIPAL


def parts(terms: Terms, day: date = DAY) -> list[tuple[Decimal, Decimal]]:
    return [(one.principal, one.interest) for one in schedule(terms, day)]


def money(*texts: str) -> list[Decimal]:
    return [Decimal(text) for text in texts]


def test_equal_instalments_are_those_of_the_annuity_formula() -> None:
    # 10,000 * 0.02 / (1 - 1.02 ** -12) = 945.5960
    found = parts(TERMS)

    assert [principal + interest for principal, interest in found[:-1]] == [Decimal("945.60")] * 11
    assert found[0] == (Decimal("745.60"), Decimal("200.00"))
    assert found[1] == (Decimal("760.51"), Decimal("185.09"))
    assert found[-1] == (Decimal("927.01"), Decimal("18.54"))


def test_equal_principal_has_falling_interest() -> None:
    terms = replace(
        TERMS, principal=Decimal(1200), instalments=4, term=4, rate=Decimal(1), amortization=EQUAL_PRINCIPAL
    )

    assert parts(terms) == [
        (Decimal(300), Decimal(12)),
        (Decimal(300), Decimal(9)),
        (Decimal(300), Decimal(6)),
        (Decimal(300), Decimal(3)),
    ]


def test_flat_interest_is_on_the_whole_principal_and_the_last_instalment_takes_the_cents() -> None:
    terms = replace(
        TERMS,
        principal=Decimal(1000),
        instalments=3,
        term=3,
        rate=Decimal(12),
        rate_frequency=Frequency.YEARS,
        interest_type=InterestType.FLAT,
    )

    assert parts(terms) == [
        (Decimal("333.33"), Decimal("10.00")),
        (Decimal("333.33"), Decimal("10.00")),
        (Decimal("333.34"), Decimal("10.00")),
    ]


def test_a_rate_for_the_whole_term_is_charged_once() -> None:
    terms = replace(
        TERMS,
        principal=Decimal(1000),
        instalments=5,
        term=5,
        rate=Decimal(10),
        rate_frequency=Frequency.WHOLE_TERM,
        interest_type=InterestType.FLAT,
    )

    assert [interest for _, interest in parts(terms)] == [Decimal(20)] * 5


def test_daily_interest_counts_the_days_of_each_month() -> None:
    # 0.1 % a day: 28 days on 1000, then 31 days on 500.
    terms = replace(
        TERMS,
        principal=Decimal(1000),
        instalments=2,
        term=2,
        rate=Decimal("36.5"),
        rate_frequency=Frequency.YEARS,
        amortization=EQUAL_PRINCIPAL,
        interest_period=InterestPeriod.DAILY,
        days_in_month=ACTUAL,
    )

    assert parts(terms) == [(Decimal(500), Decimal("28.00")), (Decimal(500), Decimal("15.50"))]


@pytest.mark.parametrize(
    ("days_in_year", "days_in_month", "interest"),
    [
        # 12 % a year on 1000 for February 2025, beginning on 31 January.
        (360, 30, "10.00"),
        (365, 30, "9.86"),
        (364, 30, "9.89"),
        (360, ACTUAL, "9.33"),
        (365, ACTUAL, "9.21"),
        (ACTUAL, ACTUAL, "9.21"),
    ],
)
def test_days_of_month_and_year_are_as_agreed(days_in_year: int, days_in_month: int, interest: str) -> None:
    terms = replace(
        TERMS,
        principal=Decimal(1000),
        rate=Decimal(12),
        rate_frequency=Frequency.YEARS,
        interest_period=InterestPeriod.DAILY,
        days_in_year=days_in_year,
        days_in_month=days_in_month,
    )

    assert parts(terms)[0][1] == Decimal(interest)


def test_an_actual_year_is_a_leap_year_where_it_is_one() -> None:
    terms = replace(
        TERMS,
        principal=Decimal(366),
        instalments=1,
        term=30,
        repay_every=30,
        repay_frequency=Frequency.DAYS,
        rate=Decimal(100),
        rate_frequency=Frequency.YEARS,
        interest_period=InterestPeriod.DAILY,
        days_in_year=ACTUAL,
        days_in_month=ACTUAL,
    )

    assert parts(terms, date(2024, 3, 1)) == [(Decimal(366), Decimal("30.00"))]
    assert parts(terms, date(2025, 3, 1)) == [(Decimal(366), Decimal("30.08"))]


@pytest.mark.parametrize("period", list(InterestPeriod))
def test_a_week_is_a_fifty_second_part_of_364_days(period: InterestPeriod) -> None:
    terms = replace(
        TERMS,
        principal=Decimal(100),
        instalments=2,
        term=2,
        repay_frequency=Frequency.WEEKS,
        rate=Decimal(52),
        rate_frequency=Frequency.YEARS,
        amortization=EQUAL_PRINCIPAL,
        interest_period=period,
        days_in_year=364,
    )

    assert parts(terms) == [(Decimal(50), Decimal("1.00")), (Decimal(50), Decimal("0.50"))]


def test_without_interest_the_principal_is_shared() -> None:
    terms = replace(TERMS, principal=Decimal(100), instalments=3, term=3, rate=Decimal(0))

    assert parts(terms) == [
        (Decimal("33.33"), Decimal(0)),
        (Decimal("33.33"), Decimal(0)),
        (Decimal("33.34"), Decimal(0)),
    ]


def test_a_currency_without_cents_has_none() -> None:
    terms = replace(TERMS, digits=0)

    assert all(amount == amount.to_integral_value() for part in parts(terms) for amount in part)


def test_equal_instalments_are_equal_also_where_months_are_not() -> None:
    terms = replace(
        TERMS,
        rate=Decimal(24),
        rate_frequency=Frequency.YEARS,
        interest_period=InterestPeriod.DAILY,
        days_in_month=ACTUAL,
    )

    totals = [principal + interest for principal, interest in parts(terms)]

    assert len(set(totals[:-1])) == 1
    assert abs(totals[-1] - totals[0]) <= Decimal("0.12")


@pytest.mark.parametrize(
    ("frequency", "every", "start", "due"),
    [
        (Frequency.MONTHS, 1, date(2025, 1, 31), [date(2025, 2, 28), date(2025, 3, 31), date(2025, 4, 30)]),
        (Frequency.MONTHS, 1, date(2024, 1, 30), [date(2024, 2, 29), date(2024, 3, 30), date(2024, 4, 30)]),
        (Frequency.MONTHS, 6, date(2025, 8, 31), [date(2026, 2, 28), date(2026, 8, 31), date(2027, 2, 28)]),
        (Frequency.YEARS, 2, date(2024, 2, 29), [date(2026, 2, 28), date(2028, 2, 29), date(2030, 2, 28)]),
        (Frequency.WEEKS, 2, date(2025, 12, 24), [date(2026, 1, 7), date(2026, 1, 21), date(2026, 2, 4)]),
        (Frequency.DAYS, 10, date(2025, 2, 20), [date(2025, 3, 2), date(2025, 3, 12), date(2025, 3, 22)]),
    ],
)
def test_due_dates_keep_to_the_day_of_the_first(
    frequency: Frequency, every: int, start: date, due: list[date]
) -> None:
    terms = replace(TERMS, instalments=3, repay_every=every, repay_frequency=frequency)

    assert due_dates(terms, start) == due


def test_a_first_due_date_sets_the_others() -> None:
    terms = replace(TERMS, instalments=2, first_due_on=date(2025, 3, 31))

    found = schedule(terms, DAY)

    assert [one.due_date for one in found] == [date(2025, 3, 31), date(2025, 4, 30)]
    assert found[0].from_date == DAY


@pytest.mark.parametrize("frequency", [Frequency.DAYS, Frequency.WEEKS, Frequency.MONTHS, Frequency.YEARS])
def test_a_term_beyond_the_calendar_is_told(frequency: Frequency) -> None:
    terms = replace(TERMS, instalments=1000, repay_every=10_000, repay_frequency=frequency)

    with pytest.raises(TermTooLong):
        due_dates(terms, DAY)


def test_foreclosure_asks_for_the_interest_of_the_days_that_passed() -> None:
    terms = replace(
        TERMS, principal=Decimal(1200), instalments=4, term=4, rate=Decimal(1), amortization=EQUAL_PRINCIPAL
    )
    planned = schedule(terms, date(2025, 1, 1))  # due on the first of February to May

    # 14 of February's 28 days: half of 9.
    closed = foreclosed(planned, date(2025, 2, 15), 2)

    assert closed[0] == planned[0]
    assert closed[1:] == (
        Instalment(
            number=2,
            from_date=date(2025, 2, 1),
            due_date=date(2025, 2, 15),
            principal=Decimal(900),
            interest=Decimal("4.50"),
        ),
    )


def test_foreclosure_after_the_last_instalment_changes_nothing() -> None:
    planned = schedule(TERMS, DAY)

    assert foreclosed(planned, date(2030, 1, 1), 2) == planned


terms_of_any_kind = st.builds(
    Terms,
    principal=st.decimals(min_value="0.01", max_value="9999999999", places=2),
    instalments=st.integers(1, 80),
    repay_every=st.integers(1, 14),
    repay_frequency=st.sampled_from([Frequency.DAYS, Frequency.WEEKS, Frequency.MONTHS, Frequency.YEARS]),
    term=st.integers(80 * 14, 2000),
    rate=st.decimals(min_value=0, max_value=200, places=4),
    rate_frequency=st.sampled_from(Frequency),
    amortization=st.sampled_from(Amortization),
    interest_type=st.sampled_from(InterestType),
    interest_period=st.sampled_from(InterestPeriod),
    days_in_year=st.sampled_from([ACTUAL, 360, 364, 365]),
    days_in_month=st.sampled_from([ACTUAL, 30]),
    digits=st.integers(0, 3),
)
days = st.dates(min_value=date(1990, 1, 1), max_value=date(2100, 1, 1))


@given(terms_of_any_kind, days)
def test_what_was_lent_comes_back_to_the_last_cent_and_never_more(terms: Terms, day: date) -> None:
    lent = round(terms.principal, terms.digits)
    found = schedule(terms, day)
    outstanding = lent

    assert sum(one.principal for one in found) == lent
    for one in found:
        assert one.principal >= 0
        assert one.interest >= 0
        outstanding -= one.principal
        assert outstanding >= 0
    assert outstanding == 0


@given(terms_of_any_kind, days)
def test_periods_follow_one_another_without_gap(terms: Terms, day: date) -> None:
    found = schedule(terms, day)

    assert found[0].from_date == day
    assert [one.number for one in found] == list(range(1, terms.instalments + 1))
    assert all(one.from_date < one.due_date for one in found)
    assert all(earlier.due_date == later.from_date for earlier, later in pairwise(found))


@given(
    st.decimals(min_value=1000, max_value=10_000_000, places=2),
    st.integers(2, 60),
    st.decimals(min_value=0, max_value=5, places=3),
    st.sampled_from(InterestPeriod),
    days,
)
def test_equal_instalments_differ_in_the_last_by_rounding_only(
    principal: Decimal, count: int, rate: Decimal, period: InterestPeriod, day: date
) -> None:
    terms = replace(
        TERMS,
        principal=principal,
        instalments=count,
        term=count,
        rate=rate,
        interest_period=period,
        days_in_month=ACTUAL,
    )

    found = schedule(terms, day)
    totals = [one.principal + one.interest for one in found]

    assert len(set(totals[:-1])) == 1
    # One cent at most goes astray in each period, and bears interest until the end.
    astray = sum(Decimal("0.01") * (1 + Decimal("0.052")) ** number for number in range(count))
    assert abs(totals[-1] - totals[0]) <= astray


@given(terms_of_any_kind, days)
def test_on_a_falling_balance_interest_falls_and_the_principal_of_equal_instalments_rises(
    terms: Terms, day: date
) -> None:
    terms = replace(
        terms,
        interest_type=InterestType.DECLINING_BALANCE,
        interest_period=InterestPeriod.SAME_AS_REPAYMENT_PERIOD,
        amortization=Amortization.EQUAL_INSTALMENTS,
    )

    found = schedule(terms, day)[:-1]
    left = round(terms.principal, terms.digits)

    for earlier, later in pairwise(found):
        left -= earlier.principal
        assert earlier.interest >= later.interest
        assert earlier.principal <= later.principal or later.principal == left


@given(terms_of_any_kind, days, st.integers(0, 3000))
def test_foreclosure_keeps_the_principal_and_never_asks_for_more_interest(
    terms: Terms, day: date, after: int
) -> None:
    planned = schedule(terms, day)
    on = date.fromordinal(day.toordinal() + after)

    closed = foreclosed(planned, on, terms.digits)

    assert sum(one.principal for one in closed) == sum(one.principal for one in planned)
    assert sum(one.interest for one in closed) <= sum(one.interest for one in planned)
    assert closed[-1].due_date <= max(on, planned[-1].due_date)
    assert on >= planned[-1].due_date or closed[-1].due_date == on
