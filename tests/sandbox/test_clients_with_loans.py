"""Where clients, staff and loans meet: who is not closed or deleted while a loan tells of them, who may look after one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from embarc.sandbox.simulate.people import PRODUCTS
from embarc.testing.sandbox import LendingCore

DATES = {"dateFormat": "yyyy-MM-dd", "locale": "en"}
LENT = "2025-10-01"


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[LendingCore]:
    opened = LendingCore(tmp_path / "sandbox.db")
    yield opened
    await opened.close()


async def borrower(core: LendingCore) -> tuple[int, int]:
    """A client with a loan that was paid out."""
    person = {"fullname": "A", "active": True, "activationDate": LENT, "submittedOnDate": LENT}
    client_id = (await core.ok("POST", "/clients", person | DATES))["clientId"]
    product = PRODUCTS[0]
    product_id = (await core.ok("POST", "/loanproducts", product.body("Market", "MARK") | DATES))[
        "resourceId"
    ]
    application = product.loan_body() | {
        "clientId": client_id,
        "productId": product_id,
        "principal": 100,
        "submittedOnDate": LENT,
        "expectedDisbursementDate": LENT,
    }
    loan_id = (await core.ok("POST", "/loans", application | DATES))["loanId"]
    await core.ok("POST", f"/loans/{loan_id}?command=approve", {"approvedOnDate": LENT} | DATES)
    await core.ok("POST", f"/loans/{loan_id}?command=disburse", {"actualDisbursementDate": LENT} | DATES)
    return client_id, loan_id


async def pay(core: LendingCore, loan_id: int, extra: int = 0) -> None:
    loan = await core.ok("GET", f"/loans/{loan_id}?associations=repaymentSchedule")
    amount = loan["repaymentSchedule"]["totalOutstanding"] + extra
    paid = {"transactionDate": "2025-10-15", "transactionAmount": amount}
    await core.ok("POST", f"/loans/{loan_id}/transactions?command=repayment", paid | DATES)


async def closing(core: LendingCore, day: str) -> dict[str, Any]:
    reasons = await core.ok("GET", "/clients/template?commandParam=close")
    return {"closureDate": day, "closureReasonId": reasons["narrations"][0]["id"]} | DATES


@pytest.mark.parametrize(
    ("extra", "day", "code"),
    [
        (None, "2025-10-20", "loan.non-closed"),
        (10, "2025-10-20", "loan.overpaid"),
        (0, "2025-10-14", "date.cannot.before.loan.closed.date"),
    ],
)
async def test_a_client_is_not_closed_before_its_loans(
    core: LendingCore, extra: int | None, day: str, code: str
) -> None:
    client_id, loan_id = await borrower(core)
    if extra is not None:
        await pay(core, loan_id, extra)
    told = core.bodies()

    answer = await core.call("POST", f"/clients/{client_id}?command=close", await closing(core, day))

    assert (answer.status, answer.codes) == (403, [f"error.msg.client.close.{code}"])
    assert (await core.ok("GET", f"/clients/{client_id}"))["status"]["id"] == 300
    assert core.bodies() == told


async def test_a_client_who_has_paid_back_is_closed(core: LendingCore) -> None:
    client_id, loan_id = await borrower(core)
    await pay(core, loan_id)

    await core.ok("POST", f"/clients/{client_id}?command=close", await closing(core, "2025-10-15"))

    assert core.kinds()[-3:] == ["LOAN.REPAYMENT", "LOAN.CLOSE", "CLIENT.CLOSE"]


async def test_a_client_with_a_past_is_not_deleted(core: LendingCore) -> None:
    client_id, loan_id = await borrower(core)
    await pay(core, loan_id)
    await core.ok("POST", f"/clients/{client_id}?command=close", await closing(core, "2025-10-15"))
    again = {"reactivationDate": "2025-10-16"} | DATES
    await core.ok("POST", f"/clients/{client_id}?command=reactivate", again)
    told = core.bodies()

    answer = await core.call("DELETE", f"/clients/{client_id}")

    code = answer.json["userMessageGlobalisationCode"]
    assert (answer.status, code) == (403, "error.msg.client.unknown.data.integrity.issue")
    assert core.bodies() == told


async def test_only_a_loan_officer_looks_after_a_loan(core: LendingCore) -> None:
    _, loan_id = await borrower(core)
    somebody = {"officeId": 1, "firstname": "A", "lastname": "Clerk", "joiningDate": LENT} | DATES
    clerk = (await core.ok("POST", "/staff", somebody))["resourceId"]
    path, assigned = f"/loans/{loan_id}?command=assignloanofficer", {"assignmentDate": LENT} | DATES

    wrong = await core.call("POST", path, assigned | {"toLoanOfficerId": clerk})
    unknown = await core.call("POST", path, assigned | {"toLoanOfficerId": clerk + 1})
    await core.ok("PUT", f"/staff/{clerk}", {"isLoanOfficer": True})
    await core.ok("POST", path, assigned | {"toLoanOfficerId": clerk})

    assert (wrong.status, wrong.codes) == (404, ["error.msg.staff.id.invalid.role"])
    assert (unknown.status, unknown.codes) == (404, ["error.msg.staff.id.invalid"])
    assert core.kinds()[-2:] == ["STAFF.UPDATE", "LOAN.UPDATELOANOFFICER"]
