"""The installed command as a process: what a user starts, kills and starts again."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from embarc.testing.postgres import KEY

PASSWORD = "a-test-password"  # noqa: S105 - of services that live for one test


class ServiceProcess:
    """`embarc serve` on a free port, over the store with this URL or else over one in `folder`."""

    def __init__(self, folder: Path, *arguments: str, store: str = "", **environment: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("EMBARC_")}
        own = {"EMBARC_ADMIN_PASSWORD": PASSWORD} | ({"EMBARC_KEY": KEY} if store else {})
        self.stderr = (folder / "stderr.log").open("ab")
        self.process = subprocess.Popen(  # noqa: S603 - our own command
            [
                str(Path(sys.executable).with_name("embarc")),
                *("serve", "--port", "0", "--store", store or f"sqlite:///{folder / 'embarc.db'}"),
                *("--sandbox", "--allow-private", "127.0.0.0/8"),
                *arguments,
            ],
            cwd=folder,  # where a store that is no file has its sandbox
            env=clean | own | environment,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            text=True,
        )
        assert self.process.stdout  # noqa: S101 - PIPE
        line = self.process.stdout.readline()
        if "http://127.0.0.1:" not in line:
            self._reap()
            raise RuntimeError(
                f"the service did not start: {line!r} {(folder / 'stderr.log').read_text()[-2000:]}"
            )
        self.port = int(line.split("http://127.0.0.1:")[1].split()[0])

    def call(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of one call; `body` may be bytes, to be sent as they are."""
        status, _, content = self.answer(method, path, body, **headers)
        return status, content

    def answer(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        """The same with the headers of the answer, their names in small letters."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        credential = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
        sent = {"Authorization": f"Basic {credential}", "Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path if path.startswith("/") else f"/api/v1/{path}", raw, sent)
            response = connection.getresponse()
            content = response.read()
            is_json = "json" in (response.getheader("Content-Type") or "")
            got = {name.lower(): value for name, value in response.getheaders()}
            return response.status, got, json.loads(content) if is_json else content.decode()
        finally:
            connection.close()

    def ok(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """The JSON of a call that must succeed."""
        status, answer = self.call(method, path, body, **headers)
        if status != 200:
            raise AssertionError(f"{method} {path} was answered {status}: {answer}")
        return answer

    def kill(self) -> None:
        """SIGKILL: what a crash does."""
        self.process.kill()
        self._reap()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self._reap()

    def _reap(self) -> int:
        code = self.process.wait(timeout=60)
        assert self.process.stdout  # noqa: S101 - PIPE
        self.process.stdout.close()
        self.stderr.close()
        return code
