"""Calls of existing FastAPI, Flask and Django services become events, and the services notice nothing."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import django
import fastapi
import flask
import pytest
from django.conf import settings
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.responses import StreamingResponse

from embarc.outbox import OutboxEvent
from embarc.outbox.middleware import (
    AsgiCapture,
    Author,
    Capture,
    CapturedCall,
    Route,
    WsgiCapture,
    http_sink,
    table_sink,
)
from embarc.testing.asgi import Client
from embarc.testing.process import PASSWORD, ServiceProcess

from .conftest import Database

ROUTES = [
    Route(
        method="POST",
        path="/clients",
        entity_name="CLIENT",
        action_name="CREATE",
        ids={"clientId": "response.clientId", "officeId": "request.officeId"},
    ),
    Route(
        method="POST",
        path="/loans/{loanId}",
        query={"command": "approve"},
        entity_name="LOAN",
        action_name="APPROVE",
        ids={"loanId": "path.loanId"},
    ),
]
BODY = b'{"officeId": 3,\n "amount": 1.00, "note": null, "name": "J\xc3\xb6rg"}'
ANSWER = '{"clientId": 9876, "resourceId": 9876, "balance": 10.50}'


def author(call: CapturedCall) -> Author | None:
    name = call.headers.get("x-user")
    return Author(user_id=12, username=name, full_name="John Doe") if name else None


CAPTURE = Capture(ROUTES, author=author, tenant=lambda call: call.headers.get("x-tenant", "default"))


class Sink:
    """Keeps the events."""

    def __init__(self) -> None:
        self.events: list[OutboxEvent] = []

    def __call__(self, event: OutboxEvent) -> None:
        self.events.append(event)


@pytest.fixture
def sink() -> Sink:
    return Sink()


@dataclass(frozen=True, slots=True)
class Answered:
    """What a service answered."""

    status_code: int
    text: str


class FastapiClient:
    """Calls the application in an event loop of its own."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def post(self, path: str, content: bytes = b"", headers: dict[str, str] | None = None) -> Answered:
        return self._call("POST", path, content, headers or {})

    def get(self, path: str) -> Answered:
        return self._call("GET", path, b"", {})

    def _call(self, method: str, path: str, content: bytes, headers: dict[str, str]) -> Answered:
        answer = asyncio.run(Client(self.app, "", "").call(method, path, content, **headers))
        return Answered(answer.status, answer.body.decode())


def fastapi_client(sink: Any, capture: Capture = CAPTURE) -> FastapiClient:
    app = fastapi.FastAPI()

    @app.post("/clients")
    async def create(request: fastapi.Request) -> fastapi.Response:
        assert await request.body() == BODY
        return fastapi.Response(ANSWER, media_type="application/json")

    @app.post("/loans/{loan_id}")
    def approve(loan_id: int, command: str) -> dict[str, Any]:
        if loan_id == 404:
            raise fastapi.HTTPException(404)
        return {"resourceId": loan_id, "command": command}

    @app.get("/clients")
    def clients() -> list[int]:
        return []

    app.add_middleware(AsgiCapture, capture=capture, sink=sink)
    return FastapiClient(app)


def flask_client(sink: Any, capture: Capture = CAPTURE) -> Any:
    app = flask.Flask("platform")

    @app.post("/clients")
    def create() -> flask.Response:
        assert flask.request.get_data() == BODY
        return flask.Response(ANSWER, mimetype="application/json")

    @app.post("/loans/<int:loan_id>")
    def approve(loan_id: int) -> Any:
        if loan_id == 404:
            return {"error": "no such loan"}, 404
        return {"resourceId": loan_id, "command": flask.request.args["command"]}

    @app.get("/clients")
    def clients() -> Any:
        return []

    app.wsgi_app = WsgiCapture(app.wsgi_app, capture=capture, sink=sink)  # type: ignore[method-assign] # as Flask's documentation has it
    return FlaskClient(app)


class FlaskClient:
    """Flask's own test client, called as Starlette's."""

    def __init__(self, app: Any) -> None:
        self._client = app.test_client()

    def post(self, path: str, content: bytes = b"", headers: dict[str, str] | None = None) -> Any:
        return self._client.post(path, data=content, headers=headers, buffered=True)

    def get(self, path: str) -> Any:
        return self._client.get(path, buffered=True)


def django_application() -> Any:
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="of-tests", USE_TZ=True)
        django.setup()
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse, JsonResponse
    from django.test.utils import override_settings
    from django.urls import path

    def clients(request: Any) -> Any:
        if request.method == "GET":
            return JsonResponse([], safe=False)
        assert request.body == BODY
        return HttpResponse(ANSWER, content_type="application/json")

    def approve(request: Any, loan_id: int) -> Any:
        if loan_id == 404:
            return JsonResponse({"error": "no such loan"}, status=404)
        return JsonResponse({"resourceId": loan_id, "command": request.GET["command"]})

    urls = type("Urls", (), {"urlpatterns": [path("clients", clients), path("loans/<int:loan_id>", approve)]})
    handler = WSGIHandler()

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        with override_settings(ROOT_URLCONF=urls, MIDDLEWARE=[]):
            return handler(environ, start_response)

    return application


def django_client(sink: Any, capture: Capture = CAPTURE) -> Any:
    from werkzeug.test import Client

    class Platform:
        def test_client(self) -> Any:
            return Client(WsgiCapture(django_application(), capture=capture, sink=sink))

    return FlaskClient(Platform())


SERVICES = [fastapi_client, flask_client, django_client]


@pytest.mark.parametrize("service", SERVICES)
def test_a_successful_call_becomes_an_event_with_request_and_answer_verbatim(
    service: Any, sink: Sink
) -> None:
    answer = service(sink).post("/clients", content=BODY, headers={"X-User": "john.doe", "X-Tenant": "acme"})

    assert answer.status_code == 200
    assert answer.text == ANSWER
    (event,) = sink.events
    assert (event.tenant, event.entity_name, event.action_name) == ("acme", "CLIENT", "CREATE")
    assert event.ids == {"clientId": 9876, "officeId": 3}
    assert event.request == BODY
    assert event.response == ANSWER.encode()
    assert (event.created_by, event.created_by_name, event.created_by_full_name) == (
        12,
        "john.doe",
        "John Doe",
    )
    assert event.timestamp is not None
    assert '"amount": 1.00' in event.json()


@pytest.mark.parametrize("service", SERVICES)
def test_the_query_chooses_the_route_and_the_path_has_the_id(
    service: Any, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    client = service(sink)
    client.post("/loans/17?command=approve&x=1")
    client.post("/loans/17?command=disburse")

    (event,) = sink.events
    assert event.entity == "default/LOAN/17"
    assert event.ids == {"loanId": 17}
    assert event.request == b"{}"
    assert json.loads(event.response if isinstance(event.response, bytes) else "") == {
        "resourceId": 17,
        "command": "approve",
    }
    assert [record for record in caplog.records if record.name == "embarc.outbox"] == []


@pytest.mark.parametrize("service", SERVICES)
def test_failed_calls_and_other_calls_become_nothing(service: Any, sink: Sink) -> None:
    client = service(sink)

    assert client.post("/loans/404?command=approve").status_code == 404
    assert client.get("/clients").status_code == 200
    assert client.post("/nowhere").status_code == 404

    assert sink.events == []


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_too_large_is_left_out_and_said_and_the_answer_is_the_same(
    service: Any, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    capture = Capture(ROUTES, largest_body=20)

    answer = service(sink, capture).post("/clients", content=BODY)

    assert answer.text == ANSWER
    (event,) = sink.events
    assert (event.request, event.response, event.ids) == (b"{}", b"{}", {})
    assert "the answer is not carried" in caplog.text


@pytest.mark.parametrize("service", SERVICES)
def test_a_sink_that_fails_is_told_and_disturbs_nobody(
    service: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: OutboxEvent) -> None:
        raise OSError("no database")

    answer = service(broken).post("/clients", content=BODY)

    assert answer.text == ANSWER
    assert "POST /clients: its event is lost" in caplog.text


def test_a_streamed_answer_goes_out_as_it_comes(sink: Sink) -> None:
    app = fastapi.FastAPI()
    sent: list[Any] = []
    seen_at_first_chunk: list[int] = []

    @app.post("/clients")
    async def create() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b'{"clientId"'
            seen_at_first_chunk.append(len([one for one in sent if one.get("body")]))
            yield b": 5}"

        return StreamingResponse(chunks())

    captured = AsgiCapture(app, capture=CAPTURE, sink=sink)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/clients",
        "query_string": b"",
        "headers": [],
        "asgi": {"version": "3.0", "spec_version": "2.4"},
    }
    asyncio.run(captured(scope, receive, send))

    assert seen_at_first_chunk == [1]
    assert [event.ids for event in sink.events] == [{"clientId": 5}]


def test_a_streamed_wsgi_answer_is_not_gathered(sink: Sink) -> None:
    closed: list[bool] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("201 Created", [])

        def chunks() -> Iterator[bytes]:
            try:
                yield b'{"clientId"'
                yield b": 5}"
            finally:
                closed.append(True)

        return chunks()

    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/clients", "wsgi.input": None}
    answer = WsgiCapture(app, capture=CAPTURE, sink=sink)(environ, lambda *arguments: None)
    chunks = iter(answer)

    assert next(chunks) == b'{"clientId"'
    assert sink.events == []
    assert list(chunks) == [b": 5}"]
    answer.close()  # type: ignore[attr-defined] # servers call it where it is there
    assert closed == [True]
    assert [event.ids for event in sink.events] == [{"clientId": 5}]


def test_an_answer_that_never_ends_becomes_no_event(sink: Sink) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"{", b"}"]

    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/clients", "wsgi.input": None}
    answer = WsgiCapture(app, capture=CAPTURE, sink=sink)(environ, lambda *arguments: None)

    next(iter(answer))
    answer.close()  # type: ignore[attr-defined] # the caller went away

    assert sink.events == []


def test_a_handler_that_raises_becomes_no_event(sink: Sink) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        FastapiClient(AsgiCapture(app, capture=CAPTURE, sink=sink)).post("/clients")

    assert sink.events == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"ids": {"clientID": "response.id"}},
        {"ids": {"clientId": "answer.id"}},
        {"ids": {"clientId": "response"}},
        {"ids": {"loanId": "path.loan"}},
        {"entity_id": "nowhere"},
    ],
)
def test_a_route_that_could_never_find_its_ids_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="`"):
        Route(method="POST", path="/loans/{loanId}", entity_name="LOAN", action_name="APPROVE", **wrong)


async def test_the_table_sink_writes_into_the_outbox(postgres: Database, sqlite: Database) -> None:
    plain = create_engine(sqlite.with_driver("pysqlite"))
    asynchronous = create_async_engine(postgres.with_driver("asyncpg"))

    flask_client(table_sink(plain)).post("/clients", content=BODY)
    await Client(fastapi_client(table_sink(asynchronous)).app, "", "").call("POST", "/clients", BODY)
    await asynchronous.dispose()
    plain.dispose()

    assert sqlite.rows("entity") == postgres.rows("entity") == ["default/CLIENT/9876"]


def test_the_http_sink_posts_to_a_running_embarc(tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path)

    client = flask_client(http_sink(f"http://127.0.0.1:{service.port}", user="admin", password=PASSWORD))
    client.post("/clients", content=BODY)
    (event,) = service.ok("GET", "events")["pageItems"]
    service.stop()

    assert event["payload"]["clientId"] == 9876
    assert event["payload"]["request"] == json.loads(BODY)
    assert event["payload"]["response"] == json.loads(ANSWER)


def test_the_http_sink_tries_again_with_the_same_key_and_then_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    keys: list[str] = []

    class Busy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            keys.append(self.headers["Idempotency-Key"])
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Busy)
    thread = Thread(target=server.serve_forever)
    thread.start()
    with caplog.at_level(logging.ERROR):
        flask_client(http_sink(f"http://127.0.0.1:{server.server_port}", key="emk_x")).post(
            "/clients", content=BODY
        )
    server.shutdown()
    thread.join()
    server.server_close()

    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert "Embarc answered 503" in caplog.text
