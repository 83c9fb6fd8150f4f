"""Creating a client and changing its details. Codes and rules are Fineract's (ClientDataValidator)."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from embarc.core.errors import FieldError, Invalid
from embarc.core.fields import Fields
from embarc.sandbox.client_life import Status
from embarc.sandbox.client_views import CODED, LEGAL_FORMS, find_client
from embarc.sandbox.codes import find_value
from embarc.sandbox.dates import read_date
from embarc.sandbox.records import change, check_unique, find
from embarc.sandbox.staff import find_in_reach_of
from embarc.sandbox.tables import Client, Office

if TYPE_CHECKING:
    from embarc.sandbox.application import Work

_PERSON = 1
_NAMES = ("firstname", "middlename", "lastname", "fullname")
_TEXTS = {
    "firstname": ("firstname", 50),
    "middlename": ("middlename", 50),
    "lastname": ("lastname", 50),
    "fullname": ("fullname", 100),
    "externalId": ("external_id", 100),
    "mobileNo": ("mobile_no", 50),
    "emailAddress": ("email_address", 50),
    "accountNo": ("account_no", 20),
}
"""Fields with text: column and longest."""
_UPDATABLE = (
    *_TEXTS,
    *CODED,
    *("staffId", "dateOfBirth", "submittedOnDate", "legalFormId", "dateFormat", "locale"),
)
_CREATABLE = (*_UPDATABLE, "officeId", "active", "activationDate")


def create(work: Work) -> dict[str, Any]:
    """`POST /clients`."""
    fields = work.call.fields("client", _CREATABLE)
    office_id = fields.integer("officeId", default=work.caller.office_id, at_least=1)
    legal_form_id = _legal_form(fields, _PERSON)
    is_active = fields.boolean("active", default=False)
    texts = {name: fields.text(name, longest=longest) for name, (_, longest) in _TEXTS.items()}
    _check_names(fields, texts)
    submitted_on = read_date(fields, "submittedOnDate") or work.today
    date_of_birth = _date_of_birth(fields, work.today)
    activated_on = read_date(fields, "activationDate", required=bool(is_active))
    _not_in_future(fields, submitted_on, work.today)
    chosen = {name: fields.integer(name, at_least=1) for name in ("staffId", *CODED)}
    fields.check()
    office = find(work, Office, office_id)
    if is_active and activated_on:
        check_activation(activated_on, submitted_on, office, work.today)
    _check_unique(work, texts, None)
    client = Client(
        tenant=work.tenant,
        office_id=office.id,
        status=Status.ACTIVE if is_active else Status.PENDING,
        legal_form_id=legal_form_id,
        display_name=_display_name(texts),
        date_of_birth=date_of_birth,
        submitted_on=submitted_on,
        activated_on=activated_on if is_active else None,
        **{column: texts[name] for name, (column, _) in _TEXTS.items()},
        **_chosen(work, office, chosen),
    )
    client.account_no = client.account_no or ""
    work.session.add(client)
    work.session.flush()
    client.account_no = client.account_no or f"{client.id:09d}"
    work.session.flush()
    work.emit("CLIENT", "CREATE", ids(client), {"resourceId": client.id, "officeId": client.office_id})
    return answer(client)


def update(work: Work) -> dict[str, Any]:
    """`PUT /clients/{clientId}`."""
    fields = work.call.fields("client", _UPDATABLE)
    client = find_client(work)
    given = {
        name: fields.text(name, longest=longest)
        for name, (_, longest) in _TEXTS.items()
        if name in fields.body
    }
    texts = {name: getattr(client, column) for name, (column, _) in _TEXTS.items()} | given
    texts["accountNo"] = texts["accountNo"] or client.account_no  # it cannot be taken away
    if any(name in given for name in _NAMES):
        _check_names(fields, texts)
    legal_form_id = _legal_form(fields, client.legal_form_id)
    submitted_on = read_date(fields, "submittedOnDate") or client.submitted_on
    date_of_birth = _date_of_birth(fields, work.today) or client.date_of_birth
    _not_in_future(fields, submitted_on, work.today)
    chosen = {name: fields.integer(name, at_least=1) for name in ("staffId", *CODED) if name in fields.body}
    fields.check()
    office = work.session.get_one(Office, client.office_id)
    _check_unique(work, given, client)
    columns = {name: column for name, (column, _) in {**_TEXTS, **CODED}.items()} | {"staffId": "staff_id"}
    changes = change(
        client,
        fields.body,
        {name: (column, texts[name]) for name, (column, _) in _TEXTS.items()}
        | {
            name: (columns[name], value)
            for name, value in zip(chosen, _chosen(work, office, chosen).values(), strict=True)
        }
        | {
            "legalFormId": ("legal_form_id", legal_form_id),
            "submittedOnDate": ("submitted_on", submitted_on),
            "dateOfBirth": ("date_of_birth", date_of_birth),
        },
    )
    client.display_name = _display_name(texts)
    work.session.flush()
    answered = answer(client) | {"changes": changes}
    work.emit("CLIENT", "UPDATE", ids(client), answered)
    return answered


def check_activation(activated_on: date, submitted_on: date, office: Office, today: date) -> None:
    """Raise `Invalid` where a client cannot be activated on this day."""
    if activated_on > today:
        code, message = "activationDate.in.the.future", "Activation date cannot be in the future."
    elif submitted_on > activated_on:
        code = "submittedOnDate.after.activation.date"
        message = "Submitted on date cannot be after the activation date."
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


def ids(client: Client) -> dict[str, int]:
    """The ids of its events."""
    return {"officeId": client.office_id, "clientId": client.id}


def answer(client: Client) -> dict[str, Any]:
    """What most of its commands are answered with."""
    return {"officeId": client.office_id, "clientId": client.id, "resourceId": client.id}


def _chosen(work: Work, office: Office, chosen: dict[str, int | None]) -> dict[str, int | None]:
    """The columns of what was chosen by id, each of which must exist."""
    columns = {}
    for name, number in chosen.items():
        if name == "staffId":
            columns["staff_id"] = None if number is None else find_in_reach_of(work, office, number).id
        else:
            column, code = CODED[name]
            columns[column] = None if number is None else find_value(work, code, number).id
    return columns


def _legal_form(fields: Fields, default: int) -> int:
    found = fields.integer(
        "legalFormId", default=default, at_least=min(LEGAL_FORMS), at_most=max(LEGAL_FORMS)
    )
    return default if found is None else found


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


def _not_in_future(fields: Fields, submitted_on: date, today: date) -> None:
    if submitted_on > today:
        code, message = (
            "error.msg.clients.submittedOnDate.in.the.future",
            "The parameter `submittedOnDate` cannot be in the future.",
        )
        fields.fail_code("submittedOnDate", code, message, submitted_on.isoformat())


def _check_unique(work: Work, texts: dict[str, str | None], own: Client | None) -> None:
    for name, column in (
        ("externalId", Client.external_id),
        ("accountNo", Client.account_no),
        ("mobileNo", Client.mobile_no),
    ):
        check_unique(
            work,
            column,
            texts.get(name),
            own,
            code=f"error.msg.client.duplicate.{name}",
            message=f"Client with {name} `{texts.get(name)}` already exists",
            parameter=name,
        )


def _display_name(texts: dict[str, str | None]) -> str:
    return texts["fullname"] or " ".join(
        filter(None, (texts["firstname"], texts["middlename"], texts["lastname"]))
    )
