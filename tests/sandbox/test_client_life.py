"""Every command on a client in every status: it moves as Fineract does, or is refused with Fineract's code."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from embarc.testing.asgi import Answer
from embarc.testing.sandbox import DATES, LendingCore

PENDING, ACTIVE, CLOSED, REJECTED, WITHDRAWN, GONE = 100, 300, 600, 700, 800, 0
STATUSES = (PENDING, ACTIVE, CLOSED, REJECTED, WITHDRAWN)
DAY = "20 October 2025"

NOT_PENDING = "on.account.not.in.pending.activation.status"
REFUSALS = {
    "activate": (400, "error.msg.clients.already.active"),
    "reject": (403, f"error.msg.client.rejection.{NOT_PENDING}"),
    "withdraw": (403, f"error.msg.client.withdrawal.{NOT_PENDING}"),
    "close": (403, "error.msg.client.close.is.already.closed"),
    "reactivate": (403, "error.msg.client.reactivation.on.nonclosed.account"),
    "undoRejection": (403, "error.msg.client.undorejection.on.nonrejected.account"),
    "undoWithdrawal": (403, "error.msg.client.undoWithdrawal.on.nonwithdrawal.account"),
    "delete": (403, "error.msg.clients.cannot.be.deleted"),
}
ACTIONS = {
    "activate": "ACTIVATE",
    "reject": "REJECT",
    "withdraw": "WITHDRAW",
    "close": "CLOSE",
    "reactivate": "REACTIVATE",
    "undoRejection": "UNDOREJECT",
    "undoWithdrawal": "UNDOWITHDRAWAL",
    "delete": "DELETE",
}
# From the rows of Fineract's own service, not from ours: command -> status -> where it leads.
LEADS: dict[str, dict[int, int]] = {
    "activate": {PENDING: ACTIVE, CLOSED: ACTIVE, REJECTED: ACTIVE, WITHDRAWN: ACTIVE},
    "reject": {PENDING: REJECTED},
    "withdraw": {PENDING: WITHDRAWN},
    "close": {PENDING: CLOSED, ACTIVE: CLOSED, REJECTED: CLOSED, WITHDRAWN: CLOSED},
    "reactivate": {CLOSED: PENDING},
    "undoRejection": {REJECTED: PENDING},
    "undoWithdrawal": {WITHDRAWN: PENDING},
    "delete": {PENDING: GONE},
}
DAYS = {
    "activate": "activationDate",
    "reject": "rejectionDate",
    "withdraw": "withdrawalDate",
    "close": "closureDate",
    "reactivate": "reactivationDate",
    "undoRejection": "reopenedDate",
    "undoWithdrawal": "reopenedDate",
}
REASONS = {
    "reject": "rejectionReasonId",
    "withdraw": "withdrawalReasonId",
    "close": "closureReasonId",
}
REACHED_BY = {
    PENDING: (),
    ACTIVE: ("activate",),
    CLOSED: ("activate", "close"),
    REJECTED: ("reject",),
    WITHDRAWN: ("withdraw",),
}


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[LendingCore]:
    opened = LendingCore(tmp_path / "sandbox.db")
    yield opened
    await opened.close()


async def made(core: LendingCore, status: int) -> int:
    answer = await core.ok(
        "POST", "/clients", {"fullname": "Somebody", "submittedOnDate": "10 October 2025"} | DATES
    )
    client_id: int = answer["clientId"]
    for command in REACHED_BY[status]:
        assert (await give(core, client_id, command)).status == 200
    return client_id


async def give(core: LendingCore, client_id: int, command: str, **changed: Any) -> Answer:
    if command == "delete":
        return await core.call("DELETE", f"/clients/{client_id}")
    body: dict[str, Any] = {DAYS[command]: DAY} | DATES
    if command in REASONS:
        body[REASONS[command]] = await reason(core, command)
    return await core.call("POST", f"/clients/{client_id}?command={command}", body | changed)


async def reason(core: LendingCore, command: str) -> int:
    reasons = await core.ok("GET", f"/clients/template?commandParam={command}")
    number: int = reasons["narrations"][0]["id"]
    return number


async def status_of(core: LendingCore, client_id: int) -> int:
    answer = await core.call("GET", f"/clients/{client_id}")
    return GONE if answer.status == 404 else answer.json["status"]["id"]


@pytest.mark.parametrize("command", LEADS)
@pytest.mark.parametrize("status", STATUSES)
async def test_every_command_in_every_status_moves_or_is_refused(
    core: LendingCore, status: int, command: str
) -> None:
    client_id = await made(core, status)
    before, told = await core.call("GET", f"/clients/{client_id}"), core.bodies()

    answer = await give(core, client_id, command)

    target = LEADS[command].get(status)
    if target is None:
        assert (answer.status, answer.codes) == (REFUSALS[command][0], [REFUSALS[command][1]])
        assert (await core.call("GET", f"/clients/{client_id}")).body == before.body
        assert core.bodies() == told
    else:
        assert answer.status == 200
        assert await status_of(core, client_id) == target
        event = core.events()[-1]
        assert core.kinds()[len(told) :] == [f"CLIENT.{ACTIONS[command]}"]
        assert (event["clientId"], event["officeId"]) == (client_id, 1)
        assert event["response"] == answer.json
        assert ("officeId" in answer.json) == (command in ("activate", "delete"))


@pytest.mark.parametrize("status", STATUSES)
async def test_staff_is_assigned_and_taken_away_in_every_status(core: LendingCore, status: int) -> None:
    employed = await core.ok(
        "POST",
        "/staff",
        {"officeId": 1, "firstname": "G", "lastname": "W", "joiningDate": DAY} | DATES,
    )
    client_id, staff_id = await made(core, status), employed["resourceId"]
    told = len(core.bodies())

    given = await core.ok("POST", f"/clients/{client_id}?command=assignStaff", {"staffId": staff_id})
    shown = await core.ok("GET", f"/clients/{client_id}")
    taken = await core.ok("POST", f"/clients/{client_id}?command=unassignStaff", {"staffId": staff_id})
    again = await core.call("POST", f"/clients/{client_id}?command=unassignStaff", {"staffId": staff_id})

    expected = {
        "officeId": 1,
        "clientId": client_id,
        "resourceId": client_id,
        "changes": {"staffId": staff_id},
    }
    assert given == taken == expected
    assert (shown["staffId"], shown["staffName"]) == (staff_id, "W, G")
    assert (again.status, again.codes) == (404, ["error.msg.client.has.no.staff"])
    assert core.kinds()[told:] == ["CLIENT.ASSIGNSTAFF", "CLIENT.UNASSIGNSTAFF"]


async def test_staff_of_another_branch_does_not_look_after_the_client(core: LendingCore) -> None:
    branch = {"name": "Branch", "parentId": 1, "openingDate": DAY} | DATES
    office_id = (await core.ok("POST", "/offices", branch))["officeId"]
    somebody = {"officeId": office_id, "firstname": "G", "lastname": "W", "joiningDate": DAY} | DATES
    staff_id = (await core.ok("POST", "/staff", somebody))["resourceId"]
    client_id = await made(core, PENDING)

    answer = await core.call("POST", f"/clients/{client_id}?command=assignStaff", {"staffId": staff_id})

    assert (answer.status, answer.codes) == (404, ["error.msg.staff.id.invalid"])


@pytest.mark.parametrize(
    ("status", "command", "code"),
    [
        (PENDING, "reject", "rejection.date.cannot.before.client.submitted.date"),
        (PENDING, "withdraw", "withdrawal.date.cannot.before.client.submitted.date"),
        (ACTIVE, "close", "close.date.cannot.before.client.actvation.date"),
        (CLOSED, "reactivate", "reactivation.date.cannot.before.client.closed.date"),
        (REJECTED, "undoRejection", "reopened.date.cannot.before.client.rejected.date"),
        (WITHDRAWN, "undoWithdrawal", "reopened.date.cannot.before.client.withdrawal.date"),
    ],
)
async def test_nothing_happens_before_what_it_follows(
    core: LendingCore, status: int, command: str, code: str
) -> None:
    client_id = await made(core, status)
    told = core.bodies()

    answer = await give(core, client_id, command, **{DAYS[command]: "09 October 2025"})

    assert (answer.status, answer.codes) == (403, [f"error.msg.client.{code}"])
    assert await status_of(core, client_id) == status
    assert core.bodies() == told


@pytest.mark.parametrize("command", REASONS)
async def test_a_reason_must_be_one_of_its_own_code(core: LendingCore, command: str) -> None:
    client_id = await made(core, PENDING)
    foreign = await reason(core, "close" if command != "close" else "reject")

    answer = await give(core, client_id, command, **{REASONS[command]: foreign})
    missing = await give(core, client_id, command, **{REASONS[command]: None})

    assert (answer.status, answer.codes) == (404, ["error.msg.codevalue.codename.id.combination.invalid"])
    assert (missing.status, missing.parameters) == (400, [REASONS[command]])
    assert core.kinds() == ["CLIENT.CREATE"]


async def test_a_client_is_shown_with_why_and_when(core: LendingCore) -> None:
    client_id = await made(core, CLOSED)

    shown = await core.ok("GET", f"/clients/{client_id}")
    await give(core, client_id, "reactivate")
    anew = await core.ok("GET", f"/clients/{client_id}")

    assert shown["status"] == {"id": 600, "code": "clientStatusType.closed", "value": "Closed"}
    assert shown["subStatus"]["name"] == "Moved away"
    assert shown["timeline"] == {
        "submittedOnDate": [2025, 10, 10],
        "activatedOnDate": [2025, 10, 20],
        "closedOnDate": [2025, 10, 20],
    }
    assert "subStatus" not in anew
    assert anew["timeline"] == {"submittedOnDate": [2025, 10, 10]}


async def test_the_id_of_a_deleted_client_is_not_given_again(core: LendingCore) -> None:
    first = await made(core, PENDING)
    await give(core, first, "delete")

    assert await made(core, PENDING) == first + 1


async def test_a_client_is_found_by_the_platforms_own_id(core: LendingCore) -> None:
    client_id = (await core.ok("POST", "/clients", {"fullname": "A", "externalId": "K-1"}))["clientId"]
    path = "/clients/external-id/K-1"

    await core.ok("PUT", path, {"mobileNo": "1"})
    await core.ok("POST", f"{path}?command=activate", {"activationDate": DAY} | DATES)
    shown = await core.ok("GET", path)
    refused = await core.call("DELETE", path)
    unknown = await core.call("GET", "/clients/external-id/K-2")

    assert (shown["id"], shown["mobileNo"], shown["status"]["id"]) == (client_id, "1", ACTIVE)
    assert (refused.status, refused.codes) == (403, ["error.msg.clients.cannot.be.deleted"])
    assert (unknown.status, unknown.codes) == (404, ["error.msg.client.id.invalid"])


class LifeOfClients(RuleBasedStateMachine):
    """Whatever is asked for in whatever order: the client is where the table says, and each success is told once."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.core = LendingCore(Path(self.folder.name) / "sandbox.db")
        self.statuses: dict[int, int] = {}
        self.told: list[tuple[int, str]] = []

    @precondition(lambda self: len(self.statuses) < 4)
    @rule()
    def create(self) -> None:
        client_id = self.runner.run(made(self.core, PENDING))
        self.statuses[client_id] = PENDING
        self.told.append((client_id, "CREATE"))

    @precondition(lambda self: self.statuses)
    @rule(command=st.sampled_from(sorted(LEADS)), which=st.integers(min_value=0))
    def command(self, command: str, which: int) -> None:
        client_id = list(self.statuses)[which % len(self.statuses)]
        before = self.statuses[client_id]

        answer = self.runner.run(give(self.core, client_id, command))

        target = LEADS[command].get(before)
        if before == GONE:
            assert (answer.status, answer.codes) == (404, ["error.msg.client.id.invalid"])
        elif target is None:
            assert (answer.status, answer.codes) == (REFUSALS[command][0], [REFUSALS[command][1]])
        else:
            assert answer.status == 200
            self.statuses[client_id] = target
            self.told.append((client_id, ACTIONS[command]))

    @invariant()
    def every_client_is_where_it_should_be(self) -> None:
        for client_id, status in self.statuses.items():
            assert self.runner.run(status_of(self.core, client_id)) == status

    @invariant()
    def every_success_is_told_once(self) -> None:
        told = [(event["clientId"], event["actionName"]) for event in self.core.events()]
        assert told == self.told

    def teardown(self) -> None:
        self.runner.run(self.core.close())
        self.runner.close()
        self.folder.cleanup()


TestLifeOfClients = LifeOfClients.TestCase
TestLifeOfClients.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
