"""The tables of lending. What can be reckoned (schedule, balances) is not stored: `loan_book` reckons it."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import JSON, Dialect, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from embarc.sandbox.tables import Base


class Exact(TypeDecorator[Decimal]):
    """A decimal that is stored as its text: SQLite's own numbers are binary fractions."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:
        """To the database."""
        return None if value is None else format(value, "f")

    def process_result_value(self, value: str | None, dialect: Dialect) -> Decimal | None:
        """From the database."""
        return None if value is None else Decimal(value)


class Agreed:
    """The columns of what is agreed on, the same for products (as proposal) and loans. Options as Fineract numbers them."""

    currency_code: Mapped[str]
    digits: Mapped[int]
    number_of_repayments: Mapped[int]
    repay_every: Mapped[int]
    repay_frequency: Mapped[int]
    rate: Mapped[Decimal] = mapped_column(Exact)
    rate_frequency: Mapped[int]
    amortization: Mapped[int]
    interest_type: Mapped[int]
    interest_period: Mapped[int]
    days_in_year: Mapped[int]
    days_in_month: Mapped[int]
    strategy: Mapped[str]
    tolerance: Mapped[Decimal] = mapped_column(Exact)
    """What may be left when the loan is closed: it is written off."""


class LoanProduct(Agreed, Base):
    """What the lender offers."""

    __tablename__ = "loan_products"
    __table_args__ = (
        UniqueConstraint("tenant", "name"),
        UniqueConstraint("tenant", "short_name"),
        UniqueConstraint("tenant", "external_id"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]
    short_name: Mapped[str]
    description: Mapped[str | None]
    external_id: Mapped[str | None]
    accounting_rule: Mapped[int]
    principal: Mapped[Decimal | None] = mapped_column(Exact)
    limits: Mapped[dict[str, str]] = mapped_column(JSON)
    """minPrincipal, maxPrincipal and the like, as text; those that are set."""


class Loan(Agreed, Base):
    """A loan, from its application on."""

    __tablename__ = "loans"
    # An id is never given twice, also after a deletion: events tell of it for ever.
    __table_args__ = (UniqueConstraint("tenant", "external_id"), {"sqlite_autoincrement": True})
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(index=True)
    client_id: Mapped[int] = mapped_column(ForeignKey("clients.id"), index=True)
    office_id: Mapped[int] = mapped_column(ForeignKey("offices.id"))
    product_id: Mapped[int] = mapped_column(ForeignKey("loan_products.id"))
    loan_officer_id: Mapped[int | None]
    account_no: Mapped[str]
    external_id: Mapped[str | None]
    status: Mapped[int]
    principal: Mapped[Decimal] = mapped_column(Exact)
    term: Mapped[int]
    first_due_on: Mapped[date | None]
    submitted_on: Mapped[date]
    expected_disbursement_on: Mapped[date]
    approved_on: Mapped[date | None]
    approved_principal: Mapped[Decimal | None] = mapped_column(Exact)
    disbursed_on: Mapped[date | None]
    disbursed_principal: Mapped[Decimal | None] = mapped_column(Exact)
    rejected_on: Mapped[date | None]
    withdrawn_on: Mapped[date | None]
    closed_on: Mapped[date | None]
    written_off_on: Mapped[date | None]
    charged_off_on: Mapped[date | None]
    foreclosed_on: Mapped[date | None]


class LoanTransaction(Base):
    """Money that moved. Never deleted: a reversed one stays, with the day of its reversal."""

    __tablename__ = "loan_transactions"
    __table_args__ = (UniqueConstraint("tenant", "external_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    loan_id: Mapped[int] = mapped_column(ForeignKey("loans.id"), index=True)
    kind: Mapped[int]
    on: Mapped[date] = mapped_column("happened_on")
    amount: Mapped[Decimal] = mapped_column(Exact)
    charge_id: Mapped[int | None]
    external_id: Mapped[str | None]
    payment: Mapped[dict[str, Any]] = mapped_column(JSON)
    """paymentTypeId, accountNumber and the like, as given."""
    note: Mapped[str | None]
    submitted_on: Mapped[date]
    reversed_on: Mapped[date | None]


class ChargeDefinition(Base):
    """A charge that can be added to loans."""

    __tablename__ = "charges"
    __table_args__ = (UniqueConstraint("tenant", "name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]
    currency_code: Mapped[str]
    amount: Mapped[Decimal] = mapped_column(Exact)
    calculation: Mapped[int]
    is_penalty: Mapped[bool]
    is_active: Mapped[bool]


class LoanCharge(Base):
    """A charge of one loan."""

    __tablename__ = "loan_charges"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 - SQLAlchemy reads it once
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    loan_id: Mapped[int] = mapped_column(ForeignKey("loans.id"), index=True)
    charge_id: Mapped[int] = mapped_column(ForeignKey("charges.id"))
    name: Mapped[str]
    calculation: Mapped[int]
    given_amount: Mapped[Decimal] = mapped_column(Exact)
    """The amount, or the percentage."""
    amount: Mapped[Decimal] = mapped_column(Exact)
    due_on: Mapped[date]
    is_penalty: Mapped[bool]
