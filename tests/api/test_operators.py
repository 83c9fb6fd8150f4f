"""The people who sign in: made, changed and removed by those who may, and never beyond what those have themselves."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from embarc.app import Service
from embarc.observe import Observer
from embarc.settings import Settings
from embarc.testing.asgi import Client

from .conftest import PASSWORD
from .test_matrix import KeyClient

JANE = {"username": "jane", "fullName": "Jane Doe", "role": "operator", "password": "jane's password"}


def signed_in(service: Service, password: str = JANE["password"]) -> Client:
    return Client(service.app, "jane", password)


async def test_a_new_operator_signs_in_with_the_role_that_was_given(service: Service, client: Client) -> None:
    made = await client.ok("POST", "operators", JANE)
    jane = signed_in(service)

    assert (await jane.call("GET", "hooks")).status == 200
    assert (await jane.call("POST", "hooks", {})).status == 403
    assert (await jane.call("GET", "operators")).status == 403
    assert await client.ok("GET", f"operators/{made['resourceId']}") == {
        "id": made["resourceId"],
        "username": "jane",
        "fullName": "Jane Doe",
        "officeId": 1,
        "permissions": ["ALL_FUNCTIONS_READ", "CREATE_REPLAY", "OPERATE_HOOK", "UPDATE_DELIVERY"],
        "role": "operator",
    }
    assert [one["username"] for one in await client.ok("GET", "operators")] == ["admin", "jane"]
    assert (await client.call("POST", "operators", JANE)).status == 403  # the name is taken


async def test_a_change_takes_effect_at_once(service: Service, client: Client) -> None:
    path = f"operators/{(await client.ok('POST', 'operators', JANE))['resourceId']}"
    jane = signed_in(service)
    await jane.ok("GET", "events")

    await client.ok("PUT", path, {"role": "auditor"})
    assert (await jane.call("GET", "events")).status == 403
    await client.ok("PUT", path, {"permissions": ["READ_EVENT"], "fullName": "J. Doe", "officeId": 2})
    assert (await jane.call("GET", "events")).status == 200
    await client.ok("PUT", path, {"password": "another password"})
    assert (await jane.call("GET", "events")).status == 401
    assert (await signed_in(service, "another password").call("GET", "events")).status == 200
    await client.ok("DELETE", path)
    assert (await signed_in(service, "another password").call("GET", "events")).status == 401
    assert (await client.call("DELETE", path)).status == 404


async def test_nobody_gives_more_than_they_have_or_changes_somebody_who_has_more(
    service: Service, client: Client
) -> None:
    permissions = ["CREATE_OPERATOR", "UPDATE_OPERATOR", "DELETE_OPERATOR", "READ_OPERATOR", "READ_HOOK"]
    key = await client.ok("POST", "apikeys", {"name": "personnel", "permissions": permissions})
    small = KeyClient(service, key["key"])
    (admin,) = await small.ok("GET", "operators")

    more = await small.call("POST", "operators", JANE | {"role": "administrator"})
    same = await small.call("POST", "operators", {**JANE, "role": None, "permissions": ["READ_HOOK"]})
    taken_over = await small.call("PUT", f"operators/{admin['id']}", {"password": "taken over by jane"})
    removed = await small.call("DELETE", f"operators/{admin['id']}")
    raised = await small.call("PUT", f"operators/{same.json['resourceId']}", {"role": "administrator"})

    assert (more.status, same.status) == (403, 200)
    assert (taken_over.status, removed.status, raised.status) == (403, 403, 403)
    assert (await Client(service.app, "admin", PASSWORD).call("GET", "hooks")).status == 200


async def test_the_last_administrator_stays(client: Client) -> None:
    (admin,) = await client.ok("GET", "operators")
    path = f"operators/{admin['id']}"

    removed = await client.call("DELETE", path)
    lowered = await client.call("PUT", path, {"role": "viewer"})
    await client.ok("POST", "operators", JANE | {"role": "administrator"})
    later = await client.call("DELETE", path)

    assert removed.codes == lowered.codes == ["error.msg.operator.is.the.last.administrator"]
    assert later.status == 200


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"username": ""}, "username"),
        ({"username": "a:b"}, "username"),
        ({"username": "a\nb"}, "username"),
        ({"password": "short"}, "password"),
        ({"password": 123456789012}, "password"),
        ({"password": None}, "password"),
        ({"password": "x" * 1001}, "password"),
        ({"role": "king"}, "role"),
        ({"role": None}, "role"),
        ({"officeId": 0}, "officeId"),
        ({"firstname": "Jane"}, "firstname"),
    ],
)
async def test_a_bad_request_names_the_field_and_repeats_no_password(
    client: Client, change: dict[str, Any], parameter: str
) -> None:
    answer = await client.call("POST", "operators", JANE | change)

    assert (answer.status, answer.parameters) == (400, [parameter])
    assert JANE["password"] not in answer.body.decode()
    assert "xxx" not in answer.body.decode()


async def test_the_audit_log_tells_that_a_password_was_changed_and_nothing_of_it(
    client: Client, tmp_path: Path
) -> None:
    path = f"operators/{(await client.ok('POST', 'operators', JANE))['resourceId']}"
    await client.ok("PUT", path, {"password": "another password"})
    await client.ok("PUT", path, {"fullName": "J."})
    await client.ok("DELETE", path)

    removed, renamed, changed, made = (await client.ok("GET", "audits"))["pageItems"]

    def fingerprint(entry: Any, side: str) -> str:
        return str(entry[side]["fingerprints"]["password"])

    assert (made["before"], removed["after"]) == (None, None)
    assert fingerprint(changed, "before") != fingerprint(changed, "after")
    assert fingerprint(renamed, "before") == fingerprint(renamed, "after")
    assert made["resourceId"] == changed["resourceId"] == removed["resourceId"]
    for told in (made, changed, renamed, removed):
        assert "another password" not in str(told)
        assert "argon2" not in str(told)


async def test_whoever_has_lost_the_password_gets_another_while_the_service_is_stopped(
    tmp_path: Path,
) -> None:
    def run(name: str, password: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("embarc")), "operators", "password", name]
        return subprocess.run(
            [*command, "--store", settings.store],
            input=f"{password}\n",
            capture_output=True,
            text=True,
            check=False,
        )

    settings = Settings(store=f"sqlite:///{tmp_path / 'embarc.db'}", port=0)
    service = await Service.open(settings, Observer(), on_broken=pytest.fail)
    await service.access.create_admin("a forgotten password")
    in_use = await asyncio.to_thread(run, "admin", "a new password")
    await service.stop()

    short = await asyncio.to_thread(run, "admin", "short")
    unknown = await asyncio.to_thread(run, "jane", "a new password")
    done = await asyncio.to_thread(run, "admin", "a new password")

    service = await Service.open(settings, Observer(), on_broken=pytest.fail)
    admin = Client(service.app, "admin", "a new password")
    assert (in_use.returncode, short.returncode, unknown.returncode, done.returncode) == (2, 2, 2, 0)
    assert "It has: admin." in unknown.stderr
    assert "a new password" not in done.stdout + done.stderr
    (entry,) = (await admin.ok("GET", "audits"))["pageItems"]
    assert (entry["username"], entry["action"]) == ("(command line)", "embarc operators password")
    await service.stop()
