"""Who gets a payment first, and that no cent appears or disappears on the way."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from embarc.sandbox.allocation import Applied, Book, Item, Kind, Movement, Part, replay

FIRST, SECOND = date(2026, 2, 15), date(2026, 3, 15)
FEE, PENALTY = 7, 8


def item(instalment: int, part: Part, amount: int, charge_id: int | None = None) -> Item:
    due_on = FIRST if instalment == 1 else SECOND
    return Item(instalment=instalment, part=part, due_on=due_on, amount=Decimal(amount), charge_id=charge_id)


ITEMS = [
    item(1, Part.PRINCIPAL, 100),
    item(1, Part.INTEREST, 10),
    item(1, Part.FEE, 5, FEE),
    item(1, Part.PENALTY, 3, PENALTY),
    item(2, Part.PRINCIPAL, 100),
    item(2, Part.INTEREST, 6),
]
OWED = Decimal(224)


def moved(
    number: int, kind: Kind, amount: object, on: date = FIRST, charge_id: int | None = None
) -> Movement:
    return Movement(id=number, on=on, kind=kind, amount=Decimal(str(amount)), charge_id=charge_id)


def portions(applied: Applied) -> list[int]:
    return [int(applied.parts[part]) for part in Part]


def test_a_payment_goes_to_penalties_fees_interest_and_principal_of_one_instalment_after_the_other() -> None:
    book = replay(
        ITEMS,
        [
            moved(1, Kind.REPAYMENT, 2),
            moved(2, Kind.REPAYMENT, 10),
            moved(3, Kind.REPAYMENT, 110),
            moved(4, Kind.REPAYMENT, 102),
        ],
    )

    assert portions(book.applied[1]) == [2, 0, 0, 0]
    assert portions(book.applied[2]) == [1, 5, 4, 0]
    assert portions(book.applied[3]) == [0, 0, 10, 100]
    assert portions(book.applied[4]) == [0, 0, 2, 100]
    assert book.outstanding() == 0
    assert book.overpaid == 0


def test_what_is_left_over_is_overpaid_and_can_be_refunded() -> None:
    book = replay(ITEMS, [moved(1, Kind.REPAYMENT, OWED + 20), moved(2, Kind.CREDIT_BALANCE_REFUND, 15)])

    assert book.applied[1].overpaid == 20
    assert book.applied[2].overpaid == -15
    assert book.overpaid == 5


def test_one_overpayment_adds_to_the_other() -> None:
    book = replay(ITEMS, [moved(number, Kind.REPAYMENT, OWED) for number in (1, 2, 3)])

    assert book.overpaid == 2 * OWED


def test_a_refund_of_what_turned_out_not_to_be_overpaid_is_money_lent() -> None:
    book = replay(ITEMS, [moved(2, Kind.CREDIT_BALANCE_REFUND, 15)])

    assert book.overpaid == 0
    assert book.outstanding(Part.PRINCIPAL) == 215


def test_a_charge_is_paid_and_waived_for_itself() -> None:
    paid = replay(ITEMS, [moved(1, Kind.CHARGE_PAYMENT, 4, charge_id=FEE)])
    waived = replay(ITEMS, [moved(1, Kind.WAIVE_CHARGES, 3, charge_id=PENALTY)])

    assert portions(paid.applied[1]) == [0, 4, 0, 0]
    assert waived.outstanding(Part.PENALTY) == 0
    assert waived.outstanding() == OWED - 3


def test_money_for_a_charge_that_an_earlier_payment_has_paid_pays_the_loan() -> None:
    book = replay(
        ITEMS,
        [
            moved(1, Kind.CHARGE_PAYMENT, 5, SECOND, charge_id=FEE),
            moved(2, Kind.REPAYMENT, 8, FIRST),  # came in earlier, was entered later
        ],
    )

    assert portions(book.applied[1]) == [0, 0, 5, 0]


def test_interest_is_waived_from_the_first_instalment_on_and_principal_is_not() -> None:
    book = replay(ITEMS, [moved(1, Kind.WAIVE_INTEREST, 12)])

    assert book.outstanding(Part.INTEREST) == 4
    assert book.outstanding(Part.PRINCIPAL) == 200


def test_a_write_off_leaves_nothing_and_a_recovery_is_counted_beside_it() -> None:
    book = replay(ITEMS, [moved(1, Kind.WRITE_OFF, OWED), moved(2, Kind.RECOVERY_REPAYMENT, 50)])

    assert book.outstanding() == 0
    assert sum(one.written_off for one in book.standings) == OWED
    assert book.recovered == 50


def test_early_and_late_are_told_apart() -> None:
    book = replay(
        ITEMS,
        [
            moved(1, Kind.REPAYMENT, 20, FIRST - timedelta(1)),
            moved(2, Kind.REPAYMENT, 30, FIRST),
            moved(3, Kind.REPAYMENT, 40, FIRST + timedelta(1)),
        ],
    )

    assert sum(one.paid_early for one in book.standings) == 20
    assert sum(one.paid_late for one in book.standings) == 40


items = st.lists(
    st.builds(
        Item,
        instalment=st.integers(1, 5),
        part=st.sampled_from(Part),
        due_on=st.just(FIRST),
        amount=st.decimals(0, 1000, places=2),
        charge_id=st.sampled_from([None, FEE, PENALTY]),
    ),
    min_size=1,
    max_size=12,
)
kinds = st.sampled_from([kind for kind in Kind if kind is not Kind.CREDIT_BALANCE_REFUND])


def histories(which: st.SearchStrategy[Kind]) -> st.SearchStrategy[list[Movement]]:
    return st.lists(
        st.builds(
            Movement,
            id=st.integers(1, 1000),
            on=st.dates(date(2026, 1, 1), date(2026, 12, 31)),
            kind=which,
            amount=st.decimals("0.01", 2000, places=2),
            charge_id=st.sampled_from([FEE, PENALTY]),
        ),
        max_size=12,
        unique_by=lambda one: one.id,
    )


@given(items, histories(kinds))
def test_no_cent_appears_or_disappears(owed: list[Item], history: list[Movement]) -> None:
    book = replay(owed, history)
    paid_in = sum(one.amount for one in history if one.kind in (Kind.REPAYMENT, Kind.CHARGE_PAYMENT))
    settled = sum(one.paid + one.waived + one.written_off for one in book.standings)

    assert sum(one.paid for one in book.standings) + book.overpaid == paid_in
    assert book.outstanding() == sum(one.amount for one in owed) - settled
    for standing in book.standings:
        assert standing.outstanding >= 0
        assert min(standing.paid, standing.waived, standing.written_off) >= 0
    for movement in history:
        if movement.kind in (Kind.REPAYMENT, Kind.CHARGE_PAYMENT):
            assert book.applied[movement.id].total == movement.amount
        else:
            assert book.applied[movement.id].total <= movement.amount


@given(items, histories(st.just(Kind.REPAYMENT)))
def test_nothing_is_overpaid_while_something_is_owed(owed: list[Item], history: list[Movement]) -> None:
    book = replay(owed, history)

    assert book.overpaid == 0 or book.outstanding() == 0
    assert sum(one.paid for one in book.standings) + book.overpaid == sum(one.amount for one in history)


def shown(book: Book) -> tuple[object, ...]:
    return tuple(book.standings), book.overpaid, book.recovered, dict(book.applied)


@given(items, histories(kinds), st.randoms(use_true_random=False))
def test_the_order_of_entering_does_not_matter_only_that_of_happening(
    owed: list[Item], history: list[Movement], random: object
) -> None:
    shuffled = list(history)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # Hypothesis gives a random.Random under another name

    assert shown(replay(owed, shuffled)) == shown(replay(owed, history))
