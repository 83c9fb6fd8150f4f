"""Codes and their values: the lists that a platform lets its people choose from. Rules are Fineract's (Code, CodeValue)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError

from embarc.core.errors import Duplicate, FieldError, NotFound, RuleViolation
from embarc.sandbox.records import change, check_unique, find, known, to_id
from embarc.sandbox.tables import Code, CodeValue
from embarc.web.routes import Call, Handler, Route

if TYPE_CHECKING:
    from embarc.sandbox.application import Sandbox, Work

_LAST_POSITION = 2**31 - 1
_VALUE = ("name", "description", "position", "isActive", "isMandatory")


def routes(sandbox: Sandbox) -> list[Route]:
    """The routes of codes."""

    def commanding(run: Callable[[Work], dict[str, Any]]) -> Handler:
        async def handler(call: Call) -> dict[str, Any]:
            return await sandbox.command(call, run)

        return handler

    def asking(ask: Callable[[Work], Any]) -> Handler:
        async def handler(call: Call) -> Any:
            return await sandbox.query(call, ask)

        return handler

    one, values = "/codes/{codeId}", "/codes/{codeId}/codevalues"
    value = values + "/{codeValueId}"
    table: list[tuple[str, str, Handler, str, str, Any]] = [
        ("GET", "/codes", asking(_list), "READ_CODE", "List codes", None),
        (
            *("POST", "/codes", commanding(_create), "CREATE_CODE", "Create a code; emits CODE.CREATE"),
            {"name": "BranchClosureReason"},
        ),
        ("GET", one, asking(lambda work: _render(_find(work))), "READ_CODE", "One code", None),
        (
            *("PUT", one, commanding(_update), "UPDATE_CODE", "Rename a code; emits CODE.UPDATE"),
            {"name": "OfficeClosureReason"},
        ),
        ("DELETE", one, commanding(_delete), "DELETE_CODE", "Delete a code; emits CODE.DELETE", None),
        ("GET", values, asking(_list_values), "READ_CODEVALUE", "List the values of a code", None),
        (
            *("POST", values, commanding(_create_value), "CREATE_CODEVALUE"),
            *("Create a value; emits CODEVALUE.CREATE", {"name": "Moved abroad", "position": 4}),
        ),
        (
            "GET",
            value,
            asking(lambda work: _render_value(_find_one(work))),
            "READ_CODEVALUE",
            "One value",
            None,
        ),
        (
            *("PUT", value, commanding(_update_value), "UPDATE_CODEVALUE"),
            *("Change a value; emits CODEVALUE.UPDATE", {"isActive": False}),
        ),
        (
            *("DELETE", value, commanding(_delete_value), "DELETE_CODEVALUE"),
            *("Delete a value that is not in use; emits CODEVALUE.DELETE", None),
        ),
    ]
    return [
        Route(
            method=method,
            path=path,
            handler=handler,
            permission=permission,
            summary=summary,
            tag="sandbox",
            body=body,
        )
        for method, path, handler, permission, summary, body in table
    ]


def find_value(work: Work, code_name: str, value_id: int) -> CodeValue:
    """The value of this code; raises `NotFound` where it is none of its values."""
    found = work.session.scalar(
        select(CodeValue)
        .join(Code)
        .where(CodeValue.tenant == work.tenant, Code.name == code_name, CodeValue.id == to_id(value_id))
    )
    if found is None:
        message = f"Code value with identifier {value_id} does not exist for a code with name {code_name}"
        raise NotFound.resource("error.msg.codevalue.codename.id.combination.invalid", message, value_id)
    return found


def options(work: Work, code_name: str) -> list[dict[str, Any]]:
    """The active values of a code."""
    found = work.session.scalars(
        select(CodeValue)
        .join(Code)
        .where(CodeValue.tenant == work.tenant, Code.name == code_name, CodeValue.is_active)
        .order_by(CodeValue.position, CodeValue.id)
    )
    return [_render_value(value) for value in found]


def _list(work: Work) -> list[dict[str, Any]]:
    found = work.session.scalars(select(Code).where(Code.tenant == work.tenant).order_by(Code.name))
    return [_render(code) for code in found]


def _create(work: Work) -> dict[str, Any]:
    code = Code(tenant=work.tenant, name=_name(work, None), is_system_defined=False)
    work.session.add(code)
    work.session.flush()
    return _tell(work, "CREATE", {"resourceId": code.id})


def _update(work: Work) -> dict[str, Any]:
    code = _find(work)
    name = _name(work, code)
    _check_own(code)
    changes = change(code, {"name": name}, {"name": ("name", name)})
    work.session.flush()
    return _tell(work, "UPDATE", {"resourceId": code.id, "changes": changes})


def _delete(work: Work) -> dict[str, Any]:
    code = _find(work)
    _check_own(code)
    try:
        work.session.execute(delete(CodeValue).where(CodeValue.code_id == code.id))
        work.session.delete(code)
        work.session.flush()
    except IntegrityError:
        raise _in_use() from None
    return _tell(work, "DELETE", {"resourceId": code.id})


def _list_values(work: Work) -> list[dict[str, Any]]:
    found = work.session.scalars(
        select(CodeValue)
        .where(CodeValue.code_id == _find(work).id)
        .order_by(CodeValue.position, CodeValue.id)
    )
    return [_render_value(value) for value in found]


def _create_value(work: Work) -> dict[str, Any]:
    fields = work.call.fields("code.value", _VALUE)
    name = fields.text("name", required=True, longest=100)
    description = fields.text("description", longest=500)
    position = fields.integer("position", default=0, at_least=0, at_most=_LAST_POSITION)
    is_active, is_mandatory = fields.boolean("isActive", default=True), fields.boolean("isMandatory")
    fields.check()
    code = _find(work)
    _check_label(work, code, name or "", None)
    value = CodeValue(
        tenant=work.tenant,
        code_id=code.id,
        name=name or "",
        description=description,
        position=position or 0,
        is_active=is_active is not False,
        is_mandatory=bool(is_mandatory),
    )
    work.session.add(value)
    work.session.flush()
    return _tell_value(work, value, "CREATE", {"resourceId": code.id, "subResourceId": value.id})


def _update_value(work: Work) -> dict[str, Any]:
    fields = work.call.fields("code.value", _VALUE)
    value = _find_one(work)
    name = fields.text("name", required="name" in fields.body, longest=100)
    description = fields.text("description", longest=500)
    position = fields.integer("position", default=value.position, at_least=0, at_most=_LAST_POSITION)
    is_active = fields.boolean("isActive", default=value.is_active)
    is_mandatory = fields.boolean("isMandatory", default=value.is_mandatory)
    fields.check()
    _check_label(work, _find(work), name or value.name, value)
    changes = change(
        value,
        fields.body,
        {
            "name": ("name", name or value.name),
            "description": (
                "description",
                description if "description" in fields.body else value.description,
            ),
            "position": ("position", position),
            "isActive": ("is_active", is_active),
            "isMandatory": ("is_mandatory", is_mandatory),
        },
    )
    work.session.flush()
    return _tell_value(work, value, "UPDATE", {"resourceId": value.id, "changes": changes})


def _delete_value(work: Work) -> dict[str, Any]:
    value = _find_one(work)
    try:
        work.session.delete(value)
        work.session.flush()
    except IntegrityError:
        raise _in_use() from None
    return _tell_value(work, value, "DELETE", {"resourceId": value.code_id, "subResourceId": value.id})


def _tell(work: Work, action: str, answered: dict[str, Any]) -> dict[str, Any]:
    work.emit("CODE", action, {}, answered)
    return answered


def _tell_value(work: Work, value: CodeValue, action: str, answered: dict[str, Any]) -> dict[str, Any]:
    # Fineract answers sometimes with the code's id and sometimes with the value's; the entity is the value.
    work.emit("CODEVALUE", action, {}, answered, entity_id=value.id)
    return answered


def _find(work: Work) -> Code:
    return find(work, Code, work.call.path["codeId"])


def _find_one(work: Work) -> CodeValue:
    code, value = _find(work), find(work, CodeValue, work.call.path["codeValueId"])
    return value if value.code_id == code.id else find(work, CodeValue, None)


def _name(work: Work, own: Code | None) -> str:
    fields = work.call.fields("code", ("name",))
    name = fields.text("name", required=True, longest=100)
    fields.check()
    check_unique(
        work,
        Code.name,
        name,
        own,
        code="error.msg.code.duplicate.name",
        message=f"A code with name '{name}' already exists",
        parameter="name",
    )
    return name or ""


def _check_own(code: Code) -> None:
    if code.is_system_defined:
        message = "This code is system defined and cannot be modified or deleted."
        raise RuleViolation.rule("error.msg.code.systemdefined", message)


def _check_label(work: Work, code: Code, name: str, own: CodeValue | None) -> None:
    taken = select(CodeValue.id).where(
        CodeValue.code_id == code.id, CodeValue.name == name, CodeValue.id != (own.id if own else 0)
    )
    if work.session.scalar(taken) is not None:
        error, message = (
            "error.msg.code.value.duplicate.label",
            f"A code value with lable '{name}' already exists",
        )
        raise Duplicate(message, code=error, errors=[FieldError(error, message, "name", name)])


def _in_use() -> Duplicate:
    return Duplicate("This code value is in use", code="error.msg.codeValue.in.use")


def _render(code: Code) -> dict[str, Any]:
    return {"id": code.id, "name": code.name, "systemDefined": code.is_system_defined}


def _render_value(value: CodeValue) -> dict[str, Any]:
    return known(
        {
            "id": value.id,
            "name": value.name,
            "description": value.description,
            "position": value.position,
            "active": value.is_active,
            "mandatory": value.is_mandatory,
        }
    )
