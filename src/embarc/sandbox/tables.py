"""The sandbox's own tables, in its own database file.

An id is never given twice, also after its row was deleted: what happens to somebody new must not look like the
continued story of somebody who is gone.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from sqlalchemy import Column, ForeignKey, Table, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

NEVER_TWICE: dict[str, Any] = {"sqlite_autoincrement": True}
"""The last of `__table_args__` of every table."""


class Base(DeclarativeBase):
    """All tables of the sandbox."""


class Office(Base):
    """A branch. The head office has id 1; `hierarchy` holds the ids from there down: `.`, `.2.`, `.2.5.`."""

    __tablename__ = "offices"
    __table_args__ = (
        UniqueConstraint("tenant", "name"),
        UniqueConstraint("tenant", "external_id"),
        NEVER_TWICE,
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    name: Mapped[str]
    opening_date: Mapped[date]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("offices.id"))
    hierarchy: Mapped[str]
    external_id: Mapped[str | None]


class Staff(Base):
    """Somebody who works in an office, for instance as a loan officer."""

    __tablename__ = "staff"
    __table_args__ = (
        UniqueConstraint("tenant", "display_name"),
        UniqueConstraint("tenant", "external_id"),
        NEVER_TWICE,
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    office_id: Mapped[int] = mapped_column(ForeignKey("offices.id"))
    firstname: Mapped[str]
    lastname: Mapped[str]
    display_name: Mapped[str]
    joining_date: Mapped[date]
    is_loan_officer: Mapped[bool]
    is_active: Mapped[bool]
    mobile_no: Mapped[str | None]
    external_id: Mapped[str | None]


class Role(Base):
    """What a user may do, by name."""

    __tablename__ = "roles"
    __table_args__ = (UniqueConstraint("tenant", "name"), NEVER_TWICE)
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    name: Mapped[str]
    description: Mapped[str]


_user_roles = Table(
    "user_roles",
    Base.metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("role_id", ForeignKey("roles.id"), primary_key=True),
)


class User(Base):
    """A user of the platform. Nobody signs in to the sandbox with it, so it keeps no password, in no form."""

    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("tenant", "username"), NEVER_TWICE)
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    office_id: Mapped[int] = mapped_column(ForeignKey("offices.id"))
    staff_id: Mapped[int | None] = mapped_column(ForeignKey("staff.id"))
    username: Mapped[str]
    firstname: Mapped[str]
    lastname: Mapped[str]
    email: Mapped[str | None]
    roles: Mapped[list[Role]] = relationship(secondary=_user_roles, order_by=Role.id, passive_deletes=True)


class Code(Base):
    """A list of choices, such as the reasons for which clients are closed."""

    __tablename__ = "codes"
    __table_args__ = (UniqueConstraint("tenant", "name"), NEVER_TWICE)
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    name: Mapped[str]
    is_system_defined: Mapped[bool]


class CodeValue(Base):
    """One choice of a code."""

    __tablename__ = "code_values"
    __table_args__ = (UniqueConstraint("code_id", "name"), NEVER_TWICE)
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    code_id: Mapped[int] = mapped_column(ForeignKey("codes.id"))
    name: Mapped[str]
    description: Mapped[str | None]
    position: Mapped[int]
    is_active: Mapped[bool]
    is_mandatory: Mapped[bool]


class Client(Base):
    """A client. Of the days only those are kept that led to the status it has."""

    __tablename__ = "clients"
    __table_args__ = (
        UniqueConstraint("tenant", "external_id"),
        UniqueConstraint("tenant", "account_no"),
        UniqueConstraint("tenant", "mobile_no"),
        NEVER_TWICE,
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(index=True)
    office_id: Mapped[int] = mapped_column(ForeignKey("offices.id"))
    staff_id: Mapped[int | None] = mapped_column(ForeignKey("staff.id"))
    account_no: Mapped[str]
    external_id: Mapped[str | None]
    status: Mapped[int]
    reason_id: Mapped[int | None] = mapped_column(ForeignKey("code_values.id"))
    """Why it was closed, rejected or withdrawn."""
    legal_form_id: Mapped[int]
    firstname: Mapped[str | None]
    middlename: Mapped[str | None]
    lastname: Mapped[str | None]
    fullname: Mapped[str | None]
    display_name: Mapped[str] = mapped_column(index=True)
    mobile_no: Mapped[str | None]
    email_address: Mapped[str | None]
    date_of_birth: Mapped[date | None]
    gender_id: Mapped[int | None] = mapped_column(ForeignKey("code_values.id"))
    client_type_id: Mapped[int | None] = mapped_column(ForeignKey("code_values.id"))
    client_classification_id: Mapped[int | None] = mapped_column(ForeignKey("code_values.id"))
    submitted_on: Mapped[date]
    activated_on: Mapped[date | None]
    closed_on: Mapped[date | None]
    rejected_on: Mapped[date | None]
    withdrawn_on: Mapped[date | None]
