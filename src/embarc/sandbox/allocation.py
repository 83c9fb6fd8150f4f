"""Who gets a payment first. Plain values in, plain values out.

What a loan owes is a list of `Item`s. `replay` lets all money movements that a loan has seen pass over them, from the
first day on, and answers with a `Book`. Nothing of a book is stored: after a reversal the same list without the reversed
movement is replayed, and what it had done is gone, also from every payment after it.

The order is that of Fineract's `mifos-standard-strategy`: instalment by instalment, in each of them penalties, fees,
interest, principal. What is left over after the last item is overpaid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from enum import IntEnum

ZERO = Decimal(0)


class Part(IntEnum):
    """What an amount is for, in the order in which it is paid."""

    PENALTY = 0
    FEE = 1
    INTEREST = 2
    PRINCIPAL = 3


class Kind(IntEnum):
    """What a movement does. Numbers are Fineract's (LoanTransactionType)."""

    DISBURSEMENT = 1
    REPAYMENT = 2
    WAIVE_INTEREST = 4
    WRITE_OFF = 6
    RECOVERY_REPAYMENT = 8
    WAIVE_CHARGES = 9
    CHARGE_PAYMENT = 17
    CREDIT_BALANCE_REFUND = 20
    CHARGE_OFF = 27


PAYMENTS = frozenset({Kind.REPAYMENT, Kind.CHARGE_PAYMENT})
"""Money that comes in and is allocated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An amount that is due with an instalment."""

    instalment: int
    part: Part
    due_on: date
    amount: Decimal
    charge_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """Something that happened to the loan's balance."""

    id: int
    on: date
    kind: Kind
    amount: Decimal
    charge_id: int | None = None
    """Of a charge's payment or waiver."""


@dataclass(slots=True, kw_only=True)
class Standing:
    """How an item stands."""

    item: Item
    paid: Decimal = ZERO
    paid_early: Decimal = ZERO
    paid_late: Decimal = ZERO
    waived: Decimal = ZERO
    written_off: Decimal = ZERO
    settled_on: date | None = None
    """The day on which nothing of it was left."""

    @property
    def outstanding(self) -> Decimal:
        """What is still to be paid."""
        return self.item.amount - self.paid - self.waived - self.written_off


@dataclass(slots=True, kw_only=True)
class Applied:
    """What became of one movement."""

    parts: dict[Part, Decimal] = field(default_factory=lambda: dict.fromkeys(Part, ZERO))
    overpaid: Decimal = ZERO
    """What exceeded everything that was owed."""
    principal_after: Decimal = ZERO
    """Outstanding principal afterwards."""

    @property
    def total(self) -> Decimal:
        """Of the movement, as far as it had an effect."""
        return sum(self.parts.values(), self.overpaid)


@dataclass(slots=True, kw_only=True)
class Book:
    """A loan's account after all movements."""

    standings: Sequence[Standing]
    applied: Mapping[int, Applied]
    overpaid: Decimal
    """What the lender owes the borrower."""
    recovered: Decimal
    """What came in after a write-off."""

    def outstanding(self, *parts: Part) -> Decimal:
        """What is to be paid, of these parts or of all."""
        return sum((one.outstanding for one in self.standings if not parts or one.item.part in parts), ZERO)


def replay(items: Iterable[Item], movements: Iterable[Movement]) -> Book:
    """The book of a loan that owes these items and has seen these movements, in whatever order they are given."""
    standings = [
        Standing(item=item)
        for item in sorted(items, key=lambda one: (one.instalment, one.part, one.charge_id or 0))
    ]
    applied: dict[int, Applied] = {}
    overpaid = recovered = ZERO
    for movement in sorted(movements, key=lambda one: (one.on, one.id)):
        done = applied[movement.id] = Applied()
        match movement.kind:
            case Kind.DISBURSEMENT | Kind.CHARGE_OFF:
                pass  # the schedule is the disbursement; a charge-off is a matter of the ledger
            case Kind.REPAYMENT:
                done.overpaid = _pour(standings, movement, _pay, done)
                overpaid += done.overpaid
            case Kind.CHARGE_PAYMENT:
                own = [one for one in standings if one.item.charge_id == movement.charge_id]
                left = _pour(own, movement, _pay, done)
                # A charge that was paid by a repayment of an earlier day meanwhile: the money still pays the loan.
                done.overpaid = _pour(standings, movement, _pay, done, left)
                overpaid += done.overpaid
            case Kind.WAIVE_INTEREST:
                interest = [one for one in standings if one.item.part is Part.INTEREST]
                _pour(interest, movement, _waive, done)
            case Kind.WAIVE_CHARGES:
                own = [one for one in standings if one.item.charge_id == movement.charge_id]
                _pour(own, movement, _waive, done)
            case Kind.WRITE_OFF:
                _pour(standings, movement, _write_off, done)
            case Kind.RECOVERY_REPAYMENT:
                recovered += movement.amount
            case Kind.CREDIT_BALANCE_REFUND:
                given_back = min(movement.amount, overpaid)
                done.overpaid = -given_back
                overpaid -= given_back
                # What was refunded and, after a reversal, had not been overpaid at all is money lent.
                if lent := movement.amount - given_back:
                    done.parts[Part.PRINCIPAL] = -lent
                    standings.append(Standing(item=replace(standings[-1].item, amount=lent)))
        done.principal_after = sum(
            (one.outstanding for one in standings if one.item.part is Part.PRINCIPAL), ZERO
        )
    return Book(standings=standings, applied=applied, overpaid=overpaid, recovered=recovered)


def _pour(
    standings: Sequence[Standing],
    movement: Movement,
    into: Callable[[Standing, Decimal, date], None],
    done: Applied,
    amount: Decimal | None = None,
) -> Decimal:
    """Let the amount run down the items; returns what is left of it."""
    left = movement.amount if amount is None else amount
    for standing in standings:
        taken = min(left, standing.outstanding)
        if taken <= 0:
            continue
        into(standing, taken, movement.on)
        done.parts[standing.item.part] += taken
        left -= taken
        if not standing.outstanding:
            standing.settled_on = movement.on
    return left


def _pay(standing: Standing, amount: Decimal, on: date) -> None:
    standing.paid += amount
    if on < standing.item.due_on:
        standing.paid_early += amount
    elif on > standing.item.due_on:
        standing.paid_late += amount


def _waive(standing: Standing, amount: Decimal, on: date) -> None:
    standing.waived += amount


def _write_off(standing: Standing, amount: Decimal, on: date) -> None:
    standing.written_off += amount
