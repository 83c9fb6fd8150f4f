"""A real PgBouncer before a PostgreSQL, giving each transaction whichever session is free."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from embarc.testing.postgres import free_port, unprivileged_user

_START_SECONDS = 20
_SETTINGS = """
[databases]
* = host={host} port={server_port} user={user}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 6
max_client_conn = 200
"""


class PgBouncer:
    """`with PgBouncer(url) as pooler`, then `pooler.url(url)` of any database of that server. Raises where it is not installed."""

    def __init__(self, server_url: str) -> None:
        found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
        if found is None:
            raise RuntimeError("PgBouncer is not installed: apt-get install pgbouncer")
        self._program = found
        self._server = urlsplit(server_url)
        self._port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="embarc-pgbouncer-"))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PgBouncer:
        settings = self._folder / "pgbouncer.ini"
        settings.write_text(
            _SETTINGS.format(
                host=self._server.hostname,
                server_port=self._server.port or 5432,
                user=self._server.username,
                port=self._port,
            )
        )
        user = unprivileged_user()
        if user is not None:
            for path in (self._folder, settings):
                shutil.chown(path, user)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - what was found
                [self._program, str(settings)], stdout=log, stderr=log, user=user
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PgBouncer did not start: {(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, url: str) -> str:
        """The same database through the pooler, as the guide says."""
        parts = urlsplit(url)
        netloc = f"{self._server.username}@127.0.0.1:{self._port}"
        return parts._replace(netloc=netloc, query="statement_cache_size=0").geturl()

    def _answers(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self._port)) == 0
