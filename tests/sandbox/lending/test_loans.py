"""Loans through their routes: amounts, dates, refusals, and what is told about them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from embarc.sandbox.loans import ClientStanding, standing_of_client

from .conftest import DATES, OWED, PRODUCT, Lender


async def test_a_loan_lives_from_application_to_closure(lender: Lender) -> None:
    loan_id = await lender.active()
    told = len(lender.events())

    for amount, day in ((309, "2026-02-15"), (306, "2026-03-15")):
        await lender.pay(loan_id, amount, on=day)
    last = await lender.pay(loan_id, 303, on="2026-04-15")

    loan = await lender.loan(loan_id)
    assert loan["status"]["code"] == "loanStatusType.closed.obligations.met"
    assert loan["timeline"] == {
        "submittedOnDate": [2026, 1, 5],
        "approvedOnDate": [2026, 1, 10],
        "expectedDisbursementDate": [2026, 1, 15],
        "actualDisbursementDate": [2026, 1, 15],
        "expectedMaturityDate": [2026, 4, 15],
        "closedOnDate": [2026, 4, 15],
    }
    assert (loan["summary"]["totalRepayment"], loan["summary"]["totalOutstanding"]) == (OWED, 0)
    assert last["changes"]["status"]["id"] == 600
    assert lender.events()[told:] == ["LOAN.REPAYMENT"] * 3 + ["LOAN.CLOSE"]


async def test_the_closing_event_comes_after_the_repayments_and_is_about_the_loan(lender: Lender) -> None:
    loan_id = await lender.active()

    answer = await lender.pay(loan_id, OWED)

    repayment, closing = (json.loads(body) for body in lender.bodies()[-2:])
    assert (repayment["actionName"], repayment["response"]["resourceId"]) == (
        "REPAYMENT",
        answer["resourceId"],
    )
    assert (closing["actionName"], closing["response"]["resourceId"]) == ("CLOSE", loan_id)
    assert closing["response"]["changes"] == {"status": answer["changes"]["status"]}
    for body in (repayment, closing):
        assert (body["officeId"], body["clientId"], body["loanId"]) == (1, lender.client_id, loan_id)


async def test_a_preview_is_the_schedule_that_the_loan_then_has_and_emits_nothing(lender: Lender) -> None:
    told = lender.events()

    preview = await lender.http.ok("POST", "/loans?command=calculateLoanSchedule", lender.application())

    assert lender.events() == told
    assert [one["totalDueForPeriod"] for one in preview["periods"][1:]] == [309, 306, 303]
    assert [one["dueDate"] for one in preview["periods"]] == [[2026, month, 15] for month in (1, 2, 3, 4)]
    assert (await lender.loan(await lender.active()))["repaymentSchedule"] == preview


async def test_a_loan_paid_out_later_and_less_than_planned_has_the_schedule_of_what_happened(
    lender: Lender,
) -> None:
    loan_id = await lender.approved()
    await lender.command(loan_id, "disburse", actualDisbursementDate="2026-01-31", transactionAmount="600.00")

    schedule = (await lender.loan(loan_id))["repaymentSchedule"]

    assert schedule["totalPrincipalDisbursed"] == 600
    assert [one["dueDate"] for one in schedule["periods"][1:]] == [
        [2026, 2, 28],
        [2026, 3, 31],
        [2026, 4, 30],
    ]


async def test_arrears_are_seen(lender: Lender) -> None:
    loan_id = await lender.active()
    await lender.pay(loan_id, 300, on="2026-02-20")

    loan = await lender.loan(loan_id)

    assert loan["inArrears"] is True
    assert loan["summary"]["totalOverdue"] == OWED - 300
    assert loan["summary"]["overdueSinceDate"] == [2026, 2, 15]
    assert loan["repaymentSchedule"]["totalPaidLate"] == 300


async def test_a_repayments_parts_are_told(lender: Lender) -> None:
    loan_id = await lender.active()
    charge_id = await lender.charged(loan_id)
    paid = await lender.pay(loan_id, 100)

    (transaction,) = [
        one for one in (await lender.loan(loan_id))["transactions"] if one["id"] == paid["resourceId"]
    ]
    charge = await lender.http.ok("GET", f"/loans/{loan_id}/charges/{charge_id}")

    names = ("feeChargesPortion", "interestPortion", "principalPortion", "outstandingLoanBalance")
    assert [transaction[name] for name in names] == [25, 9, 66, 834]
    assert (charge["amountPaid"], charge["amountOutstanding"], charge["paid"]) == (25, 0, True)


def without_transactions(loan: Any) -> Any:
    return {name: value for name, value in loan.items() if name != "transactions"}


@pytest.mark.parametrize("amount", [10, 309, OWED, OWED + 7])
async def test_a_reversal_restores_what_was_before(lender: Lender, amount: int) -> None:
    loan_id = await lender.active()
    await lender.charged(loan_id)
    await lender.pay(loan_id, 40, on="2026-02-01")
    before = await lender.loan(loan_id)

    paid = await lender.pay(loan_id, amount)
    await lender.http.ok(
        "POST",
        f"/loans/{loan_id}/transactions/{paid['resourceId']}",
        {"transactionDate": "2026-02-15", "transactionAmount": 0} | DATES,
    )

    after = await lender.loan(loan_id)
    assert without_transactions(after) == without_transactions(before)
    assert [one["manuallyReversed"] for one in after["transactions"]] == [False, False, True]


async def test_an_adjusted_repayment_is_replaced_and_later_ones_are_allocated_anew(lender: Lender) -> None:
    loan_id = await lender.active()
    first = await lender.pay(loan_id, 309)
    await lender.pay(loan_id, 306, on="2026-03-15")

    answer = await lender.http.ok(
        "POST",
        f"/loans/{loan_id}/transactions/{first['resourceId']}",
        {"transactionDate": "2026-02-20", "transactionAmount": "9.00"} | DATES,
    )

    loan = await lender.loan(loan_id)
    second = next(one for one in loan["transactions"] if one["amount"] == 306)
    assert answer["resourceId"] == first["resourceId"]
    assert answer["subResourceId"] != first["resourceId"]
    assert loan["summary"]["totalRepayment"] == 315
    assert (second["interestPortion"], second["principalPortion"]) == (6, 300)


async def test_foreclosure_settles_everything_on_the_day(lender: Lender) -> None:
    loan_id = await lender.active()
    await lender.pay(loan_id, 309)

    answer = await lender.transact(loan_id, "foreclosure", transactionDate="2026-03-01")

    loan = await lender.loan(loan_id)
    paid = next(one for one in loan["transactions"] if one["id"] == answer["resourceId"])
    assert paid["amount"] == 603  # 600, and 14 of 28 days of 6
    assert (loan["status"]["id"], loan["subStatus"]["value"]) == (600, "Foreclosed")
    assert loan["summary"]["interestCharged"] == 12


async def test_foreclosing_what_was_paid_ahead_may_leave_it_overpaid(lender: Lender) -> None:
    loan_id = await lender.active()
    await lender.pay(loan_id, 916, on="2026-01-16")

    await lender.transact(loan_id, "foreclosure", transactionDate="2026-01-20")

    assert (await lender.loan(loan_id))["status"]["id"] == 700


async def test_a_bounced_foreclosure_brings_the_schedule_back(lender: Lender) -> None:
    loan_id = await lender.active()
    before = await lender.loan(loan_id)
    paid = await lender.transact(loan_id, "foreclosure", transactionDate="2026-03-01")

    await lender.http.ok(
        "POST",
        f"/loans/{loan_id}/transactions/{paid['resourceId']}",
        {"transactionDate": "2026-03-01", "transactionAmount": 0} | DATES,
    )

    assert without_transactions(await lender.loan(loan_id)) == without_transactions(before)


async def test_closing_forgives_what_the_product_tolerates_and_no_more(lender: Lender) -> None:
    loan_id = await lender.active()
    await lender.pay(loan_id, OWED - 11)
    refused = await lender.refused(loan_id, "close", transactionDate="2026-05-01")
    await lender.pay(loan_id, 1)

    await lender.transact(loan_id, "close", transactionDate="2026-05-01")

    assert (refused.status, refused.codes) == (403, ["error.msg.loan.close.loan.has.money.outstanding"])
    assert (await lender.loan(loan_id))["summary"]["totalWrittenOff"] == 10


async def test_recovery_is_limited_to_what_was_written_off(lender: Lender) -> None:
    loan_id = await lender.active()
    await lender.transact(loan_id, "writeoff", transactionDate="2026-05-01")
    await lender.transact(
        loan_id, "recoverypayment", transactionDate="2026-05-02", transactionAmount=OWED - 1
    )

    refused = await lender.refused(
        loan_id, "recoverypayment", transactionDate="2026-05-02", transactionAmount=2
    )

    assert (refused.status, refused.codes) == (
        403,
        ["error.msg.loan.transaction.amount.exceeds.total.outstanding"],
    )
    assert (await lender.loan(loan_id))["summary"]["totalRecovered"] == OWED - 1


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (
            {"submittedOnDate": "2026-06-16", "expectedDisbursementDate": "2026-06-20"},
            "submittal.cannot.be.a.future.date",
        ),
        ({"submittedOnDate": "2025-12-31"}, "submittal.cannot.be.before.client.activation.date"),
        ({"submittedOnDate": "2026-01-16"}, "submittal.cannot.be.after.expected.disbursement.date"),
    ],
)
async def test_an_application_is_made_on_a_day_that_makes_sense(
    lender: Lender, fields: dict[str, str], code: str
) -> None:
    told = lender.events()

    refused = await lender.http.call("POST", "/loans", lender.application(**fields))

    assert (refused.status, refused.codes) == (403, [f"error.msg.loan.{code}"])
    assert lender.events() == told


@pytest.mark.parametrize(
    ("state", "command", "fields", "code"),
    [
        ("applied", "approve", {"approvedOnDate": "2026-01-04"}, "approval.cannot.be.before.submittal.date"),
        ("applied", "approve", {"approvedOnDate": "2026-06-16", "expectedDisbursementDate": "2026-07-01"}, "approval.cannot.be.a.future.date"),
        ("applied", "approve", {"approvedOnDate": "2026-01-10", "approvedLoanAmount": "900.01"}, "approval.amount.can't.be.greater.than.loan.amount.demanded"),
        ("applied", "approve", {"approvedOnDate": "2026-01-16"}, "expecteddisbursal.should.be.on.or.after.approval.date"),
        ("applied", "reject", {"rejectedOnDate": "2026-01-04"}, "reject.cannot.be.before.submittal.date"),
        ("applied", "reject", {"rejectedOnDate": "2026-06-16"}, "reject.cannot.be.a.future.date"),
        ("applied", "withdrawnByApplicant", {"withdrawnOnDate": "2026-01-04"}, "withdraw.cannot.be.before.submittal.date"),
        ("applied", "withdrawnByApplicant", {"withdrawnOnDate": "2026-06-16"}, "withdraw.cannot.be.a.future.date"),
        ("approved", "disburse", {"actualDisbursementDate": "2026-01-09"}, "disbursal.cannot.be.before.approval.date"),
        ("approved", "disburse", {"actualDisbursementDate": "2026-06-16"}, "disbursal.cannot.be.a.future.date"),
        ("approved", "disburse", {"actualDisbursementDate": "2026-01-15", "transactionAmount": 901}, "disburse.amount.must.be.less.than.approved.amount"),
        ("active", "repayment", {"transactionDate": "2026-01-14", "transactionAmount": 1}, "transaction.cannot.be.before.disbursement.date"),
        ("active", "repayment", {"transactionDate": "2026-06-16", "transactionAmount": 1}, "transaction.cannot.be.a.future.date"),
        ("active", "waiveinterest", {"transactionDate": "2026-02-15", "transactionAmount": "18.01"}, "waive.interest.amount.exceeds.total.outstanding.interest"),
        ("active", "writeoff", {"transactionDate": "2026-06-16"}, "writeoff.cannot.be.a.future.date"),
        ("active", "close", {"transactionDate": "2026-06-16"}, "close.cannot.be.a.future.date"),
        ("active", "foreclosure", {"transactionDate": "2026-06-16"}, "foreclosure.cannot.be.a.future.date"),
        ("active", "undo-charge-off", {}, "is.not.charged.off"),
        ("applied", "unassignloanofficer", {"unassignedDate": "2026-01-10"}, "not.assigned.to.loan.officer"),
    ],
)  # fmt: skip
async def test_a_rule_that_is_broken_is_told_with_its_code_and_nothing_happens(
    lender: Lender, state: str, command: str, fields: dict[str, Any], code: str
) -> None:
    loan_id = await getattr(lender, state)()
    before = lender.dump()

    refused = await lender.refused(loan_id, command, **fields)

    assert (refused.status, refused.codes) == (403, [f"error.msg.loan.{code}"])
    assert lender.dump() == before


async def test_a_write_off_is_not_before_the_last_payment(lender: Lender) -> None:
    loan_id = await lender.active()
    await lender.pay(loan_id, 100, on="2026-03-01")

    refused = await lender.refused(loan_id, "writeoff", transactionDate="2026-02-28")

    code = "error.msg.loan.writeoff.must.occur.on.or.after.latest.transaction.date"
    assert (refused.status, refused.codes) == (403, [code])


async def test_a_refund_is_no_more_than_what_is_overpaid(lender: Lender) -> None:
    loan_id = await lender.active()
    await lender.pay(loan_id, OWED + 50)

    refused = await lender.refused(
        loan_id, "creditBalanceRefund", transactionDate="2026-03-01", transactionAmount="50.01"
    )
    await lender.transact(loan_id, "creditBalanceRefund", transactionDate="2026-03-01", transactionAmount=20)

    assert (refused.status, refused.codes) == (
        403,
        ["error.msg.loan.transaction.amount.exceeds.overpaid.amount"],
    )
    assert (await lender.loan(loan_id))["totalOverpaid"] == 30


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("principal", None, "validation.msg.loan.principal.cannot.be.blank"),
        ("principal", -1, "validation.msg.loan.principal.not.greater.than.zero"),
        ("principal", "1,0x", "validation.msg.invalid.decimal.format"),
        ("principal", True, "validation.msg.invalid.decimal.format"),
        ("principal", 10.001, "validation.msg.loan.principal.has.too.many.decimals"),
        ("principal", 10**13, "validation.msg.loan.principal.is.greater.than.max"),
        ("loanType", "jlg", "validation.msg.loan.loanType.is.not.one.of.expected.enumerations"),
        ("amortizationType", 2, "validation.msg.loan.amortizationType.is.not.one.of.expected.enumerations"),
        ("loanTermFrequency", 2, "validation.msg.loan.loanTermFrequency.less.than.repayment.structure.suggests"),
        ("loanTermFrequencyType", 1, "validation.msg.loan.loanTermFrequencyType.not.the.same.as.repaymentFrequencyType"),
        ("transactionProcessingStrategyCode", "mine", "validation.msg.loan.transactionProcessingStrategyCode.is.not.one.of.expected.enumerations"),
        ("expectedDisbursementDate", "2026-02-30", "validation.msg.invalid.dateFormat.format"),
        ("repaymentsStartingFromDate", "2026-01-15", "validation.msg.loan.repaymentsStartingFromDate.must.be.after.expected.disbursement.date"),
        ("clientId", 10**30, "validation.msg.loan.clientId.is.greater.than.max"),
        ("productId", 10**30, "validation.msg.loan.productId.is.greater.than.max"),
        ("numberOfRepayments", "--3", "validation.msg.loan.numberOfRepayments.not.an.integer"),
        ("princpal", 1, "error.msg.parameter.unsupported"),
    ],
)  # fmt: skip
async def test_a_field_that_is_wrong_is_told_by_its_name(
    lender: Lender, name: str, value: object, code: str
) -> None:
    refused = await lender.http.call("POST", "/loans", lender.application(**{name: value}))

    assert (refused.status, refused.codes, refused.parameters) == (400, [code], [name])


async def test_a_term_beyond_the_calendar_is_refused(lender: Lender) -> None:
    forever = {"repaymentFrequencyType": 3, "loanTermFrequencyType": 3, "loanTermFrequency": 1_000_000}

    refused = await lender.http.call(
        "POST", "/loans", lender.application(**forever, numberOfRepayments=1000, repaymentEvery=1000)
    )

    assert (refused.status, refused.parameters) == (400, ["numberOfRepayments"])


async def test_an_approval_does_not_plan_beyond_the_calendar(lender: Lender) -> None:
    loan_id = await lender.applied()

    refused = await lender.refused(
        loan_id, "approve", approvedOnDate="2026-01-10", expectedDisbursementDate="9999-12-31"
    )

    assert (refused.status, refused.parameters) == (400, ["numberOfRepayments"])
    assert await lender.status(loan_id) == 100


async def test_a_command_that_needs_nothing_may_come_without_a_body(lender: Lender) -> None:
    loan_id = await lender.approved()

    await lender.http.ok("POST", f"/loans/{loan_id}?command=undoapproval")

    assert json.loads(lender.bodies()[-1])["request"] == {}


async def test_an_amount_may_be_text_of_a_language(lender: Lender) -> None:
    loan_id = await lender.applied(principal="1.234,50", locale="de")

    assert (await lender.loan(loan_id))["principal"] == 1234.5


async def test_a_client_who_is_not_active_gets_no_loan(lender: Lender) -> None:
    pending = (await lender.http.ok("POST", "/clients", {"fullname": "Bob"}))["clientId"]

    refused = await lender.http.call("POST", "/loans", lender.application(clientId=pending))
    unknown = await lender.http.call("POST", "/loans", lender.application(clientId=99))

    assert (refused.status, refused.codes) == (403, ["error.msg.client.not.active.exception"])
    assert (unknown.status, unknown.codes) == (404, ["error.msg.client.id.invalid"])


async def test_a_change_is_told_with_what_changed_and_plans_anew(lender: Lender) -> None:
    loan_id = await lender.applied()

    answer = await lender.http.ok("PUT", f"/loans/{loan_id}", lender.application(principal="600.00"))

    assert answer["changes"] == {"principal": "600.00"} | DATES
    assert (await lender.loan(loan_id))["repaymentSchedule"]["totalPrincipalExpected"] == 600


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/loans/99", "error.msg.loan.id.invalid"),
        ("GET", "/loans/x", "error.msg.loan.id.invalid"),
        ("PUT", "/loans/99", "error.msg.loan.id.invalid"),
        ("POST", "/loans/99?command=approve", "error.msg.loan.id.invalid"),
        ("POST", "/loans/99/transactions?command=repayment", "error.msg.loan.id.invalid"),
        ("GET", "/loanproducts/99", "error.msg.loanproduct.id.invalid"),
        ("GET", "/charges/99", "error.msg.charge.id.invalid"),
        ("GET", "/loans/1/transactions/99", "error.msg.loan.transaction.id.invalid"),
        ("POST", "/loans/1/transactions/99", "error.msg.loan.transaction.id.invalid"),
        ("GET", "/loans/1/charges/99", "error.msg.loanCharge.id.invalid"),
    ],
)
async def test_an_unknown_id_is_told(lender: Lender, method: str, path: str, code: str) -> None:
    await lender.applied()

    answer = await lender.http.call(method, path, None if method == "GET" else {})

    assert (answer.status, answer.codes) == (404, [code])


@pytest.mark.parametrize(
    "path",
    [
        "/loans?command=x",
        "/loans/1?command=x",
        "/loans/1",
        "/loans/1/transactions?command=x",
        "/loans/1/transactions/1?command=x",
        "/loans/1/charges?command=x",
        "/loans/1/charges/1?command=x",
    ],
)
async def test_an_unknown_command_is_told_with_those_there_are(lender: Lender, path: str) -> None:
    answer = await lender.http.call("POST", path, {})

    assert (answer.status, answer.codes) == (400, ["error.msg.query.parameter.value.unsupported"])
    assert "There are: " in answer.json["errors"][0]["defaultUserMessage"]


async def test_loans_are_listed_page_by_page_and_found(lender: Lender) -> None:
    ids = [await lender.applied(externalId=f"L-{number}") for number in range(3)]
    await lender.command(ids[1], "approve", approvedOnDate="2026-01-10")

    page = await lender.http.ok("GET", "/loans?limit=2&offset=1&sortOrder=desc")
    found = {
        query: [one["id"] for one in (await lender.http.ok("GET", f"/loans?{query}"))["pageItems"]]
        for query in ("externalId=L-2", "status=200", f"clientId={lender.client_id}", "accountNo=000000001")
    }

    assert page["totalFilteredRecords"] == 3
    assert [one["id"] for one in page["pageItems"]] == [ids[1], ids[0]]
    assert list(found.values()) == [[ids[2]], [ids[1]], ids, [ids[0]]]


async def test_one_tenant_does_not_see_anothers_loans(lender: Lender) -> None:
    loan_id = await lender.active()
    stranger = lender.as_tenant("other")

    for path in (f"/loans/{loan_id}", f"/loans/{loan_id}/transactions", "/loanproducts/1", "/charges/1"):
        assert (await stranger.call("GET", path)).status == 404
    assert (await stranger.ok("GET", "/loans"))["totalFilteredRecords"] == 0
    assert await stranger.ok("GET", "/loanproducts") == []
    assert await stranger.ok("GET", "/charges") == []


async def test_an_id_is_never_given_twice(lender: Lender) -> None:
    first = await lender.applied()
    await lender.http.ok("DELETE", f"/loans/{first}")

    assert await lender.applied() != first


@pytest.mark.parametrize("field", ["externalId"])
async def test_what_must_be_unique_is_refused_the_second_time(lender: Lender, field: str) -> None:
    loan_id = await lender.active(**{field: "7"})
    await lender.pay(loan_id, 1)
    body = {"transactionDate": "2026-02-15", "transactionAmount": 1, field: "8"}
    await lender.transact(loan_id, "repayment", **body)

    loan = await lender.http.call("POST", "/loans", lender.application(**{field: "7"}))
    repayment = await lender.refused(loan_id, "repayment", **body)
    product = await lender.http.call("POST", "/loanproducts", PRODUCT)

    assert (loan.status, loan.codes) == (403, ["error.msg.loan.duplicate.externalId"])
    assert (repayment.status, repayment.codes) == (403, ["error.msg.loan.transaction.duplicate.externalId"])
    assert (product.status, product.codes) == (403, ["error.msg.product.loan.duplicate.name"])


async def test_a_settled_charge_is_neither_paid_nor_waived_again(lender: Lender) -> None:
    loan_id = await lender.active()
    paid, waived = await lender.charged(loan_id), await lender.charged(loan_id)
    path = f"/loans/{loan_id}/charges"
    await lender.http.ok("POST", f"{path}/{paid}?command=pay", {"transactionDate": "2026-02-01"} | DATES)
    await lender.http.ok("POST", f"{path}/{waived}?command=waive", {})

    for charge_id, code in ((paid, "already.paid"), (waived, "already.waived")):
        for command in ("pay", "waive"):
            refused = await lender.http.call("POST", f"{path}/{charge_id}?command={command}", {})
            assert (refused.status, refused.codes) == (403, [f"error.msg.loan.charge.{code}"])


async def test_a_percentage_is_of_the_principal(lender: Lender) -> None:
    definition = await lender.http.ok(
        "POST",
        "/charges",
        {
            "name": "Insurance",
            "chargeAppliesTo": 1,
            "currencyCode": "USD",
            "amount": "1.255",
            "chargeTimeType": 2,
            "chargeCalculationType": 2,
            "active": True,
            "locale": "en",
        },
    )
    loan_id = await lender.active()

    charge_id = await lender.charged(loan_id, chargeId=definition["resourceId"])

    charge = await lender.http.ok("GET", f"/loans/{loan_id}/charges/{charge_id}")
    assert (charge["amount"], charge["amountOrPercentage"]) == (11.3, 1.255)  # 11.295, half to even


async def test_a_charged_off_loan_takes_repayments_and_no_charges(lender: Lender) -> None:
    loan_id = await lender.active()
    await lender.transact(loan_id, "charge-off", transactionDate="2026-03-01")

    again = await lender.refused(loan_id, "charge-off", transactionDate="2026-03-01")
    charge = await lender.http.call(
        "POST",
        f"/loans/{loan_id}/charges",
        {"chargeId": lender.charge_id, "dueDate": "2026-03-01"} | DATES,
    )
    await lender.pay(loan_id, 100, on="2026-03-02")

    assert (again.status, again.codes) == (403, ["error.msg.loan.is.already.charged.off"])
    assert (charge.status, charge.codes) == (403, ["error.msg.loan.is.charged.off"])
    assert (await lender.loan(loan_id))["chargedOff"] is True


async def test_what_a_clients_loans_say_about_closing_the_client(lender: Lender) -> None:
    async def standing() -> ClientStanding:
        engine = create_engine(f"sqlite:///{lender.sandbox.outbox_path}")
        with Session(engine) as session:
            found = standing_of_client(session, "default", lender.client_id)
        engine.dispose()
        return found

    assert await standing() == ClientStanding(has_open=False, has_overpaid=False)
    loan_id = await lender.active()
    assert await standing() == ClientStanding(has_open=True, has_overpaid=False)
    await lender.pay(loan_id, OWED + 1)
    assert await standing() == ClientStanding(has_open=False, has_overpaid=True)
    await lender.transact(loan_id, "creditBalanceRefund", transactionDate="2026-03-01", transactionAmount=1)
    assert await standing() == ClientStanding(has_open=False, has_overpaid=False)


async def test_a_product_is_changed_within_its_own_limits(lender: Lender) -> None:
    path = f"/loanproducts/{lender.product_id}"
    answer = await lender.http.ok(
        "PUT", path, {"maxPrincipal": 1000, "name": "Business loan", "locale": "en"}
    )

    wrong = await lender.http.call("PUT", path, {"minPrincipal": "1,000.01", "locale": "en"})
    outside = await lender.http.call("PUT", path, {"principal": 1001, "locale": "en"})
    loan = await lender.http.call("POST", "/loans", lender.application(principal=1001))

    assert answer["changes"] == {"maxPrincipal": 1000, "locale": "en"}
    assert wrong.codes == ["validation.msg.loanproduct.minPrincipal.is.greater.than.max"]
    assert outside.codes == ["validation.msg.loanproduct.principal.is.greater.than.max"]
    assert loan.codes == ["validation.msg.loan.principal.is.greater.than.max"]
    assert (await lender.http.ok("GET", path))["maxPrincipal"] == 1000


MANDATORY = sorted(set(PRODUCT) - {"inArrearsTolerance"})


@pytest.mark.parametrize("name", MANDATORY)
async def test_a_product_needs(lender: Lender, name: str) -> None:
    body = {key: value for key, value in PRODUCT.items() if key != name} | {"name": "Other", "shortName": "O"}
    body = {key: value for key, value in body.items() if key != name}

    refused = await lender.http.call("POST", "/loanproducts", body)

    assert refused.codes == [f"validation.msg.loanproduct.{name}.cannot.be.blank"]


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("daysInYearType", 366, "is.not.one.of.expected.enumerations"),
        ("daysInMonthType", 31, "is.not.one.of.expected.enumerations"),
        ("digitsAfterDecimal", 7, "is.greater.than.max"),
        ("shortName", "LONG!", "exceeds.max.length"),
        ("currencyCode", "EURO", "exceeds.max.length"),
        ("numberOfRepayments", 0, "not.greater.than.zero"),
        ("interestRatePerPeriod", -1, "not.zero.or.greater"),
        ("accountingRule", 2, "is.not.supported"),
        ("isInterestRecalculationEnabled", True, "is.not.supported"),
    ],
)
async def test_a_products_fields_have_their_bounds(
    lender: Lender, name: str, value: object, rule: str
) -> None:
    body = PRODUCT | {"name": "Other", "shortName": "O", name: value}

    refused = await lender.http.call("POST", "/loanproducts", body)

    assert (refused.status, refused.codes) == (400, [f"validation.msg.loanproduct.{name}.{rule}"])
