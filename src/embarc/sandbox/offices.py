"""Offices: branches below the head office, each under another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from embarc.core.errors import RuleViolation
from embarc.sandbox.dates import read_date
from embarc.sandbox.records import change, check_unique, day, find, known
from embarc.sandbox.tables import Office
from embarc.web.routes import Call, Route

if TYPE_CHECKING:
    from embarc.sandbox.application import Sandbox, Work

_FIELDS = ("name", "openingDate", "parentId", "externalId", "dateFormat", "locale")
_EXAMPLE = {
    "name": "Nairobi West",
    "parentId": 1,
    "openingDate": "01 March 2024",
    "dateFormat": "dd MMMM yyyy",
    "locale": "en",
}


def routes(sandbox: Sandbox) -> list[Route]:
    """The routes of offices."""

    async def list_offices(call: Call) -> list[dict[str, Any]]:
        return await sandbox.query(call, _list)

    async def get_office(call: Call) -> dict[str, Any]:
        return await sandbox.query(call, lambda work: render(find(work, Office, call.path["officeId"])))

    async def create_office(call: Call) -> dict[str, Any]:
        return await sandbox.command(call, _create)

    async def update_office(call: Call) -> dict[str, Any]:
        return await sandbox.command(call, _update)

    return [
        Route(
            method="GET",
            path="/offices",
            handler=list_offices,
            permission="READ_OFFICE",
            summary="List offices",
            tag="sandbox",
        ),
        Route(
            method="POST",
            path="/offices",
            handler=create_office,
            permission="CREATE_OFFICE",
            summary="Open an office; emits OFFICE.CREATE",
            tag="sandbox",
            body=_EXAMPLE,
        ),
        Route(
            method="GET",
            path="/offices/{officeId}",
            handler=get_office,
            permission="READ_OFFICE",
            summary="One office",
            tag="sandbox",
        ),
        Route(
            method="PUT",
            path="/offices/{officeId}",
            handler=update_office,
            permission="UPDATE_OFFICE",
            summary="Change an office; emits OFFICE.UPDATE",
            tag="sandbox",
            body={"name": "Nairobi Westlands"},
        ),
    ]


def find_office(work: Work, identifier: int | str) -> Office:
    """The tenant's office; raises `NotFound`."""
    return find(work, Office, identifier)


def render(office: Office) -> dict[str, Any]:
    """An office as Fineract answers it; the dots of `nameDecorated` show how deep it lies."""
    depth = office.hierarchy.count(".") - 1
    return known(
        {
            "id": office.id,
            "name": office.name,
            "nameDecorated": "...." * depth + office.name,
            "externalId": office.external_id or str(office.id),
            "openingDate": day(office.opening_date),
            "hierarchy": office.hierarchy,
            "parentId": office.parent_id,
        }
    )


def _list(work: Work) -> list[dict[str, Any]]:
    found = work.session.scalars(
        select(Office).where(Office.tenant == work.tenant).order_by(Office.hierarchy)
    )
    return [render(office) for office in found]


def _create(work: Work) -> dict[str, Any]:
    fields = work.call.fields("office", _FIELDS)
    name = fields.text("name", required=True, longest=100)
    opened = read_date(fields, "openingDate", required=True)
    parent_id = fields.integer("parentId", required=True, at_least=1)
    external_id = fields.text("externalId", longest=100)
    fields.check()
    assert opened is not None  # noqa: S101 - `required` noted its absence
    parent = find(work, Office, parent_id)
    _check_unique(work, name, external_id, None)
    office = Office(
        tenant=work.tenant,
        name=name or "",
        opening_date=opened,
        parent_id=parent.id,
        hierarchy="",
        external_id=external_id,
    )
    work.session.add(office)
    work.session.flush()
    office.hierarchy = f"{parent.hierarchy}{office.id}."
    return _tell(work, office, "CREATE", {})


def _update(work: Work) -> dict[str, Any]:
    fields = work.call.fields("office", _FIELDS)
    office = find(work, Office, work.call.path["officeId"])
    name = fields.text("name", required="name" in fields.body, longest=100) or office.name
    opened = read_date(fields, "openingDate", required="openingDate" in fields.body) or office.opening_date
    parent_id = fields.integer("parentId", default=office.parent_id, at_least=1)
    external_id = (
        fields.text("externalId", longest=100) if "externalId" in fields.body else office.external_id
    )
    fields.check()
    _check_unique(work, name, external_id, office)
    if parent_id is not None and parent_id != office.parent_id:
        _move(work, office, find(work, Office, parent_id))
    changes = change(
        office,
        fields.body,
        {
            "name": ("name", name),
            "openingDate": ("opening_date", opened),
            "parentId": ("parent_id", parent_id),
            "externalId": ("external_id", external_id),
        },
    )
    return _tell(work, office, "UPDATE", {"changes": changes})


def _move(work: Work, office: Office, parent: Office) -> None:
    """Put the office, and all below it, under another one."""
    if office.parent_id is None:
        message = "The root office must not be set with a parent office."
        raise RuleViolation.rule("error.msg.office.cannot.update.parent.office.of.root.office", message)
    if parent.hierarchy.startswith(office.hierarchy):
        message = "Cannot update office with parent same as self, or below it."
        raise RuleViolation.rule("error.msg.office.parentId.same.as.id", message)
    before, after = office.hierarchy, f"{parent.hierarchy}{office.id}."
    below = select(Office).where(Office.tenant == work.tenant, Office.hierarchy.startswith(before))
    for each in work.session.scalars(below):
        each.hierarchy = after + each.hierarchy.removeprefix(before)


def _tell(work: Work, office: Office, action: str, more: dict[str, Any]) -> dict[str, Any]:
    work.session.flush()
    answered = {"officeId": office.id, "resourceId": office.id} | more
    work.emit("OFFICE", action, {"officeId": office.id}, answered)
    return answered


def _check_unique(work: Work, name: str | None, external_id: str | None, own: Office | None) -> None:
    for parameter, column, value in (
        ("name", Office.name, name),
        ("externalId", Office.external_id, external_id),
    ):
        check_unique(
            work,
            column,
            value,
            own,
            code=f"error.msg.office.duplicate.{parameter}",
            message=f"Office with {parameter} `{value}` already exists",
            parameter=parameter,
        )
