"""Who may call: API keys, passwords, throttling; and the audit log. (Who may call what: `test_matrix.py`.)"""

from __future__ import annotations

import asyncio
import base64
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest
from argon2 import PasswordHasher

from embarc.app import Service
from embarc.core.errors import TooManyRequests, Unauthenticated
from embarc.core.throttle import Throttle
from embarc.engine.access import Access
from embarc.testing.asgi import Client
from embarc.testing.clock import ManualClock
from embarc.testing.receiver import ScriptedReceiver

from .conftest import PASSWORD

EVENT = {"entityName": "CLIENT", "actionName": "CREATE", "clientId": 7, "response": {"resourceId": 7}}


class KeyClient(Client):
    """A caller with an API key."""

    def __init__(self, service: Service, key: str) -> None:
        super().__init__(service.app, "", "")
        self._authorization = f"Bearer {key}"


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
    kind = await client.ok("POST", "eventkinds", {"entityName": "CARD", "actionName": "OPEN"})
    inlet = await client.ok("POST", "inlets", {"name": "core"})
    return {
        "hookId": str(hook_id),
        "eventId": event_id,
        "deliveryId": f"dlv_{event_id.removeprefix('evt_')}_{hook_id}",
        "replayId": replay["id"],
        "keyId": key["resourceIdentifier"],
        "kind": kind["resourceIdentifier"],
        "inletId": str(inlet["resourceId"]),
    }


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
        "POST /eventkinds",
        "POST /inlets",
        "POST /hooks/{hookId}?command=rotateSecret",
        "PUT /hooks/{hookId}",
        "POST /hooks/{hookId}?command=pause",
        "DELETE /hooks/{hookId}",
    ]
    assert {entry["username"] for entry in entries} == {"admin"}
    assert entries[0]["before"] is None
    assert entries[7]["before"]["isPaused"] is False
    assert entries[7]["after"]["isPaused"] is True
    assert entries[5]["before"]["fingerprints"]["Secret 1"] == entries[5]["after"]["fingerprints"]["Secret 2"]
    assert entries[-1]["after"] is None
    assert secret not in str(page)
    assert "canary-password" not in str(page)
    assert "Password" in entries[6]["after"]["fingerprints"]


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hashes that passwords were verified with."""
    found: list[str] = []
    verify = PasswordHasher.verify

    def counted(hasher: PasswordHasher, given: str | bytes, password: str | bytes) -> Any:
        found.append(str(given))
        return verify(hasher, given, password)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    return found


async def test_many_who_come_at_once_with_one_credential_cost_one_hash(
    service: Service, verified: list[str]
) -> None:
    right, wrong = Client(service.app, "admin", PASSWORD), Client(service.app, "admin", "wrong")

    answers = await asyncio.gather(*(one.call("GET", "hooks") for one in (right, wrong) * 20))

    assert len(verified) == 2
    assert [answer.status for answer in answers] == [200, 401] * 20


async def test_an_unknown_user_costs_the_work_of_a_wrong_password(
    service: Service, client: Client, verified: list[str]
) -> None:
    answers = [
        await Client(service.app, username, "wrong").call("GET", "hooks")
        for username in ("admin", "nobody", "nobody-else")
    ]

    assert len(verified) == 3
    assert all(given.startswith("$argon2id$") for given in verified)
    assert len({(answer.status, answer.body) for answer in answers}) == 1


async def test_a_password_is_kept_as_argon2id(client: Client, tmp_path: Path) -> None:
    password = "a canary of a password"
    await client.ok("POST", "operators", {"username": "jane", "role": "viewer", "password": password})

    connection = apsw.Connection(str(tmp_path / "embarc.db"))
    kept = str(connection.execute("select password_hash from users where username = 'jane'").get)
    connection.close()

    assert kept.startswith("$argon2id$v=19$")
    assert password.encode() not in b"".join(file.read_bytes() for file in tmp_path.glob("embarc.db*"))


async def test_a_key_stops_working_when_it_expires(client: Client, service: Service) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    body = {"name": "core", "role": "viewer", "expiresAt": soon.isoformat()}
    made = await client.ok("POST", "apikeys", body)
    (listed,) = await client.ok("GET", "apikeys")

    def in_two_hours() -> float:
        return time.time() + 7200

    later = Access(service._store, monotonic=time.monotonic, clock=in_two_hours)
    now = Access(service._store, monotonic=time.monotonic)
    header = {"authorization": f"Bearer {made['key']}"}

    assert listed["expiresAt"].startswith(soon.strftime("%Y-%m-%dT%H:%M"))
    assert (await now.authenticate(header)).username == "key:core"
    with pytest.raises(Unauthenticated):
        await later.authenticate(header)


async def test_guessing_is_slowed_down_by_account_and_by_address(service: Service) -> None:
    clock = ManualClock()
    access = Access(service._store, monotonic=clock.now)

    async def tries(username: str, client: str, count: int) -> list[str]:
        found = []
        for _ in range(count):
            with pytest.raises((Unauthenticated, TooManyRequests)) as refused:
                await access.sign_in(username, "wrong", client)
            found.append(type(refused.value).__name__)
        return found

    wrong, slow = "Unauthenticated", "TooManyRequests"
    assert await tries("admin", "10.0.0.1", 7) == [wrong] * 6 + [slow]
    assert await tries("admin", "10.0.0.2", 1) == [wrong]  # another address: not slowed down yet
    assert await tries("others", "10.0.0.1", 1) == [wrong]  # another account from there: not yet either
    by_address = [kind for number in range(30) for kind in await tries(f"user-{number}", "10.0.0.1", 1)]
    assert slow in by_address
    by_account = [kind for number in range(60) for kind in await tries("admin", f"10.0.1.{number}", 1)]
    assert slow in by_account
    clock.advance(3600)
    assert (await access.sign_in("admin", PASSWORD, "10.0.0.1")).username == "admin"
