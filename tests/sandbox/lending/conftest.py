"""A lender to play with: the sandbox behind its real routes, on a real SQLite file, on a day that stands still."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from embarc.core.access import ALL_FUNCTIONS, Caller
from embarc.observe import Observer
from embarc.sandbox import Sandbox, build
from embarc.testing.asgi import Answer, Client
from embarc.web.routes import router

TODAY = date(2026, 6, 15)
DATES = {"dateFormat": "yyyy-MM-dd", "locale": "en"}
CALLER = Caller(
    tenant="default",
    user_id=12,
    username="john.doe",
    full_name="John Doe",
    office_id=1,
    permissions=frozenset({ALL_FUNCTIONS}),
)
PRODUCT = {
    "name": "Business loan",
    "shortName": "BUSI",
    "currencyCode": "USD",
    "digitsAfterDecimal": 2,
    "numberOfRepayments": 3,
    "repaymentEvery": 1,
    "repaymentFrequencyType": 2,
    "interestRatePerPeriod": 1,
    "interestRateFrequencyType": 2,
    "amortizationType": 0,
    "interestType": 0,
    "interestCalculationPeriodType": 1,
    "transactionProcessingStrategyCode": "mifos-standard-strategy",
    "daysInYearType": 365,
    "daysInMonthType": 30,
    "isInterestRecalculationEnabled": False,
    "accountingRule": 1,
    "inArrearsTolerance": 10,
    "locale": "en",
}
# 900 in three parts of 300, 1 % a month of what is left: 309 in February, 306 in March, 303 in April.
APPLICATION = {
    "loanType": "individual",
    "principal": 900,
    "loanTermFrequency": 3,
    "loanTermFrequencyType": 2,
    "numberOfRepayments": 3,
    "repaymentEvery": 1,
    "repaymentFrequencyType": 2,
    "interestRatePerPeriod": 1,
    "amortizationType": 0,
    "interestType": 0,
    "interestCalculationPeriodType": 1,
    "transactionProcessingStrategyCode": "mifos-standard-strategy",
    "submittedOnDate": "2026-01-05",
    "expectedDisbursementDate": "2026-01-15",
} | DATES
FEE = {
    "name": "Processing fee",
    "chargeAppliesTo": 1,
    "currencyCode": "USD",
    "amount": 25,
    "chargeTimeType": 2,
    "chargeCalculationType": 1,
    "chargePaymentMode": 0,
    "penalty": False,
    "active": True,
    "locale": "en",
}
OWED = 918
"""Principal and interest of the application."""


class Lender:
    """What the tests do to the sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.failures: list[str] = []
        self.http = self.as_tenant("default")
        self.client_id = self.product_id = self.charge_id = 0

    def as_tenant(self, tenant: str) -> Client:
        """Somebody with every permission at this tenant."""
        caller = Caller(**{name: getattr(CALLER, name) for name in Caller.__slots__} | {"tenant": tenant})

        async def authenticate(headers: Mapping[str, str], address: str) -> Caller:
            return caller

        observer = Observer()
        observer.subscribe("request.failed", lambda facts: self.failures.append(facts["error"]))
        return Client(router(self.sandbox.routes, authenticate, observer), "x", "x")

    async def open_for_business(self) -> None:
        """Loan officers with the ids 1 to 4, an active client, a product and a fee."""
        for name in ("Grace", "Otieno", "Amina", "Peter"):
            officer = {"officeId": 1, "firstname": name, "lastname": "Officer", "isLoanOfficer": True}
            await self.http.ok("POST", "/staff", officer | {"joiningDate": "2025-01-01"} | DATES)
        day = {"activationDate": "2026-01-01", "submittedOnDate": "2026-01-01"} | DATES
        client = await self.http.ok("POST", "/clients", {"fullname": "Alice", "active": True} | day)
        self.client_id = client["clientId"]
        self.product_id = (await self.http.ok("POST", "/loanproducts", PRODUCT))["resourceId"]
        self.charge_id = (await self.http.ok("POST", "/charges", FEE))["resourceId"]

    def application(self, **fields: Any) -> dict[str, Any]:
        """The body of an application."""
        return APPLICATION | {"clientId": self.client_id, "productId": self.product_id} | fields

    async def applied(self, **fields: Any) -> int:
        """A loan that waits for approval."""
        loan_id: int = (await self.http.ok("POST", "/loans", self.application(**fields)))["loanId"]
        return loan_id

    async def approved(self, **fields: Any) -> int:
        """A loan that waits for its money."""
        loan_id = await self.applied(**fields)
        await self.command(loan_id, "approve", approvedOnDate="2026-01-10")
        return loan_id

    async def active(self, **fields: Any) -> int:
        """A loan that was paid out on 15 January."""
        loan_id = await self.approved(**fields)
        await self.command(loan_id, "disburse", actualDisbursementDate="2026-01-15")
        return loan_id

    async def command(self, loan_id: int, name: str, **fields: Any) -> Any:
        """A command to the loan that must succeed."""
        return await self.http.ok("POST", f"/loans/{loan_id}?command={name}", fields | DATES)

    async def pay(self, loan_id: int, amount: object, on: str = "2026-02-15") -> Any:
        """A repayment that must succeed."""
        return await self.transact(loan_id, "repayment", transactionAmount=amount, transactionDate=on)

    async def transact(self, loan_id: int, name: str, **fields: Any) -> Any:
        """A transaction that must succeed."""
        return await self.http.ok("POST", f"/loans/{loan_id}/transactions?command={name}", fields | DATES)

    async def refused(self, loan_id: int, name: str, **fields: Any) -> Answer:
        """A command or transaction whose answer matters."""
        place = "" if name in _DECISIONS else "/transactions"
        return await self.http.call("POST", f"/loans/{loan_id}{place}?command={name}", fields | DATES)

    async def charged(self, loan_id: int, due_on: str = "2026-02-10", **fields: Any) -> int:
        """The fee, added to the loan."""
        body = {"chargeId": self.charge_id, "dueDate": due_on} | DATES | fields
        charge_id: int = (await self.http.ok("POST", f"/loans/{loan_id}/charges", body))["resourceId"]
        return charge_id

    async def charged_then_cleared(self, loan_id: int) -> int:
        """The loan, after a charge was added to it and deleted again."""
        await self.http.ok("DELETE", f"/loans/{loan_id}/charges/{await self.charged(loan_id)}")
        return loan_id

    async def loan(self, loan_id: int) -> Any:
        """The loan with everything."""
        return await self.http.ok("GET", f"/loans/{loan_id}?associations=all")

    async def status(self, loan_id: int) -> int:
        """The id of the loan's status."""
        found: int = (await self.loan(loan_id))["status"]["id"]
        return found

    def bodies(self) -> list[str]:
        """What is in the outbox, oldest first."""
        with sqlite3.connect(self.sandbox.outbox_path) as connection:
            found = connection.execute("select body from embarc_outbox order by position").fetchall()
        connection.close()
        return [body for (body,) in found]

    def events(self) -> list[str]:
        """The kinds of what is in the outbox, oldest first."""
        read = [json.loads(body) for body in self.bodies()]
        return [f"{one['entityName']}.{one['actionName']}" for one in read]

    def dump(self) -> list[str]:
        """Everything that the sandbox has stored."""
        connection = sqlite3.connect(self.sandbox.outbox_path)
        found = list(connection.iterdump())
        connection.close()
        return found


_DECISIONS = (
    "approve",
    "undoapproval",
    "reject",
    "withdrawnByApplicant",
    "disburse",
    "undodisbursal",
    "assignloanofficer",
    "unassignloanofficer",
)


@pytest.fixture
async def lender(tmp_path: Path) -> AsyncIterator[Lender]:
    sandbox = build(tmp_path / "sandbox.db", wake=lambda: None, today=lambda: TODAY)
    opened = Lender(sandbox)
    await opened.open_for_business()
    yield opened
    await asyncio.to_thread(sandbox.close)
    assert opened.failures == []
