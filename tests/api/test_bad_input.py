"""Bad input: for every route the envelope, the right status, never a 500, and nothing stored."""

from __future__ import annotations

from typing import Any

import pytest

from embarc.app import Service
from embarc.testing.asgi import Answer, Client
from embarc.web.routes import BODY_LIMIT

MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "blank": b"  \n",
    "cut off": b'{"name": ',
    "two values": b"{} {}",
    "single quotes": b"{'name': 1}",
    "trailing comma": b'{"name": "x",}',
    "duplicate keys": b'{"name": "a", "name": "b"}',
    "duplicate keys inside": b'{"entityName":"CLIENT","actionName":"CREATE","request":{"a":1,"a":2}}',
    "NaN": b'{"name": NaN}',
    "Infinity": b'{"name": -Infinity}',
    "invalid UTF-8": b'{"name": "\xff\xfe"}',
    "overlong UTF-8": b'{"name": "\xc0\xaf"}',
    "NUL": b'{"name": "a\x00b"}',
    "escaped NUL": b'{"name": "a\\u0000b"}',
    "lone surrogate": b'{"name": "\\ud800"}',
    "too deep": b"[" * 100 + b"]" * 100,
    "much too deep": b"[" * 200_000,
    "huge number": b'{"name": 1e999999999}',
    "endless digits": b'{"name": ' + b"9" * 5000 + b"}",
}
WRITES = [
    ("POST", "hooks"),
    ("PUT", "hooks/1"),
    ("POST", "events"),
    ("POST", "clients"),
    ("PUT", "clients/1"),
]
HOOK = {
    "name": "Web",
    "events": [{"entityName": "CLIENT", "actionName": "CREATE"}],
    "config": {"Payload URL": "https://example.com/", "Content Type": "json"},
}


def is_an_envelope(answer: Answer) -> bool:
    found = answer.json
    return (
        set(found)
        == {
            *(
                "developerMessage",
                "httpStatusCode",
                "defaultUserMessage",
                "userMessageGlobalisationCode",
                "errors",
            ),
        }
        and found["httpStatusCode"] == str(answer.status)
        and len(found["errors"]) > 0
        and answer.headers["content-type"] == "application/json"
    )


async def everything(client: Client) -> list[Any]:
    return [await client.ok("GET", path) for path in ("hooks", "events", "clients", "deliveries")]


@pytest.mark.parametrize("what", MALFORMED)
@pytest.mark.parametrize(("method", "path"), WRITES)
async def test_a_body_that_is_not_json_is_refused(client: Client, method: str, path: str, what: str) -> None:
    await client.ok("POST", "hooks", HOOK)
    await client.ok("POST", "clients", {"fullname": "Somebody"})
    before = (await everything(client))[0::2]

    answer = await client.call(method, path, MALFORMED[what])

    assert answer.status == 400, answer.body
    assert is_an_envelope(answer)
    assert (await everything(client))[0::2] == before


@pytest.mark.parametrize(("method", "path"), WRITES)
async def test_a_body_over_a_mebibyte_is_refused_before_it_is_read_to_the_end(
    client: Client, method: str, path: str
) -> None:
    answer = await client.call(method, path, b'{"name": "' + b"x" * BODY_LIMIT + b'"}')

    assert answer.status == 413
    assert is_an_envelope(answer)


@pytest.mark.parametrize(
    "authorization", [None, "", "Basic", "Basic !!!", "Basic YWRtaW4=", "Bearer x", "Basic YWRtaW46d3Jvbmc="]
)
@pytest.mark.parametrize(("method", "path"), [("GET", "hooks"), ("POST", "events"), ("POST", "clients")])
async def test_wrong_credentials_are_401_everywhere(
    client: Client, method: str, path: str, authorization: str | None
) -> None:
    answer = await client.call(method, path, HOOK, authorization=authorization)

    assert answer.status == 401
    assert is_an_envelope(answer)
    assert answer.json["userMessageGlobalisationCode"] == "error.msg.not.authenticated"
    assert answer.headers["www-authenticate"].startswith("Basic")


async def test_an_unknown_user_and_a_wrong_password_are_answered_alike(service: Service) -> None:
    unknown = await Client(service.app, "nobody", "x").call("GET", "hooks")
    wrong = await Client(service.app, "admin", "x").call("GET", "hooks")

    assert unknown.body == wrong.body


async def test_the_tenant_header_must_agree_with_the_credential(client: Client) -> None:
    agreeing = await client.call("GET", "hooks", fineract_platform_tenantid="default")
    other = await client.call("GET", "hooks", fineract_platform_tenantid="other")
    posted = await client.call("POST", "events", HOOK, fineract_platform_tenantid="other")

    assert agreeing.status == 200
    assert other.status == posted.status == 401  # the tenant is a part of the name: there is no such user


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "nothing", 404), ("GET", "/", 404), ("GET", "/api/v1", 404), ("PATCH", "hooks", 405), ("DELETE", "events", 405),
    ("POST", "events/x", 405), ("GET", "hooks/", 404), ("POST", "/healthz", 405),
])  # fmt: skip
async def test_what_is_not_there_is_an_envelope_too(
    client: Client, method: str, path: str, status: int
) -> None:
    answer = await client.call(method, path)

    assert answer.status == status
    assert is_an_envelope(answer)


@pytest.mark.parametrize(
    ("body", "parameter", "code"),
    [
        ({}, "id", "validation.msg.client.id..no.name.details.passed"),
        ({"firstname": "A"}, "lastname", "validation.msg.client.lastname.cannot.be.blank"),
        ({"fullname": "A", "lastname": "B"}, "lastname", "validation.msg.client.lastname.cannot.be.specified.when.fullname.is.specified"),
        ({"fullname": "A", "submittedOnDate": "13 October 2025"}, "submittedOnDate", "validation.msg.missing.dateFormat.parameter"),
        ({"fullname": "A", "submittedOnDate": "13 October 2025", "dateFormat": "dd MMMM yyyy"}, "submittedOnDate", "validation.msg.missing.locale.parameter"),
        ({"fullname": "A", "submittedOnDate": "30 February 2025", "dateFormat": "dd MMMM yyyy", "locale": "en"}, "submittedOnDate", "validation.msg.invalid.dateFormat.format"),
        ({"fullname": "A", "submittedOnDate": "13 Oktober 2025", "dateFormat": "dd MMMM yyyy", "locale": "en"}, "submittedOnDate", "validation.msg.invalid.dateFormat.format"),
        ({"fullname": "A", "submittedOnDate": "13 October 2025", "dateFormat": "dd QQQQ yyyy", "locale": "en"}, "submittedOnDate", "validation.msg.invalid.dateFormat.format"),
        ({"fullname": "A", "submittedOnDate": "13 October 2025", "dateFormat": "dd MMMM yyyy", "locale": "xx"}, "locale", "validation.msg.invalid.locale.format"),
        ({"fullname": "A", "submittedOnDate": "2999-01-01", "dateFormat": "yyyy-MM-dd", "locale": "en"}, "submittedOnDate", "error.msg.clients.submittedOnDate.in.the.future"),
        ({"fullname": "A", "active": True}, "activationDate", "validation.msg.client.activationDate.cannot.be.blank"),
        ({"fullname": "A", "legalFormId": 3}, "legalFormId", "validation.msg.client.legalFormId.is.greater.than.max"),
        ({"fullname": "A", "officeId": "x"}, "officeId", "validation.msg.client.officeId.not.an.integer"),
        ({"fullname": "A" * 101}, "fullname", "validation.msg.client.fullname.exceeds.max.length"),
        ({"fullname": "A", "color": 1}, "color", "error.msg.parameter.unsupported"),
        ({"fullname": 5}, "fullname", "validation.msg.client.fullname.is.not.a.string"),
    ],
)  # fmt: skip
async def test_a_client_that_breaks_a_rule_is_refused_and_tells_nobody(
    client: Client, body: dict[str, Any], parameter: str, code: str
) -> None:
    answer = await client.call("POST", "clients", body)

    assert answer.status == 400, answer.body
    assert code in answer.codes
    assert parameter in answer.parameters
    assert (await client.ok("GET", "clients"))["totalFilteredRecords"] == 0
    assert (await client.ok("GET", "events"))["pageItems"] == []


@pytest.mark.parametrize(("method", "path"), [("GET", "hooks"), ("POST", "events")])
async def test_an_error_of_ours_is_an_envelope_without_its_inside(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    failed: list[Any] = []
    service.observe.subscribe("request.failed", failed.append)

    async def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("what is inside")

    for verb in ("list_hooks", "publish"):
        monkeypatch.setattr(service._store, verb, breaks)

    answer = await client.call(method, path, {"entityName": "CLIENT", "actionName": "CREATE"})

    assert answer.status == 500
    assert is_an_envelope(answer)
    assert b"inside" not in answer.body
    assert "what is inside" in failed[0]["error"]
