"""`embarc demo`: the whole story on one screen, with the real parts.

Embarc with its sandbox on a temporary store, a receiver that verifies with the receiver SDK, a hook made with
the documentation's own request, a client, and the webhook as it arrived.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import signal
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.syntax import Syntax
from rich.text import Text

from embarc.cli.server import RunningServer
from embarc.core.errors import EmbarcError
from embarc.observe import Observer
from embarc.receiver import VerificationError, verify
from embarc.settings import Settings, load_settings
from embarc.telemetry import log_to

ARRIVES_WITHIN_SECONDS = 15.0
DEFAULT_PORT = 8080

HOOK = {
    "name": "client-events",
    "displayName": "Client creation hook",
    "isActive": True,
    "events": [{"entityName": "CLIENT", "actionName": "CREATE"}],
    "config": [
        {"fieldName": "Payload URL", "fieldValue": "https://yourapp.example.com/webhooks/embrc"},
        {"fieldName": "Content Type", "fieldValue": "json"},
    ],
}
"""The documentation's own request; only the URL is replaced by the demo's receiver."""

CLIENT = {
    "firstname": "Alice",
    "lastname": "Martinez",
    "externalId": "CUST-2025-001",
    "submittedOnDate": "13 October 2025",
    "dateFormat": "dd MMMM yyyy",
    "locale": "en",
}


class DemoFailed(EmbarcError):
    """The demo did not come to its end."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """One request as the receiver got it."""

    request_line: str
    headers: list[tuple[str, str]]
    body: bytes


async def run_demo(*, host: str | None, port: int | None, once: bool) -> int:
    """Run the demo; with `once` until the webhook arrived, else until it is interrupted. Returns the exit code."""
    console = Console(highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="embarc-demo-") as folder:
        password = secrets.token_urlsafe(9)
        settings = load_settings(
            {},
            overrides={
                "host": host,
                "port": DEFAULT_PORT if port is None else port,
                "store": f"sqlite:///{Path(folder) / 'embarc.db'}",
                "sandbox": True,
                "admin_password": password,
                "allow_private": ("127.0.0.0/8",),
            },
            directory=Path(folder),
        )
        observer = Observer()
        log_to(observer, "warning")
        running = await RunningServer.open(settings, observer)
        receiver = await DemoReceiver.open()
        try:
            return await _story(console, running, receiver, settings, once=once)
        except DemoFailed as error:
            console.print(Text(f"The demo failed: {error}", style="bold red"))
            return 1
        finally:
            running.stop()
            await running.until_stopped()
            await receiver.close()


async def _story(
    console: Console, running: RunningServer, receiver: DemoReceiver, settings: Settings, *, once: bool
) -> int:
    api = _Api(running.url, "admin", settings.admin_password)
    hook = json.loads(json.dumps(HOOK))
    hook["config"][0]["fieldValue"] = receiver.url

    console.rule("1. Register a hook")
    console.print(f"POST {running.url}/api/v1/hooks   (plain http to loopback is allowed in this demo only)")
    _print_json(console, hook)
    created = await api.call("POST", "/hooks", hook)
    _print_json(console, created | {"secret": "whsec_...  (shown once, kept by the receiver)"})

    console.rule("2. Create a client")
    console.print(f"POST {running.url}/api/v1/clients")
    _print_json(console, CLIENT)
    _print_json(console, await api.call("POST", "/clients", CLIENT))

    console.rule("3. What arrived at the receiver")
    arrived = await receiver.next()
    console.print(Text(arrived.request_line, style="bold"))
    for name, value in arrived.headers:
        console.print(Text(f"{name}: {value}"))
    _print_json(console, json.loads(arrived.body))
    try:
        verified = verify(arrived.headers, arrived.body, created["secret"])
    except VerificationError as error:
        raise DemoFailed(f"the signature is not valid: {error}") from None
    console.print(
        Text(f"signature valid   ({verified.id}, checked with embarc.receiver.verify)", style="bold green")
    )

    console.rule("4. The delivery's log")
    _print_json(console, await _delivered(api, running.service.observe))

    if once:
        return 0
    console.print(
        Panel(
            f"API            {running.url}/api/v1\n"
            f"documentation  {running.url}/docs\n"
            f"receiver       {receiver.url}\n"
            f"credentials    admin / {settings.admin_password}\n\n"
            f"curl -u admin:{settings.admin_password} {running.url}/api/v1/deliveries",
            title="Embarc is running. Ctrl-C ends it and removes its data.",
        )
    )
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    printing = asyncio.create_task(_print_arrivals(console, receiver))
    await stop.wait()
    printing.cancel()
    await asyncio.gather(printing, return_exceptions=True)
    return 0


async def _delivered(api: _Api, observe: Observer) -> dict[str, Any]:
    """The delivery's log once its result is recorded: the receiver knows of the webhook a moment earlier."""
    recorded = asyncio.Event()
    observe.subscribe("delivery.attempted", lambda facts: recorded.set())
    page = await api.call("GET", "/deliveries")
    if page["pageItems"][0]["state"] == "waiting":
        async with asyncio.timeout(ARRIVES_WITHIN_SECONDS):
            await recorded.wait()
    delivery: dict[str, Any] = await api.call("GET", f"/deliveries/{page['pageItems'][0]['id']}")
    return delivery


async def _print_arrivals(console: Console, receiver: DemoReceiver) -> None:
    while True:
        arrived = await receiver.next(timeout_seconds=None)
        kind = next((value for name, value in arrived.headers if name.lower() == "x-embarc-event"), "")
        console.print(Text(f"arrived: {kind} {arrived.body.decode()[:500]}"))


class DemoReceiver:
    """A receiver on a free loopback port that answers 200 and keeps what arrived."""

    def __init__(self) -> None:
        self._arrived: asyncio.Queue[Arrived] = asyncio.Queue()
        self._server: asyncio.Server
        self._connections: set[asyncio.StreamWriter] = set()

    @classmethod
    async def open(cls) -> DemoReceiver:
        """Listen."""
        self = cls()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/webhooks/embrc"

    async def next(self, *, timeout_seconds: float | None = ARRIVES_WITHIN_SECONDS) -> Arrived:
        """The next request; raises `DemoFailed` where none comes in time."""
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._arrived.get()
        except TimeoutError:
            raise DemoFailed(f"no webhook arrived within {timeout_seconds:g} seconds") from None

    async def close(self) -> None:
        """Stop listening."""
        self._server.close()
        for writer in self._connections:
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                request_line, *lines = head.strip().split("\r\n")
                headers = [
                    (name, value.strip()) for name, _, value in (line.partition(":") for line in lines)
                ]
                length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
                self._arrived.put_nowait(Arrived(request_line, headers, await reader.readexactly(length)))
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n"
                )
                writer.write(b'{"received":true}')
        self._connections.discard(writer)
        writer.close()


class _Api:
    """Calls Embarc as any program would: over HTTP."""

    def __init__(self, url: str, username: str, password: str) -> None:
        self._url = url + "/api/v1"
        self._authorization = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """The JSON answer; raises `DemoFailed` with the error's own words."""
        return await asyncio.to_thread(self._call, method, path, body)

    def _call(self, method: str, path: str, body: object) -> Any:
        request = urllib.request.Request(  # noqa: S310 - our own http URL
            self._url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": self._authorization},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback needs no proxy
        try:
            with opener.open(request, timeout=ARRIVES_WITHIN_SECONDS) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise DemoFailed(
                f"{method} {path} was answered {error.code}: {error.read().decode()[:500]}"
            ) from None
        except OSError as error:
            raise DemoFailed(f"{method} {path} could not be called: {error}") from None


def _print_json(console: Console, value: object) -> None:
    console.print(Syntax(json.dumps(value, indent=2, ensure_ascii=False), "json", background_color="default"))
