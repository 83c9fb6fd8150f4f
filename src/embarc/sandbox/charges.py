"""Charge definitions: what can be added to loans. Fineract's shapes (ChargeDefinitionCommandFromApiJsonDeserializer)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from embarc.core.errors import Duplicate, FieldError, NotFound
from embarc.core.fields import Fields
from embarc.sandbox.amounts import number, read_amount
from embarc.sandbox.loan_tables import ChargeDefinition
from embarc.sandbox.loan_view import CALCULATIONS, REGULAR, SPECIFIED_DUE_DATE
from embarc.sandbox.records import to_id
from embarc.web.routes import Call, Route

if TYPE_CHECKING:
    from embarc.sandbox.application import Sandbox, Work

LOANS, DUE_DATE, FLAT, PERCENT = 1, 2, 1, 2
_FIELDS = (
    "name",
    "chargeAppliesTo",
    "currencyCode",
    "amount",
    "chargeTimeType",
    "chargeCalculationType",
    "chargePaymentMode",
    "penalty",
    "active",
    "locale",
)
EXAMPLE = {
    "name": "Late payment fee",
    "chargeAppliesTo": 1,
    "currencyCode": "USD",
    "amount": 25,
    "chargeTimeType": 2,
    "chargeCalculationType": 1,
    "chargePaymentMode": 0,
    "penalty": True,
    "active": True,
    "locale": "en",
}


def routes(sandbox: Sandbox) -> list[Route]:
    """The routes of charge definitions."""

    async def create(call: Call) -> dict[str, Any]:
        return await sandbox.command(call, _create)

    async def list_charges(call: Call) -> list[dict[str, Any]]:
        return await sandbox.query(call, _list)

    async def get(call: Call) -> dict[str, Any]:
        return await sandbox.query(
            call, lambda work: _render(find_definition(work, to_id(call.path["chargeId"])))
        )

    return [
        Route(
            method="POST",
            path="/charges",
            handler=create,
            permission="CREATE_CHARGE",
            summary="Define a charge for loans; emits CHARGE.CREATE",
            tag="sandbox",
            body=EXAMPLE,
        ),
        Route(
            method="GET",
            path="/charges",
            handler=list_charges,
            permission="READ_CHARGE",
            summary="List charge definitions",
            tag="sandbox",
        ),
        Route(
            method="GET",
            path="/charges/{chargeId}",
            handler=get,
            permission="READ_CHARGE",
            summary="One charge definition",
            tag="sandbox",
        ),
    ]


def find_definition(work: Work, charge_id: int) -> ChargeDefinition:
    """The tenant's charge; raises `NotFound`."""
    found = work.session.scalar(
        select(ChargeDefinition).where(
            ChargeDefinition.tenant == work.tenant, ChargeDefinition.id == charge_id
        )
    )
    if found is None:
        message = f"Charge with identifier {charge_id} does not exist"
        raise NotFound.resource("error.msg.charge.id.invalid", message, charge_id)
    return found


def _create(work: Work) -> dict[str, Any]:
    fields = work.call.fields("charge", _FIELDS)
    name = fields.text("name", required=True, longest=100)
    currency_code = fields.text("currencyCode", required=True, longest=3)
    amount = read_amount(fields, "amount", required=True)
    calculation = fields.integer("chargeCalculationType", required=True, at_least=FLAT, at_most=PERCENT)
    _only(fields, "chargeAppliesTo", LOANS, "1: loans")
    _only(fields, "chargeTimeType", DUE_DATE, "2: a specified due date")
    fields.integer("chargePaymentMode", at_least=0, at_most=1)
    is_penalty = fields.boolean("penalty", default=False)
    is_active = fields.boolean("active", default=False)
    fields.check()
    taken = select(ChargeDefinition.id).where(
        ChargeDefinition.tenant == work.tenant, ChargeDefinition.name == name
    )
    if work.session.scalar(taken) is not None:
        code, message = "error.msg.charge.duplicate.name", f"Charge with name `{name}` already exists"
        raise Duplicate(message, code=code, errors=[FieldError(code, message, "name", name)])
    charge = ChargeDefinition(
        tenant=work.tenant,
        name=name,
        currency_code=currency_code,
        amount=amount,
        calculation=calculation,
        is_penalty=is_penalty,
        is_active=is_active,
    )
    work.session.add(charge)
    work.session.flush()
    answer = {"resourceId": charge.id}
    work.emit("CHARGE", "CREATE", {}, answer)
    return answer


def _only(fields: Fields, name: str, supported: int, words: str) -> None:
    value = fields.integer(name, required=True)
    if value not in (None, supported):
        fields.fail(name, "is.not.supported", f"The sandbox knows of `{name}` only {words}.", value)


def _list(work: Work) -> list[dict[str, Any]]:
    found = work.session.scalars(
        select(ChargeDefinition).where(ChargeDefinition.tenant == work.tenant).order_by(ChargeDefinition.name)
    )
    return [_render(charge) for charge in found]


def _render(charge: ChargeDefinition) -> dict[str, Any]:
    code, words = CALCULATIONS[charge.calculation]
    return {
        "id": charge.id,
        "name": charge.name,
        "active": charge.is_active,
        "penalty": charge.is_penalty,
        "currency": {"code": charge.currency_code},
        "amount": number(charge.amount),
        "chargeTimeType": SPECIFIED_DUE_DATE,
        "chargeAppliesTo": {"id": LOANS, "code": "chargeAppliesTo.loan", "value": "Loan"},
        "chargeCalculationType": {"id": charge.calculation, "code": code, "value": words},
        "chargePaymentMode": REGULAR,
    }
