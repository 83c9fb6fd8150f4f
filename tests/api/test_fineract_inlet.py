"""The inlet over real HTTP, driven by what Apache Fineract's client sends; and what operators do with inlets."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from embarc.cli.server import RunningServer
from embarc.observe import NAMES, Observer
from embarc.settings import load_settings
from embarc.telemetry import log_to
from embarc.testing.asgi import Client
from embarc.testing.fineract import FineractHook
from embarc.testing.receiver import ScriptedReceiver

from .conftest import PASSWORD
from .test_access import KeyClient

LOAN_REQUEST = {
    "transactionAmount": 10_000_000,
    "transactionDate": "24 October 2024",
    "note": "a <b> & c='d'",
}
LOAN_RESPONSE = {"clientId": 27, "loanId": 12, "resourceId": 42}
EXCEPTION = {"errorCode": 2002, "statusCode": 400, "defaultUserMessage": "no"}
PENDING = {
    "errorCode": 2000,
    "statusCode": 200,
    "commandId": 7,
    "resourceId": 12,
    "rollbackTransaction": True,
}


class Bench:
    """A running Embarc with an inlet, a hook for everything, and everything that it tells."""

    def __init__(
        self, running: RunningServer, client: Client, receiver: ScriptedReceiver, log: io.StringIO
    ) -> None:
        self.log = log
        self.running = running
        self.client = client
        self.receiver = receiver
        self.facts: list[tuple[str, Mapping[str, Any]]] = []

    async def inlet(self, **settings: Any) -> dict[str, Any]:
        made: dict[str, Any] = await self.client.ok("POST", "inlets", {"name": "core"} | settings)
        return made

    async def fineract(self, content_type: str = "json", **settings: Any) -> FineractHook:
        made = await self.inlet(**settings)
        return FineractHook(url=self.running.url + made["path"], content_type=content_type)

    async def events(self) -> list[dict[str, Any]]:
        page = await self.client.ok("GET", "events")
        shown = [await self.client.ok("GET", f"events/{one['id']}") for one in page["pageItems"]]
        return [one["payload"] for one in reversed(shown)]

    def told(self, name: str) -> list[Mapping[str, Any]]:
        return [facts for told, facts in self.facts if told == name]


@pytest.fixture
async def bench(tmp_path: Path, receiver: ScriptedReceiver) -> AsyncIterator[Bench]:
    settings = load_settings(
        {},
        overrides={
            "store": f"sqlite:///{tmp_path / 'embarc.db'}",
            "port": 0,
            "admin_password": PASSWORD,
            "allow_private": "127.0.0.0/8",
        },
        directory=tmp_path,
    )
    observer = Observer()
    log = io.StringIO()
    with contextlib.redirect_stderr(log):
        log_to(observer, "debug")
    running = await RunningServer.open(settings, observer)
    bench = Bench(running, Client(running.service.app, "admin", PASSWORD), receiver, log)
    for name in NAMES:
        observer.subscribe(name, lambda facts, name=name: bench.facts.append((name, facts)))  # type: ignore[misc] # mypy cannot infer a lambda's default
    yield bench
    running.stop()
    assert await running.until_stopped() == 0


async def subscribe(bench: Bench, *events: str) -> None:
    kinds = [dict(zip(("entityName", "actionName"), one.split("."), strict=True)) for one in events]
    config = {"Payload URL": bench.receiver.url, "Content Type": "json"}
    await bench.client.ok(
        "POST", "hooks", {"name": "Web", "isActive": True, "events": kinds, "config": config}
    )


async def test_an_event_of_fineract_is_stored_and_goes_out_as_one_of_ours(bench: Bench) -> None:
    await subscribe(bench, "LOAN.REPAYMENT")
    fineract = await bench.fineract()

    pinged = await fineract.ping()
    status, answer = await fineract.fires(
        "LOAN", "REPAYMENT", request=LOAN_REQUEST, response=LOAN_RESPONSE, officeId=1, clientId=27
    )
    (sent,) = await bench.receiver.received(1)

    assert (pinged, status) == (200, 200)
    assert answer["eventId"] == sent.header("webhook-id")
    assert sent.body.decode() == (
        '{"entityName":"LOAN","actionName":"REPAYMENT","createdBy":1,"createdByName":"mifos",'
        '"createdByFullName":"App Administrator","officeId":1,"clientId":27,"loanId":12,'
        '"timestamp":"2024-10-24T09:52:59.123Z",'
        '"request":{"transactionAmount":1.0E7,"transactionDate":"24 October 2024",'
        '"note":"a \\u003cb\\u003e \\u0026 c\\u003d\\u0027d\\u0027"},'
        '"response":{"clientId":27,"loanId":12,"resourceId":42}}'
    )
    assert sent.header("X-Fineract-Entity") == "LOAN"


async def test_the_url_works_without_the_slash_too_and_under_fineracts_base(bench: Bench) -> None:
    made = await bench.inlet()
    urls = [
        bench.running.url + made["path"],
        bench.running.url + made["path"].rstrip("/"),
        bench.running.url + "/fineract-provider" + made["path"],
    ]

    for second, url in enumerate(urls):
        hook = FineractHook(url=url)
        sent = await hook.fires(
            "CLIENT",
            "ACTIVATE",
            request={},
            response={"resourceId": 1},
            timestamp=f"2024-10-24T09:52:0{second}Z",
        )
        assert (await hook.ping(), sent[0]) == (200, 200)

    assert len(await bench.events()) == 3
    assert len("https://embarc.bank.example.co.ke:8443" + made["path"]) <= 100  # what Fineract's column holds


@pytest.mark.parametrize("entity_and_own_id", [("OFFICE", "officeId", 3), ("STAFF", "resourceId", 3)])
async def test_a_form_carries_the_same_event(bench: Bench, entity_and_own_id: tuple[str, str, int]) -> None:
    entity, _, own_id = entity_and_own_id
    fineract = await bench.fineract("form")
    request = {
        "name": "Mombasa Town",
        "parentId": 1,
        "isActive": True,
        "tags": ["a", "b"],
        "address": {"city": "M"},
    }

    status, _ = await fineract.fires(
        entity, "CREATE", request=request, response={"resourceId": 3}, officeId=3
    )

    assert status == 200
    (payload,) = await bench.events()
    assert payload["request"] == request
    assert (payload["createdBy"], payload["officeId"]) == (1, 3)
    assert payload["createdByName"] == "mifos"
    assert payload["timestamp"] == "2024-10-24T09:52:59.123Z"
    listed = await bench.client.ok("GET", f"events?entityId={own_id}")
    assert len(listed["pageItems"]) == 1


async def test_form_text_that_could_mean_two_things_is_kept_as_it_is(bench: Bench) -> None:
    fineract = await bench.fineract("form")

    await fineract.fires(
        "CLIENT",
        "CREATE",
        request={"fullname": "Acme, Inc", "officeId": 1},
        response=LOAN_RESPONSE,
        clientId=27,
    )

    (payload,) = await bench.events()
    assert payload["request"] == {"unparsed": "{fullname=Acme, Inc, officeId=1.0}"}
    assert payload["loanId"] == 12


@pytest.mark.parametrize("content_type", ["json", "form"])
async def test_a_password_that_fineract_hands_over_goes_no_further(bench: Bench, content_type: str) -> None:
    fineract = await bench.fineract(content_type)

    await fineract.fires(
        "USER",
        "CREATE",
        request={"username": "sam", "password": "hunter, two=2", "roles": [1]},
        response={"resourceId": 4},
    )

    stored = await bench.client.call("GET", "events")
    (payload,) = await bench.events()
    assert "hunter" not in str(payload) + stored.body.decode()
    assert "two" not in str(payload["request"])
    assert "sam" in str(payload["request"])


async def test_what_fineract_sends_twice_is_one_event(bench: Bench) -> None:
    await subscribe(bench, "LOAN.REPAYMENT")
    fineract = await bench.fineract()

    async def fires(second: int) -> dict[str, Any]:
        at = f"2024-10-24T09:52:{second:02d}.1Z"
        _, answer = await fineract.fires(
            "LOAN", "REPAYMENT", request=LOAN_REQUEST, response=LOAN_RESPONSE, timestamp=at
        )
        return dict(answer)

    first, again, later = await fires(1), await fires(1), await fires(2)
    beside = await asyncio.gather(*(fires(3) for _ in range(5)))

    assert again == first | {"duplicate": True}
    assert later["eventId"] != first["eventId"]
    assert len({answer["eventId"] for answer in beside}) == 1
    assert [answer["duplicate"] for answer in beside].count(False) == 1
    assert len(await bench.events()) == 3
    assert len(await bench.receiver.received(3)) == 3


async def test_a_failed_command_is_not_an_event_and_the_retry_that_succeeds_is(bench: Bench) -> None:
    await subscribe(bench, "LOAN.*")
    fineract = await bench.fineract()

    failed = await fineract.fires(
        "LOAN", "REPAYMENT", request=LOAN_REQUEST, response=EXCEPTION, status="Exception", timestamp=at(1)
    )
    succeeded = await fineract.fires(
        "LOAN", "REPAYMENT", request=LOAN_REQUEST, response=LOAN_RESPONSE, timestamp=at(2)
    )
    (sent,) = await bench.receiver.received(1)

    assert failed == (200, {"skipped": True})
    assert succeeded[0] == 200
    assert json.loads(sent.body)["actionName"] == "REPAYMENT"
    assert len(await bench.events()) == 1
    assert bench.told("inlet.skipped")[0]["kind"] == "LOAN.REPAYMENT_FAILED"


async def test_an_inlet_that_forwards_failures_gives_them_kinds_of_their_own(bench: Bench) -> None:
    await subscribe(bench, "LOAN.REPAYMENT", "LOAN.APPROVE")
    fineract = await bench.fineract(forwardFailures=True)

    await fineract.fires(
        "LOAN", "REPAYMENT", request=LOAN_REQUEST, response=EXCEPTION, status="Exception", timestamp=at(1)
    )
    await fineract.fires("LOAN", "APPROVE", request={}, response=PENDING, status="Exception", timestamp=at(2))
    await subscribe(bench, "LOAN.REPAYMENT_FAILED")
    await fineract.fires(
        "LOAN", "REPAYMENT", request=LOAN_REQUEST, response=EXCEPTION, status="Exception", timestamp=at(3)
    )
    (sent,) = await bench.receiver.received(1)

    actions = [payload["actionName"] for payload in await bench.events()]
    assert actions == ["REPAYMENT_FAILED", "APPROVE_PENDING", "REPAYMENT_FAILED"]
    assert json.loads(sent.body)["response"] == EXCEPTION  # nobody who asked for a repayment got one


async def test_a_kind_that_the_catalogue_does_not_know_is_accepted_and_added(bench: Bench) -> None:
    fineract = await bench.fineract()

    status, _ = await fineract.fires("dt_survey", "CREATE", request={"a": 1}, response={"resourceId": 1})

    found = await bench.client.ok("GET", "eventkinds/dt_survey.CREATE")
    assert status == 200
    assert found["grouping"] == "fineract"
    await subscribe(bench, "dt_survey.CREATE")


async def test_the_result_alone_is_what_fineract_sent_until_1_4(bench: Bench) -> None:
    fineract = await bench.fineract()
    result = {"officeId": 1, "clientId": 1787, "resourceId": 1787}

    first = await fineract.sends("CLIENT", "CREATE", result)
    again = await fineract.sends("CLIENT", "CREATE", result)
    other = await fineract.sends("CLIENT", "CREATE", result | {"clientId": 1788})

    payload, _ = await bench.events()
    assert (payload["entityName"], payload["actionName"], payload["clientId"]) == ("CLIENT", "CREATE", 1787)
    assert payload["response"] == result
    assert again[1] == first[1] | {"duplicate": True}
    assert other[1]["duplicate"] is False


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({"entityName": "CLIENT", "actionName": "CRE\u00c4TE"}, "validation.msg.event.actionName.invalid"),
        ({"entityName": "CLIENT"}, "validation.msg.event.actionName.invalid"),
        ({"entityName": "CLIENT", "actionName": "CREATE", "request": [1]}, "validation.msg.event.request.not.an.object"),
    ],
)  # fmt: skip
async def test_what_cannot_be_read_is_refused_and_told_without_its_content(
    bench: Bench, payload: dict[str, Any], code: str
) -> None:
    fineract = await bench.fineract()

    status, answer = await fineract.sends("CLIENT", "CREATE", payload | {"createdByName": "mifos-canary"})

    (facts,) = bench.told("inlet.refused")
    assert (status, answer["errors"][0]["userMessageGlobalisationCode"]) == (400, code)
    assert "canary" not in str(facts)
    assert await bench.events() == []


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b'{"a":1,"a":2}', b"\xff", b'{"entityName":"\\u0000"}'])
@pytest.mark.parametrize("kind", ["application/json; charset=UTF-8", "application/x-www-form-urlencoded"])
async def test_hostile_bodies_are_refused(bench: Bench, body: bytes, kind: str) -> None:
    made = await bench.inlet()

    answer = await bench.client.call("POST", made["path"], body, authorization=None, content_type=kind)

    assert answer.status == 400, answer.body
    assert answer.json["errors"]


def at(second: int) -> str:
    return f"2024-10-24T09:52:{second:02d}.123456Z"


# -- inlets ----------------------------------------------------------------------------------------------------


async def test_a_secret_is_shown_once_and_is_nowhere_else(bench: Bench, tmp_path: Path) -> None:
    made = await bench.inlet(name="core banking", forwardFailures=True)
    fineract = FineractHook(url=bench.running.url + made["path"])
    await fineract.ping()
    await fineract.fires("CLIENT", "CREATE", request={}, response={"resourceId": 1})
    await fineract.sends("CLIENT", "CREATE", {"entityName": "?"})
    for method in ("PUT", "DELETE", "OPTIONS"):
        await bench.client.call(method, made["path"])

    told = [(await bench.client.call("GET", path)).body.decode() for path in ("inlets", "audits", "/metrics")]
    (listed,) = await bench.client.ok("GET", "inlets")
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("embarc.db*"))

    assert listed["id"] == made["resourceId"]
    assert (listed["name"], listed["forwardFailures"], listed["createdBy"]) == ("core banking", True, "admin")
    assert "POST /inlets" in told[1]
    logged = bench.log.getvalue()
    everything = "".join(told) + str(bench.facts) + logged
    assert "inlet.refused" in logged
    assert made["secret"] not in everything
    assert made["secret"].encode() not in stored
    assert made["path"] == f"/api/v1/inlets/fineract/{made['secret']}/"


async def test_an_error_of_ours_is_logged_without_the_secret(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await bench.inlet()
    monkeypatch.setattr("embarc.inlets.fineract.decode", lambda headers, body: 1 / 0)

    answer = await bench.client.call("POST", made["path"], {}, authorization=None)

    logged = bench.log.getvalue()
    assert answer.status == 500
    assert "ZeroDivisionError" in logged
    assert "/inlets/fineract/{secret}" in logged
    assert made["secret"] not in logged


async def test_a_wrong_secret_is_answered_as_any_path_that_does_not_exist(bench: Bench) -> None:
    nowhere = await bench.client.call("POST", "nowhere", {}, authorization=None)

    for secret in ("emi_" + "A" * 22, "emi_", "x", "%00", "A" * 5000):
        for method in ("GET", "POST"):
            answer = await bench.client.call(method, f"inlets/fineract/{secret}/", {}, authorization=None)
            assert (answer.status, answer.body) == (404, nowhere.body)


async def test_a_revoked_inlet_lets_nothing_in_at_once(bench: Bench) -> None:
    made = await bench.inlet()
    fineract = FineractHook(url=bench.running.url + made["path"])
    await fineract.ping()

    await bench.client.ok("DELETE", f"inlets/{made['resourceId']}")
    again = await bench.client.call("DELETE", f"inlets/{made['resourceId']}")

    assert await fineract.ping() == 404
    assert (await fineract.fires("CLIENT", "CREATE", request={}, response={}))[0] == 404
    assert await bench.client.ok("GET", "inlets") == []
    assert (again.status, again.codes) == (404, ["error.msg.inlet.identifier.not.found"])


async def test_an_inlet_belongs_to_its_tenant_whatever_fineract_calls_its_own(bench: Bench) -> None:
    key = (await bench.client.ok("POST", "tenants", {"name": "acme"}))["key"]
    stranger = KeyClient(bench.running.service, key)
    made = await stranger.ok("POST", "inlets", {"name": "theirs"})
    fineract = FineractHook(url=bench.running.url + made["path"], tenant="default")

    await fineract.fires("CLIENT", "CREATE", request={}, response={"resourceId": 1})

    assert await bench.events() == []
    assert len((await stranger.ok("GET", "events"))["pageItems"]) == 1
    assert await bench.client.ok("GET", "inlets") == []
    assert (await bench.client.call("DELETE", f"inlets/{made['resourceId']}")).status == 404


async def test_whoever_may_not_post_events_makes_no_inlet(bench: Bench) -> None:
    made = await bench.client.ok("POST", "apikeys", {"name": "k", "permissions": ["CREATE_INLET"]})
    small = KeyClient(bench.running.service, made["key"])

    refused = await small.call("POST", "inlets", {"name": "mine"})

    assert (refused.status, refused.codes) == (403, ["error.msg.not.authorized"])


@pytest.mark.parametrize(
    ("body", "parameter"),
    [({}, "name"), ({"name": "x" * 101}, "name"), ({"name": "x", "forwardFailures": "maybe"}, "forwardFailures"), ({"name": "x", "secret": "mine"}, "secret")],
)  # fmt: skip
async def test_a_bad_inlet_names_the_field(bench: Bench, body: dict[str, Any], parameter: str) -> None:
    answer = await bench.client.call("POST", "inlets", body)

    assert (answer.status, answer.parameters) == (400, [parameter])
