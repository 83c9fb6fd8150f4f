"""The matrix: every route that there is, for two tenants, all roles, nobody, and whoever names another tenant.

What is expected follows from each route's permission and the tables below, so a new route is in the matrix as soon as it
has a permission. One without a permission fails here until somebody has said that it is meant to be open.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from embarc.api.doors import BASE
from embarc.app import Service
from embarc.core.access import ROLES
from embarc.testing.asgi import Answer, Client
from embarc.testing.receiver import ScriptedReceiver
from embarc.web.routes import Route

OPEN = {
    "POST /authentication",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "GET /.well-known/embarc/keys",
    "GET /openapi.json",
    "GET /docs",
}
"""Answered to everybody."""
BY_SECRET = {"GET /inlets/fineract/{secret}", "POST /inlets/fineract/{secret}"}
"""Answered to whoever knows a secret that stands in the path; tested with the inlet itself."""
OF_THE_INSTALLATION = {"GET /tenants", "POST /tenants"}
"""Refused to every other tenant than the installation's own, whatever its people may do."""
BY_NAME = {"READ_APIKEY", "READ_AUDIT", "READ_INLET", "READ_OPERATOR", "READ_PERMISSION", "READ_TENANT"}
"""What no role reads only because it reads."""
MAY: dict[str, set[str]] = {
    "administrator": {"*"},
    "operator": {"READ_*", "OPERATE_HOOK", "UPDATE_DELIVERY", "CREATE_REPLAY"},
    "viewer": {"READ_*"},
    "auditor": {"READ_AUDIT", "READ_APIKEY", "READ_INLET", "READ_OPERATOR", "READ_HOOK"},
    "emitter": {"CREATE_EVENT"},
}
NOBODY_HAS = {
    "hookId": "999999",
    "eventId": "evt_" + "0" * 32,
    "deliveryId": "dlv_" + "0" * 32 + "_999999",
    "replayId": "rpl_" + "0" * 32,
    "keyId": "0" * 16,
    "kind": "NO.KIND",
}
"""Ids that are well formed; for every other resource a number."""
BODIES: dict[str, object] = {
    "PUT /hooks/{hookId}": {"isActive": False},
    "PUT /clients/{clientId}": {"firstname": "X"},
    "PUT /operators/{operatorId}": {"fullName": "X"},
    "POST /clients/{clientId}": {
        "activationDate": "14 October 2025",
        "dateFormat": "dd MMMM yyyy",
        "locale": "en",
    },
}
COMMANDS = {
    "POST /hooks/{hookId}": "pause",
    "POST /deliveries/{deliveryId}": "replay",
    "POST /replays/{replayId}": "cancel",
    "POST /clients/{clientId}": "activate",
}
MARK = "canary-of-the-first-tenant"


def is_granted(role: str, permission: str) -> bool:
    granted = MAY[role]
    reads = permission.startswith("READ_") and permission not in BY_NAME
    return "*" in granted or permission in granted or (reads and "READ_*" in granted)


class KeyClient(Client):
    """A caller with an API key."""

    def __init__(self, service: Service, key: str) -> None:
        super().__init__(service.app, "", "")
        self._authorization = f"Bearer {key}"


@dataclass
class World:
    """Two tenants, a key of every role in both, and one of everything in the first."""

    service: Service
    client: Client
    keys: dict[tuple[str, str], str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    @property
    def closed(self) -> list[Route]:
        return [route for route in self.service.routes if name_of(route) not in OPEN | BY_SECRET]

    def caller(self, tenant: str, role: str) -> Client:
        return KeyClient(self.service, self.keys[tenant, role])

    async def path(self, route: Route, known: dict[str, str]) -> str:
        """The route's path with these ids, and for a resource that has none here the first of its list, or 1."""
        path = BASE + route.path
        for name in re.findall(r"\{(\w+)\}", route.path):
            if name not in known:
                known[name] = await self._listed(route.path.partition(f"/{{{name}}}")[0], name)
            path = path.replace(f"{{{name}}}", known[name])
        command = COMMANDS.get(name_of(route))
        return f"{path}?command={command}" if command else path

    async def _listed(self, collection: str, name: str) -> str:
        if "{" in collection or f"GET {collection}" not in map(name_of, self.service.routes):
            return "1"
        listed = await self.client.ok("GET", BASE + collection)
        items = listed.get("pageItems", []) if isinstance(listed, dict) else listed
        for key in ("id", name, "resourceIdentifier"):
            if items and isinstance(items[0], dict) and key in items[0]:
                return str(items[0][key])
        return "1"


def name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


def body_of(route: Route) -> object:
    return None if route.method in ("GET", "DELETE") else BODIES.get(name_of(route), {})


def is_refused(answer: Answer) -> bool:
    return answer.status == 403 and answer.json["userMessageGlobalisationCode"] == "error.msg.not.authorized"


@pytest.fixture
async def world(service: Service, client: Client, receiver: ScriptedReceiver) -> World:
    made = World(service, client)
    made.keys["acme", "administrator"] = (await client.ok("POST", "tenants", {"name": "acme"}))["key"]
    made.keys["default", "administrator"] = await key_of(client, "administrator")
    for tenant in ("default", "acme"):
        for role in set(ROLES) - {"administrator"}:
            made.keys[tenant, role] = await key_of(made.caller(tenant, "administrator"), role)
    made.ids = await populated(client, receiver.url)
    return made


async def key_of(client: Client, role: str) -> str:
    return str((await client.ok("POST", "apikeys", {"name": role, "role": role}))["key"])


async def populated(client: Client, url: str) -> dict[str, str]:
    """One of everything, marked; returns what stands in a path."""
    hook = {
        "name": "Web",
        "displayName": MARK,
        "isActive": True,
        "events": [{"entityName": "CLIENT", "actionName": "CREATE"}],
        "config": {"Payload URL": url, "Content Type": "json"},
    }
    event = {"entityName": "CLIENT", "actionName": "CREATE", "entityId": MARK, "response": {"resourceId": 7}}
    person = {
        "firstname": MARK,
        "lastname": "B",
        "officeId": 1,
        "dateFormat": "dd MMMM yyyy",
        "locale": "en",
    }
    operator = {"username": MARK, "role": "viewer", "password": "a long password"}
    hook_id = (await client.ok("POST", "hooks", hook))["resourceId"]
    event_id = (await client.ok("POST", "events", event))["eventId"]
    replay = await client.ok("POST", "replays", {"hookId": hook_id})
    key = await client.ok("POST", "apikeys", {"name": MARK, "role": "viewer"})
    kind = await client.ok(
        "POST", "eventkinds", {"entityName": "CARD", "actionName": "OPEN", "description": MARK}
    )
    inlet = await client.ok("POST", "inlets", {"name": MARK})
    return {
        "kind": kind["resourceIdentifier"],
        "inletId": str(inlet["resourceId"]),
        "hookId": str(hook_id),
        "eventId": event_id,
        "deliveryId": f"dlv_{event_id.removeprefix('evt_')}_{hook_id}",
        "replayId": replay["id"],
        "keyId": key["resourceIdentifier"],
        "clientId": str((await client.ok("POST", "clients", person))["clientId"]),
        "operatorId": str((await client.ok("POST", "operators", operator))["resourceId"]),
        "officeId": "1",
    }


def test_every_route_has_a_permission_or_is_meant_to_be_open(service: Service) -> None:
    assert {name_of(route) for route in service.routes if route.permission is None} == OPEN | BY_SECRET


def test_every_role_is_in_the_matrix() -> None:
    assert set(MAY) == set(ROLES)


async def test_what_is_open_asks_nobody_who_they_are(service: Service, client: Client) -> None:
    for name in OPEN - {"POST /authentication"}:
        method, path = name.split(" ")
        assert (await client.call(method, path, authorization=None)).status == 200, name


async def test_every_route_asks_for_a_credential_and_lets_in_whom_the_table_says(world: World) -> None:
    wrong: list[tuple[object, ...]] = []
    for route in world.closed:
        target, body = await world.path(route, {**NOBODY_HAS, "clientId": "999999"}), body_of(route)
        anonymous = await world.client.call(route.method, target, body, authorization=None)
        if anonymous.status != 401:
            wrong.append((name_of(route), "nobody", anonymous.status))
        for tenant, role in world.keys:
            answer = await world.caller(tenant, role).call(route.method, target, body)
            expected = is_granted(role, route.permission or "") and not (
                tenant != "default" and name_of(route) in OF_THE_INSTALLATION
            )
            if is_refused(answer) == expected or answer.status in (401, 500):
                wrong.append((name_of(route), tenant, role, answer.status))

    assert wrong == []


async def test_no_route_believes_a_header_that_names_another_tenant(world: World) -> None:
    wrong = []
    for route in world.closed:
        target, body = await world.path(route, dict(world.ids)), body_of(route)
        for tenant, role in world.keys:
            other = "acme" if tenant == "default" else "default"
            header = {"fineract-platform-tenantid": other}
            answer = await world.caller(tenant, role).call(route.method, target, body, **header)
            if not is_refused(answer):
                wrong.append((name_of(route), tenant, role, answer.status))
        as_user = await world.client.call(route.method, target, body, fineract_platform_tenantid="acme")
        if as_user.status not in (401, 429):  # there is no such user; after many such tries: slow down
            wrong.append((name_of(route), "user", "", as_user.status))

    assert wrong == []


async def test_what_is_one_tenants_is_for_another_as_if_it_were_not_there(world: World) -> None:
    stranger = world.caller("acme", "administrator")
    known: dict[str, str] = dict(world.ids)
    leaks: list[tuple[object, ...]] = []
    for route in world.closed:
        if "{" not in route.path:
            continue
        theirs = await stranger.call(route.method, await world.path(route, known), body_of(route))
        unknown = {name: NOBODY_HAS.get(name, "999999") for name in known}
        nobodys = await stranger.call(route.method, await world.path(route, unknown), body_of(route))
        told, names = theirs.body.decode(), set(re.findall(r"\{(\w+)\}", route.path))
        for name in names:
            told = told.replace(known[name], unknown[name])
        is_known = names <= set(world.ids)
        if theirs.status != nobodys.status or theirs.status not in ((404,) if is_known else (404, 400)):
            leaks.append((name_of(route), theirs.status, nobodys.status))
        elif re.sub(r"\d", "", told) != re.sub(r"\d", "", nobodys.body.decode()):
            leaks.append((name_of(route), theirs.body, nobodys.body))

    assert leaks == []
    hook = await world.client.ok("GET", f"hooks/{world.ids['hookId']}")
    assert (hook["isActive"], hook["isPaused"]) == (True, False)
    assert (await world.client.ok("GET", f"operators/{world.ids['operatorId']}"))["fullName"] == MARK


async def test_no_list_shows_what_is_another_tenants(world: World) -> None:
    lists = [
        route
        for route in world.closed
        if route.method == "GET" and "{" not in route.path and name_of(route) not in OF_THE_INSTALLATION
    ]
    marks = (MARK, *(world.ids[name] for name in ("eventId", "deliveryId", "replayId", "keyId")))
    seen, leaks = set(), []
    for route in lists:
        mine = await world.client.call("GET", BASE + route.path)
        theirs = await world.caller("acme", "administrator").call("GET", BASE + route.path)
        if any(mark in mine.body.decode() for mark in marks):
            seen.add(route.path)
        if theirs.status != mine.status or any(mark in theirs.body.decode() for mark in marks):
            leaks.append((route.path, theirs.status))

    assert leaks == []
    assert seen >= {
        *("/hooks", "/events", "/deliveries", "/replays", "/apikeys", "/operators", "/audits", "/clients")
    }


async def test_what_is_another_tenants_is_not_found_through_a_filter_or_a_replay(world: World) -> None:
    target = f"deliveries?hookId={world.ids['hookId']}"
    stranger = world.caller("acme", "administrator")

    assert (await world.client.ok("GET", target))["pageItems"]
    assert (await stranger.ok("GET", target))["pageItems"] == []
    assert (await stranger.call("POST", "replays", {"hookId": int(world.ids["hookId"])})).status == 404


async def test_a_user_is_one_of_a_tenant(world: World) -> None:
    body = {"username": "jane", "role": "viewer", "password": "a long password"}
    await world.caller("acme", "administrator").ok("POST", "operators", body)
    jane = Client(world.service.app, "jane", "a long password")
    told = base64.b64encode(b"jane:a long password").decode()

    of_acme: dict[str, Any] = {"fineract_platform_tenantid": "acme"}
    assert (await jane.call("GET", "hooks", **of_acme)).json == []
    assert (await jane.call("GET", "hooks")).status == 401
    signed_in = await jane.call(
        "POST", "authentication", {k: body[k] for k in ("username", "password")}, **of_acme
    )
    assert signed_in.json["base64EncodedAuthenticationKey"] == told
