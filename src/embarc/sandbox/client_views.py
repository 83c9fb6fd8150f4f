"""What is answered about clients: one, a page of them, and what a form needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, func, select

from embarc.core.errors import Invalid
from embarc.sandbox.client_life import BY_COMMAND, Status
from embarc.sandbox.codes import options
from embarc.sandbox.offices import render as render_office
from embarc.sandbox.records import count, day, find, known, not_found
from embarc.sandbox.staff import in_reach_of
from embarc.sandbox.staff import render as render_staff
from embarc.sandbox.tables import Client, CodeValue, Office, Staff

if TYPE_CHECKING:
    from embarc.sandbox.application import Work

LEGAL_FORMS = {1: ("legalFormType.person", "Person"), 2: ("legalFormType.entity", "Entity")}
CODED = {
    "genderId": ("gender_id", "Gender"),
    "clientTypeId": ("client_type_id", "ClientType"),
    "clientClassificationId": ("client_classification_id", "ClientClassification"),
}
"""Fields whose value is one of a code: column and code."""
_ORDER = {"id": Client.id, "displayName": Client.display_name, "accountNo": Client.account_no}
_LONGEST_PAGE = 1000

PAGE_QUERY = (
    ("offset", "rows to skip"),
    ("limit", "rows of a page (200)"),
    ("orderBy", ", ".join(_ORDER)),
    ("sortOrder", "asc or desc"),
    ("officeId", "only of this office"),
    ("externalId", "only with this external id"),
    ("displayName", "only whose name contains this"),
    ("status", ", ".join(status.name.lower() for status in Status)),
)
_WITH_REASONS = {name: one.reason_code for name, one in BY_COMMAND.items() if one.reason_code}
TEMPLATE_QUERY = (
    ("officeId", "of which office staff may be chosen"),
    ("commandParam", f"{', '.join(_WITH_REASONS)}: only the reasons for this command"),
)


def find_client(work: Work) -> Client:
    """The client that the path names, by id or by external id; raises `NotFound`."""
    external_id = work.call.path.get("externalId")
    if external_id is None:
        return find(work, Client, work.call.path["clientId"])
    found = work.session.scalar(
        select(Client).where(Client.tenant == work.tenant, Client.external_id == external_id)
    )
    if found is None:
        raise not_found(Client, external_id)
    return found


def one(work: Work) -> dict[str, Any]:
    """One client."""
    return _render(work, find_client(work))


def page(work: Work) -> dict[str, Any]:
    """A page of clients, as the query selects and orders them."""
    query = work.call.query
    wanted: Select[Client] = select(Client).where(Client.tenant == work.tenant)
    if office_id := query.get("officeId"):
        wanted = wanted.where(Client.office_id == count(office_id, "officeId"))
    if external_id := query.get("externalId"):
        wanted = wanted.where(Client.external_id == external_id)
    if name := query.get("displayName"):
        wanted = wanted.where(Client.display_name.icontains(name, autoescape=True))
    if status := query.get("status"):
        wanted = wanted.where(Client.status == _status(status))
    total = work.session.scalar(select(func.count()).select_from(wanted.subquery()))
    column = _ORDER.get(query.get("orderBy", "id"), Client.id)
    ordered = column.desc() if query.get("sortOrder", "").lower() == "desc" else column.asc()
    limit = min(count(query.get("limit", "200"), "limit") or _LONGEST_PAGE, _LONGEST_PAGE)
    rows = wanted.order_by(ordered).offset(count(query.get("offset", "0"), "offset")).limit(limit)
    return {
        "totalFilteredRecords": total,
        "pageItems": [_render(work, client) for client in work.session.scalars(rows)],
    }


def template(work: Work) -> dict[str, Any]:
    """The choices of a new client's form; with `commandParam`, the reasons for that command."""
    query = work.call.query
    if command := query.get("commandParam"):
        if command not in _WITH_REASONS:
            message = f"The query parameter commandParam must be one of {', '.join(_WITH_REASONS)}."
            raise Invalid.field(
                "commandParam", "error.msg.query.parameter.value.unsupported", message, command
            )
        return {"narrations": options(work, _WITH_REASONS[command])}
    offices = work.session.scalars(
        select(Office).where(Office.tenant == work.tenant).order_by(Office.hierarchy)
    ).all()
    chosen = query.get("officeId", "")
    office = find(work, Office, chosen) if chosen else next(iter(offices), None)
    staff = in_reach_of(work, office) if office else []
    return {
        "activationDate": day(work.today),
        "officeId": office.id if office else None,
        "officeOptions": [render_office(each) for each in offices],
        "staffOptions": [render_staff(work, each) for each in staff if each.is_active],
        "genderOptions": options(work, "Gender"),
        "clientTypeOptions": options(work, "ClientType"),
        "clientClassificationOptions": options(work, "ClientClassification"),
        "clientLegalFormOptions": [_legal_form(number) for number in LEGAL_FORMS],
        "savingProductOptions": [],
        "datatables": [],
    }


def _render(work: Work, client: Client) -> dict[str, Any]:
    """A client as Fineract answers it."""
    status = Status(client.status)
    office = work.session.get_one(Office, client.office_id)
    staff = client.staff_id and work.session.get_one(Staff, client.staff_id)
    return known(
        {
            "id": client.id,
            "accountNo": client.account_no,
            "externalId": client.external_id,
            "status": {"id": client.status, "code": status.code, "value": status.label},
            "subStatus": _coded(work, client.reason_id),
            "active": status is Status.ACTIVE,
            "activationDate": day(client.activated_on),
            "firstname": client.firstname,
            "middlename": client.middlename,
            "lastname": client.lastname,
            "fullname": client.fullname,
            "displayName": client.display_name,
            "mobileNo": client.mobile_no,
            "emailAddress": client.email_address,
            "dateOfBirth": day(client.date_of_birth),
            **{name.removesuffix("Id"): _coded(work, getattr(client, CODED[name][0])) for name in CODED},
            "officeId": client.office_id,
            "officeName": office.name,
            "staffId": client.staff_id,
            "staffName": staff.display_name if staff else None,
            "legalForm": _legal_form(client.legal_form_id),
            "timeline": known(
                {
                    "submittedOnDate": day(client.submitted_on),
                    "activatedOnDate": day(client.activated_on),
                    "closedOnDate": day(client.closed_on),
                    "rejectedOnDate": day(client.rejected_on),
                    "withdrawnOnDate": day(client.withdrawn_on),
                }
            ),
        }
    )


def _coded(work: Work, value_id: int | None) -> dict[str, Any] | None:
    value = value_id and work.session.get_one(CodeValue, value_id)
    return {"id": value.id, "name": value.name} if value else None


def _legal_form(number: int) -> dict[str, Any]:
    code, value = LEGAL_FORMS[number]
    return {"id": number, "code": code, "value": value}


def _status(name: str) -> Status:
    try:
        return Status[name.upper()]
    except KeyError:
        message = f"The query parameter status must be one of {PAGE_QUERY[-1][1]}."
        raise Invalid.field(
            "status", "error.msg.query.parameter.value.unsupported", message, name[:50]
        ) from None
