"""`embarc relay` and what it posts to: a running Embarc, and one that is ill, full, or not Embarc at all."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from typer.testing import CliRunner

from embarc.cli.commands import app
from embarc.core.errors import SettingsError
from embarc.inlets.outboxes import OutboxRow
from embarc.inlets.posting import Poster
from embarc.inlets.relay import NotNow
from embarc.outbox import OutboxEvent, emit
from embarc.testing.process import ServiceProcess

from .conftest import Database
from .test_crash import RelayProcess, outbox_is_empty

ROW = OutboxRow(id="a1", tenant="acme", entity="acme/LOAN/1", body='{"entityName": "LOAN"}')
ENVELOPE = {
    "userMessageGlobalisationCode": "validation.msg.validation.errors.exist",
    "defaultUserMessage": "Validation errors exist.",
    "errors": [
        {"parameterName": "entityName", "defaultUserMessage": "There is no event LOAN.X.", "value": "LOAN.X"}
    ],
}


class Scripted:
    """An HTTP server on loopback that answers in turn what it was told to, then 200."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], object]] = []
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                outer.connections += 1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                status, headers, answer = (
                    outer.answers.pop(0) if outer.answers else (200, {}, {"eventId": "evt_1"})
                )
                raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(raw)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)
                if headers.get("X-Hang-Up"):
                    self.close_connection = True  # without having said so

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    server = Scripted()
    thread = Thread(target=server.server.serve_forever)
    thread.start()
    yield server
    server.server.shutdown()
    thread.join()
    server.server.server_close()


@contextmanager
def posting(to: str) -> Iterator[Poster]:
    poster = Poster(to, authorization="Bearer emk_x")
    yield poster
    poster.close()


@pytest.mark.parametrize("base", ["", "/", "/api/v1", "/api/v1/events", "/embarc"])
async def test_a_row_is_posted_as_it_is_with_its_id_as_key(scripted: Scripted, base: str) -> None:
    with posting(scripted.url + base) as poster:
        assert await poster.publish(ROW) is None

    ((path, headers, body),) = scripted.seen
    assert path == ("/embarc/api/v1/events" if base == "/embarc" else "/api/v1/events")
    assert headers["idempotency-key"] == "outbox:a1"
    assert headers["authorization"] == "Bearer emk_x"
    assert headers["fineract-platform-tenantid"] == "acme"
    assert body == ROW.body.encode()


async def test_a_refusal_by_embarc_is_for_good_and_names_the_field_but_no_value(scripted: Scripted) -> None:
    scripted.answers = [(400, {}, ENVELOPE), (413, {}, b"<html>"), (422, {}, ENVELOPE)]
    with posting(scripted.url) as poster:
        reasons = [await poster.publish(ROW) for _ in range(3)]

    assert reasons == [
        "400: entityName: There is no event LOAN.X.",
        "413: the event is too large",
        "422: entityName: There is no event LOAN.X.",
    ]


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (400, b"<html>a proxy's</html>"),
        (401, ENVELOPE),
        (403, ENVELOPE),
        (404, b""),
        (429, ENVELOPE),
        (502, b""),
        (503, ENVELOPE),
        (200, b"<html>welcome</html>"),
        (302, b""),
    ],
)
async def test_whatever_says_nothing_about_the_event_itself_is_tried_again(
    scripted: Scripted, status: int, answer: object
) -> None:
    scripted.answers = [(status, {"Retry-After": "7"}, answer)]
    with posting(scripted.url) as poster:
        with pytest.raises(NotNow) as caught:
            await poster.publish(ROW)
        again = await poster.publish(ROW)

    assert str(status) in str(caught.value)
    assert again is None
    if status == 503:
        assert caught.value.retry_after_seconds == 7


async def test_a_connection_is_kept_and_one_that_was_closed_is_replaced(scripted: Scripted) -> None:
    scripted.answers = [
        (200, {}, {"eventId": "1"}),
        (200, {"X-Hang-Up": "1"}, {"eventId": "2"}),
        (200, {}, {"eventId": "3"}),
    ]
    with posting(scripted.url) as poster:
        for _ in range(3):
            assert await poster.publish(ROW) is None

    assert len(scripted.seen) == 3
    assert scripted.connections == 2


async def test_nobody_there_is_told_with_the_host_and_without_the_key() -> None:
    with posting("http://127.0.0.1:1") as poster, pytest.raises(NotNow) as caught:
        await poster.publish(ROW)

    assert "127.0.0.1" in str(caught.value)
    assert "emk_x" not in str(caught.value)


@pytest.mark.parametrize("to", ["ftp://x", "embarc.example", "https://ann:secret@embarc.example"])
def test_a_destination_that_is_none_is_refused_without_being_shown(to: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Poster(to, authorization="x")

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--source", "oracle://x", "--key", "k"], "must be postgresql://"),
        (["--source", "sqlite:///x.db"], "either `--key`"),
        (["--source", "sqlite:///x.db", "--key", "k", "--user", "u"], "either `--key`"),
        (["--source", "sqlite:///x.db", "--user", "u"], "EMBARC_RELAY_PASSWORD"),
        (["--source", "sqlite:///x.db", "--key", "k", "--to", "nowhere"], "must be a URL"),
        (["--source", "sqlite:///x.db", "--key", "k", "--log-level", "loud"], "log_level"),
    ],
)
def test_the_command_says_what_is_wrong(arguments: list[str], told: str) -> None:
    done = CliRunner().invoke(app, ["relay", *arguments])

    assert done.exit_code == 2
    assert told in done.output


async def test_a_running_embarc_refuses_one_takes_the_others_and_forwards_after_an_outage(
    database: Database, tmp_path: Path
) -> None:
    service = await asyncio.to_thread(ServiceProcess, tmp_path)
    relay = await asyncio.to_thread(RelayProcess, database, service)
    connection = database.connect()
    cursor = connection.cursor()

    cursor.execute("begin")
    poison = emit(connection, OutboxEvent(entity_name="LOAN", action_name="FLY", ids={"loanId": 1}))
    held = emit(connection, OutboxEvent(entity_name="LOAN", action_name="APPROVE", ids={"loanId": 1}))
    emit(connection, OutboxEvent(entity_name="LOAN", action_name="APPROVE", ids={"loanId": 2}))
    connection.commit()
    connection.close()
    await asyncio.to_thread(rows_are, database, [poison, held])
    state, reason = database.rows("state, reason")[0]
    database.query("delete from embarc_outbox where state = 2")
    await asyncio.to_thread(outbox_is_empty, database)
    events = await asyncio.to_thread(service.ok, "GET", "events")

    assert await asyncio.to_thread(relay.end, signal.SIGTERM) == 0
    await asyncio.to_thread(service.stop)
    assert (state, "There is no event LOAN.FLY" in reason) == (2, True)
    assert [one["payload"]["loanId"] for one in events["pageItems"]] == [1, 2]


def rows_are(database: Database, ids: list[str]) -> None:
    """Wait until these are left."""
    ended = Event()
    for _ in range(600):
        if database.rows() == ids and database.rows("state")[0] == 2:
            return
        ended.wait(0.1)
    raise AssertionError(database.rows())
