"""Staff: people who work in an office, loan officers among them. Fineract has no way to delete one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from embarc.core.errors import Invalid, NotFound
from embarc.sandbox.dates import read_date
from embarc.sandbox.records import change, check_unique, count, day, find, known, not_found
from embarc.sandbox.tables import Office, Staff
from embarc.web.routes import Call, Route

if TYPE_CHECKING:
    from embarc.sandbox.application import Sandbox, Work

_FIELDS = (
    *("officeId", "firstname", "lastname", "joiningDate", "isLoanOfficer", "isActive"),
    *("mobileNo", "externalId", "dateFormat", "locale"),
)
_EXAMPLE = {
    "officeId": 1,
    "firstname": "Grace",
    "lastname": "Wanjiru",
    "isLoanOfficer": True,
    "joiningDate": "01 March 2024",
    "dateFormat": "dd MMMM yyyy",
    "locale": "en",
}
_QUERY = (
    ("officeId", "only of this office"),
    ("staffInOfficeHierarchy", "true: of the offices above it too"),
    ("loanOfficersOnly", "true or false"),
    ("status", "active, inactive or all (active)"),
)


def routes(sandbox: Sandbox) -> list[Route]:
    """The routes of staff."""

    async def list_staff(call: Call) -> list[dict[str, Any]]:
        return await sandbox.query(call, _list)

    async def get_staff(call: Call) -> dict[str, Any]:
        return await sandbox.query(call, lambda work: render(work, find(work, Staff, call.path["staffId"])))

    async def create_staff(call: Call) -> dict[str, Any]:
        return await sandbox.command(call, _create)

    async def update_staff(call: Call) -> dict[str, Any]:
        return await sandbox.command(call, _update)

    return [
        Route(
            method="GET",
            path="/staff",
            handler=list_staff,
            permission="READ_STAFF",
            summary="List staff",
            tag="sandbox",
            query=_QUERY,
        ),
        Route(
            method="POST",
            path="/staff",
            handler=create_staff,
            permission="CREATE_STAFF",
            summary="Employ somebody; emits STAFF.CREATE",
            tag="sandbox",
            body=_EXAMPLE,
        ),
        Route(
            method="GET",
            path="/staff/{staffId}",
            handler=get_staff,
            permission="READ_STAFF",
            summary="One of the staff",
            tag="sandbox",
        ),
        Route(
            method="PUT",
            path="/staff/{staffId}",
            handler=update_staff,
            permission="UPDATE_STAFF",
            summary="Change one of the staff; emits STAFF.UPDATE",
            tag="sandbox",
            body={"isActive": False},
        ),
    ]


def in_reach_of(work: Work, office: Office) -> Sequence[Staff]:
    """Who may look after clients of this office: its own staff, and that of the offices above it."""
    parts = [part for part in office.hierarchy.split(".") if part]
    above = ["." + "".join(f"{part}." for part in parts[:depth]) for depth in range(len(parts) + 1)]
    found = select(Staff).join(Office).where(Staff.tenant == work.tenant, Office.hierarchy.in_(above))
    return work.session.scalars(found.order_by(Staff.id)).all()


def find_in_reach_of(work: Work, office: Office, staff_id: int) -> Staff:
    """One of them; raises `NotFound`."""
    found = next((staff for staff in in_reach_of(work, office) if staff.id == staff_id), None)
    if found is None:
        raise not_found(Staff, str(staff_id))
    return found


def find_loan_officer(work: Work, staff_id: int) -> Staff:
    """One of the staff who is a loan officer; raises `NotFound`, as Fineract does for both mistakes."""
    staff = find(work, Staff, staff_id)
    if not staff.is_loan_officer:
        message = f"Staff with identifier {staff_id} is not a loan_officer"
        raise NotFound.resource("error.msg.staff.id.invalid.role", message, staff_id)
    return staff


def render(work: Work, staff: Staff) -> dict[str, Any]:
    """One of the staff as Fineract answers it."""
    return known(
        {
            "id": staff.id,
            "firstname": staff.firstname,
            "lastname": staff.lastname,
            "displayName": staff.display_name,
            "officeId": staff.office_id,
            "officeName": work.session.get_one(Office, staff.office_id).name,
            "isLoanOfficer": staff.is_loan_officer,
            "isActive": staff.is_active,
            "joiningDate": day(staff.joining_date),
            "mobileNo": staff.mobile_no,
            "externalId": staff.external_id,
        }
    )


def _list(work: Work) -> list[dict[str, Any]]:
    query = work.call.query
    wanted = select(Staff).where(Staff.tenant == work.tenant).order_by(Staff.id)
    if office_id := query.get("officeId"):
        count(office_id, "officeId")
        office = find(work, Office, office_id)
        is_wide = query.get("staffInOfficeHierarchy", "").lower() == "true"
        reach = [one.id for one in in_reach_of(work, office)] if is_wide else None
        wanted = wanted.where(Staff.office_id == office.id if reach is None else Staff.id.in_(reach))
    if query.get("loanOfficersOnly", "").lower() == "true":
        wanted = wanted.where(Staff.is_loan_officer)
    status = query.get("status", "active").lower()
    if status not in ("active", "inactive", "all"):
        message = "The query parameter status must be active, inactive or all."
        raise Invalid.field("status", "error.msg.query.parameter.value.unsupported", message, status[:50])
    if status != "all":
        wanted = wanted.where(Staff.is_active == (status == "active"))
    return [render(work, staff) for staff in work.session.scalars(wanted)]


def _create(work: Work) -> dict[str, Any]:
    fields = work.call.fields("staff", _FIELDS)
    office_id = fields.integer("officeId", required=True, at_least=1)
    firstname = fields.text("firstname", required=True, longest=50)
    lastname = fields.text("lastname", required=True, longest=50)
    joined = read_date(fields, "joiningDate", required=True)
    is_loan_officer = fields.boolean("isLoanOfficer", default=False)
    is_active = fields.boolean("isActive", default=True)
    mobile_no, external_id = fields.text("mobileNo", longest=50), fields.text("externalId", longest=100)
    fields.check()
    assert joined is not None  # noqa: S101 - `required` noted its absence
    staff = Staff(
        tenant=work.tenant,
        office_id=find(work, Office, office_id).id,
        firstname=firstname or "",
        lastname=lastname or "",
        display_name=f"{lastname}, {firstname}",
        joining_date=joined,
        is_loan_officer=bool(is_loan_officer),
        is_active=bool(is_active),
        mobile_no=mobile_no,
        external_id=external_id,
    )
    _check_unique(work, staff.display_name, external_id, None)
    work.session.add(staff)
    return _tell(work, staff, "CREATE", {})


def _update(work: Work) -> dict[str, Any]:
    fields = work.call.fields("staff", _FIELDS)
    staff = find(work, Staff, work.call.path["staffId"])
    given = fields.body
    office_id = fields.integer("officeId", default=staff.office_id, at_least=1)
    firstname = fields.text("firstname", required="firstname" in given, longest=50) or staff.firstname
    lastname = fields.text("lastname", required="lastname" in given, longest=50) or staff.lastname
    joined = read_date(fields, "joiningDate") or staff.joining_date
    is_loan_officer = fields.boolean("isLoanOfficer", default=staff.is_loan_officer)
    is_active = fields.boolean("isActive", default=staff.is_active)
    mobile_no, external_id = fields.text("mobileNo", longest=50), fields.text("externalId", longest=100)
    fields.check()
    if "externalId" not in given:
        external_id = staff.external_id
    display_name = f"{lastname}, {firstname}"
    _check_unique(work, display_name, external_id, staff)
    changes = change(
        staff,
        given,
        {
            "officeId": ("office_id", find(work, Office, office_id).id),
            "firstname": ("firstname", firstname),
            "lastname": ("lastname", lastname),
            "joiningDate": ("joining_date", joined),
            "isLoanOfficer": ("is_loan_officer", is_loan_officer),
            "isActive": ("is_active", is_active),
            "mobileNo": ("mobile_no", mobile_no if "mobileNo" in given else staff.mobile_no),
            "externalId": ("external_id", external_id),
        },
    )
    staff.display_name = display_name
    return _tell(work, staff, "UPDATE", {"changes": changes})


def _tell(work: Work, staff: Staff, action: str, more: dict[str, Any]) -> dict[str, Any]:
    work.session.flush()
    answered = {"officeId": staff.office_id, "resourceId": staff.id} | more
    work.emit("STAFF", action, {"officeId": staff.office_id}, answered)
    return answered


def _check_unique(work: Work, display_name: str, external_id: str | None, own: Staff | None) -> None:
    check_unique(
        work,
        Staff.external_id,
        external_id,
        own,
        code="error.msg.staff.duplicate.externalId",
        message=f"Staff with externalId `{external_id}` already exists",
        parameter="externalId",
    )
    check_unique(
        work,
        Staff.display_name,
        display_name,
        own,
        code="error.msg.staff.duplicate.displayName",
        message=f"A staff with the given display name '{display_name}' already exists",
        parameter="displayName",
    )
