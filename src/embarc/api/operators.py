"""`/operators`: the people who sign in to this service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from embarc.api.access import read_permissions
from embarc.core.access import ROLES, SHORTEST_PASSWORD, User, role_of
from embarc.core.fields import Fields
from embarc.engine.operators import Operators
from embarc.web.routes import Call, Route

LONGEST_PASSWORD = 1000
_FIELDS = ("fullName", "officeId", "role", "permissions", "password")


def routes(
    operators: Operators, permissions: Sequence[str], fingerprint: Callable[[str], str]
) -> list[Route]:
    """The routes of operators; `permissions` are all that routes ask for."""

    def audited(user: User) -> str:
        shown = _operator(user) | {"fingerprints": {"password": fingerprint(user.password_hash)}}
        return msgspec.json.encode(shown).decode()

    async def list_operators(call: Call) -> list[dict[str, Any]]:
        return [_operator(user) for user in await operators.list(call.caller.tenant)]

    async def get_operator(call: Call) -> dict[str, Any]:
        return _operator(await operators.get(call.caller.tenant, call.path["operatorId"]))

    async def create_operator(call: Call) -> dict[str, Any]:
        fields = call.fields("operator", ("username", *_FIELDS))
        username = fields.text("username", required=True, longest=100) or ""
        if ":" in username or not username.isprintable():
            message = "The parameter `username` must be printable and without a colon (RFC 7617)."
            fields.fail("username", "invalid", message)
        full_name = fields.text("fullName", longest=200) or username
        office_id = fields.integer("officeId", default=1, at_least=1)
        wanted = read_permissions(fields, permissions)
        password = _password(fields, required=True)
        fields.check()
        user = await operators.create(
            call.caller,
            username=username,
            full_name=full_name,
            office_id=office_id or 1,
            permissions=wanted or frozenset(),
            password=password or "",
        )
        call.notes.update(resource_id=str(user.id), after=audited(user))
        return {"resourceId": user.id}

    async def update_operator(call: Call) -> dict[str, Any]:
        before = await operators.get(call.caller.tenant, call.path["operatorId"])
        fields = call.fields("operator", _FIELDS)
        full_name = fields.text("fullName", longest=200)
        office_id = fields.integer("officeId", at_least=1)
        wanted = read_permissions(fields, permissions, required=False)
        password = _password(fields, required=False)
        fields.check()
        after = await operators.update(
            call.caller,
            before,
            full_name=full_name,
            office_id=office_id,
            permissions=wanted,
            password=password,
        )
        call.notes.update(before=audited(before), after=audited(after))
        return {"resourceId": after.id}

    async def delete_operator(call: Call) -> dict[str, Any]:
        user = await operators.get(call.caller.tenant, call.path["operatorId"])
        await operators.remove(call.caller, user)
        call.notes.update(before=audited(user))
        return {"resourceId": user.id}

    example = {"username": "jane", "fullName": "Jane Doe", "role": "operator", "password": "..."}
    rows: list[tuple[str, str, Any, str, str, Any]] = [
        ("GET", "/operators", list_operators, "READ", "The people who may sign in", None),
        (
            "POST",
            "/operators",
            create_operator,
            "CREATE",
            f"Let somebody sign in; roles: {', '.join(ROLES)}",
            example,
        ),
        ("GET", "/operators/{operatorId}", get_operator, "READ", "One of them", None),
        (
            "PUT",
            "/operators/{operatorId}",
            update_operator,
            "UPDATE",
            "Change name, office, role or password",
            {"role": "viewer"},
        ),
        (
            "DELETE",
            "/operators/{operatorId}",
            delete_operator,
            "DELETE",
            "Let somebody sign in no more, at once",
            None,
        ),
    ]
    return [
        Route(
            method=method,
            path=path,
            handler=handler,
            permission=f"{verb}_OPERATOR",
            summary=summary,
            tag="access",
            body=body,
        )
        for method, path, handler, verb, summary, body in rows
    ]


def _password(fields: Fields, *, required: bool) -> str | None:
    """As it is, spaces too; never told back."""
    password = fields.body.get("password")
    if password is None and not required:
        return None
    if not isinstance(password, str) or not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        message = f"The parameter `password` must have {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters."
        fields.fail("password", "invalid", message)
        return None
    return password


def _operator(user: User) -> dict[str, Any]:
    rendered: dict[str, Any] = {
        "id": user.id,
        "username": user.username,
        "fullName": user.full_name,
        "officeId": user.office_id,
        "permissions": sorted(user.permissions),
    }
    role = role_of(user.permissions)
    return rendered | ({"role": role} if role else {})
