"""Offices, and the users that the sandbox knows: its callers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from embarc.core.errors import NotFound
from embarc.sandbox.tables import Office
from embarc.web.routes import Call, Route

if TYPE_CHECKING:
    from embarc.sandbox.application import Sandbox, Work


def routes(sandbox: Sandbox) -> list[Route]:
    """The routes of offices and users."""

    async def list_offices(call: Call) -> list[dict[str, Any]]:
        return await sandbox.query(call, _list)

    async def get_office(call: Call) -> dict[str, Any]:
        return await sandbox.query(call, lambda work: render(find_office(work, call.path["officeId"])))

    async def list_users(call: Call) -> list[dict[str, Any]]:
        caller = call.caller
        firstname, _, lastname = caller.full_name.partition(" ")
        return [
            {
                "id": caller.user_id,
                "username": caller.username,
                "firstname": firstname,
                "lastname": lastname,
                "officeId": caller.office_id,
            }
        ]

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
            method="GET",
            path="/offices/{officeId}",
            handler=get_office,
            permission="READ_OFFICE",
            summary="One office",
            tag="sandbox",
        ),
        Route(
            method="GET",
            path="/users",
            handler=list_users,
            permission="READ_USER",
            summary="The user behind the credential",
            tag="sandbox",
        ),
    ]


def find_office(work: Work, identifier: int | str) -> Office:
    """The tenant's office; raises `NotFound`."""
    text = str(identifier)
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
    office = work.session.scalar(select(Office).where(Office.tenant == work.tenant, Office.id == number))
    if office is None:
        raise NotFound.resource(
            "error.msg.office.id.invalid", f"Office with identifier {text[:50]} does not exist", text[:50]
        )
    return office


def render(office: Office) -> dict[str, Any]:
    """An office as Fineract answers it."""
    opened = office.opening_date
    return {
        "id": office.id,
        "name": office.name,
        "nameDecorated": office.name,
        "externalId": str(office.id),
        "openingDate": [opened.year, opened.month, opened.day],
        "hierarchy": office.hierarchy,
    }


def _list(work: Work) -> list[dict[str, Any]]:
    found = work.session.scalars(
        select(Office).where(Office.tenant == work.tenant).order_by(Office.hierarchy)
    )
    return [render(office) for office in found]
