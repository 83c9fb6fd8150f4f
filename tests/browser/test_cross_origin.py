"""A page of another origin in a real Chromium: the browser itself decides whether the answers let it in."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from embarc.testing.process import PASSWORD, ServiceProcess

pytestmark = pytest.mark.browser

PAGE = Path(__file__).with_name("page.html").read_bytes()
NOTHING_BUT_LOOPBACK = "MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"


class Site:
    """Serves the page at `localhost`, and gets what the page has to tell."""

    def __init__(self) -> None:
        self.told: queue.Queue[list[dict[str, Any]]] = queue.Queue()
        told = self.told

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(PAGE, "text/html; charset=utf-8")

            def do_POST(self) -> None:
                told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self._answer(b"", "text/plain")

            def _answer(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://localhost:{self.server.server_port}"


@pytest.fixture
def site() -> Iterator[Site]:
    opened = Site()
    thread = threading.Thread(target=opened.server.serve_forever)
    thread.start()
    yield opened
    opened.server.shutdown()
    thread.join()
    opened.server.server_close()


@contextmanager
def chromium(folder: Path, url: str) -> Iterator[None]:
    command = shutil.which("chromium")
    assert command, "these tests need Chromium: apt-get install chromium"
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    arguments += ["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"]
    arguments += [f"--user-data-dir={folder / 'profile'}", f"--host-resolver-rules={NOTHING_BUT_LOOPBACK}"]
    arguments += ["--remote-debugging-port=0"]  # it stays until it is ended
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen([command, *arguments, url], stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=60)


def walk(site: Site, folder: Path, origins: str) -> dict[str, dict[str, Any]]:
    """What became of each call of the page, by name."""
    service = ServiceProcess(folder, EMBARC_CORS_ORIGINS=origins)
    try:
        given = {
            "api": f"http://127.0.0.1:{service.port}/fineract-provider/api/v1",
            "user": "admin",
            "password": PASSWORD,
            "receiver": "https://receiver.example.com/",
        }
        with chromium(folder, f"{site.origin}/#{quote(json.dumps(given))}"):
            told = site.told.get(timeout=120)
    finally:
        assert service.stop() == 0
    return {one["name"]: one for one in told}


def test_a_page_of_a_named_origin_manages_hooks(site: Site, tmp_path: Path) -> None:
    told = walk(site, tmp_path, site.origin)

    statuses = {name: one.get("status", one.get("refused")) for name, one in told.items()}
    assert statuses == {
        "wrong password": 401,
        "sign in": 200,
        "setting": 200,
        "list": 200,
        "template": 200,
        "create": 200,
        "view": 200,
        "edit": 200,
        "mistake": 400,
        "delete": 200,
    }
    assert told["view"]["json"]["displayName"] == "Kremlin"
    assert "at least one event" in told["mistake"]["json"]["errors"][0]["defaultUserMessage"]


def test_the_browser_refuses_a_page_of_any_other_origin(site: Site, tmp_path: Path) -> None:
    told = walk(site, tmp_path, "https://mifos.example.com")

    assert {one["refused"] for one in told.values()} == {"TypeError: Failed to fetch"}
