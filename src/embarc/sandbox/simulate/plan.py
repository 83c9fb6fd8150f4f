"""What will happen to a portfolio: decided before anything is sent, from nothing but the scale and its seed.

Rule 1: a plan is a list of commands. The same scale gives the same list, and one client's life does not depend on how
many others there are.
Rule 2: what only the platform knows (an id, what an instalment comes to) stands in the list by name, as a `Ref` or a
`Due`, and is filled in when its turn comes.
Rule 3: a life is told in order, day by day, and cut off at today: no date lies in the future.
Rule 4: people slip. A few commands repeat what was done already; the platform must refuse them and emit nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from itertools import takewhile
from random import Random
from typing import Any

from embarc.sandbox.simulate.people import FIRSTNAMES, LASTNAMES, PRODUCTS, STAFF, TOWNS, Payer, Product

OPENED = date(2020, 1, 6)
"""When the branches opened and the staff joined: long before any client comes."""
_MORNING, _CLOSING, _NIGHT = 8 * 3600, 17 * 3600, 20 * 3600
"""Seconds of a day: offices open, the day's collections are posted in one burst, all is quiet."""
_DAYTIME_SHARE = 0.5
"""Of the rate, while offices are open: what people do one by one, against what is posted in one go."""
SETUP = "setup"
_CENT = Decimal("0.01")
DATES: dict[str, Any] = {"dateFormat": "yyyy-MM-dd", "locale": "en"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much happens, and until when."""

    clients: int
    days: int
    seed: int
    today: date

    @property
    def label(self) -> str:
        """Marks what this seed makes, so that portfolios of several seeds live beside each other."""
        digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
        number, text = self.seed, ""
        while number or not text:
            number, last = divmod(number, 36)
            text = digits[last] + text
        return text

    @property
    def first_day(self) -> date:
        """The first simulated business date."""
        return self.today - timedelta(days=self.days - 1)


@dataclass(frozen=True, slots=True)
class Ref:
    """The id that an earlier command was answered with, by the name that it `gives`."""

    name: str


@dataclass(frozen=True, slots=True)
class Due:
    """What instalments `first` to `last` of a loan come to: all of it, or a share of it, or the rest beside that share."""

    loan: str
    first: int
    last: int
    share: Decimal = Decimal(1)
    is_rest: bool = False
    extra: Decimal = Decimal(0)
    """Paid on top."""

    def amount(self, total: Decimal) -> Decimal:
        """In cents, where the instalments come to `total`; a share and its rest make the whole."""
        share = (total * self.share).quantize(_CENT)
        return (total - share if self.is_rest else share) + self.extra


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One call. Those of one subject are sent strictly one after the other."""

    kind: str
    """The event that its success emits."""
    day: date
    second: int
    """Of the day."""
    subject: str
    method: str
    path: str
    """With `{name}` where an id belongs."""
    body: Mapping[str, Any] = field(default_factory=dict)
    gives: str = ""
    """The name of the id in its answer."""

    @property
    def is_burst(self) -> bool:
        """Whether it is one of the many at the end of a day."""
        return self.second >= _CLOSING


def make_plan(scale: Scale) -> list[Command]:
    """Everything that happens, in order: first the organisation, then all lives by day and time."""
    lives = [command for number in range(scale.clients) for command in _cut(scale, number)]
    return [*_setup(scale), *sorted(lives, key=lambda command: (command.day, command.second))]


def _cut(scale: Scale, number: int) -> Iterator[Command]:
    return takewhile(lambda command: command.day <= scale.today, _Life(scale, number).commands())


def _setup(scale: Scale) -> Iterator[Command]:
    def command(kind: str, path: str, body: dict[str, Any], gives: str) -> Command:
        return Command(
            kind=kind,
            day=scale.first_day,
            second=0,
            subject=SETUP,
            method="POST",
            path=path,
            body=body | DATES,
            gives=gives,
        )

    for place, town in enumerate(TOWNS):
        body = {"name": f"{town} {scale.label}", "parentId": 1, "openingDate": OPENED.isoformat()}
        yield command("OFFICE.CREATE", "/offices", body, f"office-{place}")
    for place, (firstname, lastname) in enumerate(STAFF):
        body = {
            "officeId": Ref(f"office-{place % len(TOWNS)}"),
            "firstname": firstname,
            "lastname": f"{lastname} {scale.label}",
            "isLoanOfficer": True,
            "joiningDate": OPENED.isoformat(),
        }
        yield command("STAFF.CREATE", "/staff", body, f"staff-{place}")
    for place, product in enumerate(PRODUCTS):
        body = product.body(f"{product.name} {scale.label}", f"{product.letter}{scale.label[-3:]}")
        yield command("LOANPRODUCT.CREATE", "/loanproducts", body, f"product-{place}")


class _Life:
    """One client's story, told from the day they come to the office."""

    def __init__(self, scale: Scale, number: int) -> None:
        self._scale = scale
        self._number = number
        self._random = Random(f"{scale.seed}/{number}")  # noqa: S311 - a story, no secret
        self._name = f"client-{number}"
        self._day = scale.first_day + timedelta(
            days=int(
                scale.days * self._random.random() ** 1.6
            )  # more come early, so that their loans are seen to end
        )
        self._second = 0
        self._office = self._random.randrange(len(TOWNS))

    def commands(self) -> Iterator[Command]:
        """All of it, also what lies beyond today."""
        chance, path = self._random.random, f"/clients/{{{self._name}}}"
        yield self._apply()
        if chance() < 0.08:
            self._later(0, 3)
            is_rejected = chance() < 0.6
            yield self._turned_down(is_rejected=is_rejected)
            if chance() < 0.7:
                return
            self._later(1, 10)
            action, command = (
                ("UNDOREJECT", "undoRejection") if is_rejected else ("UNDOWITHDRAWAL", "undoWithdrawal")
            )
            yield self._client(action, command, {"reopenedDate": self._today})
        self._later(0, 3)
        yield self._client("ACTIVATE", "activate", {"activationDate": self._today})
        if chance() < 0.03:
            yield self._client("ACTIVATE", "activate", {"activationDate": self._today})  # somebody slips
        if chance() < 0.5:
            yield self._client("ASSIGNSTAFF", "assignStaff", {"staffId": Ref(f"staff-{self._office}")})
        if chance() < 0.1:
            return  # never asks for a loan
        for nth in range(1, 6):
            self._later(min(nth - 1, 1), 5)  # whoever has just paid the last one back comes another day
            yield from self._loan(nth)
            if chance() < 0.4:
                break
        self._later(1, 5)
        if chance() < 0.15:
            number = f"+2557{self._number:08d}"
            yield self._make("CLIENT.UPDATE", "PUT", path, {"mobileNo": f"{number}-{self._scale.label}"})
        if chance() < 0.4:
            self._later(1, 20)
            reason = {"closureDate": self._today, "closureReasonId": Ref("reason-close")}
            yield self._client("CLOSE", "close", reason)

    def _apply(self) -> Command:
        firstname = self._random.choice(FIRSTNAMES)
        body = {
            "firstname": firstname,
            "lastname": self._random.choice(LASTNAMES),
            "officeId": Ref(f"office-{self._office}"),
            "externalId": f"{self._scale.label}-{self._number:06d}",
            "submittedOnDate": self._today,
            "active": False,
            "legalFormId": 1,
        }
        return self._make("CLIENT.CREATE", "POST", "/clients", body | DATES, gives=self._name)

    def _turned_down(self, *, is_rejected: bool) -> Command:
        if is_rejected:
            reason = {"rejectionDate": self._today, "rejectionReasonId": Ref("reason-reject")}
            return self._client("REJECT", "reject", reason)
        reason = {"withdrawalDate": self._today, "withdrawalReasonId": Ref("reason-withdraw")}
        return self._client("WITHDRAW", "withdraw", reason)

    def _loan(self, nth: int) -> Iterator[Command]:
        place = self._random.randrange(len(PRODUCTS))
        product, loan, chance = PRODUCTS[place], f"{self._name}-loan-{nth}", self._random.random
        principal = 50 * self._random.randint(product.least // 50, product.most // 50)
        asked = {
            "clientId": Ref(self._name),
            "productId": Ref(f"product-{place}"),
            "loanOfficerId": Ref(f"staff-{self._office}"),
            "principal": principal,
            "submittedOnDate": self._today,
            "expectedDisbursementDate": (self._day + timedelta(days=3)).isoformat(),
        }
        yield self._make("LOAN.CREATE", "POST", "/loans", product.loan_body() | asked | DATES, gives=loan)
        self._later(0, 3)
        fate = chance()
        if fate < 0.08:
            yield self._on_loan(loan, "REJECT", "reject", {"rejectedOnDate": self._today})
            return
        if fate < 0.12:
            yield self._on_loan(loan, "WITHDRAW", "withdrawnByApplicant", {"withdrawnOnDate": self._today})
            return
        approval = {
            "approvedOnDate": self._today,
            "expectedDisbursementDate": asked["expectedDisbursementDate"],
        }
        yield self._on_loan(loan, "APPROVE", "approve", approval)
        if chance() < 0.02:
            yield self._on_loan(loan, "APPROVE", "approve", approval)  # somebody slips
        if chance() < 0.03:
            yield self._on_loan(loan, "APPROVALUNDO", "undoapproval", {"note": "Papers to be checked again"})
            yield self._on_loan(loan, "APPROVE", "approve", approval)
        self._later(0, 2)
        yield self._on_loan(loan, "DISBURSE", "disburse", {"actualDisbursementDate": self._today})
        yield from self._repay(loan, product)

    def _repay(self, loan: str, product: Product) -> Iterator[Command]:
        payer = self._random.choices(list(Payer), weights=[one.weight for one in Payer])[0]
        stops_after = self._random.randint(1, product.instalments - 1)
        disbursed, last = self._day, product.instalments
        for nth in range(1, last + 1):
            due = product.due(disbursed, nth)
            if payer is Payer.DEFAULTS and nth > stops_after:
                yield from self._written_off(loan, product, due, nth)
                return
            delay = self._random.randint(3, 15) if payer is Payer.LATE and self._random.random() < 0.6 else 0
            self._until(due + timedelta(days=delay))
            if payer is Payer.EARLY and nth > stops_after:
                yield self._pay(loan, Due(loan, nth, last))
                return
            if payer is Payer.OVERPAYS and nth == last:
                yield self._pay(loan, Due(loan, nth, last, extra=Decimal("12.50")))
                return
            if payer is Payer.IN_PARTS and self._random.random() < 0.4:
                yield self._pay(loan, Due(loan, nth, nth, share=Decimal("0.5")))
                self._later(2, 6)
                yield self._pay(loan, Due(loan, nth, nth, share=Decimal("0.5"), is_rest=True))
                continue
            yield from self._pay_and_maybe_bounce(loan, nth, last)

    def _pay_and_maybe_bounce(self, loan: str, nth: int, last: int) -> Iterator[Command]:
        transaction = f"{loan}-payment-{nth}"
        yield self._pay(loan, Due(loan, nth, nth), gives=transaction)
        if nth < last and self._random.random() < 0.015:
            reversal = {"transactionDate": self._today, "transactionAmount": 0} | DATES
            path = f"/loans/{{{loan}}}/transactions/{{{transaction}}}"
            yield self._make("LOAN.ADJUST", "POST", path, reversal)
            self._later(1, 4)
            yield self._pay(loan, Due(loan, nth, nth))

    def _written_off(self, loan: str, product: Product, due: date, nth: int) -> Iterator[Command]:
        self._until(due + timedelta(days=self._random.randint(45, 75)))
        yield self._transact(loan, "WRITEOFF", "writeoff", {"transactionDate": self._today})
        if self._random.random() < 0.3:
            self._later(5, 25)
            recovered = {
                "transactionDate": self._today,
                "transactionAmount": Due(loan, nth, nth, share=Decimal("0.3")),
            }
            yield self._transact(loan, "RECOVERYPAYMENT", "recoverypayment", recovered)

    def _pay(self, loan: str, amount: Due, *, gives: str = "") -> Command:
        paid = {"transactionDate": self._today, "transactionAmount": amount}
        return self._transact(loan, "REPAYMENT", "repayment", paid, gives=gives)

    def _transact(
        self, loan: str, action: str, command: str, body: dict[str, Any], *, gives: str = ""
    ) -> Command:
        path = f"/loans/{{{loan}}}/transactions?command={command}"
        return self._make(f"LOAN.{action}", "POST", path, body | DATES, gives=gives, is_burst=True)

    def _on_loan(self, loan: str, action: str, command: str, body: dict[str, Any]) -> Command:
        dated = body | DATES if any(name.endswith("Date") for name in body) else body
        return self._make(f"LOAN.{action}", "POST", f"/loans/{{{loan}}}?command={command}", dated)

    def _client(self, action: str, command: str, body: dict[str, Any]) -> Command:
        dated = body | DATES if any(name.endswith("Date") for name in body) else body
        path = f"/clients/{{{self._name}}}?command={command}"
        return self._make(f"CLIENT.{action}", "POST", path, dated)

    def _make(
        self,
        kind: str,
        method: str,
        path: str,
        body: dict[str, Any],
        *,
        gives: str = "",
        is_burst: bool = False,
    ) -> Command:
        opens, closes = (_CLOSING, _NIGHT) if is_burst else (_MORNING, _CLOSING)
        self._second = max(self._second + 60, self._random.randrange(opens, closes - 3600))
        return Command(
            kind=kind,
            day=self._day,
            second=self._second,
            subject=self._name,
            method=method,
            path=path,
            body=body,
            gives=gives,
        )

    @property
    def _today(self) -> str:
        return self._day.isoformat()

    def _later(self, least: int, most: int) -> None:
        self._until(self._day + timedelta(days=self._random.randint(least, most)))

    def _until(self, day: date) -> None:
        if day > self._day:
            self._day, self._second = day, 0


def gap(command: Command, rate: float) -> float:
    """Seconds that must pass before this command: `rate` a second in the bursts, fewer while offices are open."""
    return 1 / (rate if command.is_burst else rate * _DAYTIME_SHARE)
