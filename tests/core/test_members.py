"""Which process works for which hooks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from embarc.core.members import (
    COUNTER_BITS,
    NUMBER_BITS,
    SEGMENTS,
    Member,
    segment_of,
    tokens_of,
    wanted_segments,
)

NUMBERS = st.sets(st.integers(0, (1 << NUMBER_BITS) - 1), min_size=1, max_size=12)


def members(numbers: set[int]) -> list[Member]:
    return [Member(number=number, name=str(number)) for number in numbers]


@given(NUMBERS)
def test_every_segment_is_wanted_by_exactly_one_member(numbers: set[int]) -> None:
    wanted = [wanted_segments(number, members(numbers)) for number in numbers]

    assert sorted(segment for one in wanted for segment in one) == list(range(SEGMENTS))


@given(NUMBERS, st.integers(0, (1 << NUMBER_BITS) - 1))
def test_a_member_that_comes_takes_segments_and_moves_none_between_others(
    numbers: set[int], newcomer: int
) -> None:
    for number in numbers - {newcomer}:
        before = wanted_segments(number, members(numbers - {newcomer}))
        after = wanted_segments(number, members(numbers | {newcomer}))

        assert after <= before


def test_four_members_share_the_hooks_fairly_enough() -> None:
    alive = members({11, 22, 33, 44})

    shares = [len(wanted_segments(one.number, alive)) for one in alive]

    assert max(shares) < 1.5 * SEGMENTS / 4


def test_a_member_that_does_not_dispatch_gets_nothing() -> None:
    alive = [Member(number=1, name="api", dispatches=False), Member(number=2, name="worker")]

    assert wanted_segments(1, alive) == frozenset()
    assert wanted_segments(2, alive) == frozenset(range(SEGMENTS))


@given(st.integers(1, 1 << 62))
def test_a_hook_has_one_segment(hook_id: int) -> None:
    assert 0 <= segment_of(hook_id) < SEGMENTS


def test_tokens_of_two_members_do_not_meet_and_fit_a_signed_64_bit_column() -> None:
    first, beyond = tokens_of((1 << NUMBER_BITS) - 1)

    assert tokens_of(5)[1] <= tokens_of(6)[0]
    assert beyond - first == 1 << COUNTER_BITS
    assert beyond <= 1 << 63
