"""`/hooks`: the shapes, the rules, and that every rule holds on PUT as on POST."""

from __future__ import annotations

from typing import Any

import pytest

from embarc.testing.asgi import Client

URL = "https://yourapp.example.com/webhooks/embrc"
EVENTS = [{"entityName": "CLIENT", "actionName": "CREATE"}]
DOCUMENTED: dict[str, Any] = {
    "name": "client-events",
    "displayName": "Client creation hook",
    "isActive": True,
    "events": EVENTS,
    "config": [
        {"fieldName": "Payload URL", "fieldValue": URL},
        {"fieldName": "Content Type", "fieldValue": "json"},
    ],
}
FINERACTS: dict[str, Any] = {
    "name": "Web",
    "isActive": True,
    "displayName": "Kremlin",
    "events": EVENTS,
    "config": {"Payload URL": URL, "Content Type": "json"},
}


async def test_the_documentations_request_works_exactly_as_it_stands(client: Client) -> None:
    created = await client.ok("POST", "hooks", DOCUMENTED)

    hook = await client.ok("GET", f"hooks/{created['resourceId']}")
    assert set(created) == {"resourceId", "secret"}
    assert created["secret"].startswith("whsec_")
    assert hook["name"] == "client-events"
    assert hook["displayName"] == "Client creation hook"
    assert hook["isActive"] is True
    assert hook["events"] == [{"actionName": "CREATE", "entityName": "CLIENT"}]
    assert hook["config"] == [
        {"fieldName": "Content Type", "fieldValue": "json"},
        {"fieldName": "Payload URL", "fieldValue": URL},
        {"fieldName": "Secret", "fieldValue": "****" + created["secret"][-4:]},
    ]
    assert len(hook["createdAt"]) == 3


async def test_fineracts_own_form_of_it_works_too(client: Client) -> None:
    created = await client.ok("POST", "hooks", FINERACTS)

    (hook,) = await client.ok("GET", "hooks")
    assert (hook["id"], hook["name"], hook["displayName"]) == (created["resourceId"], "Web", "Kremlin")
    assert [field["fieldName"] for field in hook["config"]][:2] == ["Content Type", "Payload URL"]


async def test_what_the_mifos_client_sends_is_accepted(client: Client) -> None:
    created = await client.ok("POST", "hooks", FINERACTS | {"isActive": ""})
    path = f"hooks/{created['resourceId']}"
    change = {"displayName": "Other", "isActive": True, "events": EVENTS, "config": FINERACTS["config"]}

    answer = await client.ok("PUT", path, change)

    assert answer == {
        "resourceId": created["resourceId"],
        "changes": {"displayName": "Other", "isActive": True},
    }


async def test_a_secret_is_shown_once_and_never_again(client: Client) -> None:
    created = await client.ok("POST", "hooks", DOCUMENTED)
    path = f"hooks/{created['resourceId']}"
    mine = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    given = await client.ok("POST", "hooks", FINERACTS | {"config": {**FINERACTS["config"], "Secret": mine}})

    answers = [
        await client.call("GET", path),
        await client.call("GET", "hooks"),
        await client.call("GET", path + "?template=true"),
        await client.call(
            "PUT", path, {"displayName": "x", "config": {**FINERACTS["config"], "Secret": "nonsense"}}
        ),
        await client.call("DELETE", path),
    ]

    assert set(given) == {"resourceId"}
    for answer in answers:
        assert created["secret"] not in answer.body.decode()
        assert mine not in answer.body.decode()
        assert b"nonsense" not in answer.body


async def test_a_secret_that_is_sent_back_masked_stays_as_it_is(client: Client) -> None:
    created = await client.ok("POST", "hooks", DOCUMENTED)
    path = f"hooks/{created['resourceId']}"
    shown = (await client.ok("GET", path))["config"]

    answer = await client.ok("PUT", path, {"config": shown})

    assert answer["changes"] == {}
    assert (await client.ok("GET", path))["config"] == shown


async def test_the_template_lists_fields_and_events(client: Client) -> None:
    template = await client.ok("GET", "hooks/template")

    assert [one["name"] for one in template["templates"]] == ["Elastic Search", "Web"]
    web = template["templates"][1]
    assert web["id"] == 1
    required = [field["fieldName"] for field in web["schema"] if not field["optional"]]
    assert required == ["Content Type", "Payload URL"]
    assert {field["fieldType"] for field in web["schema"]} == {"string"}
    groupings = {group["name"]: group["entities"] for group in template["groupings"]}
    (client_entity,) = [entity for entity in groupings["portfolio"] if entity["name"] == "CLIENT"]
    assert "CREATE" in client_entity["actions"]
    assert client_entity["actions"] == sorted(client_entity["actions"])
    assert len(template["events"]) == 445 + 24 + 3


async def test_one_hook_with_its_template(client: Client) -> None:
    created = await client.ok("POST", "hooks", FINERACTS)

    hook = await client.ok("GET", f"hooks/{created['resourceId']}?template=true")

    assert [one["name"] for one in hook["templates"]] == ["Web"]
    assert hook["groupings"]


async def test_a_change_replaces_events_and_config_as_a_whole(client: Client) -> None:
    config = {**FINERACTS["config"], "Max Retries": 3}
    created = await client.ok("POST", "hooks", FINERACTS | {"config": config})
    path = f"hooks/{created['resourceId']}"

    answer = await client.ok(
        "PUT",
        path,
        {
            "events": [{"entityName": "LOAN", "actionName": "*"}],
            "config": FINERACTS["config"],
            "name": "ignored",
        },
    )

    hook = await client.ok("GET", path)
    assert set(answer["changes"]) == {"events", "config"}
    assert hook["name"] == "Web"
    assert hook["events"] == [{"actionName": "*", "entityName": "LOAN"}]
    assert "Max Retries" not in [field["fieldName"] for field in hook["config"]]


async def test_a_deleted_hook_is_gone(client: Client) -> None:
    created = await client.ok("POST", "hooks", FINERACTS)
    path = f"hooks/{created['resourceId']}"

    assert await client.ok("DELETE", path) == {"resourceId": created["resourceId"]}

    for method in ("GET", "PUT", "DELETE"):
        answer = await client.call(method, path, {} if method == "PUT" else None)
        assert answer.status == 404
        assert answer.codes == ["error.msg.hook.identifier.not.found"]


def with_config(**values: Any) -> dict[str, Any]:
    named = {name.replace("_", " "): value for name, value in values.items()}
    return {"config": {"Payload URL": URL, "Content Type": "json"} | named}


URL_INVALID = "validation.msg.hook.url.invalid"
VALUE_INVALID = "validation.msg.hook.config.value.invalid"
REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("no URL", {"config": {"Content Type": "json"}}, "Payload URL", "validation.msg.hook.required.config.field.not.provided"),
    ("no type", {"config": {"Payload URL": URL}}, "Content Type", "validation.msg.hook.required.config.field.not.provided"),
    ("type", with_config(Content_Type="xml"), "Content Type", "validation.msg.hook.content.type.must.be.json.or.form"),
    ("URL without host", with_config(Payload_URL="https:///x"), "Payload URL", URL_INVALID),
    ("URL that is none", with_config(Payload_URL="abc"), "Payload URL", URL_INVALID),
    ("plain http", with_config(Payload_URL="http://10.0.0.1/"), "Payload URL", URL_INVALID),
    ("metadata", with_config(Payload_URL="https://169.254.169.254/"), "Payload URL", URL_INVALID),
    ("long URL", with_config(Payload_URL=URL + "x" * 2000), "Payload URL", "validation.msg.hook.config.value.exceeds.max.length"),
    ("unknown field", with_config(Retries="3"), "Retries", "validation.msg.hook.config.field.unknown"),
    ("twice", with_config(payload_url=URL), "Payload URL", "validation.msg.hook.config.field.duplicate"),
    ("retries", with_config(Max_Retries="51"), "Max Retries", VALUE_INVALID),
    ("retries", with_config(Max_Retries="1.5"), "Max Retries", VALUE_INVALID),
    ("schedule", with_config(Retry_Schedule="5,x"), "Retry Schedule", VALUE_INVALID),
    ("schedule", with_config(Retry_Schedule="-1"), "Retry Schedule", VALUE_INVALID),
    ("schedule", with_config(Retry_Schedule="nan"), "Retry Schedule", VALUE_INVALID),
    ("timeout", with_config(Timeout_Seconds="31"), "Timeout Seconds", VALUE_INVALID),
    ("concurrency", with_config(Concurrency="0"), "Concurrency", VALUE_INVALID),
    ("list value", with_config(Concurrency=[1]), "Concurrency", VALUE_INVALID),
    ("secret", with_config(Secret="whsec_short"), "Secret", "validation.msg.hook.secret.invalid"),
    ("config type", {"config": "x"}, "config", "validation.msg.hook.config.invalid"),
    ("no events", {"events": []}, "events", "validation.msg.hook.registered.events.cannot.be.empty"),
    ("null events", {"events": None}, "events", "validation.msg.hook.registered.events.cannot.be.empty"),
    ("events type", {"events": ["CLIENT"]}, "events", "validation.msg.hook.events.invalid"),
    ("unknown event", {"events": [{"entityName": "CLIENT", "actionName": "CREAT"}]}, "events", "validation.msg.hook.event.unknown"),
    ("long name", {"displayName": "x" * 101}, "displayName", "validation.msg.hook.displayName.exceeds.max.length"),
    ("active", {"isActive": "maybe"}, "isActive", "validation.msg.hook.isActive.must.be.a.boolean"),
    ("unknown parameter", {"isactive": True}, "isactive", "error.msg.parameter.unsupported"),
    ("template id", {"templateId": 0}, "templateId", "validation.msg.hook.templateId.not.greater.than.zero"),
]  # fmt: skip


@pytest.mark.parametrize(("why", "change", "parameter", "code"), REFUSED, ids=lambda value: str(value)[:40])
async def test_every_rule_holds_on_post_and_on_put_and_nothing_is_stored(
    client: Client, why: str, change: dict[str, Any], parameter: str, code: str
) -> None:
    created = await client.ok("POST", "hooks", FINERACTS)
    before = await client.ok("GET", "hooks")

    posted = await client.call("POST", "hooks", FINERACTS | change)
    put = await client.call("PUT", f"hooks/{created['resourceId']}", change)

    for answer in (posted, put):
        assert answer.status == 400, answer.body
        assert code in answer.codes
        assert parameter in answer.parameters
        assert answer.json["httpStatusCode"] == "400"
        assert answer.json["userMessageGlobalisationCode"] == "validation.msg.validation.errors.exist"
    assert await client.ok("GET", "hooks") == before


async def test_an_unknown_event_is_refused_with_the_nearest_one_named(client: Client) -> None:
    events = [{"entityName": "CLEINT", "actionName": "CREATE"}]

    answer = await client.call("POST", "hooks", FINERACTS | {"events": events})

    assert answer.json["errors"][0]["defaultUserMessage"] == (
        "There is no event CLEINT.CREATE. Did you mean CLIENT.CREATE?"
    )


async def test_all_mistakes_are_told_together(client: Client) -> None:
    answer = await client.call("POST", "hooks", {"events": [], "config": {}, "color": "red"})

    assert answer.parameters == ["color", "name", "events", "Content Type", "Payload URL"]


async def test_a_template_that_is_not_offered_is_named_as_not_found(client: Client) -> None:
    answer = await client.call("POST", "hooks", FINERACTS | {"name": "SMS Bridge"})

    assert answer.status == 404
    assert answer.codes == ["error.msg.template.not.found"]


async def test_creating_a_hook_contacts_nobody(client: Client, receiver: Any) -> None:
    config = {"Payload URL": receiver.url, "Content Type": "json"}

    await client.ok("POST", "hooks", FINERACTS | {"config": config})

    assert receiver.requests == []
