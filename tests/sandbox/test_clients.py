"""The sandbox's clients: life cycle, refusals, and an event for every command that succeeded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from embarc.core.access import Caller
from embarc.testing.sandbox import CALLER, DATES, LendingCore


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[LendingCore]:
    opened = LendingCore(tmp_path / "sandbox.db")
    yield opened
    await opened.close()


async def made(core: LendingCore, **fields: Any) -> int:
    answer = await core.ok("POST", "/clients", {"fullname": "Somebody"} | fields)
    client_id: int = answer["clientId"]
    return client_id


async def test_a_client_is_pending_until_it_is_activated(core: LendingCore) -> None:
    client_id = await made(core)

    before = await core.ok("GET", f"/clients/{client_id}")
    answer = await core.ok(
        "POST", f"/clients/{client_id}?command=activate", {"activationDate": "20 October 2025"} | DATES
    )
    after = await core.ok("GET", f"/clients/{client_id}")

    assert before["status"]["id"] == 100
    assert before["accountNo"] == "000000001"
    assert answer == {"officeId": 1, "clientId": client_id, "resourceId": client_id}
    assert (after["status"]["id"], after["activationDate"]) == (300, [2025, 10, 20])
    assert core.kinds() == ["CLIENT.CREATE", "CLIENT.ACTIVATE"]


async def test_an_active_client_cannot_be_activated_again(core: LendingCore) -> None:
    client_id = await made(
        core, active=True, activationDate="20 October 2025", submittedOnDate="20 October 2025", **DATES
    )

    answer = await core.call(
        "POST", f"/clients/{client_id}?command=activate", {"activationDate": "20 October 2025"} | DATES
    )

    assert (answer.status, answer.codes) == (400, ["error.msg.clients.already.active"])
    assert core.kinds() == ["CLIENT.CREATE"]


@pytest.mark.parametrize(
    ("day", "code"),
    [
        ("21 October 2025", "error.msg.clients.activationDate.in.the.future"),
        ("09 October 2025", "error.msg.clients.submittedOnDate.after.activation.date"),
        ("30 February 2025", "validation.msg.invalid.dateFormat.format"),
    ],
)
async def test_an_activation_date_must_make_sense(core: LendingCore, day: str, code: str) -> None:
    client_id = await made(core, submittedOnDate="10 October 2025", **DATES)

    answer = await core.call(
        "POST", f"/clients/{client_id}?command=activate", {"activationDate": day} | DATES
    )

    assert (answer.status, answer.codes) == (400, [code])


async def test_a_change_is_told_with_what_changed(core: LendingCore) -> None:
    client_id = await made(core, mobileNo="1")

    answer = await core.ok("PUT", f"/clients/{client_id}", {"mobileNo": "2", "fullname": "Somebody"})

    assert answer["changes"] == {"mobileNo": "2"}
    assert (await core.ok("GET", f"/clients/{client_id}"))["mobileNo"] == "2"
    assert core.kinds() == ["CLIENT.CREATE", "CLIENT.UPDATE"]


@pytest.mark.parametrize("name", ["externalId", "mobileNo", "accountNo"])
async def test_what_must_be_unique_is_refused_the_second_time(core: LendingCore, name: str) -> None:
    await made(core, **{name: "7"})

    answer = await core.call("POST", "/clients", {"fullname": "Other", name: "7"})

    assert (answer.status, answer.codes) == (403, [f"error.msg.client.duplicate.{name}"])
    assert core.kinds() == ["CLIENT.CREATE"]


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/clients/99", "error.msg.client.id.invalid"),
        ("GET", "/clients/x", "error.msg.client.id.invalid"),
        ("PUT", "/clients/99", "error.msg.client.id.invalid"),
        ("GET", "/offices/99", "error.msg.office.id.invalid"),
    ],
)
async def test_an_unknown_id_is_told(core: LendingCore, method: str, path: str, code: str) -> None:
    answer = await core.call(method, path, {} if method == "PUT" else None)

    assert (answer.status, answer.codes) == (404, [code])


async def test_an_unknown_office_is_told(core: LendingCore) -> None:
    answer = await core.call("POST", "/clients", {"fullname": "A", "officeId": 99})

    assert (answer.status, answer.codes) == (404, ["error.msg.office.id.invalid"])


async def test_an_unknown_command_is_told_with_those_there_are(core: LendingCore) -> None:
    client_id = await made(core)

    answer = await core.call("POST", f"/clients/{client_id}?command=explode", {})

    assert (answer.status, answer.parameters) == (400, ["command"])
    assert "There are: activate" in answer.json["errors"][0]["defaultUserMessage"]


async def test_clients_are_listed_page_by_page_and_found_by_name(core: LendingCore) -> None:
    for name in ("Alice", "Bob", "Carol"):
        await made(core, fullname=name, externalId=name)

    page = await core.ok("GET", "/clients?limit=2&offset=1&orderBy=displayName&sortOrder=desc")
    found = await core.ok("GET", "/clients?displayName=ali")
    by_id = await core.ok("GET", "/clients?externalId=Bob&status=pending&officeId=1")

    assert page["totalFilteredRecords"] == 3
    assert [one["displayName"] for one in page["pageItems"]] == ["Bob", "Alice"]
    assert [one["displayName"] for one in found["pageItems"]] == ["Alice"]
    assert [one["displayName"] for one in by_id["pageItems"]] == ["Bob"]


async def test_one_tenant_does_not_see_anothers_clients(core: LendingCore, tmp_path: Path) -> None:
    client_id = await made(core)
    other = Caller(**{name: getattr(CALLER, name) for name in Caller.__slots__} | {"tenant": "other"})
    stranger = LendingCore(tmp_path / "sandbox.db", caller=other)

    assert (await stranger.call("GET", f"/clients/{client_id}")).status == 404
    assert (await stranger.ok("GET", "/clients"))["totalFilteredRecords"] == 0
    await stranger.close()


@pytest.mark.parametrize(
    ("text", "date_format", "locale"),
    [
        ("13 October 2025", "dd MMMM yyyy", "en"),
        ("13 october 2025", "dd MMMM yyyy", "en"),
        ("13 Oct 2025", "dd MMM yyyy", "en"),
        ("13 octobre 2025", "dd MMMM yyyy", "fr"),
        ("2025-10-13", "yyyy-MM-dd", "en"),
        ("13/10/25", "dd/MM/yy", "en"),
        ("13.10.2025", "d.M.yyyy", "de"),
        ("13 de outubro de 2025", "dd 'de' MMMM 'de' yyyy", "pt_BR"),
    ],
)
async def test_dates_are_read_in_the_format_and_language_they_come_in(
    core: LendingCore, text: str, date_format: str, locale: str
) -> None:
    client_id = await made(core, submittedOnDate=text, dateFormat=date_format, locale=locale)

    assert (await core.ok("GET", f"/clients/{client_id}"))["timeline"] == {"submittedOnDate": [2025, 10, 13]}
