"""One file for every kind of event that lending emits: the body exactly as it stands in the outbox, only indented."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from embarc.core.catalogue import load_catalogue
from embarc.sandbox.loan_life import CREATE, STEPS

from .conftest import DATES, OWED, Lender

FOLDER = Path(__file__).parents[1] / "golden"
KINDS = {f"{step.entity}.{step.action}" for step in (*STEPS.values(), CREATE)} | {
    "LOANPRODUCT.CREATE",
    "LOANPRODUCT.UPDATE",
    "CHARGE.CREATE",
}


async def a_portfolio(lender: Lender) -> None:
    """Everything that can happen, once."""
    http = lender.http
    await http.ok(
        "PUT", f"/loanproducts/{lender.product_id}", {"interestRatePerPeriod": 1.50, "locale": "en"}
    )

    dropped = await lender.applied()
    await http.ok(
        "PUT", f"/loans/{dropped}", b'{"principal": 600.00, "dateFormat": "yyyy-MM-dd", "locale": "en"}'
    )
    await http.ok("DELETE", f"/loans/{await lender.charged_then_cleared(dropped)}")
    await lender.command(await lender.applied(), "reject", rejectedOnDate="2026-01-10", note="No income")
    await lender.command(await lender.applied(), "withdrawnByApplicant", withdrawnOnDate="2026-01-10")

    loan = await lender.approved()
    await lender.command(loan, "undoapproval", note="Wrong amount")
    await lender.command(loan, "assignloanofficer", toLoanOfficerId=4, assignmentDate="2026-01-10")
    await lender.command(loan, "unassignloanofficer", unassignedDate="2026-01-11")
    await lender.command(loan, "approve", approvedOnDate="2026-01-12", approvedLoanAmount=900)
    await lender.command(loan, "disburse", actualDisbursementDate="2026-01-15", paymentTypeId=1)
    await lender.command(loan, "undodisbursal")
    await lender.command(loan, "disburse", actualDisbursementDate="2026-01-15")
    fees = [await lender.charged(loan) for _ in range(2)]
    await http.ok(
        "POST", f"/loans/{loan}/charges/{fees[0]}?command=pay", {"transactionDate": "2026-02-01"} | DATES
    )
    await http.ok("POST", f"/loans/{loan}/charges/{fees[1]}?command=waive", {})
    paid = await lender.transact(
        loan,
        "repayment",
        transactionDate="2026-02-15",
        transactionAmount=309.00,
        receiptNumber="R-1",
        note="Cash",
    )
    await http.ok(
        "POST",
        f"/loans/{loan}/transactions/{paid['resourceId']}",
        {"transactionDate": "2026-02-15", "transactionAmount": 0} | DATES,
    )
    await lender.transact(loan, "waiveinterest", transactionDate="2026-02-20", transactionAmount=9)
    await lender.transact(loan, "charge-off", transactionDate="2026-03-01")
    await lender.transact(loan, "undo-charge-off")
    await lender.transact(loan, "writeoff", transactionDate="2026-03-01")
    await lender.transact(loan, "recoverypayment", transactionDate="2026-03-02", transactionAmount=5)
    await lender.transact(loan, "undowriteoff")
    await lender.transact(loan, "close-rescheduled", transactionDate="2026-03-03")

    overpaid = await lender.active()
    await lender.pay(overpaid, OWED + 50)
    await lender.transact(overpaid, "creditBalanceRefund", transactionDate="2026-03-01", transactionAmount=50)
    await lender.transact(await lender.active(), "foreclosure", transactionDate="2026-03-01")


async def test_every_kind_of_event_is_what_its_golden_file_says(lender: Lender) -> None:
    await a_portfolio(lender)

    seen: dict[str, bytes] = {}
    for body in lender.bodies():
        read = json.loads(body)
        kind = f"{read['entityName']}.{read['actionName']}"
        if kind in KINDS:
            seen.setdefault(kind, msgspec.json.format(body.encode(), indent=2) + b"\n")
    assert set(seen) == KINDS

    for kind, found in seen.items():
        path = FOLDER / f"{kind}.json"
        assert path.exists(), f"{path} is not there. It should be:\n{found.decode()}"
        assert path.read_bytes() == found, kind


def test_every_kind_is_one_of_the_catalogue() -> None:
    assert {str(entry.kind) for entry in load_catalogue().entries} >= KINDS
