"""Who lives in the simulated portfolio, what they borrow, and how they pay it back."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import date, timedelta
from enum import Enum
from typing import Any

TOWNS = ("Kisumu", "Nakuru", "Eldoret")
STAFF = (("Grace", "Wanjiru"), ("Otieno", "Odhiambo"), ("Amina", "Hassan"))
FIRSTNAMES = (
    *("Alice", "Brian", "Catherine", "David", "Esther", "Felix", "Halima", "Isaac", "Joyce", "Kevin"),
    *("Lydia", "Moses", "Naomi", "Peter", "Rose", "Samuel", "Teresa", "Victor", "Winnie", "Zainab"),
)
LASTNAMES = (
    *("Achieng", "Barasa", "Chebet", "Cheruiyot", "Juma", "Kamau", "Karanja", "Kiplagat", "Koech"),
    *("Maina", "Mutua", "Mwangi", "Njoroge", "Ochieng", "Omondi", "Otieno", "Wafula", "Wambui"),
)
WEEKS, MONTHS = 1, 2
FLAT, DECLINING = 1, 0


class Payer(Enum):
    """How somebody pays a loan back, and how many of a hundred do."""

    ON_TIME = ("on the day it is due", 62)
    LATE = ("days after it was due, more often than not", 18)
    IN_PARTS = ("sometimes half, and the rest some days later", 6)
    EARLY = ("the rest at once, before it is due", 5)
    OVERPAYS = ("a little more than the last instalment", 2)
    DEFAULTS = ("no more after some instalments: it is written off", 7)

    def __init__(self, manner: str, weight: int) -> None:
        self.manner = manner
        self.weight = weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A loan product; `every` weeks or months, by `frequency`."""

    name: str
    letter: str
    every: int
    frequency: int
    instalments: int
    interest_type: int
    rate: float
    """Percent a month."""
    least: int
    most: int

    def due(self, disbursed: date, nth: int) -> date:
        """When the instalment is due."""
        if self.frequency == WEEKS:
            return disbursed + timedelta(weeks=self.every * nth)
        month = disbursed.month - 1 + self.every * nth
        year, month = disbursed.year + month // 12, month % 12 + 1
        return date(year, month, min(disbursed.day, calendar.monthrange(year, month)[1]))

    def body(self, name: str, short_name: str) -> dict[str, Any]:
        """The request that creates it."""
        return self._terms() | {
            "name": name,
            "shortName": short_name,
            "currencyCode": "USD",
            "digitsAfterDecimal": 2,
            "principal": self.least,
            "minPrincipal": self.least,
            "maxPrincipal": self.most,
            "interestRateFrequencyType": MONTHS,
            "daysInYearType": 365,
            "daysInMonthType": 30,
            "isInterestRecalculationEnabled": False,
            "accountingRule": 1,
        }

    def loan_body(self) -> dict[str, Any]:
        """What every application for a loan of it says."""
        return self._terms() | {
            "loanType": "individual",
            "loanTermFrequency": self.every * self.instalments,
            "loanTermFrequencyType": self.frequency,
        }

    def _terms(self) -> dict[str, Any]:
        return {
            "numberOfRepayments": self.instalments,
            "repaymentEvery": self.every,
            "repaymentFrequencyType": self.frequency,
            "interestType": self.interest_type,
            "interestCalculationPeriodType": 1,
            "interestRatePerPeriod": self.rate,
            "amortizationType": 1,
            "transactionProcessingStrategyCode": "mifos-standard-strategy",
        }


PRODUCTS = (
    Product(
        name="Weekly market loan",
        letter="W",
        every=1,
        frequency=WEEKS,
        instalments=8,
        interest_type=FLAT,
        rate=3,
        least=100,
        most=800,
    ),
    Product(
        name="Fortnightly business loan",
        letter="F",
        every=2,
        frequency=WEEKS,
        instalments=6,
        interest_type=DECLINING,
        rate=2.5,
        least=500,
        most=3000,
    ),
    Product(
        name="Monthly salary loan",
        letter="M",
        every=1,
        frequency=MONTHS,
        instalments=6,
        interest_type=DECLINING,
        rate=2,
        least=1000,
        most=8000,
    ),
)
