"""Rate limit, adaptive concurrency, breaker: each as plain numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embarc.core.attempts import Outcome, Result
from embarc.core.pacing import Breaker, BreakerState, RateLimit, SlowStart, adapted

OK = Outcome(result=Result.STATUS, status=200)


@given(
    rate=st.floats(0.5, 500),
    waits=st.lists(st.floats(0, 0.5), min_size=1, max_size=200),
)
def test_no_window_of_ten_seconds_has_more_than_its_rate(rate: float, waits: list[float]) -> None:
    now, limit, gone = 0.0, RateLimit(rate, 0.0), []
    for wait in waits:
        now += wait
        now += limit.delay(now)
        limit.take(now)
        gone.append(now)

    for start in gone:
        inside = sum(start <= moment < start + 10 for moment in gone)
        assert inside <= rate * 10 * 1.01 + 1 + 1e-6


def test_a_busy_endpoint_gets_its_whole_rate() -> None:
    now, limit = 0.0, RateLimit(50, 0.0)
    count = 0
    while now < 10:
        now += limit.delay(now)
        limit.take(now)
        count += 1

    assert 500 <= count <= 507


def test_a_restart_begins_without_a_burst() -> None:
    limit = RateLimit(10, 100.0)
    limit.take(100.0)

    assert limit.delay(100.0) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (OK, 9),
        (Outcome(result=Result.STATUS, status=500), 8),
        (Outcome(result=Result.STATUS, status=429), 4),
        (Outcome(result=Result.STATUS, status=503), 4),
        (Outcome(result=Result.TIMEOUT), 4),
        (Outcome(result=Result.REFUSED), 4),
        (Outcome(result=Result.TLS), 8),
    ],
)
def test_concurrency_halves_on_overload_and_grows_by_one_on_success(outcome: Outcome, expected: int) -> None:
    assert adapted(8, 16, outcome) == expected


def test_concurrency_stays_between_one_and_its_ceiling() -> None:
    assert adapted(1, 16, Outcome(result=Result.TIMEOUT)) == 1
    assert adapted(16, 16, OK) == 16
    assert adapted(16, 4, Outcome(result=Result.STATUS, status=500)) == 4


def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(5):
        breaker.record(success=False, now=at, chance=0)
    return breaker


def test_five_failures_in_a_row_open_it() -> None:
    breaker = Breaker()

    states = [breaker.record(success=False, now=0, chance=0) for _ in range(5)]

    assert states == [BreakerState.CLOSED] * 4 + [BreakerState.OPEN]
    assert breaker.pause(0) == 30
    assert breaker.pause(29) == 1
    assert breaker.pause(30) == 0


def test_a_success_in_between_keeps_it_closed() -> None:
    breaker = Breaker()

    for _ in range(3):
        for success in (False, False, False, False, True):
            breaker.record(success=success, now=0, chance=0)

    assert breaker.state is BreakerState.CLOSED


def test_seventy_per_cent_of_twenty_open_it() -> None:
    breaker = Breaker()

    for success in [True, False, False, False] * 5:
        breaker.record(success=success, now=0, chance=0)

    assert breaker.state is BreakerState.OPEN


def test_failures_of_long_ago_do_not_count() -> None:
    breaker = Breaker()
    for success in [True, False, False, False] * 4:
        breaker.record(success=success, now=0, chance=0)

    for success in [True, False, False, False]:
        breaker.record(success=success, now=331, chance=0)

    assert breaker.state is BreakerState.CLOSED


def test_a_probe_that_succeeds_closes_it_and_one_that_fails_doubles_the_pause() -> None:
    breaker = opened()
    pauses = []
    for _ in range(7):
        breaker.probing()
        breaker.record(success=False, now=1000, chance=0)
        pauses.append(breaker.pause(1000))
    breaker.probing()

    assert pauses == [60, 120, 240, 480, 900, 900, 900]
    assert breaker.record(success=True, now=2000, chance=0) is BreakerState.CLOSED
    assert breaker.pause(2000) == 0
    assert opened().pause(0) == 30


def test_what_was_in_flight_when_it_opened_does_not_prolong_the_pause() -> None:
    breaker = opened()

    breaker.record(success=False, now=10, chance=0)

    assert breaker.pause(10) == 20


def test_what_comes_back_is_sent_to_slowly_at_first_and_freely_in_the_end() -> None:
    now, start = 0.0, SlowStart(0.0)
    gone: list[float] = []
    while now < 60 and len(gone) < 20_000:
        now += start.delay(now)
        start.take(now)
        gone.append(now)
        now += 0.0001

    def within(first: float, last: float) -> int:
        return sum(first <= moment < last for moment in gone)

    assert within(0, 5) <= 52
    assert within(5, 10) <= 102
    assert within(20, 25) <= 802
    assert start.is_over(40.0)
    assert start.delay(41.0) == 0


def test_a_distrusted_breaker_begins_with_a_probe() -> None:
    breaker = Breaker()
    breaker.distrust(100.0)

    assert breaker.is_failing
    assert breaker.pause(100.0) == 0
    assert breaker.record(success=True, now=100.0, chance=0.5) is BreakerState.CLOSED
    assert not breaker.is_failing
