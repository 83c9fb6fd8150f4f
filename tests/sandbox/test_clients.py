"""The sandbox's clients: life cycle, refusals, and an event for every command that succeeded."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from embarc.core.access import ALL_FUNCTIONS, Caller
from embarc.observe import Observer
from embarc.sandbox import Sandbox, build
from embarc.testing.asgi import Client
from embarc.web.routes import router

TODAY = date(2025, 10, 20)
DATES = {"dateFormat": "dd MMMM yyyy", "locale": "en"}
CALLER = Caller(
    tenant="default",
    user_id=12,
    username="john.doe",
    full_name="John Doe",
    office_id=1,
    permissions=frozenset({ALL_FUNCTIONS}),
)


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    opened = build(tmp_path / "sandbox.db", wake=lambda: None, today=lambda: TODAY)
    yield opened
    await asyncio.to_thread(opened.close)


def as_caller(caller: Caller) -> Callable[[Mapping[str, str], str], Awaitable[Caller]]:
    async def authenticate(headers: Mapping[str, str], client: str) -> Caller:
        return caller

    return authenticate


@pytest.fixture
def client(sandbox: Sandbox) -> Client:
    return Client(router(sandbox.routes, as_caller(CALLER), Observer()), "x", "x")


def events(sandbox: Sandbox) -> list[str]:
    connection = sqlite3.connect(sandbox.outbox_path)
    found = connection.execute(
        "select json_extract(body, '$.actionName') from embarc_outbox order by position"
    )
    names = [name for (name,) in found]
    connection.close()
    return names


async def made(client: Client, **fields: Any) -> int:
    answer = await client.ok("POST", "/clients", {"fullname": "Somebody"} | fields)
    client_id: int = answer["clientId"]
    return client_id


async def test_a_client_is_pending_until_it_is_activated(client: Client, sandbox: Sandbox) -> None:
    client_id = await made(client)

    before = await client.ok("GET", f"/clients/{client_id}")
    answer = await client.ok(
        "POST", f"/clients/{client_id}?command=activate", {"activationDate": "20 October 2025"} | DATES
    )
    after = await client.ok("GET", f"/clients/{client_id}")

    assert before["status"]["id"] == 100
    assert before["accountNo"] == "000000001"
    assert answer == {"officeId": 1, "clientId": client_id, "resourceId": client_id}
    assert (after["status"]["id"], after["activationDate"]) == (300, [2025, 10, 20])
    assert events(sandbox) == ["CREATE", "ACTIVATE"]


async def test_an_active_client_cannot_be_activated_again(client: Client, sandbox: Sandbox) -> None:
    client_id = await made(
        client, active=True, activationDate="20 October 2025", submittedOnDate="20 October 2025", **DATES
    )

    answer = await client.call(
        "POST", f"/clients/{client_id}?command=activate", {"activationDate": "20 October 2025"} | DATES
    )

    assert (answer.status, answer.codes) == (400, ["error.msg.clients.already.active"])
    assert events(sandbox) == ["CREATE"]


@pytest.mark.parametrize(
    ("day", "code"),
    [
        ("21 October 2025", "error.msg.clients.activationDate.in.the.future"),
        ("09 October 2025", "error.msg.clients.submittedOnDate.after.activation.date"),
        ("30 February 2025", "validation.msg.invalid.dateFormat.format"),
    ],
)
async def test_an_activation_date_must_make_sense(client: Client, day: str, code: str) -> None:
    client_id = await made(client, submittedOnDate="10 October 2025", **DATES)

    answer = await client.call(
        "POST", f"/clients/{client_id}?command=activate", {"activationDate": day} | DATES
    )

    assert (answer.status, answer.codes) == (400, [code])


async def test_a_change_is_told_with_what_changed(client: Client, sandbox: Sandbox) -> None:
    client_id = await made(client, mobileNo="1")

    answer = await client.ok("PUT", f"/clients/{client_id}", {"mobileNo": "2", "fullname": "Somebody"})

    assert answer["changes"] == {"mobileNo": "2"}
    assert (await client.ok("GET", f"/clients/{client_id}"))["mobileNo"] == "2"
    assert events(sandbox) == ["CREATE", "UPDATE"]


@pytest.mark.parametrize("name", ["externalId", "mobileNo", "accountNo"])
async def test_what_must_be_unique_is_refused_the_second_time(
    client: Client, sandbox: Sandbox, name: str
) -> None:
    await made(client, **{name: "7"})

    answer = await client.call("POST", "/clients", {"fullname": "Other", name: "7"})

    assert (answer.status, answer.codes) == (403, [f"error.msg.client.duplicate.{name}"])
    assert events(sandbox) == ["CREATE"]


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/clients/99", "error.msg.client.id.invalid"),
        ("GET", "/clients/x", "error.msg.client.id.invalid"),
        ("PUT", "/clients/99", "error.msg.client.id.invalid"),
        ("GET", "/offices/99", "error.msg.office.id.invalid"),
    ],
)
async def test_an_unknown_id_is_told(client: Client, method: str, path: str, code: str) -> None:
    answer = await client.call(method, path, {} if method == "PUT" else None)

    assert (answer.status, answer.codes) == (404, [code])


async def test_an_unknown_office_is_told(client: Client) -> None:
    answer = await client.call("POST", "/clients", {"fullname": "A", "officeId": 99})

    assert (answer.status, answer.codes) == (404, ["error.msg.office.id.invalid"])


async def test_an_unknown_command_is_told_with_those_there_are(client: Client) -> None:
    client_id = await made(client)

    answer = await client.call("POST", f"/clients/{client_id}?command=explode", {})

    assert (answer.status, answer.parameters) == (400, ["command"])
    assert "There are: activate" in answer.json["errors"][0]["defaultUserMessage"]


async def test_clients_are_listed_page_by_page_and_found_by_name(client: Client) -> None:
    for name in ("Alice", "Bob", "Carol"):
        await made(client, fullname=name, externalId=name)

    page = await client.ok("GET", "/clients?limit=2&offset=1&orderBy=displayName&sortOrder=desc")
    found = await client.ok("GET", "/clients?displayName=ali")
    by_id = await client.ok("GET", "/clients?externalId=Bob&status=pending&officeId=1")

    assert page["totalFilteredRecords"] == 3
    assert [one["displayName"] for one in page["pageItems"]] == ["Bob", "Alice"]
    assert [one["displayName"] for one in found["pageItems"]] == ["Alice"]
    assert [one["displayName"] for one in by_id["pageItems"]] == ["Bob"]


async def test_one_tenant_does_not_see_anothers_clients(client: Client, sandbox: Sandbox) -> None:
    client_id = await made(client)
    other = Caller(**{name: getattr(CALLER, name) for name in Caller.__slots__} | {"tenant": "other"})
    stranger = Client(router(sandbox.routes, as_caller(other), Observer()), "x", "x")

    assert (await stranger.call("GET", f"/clients/{client_id}")).status == 404
    assert (await stranger.ok("GET", "/clients"))["totalFilteredRecords"] == 0


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
    client: Client, text: str, date_format: str, locale: str
) -> None:
    client_id = await made(client, submittedOnDate=text, dateFormat=date_format, locale=locale)

    assert (await client.ok("GET", f"/clients/{client_id}"))["timeline"] == {
        "submittedOnDate": [2025, 10, 13]
    }
