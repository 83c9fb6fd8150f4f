"""The exact body of every kind of event about clients, offices, staff, users and codes, as it lies in the outbox."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from embarc.core.catalogue import load_catalogue
from embarc.testing.sandbox import DATES, LendingCore

GOLDEN = Path(__file__).parent / "golden"
ENTITIES = ("CLIENT", "OFFICE", "STAFF", "USER", "CODE", "CODEVALUE")
WRITE = bool(os.environ.get("EMBARC_TEST_WRITE_GOLDEN"))
"""To write the files anew, and to read them before they are committed."""
DAY = "20 October 2025"


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[LendingCore]:
    opened = LendingCore(tmp_path / "sandbox.db")
    yield opened
    await opened.close()


async def tell_everything(core: LendingCore) -> None:
    """One story in which each kind happens once."""
    office = {"name": "Nairobi West", "parentId": 1, "openingDate": "01 March 2024"} | DATES
    await core.ok("POST", "/offices", office)
    await core.ok("PUT", "/offices/2", {"name": "Nairobi Westlands"})
    staff = {"officeId": 2, "firstname": "Grace", "lastname": "Wanjiru", "isLoanOfficer": True}
    await core.ok("POST", "/staff", staff | {"joiningDate": "01 March 2024"} | DATES)
    await core.ok("PUT", "/staff/1", {"mobileNo": "+254700000001"})
    user = {"username": "grace", "firstname": "Grace", "lastname": "Wanjiru", "officeId": 2, "roles": [2]}
    await core.ok("POST", "/users", user | {"password": "a-password", "repeatPassword": "a-password"})
    await core.ok("PUT", "/users/2", {"email": "grace@example.com"})
    await core.ok("DELETE", "/users/2")
    await core.ok("POST", "/codes", {"name": "BranchClosureReason"})
    await core.ok("PUT", "/codes/7", {"name": "OfficeClosureReason"})
    await core.ok("POST", "/codes/7/codevalues", {"name": "Rent", "position": 1})
    values = await core.ok("GET", "/codes/7/codevalues")
    await core.ok("PUT", f"/codes/7/codevalues/{values[0]['id']}", {"isActive": False})
    await core.ok("DELETE", f"/codes/7/codevalues/{values[0]['id']}")
    await core.ok("DELETE", "/codes/7")
    await _lives_of_clients(core)


async def _lives_of_clients(core: LendingCore) -> None:
    person = {"firstname": "Alice", "lastname": "Martinez", "officeId": 2, "externalId": "CUST-2025-001"}
    await core.ok("POST", "/clients", person | {"submittedOnDate": "13 October 2025"} | DATES)
    await core.ok("PUT", "/clients/1", {"mobileNo": "+254700000000"})
    await core.ok("POST", "/clients/1?command=assignStaff", {"staffId": 1})
    await core.ok("POST", "/clients/1?command=unassignStaff", {"staffId": 1})
    for command, field, reason in (
        ("reject", "rejection", True),
        ("undoRejection", "reopened", False),
        ("withdraw", "withdrawal", True),
        ("undoWithdrawal", "reopened", False),
        ("activate", "activation", False),
        ("close", "closure", True),
        ("reactivate", "reactivation", False),
    ):
        body = {f"{field}Date": DAY} | DATES
        if reason:
            reasons = await core.ok("GET", f"/clients/template?commandParam={command}")
            body[f"{field}ReasonId"] = reasons["narrations"][0]["id"]
        await core.ok("POST", f"/clients/1?command={command}", body)
    await core.ok("DELETE", "/clients/1")


async def test_every_event_is_as_it_was(core: LendingCore) -> None:
    await tell_everything(core)

    told = dict(zip(core.kinds(), core.bodies(), strict=True))
    if WRITE:
        for kind, body in told.items():
            (GOLDEN / f"{kind}.json").write_text(body + "\n", encoding="utf-8")
    golden = {
        path.stem: path.read_text(encoding="utf-8").removesuffix("\n")
        for path in GOLDEN.glob("*.json")
        if path.stem.split(".")[0] in ENTITIES
    }
    assert len(core.kinds()) == len(told)
    assert told == golden
    assert set(told) <= {str(entry.kind) for entry in load_catalogue().entries}
