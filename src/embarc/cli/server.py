"""Running the service in this process until it is asked to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from embarc.app import Service
from embarc.core.errors import SettingsError
from embarc.observe import Observer
from embarc.settings import Settings
from embarc.telemetry import log_to
from embarc.web.protocol import OneWriteProtocol

BROKEN_EXIT_CODE = 3
"""The disk failed under the store. A supervisor may start the process again; then the store is read anew."""
_KEEP_ALIVE_SECONDS = 75
_GRACE_SECONDS = 10
"""For requests that are being answered when the service is asked to stop."""
_BACKLOG = 2048
_SWITCH_SECONDS = 0.05
"""How long the loop may keep the interpreter's lock while the store's writer wants it. The loop gives it up by itself at
every turn; taking it away in between only makes both threads chase it (a tenth of all CPU at Python's 5 ms)."""
_COLLECT_AFTER = 20_000
"""Objects made before the youngest are searched for cycles. Python's 700 are twenty events."""


class RunningServer:
    """The service behind a listening socket. `await open(...)`, then `await until_stopped()`."""

    def __init__(self, service: Service, server: uvicorn.Server, listening: socket.socket) -> None:
        self.service = service
        self.exit_code = 0
        self._server = server
        self._socket = listening
        self._serving: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        settings: Settings,
        observer: Observer,
        *,
        tell: Callable[[str], None] = print,
        listening: socket.socket | None = None,
        shared_folder: Path | None = None,
    ) -> RunningServer:
        """Open, start and listen; when this returns, requests are answered. `tell` gets what is shown once.

        `listening` is a socket that was opened before, otherwise one is opened as the settings say.
        """
        listening = listening or listen(settings.host, settings.port)
        running: list[RunningServer] = []

        def on_broken(reason: str) -> None:
            observer("store.broken", reason=reason)
            for one in running:
                one.exit_code = BROKEN_EXIT_CODE
                one.stop()

        try:
            service = await Service.open(settings, observer, on_broken=on_broken, shared_folder=shared_folder)
        except BaseException:
            listening.close()
            raise
        config = uvicorn.Config(
            service.app,
            http=OneWriteProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            backlog=_BACKLOG,
        )
        server = _Server(config)
        self = cls(service, server, listening)
        running.append(self)
        await make_admin(service, settings, tell)
        await service.start()
        self._serving = asyncio.create_task(server.serve(sockets=[listening]))
        await server.is_listening.wait()
        observer("service.started", url=self.url)
        return self

    @property
    def url(self) -> str:
        """Where it answers."""
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def stop(self) -> None:
        """Ask it to stop; safe to call from a signal handler, and more than once."""
        if not self._server.should_exit:
            self.service.observe("service.stopping")
            self.service.stop_claiming()
            self._server.should_exit = True

    async def until_stopped(self) -> int:
        """Wait for the end: no new requests, what was begun finished or given back. Returns the exit code."""
        assert self._serving is not None  # noqa: S101 - `open` made it
        await self._serving
        await self.service.stop()
        self.service.observe("service.stopped")
        return self.exit_code


class _Server(uvicorn.Server):
    """uvicorn without its own handling of signals: ours stops more than the HTTP server."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_forever(
    settings: Settings, listening_socket: int | None = None, shared_folder: Path | None = None
) -> int:
    """`embarc serve`: until SIGINT or SIGTERM. With the descriptor of an inherited socket it is one of several processes,
    and also stops when its standard input ends: then its supervisor is gone."""
    observer = Observer()
    log_to(observer, settings.log_level)
    inherited = None if listening_socket is None else socket.socket(fileno=listening_socket)
    running = await RunningServer.open(settings, observer, listening=inherited, shared_folder=shared_folder)
    _calm_the_interpreter()
    loop = asyncio.get_running_loop()
    if inherited is not None:
        loop.add_reader(sys.stdin.fileno(), running.stop)  # nothing is ever written to it: it can only end
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, running.stop)
    print(f"Embarc answers at {running.url}  (API: /api/v1, documentation: /docs)", flush=True)
    return await running.until_stopped()


async def make_admin(service: Service, settings: Settings, tell: Callable[[str], None]) -> None:
    """Make the user `admin` on an empty store; a password that was made up is told once, here."""
    password = settings.admin_password or secrets.token_urlsafe(15)
    if await service.access.create_admin(password) and not settings.admin_password:
        tell(f"Made the user `admin` with the password {password} (shown only now).")


def _calm_the_interpreter() -> None:
    """What was loaded at the start stays: it need not be searched for garbage again and again."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 100)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, not yet accepting; raises `SettingsError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise SettingsError(
            f"Cannot listen on {host}:{port}: {error.strerror}. Choose another --port, or 0 for a free one."
        ) from None
    return listening
