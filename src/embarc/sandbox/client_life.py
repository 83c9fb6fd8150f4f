"""The life of a client as a table: each command, from which statuses it is allowed, where it leads, how it is refused.

Statuses are Fineract's ClientStatus, codes are those of its ClientWritePlatformServiceJpaRepositoryImpl. Two rows are
wider than one would draw them, and are Fineract's: whatever is not active may be activated, also a closed client, and
whatever is not closed may be closed, also an application. This file knows no request and no database.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import IntEnum

from embarc.core.errors import FieldError, Invalid, RuleViolation


class Status(IntEnum):
    """Where a client stands."""

    PENDING = 100
    ACTIVE = 300
    CLOSED = 600
    REJECTED = 700
    WITHDRAWN = 800

    @property
    def code(self) -> str:
        """Fineract's code of it."""
        return "clientStatusType." + ("withdraw" if self is Status.WITHDRAWN else self.name.lower())

    @property
    def label(self) -> str:
        """What people read."""
        return self.name.capitalize()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why not: Fineract's code and a sentence. `parameter` names the field where it is a validation error."""

    code: str
    message: str
    parameter: str = ""

    def error(self, value: object = None) -> Invalid | RuleViolation:
        """As it is answered: 400 for a validation error, 403 for a rule of the domain."""
        if self.parameter:
            return Invalid(errors=[FieldError(self.code, self.message, self.parameter, value)])
        return RuleViolation.rule(self.code, self.message, value=value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One command of the life cycle."""

    command: str
    action: str
    """The action of its event."""
    sources: frozenset[Status]
    target: Status | None
    """None: the client is gone."""
    refusal: Refusal
    """For every other status."""
    day: str = ""
    """The field with the day on which it happens."""
    not_before: str = ""
    """The column with the day that must not be later, where it is set."""
    too_early: Refusal | None = None
    reason: str = ""
    """The field with the reason; empty where none is asked for."""
    reason_code: str = ""
    """The code whose values are reasons."""

    def check(self, status: Status) -> None:
        """Raise the refusal where the command is not allowed in this status."""
        if status not in self.sources:
            raise self.refusal.error()

    def check_day(self, when: date, earliest: date | None) -> None:
        """Raise the refusal where the command's day is before the client's own."""
        if self.too_early and earliest and when < earliest:
            raise self.too_early.error(when.isoformat())


def _too_early(code: str, what: str, before: str) -> Refusal:
    message = f"The client {what} date cannot be before the client {before} date."
    return Refusal(code=f"error.msg.client.{code}", message=message)


_ALL = frozenset(Status)
_PENDING = frozenset({Status.PENDING})

TRANSITIONS = (
    Transition(
        command="activate",
        action="ACTIVATE",
        sources=_ALL - {Status.ACTIVE},
        target=Status.ACTIVE,
        refusal=Refusal(
            code="error.msg.clients.already.active",
            message="Cannot activate client. Client is already active.",
            parameter="activationDate",
        ),
        day="activationDate",
    ),
    Transition(
        command="reject",
        action="REJECT",
        sources=_PENDING,
        target=Status.REJECTED,
        refusal=Refusal(
            code="error.msg.client.rejection.on.account.not.in.pending.activation.status",
            message="Only clients pending activation may be rejected.",
        ),
        day="rejectionDate",
        not_before="submitted_on",
        too_early=_too_early("rejection.date.cannot.before.client.submitted.date", "rejection", "submitted"),
        reason="rejectionReasonId",
        reason_code="ClientRejectReason",
    ),
    Transition(
        command="withdraw",
        action="WITHDRAW",
        sources=_PENDING,
        target=Status.WITHDRAWN,
        refusal=Refusal(
            code="error.msg.client.withdrawal.on.account.not.in.pending.activation.status",
            message="Only clients pending activation may be withdrawn.",
        ),
        day="withdrawalDate",
        not_before="submitted_on",
        too_early=_too_early(
            "withdrawal.date.cannot.before.client.submitted.date", "withdrawal", "submitted"
        ),
        reason="withdrawalReasonId",
        reason_code="ClientWithdrawReason",
    ),
    Transition(
        command="close",
        action="CLOSE",
        sources=_ALL - {Status.CLOSED},
        target=Status.CLOSED,
        refusal=Refusal(code="error.msg.client.close.is.already.closed", message="Client is already closed."),
        day="closureDate",
        not_before="activated_on",
        # The spelling is Fineract's.
        too_early=_too_early("close.date.cannot.before.client.actvation.date", "closure", "activation"),
        reason="closureReasonId",
        reason_code="ClientClosureReason",
    ),
    Transition(
        command="reactivate",
        action="REACTIVATE",
        sources=frozenset({Status.CLOSED}),
        target=Status.PENDING,
        refusal=Refusal(
            code="error.msg.client.reactivation.on.nonclosed.account",
            message="Only closed clients may be reactivated.",
        ),
        day="reactivationDate",
        not_before="closed_on",
        too_early=_too_early("reactivation.date.cannot.before.client.closed.date", "reactivation", "closed"),
    ),
    Transition(
        command="undoRejection",
        action="UNDOREJECT",
        sources=frozenset({Status.REJECTED}),
        target=Status.PENDING,
        refusal=Refusal(
            code="error.msg.client.undorejection.on.nonrejected.account",
            message="Only rejected clients may be reopened by undoing their rejection.",
        ),
        day="reopenedDate",
        not_before="rejected_on",
        too_early=_too_early("reopened.date.cannot.before.client.rejected.date", "reopening", "rejection"),
    ),
    Transition(
        command="undoWithdrawal",
        action="UNDOWITHDRAWAL",
        sources=frozenset({Status.WITHDRAWN}),
        target=Status.PENDING,
        refusal=Refusal(
            code="error.msg.client.undoWithdrawal.on.nonwithdrawal.account",
            message="Only withdrawn clients may be reopened by undoing their withdrawal.",
        ),
        day="reopenedDate",
        not_before="withdrawn_on",
        too_early=_too_early("reopened.date.cannot.before.client.withdrawal.date", "reopening", "withdrawal"),
    ),
    Transition(
        command="delete",
        action="DELETE",
        sources=_PENDING,
        target=None,
        refusal=Refusal(
            code="error.msg.clients.cannot.be.deleted",
            message="The client cannot be deleted: only clients pending activation may be.",
        ),
    ),
)
BY_COMMAND = {transition.command: transition for transition in TRANSITIONS}
