"""`/eventkinds`: what ships, what is odd about Fineract's own, and a platform's own words."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from embarc.app import Service
from embarc.core.catalogue import Firing, load_catalogue
from embarc.observe import Observer
from embarc.settings import load_settings
from embarc.testing.asgi import Client

from .conftest import CHEAP_HASH, PASSWORD
from .test_access import KeyClient
from .test_hooks import FINERACTS

CARD = {"entityName": "CARD", "actionName": "OPEN"}


def test_of_fineracts_kinds_34_never_fire_and_24_fire_unlisted() -> None:
    entries = load_catalogue().entries
    firings = [entry.firing for entry in entries]

    assert firings.count(Firing.LISTED) == 445 - 34
    assert firings.count(Firing.NEVER) == 34
    assert firings.count(Firing.UNLISTED) == 24
    assert len({entry.kind for entry in entries}) == len(entries)


def test_what_fires_instead_is_a_kind_that_fires() -> None:
    catalogue = load_catalogue()
    instead = [entry.fires_as for entry in catalogue.entries if entry.fires_as is not None]

    assert len(instead) == 9
    for kind in instead:
        found = catalogue.get(kind)
        assert found is not None
        assert found.firing is Firing.UNLISTED


async def test_every_kind_has_a_description_and_a_sample_of_itself(client: Client) -> None:
    listed = await client.ok("GET", "eventkinds")

    assert len(listed) == len(load_catalogue().entries)
    for kind in listed:
        assert kind["description"]
    for entry in load_catalogue().entries:
        sample = json.loads(entry.sample_payload)
        assert (sample["entityName"], sample["actionName"]) == entry.kind
        assert list(sample)[-2:] == ["request", "response"]


async def test_a_sample_can_be_posted_as_an_event_and_comes_out_the_same(client: Client) -> None:
    kind = await client.ok("GET", "eventkinds/LOAN.REPAYMENT")
    sample = kind["samplePayload"]

    posted = await client.ok("POST", "events", sample)
    event = await client.ok("GET", f"events/{posted['eventId']}")

    assert event["payload"] == sample
    assert sample["loanId"] == 12
    assert sample["response"]["resourceId"] == 42
    assert kind["fineract"] == "listed"


async def test_an_unknown_kind_is_not_found(client: Client) -> None:
    answer = await client.call("GET", "eventkinds/CARD.OPEN")

    assert (answer.status, answer.codes) == (404, ["error.msg.eventkind.identifier.not.found"])


async def test_the_template_marks_what_fineract_lists_in_vain_and_what_it_hides(client: Client) -> None:
    template = await client.ok("GET", "hooks/template")

    groupings = {group["name"]: group["entities"] for group in template["groupings"]}
    (loan,) = [entity for entity in groupings["transaction_loan"] if entity["name"] == "LOAN"]
    assert loan["neverFires"] == ["BYPASS"]
    assert loan["unlisted"] == ["REAGE", "REAMORTIZE", "UNDO_REAGE", "UNDO_REAMORTIZE"]
    assert set(loan["neverFires"] + loan["unlisted"]) < set(loan["actions"])
    odd = {f"{one['entityName']}.{one['actionName']}": one.get("fineract") for one in template["events"]}
    assert odd["LOAN.BYPASS"] == "never-fires"
    assert odd["client.UNDOTRANSACTION"] == "unlisted"
    assert odd["LOAN.APPROVE"] is None


async def test_a_subscription_to_what_never_fires_is_made_and_warned_about(client: Client) -> None:
    never = [{"entityName": "CLIENT", "actionName": "UNDOTRANSACTION"}]
    well = await client.ok("POST", "hooks", FINERACTS)

    created = await client.ok("POST", "hooks", FINERACTS | {"events": never})
    changed = await client.ok("PUT", f"hooks/{well['resourceId']}", {"events": never})
    renamed = await client.ok("PUT", f"hooks/{well['resourceId']}", {"displayName": "x"})

    assert "warnings" not in well
    assert "warnings" not in renamed
    for answer in (created, changed):
        (warning,) = answer["warnings"]
        assert warning["value"] == "CLIENT.UNDOTRANSACTION"
        assert "client.UNDOTRANSACTION instead" in warning["defaultUserMessage"]


async def test_a_declared_kind_is_listed_subscribed_to_and_published(client: Client) -> None:
    refused = await client.call("POST", "events", CARD)
    body = CARD | {"grouping": "cards", "description": "A card was opened."}
    raw = json.dumps(body)[:-1] + ', "samplePayload": {"amount": 1.00, "request": {"token": "t-17"}}}'

    declared = await client.ok("POST", "eventkinds", raw.encode())
    shown = await client.call("GET", "eventkinds/CARD.OPEN")
    template = await client.ok("GET", "hooks/template")
    hook = await client.ok("POST", "hooks", FINERACTS | {"events": [CARD]})
    posted = await client.call("POST", "events", CARD)

    assert refused.codes == ["validation.msg.event.kind.unknown"]
    assert declared == {"resourceIdentifier": "CARD.OPEN"}
    assert b'"amount":1.00' in shown.body
    assert b"t-17" not in shown.body
    assert shown.json["grouping"] == "cards"
    assert {"name": "cards", "entities": [{"name": "CARD", "actions": ["OPEN"]}]} in template["groupings"]
    assert hook["resourceId"]
    assert posted.status == 200


async def test_declaring_again_replaces_what_was_said(client: Client) -> None:
    await client.ok("POST", "eventkinds", CARD | {"description": "First."})

    await client.ok("POST", "eventkinds", CARD | {"description": "Second."})

    own = [kind for kind in await client.ok("GET", "eventkinds") if kind["entityName"] == "CARD"]
    assert own == [CARD | {"kind": "CARD.OPEN", "grouping": "platform", "description": "Second."}]


async def test_what_ships_cannot_be_declared(client: Client) -> None:
    answer = await client.call("POST", "eventkinds", {"entityName": "CLIENT", "actionName": "CREATE"})

    assert (answer.status, answer.codes) == (403, ["error.msg.eventkind.duplicate"])


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"entityName": ""}, "entityName"),
        ({"actionName": "OP\u2028EN"}, "actionName"),
        ({"entityName": "*"}, "entityName"),
        ({"samplePayload": [1]}, "samplePayload"),
        ({"samplePayload": {"x": "y" * 70_000}}, "samplePayload"),
        ({"description": "x" * 1001}, "description"),
        ({"sample": {}}, "sample"),
    ],
)
async def test_a_bad_declaration_names_the_field(
    client: Client, change: dict[str, Any], parameter: str
) -> None:
    answer = await client.call("POST", "eventkinds", CARD | change)

    assert (answer.status, answer.parameters) == (400, [parameter])


async def test_a_tenants_words_are_its_own(service: Service, client: Client) -> None:
    stranger = KeyClient(service, (await client.ok("POST", "tenants", {"name": "acme"}))["key"])

    await client.ok("POST", "eventkinds", CARD)
    await client.ok("POST", "events", CARD)

    assert (await stranger.call("GET", "eventkinds/CARD.OPEN")).status == 404
    assert (await stranger.call("POST", "events", CARD)).status == 400
    assert (await stranger.call("POST", "hooks", FINERACTS | {"events": [CARD]})).status == 400


@pytest.fixture
async def open_client(tmp_path: Path) -> AsyncIterator[Client]:
    settings = load_settings(
        {"EMBARC_OPEN_CATALOGUE": "true"},
        overrides={"store": f"sqlite:///{tmp_path / 'open.db'}"},
        directory=tmp_path,
    )
    opened = await Service.open(settings, Observer(), on_broken=pytest.fail)
    await opened.access.add_admin(CHEAP_HASH)
    await opened.start()
    yield Client(opened.app, "admin", PASSWORD)
    await opened.stop()


async def test_an_open_catalogue_adds_a_kind_at_its_first_event(open_client: Client) -> None:
    before = await open_client.call("GET", "eventkinds/CARD.OPEN")

    await open_client.ok("POST", "events", [CARD, CARD])
    await open_client.ok("POST", "events", CARD)

    assert before.status == 404
    found = await open_client.ok("GET", "eventkinds/CARD.OPEN")
    assert found["grouping"] == "platform"
    assert found["samplePayload"]["entityName"] == "CARD"
    template = await open_client.ok("GET", "hooks/template")
    assert CARD | {"grouping": "platform"} in template["events"]
