"""The main job, from outside: a hook, a client, a webhook whose signature an independent verifier accepts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook
from stripe import WebhookSignature

from embarc.testing.process import ServiceProcess
from embarc.testing.receiver import ReceivedRequest, ScriptedReceiver

CLIENT = {
    "firstname": "Alice",
    "lastname": "Martinez",
    "externalId": "CUST-2025-001",
    "submittedOnDate": "13 October 2025",
    "dateFormat": "dd MMMM yyyy",
    "locale": "en",
}
EVENTS = [{"entityName": "CLIENT", "actionName": "CREATE"}]


def documented_form(url: str) -> dict[str, Any]:
    return {
        "name": "client-events",
        "displayName": "Client creation hook",
        "isActive": True,
        "events": EVENTS,
        "config": [
            {"fieldName": "Payload URL", "fieldValue": url},
            {"fieldName": "Content Type", "fieldValue": "json"},
        ],
    }


def fineracts_form(url: str) -> dict[str, Any]:
    return {
        "name": "Web",
        "displayName": "Client creation hook",
        "isActive": True,
        "events": EVENTS,
        "config": {"Payload URL": url, "Content Type": "json"},
    }


def verify_independently(request: ReceivedRequest, secret: str) -> None:
    headers = {name.lower(): value for name, value in request.headers}
    Webhook(secret).verify(request.body, headers)
    WebhookSignature.verify_header(request.body.decode(), headers["x-embarc-signature"], secret, 300)


@pytest.mark.parametrize("form", [documented_form, fineracts_form])
async def test_a_client_becomes_a_signed_webhook(
    service: ServiceProcess, receiver: ScriptedReceiver, form: Any
) -> None:
    hook = await asyncio.to_thread(service.ok, "POST", "hooks", form(receiver.url))

    sent = b'{"firstname":"Alice", "lastname":"Martinez","mobileNo":"+1","locale":"en"}'
    answer = await asyncio.to_thread(service.ok, "POST", "clients", sent)
    (request,) = await receiver.received(1)

    assert answer == {"officeId": 1, "clientId": answer["clientId"], "resourceId": answer["clientId"]}
    assert request.method == "POST"
    assert request.target == "/hook"
    verify_independently(request, hook["secret"])
    payload = json.loads(request.body)
    assert list(payload) == [
        *(
            "entityName",
            "actionName",
            "createdBy",
            "createdByName",
            "createdByFullName",
            "officeId",
            "clientId",
        ),
        *("timestamp", "request", "response"),
    ]
    assert payload["createdByName"] == "admin"
    assert payload["clientId"] == answer["clientId"]
    assert payload["response"] == {"resourceId": answer["clientId"], "officeId": 1}
    assert (
        b'"request":{"firstname":"Alice","lastname":"Martinez","mobileNo":"+1","locale":"en"}' in request.body
    )


async def test_the_documentations_own_client_is_accepted_as_it_stands(
    service: ServiceProcess, receiver: ScriptedReceiver
) -> None:
    await asyncio.to_thread(service.ok, "POST", "hooks", documented_form(receiver.url))
    await asyncio.to_thread(service.ok, "POST", "clients", CLIENT)

    (request,) = await receiver.received(1)

    assert json.loads(request.body)["request"] == CLIENT
    client = await asyncio.to_thread(service.ok, "GET", "clients/1")
    assert client["displayName"] == "Alice Martinez"
    assert client["status"] == {"id": 100, "code": "clientStatusType.pending", "value": "Pending"}
    assert client["timeline"] == {"submittedOnDate": [2025, 10, 13]}


async def test_the_log_tells_what_became_of_an_event(
    service: ServiceProcess, receiver: ScriptedReceiver
) -> None:
    await asyncio.to_thread(service.ok, "POST", "hooks", documented_form(receiver.url))
    posted = {"entityName": "CLIENT", "actionName": "CREATE", "clientId": 5, "response": {"resourceId": 5}}
    accepted = await asyncio.to_thread(service.ok, "POST", "events", posted, Idempotency_Key="k-1")
    again = await asyncio.to_thread(service.ok, "POST", "events", posted, Idempotency_Key="k-1")
    await receiver.received(1)
    assert await asyncio.to_thread(service.stop) == 0

    assert accepted == {"eventId": accepted["eventId"], "deliveries": 1, "duplicate": False}
    assert again == accepted | {"duplicate": True}
    assert len(receiver.requests) == 1


async def test_both_base_paths_answer_the_same(service: ServiceProcess) -> None:
    plain = await asyncio.to_thread(service.ok, "GET", "/api/v1/hooks/template")
    fineract = await asyncio.to_thread(service.ok, "GET", "/fineract-provider/api/v1/hooks/template")

    assert plain == fineract
    assert {"entityName": "CLIENT", "actionName": "CREATE", "grouping": "portfolio"} in plain["events"]


async def test_the_service_tells_about_itself(service: ServiceProcess) -> None:
    def get(path: str) -> Any:
        return service.ok("GET", path)

    assert await asyncio.to_thread(get, "/readyz") == {"status": "ready"}
    assert await asyncio.to_thread(get, "/healthz") == {"status": "alive"}
    assert "embarc_events_accepted_total" in await asyncio.to_thread(get, "/metrics")
    assert "/api/v1/events" in (await asyncio.to_thread(get, "/openapi.json"))["paths"]
    assert "Create a hook" in await asyncio.to_thread(get, "/docs")


def test_a_second_process_on_the_same_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path)

    with pytest.raises(RuntimeError, match="in use by another Embarc process"):
        ServiceProcess(tmp_path)

    assert service.stop() == 0
