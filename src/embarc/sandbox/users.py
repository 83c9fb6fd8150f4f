"""Users of the platform and their roles.

They are the business's own records, not those who may call Embarc: a password is checked for its form and then
forgotten. It is in no table, and its event has `****` in its place.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from embarc.core.errors import RuleViolation
from embarc.core.fields import Fields
from embarc.sandbox.records import change, check_unique, find, known
from embarc.sandbox.tables import Office, Role, Staff, User
from embarc.web.routes import Call, Route

if TYPE_CHECKING:
    from embarc.sandbox.application import Sandbox, Work

FIRST_USER = 1
"""Made with the database, as Fineract makes its own; it cannot be deleted."""
_FIELDS = (
    *("username", "firstname", "lastname", "email", "officeId", "staffId", "roles"),
    *("password", "repeatPassword", "sendPasswordToEmail", "passwordNeverExpires"),
)
_PASSWORD = (1, 50)
"""Fewest and most characters of a password: Fineract's simplest policy."""
_EXAMPLE = {
    "username": "grace",
    "firstname": "Grace",
    "lastname": "Wanjiru",
    "officeId": 1,
    "roles": [2],
    "sendPasswordToEmail": False,
    "password": "...",
    "repeatPassword": "...",
}


def routes(sandbox: Sandbox) -> list[Route]:
    """The routes of users and roles."""

    async def list_users(call: Call) -> list[dict[str, Any]]:
        return await sandbox.query(call, _list)

    async def get_user(call: Call) -> dict[str, Any]:
        return await sandbox.query(call, lambda work: _render(work, find(work, User, call.path["userId"])))

    async def create_user(call: Call) -> dict[str, Any]:
        return await sandbox.command(call, _create)

    async def update_user(call: Call) -> dict[str, Any]:
        return await sandbox.command(call, _update)

    async def delete_user(call: Call) -> dict[str, Any]:
        return await sandbox.command(call, _delete)

    async def list_roles(call: Call) -> list[dict[str, Any]]:
        return await sandbox.query(call, _list_roles)

    return [
        Route(
            method="GET",
            path="/users",
            handler=list_users,
            permission="READ_USER",
            summary="List users",
            tag="sandbox",
        ),
        Route(
            method="POST",
            path="/users",
            handler=create_user,
            permission="CREATE_USER",
            summary="Create a user, who cannot sign in to Embarc; emits USER.CREATE",
            tag="sandbox",
            body=_EXAMPLE,
        ),
        Route(
            method="GET",
            path="/users/{userId}",
            handler=get_user,
            permission="READ_USER",
            summary="One user",
            tag="sandbox",
        ),
        Route(
            method="PUT",
            path="/users/{userId}",
            handler=update_user,
            permission="UPDATE_USER",
            summary="Change a user; emits USER.UPDATE",
            tag="sandbox",
            body={"lastname": "Kamau"},
        ),
        Route(
            method="DELETE",
            path="/users/{userId}",
            handler=delete_user,
            permission="DELETE_USER",
            summary="Delete a user; emits USER.DELETE",
            tag="sandbox",
        ),
        Route(
            method="GET",
            path="/roles",
            handler=list_roles,
            permission="READ_ROLE",
            summary="List the roles that users may have",
            tag="sandbox",
        ),
    ]


def _list(work: Work) -> list[dict[str, Any]]:
    found = work.session.scalars(select(User).where(User.tenant == work.tenant).order_by(User.id))
    return [_render(work, user) for user in found]


def _list_roles(work: Work) -> list[dict[str, Any]]:
    found = work.session.scalars(select(Role).where(Role.tenant == work.tenant).order_by(Role.id))
    return [_render_role(role) for role in found]


def _create(work: Work) -> dict[str, Any]:
    fields = work.call.fields("user", _FIELDS)
    username = fields.text("username", required=True, longest=100)
    firstname = fields.text("firstname", required=True, longest=100)
    lastname = fields.text("lastname", required=True, longest=100)
    is_sent = fields.boolean("sendPasswordToEmail", default=False)
    email = fields.text("email", required=bool(is_sent), longest=100)
    if not is_sent:
        _check_password(fields)
    office_id = fields.integer("officeId", required=True, at_least=1)
    staff_id = fields.integer("staffId", at_least=1)
    role_ids = _role_ids(fields)
    fields.check()
    office = find(work, Office, office_id)
    roles = [find(work, Role, one) for one in role_ids]
    _check_unique(work, username, None)
    user = User(
        tenant=work.tenant,
        office_id=office.id,
        staff_id=None if staff_id is None else find(work, Staff, staff_id).id,
        username=username or "",
        firstname=firstname or "",
        lastname=lastname or "",
        email=email,
        roles=roles,
    )
    work.session.add(user)
    return _tell(work, user, "CREATE", {})


def _update(work: Work) -> dict[str, Any]:
    fields = work.call.fields("user", _FIELDS)
    user = find(work, User, work.call.path["userId"])
    given = fields.body
    texts = {
        name: fields.text(name, required=name in given, longest=100) or getattr(user, name)
        for name in ("username", "firstname", "lastname", "email")
    }
    if "password" in given or "repeatPassword" in given:
        _check_password(fields)
    office_id = fields.integer("officeId", default=user.office_id, at_least=1)
    staff_id = fields.integer("staffId", default=user.staff_id, at_least=1)
    role_ids = _role_ids(fields) if "roles" in given else [role.id for role in user.roles]
    fields.check()
    roles = sorted((find(work, Role, one) for one in role_ids), key=lambda role: role.id)
    _check_unique(work, texts["username"], user)
    changes = change(
        user,
        given,
        {
            **{name: (name, value) for name, value in texts.items()},
            "officeId": ("office_id", find(work, Office, office_id).id),
            "staffId": ("staff_id", None if staff_id is None else find(work, Staff, staff_id).id),
            "roles": ("roles", roles),
        },
    )
    return _tell(work, user, "UPDATE", {"changes": changes})


def _delete(work: Work) -> dict[str, Any]:
    user = find(work, User, work.call.path["userId"])
    if user.id == FIRST_USER:
        message = "User with identifier 1 is system defined and cannot be deleted."
        raise RuleViolation.rule("error.msg.user.systemdefined", message)
    work.session.delete(user)
    return _tell(work, user, "DELETE", {})


def _tell(work: Work, user: User, action: str, more: dict[str, Any]) -> dict[str, Any]:
    work.session.flush()
    answered = {"officeId": user.office_id, "resourceId": user.id} | more
    work.emit("USER", action, {"officeId": user.office_id}, answered)
    return answered


def _check_password(fields: Fields) -> None:
    """Note what is wrong with it; the error does not repeat it."""
    password, repeated = fields.body.get("password"), fields.body.get("repeatPassword")
    if not isinstance(password, str) or not password:
        fields.fail("password", "cannot.be.blank", "The parameter `password` is mandatory.")
    elif not _PASSWORD[0] <= len(password) <= _PASSWORD[1]:
        message = f"Password must be at least {_PASSWORD[0]} character and not more than {_PASSWORD[1]} long"
        fields.fail("password", "does.not.match.regexp", message)
    elif not hmac.compare_digest(password.encode(), str(repeated).encode()):
        message = "The parameter repeatPassword is not equal to password."
        fields.fail("repeatPassword", "not.equal.to.password", message)


def _role_ids(fields: Fields) -> list[int]:
    listed = fields.body.get("roles")
    if not isinstance(listed, list) or not listed:
        message = "The parameter `roles` cannot be empty. You must select at least one."
        fields.fail("roles", "cannot.be.empty", message)
        return []
    found = [int(one) for one in listed if str(one).isascii() and str(one).isdigit() and len(str(one)) < 19]
    if len(found) != len(listed):
        fields.fail("roles", "not.an.integer", "The parameter `roles` must be a list of ids of roles.")
    return list(dict.fromkeys(found))


def _check_unique(work: Work, username: str | None, own: User | None) -> None:
    check_unique(
        work,
        User.username,
        username,
        own,
        code="error.msg.user.duplicate.username",
        message=f"User with username {username} already exists.",
        parameter="username",
    )


def _render(work: Work, user: User) -> dict[str, Any]:
    return known(
        {
            "id": user.id,
            "username": user.username,
            "officeId": user.office_id,
            "officeName": work.session.get_one(Office, user.office_id).name,
            "firstname": user.firstname,
            "lastname": user.lastname,
            "email": user.email,
            "staffId": user.staff_id,
            "selectedRoles": [_render_role(role) for role in user.roles],
        }
    )


def _render_role(role: Role) -> dict[str, Any]:
    return {"id": role.id, "name": role.name, "description": role.description, "disabled": False}
