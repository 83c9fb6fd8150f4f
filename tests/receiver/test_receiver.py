"""A whole receiver: what it answers, by every adapter; and the examples against a real Embarc."""

from __future__ import annotations

import asyncio
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from stripe import SignatureVerificationError, WebhookSignature
from svix.webhooks import Webhook as SvixWebhook

from embarc.core.catalogue import load_catalogue
from embarc.core.events import compose_payload
from embarc.core.signatures import Signer
from embarc.receiver import Deduplicator, Event, NotAnEvent, Receiver, SqliteLedger, Verified, verify
from embarc.receiver.asgi import asgi_app
from embarc.receiver.kinds import Kind
from embarc.receiver.wsgi import wsgi_app
from embarc.testing.process import ServiceProcess

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = (
    b'{"entityName":"LOAN","actionName":"REPAYMENT","officeId":3,"loanId":17,"timestamp":"2025-10-13T07:45:12.001Z",'
    b'"request":{"transactionAmount":10.10},"response":{"resourceId":77}}'
)
ROOT = Path(__file__).parents[2]


def signed(body: bytes = BODY, event_id: str = "evt_1") -> list[tuple[str, str]]:
    lines = Signer([(SECRET, None)]).header_lines(event_id, int(time.time()), body)
    name_values = [tuple(line.split(": ", 1)) for line in lines]
    return [(name, value) for name, value in name_values]


def test_a_payload_becomes_a_typed_event_and_money_keeps_its_digits() -> None:
    event = Event.parse(BODY)

    assert event.kind == Kind.LOAN_REPAYMENT
    assert (event.loan_id, event.office_id, event.client_id, event.resource_id) == (17, 3, None, 77)
    assert event.request["transactionAmount"] == Decimal("10.10")
    assert str(event.request["transactionAmount"]) == "10.10"
    assert event.timestamp.isoformat() == "2025-10-13T07:45:12.001000+00:00"
    assert "10.10" not in repr(event)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"entityName":1}', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_event_is_one_typed_error(body: bytes) -> None:
    with pytest.raises(NotAnEvent):
        Event.parse(body)


def test_what_a_receiver_answers() -> None:
    handled: list[str] = []
    failures = [True, False]

    def handle(event: Event, webhook: Verified) -> None:
        if webhook.id == "evt_fails" and failures.pop(0):
            raise RuntimeError("no")
        handled.append(webhook.id)

    receiver = Receiver(handle, SECRET, allowed_networks=["10.0.0.0/8", "2001:db8::/32"])
    answers = [
        receiver.handle(signed(), BODY, "10.1.2.3").status,
        receiver.handle(signed(), BODY, "10.1.2.3").status,
        receiver.handle(signed(), BODY + b" ", "10.1.2.3").status,
        receiver.handle(signed(), BODY, "::ffff:10.1.2.3").status,
        receiver.handle(signed(), BODY, "11.1.2.3").status,
        receiver.handle(signed(), BODY, "").status,
        receiver.handle([], BODY, "10.1.2.3").status,
        receiver.handle(signed(b"{}"), b"{}", "2001:db8::1").status,
        receiver.handle(signed(event_id="evt_fails"), BODY, "10.1.2.3").status,
        receiver.handle(signed(event_id="evt_fails"), BODY, "10.1.2.3").status,
    ]

    assert answers == [200, 200, 401, 200, 403, 403, 401, 400, 500, 200]
    assert handled == ["evt_1", "evt_fails"]


def test_every_kind_of_the_catalogue_arrives_as_a_typed_event() -> None:
    for kind in (entry.kind for entry in load_catalogue().entries):
        payload = compose_payload(kind, None, {"loanId": 17}, 0, b'{"amount":1.10}', b'{"resourceId":77}')
        event = Event.parse(payload)
        assert Kind(event.kind) == str(kind)
        assert (event.entity_name, event.action_name) == (kind.entity_name, kind.action_name)
        assert (event.loan_id, event.resource_id) == (17, 77)
        assert event.request["amount"] == Decimal("1.10")


def test_secrets_may_change_while_it_runs() -> None:
    secrets = ["whsec_" + "A" * 32]
    receiver = Receiver(lambda event, webhook: None, lambda: secrets)
    before = receiver.handle(signed(), BODY).status
    secrets.append(SECRET)

    assert (before, receiver.handle(signed(), BODY).status) == (401, 200)


async def test_the_asgi_adapter_answers_after_an_async_handler() -> None:
    order: list[str] = []

    async def handle(event: Event, webhook: Verified) -> None:
        await asyncio.sleep(0)
        order.append("committed")

    app = asgi_app(Receiver(handle, SECRET))

    async def call(method: str, body: bytes) -> int:
        chunks = [body[:50], body[50:]]
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

        async def send(message: Any) -> None:
            order.append("answered")
            sent.append(message)

        headers = [(name.lower().encode(), value.encode()) for name, value in signed()]
        await app(
            {"type": "http", "method": method, "headers": headers, "client": ("10.0.0.1", 5)}, receive, send
        )
        return int(sent[0]["status"])

    assert await call("POST", BODY) == 200
    assert order[0] == "committed"
    assert await call("POST", BODY + b"x") == 401
    assert await call("GET", b"") == 405
    assert await call("POST", b"x" * 3_000_000) == 413


def test_the_wsgi_adapter() -> None:
    app = wsgi_app(Receiver(lambda event, webhook: None, SECRET))

    def call(method: str, body: bytes, **more: str) -> str:
        statuses: list[str] = []
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
            "REMOTE_ADDR": "127.0.0.1",
            **{"HTTP_" + name.upper().replace("-", "_"): value for name, value in signed()},
            **more,
        }
        list(app(environ, lambda status, headers: statuses.append(status)))
        return statuses[0]

    assert call("POST", BODY) == "200 OK"
    assert call("POST", b"{}") == "401 Unauthorized"
    assert call("GET", BODY) == "405 Method Not Allowed"
    assert call("POST", BODY, CONTENT_LENGTH="x") == "400 Bad Request"
    assert call("POST", BODY, CONTENT_LENGTH="99999999") == "413 Request Entity Too Large"


def test_svix_verifies_what_embarc_signs_and_the_other_way_round() -> None:
    headers = dict(signed())
    renamed = {name.replace("webhook-", "svix-"): value for name, value in headers.items()}

    SvixWebhook(SECRET).verify(BODY, renamed)
    now = datetime.now(UTC)
    signature = SvixWebhook(SECRET).sign("evt_9", now, BODY.decode())
    theirs = {
        "webhook-id": "evt_9",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }
    assert Receiver(lambda event, webhook: None, SECRET).handle(theirs, BODY).status == 200


def test_stripe_verifies_what_embarc_signs_and_the_other_way_round() -> None:
    secrets = [SECRET, "whsec_" + "B" * 32]
    now = int(time.time())
    lines = Signer([(secret, None) for secret in secrets]).header_lines("evt_9", now, BODY)
    header = lines[-1].removeprefix("X-Embarc-Signature: ")

    for secret in secrets:
        assert WebhookSignature.verify_header(BODY.decode(), header, secret, 300)
    with pytest.raises(SignatureVerificationError):
        WebhookSignature.verify_header(BODY.decode() + " ", header, SECRET, 300)
    theirs = WebhookSignature._compute_signature(f"{now}.{BODY.decode()}", SECRET)
    assert verify({"X-Embarc-Signature": f"t={now},v1={theirs}"}, BODY, SECRET).timestamp == now


# -- the examples, as processes --------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(port)


def attempted(service: ServiceProcess, delivery: str, times: int) -> Any:
    """The delivery, once it has been attempted so often."""
    deadline = time.monotonic() + 20
    while (found := service.ok("GET", delivery))["attemptCount"] < times:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


Start = Callable[[list[str], int, str], subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def begin(command: list[str], port: int, secret: str) -> subprocess.Popen[str]:
        environment = os.environ | {"EMBARC_SECRET": secret, "LEDGER": str(tmp_path / "received.db")}
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        started.append(process)
        wait_for(port, process)
        return process

    yield begin
    for process in started:
        process.terminate()
        process.communicate(timeout=10)


@pytest.mark.parametrize("framework", ["fastapi", "flask", "django", "node"])
def test_an_example_receives_from_a_real_embarc(framework: str, start: Start, tmp_path: Path) -> None:
    port = free_port()
    if framework == "node":
        assert shutil.which("node"), "node is not installed: apt-get install nodejs npm"
        assert (ROOT / "examples/node/node_modules").is_dir(), "run `npm ci` in examples/node"
    commands = {
        "fastapi": [sys.executable, "-m", "uvicorn", "examples.fastapi_receiver:app", "--port", str(port)],
        "flask": [
            sys.executable,
            "-m",
            "flask",
            "--app",
            "examples.flask_receiver",
            "run",
            "--port",
            str(port),
        ],
        "django": [sys.executable, "examples/django_receiver.py", str(port)],
        "node": ["node", "examples/node/receiver.mjs", str(port)],
    }
    service = ServiceProcess(tmp_path)
    try:
        path = "webhooks/" if framework == "fastapi" else "webhooks"
        hook = {
            "name": "Web",
            "isActive": True,
            "events": [{"entityName": "CLIENT", "actionName": "CREATE"}],
            "config": {"Payload URL": f"http://127.0.0.1:{port}/{path}", "Content Type": "json"},
        }
        made = service.ok("POST", "hooks", hook)
        process = start(commands[framework], port, made["secret"])
        event = {
            "entityName": "CLIENT",
            "actionName": "CREATE",
            "clientId": 41,
            "response": {"resourceId": 41},
        }
        event_id = service.ok("POST", "events", event)["eventId"]
        assert process.stdout is not None
        line = next(line for line in process.stdout if "was created" in line)
        delivery = f"deliveries/dlv_{event_id.removeprefix('evt_')}_{made['resourceId']}"
        attempted(
            service, delivery, 1
        )  # the line is printed before the answer: what is on its way is not replayed
        service.ok("POST", f"{delivery}?command=replay")
        found = attempted(service, delivery, 2)

        assert re.search(r"client 41 was created", line)
        assert [attempt["status"] for attempt in found["attempts"]] == [200, 200]
        assert [attempt["responseBody"] for attempt in found["attempts"]] == ["accepted", "known already"]
    finally:
        service.stop()


def test_a_ledger_is_shared_by_processes_of_one_machine(tmp_path: Path) -> None:
    ledgers = [SqliteLedger(str(tmp_path / "received.db")) for _ in range(2)]
    seen = []
    for ledger in ledgers:
        with Deduplicator(ledger).once("evt_1") as is_new:
            seen.append(is_new)
        ledger.close()

    assert seen == [True, False]
