"""Who may call what: the matrix of routes, tenants and roles; API keys; throttling; the audit log."""

from __future__ import annotations

import asyncio
import base64
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest

from embarc.api.doors import BASE
from embarc.app import Service
from embarc.core.access import ROLES
from embarc.core.throttle import Throttle
from embarc.sandbox import charges, loan_products, loans
from embarc.testing.asgi import Client
from embarc.testing.receiver import ScriptedReceiver

from .conftest import PASSWORD

EVENT = {"entityName": "CLIENT", "actionName": "CREATE", "clientId": 7, "response": {"resourceId": 7}}
OPEN = {
    "POST /authentication",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "GET /.well-known/embarc/keys",
    "GET /openapi.json",
    "GET /docs",
}
READERS = {"viewer", "operator"}
ALLOWED: dict[str, set[str]] = {
    # The administrator may do everything and is not listed.
    "GET /hooks/template": READERS | {"auditor"},
    "GET /hooks": READERS | {"auditor"},
    "POST /hooks": set(),
    "GET /hooks/{hookId}": READERS | {"auditor"},
    "GET /hooks/{hookId}/stats": READERS | {"auditor"},
    "PUT /hooks/{hookId}": set(),
    "POST /hooks/{hookId}": {"operator"},
    "DELETE /hooks/{hookId}": set(),
    "GET /events": READERS,
    "POST /events": {"emitter"},
    "GET /events/{eventId}": READERS,
    "GET /deliveries": READERS,
    "GET /deliveries/{deliveryId}": READERS,
    "POST /deliveries/{deliveryId}": {"operator"},
    "POST /replays": {"operator"},
    "GET /replays": READERS,
    "GET /replays/{replayId}": READERS,
    "POST /replays/{replayId}": {"operator"},
    "GET /permissions": set(),
    "GET /apikeys": {"auditor"},
    "POST /apikeys": set(),
    "DELETE /apikeys/{keyId}": set(),
    "GET /audits": {"auditor"},
    "GET /tenants": set(),
    "POST /tenants": set(),
    "GET /clients": READERS,
    "POST /clients": set(),
    "GET /clients/template": READERS,
    "GET /clients/{clientId}": READERS,
    "PUT /clients/{clientId}": set(),
    "POST /clients/{clientId}": set(),
    "DELETE /clients/{clientId}": set(),
    "GET /clients/external-id/{externalId}": READERS,
    "PUT /clients/external-id/{externalId}": set(),
    "POST /clients/external-id/{externalId}": set(),
    "DELETE /clients/external-id/{externalId}": set(),
    "GET /offices": READERS,
    "POST /offices": set(),
    "GET /offices/{officeId}": READERS,
    "PUT /offices/{officeId}": set(),
    "GET /staff": READERS,
    "POST /staff": set(),
    "GET /staff/{staffId}": READERS,
    "PUT /staff/{staffId}": set(),
    "GET /users": READERS,
    "POST /users": set(),
    "GET /users/{userId}": READERS,
    "PUT /users/{userId}": set(),
    "DELETE /users/{userId}": set(),
    "GET /roles": READERS,
    "GET /codes": READERS,
    "POST /codes": set(),
    "GET /codes/{codeId}": READERS,
    "PUT /codes/{codeId}": set(),
    "DELETE /codes/{codeId}": set(),
    "GET /codes/{codeId}/codevalues": READERS,
    "POST /codes/{codeId}/codevalues": set(),
    "GET /codes/{codeId}/codevalues/{codeValueId}": READERS,
    "PUT /codes/{codeId}/codevalues/{codeValueId}": set(),
    "DELETE /codes/{codeId}/codevalues/{codeValueId}": set(),
    "GET /loanproducts": READERS,
    "POST /loanproducts": set(),
    "GET /loanproducts/{productId}": READERS,
    "PUT /loanproducts/{productId}": set(),
    "GET /charges": READERS,
    "POST /charges": set(),
    "GET /charges/{chargeId}": READERS,
    "GET /loans": READERS,
    "POST /loans": set(),
    "GET /loans/{loanId}": READERS,
    "PUT /loans/{loanId}": set(),
    "POST /loans/{loanId}": set(),
    "DELETE /loans/{loanId}": set(),
    "GET /loans/{loanId}/transactions": READERS,
    "POST /loans/{loanId}/transactions": set(),
    "GET /loans/{loanId}/transactions/{transactionId}": READERS,
    "POST /loans/{loanId}/transactions/{transactionId}": set(),
    "GET /loans/{loanId}/charges": READERS,
    "POST /loans/{loanId}/charges": set(),
    "GET /loans/{loanId}/charges/{loanChargeId}": READERS,
    "POST /loans/{loanId}/charges/{loanChargeId}": set(),
    "DELETE /loans/{loanId}/charges/{loanChargeId}": set(),
}
COMMANDS = {
    "/hooks/{hookId}": "pause",
    "/clients/{clientId}": "activate",
    "/clients/external-id/{externalId}": "activate",
    "/loans/{loanId}": "approve",
    "/loans/{loanId}/transactions": "repayment",
    "/loans/{loanId}/charges/{loanChargeId}": "waive",
}
"""A command of each path that takes one; `cancel` elsewhere."""


class KeyClient(Client):
    """A caller with an API key."""

    def __init__(self, service: Service, key: str) -> None:
        super().__init__(service.app, "", "")
        self._authorization = f"Bearer {key}"


@pytest.fixture
async def keys(client: Client) -> dict[str, str]:
    made = {}
    for role in ROLES:
        made[role] = (await client.ok("POST", "apikeys", {"name": role, "role": role}))["key"]
    return made


async def populated(client: Client, url: str) -> dict[str, str]:
    """One of everything; returns what stands in a path."""
    hook = {
        "name": "Web",
        "isActive": True,
        "events": [{"entityName": "CLIENT", "actionName": "CREATE"}],
        "config": {"Payload URL": url, "Content Type": "json"},
    }
    hook_id = (await client.ok("POST", "hooks", hook))["resourceId"]
    event_id = (await client.ok("POST", "events", EVENT))["eventId"]
    replay = await client.ok("POST", "replays", {"hookId": hook_id})
    key = await client.ok("POST", "apikeys", {"name": "another", "role": "viewer"})
    person = await client.ok(
        "POST",
        "clients",
        {"firstname": "A", "lastname": "B", "externalId": "A-1", "officeId": 1},
    )
    employee = {"firstname": "C", "lastname": "D", "officeId": 1, "joiningDate": "2024-03-01"}
    staff = await client.ok("POST", "staff", employee | {"dateFormat": "yyyy-MM-dd", "locale": "en"})
    return {
        "hookId": str(hook_id),
        "eventId": event_id,
        "deliveryId": f"dlv_{event_id.removeprefix('evt_')}_{hook_id}",
        "replayId": replay["id"],
        "keyId": key["resourceIdentifier"],
        "clientId": str(person["clientId"]),
        "externalId": "A-1",
        "officeId": "1",
        "staffId": str(staff["resourceId"]),
        "userId": "1",
        "codeId": "1",
        "codeValueId": "1",
        **await lent(client),
    }


async def lent(client: Client) -> dict[str, str]:
    """A loan that was paid out, with a charge."""
    dates = {"dateFormat": "dd MMMM yyyy", "locale": "en"}
    day = "13 October 2025"
    borrower = {"fullname": "C", "active": True, "activationDate": day, "submittedOnDate": day} | dates
    client_id = (await client.ok("POST", "clients", borrower))["clientId"]
    product_id = (await client.ok("POST", "loanproducts", loan_products.EXAMPLE))["resourceId"]
    charge_id = (await client.ok("POST", "charges", charges.EXAMPLE))["resourceId"]
    application = loans.EXAMPLE | {"clientId": client_id, "productId": product_id}
    loan_id = (await client.ok("POST", "loans", application))["loanId"]
    await client.ok("POST", f"loans/{loan_id}?command=approve", {"approvedOnDate": day} | dates)
    paid_out = await client.ok(
        "POST", f"loans/{loan_id}?command=disburse", {"actualDisbursementDate": day} | dates
    )
    loan_charge = await client.ok(
        "POST", f"loans/{loan_id}/charges", {"chargeId": charge_id, "dueDate": "20 October 2025"} | dates
    )
    return {
        "productId": str(product_id),
        "chargeId": str(charge_id),
        "loanId": str(loan_id),
        "transactionId": str(paid_out["subResourceId"]),
        "loanChargeId": str(loan_charge["resourceId"]),
    }


def names_of(service: Service) -> list[str]:
    return [f"{route.method} {route.path}" for route in service.routes]


def filled(path: str, ids: dict[str, str]) -> str:
    return BASE + re.sub(r"\{(\w+)\}", lambda found: ids[found[1]], path)


def test_every_route_is_in_the_matrix(service: Service) -> None:
    assert set(names_of(service)) == OPEN | set(ALLOWED)


async def test_every_route_asks_for_a_credential_and_for_the_right_role(
    service: Service, client: Client, keys: dict[str, str], receiver: ScriptedReceiver
) -> None:
    ids = await populated(client, receiver.url)
    wrong = []
    for name in ALLOWED:
        method, path = name.split(" ")
        target = filled(path, ids)
        anonymous = await client.call(method, target, {}, authorization=None)
        if anonymous.status != 401:
            wrong.append((name, "nobody", anonymous.status))
        for role in set(ROLES) - {"administrator"}:
            answer = await KeyClient(service, keys[role]).call(
                method, target, {} if method != "GET" else None
            )
            was_let_in = not (answer.status == 403 and "error.msg.not.authorized" in answer.body.decode())
            if was_let_in != (role in ALLOWED[name]) or answer.status == 401:
                wrong.append((name, role, answer.status))

    assert wrong == []


async def test_what_is_one_tenants_does_not_exist_for_another(
    service: Service, client: Client, receiver: ScriptedReceiver
) -> None:
    ids = await populated(client, receiver.url)
    stranger = KeyClient(service, (await client.ok("POST", "tenants", {"name": "acme"}))["key"])
    leaks = []
    for name in ALLOWED:
        method, path = name.split(" ")
        if "{" in path:
            body: dict[str, Any] | None = None if method in ("GET", "DELETE") else {}
            suffix = f"?command={COMMANDS.get(path, 'cancel')}" if method == "POST" else ""
            answer = await stranger.call(method, filled(path, ids) + suffix, body)
            if answer.status not in (404, 403, 400) or any(
                ids[name] in answer.body.decode() and answer.status == 200
                for name in ids
                if name != "officeId"
            ):
                leaks.append((name, answer.status))
        elif method == "GET":
            answer = await stranger.call(method, BASE + path)
            assert answer.status in (200, 403)
            found = answer.body.decode()
            if any(f'"{ids[one]}"' in found for one in ("eventId", "deliveryId", "replayId", "keyId")):
                leaks.append((name, answer.status))

    assert leaks == []
    assert (await stranger.ok("GET", "hooks")) == []
    assert (await stranger.ok("GET", "events"))["pageItems"] == []
    assert (await stranger.call("POST", "replays", {"hookId": int(ids["hookId"])})).status == 404
    assert (await stranger.call("GET", "tenants")).status == 403
    crossed = await stranger.call("GET", "hooks", None, **{"fineract-platform-tenantid": "default"})
    assert crossed.status == 403


async def test_a_key_works_until_it_is_revoked_and_shows_when_it_was_used(
    service: Service, client: Client
) -> None:
    made = await client.ok("POST", "apikeys", {"name": "core", "permissions": ["READ_HOOK"]})
    holder = KeyClient(service, made["key"])

    assert (await holder.call("GET", "hooks")).status == 200
    assert (await holder.call("GET", "events")).status == 403
    (listed,) = await client.ok("GET", "apikeys")
    await client.ok("DELETE", f"apikeys/{made['resourceIdentifier']}")
    revoked = await holder.call("GET", "hooks")
    (listed_later,) = await client.ok("GET", "apikeys")

    assert made["key"].startswith("emk_")
    assert made["key"] not in str(listed)
    assert "lastUsedAt" in listed
    assert revoked.status == 401
    assert "revokedAt" in listed_later
    assert (await client.call("DELETE", f"apikeys/{made['resourceIdentifier']}")).status == 404


@pytest.mark.parametrize(
    "credential",
    [
        "Bearer x",
        "Bearer emk_0123456789abcdef_" + "A" * 43,
        "Basic x",
        "Basic " + base64.b64encode(b"nobody:nothing").decode(),
        "Digest x",
        "",
    ],
)
async def test_a_wrong_credential_is_401_whatever_is_wrong_with_it(client: Client, credential: str) -> None:
    assert (await client.call("GET", "hooks", authorization=credential)).status == 401


async def test_nobody_makes_a_key_with_more_than_they_have(service: Service, client: Client) -> None:
    permissions = ["CREATE_APIKEY", "READ_HOOK"]
    small = KeyClient(
        service, (await client.ok("POST", "apikeys", {"name": "s", "permissions": permissions}))["key"]
    )

    more = await small.call("POST", "apikeys", {"name": "x", "role": "administrator"})
    same = await small.call("POST", "apikeys", {"name": "x", "permissions": ["READ_HOOK"]})

    assert (more.status, same.status) == (403, 200)


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ({"role": "viewer"}, "name"),
        ({"name": "x"}, "role"),
        ({"name": "x", "role": "viewer", "permissions": ["READ_HOOK"]}, "role"),
        ({"name": "x", "role": "king"}, "role"),
        ({"name": "x", "permissions": ["FLY"]}, "permissions"),
        ({"name": "x", "permissions": [1]}, "permissions"),
        ({"name": "x", "role": "viewer", "expiresAt": "2001-01-01T00:00:00Z"}, "expiresAt"),
        ({"name": "x", "role": "viewer", "expires": "2099-01-01T00:00:00Z"}, "expires"),
    ],
)
async def test_a_bad_key_request_names_the_field(
    client: Client, body: dict[str, Any], parameter: str
) -> None:
    answer = await client.call("POST", "apikeys", body)

    assert (answer.status, answer.parameters) == (400, [parameter])
    assert await client.ok("GET", "apikeys") == []


async def test_signing_in_as_fineracts_clients_do(client: Client) -> None:
    body = {"username": "admin", "password": PASSWORD}
    answer = await client.call("POST", "authentication", body, authorization=None)
    wrong = await client.call("POST", "authentication", body | {"password": "x"}, authorization=None)
    unknown = await client.call("POST", "authentication", body | {"username": "x"}, authorization=None)

    assert answer.json["authenticated"] is True
    assert answer.json["permissions"] == ["ALL_FUNCTIONS"]
    assert base64.b64decode(answer.json["base64EncodedAuthenticationKey"]).decode() == f"admin:{PASSWORD}"
    assert (wrong.status, unknown.status) == (401, 401)
    assert wrong.body == unknown.body


async def test_whoever_guesses_is_slowed_down_and_nobody_is_locked_out(
    service: Service, client: Client
) -> None:
    await client.ok("GET", "hooks")
    guesser = Client(service.app, "admin", "wrong")

    statuses = [(await guesser.call("GET", "hooks")).status for _ in range(6)]
    refused = await guesser.call("GET", "hooks")

    assert statuses == [401] * 6
    assert refused.status == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert (await client.call("GET", "hooks")).status == 200  # who was right a moment ago stays in


def test_each_failure_beyond_the_free_ones_doubles_the_wait() -> None:
    throttle = Throttle(2)
    waits = []
    for _ in range(6):
        throttle.failed("a", 0.0)
        waits.append(throttle.wait("a", 0.0))

    assert waits == [0, 0, 1, 2, 4, 8]
    assert throttle.wait("b", 0.0) == 0
    throttle.succeeded("a")
    assert throttle.wait("a", 0.0) == 0


async def test_every_change_is_in_the_audit_log_without_a_secret(
    client: Client, receiver: ScriptedReceiver
) -> None:
    ids = await populated(client, receiver.url)
    hook = f"hooks/{ids['hookId']}"
    config = {"Payload URL": receiver.url, "Content Type": "json", "Authentication": "basic", "Username": "u"}
    secret = (await client.ok("POST", f"{hook}?command=rotateSecret"))["secret"]
    await client.ok("PUT", hook, {"config": config | {"Password": "canary-password"}})
    await client.ok("POST", f"{hook}?command=pause")
    await client.ok("POST", "replays", {"hookId": int(ids["hookId"]), "preview": True})
    await client.ok("DELETE", hook)

    page = await client.ok("GET", "audits")
    entries = list(reversed(page["pageItems"]))

    assert [entry["action"] for entry in entries] == [
        "POST /hooks",
        "POST /replays",
        "POST /apikeys",
        "POST /hooks/{hookId}?command=rotateSecret",
        "PUT /hooks/{hookId}",
        "POST /hooks/{hookId}?command=pause",
        "DELETE /hooks/{hookId}",
    ]
    assert {entry["username"] for entry in entries} == {"admin"}
    assert entries[0]["before"] is None
    assert entries[5]["before"]["isPaused"] is False
    assert entries[5]["after"]["isPaused"] is True
    assert entries[3]["before"]["fingerprints"]["Secret 1"] == entries[3]["after"]["fingerprints"]["Secret 2"]
    assert entries[-1]["after"] is None
    assert secret not in str(page)
    assert "canary-password" not in str(page)
    assert "Password" in entries[4]["after"]["fingerprints"]


async def test_an_entry_that_is_changed_or_taken_out_is_noticed(client: Client, tmp_path: Path) -> None:
    for number in range(4):
        await client.ok("POST", "apikeys", {"name": f"key-{number}", "role": "viewer"})

    well = await asyncio.to_thread(verify, tmp_path)
    connection = apsw.Connection(str(tmp_path / "embarc.db"))
    connection.execute("update audits set username = 'somebody' where number = 2")
    changed = await asyncio.to_thread(verify, tmp_path)
    connection.execute("delete from audits where number = 2")
    gone = await asyncio.to_thread(verify, tmp_path)
    connection.close()

    assert (well.returncode, well.stdout) == (0, "4 entries, 0 broken\n")
    assert changed.returncode == 1
    assert "entry 2 was changed" in changed.stderr
    assert gone.returncode == 1
    assert "entry 2 is missing" in gone.stderr


def verify(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("embarc")), "audit", "verify", "--store"]
    return subprocess.run(
        [*command, f"sqlite:///{folder / 'embarc.db'}"], capture_output=True, text=True, check=False
    )
