"""`/replays`, `/hooks/{id}/stats` and enabling: what operators see and do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from embarc.testing.asgi import Client
from embarc.testing.receiver import ScriptedReceiver

EVENT = {"entityName": "CLIENT", "actionName": "CREATE", "clientId": 7, "response": {"resourceId": 7}}


async def add_hook(client: Client, url: str, **config: str) -> int:
    body = {
        "name": "Web",
        "isActive": True,
        "events": [{"entityName": "CLIENT", "actionName": "CREATE"}],
        "config": {"Payload URL": url, "Content Type": "json", **config},
    }
    return int((await client.ok("POST", "hooks", body))["resourceId"])


async def until(client: Client, path: str, name: str, value: object) -> Any:
    async with asyncio.timeout(10):
        while (found := await client.ok("GET", path))[name] != value:  # noqa: ASYNC110 - as a user of the API polls
            await asyncio.sleep(0.01)
    return found


async def test_a_replay_is_previewed_begun_and_watched(client: Client, receiver: ScriptedReceiver) -> None:
    await client.ok("POST", "events", [EVENT] * 3)
    hook_id = await add_hook(client, receiver.url)
    body = {"hookId": hook_id, "events": [{"entityName": "CLIENT", "actionName": "*"}], "states": ["missing"]}

    preview = await client.ok("POST", "replays?preview=true", body)
    also = await client.ok("POST", "replays", body | {"preview": True})
    begun = await client.ok("POST", "replays", body)
    finished = await until(client, f"replays/{begun['id']}", "state", "finished")
    requests = await receiver.received(3)
    listed = await client.ok("GET", "replays")

    assert preview == also == {"preview": True, "count": 3}
    assert begun["state"] == "running"
    assert (finished["queued"], finished["createdBy"]) == (3, "admin")
    assert finished["selection"]["states"] == ["missing"]
    assert finished["reachedAt"] == finished["selection"]["until"]
    assert finished["finishedAt"] >= finished["createdAt"]
    assert [one["id"] for one in listed["pageItems"]] == [begun["id"]]
    assert {request.header("x-embarc-replay") for request in requests} == {"1"}
    assert (await client.call("POST", f"replays/{begun['id']}?command=cancel")).status == 403


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ({}, "hookId"),
        ({"hookId": 1, "states": ["waiting"]}, "states"),
        ({"hookId": 1, "states": []}, "states"),
        ({"hookId": 1, "events": [{"entityName": "CLIENT"}]}, "events"),
        ({"hookId": 1, "events": "CLIENT"}, "events"),
        ({"hookId": 1, "since": "yesterday"}, "since"),
        ({"hookId": 1, "since": "2999-01-01T00:00:00Z"}, "since"),
        ({"hookId": 1, "sinse": "2025-01-01T00:00:00Z"}, "sinse"),
        ({"hookId": 1, "preview": "perhaps"}, "preview"),
    ],
)
async def test_a_bad_selection_names_the_field(client: Client, body: dict[str, Any], parameter: str) -> None:
    answer = await client.call("POST", "replays", body)

    assert answer.status == 400
    assert answer.parameters == [parameter]
    assert (await client.ok("GET", "replays"))["pageItems"] == []


@pytest.mark.parametrize("path", ["replays/rpl_x", "replays/rpl_" + "0" * 32])
async def test_an_unknown_replay_is_not_found(client: Client, path: str) -> None:
    assert (await client.call("GET", path)).status == 404
    assert (await client.call("POST", path + "?command=cancel")).status == 404


async def test_a_replay_for_an_unknown_hook_is_not_found(client: Client) -> None:
    assert (await client.call("POST", "replays", {"hookId": 99})).codes == [
        "error.msg.hook.identifier.not.found"
    ]


async def test_enabling_tells_what_was_missed_and_sends_it_in_the_same_call(
    client: Client, receiver: ScriptedReceiver
) -> None:
    receiver.answers(410, 200)
    hook_id = await add_hook(client, receiver.url)
    await client.ok("POST", "events", EVENT)
    disabled = await until(client, f"hooks/{hook_id}", "isActive", False)
    await client.ok("POST", "events", [EVENT] * 2)
    stats = await client.ok("GET", f"hooks/{hook_id}/stats")

    enabled = await client.ok("POST", f"hooks/{hook_id}?command=enable", {"replay": True})
    await receiver.received(4)
    again = await client.ok("POST", f"hooks/{hook_id}?command=enable")

    assert disabled["health"]["sends"] is False
    assert disabled["health"]["reason"] == "the receiver answered 410 Gone"
    assert "inactiveSince" in disabled["health"]
    assert (stats["sends"], stats["waiting"]["total"]) == (False, 1)
    assert enabled["missed"]["count"] == 2
    assert enabled["replay"]["state"] == "running"
    assert again == {"resourceId": hook_id}


async def test_stats_tell_that_an_endpoint_is_failing(client: Client, receiver: ScriptedReceiver) -> None:
    receiver.answers(500)
    hook_id = await add_hook(client, receiver.url, Concurrency="1", **{"Retry Schedule": "3600"})
    well = await client.ok("GET", f"hooks/{hook_id}/stats")

    await client.ok("POST", "events", [EVENT] * 8)
    await until(client, f"hooks/{hook_id}/stats", "sends", False)
    stats = await until(client, f"hooks/{hook_id}/stats", "attemptsInFlight", 0)
    while stats["waiting"]["retry"] < 5:  # a slot is free before its result is committed
        stats = await client.ok("GET", f"hooks/{hook_id}/stats")
    hook = await client.ok("GET", f"hooks/{hook_id}")

    assert well["breaker"] == {"state": "closed"}
    assert well["sends"] is True
    assert stats["breaker"]["state"] == "open"
    assert 0 < stats["breaker"]["nextProbeSeconds"] <= 36
    assert stats["waiting"]["total"] == 8
    assert stats["waiting"]["retry"] == 5
    assert "keeps failing" in hook["health"]["reason"]


async def test_a_bad_filter_is_refused_with_its_place_at_post_and_at_put(
    client: Client, receiver: ScriptedReceiver
) -> None:
    hook_id = await add_hook(client, receiver.url)
    config = {"Payload URL": receiver.url, "Content Type": "json", "Filter": "payload.officeId =="}
    body = {"name": "Web", "events": [{"entityName": "CLIENT", "actionName": "CREATE"}], "config": config}

    posted = await client.call("POST", "hooks", body)
    put = await client.call("PUT", f"hooks/{hook_id}", {"config": config})

    for answer in (posted, put):
        assert answer.codes == ["validation.msg.hook.filter.invalid"]
        assert answer.parameters == ["Filter"]
        assert "line 1, column 20" in answer.json["errors"][0]["defaultUserMessage"]
