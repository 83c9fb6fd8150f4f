"""`/events` and `/deliveries`."""

from __future__ import annotations

from typing import Any

import pytest

from embarc.testing.asgi import Client
from embarc.testing.receiver import ScriptedReceiver

EVENT: dict[str, Any] = {
    "entityName": "CLIENT",
    "actionName": "CREATE",
    "createdBy": 12,
    "createdByName": "john.doe",
    "createdByFullName": "John Doe",
    "officeId": 3,
    "clientId": 9876,
    "timestamp": "2025-10-13T07:45:12.001Z",
    "request": {"firstname": "Zoë", "amount": 1},
    "response": {"resourceId": 9876, "officeId": 3},
}


async def test_an_accepted_event_is_read_back_with_its_payload(client: Client) -> None:
    accepted = await client.ok("POST", "events", EVENT)

    event = await client.ok("GET", f"events/{accepted['eventId']}")

    assert accepted == {"eventId": event["id"], "deliveries": 0, "duplicate": False}
    assert event["payload"] == EVENT
    assert list(event["payload"]) == list(EVENT)
    assert (event["entityName"], event["actionName"], event["entityId"]) == ("CLIENT", "CREATE", "9876")
    assert event["deliveries"] == []


async def test_the_text_of_numbers_and_nulls_survive(client: Client) -> None:
    raw = b'{"entityName":"LOAN","actionName":"REPAYMENT","loanId":7,"request":{"a": 1.00, "b": 1E+5, "c": null, "d": 12345678901234567890.5}}'

    accepted = await client.ok("POST", "events", raw)

    answer = await client.call("GET", f"events/{accepted['eventId']}")
    assert b'"request":{"a":1.00,"b":1E+5,"c":null,"d":12345678901234567890.5}' in answer.body


async def test_secrets_inside_an_event_are_masked_before_storage(client: Client) -> None:
    raw = (
        b'{"entityName":"USER","actionName":"CREATE","request":{"username":"a","password":"hunter2",'
        b'"repeatPassword" : "hunter2","nested":{"Token":["hunter2",1]},"note":"\\"password\\": \\"kept\\""}}'
    )

    accepted = await client.ok("POST", "events", raw)

    answer = await client.call("GET", f"events/{accepted['eventId']}")
    assert b"hunter2" not in answer.body
    assert answer.json["payload"]["request"] == {
        "username": "a",
        "password": "****",
        "repeatPassword": "****",
        "nested": {"Token": "****"},
        "note": '"password": "kept"',
    }


async def test_a_list_is_accepted_together_or_not_at_all(client: Client) -> None:
    accepted = await client.ok("POST", "events", [EVENT, EVENT | {"clientId": 1}])
    refused = await client.call("POST", "events", [EVENT, EVENT | {"actionName": "NOPE"}])

    assert len(accepted["eventIds"]) == 2
    assert refused.status == 400
    assert len((await client.ok("GET", "events"))["pageItems"]) == 2


async def test_a_key_makes_a_repetition_harmless(client: Client) -> None:
    first = await client.call("POST", "events", EVENT, Idempotency_Key="k")
    again = await client.call("POST", "events", EVENT, Idempotency_Key="k")
    other = await client.call("POST", "events", EVENT | {"clientId": 1}, Idempotency_Key="k")

    assert again.json == first.json | {"duplicate": True}
    assert again.headers["x-served-from-cache"] == "true"
    assert "x-served-from-cache" not in first.headers
    assert other.status == 422
    assert len((await client.ok("GET", "events"))["pageItems"]) == 1


async def test_whitespace_does_not_make_another_request_of_a_key(client: Client) -> None:
    await client.ok("POST", "events", b'{"entityName":"CLIENT","actionName":"CREATE"}', Idempotency_Key="k")

    again = await client.ok(
        "POST", "events", b'{ "entityName": "CLIENT", "actionName": "CREATE" }', Idempotency_Key="k"
    )

    assert again["duplicate"]


async def test_pages_lead_through_everything_once(client: Client) -> None:
    posted = [
        (await client.ok("POST", "events", EVENT | {"clientId": number}))["eventId"] for number in range(1, 8)
    ]

    seen, cursor = [], ""
    while True:
        page = await client.ok("GET", f"events?limit=3{cursor}")
        seen += [event["id"] for event in page["pageItems"]]
        if page["nextCursor"] is None:
            break
        cursor = f"&cursor={page['nextCursor']}"

    assert seen == posted[::-1]


async def test_deliveries_are_listed_by_state_hook_kind_and_entity(
    client: Client, receiver: ScriptedReceiver
) -> None:
    receiver.answers(500, 200)
    hook = {
        "name": "Web",
        "isActive": True,
        "events": [{"entityName": "CLIENT", "actionName": "*"}],
        "config": {"Payload URL": receiver.url, "Content Type": "json", "Concurrency": 1, "Max Retries": 0},
    }
    created = await client.ok("POST", "hooks", hook)
    failing = await client.ok("POST", "events", EVENT)
    await receiver.received(1)
    passing = await client.ok("POST", "events", EVENT | {"actionName": "ACTIVATE", "clientId": 1})
    await receiver.received(2)
    delivered = await settled(client, passing["eventId"])

    async def ids(query: str) -> list[str]:
        return [one["eventId"] for one in (await client.ok("GET", f"deliveries?{query}"))["pageItems"]]

    assert delivered["state"] == "delivered"
    assert await ids("state=exhausted") == [failing["eventId"]]
    assert await ids("state=delivered") == [passing["eventId"]]
    assert await ids(f"hookId={created['resourceId']}") == [passing["eventId"], failing["eventId"]]
    assert await ids("entityName=CLIENT&actionName=ACTIVATE") == [passing["eventId"]]
    assert await ids("entityId=9876") == [failing["eventId"]]
    assert await ids("limit=1") == [passing["eventId"]]
    assert await ids("hookId=999") == []
    delivery = await client.ok("GET", f"deliveries/{delivered['id']}")
    assert [attempt["status"] for attempt in delivery["attempts"]] == [200]
    assert delivery["attempts"][0]["responseBody"] == "ok"


async def settled(client: Client, event_id: str) -> Any:
    """The event's delivery, once its result is recorded: the receiver knows a moment earlier than the store."""
    while True:
        (delivery,) = (await client.ok("GET", f"events/{event_id}"))["deliveries"]
        if delivery["state"] != "waiting":
            return delivery


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("events/evt_nope", "error.msg.event.identifier.not.found"),
        ("events/evt_" + "0" * 32, "error.msg.event.identifier.not.found"),
        ("deliveries/dlv_nope", "error.msg.delivery.identifier.not.found"),
        ("deliveries/dlv_" + "0" * 32 + "_1", "error.msg.delivery.identifier.not.found"),
        ("events?cursor=x", "error.msg.event.identifier.not.found"),
    ],
)
async def test_what_does_not_exist_is_told_with_its_id(client: Client, path: str, code: str) -> None:
    answer = await client.call("GET", path)

    assert (answer.status, answer.codes) == (404, [code])


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("events?limit=0", "limit"),
        ("events?limit=201", "limit"),
        ("events?limit=x", "limit"),
        ("events?entityname=CLIENT", "entityname"),
        ("events?since=yesterday", "since"),
        ("deliveries?state=lost", "state"),
        ("deliveries?hookId=x", "hookId"),
    ],
)
async def test_a_wrong_query_is_refused_by_name(client: Client, path: str, parameter: str) -> None:
    answer = await client.call("GET", path)

    assert (answer.status, answer.parameters) == (400, [parameter])


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"entityName": "CLEINT"}, "entityName"),
        ({"entityName": "A\nB"}, "entityName"),
        ({"entityName": 5}, "entityName"),
        ({"clientId": 1.5}, "clientId"),
        ({"clientId": []}, "clientId"),
        ({"loanid": 1}, "loanid"),
        ({"timestamp": "13 October 2025"}, "timestamp"),
        ({"timestamp": "2025-10-13T07:45:12"}, "timestamp"),
        ({"request": []}, "request"),
        ({"response": "x"}, "response"),
        ({"createdByName": None}, "createdBy"),
    ],
)
async def test_a_wrong_event_is_refused_by_name_and_nothing_is_stored(
    client: Client, change: dict[str, Any], parameter: str
) -> None:
    answer = await client.call("POST", "events", EVENT | change)

    assert (answer.status, answer.parameters) == (400, [parameter])
    assert (await client.ok("GET", "events"))["pageItems"] == []


@pytest.mark.parametrize("body", [b"[]", b"5", b'"x"', b"null"])
async def test_what_is_neither_an_event_nor_a_list_is_refused(client: Client, body: bytes) -> None:
    answer = await client.call("POST", "events", body)

    assert answer.status == 400


async def hooked(client: Client, url: str, **config: str) -> str:
    hook = {
        "name": "Web",
        "isActive": True,
        "events": [{"entityName": "CLIENT", "actionName": "*"}],
        "config": {"Payload URL": url, "Content Type": "json", **config},
    }
    return f"hooks/{(await client.ok('POST', 'hooks', hook))['resourceId']}"


async def test_a_delivery_is_replayed_with_the_same_id_and_marked_as_such(
    client: Client, receiver: ScriptedReceiver
) -> None:
    await hooked(client, receiver.url)
    posted = await client.ok("POST", "events", EVENT)
    delivery = await settled(client, posted["eventId"])

    answer = await client.ok("POST", f"deliveries/{delivery['id']}?command=replay")
    first, again = await receiver.received(2)

    assert answer == {"resourceIdentifier": delivery["id"]}
    assert first.header("webhook-id") == again.header("webhook-id") == posted["eventId"]
    assert first.body == again.body
    assert again.header("X-Embarc-Replay") == "1"
    assert again.header("X-Embarc-Attempt") == "2"


async def test_what_waits_for_a_paused_hook_can_be_cancelled_and_replayed(
    client: Client, receiver: ScriptedReceiver
) -> None:
    path = await hooked(client, receiver.url)
    await client.ok("POST", f"{path}?command=pause")
    posted = await client.ok("POST", "events", EVENT)
    (held,) = (await client.ok("GET", f"events/{posted['eventId']}"))["deliveries"]

    await client.ok("POST", f"deliveries/{held['id']}?command=cancel")
    cancelled = await client.ok("GET", f"deliveries/{held['id']}")
    again = await client.call("POST", f"deliveries/{held['id']}?command=cancel")
    await client.ok("POST", f"{path}?command=resume")
    await client.ok("POST", f"deliveries/{held['id']}?command=replay")
    await receiver.received(1)

    assert (held["state"], held["reason"]) == ("held", "the hook is paused")
    assert (cancelled["state"], cancelled["reason"]) == ("cancelled", "cancelled by admin")
    assert (again.status, again.codes) == (403, ["error.msg.delivery.not.waiting"])


async def test_a_delivery_of_a_deleted_hook_has_nowhere_to_go(
    client: Client, receiver: ScriptedReceiver
) -> None:
    path = await hooked(client, receiver.url)
    posted = await client.ok("POST", "events", EVENT)
    delivery = await settled(client, posted["eventId"])
    await client.ok("DELETE", path)

    answer = await client.call("POST", f"deliveries/{delivery['id']}?command=replay")

    assert (answer.status, answer.codes) == (403, ["error.msg.delivery.hook.deleted"])


async def test_a_disabled_hook_is_enabled_by_a_command_and_gets_what_was_held(
    client: Client, receiver: ScriptedReceiver
) -> None:
    receiver.answers(410, 200)
    path = await hooked(client, receiver.url)
    await client.ok("POST", "events", EVENT)
    await receiver.received(1)
    while (await client.ok("GET", path))["isActive"]:
        pass

    await client.ok("POST", f"{path}?command=enable")

    first, again = await receiver.received(2)
    assert first.header("webhook-id") == again.header("webhook-id")


@pytest.mark.parametrize("path", ["hooks/1", "deliveries/dlv_x", "clients/1"])
async def test_an_unknown_command_names_those_there_are(client: Client, path: str) -> None:
    answer = await client.call("POST", f"{path}?command=explode", {})

    assert (answer.status, answer.parameters) == (400, ["command"])
    assert "There are:" in answer.json["errors"][0]["defaultUserMessage"]
