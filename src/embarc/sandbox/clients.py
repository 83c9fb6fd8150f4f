"""Clients: create, read, change, activate. Codes and rules are Fineract's (ClientDataValidator)."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, func, select

from embarc.core.errors import Duplicate, FieldError, Invalid, NotFound
from embarc.core.fields import Fields
from embarc.sandbox.dates import read_date
from embarc.sandbox.offices import find_office
from embarc.sandbox.tables import Client, Office
from embarc.web.routes import Call, Route, unsupported_command

if TYPE_CHECKING:
    from embarc.sandbox.application import Sandbox, Work

PENDING, ACTIVE = 100, 300
PERSON, ENTITY = 1, 2
_STATUS = {PENDING: ("clientStatusType.pending", "Pending"), ACTIVE: ("clientStatusType.active", "Active")}
_NAMES = ("firstname", "middlename", "lastname", "fullname")
_TEXTS = {
    "firstname": 50,
    "middlename": 50,
    "lastname": 50,
    "fullname": 100,
    "externalId": 100,
    "mobileNo": 50,
    "emailAddress": 50,
    "accountNo": 20,
}
_UPDATABLE = (*_TEXTS, "dateOfBirth", "submittedOnDate", "legalFormId", "dateFormat", "locale")
_CREATE = (*_UPDATABLE, "officeId", "active", "activationDate")
_LONGEST_PAGE = 1000
_ORDER = {"id": Client.id, "displayName": Client.display_name, "accountNo": Client.account_no}

_EXAMPLE = {
    "firstname": "Alice",
    "lastname": "Martinez",
    "externalId": "CUST-2025-001",
    "submittedOnDate": "13 October 2025",
    "dateFormat": "dd MMMM yyyy",
    "locale": "en",
}


def routes(sandbox: Sandbox) -> list[Route]:
    """The routes of clients."""

    async def create(call: Call) -> dict[str, Any]:
        return await sandbox.command(call, _create)

    async def list_clients(call: Call) -> dict[str, Any]:
        return await sandbox.query(call, _list)

    async def get(call: Call) -> dict[str, Any]:
        return await sandbox.query(call, lambda work: _render(work, _find(work)))

    async def update(call: Call) -> dict[str, Any]:
        return await sandbox.command(call, _update)

    async def command(call: Call) -> dict[str, Any]:
        if call.query.get("command") != "activate":
            raise unsupported_command(call, ["activate"])
        return await sandbox.command(call, _activate)

    page = (
        ("offset", "rows to skip"),
        ("limit", "rows of a page (200)"),
        ("orderBy", ", ".join(_ORDER)),
        ("sortOrder", "asc or desc"),
        ("officeId", "only of this office"),
        ("externalId", "only with this external id"),
        ("displayName", "only whose name contains this"),
        ("status", "pending or active"),
    )
    return [
        Route(
            method="POST",
            path="/clients",
            handler=create,
            permission="CREATE_CLIENT",
            summary="Create a client; emits CLIENT.CREATE",
            tag="sandbox",
            body=_EXAMPLE,
        ),
        Route(
            method="GET",
            path="/clients",
            handler=list_clients,
            permission="READ_CLIENT",
            summary="List clients",
            tag="sandbox",
            query=page,
        ),
        Route(
            method="GET",
            path="/clients/{clientId}",
            handler=get,
            permission="READ_CLIENT",
            summary="One client",
            tag="sandbox",
        ),
        Route(
            method="PUT",
            path="/clients/{clientId}",
            handler=update,
            permission="UPDATE_CLIENT",
            summary="Change a client; emits CLIENT.UPDATE",
            tag="sandbox",
            body={"mobileNo": "+254700000000"},
        ),
        Route(
            method="POST",
            path="/clients/{clientId}",
            handler=command,
            permission="ACTIVATE_CLIENT",
            summary="Command: activate; emits CLIENT.ACTIVATE",
            tag="sandbox",
            body={"activationDate": "14 October 2025", "dateFormat": "dd MMMM yyyy", "locale": "en"},
            query=(("command", "activate"),),
        ),
    ]


def _create(work: Work) -> dict[str, Any]:
    fields = work.call.fields("client", _CREATE)
    office_id = fields.integer("officeId", default=work.caller.office_id, at_least=1)
    legal_form_id = fields.integer("legalFormId", default=PERSON, at_least=PERSON, at_most=ENTITY)
    is_active = fields.boolean("active", default=False)
    texts = {name: fields.text(name, longest=longest) for name, longest in _TEXTS.items()}
    _check_names(fields, texts)
    submitted_on = read_date(fields, "submittedOnDate") or work.today
    date_of_birth = _date_of_birth(fields, work.today)
    activated_on = read_date(fields, "activationDate", required=bool(is_active))
    _not_in_future(fields, "submittedOnDate", submitted_on, work.today)
    fields.check()
    assert office_id is not None  # noqa: S101 - it has a default
    office = find_office(work, office_id)
    if is_active:
        assert activated_on is not None  # noqa: S101 - `required` noted its absence
        _check_activation(activated_on, submitted_on, office, work.today)
    _check_unique(work, texts, None)
    client = Client(
        tenant=work.tenant,
        office_id=office.id,
        account_no=texts["accountNo"] or "",
        external_id=texts["externalId"],
        status=ACTIVE if is_active else PENDING,
        legal_form_id=legal_form_id or PERSON,
        firstname=texts["firstname"],
        middlename=texts["middlename"],
        lastname=texts["lastname"],
        fullname=texts["fullname"],
        display_name=_display_name(texts),
        mobile_no=texts["mobileNo"],
        email_address=texts["emailAddress"],
        date_of_birth=date_of_birth,
        submitted_on=submitted_on,
        activated_on=activated_on if is_active else None,
    )
    work.session.add(client)
    if not client.account_no:
        work.session.flush()
        client.account_no = f"{client.id:09d}"
    work.session.flush()
    work.emit("CLIENT", "CREATE", _ids(client), {"resourceId": client.id, "officeId": client.office_id})
    return {"officeId": client.office_id, "clientId": client.id, "resourceId": client.id}


def _update(work: Work) -> dict[str, Any]:
    client = _find(work)
    fields = work.call.fields("client", _UPDATABLE)
    given = {
        name: fields.text(name, longest=longest) for name, longest in _TEXTS.items() if name in fields.body
    }
    texts = _texts_of(client) | given
    if any(name in given for name in _NAMES):
        _check_names(fields, texts)
    legal_form_id = fields.integer(
        "legalFormId", default=client.legal_form_id, at_least=PERSON, at_most=ENTITY
    )
    submitted_on = read_date(fields, "submittedOnDate") or client.submitted_on
    date_of_birth = _date_of_birth(fields, work.today) or client.date_of_birth
    _not_in_future(fields, "submittedOnDate", submitted_on, work.today)
    fields.check()
    _check_unique(work, {name: given.get(name) for name in _TEXTS}, client.id)
    changes: dict[str, Any] = {
        name: value for name, value in given.items() if value != _texts_of(client)[name]
    }
    for name, before, after in (
        ("legalFormId", client.legal_form_id, legal_form_id),
        ("submittedOnDate", client.submitted_on, submitted_on),
        ("dateOfBirth", client.date_of_birth, date_of_birth),
    ):
        if before != after:
            changes[name] = fields.body[name]
    client.firstname, client.middlename = texts["firstname"], texts["middlename"]
    client.lastname, client.fullname = texts["lastname"], texts["fullname"]
    client.external_id, client.mobile_no = texts["externalId"], texts["mobileNo"]
    client.email_address = texts["emailAddress"]
    client.account_no = texts["accountNo"] or client.account_no
    client.legal_form_id = legal_form_id or client.legal_form_id
    client.submitted_on, client.date_of_birth = submitted_on, date_of_birth
    client.display_name = _display_name(texts)
    work.session.flush()
    answer = _answer(client) | {"changes": changes}
    work.emit("CLIENT", "UPDATE", _ids(client), answer)
    return answer


def _activate(work: Work) -> dict[str, Any]:
    client = _find(work)
    fields = work.call.fields("client", ("activationDate", "dateFormat", "locale"))
    activated_on = read_date(fields, "activationDate", required=True)
    fields.check()
    assert activated_on is not None  # noqa: S101 - `required` noted its absence
    if client.status == ACTIVE:
        message = "Cannot activate client. Client is already active."
        raise Invalid(errors=[FieldError("error.msg.clients.already.active", message, "activationDate")])
    _check_activation(activated_on, client.submitted_on, find_office(work, client.office_id), work.today)
    client.status, client.activated_on = ACTIVE, activated_on
    work.session.flush()
    work.emit("CLIENT", "ACTIVATE", _ids(client), _answer(client))
    return _answer(client)


def _list(work: Work) -> dict[str, Any]:
    query = work.call.query
    wanted: Select[Client] = select(Client).where(Client.tenant == work.tenant)
    if office_id := query.get("officeId"):
        wanted = wanted.where(Client.office_id == _count(office_id, "officeId"))
    if external_id := query.get("externalId"):
        wanted = wanted.where(Client.external_id == external_id)
    if name := query.get("displayName"):
        wanted = wanted.where(Client.display_name.icontains(name, autoescape=True))
    if status := query.get("status"):
        wanted = wanted.where(Client.status == {"pending": PENDING, "active": ACTIVE}.get(status.lower(), -1))
    total = work.session.scalar(select(func.count()).select_from(wanted.subquery()))
    column = _ORDER.get(query.get("orderBy", "id"), Client.id)
    ordered = column.desc() if query.get("sortOrder", "").lower() == "desc" else column.asc()
    limit = min(_count(query.get("limit", "200"), "limit") or _LONGEST_PAGE, _LONGEST_PAGE)
    page = wanted.order_by(ordered).offset(_count(query.get("offset", "0"), "offset")).limit(limit)
    found = work.session.scalars(page)
    return {"totalFilteredRecords": total, "pageItems": [_render(work, client) for client in found]}


def _find(work: Work) -> Client:
    text = work.call.path["clientId"]
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
    client = work.session.scalar(select(Client).where(Client.tenant == work.tenant, Client.id == number))
    if client is None:
        raise NotFound.resource(
            "error.msg.client.id.invalid", f"Client with identifier {text[:50]} does not exist", text[:50]
        )
    return client


def _check_names(fields: Fields, texts: dict[str, str | None]) -> None:
    """`fullname`, or `firstname` and `lastname`; not both."""
    if texts["fullname"]:
        for name in ("firstname", "middlename", "lastname"):
            if texts[name]:
                message = f"The parameter `{name}` must not be given together with `fullname`."
                fields.fail(name, "cannot.be.specified.when.fullname.is.specified", message)
    elif not texts["firstname"] and not texts["lastname"]:
        # The double dot is Fineract's.
        message = "Names of the client are missing: give `fullname`, or `firstname` and `lastname`."
        fields.fail_code("id", "validation.msg.client.id..no.name.details.passed", message)
    else:
        for name in ("firstname", "lastname"):
            if not texts[name]:
                fields.fail(name, "cannot.be.blank", f"The parameter `{name}` is mandatory.")


def _date_of_birth(fields: Fields, today: date) -> date | None:
    born = read_date(fields, "dateOfBirth")
    if born is not None and born >= today:
        fields.fail(
            "dateOfBirth", "is.greater.than.date", "The parameter `dateOfBirth` must be before today."
        )
    return born


def _not_in_future(fields: Fields, name: str, day: date, today: date) -> None:
    if day > today:
        message = f"The parameter `{name}` cannot be in the future."
        fields.fail_code(name, f"error.msg.clients.{name}.in.the.future", message, day.isoformat())


def _check_activation(activated_on: date, submitted_on: date, office: Office, today: date) -> None:
    if activated_on > today:
        code, message = "activationDate.in.the.future", "Activation date cannot be in the future."
    elif submitted_on > activated_on:
        code, message = (
            "submittedOnDate.after.activation.date",
            "Submitted on date cannot be after the activation date.",
        )
    elif activated_on < office.opening_date:
        code = "activationDate.cannot.be.before.office.activation.date"
        message = "Client activation date cannot be a date before the office opening date."
    else:
        return
    raise Invalid(
        errors=[
            FieldError(f"error.msg.clients.{code}", message, code.split(".")[0], activated_on.isoformat())
        ]
    )


def _check_unique(work: Work, texts: dict[str, str | None], own_id: int | None) -> None:
    for name, column in (
        ("externalId", Client.external_id),
        ("accountNo", Client.account_no),
        ("mobileNo", Client.mobile_no),
    ):
        value = texts[name]
        if value is None:
            continue
        taken = select(Client.id).where(
            Client.tenant == work.tenant, column == value, Client.id != (own_id or 0)
        )
        if work.session.scalar(taken) is not None:
            message = f"Client with {name} `{value}` already exists"
            code = f"error.msg.client.duplicate.{name}"
            raise Duplicate(message, code=code, errors=[FieldError(code, message, name, value)])


def _texts_of(client: Client) -> dict[str, str | None]:
    return {
        "firstname": client.firstname,
        "middlename": client.middlename,
        "lastname": client.lastname,
        "fullname": client.fullname,
        "externalId": client.external_id,
        "mobileNo": client.mobile_no,
        "emailAddress": client.email_address,
        "accountNo": client.account_no,
    }


def _display_name(texts: dict[str, str | None]) -> str:
    return texts["fullname"] or " ".join(
        filter(None, (texts["firstname"], texts["middlename"], texts["lastname"]))
    )


def _ids(client: Client) -> dict[str, int]:
    return {"officeId": client.office_id, "clientId": client.id}


def _answer(client: Client) -> dict[str, int]:
    return {"officeId": client.office_id, "clientId": client.id, "resourceId": client.id}


def _render(work: Work, client: Client) -> dict[str, Any]:
    """A client as Fineract answers it; what is not known is left out."""
    code, value = _STATUS[client.status]
    office = work.session.get(Office, client.office_id)
    rendered = {
        "id": client.id,
        "accountNo": client.account_no,
        "externalId": client.external_id,
        "status": {"id": client.status, "code": code, "value": value},
        "active": client.status == ACTIVE,
        "activationDate": _day(client.activated_on),
        "firstname": client.firstname,
        "middlename": client.middlename,
        "lastname": client.lastname,
        "fullname": client.fullname,
        "displayName": client.display_name,
        "mobileNo": client.mobile_no,
        "emailAddress": client.email_address,
        "dateOfBirth": _day(client.date_of_birth),
        "officeId": client.office_id,
        "officeName": office.name if office else None,
        "legalForm": {"id": client.legal_form_id},
        "timeline": {"submittedOnDate": _day(client.submitted_on)},
    }
    return {name: value for name, value in rendered.items() if value is not None}


def _day(day: date | None) -> list[int] | None:
    return None if day is None else [day.year, day.month, day.day]


def _count(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        message = f"The query parameter {name} must be a whole number."
        raise Invalid.field(name, "error.msg.query.parameter.value.unsupported", message, text[:50])
    return int(text)
