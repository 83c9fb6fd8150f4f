"""The sandbox's own tables, in its own database file."""

from __future__ import annotations

from datetime import date

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """All tables of the sandbox."""


class Office(Base):
    """A branch. The head office has id 1."""

    __tablename__ = "offices"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    name: Mapped[str]
    opening_date: Mapped[date]
    parent_id: Mapped[int | None]
    hierarchy: Mapped[str]


class Client(Base):
    """A client."""

    __tablename__ = "clients"
    __table_args__ = (
        UniqueConstraint("tenant", "external_id"),
        UniqueConstraint("tenant", "account_no"),
        UniqueConstraint("tenant", "mobile_no"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(index=True)
    office_id: Mapped[int] = mapped_column(ForeignKey("offices.id"))
    account_no: Mapped[str]
    external_id: Mapped[str | None]
    status: Mapped[int]
    legal_form_id: Mapped[int]
    firstname: Mapped[str | None]
    middlename: Mapped[str | None]
    lastname: Mapped[str | None]
    fullname: Mapped[str | None]
    display_name: Mapped[str] = mapped_column(index=True)
    mobile_no: Mapped[str | None]
    email_address: Mapped[str | None]
    date_of_birth: Mapped[date | None]
    submitted_on: Mapped[date]
    activated_on: Mapped[date | None]
