"""Offices, staff, users and codes of the sandbox: Fineract's answers and refusals, and an event for each success."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from embarc.core.errors import SettingsError
from embarc.testing.sandbox import CALLER, DATES, LendingCore

DAY = "20 October 2025"
OPENED = {"openingDate": "01 March 2024"} | DATES
JOINED = {"joiningDate": "01 March 2024"} | DATES
PASSWORD = "Correct-Horse-7"
USER = {
    "username": "grace",
    "firstname": "Grace",
    "lastname": "Wanjiru",
    "officeId": 1,
    "roles": [2],
    "sendPasswordToEmail": False,
    "password": PASSWORD,
    "repeatPassword": PASSWORD,
}
STAFF = {"officeId": 1, "firstname": "Grace", "lastname": "Wanjiru"} | JOINED


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[LendingCore]:
    opened = LendingCore(tmp_path / "sandbox.db")
    yield opened
    await opened.close()


async def office(core: LendingCore, name: str, parent_id: int = 1) -> int:
    answer = await core.ok("POST", "/offices", {"name": name, "parentId": parent_id} | OPENED)
    office_id: int = answer["officeId"]
    return office_id


async def code(core: LendingCore, name: str = "Reason") -> int:
    code_id: int = (await core.ok("POST", "/codes", {"name": name}))["resourceId"]
    return code_id


async def value(core: LendingCore, code_id: int, name: str = "Value") -> int:
    answer = await core.ok("POST", f"/codes/{code_id}/codevalues", {"name": name})
    value_id: int = answer["subResourceId"]
    return value_id


async def test_an_office_lies_under_its_parent_and_moves_with_all_below_it(core: LendingCore) -> None:
    north = await office(core, "North")
    town = await office(core, "Town", north)
    south = await office(core, "South")

    answer = await core.ok("PUT", f"/offices/{north}", {"parentId": south, "name": "Northwest"})

    listed = {one["name"]: one for one in await core.ok("GET", "/offices")}
    assert answer == {
        "officeId": north,
        "resourceId": north,
        "changes": {"name": "Northwest", "parentId": south},
    }
    assert listed["Northwest"]["hierarchy"] == f".{south}.{north}."
    assert listed["Town"]["hierarchy"] == f".{south}.{north}.{town}."
    assert listed["Town"]["nameDecorated"] == "............Town"
    assert core.kinds() == ["OFFICE.CREATE", "OFFICE.CREATE", "OFFICE.CREATE", "OFFICE.UPDATE"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "expected"),
    [
        (
            *("POST", "/offices", {"name": "North", "parentId": 1} | OPENED),
            *(403, "error.msg.office.duplicate.name"),
        ),
        (
            *("POST", "/offices", {"name": "New", "parentId": 1, "externalId": "N-1"} | OPENED),
            *(403, "error.msg.office.duplicate.externalId"),
        ),
        (
            *("POST", "/offices", {"name": "New", "parentId": 99} | OPENED),
            *(404, "error.msg.office.id.invalid"),
        ),
        (
            *("POST", "/offices", {"name": "New", "openingDate": DAY} | DATES),
            *(400, "validation.msg.office.parentId.cannot.be.blank"),
        ),
        (
            *("POST", "/offices", {"name": "New", "parentId": 1, "openingDate": DAY}),
            *(400, "validation.msg.missing.dateFormat.parameter"),
        ),
        (
            *("PUT", "/offices/1", {"parentId": 2}),
            *(403, "error.msg.office.cannot.update.parent.office.of.root.office"),
        ),
        ("PUT", "/offices/2", {"parentId": 2}, 403, "error.msg.office.parentId.same.as.id"),
        ("PUT", "/offices/2", {"parentId": 3}, 403, "error.msg.office.parentId.same.as.id"),
        ("PUT", "/offices/99", {"name": "X"}, 404, "error.msg.office.id.invalid"),
    ],
)
async def test_what_is_wrong_with_an_office_is_told(
    core: LendingCore, method: str, path: str, body: dict[str, Any], status: int, expected: str
) -> None:
    north = await core.ok("POST", "/offices", {"name": "North", "parentId": 1, "externalId": "N-1"} | OPENED)
    await office(core, "Town", north["officeId"])
    told, before = core.bodies(), await core.ok("GET", "/offices")

    answer = await core.call(method, path, body)

    assert (answer.status, answer.codes) == (status, [expected])
    assert core.bodies() == told
    assert await core.ok("GET", "/offices") == before


async def test_staff_is_listed_by_office_by_reach_and_by_what_they_do(core: LendingCore) -> None:
    branch = await office(core, "Branch")
    head = (await core.ok("POST", "/staff", STAFF))["resourceId"]
    officer = await core.ok(
        "POST", "/staff", STAFF | {"firstname": "Otieno", "officeId": branch, "isLoanOfficer": True}
    )
    await core.ok("PUT", f"/staff/{head}", {"isActive": False})

    async def listed(query: str) -> list[int]:
        return [one["id"] for one in await core.ok("GET", f"/staff?{query}")]

    assert await listed("") == [officer["resourceId"]]
    assert await listed("status=all") == [head, officer["resourceId"]]
    assert await listed(f"officeId={branch}&status=all") == [officer["resourceId"]]
    assert await listed(f"officeId={branch}&staffInOfficeHierarchy=true&status=all") == [
        head,
        officer["resourceId"],
    ]
    assert await listed("loanOfficersOnly=true") == [officer["resourceId"]]
    assert (await core.ok("GET", f"/staff/{head}"))["joiningDate"] == [2024, 3, 1]


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        (STAFF, 403, "error.msg.staff.duplicate.displayName"),
        (STAFF | {"firstname": "B", "externalId": "E-1"}, 403, "error.msg.staff.duplicate.externalId"),
        (STAFF | {"firstname": "B", "officeId": 99}, 404, "error.msg.office.id.invalid"),
        (STAFF | {"firstname": "B" * 51}, 400, "validation.msg.staff.firstname.exceeds.max.length"),
        (
            STAFF | {"firstname": "B", "joiningDate": None},
            400,
            "validation.msg.staff.joiningDate.cannot.be.blank",
        ),
    ],
)
async def test_what_is_wrong_with_staff_is_told(
    core: LendingCore, body: dict[str, Any], status: int, expected: str
) -> None:
    await core.ok("POST", "/staff", STAFF | {"externalId": "E-1"})

    answer = await core.call("POST", "/staff", body)

    assert (answer.status, answer.codes) == (status, [expected])
    assert core.kinds() == ["STAFF.CREATE"]


async def test_a_password_is_neither_in_the_database_nor_in_the_event(
    core: LendingCore, tmp_path: Path
) -> None:
    user_id = (await core.ok("POST", "/users", USER))["resourceId"]
    await core.ok("PUT", f"/users/{user_id}", {"password": PASSWORD, "repeatPassword": PASSWORD})

    created, updated = core.events()
    assert created["request"]["password"] == created["request"]["repeatPassword"] == "****"
    assert updated["request"] == {"password": "****", "repeatPassword": "****"}
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert len(files) >= 2
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]


async def test_a_user_is_shown_changed_and_deleted(core: LendingCore) -> None:
    user_id = (await core.ok("POST", "/users", USER))["resourceId"]

    changed = await core.ok("PUT", f"/users/{user_id}", {"lastname": "Kamau", "roles": [1, 2]})
    shown = await core.ok("GET", f"/users/{user_id}")
    deleted = await core.ok("DELETE", f"/users/{user_id}")

    assert changed["changes"] == {"lastname": "Kamau", "roles": [1, 2]}
    assert (shown["lastname"], [role["id"] for role in shown["selectedRoles"]]) == ("Kamau", [1, 2])
    assert deleted == {"officeId": 1, "resourceId": user_id}
    assert [one["username"] for one in await core.ok("GET", "/users")] == ["admin"]
    assert core.kinds() == ["USER.CREATE", "USER.UPDATE", "USER.DELETE"]


@pytest.mark.parametrize(
    ("changed", "status", "expected"),
    [
        ({}, 403, "error.msg.user.duplicate.username"),
        ({"repeatPassword": "other"}, 400, "validation.msg.user.repeatPassword.not.equal.to.password"),
        ({"password": "x" * 51}, 400, "validation.msg.user.password.does.not.match.regexp"),
        ({"password": None}, 400, "validation.msg.user.password.cannot.be.blank"),
        ({"sendPasswordToEmail": True}, 400, "validation.msg.user.email.cannot.be.blank"),
        ({"roles": []}, 400, "validation.msg.user.roles.cannot.be.empty"),
        ({"username": "b", "roles": [99]}, 404, "error.msg.role.id.invalid"),
        ({"username": "b", "officeId": 99}, 404, "error.msg.office.id.invalid"),
    ],
)
async def test_what_is_wrong_with_a_user_is_told_without_the_password(
    core: LendingCore, changed: dict[str, Any], status: int, expected: str
) -> None:
    await core.ok("POST", "/users", USER)

    answer = await core.call("POST", "/users", USER | changed)

    assert (answer.status, answer.codes) == (status, [expected])
    assert PASSWORD.encode() not in answer.body
    assert core.kinds() == ["USER.CREATE"]


async def test_the_first_user_stays(core: LendingCore) -> None:
    answer = await core.call("DELETE", "/users/1")

    assert (answer.status, answer.codes) == (403, ["error.msg.user.systemdefined"])
    assert core.bodies() == []


async def test_a_code_and_its_values_are_made_changed_and_deleted(core: LendingCore) -> None:
    code_id = await code(core)
    value_id = await value(core, code_id, "First")
    path = f"/codes/{code_id}/codevalues"

    changed = await core.ok("PUT", f"{path}/{value_id}", {"name": "Second", "isActive": False})
    shown = await core.ok("GET", path)
    deleted = await core.ok("DELETE", f"{path}/{value_id}")
    renamed = await core.ok("PUT", f"/codes/{code_id}", {"name": "Cause"})
    gone = await core.ok("DELETE", f"/codes/{code_id}")

    assert changed == {"resourceId": value_id, "changes": {"name": "Second", "isActive": False}}
    assert shown == [{"id": value_id, "name": "Second", "position": 0, "active": False, "mandatory": False}]
    assert deleted == {"resourceId": code_id, "subResourceId": value_id}
    assert renamed == {"resourceId": code_id, "changes": {"name": "Cause"}}
    assert gone == {"resourceId": code_id}
    assert core.kinds() == [
        *("CODE.CREATE", "CODEVALUE.CREATE", "CODEVALUE.UPDATE"),
        *("CODEVALUE.DELETE", "CODE.UPDATE", "CODE.DELETE"),
    ]
    assert [event.get("entityId") for event in core.events()] == [
        None,
        value_id,
        value_id,
        value_id,
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "expected"),
    [
        ("POST", "/codes", {"name": "Gender"}, 403, "error.msg.code.duplicate.name"),
        ("POST", "/codes", {"name": ""}, 400, "validation.msg.code.name.cannot.be.blank"),
        ("PUT", "/codes/1", {"name": "Other"}, 403, "error.msg.code.systemdefined"),
        ("DELETE", "/codes/1", None, 403, "error.msg.code.systemdefined"),
        ("GET", "/codes/99", None, 404, "error.msg.code.identifier.not.found"),
        ("POST", "/codes/1/codevalues", {"name": "Deceased"}, 403, "error.msg.code.value.duplicate.label"),
        ("GET", "/codes/1/codevalues/99", None, 404, "error.msg.codevalue.id.invalid"),
        ("GET", "/codes/2/codevalues/1", None, 404, "error.msg.codevalue.id.invalid"),
        (
            *("POST", "/codes/1/codevalues", {"name": "New", "position": 2**63}),
            *(400, "validation.msg.code.value.position.is.greater.than.max"),
        ),
        (
            *("POST", "/clients", {"fullname": "A", "genderId": 2**70}),
            *(404, "error.msg.codevalue.codename.id.combination.invalid"),
        ),
        (
            *("POST", "/clients", {"fullname": "A", "officeId": 2**70}),
            *(404, "error.msg.office.id.invalid"),
        ),
        ("GET", f"/staff?officeId={10**18}", None, 400, "error.msg.query.parameter.value.unsupported"),
        ("POST", "/codes/1/codevalues", {}, 400, "validation.msg.code.value.name.cannot.be.blank"),
    ],
)
async def test_what_is_wrong_with_a_code_is_told(
    core: LendingCore, method: str, path: str, body: dict[str, Any] | None, status: int, expected: str
) -> None:
    answer = await core.call(method, path, body)

    assert (answer.status, answer.codes) == (status, [expected])
    assert core.bodies() == []


async def test_a_reason_that_was_given_stays(core: LendingCore) -> None:
    reason = (await core.ok("GET", "/codes/1/codevalues"))[0]["id"]
    client_id = (await core.ok("POST", "/clients", {"fullname": "A"}))["clientId"]
    closing = {"closureDate": DAY, "closureReasonId": reason} | DATES
    await core.ok("POST", f"/clients/{client_id}?command=close", closing)
    told = core.bodies()

    answer = await core.call("DELETE", f"/codes/1/codevalues/{reason}")

    assert (answer.status, answer.json["userMessageGlobalisationCode"]) == (403, "error.msg.codeValue.in.use")
    assert core.bodies() == told


async def test_a_client_is_described_by_values_of_the_right_codes(core: LendingCore) -> None:
    form = await core.ok("GET", "/clients/template")
    gender, kind = form["genderOptions"][0], form["clientTypeOptions"][0]

    made = await core.ok(
        "POST", "/clients", {"fullname": "A", "genderId": gender["id"], "clientTypeId": kind["id"]}
    )
    shown = await core.ok("GET", f"/clients/{made['clientId']}")
    wrong = await core.call("PUT", f"/clients/{made['clientId']}", {"genderId": kind["id"]})
    emptied = await core.ok("PUT", f"/clients/{made['clientId']}", {"genderId": None})

    assert form["clientLegalFormOptions"][1] == {"id": 2, "code": "legalFormType.entity", "value": "Entity"}
    assert shown["gender"] == {"id": gender["id"], "name": "Female"}
    assert (wrong.status, wrong.codes) == (404, ["error.msg.codevalue.codename.id.combination.invalid"])
    assert emptied["changes"] == {"genderId": None}
    assert "gender" not in await core.ok("GET", f"/clients/{made['clientId']}")


async def test_another_tenant_sees_nothing_of_it(core: LendingCore, tmp_path: Path) -> None:
    await core.ok("POST", "/staff", STAFF)
    other = type(CALLER)(**{name: getattr(CALLER, name) for name in CALLER.__slots__} | {"tenant": "other"})
    stranger = LendingCore(tmp_path / "sandbox.db", caller=other)

    for path in ("/offices", "/staff?status=all", "/users", "/roles", "/codes"):
        assert await stranger.ok("GET", path) == []
    for path in ("/offices/1", "/staff/1", "/users/1", "/codes/1"):
        assert (await stranger.call("GET", path)).status == 404
    await stranger.close()


async def test_a_sandbox_of_another_version_is_refused_with_what_to_do(
    core: LendingCore, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "sandbox.db") as connection:
        connection.execute("pragma user_version = 1")
    connection.close()

    with pytest.raises(SettingsError, match=r"sandbox\.db is the sandbox of another version .* Move it away"):
        LendingCore(tmp_path / "sandbox.db")


async def test_a_sandbox_that_is_opened_again_is_as_it_was(core: LendingCore, tmp_path: Path) -> None:
    await core.ok("POST", "/staff", STAFF)
    again = LendingCore(tmp_path / "sandbox.db")

    assert len(await again.ok("GET", "/staff")) == 1
    assert len(await again.ok("GET", "/codes")) == 6
    await again.close()
