"""Who gets how much, and in what order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from embarc.core.deliveries import SHARES, Claim, Traffic
from embarc.core.events import EventKind
from embarc.core.fairness import ClaimQueue, Turns, divided


def claim(number: int, traffic: Traffic) -> Claim:
    return Claim(
        tenant="default",
        event_key=number.to_bytes(16, "big"),
        hook_id=1,
        lease_token=1,
        attempts=0,
        failures=0,
        traffic=traffic,
        kind=EventKind("CLIENT", "CREATE"),
        payload=b"{}",
    )


@given(
    total=st.integers(0, 500),
    wanted=st.dictionaries(st.integers(0, 20), st.integers(0, 200), max_size=12),
)
def test_what_is_there_is_given_out_and_nobody_gets_more_than_wanted(
    total: int, wanted: dict[int, int]
) -> None:
    given_out = divided(total, wanted)

    assert all(0 <= given_out[key] <= wanted[key] for key in wanted)
    assert sum(given_out.values()) == min(total, sum(wanted.values()))


@given(total=st.integers(1, 500), wanted=st.lists(st.integers(1, 200), min_size=1, max_size=12))
def test_nobody_who_is_short_has_less_than_another_one_by_more_than_one(
    total: int, wanted: list[int]
) -> None:
    given_out = divided(total, dict(enumerate(wanted)))

    short = [given_out[key] for key, amount in enumerate(wanted) if given_out[key] < amount]
    assert all(given_out[key] <= min(short, default=10**9) + 1 for key in given_out)


def test_weights_divide_what_all_of_them_want() -> None:
    assert divided(100, dict.fromkeys(Traffic, 1000), SHARES) == {
        Traffic.LIVE: 60,
        Traffic.RETRY: 20,
        Traffic.REPLAY: 20,
    }


def test_tenants_take_turns_however_many_hooks_they_have() -> None:
    turns: Turns[str] = Turns()
    for name in ("a1", "a2", "a3", "a4"):
        turns.add("a", name)
    turns.add("b", "b1")
    turns.add("a", "a1")  # stands in line already

    order = [turns.next() for _ in range(len(turns))]

    assert order == ["a1", "b1", "a2", "a3", "a4"]


def test_a_lane_serves_its_classes_by_their_shares_and_each_in_its_order() -> None:
    queue = ClaimQueue()
    for number in range(30):
        queue.append(claim(number, Traffic(number % 3)))

    first = [queue.popleft() for _ in range(10)]
    rest = [queue.popleft() for _ in range(len(queue))]

    assert [sum(one.traffic is traffic for one in first) for traffic in Traffic] == [6, 2, 2]
    for traffic in Traffic:
        keys = [one.event_key for one in first + rest if one.traffic is traffic]
        assert keys == sorted(keys)
    assert len(first + rest) == 30


def test_a_class_that_is_alone_has_everything() -> None:
    queue = ClaimQueue()
    for number in range(5):
        queue.append(claim(number, Traffic.REPLAY))

    assert [queue.popleft().event_key[-1] for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(queue) == 0
