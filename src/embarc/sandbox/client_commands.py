"""The commands on one client: its life cycle as the table has it, and who looks after it.

A command is checked in Fineract's order: the request itself, the client, the reason, the status, the day.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from embarc.core.errors import Duplicate, NotFound, RuleViolation
from embarc.sandbox.client_details import answer, check_activation, ids
from embarc.sandbox.client_life import Status, Transition
from embarc.sandbox.client_views import find_client
from embarc.sandbox.codes import find_value
from embarc.sandbox.dates import read_date
from embarc.sandbox.loan_tables import Loan
from embarc.sandbox.loans import standing_of_client
from embarc.sandbox.records import find
from embarc.sandbox.staff import find_in_reach_of
from embarc.sandbox.tables import Client, Office, Staff

if TYPE_CHECKING:
    from embarc.sandbox.application import Work

_DAY_OF = {
    Status.ACTIVE: "activated_on",
    Status.CLOSED: "closed_on",
    Status.REJECTED: "rejected_on",
    Status.WITHDRAWN: "withdrawn_on",
}
_STARTS_ANEW = (Status.PENDING, Status.ACTIVE)
"""What was before is over: days and reason are forgotten."""


def running(transition: Transition) -> Callable[[Work], dict[str, Any]]:
    """The command of this row of the table."""

    def run(work: Work) -> dict[str, Any]:
        if transition.target is None:
            return _delete(work, transition)
        return _move(work, transition, transition.target)

    return run


def assign_staff(work: Work) -> dict[str, Any]:
    """`?command=assignStaff`: somebody of the client's office, or of one above it."""
    fields = work.call.fields("client", ("staffId",))
    staff_id = fields.integer("staffId", required=True, at_least=1)
    fields.check()
    client = find_client(work)
    staff = find_in_reach_of(work, work.session.get_one(Office, client.office_id), staff_id or 0)
    client.staff_id = staff.id
    return _tell_staff(work, client, "ASSIGNSTAFF", staff.id)


def unassign_staff(work: Work) -> dict[str, Any]:
    """`?command=unassignStaff`: names who is assigned, so that nobody else's successor is taken away."""
    fields = work.call.fields("client", ("staffId",))
    staff_id = fields.integer("staffId", required=True, at_least=1)
    fields.check()
    client = find_client(work)
    if client.staff_id is None:
        message = f"Client with identifier {client.id} does not have staff"
        raise NotFound.resource("error.msg.client.has.no.staff", message, client.id)
    if find(work, Staff, staff_id).id != client.staff_id:
        message = f"Client with identifier {client.id} does not have staff {staff_id}"
        raise NotFound.resource("error.msg.client.has.no.staff", message, client.id)
    client.staff_id = None
    return _tell_staff(work, client, "UNASSIGNSTAFF", staff_id)


def _tell_staff(work: Work, client: Client, action: str, staff_id: int | None) -> dict[str, Any]:
    work.session.flush()
    answered = answer(client) | {"changes": {"staffId": staff_id}}
    work.emit("CLIENT", action, ids(client), answered)
    return answered


def _move(work: Work, transition: Transition, target: Status) -> dict[str, Any]:
    allowed = filter(None, (transition.day, transition.reason, "dateFormat", "locale"))
    fields = work.call.fields("client", tuple(allowed))
    when = read_date(fields, transition.day, required=True)
    reason_id = fields.integer(transition.reason, required=True, at_least=1) if transition.reason else None
    fields.check()
    assert when is not None  # noqa: S101 - `required` noted its absence
    client = find_client(work)
    reason = None if reason_id is None else find_value(work, transition.reason_code, reason_id).id
    transition.check(Status(client.status))
    if target is Status.ACTIVE:
        office = work.session.get_one(Office, client.office_id)
        check_activation(when, client.submitted_on, office, work.today)
    if transition.not_before:
        transition.check_day(when, getattr(client, transition.not_before))
    if target is Status.CLOSED:
        _check_loans(work, client, when)
    _enter(client, target, when, reason)
    work.session.flush()
    # Fineract tells the office only when it activates.
    answered = answer(client) if target is Status.ACTIVE else {"clientId": client.id, "resourceId": client.id}
    work.emit("CLIENT", transition.action, ids(client), answered)
    return answered


def _check_loans(work: Work, client: Client, when: date) -> None:
    """Raise `RuleViolation` while money or a decision is still owed, either way."""
    standing = standing_of_client(work.session, work.tenant, client.id)
    last = work.session.scalar(select(func.max(Loan.closed_on)).where(Loan.client_id == client.id))
    if standing.has_open:
        postfix, message = "loan.non-closed", "Client cannot be closed because of non-closed loans."
    elif standing.has_overpaid:
        postfix, message = "loan.overpaid", "Client cannot be closed because of overpaid loans."
    elif last and last > when:
        postfix = "date.cannot.before.loan.closed.date"
        message = "The client closure date cannot be before the loan closed date."
    else:
        return
    raise RuleViolation.rule(f"error.msg.client.close.{postfix}", message)


def _enter(client: Client, status: Status, when: date, reason_id: int | None) -> None:
    if status in _STARTS_ANEW:
        for column in _DAY_OF.values():
            setattr(client, column, None)
    if status in _DAY_OF:
        setattr(client, _DAY_OF[status], when)
    client.status, client.reason_id = status, reason_id


def _delete(work: Work, transition: Transition) -> dict[str, Any]:
    client = find_client(work)
    transition.check(Status(client.status))
    work.session.delete(client)
    try:
        work.session.flush()
    except IntegrityError:  # it was active once, and its loans tell of it
        message = "The client has loans and cannot be deleted."
        code = "error.msg.client.unknown.data.integrity.issue"
        raise Duplicate(message, code=code) from None
    work.emit("CLIENT", transition.action, ids(client), answer(client))
    return answer(client)
