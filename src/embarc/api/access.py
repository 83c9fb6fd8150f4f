"""Who may call: `/authentication`, `/apikeys`, `/permissions`, `/tenants`, and what was changed: `/audits`."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from embarc.core.access import ROLES, ApiKey, AuditEntry, Caller
from embarc.core.errors import Duplicate, Forbidden
from embarc.core.events import timestamp_text
from embarc.core.fields import Fields
from embarc.engine.access import DEFAULT_TENANT, TENANT_HEADER, Access
from embarc.engine.audit import AuditLog
from embarc.store.base import Store
from embarc.web.routes import Call, Route

_KEY_FIELDS = ("name", "role", "permissions", "expiresAt")
_HEAD_OFFICE = 1
_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}\Z")


def routes(access: Access, audit: AuditLog, store: Store, permissions: Sequence[str]) -> list[Route]:
    """The routes of access; `permissions` are all that other routes ask for."""

    async def authentication(call: Call) -> dict[str, Any]:
        fields = call.fields("authentication", ("username", "password"))
        username, password = fields.text("username", required=True), fields.body.get("password")
        if not isinstance(password, str) or not password:
            fields.fail("password", "cannot.be.blank", "The parameter `password` is mandatory.")
        fields.check()
        caller = await access.sign_in(
            username or "", str(password), call.client, call.headers.get(TENANT_HEADER) or DEFAULT_TENANT
        )
        pair = base64.b64encode(f"{username}:{password}".encode()).decode()
        return {
            "username": caller.username,
            "userId": caller.user_id,
            "base64EncodedAuthenticationKey": pair,
            "authenticated": True,
            "officeId": caller.office_id,
            "officeName": "Head Office" if caller.office_id == _HEAD_OFFICE else f"Office {caller.office_id}",
            "roles": _roles(caller),
            "permissions": sorted(caller.permissions),
            "shouldRenewPassword": False,
            "isTwoFactorAuthenticationRequired": False,
        }

    async def list_permissions(call: Call) -> list[dict[str, Any]]:
        return [{"code": code, "selected": call.caller.may(code)} for code in permissions]

    async def list_keys(call: Call) -> list[dict[str, Any]]:
        return [_key(key) for key in await store.list_api_keys(call.caller.tenant)]

    async def create_key(call: Call) -> dict[str, Any]:
        fields = call.fields("apikey", _KEY_FIELDS)
        name = fields.text("name", required=True, longest=100)
        expires_at_ms = fields.moment("expiresAt")
        wanted = read_permissions(fields, permissions) or frozenset()
        if expires_at_ms is not None and expires_at_ms <= time.time() * 1000:
            fields.fail("expiresAt", "not.in.the.future", "The parameter `expiresAt` must be in the future.")
        fields.check()
        beyond = sorted(one for one in wanted if not call.caller.may(one))
        if beyond:
            raise Forbidden(f"A key cannot have more permissions than whoever makes it: {', '.join(beyond)}.")
        key, text = await access.create_key(
            call.caller.tenant, name or "", wanted, call.caller.username, expires_at_ms
        )
        call.notes.update(resource_id=key.key_id, after=_text(_key(key)))
        return {"resourceIdentifier": key.key_id, "key": text}

    async def revoke_key(call: Call) -> dict[str, Any]:
        await access.revoke_key(call.caller.tenant, call.path["keyId"])
        return {"resourceIdentifier": call.path["keyId"]}

    async def list_audits(call: Call) -> dict[str, Any]:
        cursor = call.query.get("cursor", "")
        found, following = await audit.page(
            call.caller.tenant,
            int(cursor) if cursor.isascii() and cursor.isdigit() and len(cursor) < 19 else None,
        )
        return {
            "pageItems": [_entry(entry) for entry in found],
            "nextCursor": None if following is None else str(following),
        }

    async def list_tenants(call: Call) -> list[dict[str, Any]]:
        _check_operator(call.caller)
        return [
            {"name": name, "displayName": display_name, "createdAt": timestamp_text(at_ms)}
            for name, display_name, at_ms in await store.list_tenants()
        ]

    async def create_tenant(call: Call) -> dict[str, Any]:
        _check_operator(call.caller)
        fields = call.fields("tenant", ("name", "displayName"))
        name = fields.text("name", required=True) or ""
        display_name = fields.text("displayName", longest=100)
        if name and not _TENANT.match(name):
            message = "The parameter `name` must be 1 to 50 small letters, digits, `-` or `_`."
            fields.fail("name", "invalid", message, name[:50])
        fields.check()
        if name == DEFAULT_TENANT or not await store.add_tenant(name, display_name or name):
            raise Duplicate(f"There is a tenant `{name}` already.")
        administrator = frozenset(ROLES["administrator"])
        key, text = await access.create_key(name, "administrator", administrator, call.caller.username)
        call.notes.update(resource_id=name)
        return {"resourceIdentifier": name, "keyId": key.key_id, "key": text}

    key_example = {"name": "core-banking", "role": "emitter", "expiresAt": "2027-01-01T00:00:00Z"}
    return [
        Route(
            method="POST",
            path="/authentication",
            handler=authentication,
            permission=None,
            summary="Check a user name and password, as Fineract's clients do",
            tag="access",
            body={"username": "admin", "password": "..."},
        ),
        Route(
            method="GET",
            path="/permissions",
            handler=list_permissions,
            permission="READ_PERMISSION",
            summary="Every permission, and which of them the caller has",
            tag="access",
        ),
        Route(
            method="GET",
            path="/apikeys",
            handler=list_keys,
            permission="READ_APIKEY",
            summary="The tenant's API keys",
            tag="access",
        ),
        Route(
            method="POST",
            path="/apikeys",
            handler=create_key,
            permission="CREATE_APIKEY",
            summary=f"Make an API key, shown this once; roles: {', '.join(ROLES)}",
            tag="access",
            body=key_example,
        ),
        Route(
            method="DELETE",
            path="/apikeys/{keyId}",
            handler=revoke_key,
            permission="DELETE_APIKEY",
            summary="Revoke an API key at once",
            tag="access",
        ),
        Route(
            method="GET",
            path="/audits",
            handler=list_audits,
            permission="READ_AUDIT",
            summary="Every change, newest first",
            tag="access",
            query=(("cursor", "`nextCursor` of the page before"),),
        ),
        Route(
            method="GET",
            path="/tenants",
            handler=list_tenants,
            permission="READ_TENANT",
            summary="The tenants of this installation, for its operators",
            tag="access",
        ),
        Route(
            method="POST",
            path="/tenants",
            handler=create_tenant,
            permission="CREATE_TENANT",
            summary="Make a tenant; its first API key is an administrator's and is shown this once",
            tag="access",
            body={"name": "acme", "displayName": "Acme Lending"},
        ),
    ]


def _roles(caller: Caller) -> list[dict[str, Any]]:
    """The roles whose permissions the caller has, as Fineract's clients read them."""
    return [
        {"id": number, "name": role, "description": f"May do what {role}s of Embarc may."}
        for number, (role, permissions) in enumerate(ROLES.items(), 1)
        if caller.permissions == frozenset(permissions)
    ]


def _check_operator(caller: Caller) -> None:
    if caller.tenant != DEFAULT_TENANT:
        raise Forbidden("Only operators of the installation, who belong to its default tenant, see tenants.")


def read_permissions(fields: Fields, known: Sequence[str], *, required: bool = True) -> frozenset[str] | None:
    """What a request's `role` or `permissions` give; None where neither is there, or where it is noted as a mistake."""
    role, listed = fields.text("role"), fields.body.get("permissions")
    if role is None and listed is None and not required:
        return None
    if (role is None) == (listed is None):
        fields.fail("role", "one.of.role.or.permissions", "Give either a `role` or a list of `permissions`.")
        return None
    if role is not None:
        if role not in ROLES:
            fields.fail("role", "unknown", f"There is no role `{role[:50]}`. There are: {', '.join(ROLES)}.")
        return frozenset(ROLES.get(role, ()))
    of_roles = {one for given in ROLES.values() for one in given}
    if (
        not isinstance(listed, list)
        or not listed
        or not all(isinstance(one, str) and (one in known or one in of_roles) for one in listed)
    ):
        message = "The parameter `permissions` must list some of GET /permissions."
        fields.fail("permissions", "invalid", message)
        return None
    return frozenset(listed)


def _key(key: ApiKey) -> dict[str, Any]:
    rendered: dict[str, Any] = {
        "keyId": key.key_id,
        "name": key.name,
        "permissions": sorted(key.permissions),
        "createdBy": key.created_by,
    }
    times = {
        "createdAt": key.created_at_ms or None,
        "expiresAt": key.expires_at_ms,
        "lastUsedAt": key.last_used_at_ms,
        "revokedAt": key.revoked_at_ms,
    }
    return rendered | {name: timestamp_text(at_ms) for name, at_ms in times.items() if at_ms is not None}


def _entry(entry: AuditEntry) -> dict[str, Any]:
    return {
        "number": entry.number,
        "at": timestamp_text(entry.at_ms),
        "username": entry.username,
        "action": entry.action,
        "resourceId": entry.resource_id,
        "before": msgspec.Raw(entry.before.encode() or b"null"),
        "after": msgspec.Raw(entry.after.encode() or b"null"),
        "digest": entry.digest.hex(),
    }


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
