"""Secrets are write-only: a whole run with a canary in every place that takes a secret, and none of them found again.

Searched: the database with its log, while it runs and after a crash, the sandbox's database, every line of the log at
`debug`, the metrics, and the answer of every GET there is. Each canary is looked for as it is, in base64 and in hexadecimal.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from embarc.testing.certificates import Authority
from embarc.testing.process import PASSWORD, ServiceProcess

KEY = "5ec2e7" + "a1" * 29
NAMES = {
    "signing": "whsec_" + base64.b64encode(b"canary-signing-secret-0123456789").decode(),
    "rotated": "whsec_" + base64.b64encode(b"canary-rotated-secret-0123456789").decode(),
    "basic": "canary-basic-password-1",
    "api": "canary-api-key-2",
    "jwt": "canary-jwt-key-3-of-32-characters-x",
    "oauth2": "canary-client-secret-4",
    "token": "canary-access-token-5",
    "header": "canary-header-value-6",
    "operator": "canary-operator-password-7",
    "changed": "canary-changed-password-8",
    "wrong": "canary-wrong-password-9",
    "event": "canary-inside-an-event-10",
    "bad": "canary-bad-request-11",
    "forgotten": "canary-wrong-bearer-12",
}


class Echo:
    """A receiver that fails and sends everything back that it got, and hands out tokens at `/token`."""

    def __init__(self) -> None:
        self.arrived: list[bytes] = []
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Echo:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def received(self, *wanted: str) -> None:
        """Wait until each of these stood in a request; raises TimeoutError after a minute."""
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(
                lambda: all(any(one.encode() in request for request in self.arrived) for one in wanted)
            )

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        request = head + (await reader.readexactly(int(length[1])) if length else b"")
        if head.startswith(b"POST /token"):
            status, body = b"200 OK", json.dumps({"access_token": NAMES["token"]}).encode()
        else:
            status, body = b"500 Broken", request
        echoed = request.split(b"\r\n")
        lines = [b"X-Echo: " + line for line in echoed[1:] if b"canary" in line or b"Authorization" in line]
        answer = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), b"Connection: close", *lines]
        writer.write(b"\r\n".join([*answer, b"", body]))
        await writer.drain()
        writer.close()
        async with self._changed:
            self.arrived.append(request)
            self._changed.notify_all()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with Echo() as opened:
        yield opened


def forms(canary: str) -> Iterator[bytes]:
    """The canary as it is, in base64 wherever it stands in what is encoded, and in hexadecimal."""
    values = [canary.encode()]
    if canary.startswith("whsec_"):
        values.append(base64.b64decode(canary.removeprefix("whsec_")))
    if re.fullmatch(r"[0-9a-f]{64}", canary):
        values.append(bytes.fromhex(canary))
    for value in values:
        yield value
        yield value.hex().encode()
        yield value.hex().upper().encode()
        for shift in range(3):
            encoded = base64.b64encode(b"\0" * shift + value).rstrip(b"=")
            inner = encoded[-(-shift * 8 // 6) + (shift > 0) :][:-2]
            yield inner
            yield inner.replace(b"+", b"-").replace(b"/", b"_")


def test_a_canary_is_found_in_each_of_its_forms() -> None:
    canary = NAMES["basic"]
    for told in (
        canary.encode(),
        base64.b64encode(b"embarc:" + canary.encode()),
        base64.b64encode(b"u:" + canary.encode() + b"xy"),
        base64.urlsafe_b64encode(b"abc:" + canary.encode()),
        canary.encode().hex().encode(),
    ):
        assert any(form in told for form in forms(canary)), told


def hook(name: str, url: str, **config: str) -> dict[str, Any]:
    return {
        "name": name,
        "isActive": True,
        "events": [{"entityName": "*", "actionName": "*"}],
        "config": {"Payload URL": url, "Content Type": "json", "Retry Schedule": "0", "Max Retries": "1"}
        | config,
    }


def hooks(echo: Echo, identity: Any, jwt_pem: str) -> list[dict[str, Any]]:
    """A hook with each kind of secret, all of them failing."""
    url = f"http://127.0.0.1:{echo.port}"
    return [
        hook("signing", f"{url}/signing", Secret=NAMES["signing"], Headers=f"X-Partner: {NAMES['header']}"),
        hook(
            "basic",
            f"{url}/basic",
            Authentication="basic",
            Username="u",
            Password=NAMES["basic"],
        ),
        hook(
            "api-key",
            f"{url}/api-key",
            **{"Authentication": "api-key", "API Key Header": "X-Api-Key", "API Key": NAMES["api"]},
        ),
        hook(
            "jwt",
            f"{url}/jwt",
            **{"Authentication": "jwt", "JWT Algorithm": "HS256", "JWT Issuer": "i", "JWT Key": NAMES["jwt"]},
        ),
        hook(
            "jwt-pem",
            f"{url}/jwt-pem",
            **{"Authentication": "jwt", "JWT Algorithm": "ES256", "JWT Issuer": "i", "JWT Key": jwt_pem},
        ),
        hook(
            "oauth2",
            f"{url}/oauth2",
            **{"Authentication": "oauth2", "Token URL": f"{url}/token", "Client ID": "c"},
            **{"Client Secret": NAMES["oauth2"]},
        ),
        hook(
            "mutual-tls",
            "https://127.0.0.1:9/mutual-tls",
            **{"Client Certificate": identity.certificate, "Client Key": identity.key},
        ),
    ]


def event() -> dict[str, Any]:
    secret = NAMES["event"]
    inner = {
        "apiKey": secret,
        "list": [{"Token": secret}, [{"client_secret": [secret]}]],
        "X-Auth-Token": secret,
    }
    return {
        "entityName": "USER",
        "actionName": "CREATE",
        "request": {"username": "a", "password": secret, "repeatPassword": secret, "deep": {"er": inner}},
        "response": {"resourceId": 1, "base64EncodedAuthenticationKey": secret},
    }


def bad_requests(service: ServiceProcess, hook_id: int) -> list[Any]:
    """Requests that hold a secret and are refused, with what was answered."""
    bad = NAMES["bad"]
    config = {
        "Payload URL": "ftp://x",
        "Content Type": "json",
        "Secret": bad,
        "Password": bad,
        "JWT Key": bad,
    }
    wrong = base64.b64encode(f"admin:{NAMES['wrong']}".encode()).decode()
    return [
        service.call("POST", "hooks", {"name": "Web", "events": [], "config": config}),
        service.call("PUT", f"hooks/{hook_id}", {"config": {"Headers": f"Host: {bad}", "Client Key": bad}}),
        service.call("POST", f"hooks/{hook_id}?command=rotateSecret", {"secret": bad}),
        service.call("POST", "operators", {"username": "x", "password": bad, "role": "king"}),
        service.call("POST", "apikeys", {"name": "x", "password": bad, "role": "viewer"}),
        service.call("POST", "clients", {"firstname": "x", "password": bad}),
        service.call("POST", "events", event() | {"password": bad}),
        service.call("POST", "events", f'{{"entityName":"USER","password":"{bad}"'.encode()),
        service.call("POST", "authentication", {"username": "admin", "password": NAMES["wrong"]}),
        service.call("GET", "hooks", Authorization=f"Basic {wrong}"),
        service.call("GET", "hooks", Authorization=f"Bearer {NAMES['forgotten']}"),
        service.call("GET", "hooks", Authorization=f"Bearer emk_0123456789abcdef_{NAMES['forgotten']}"),
    ]


def every_get(service: ServiceProcess, ids: dict[str, str]) -> dict[str, str]:
    """The answer of every GET there is, by path."""
    answers = {}
    for path, methods in service.ok("GET", "/openapi.json")["paths"].items():
        if "get" in methods:
            target = re.sub(r"\{(\w+)\}", lambda found: ids.get(found[1], "1"), path)
            answers[path] = json.dumps(service.call("GET", target)[1])
    for path in ("/metrics", "/healthz", "/readyz", "/.well-known/embarc/keys", "/openapi.json", "/docs"):
        answers[path] = json.dumps(service.call("GET", path)[1])
    return answers


def searched(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if ".key" not in file.name}


def found(canaries: dict[str, str], places: dict[str, bytes]) -> list[tuple[str, str]]:
    return [
        (name, place)
        for name, canary in canaries.items()
        for place, content in places.items()
        if any(form in content for form in forms(canary))
    ]


async def test_no_secret_is_found_again(echo: Echo, tmp_path: Path) -> None:
    identity = Authority().issue(address=None)
    jwt_key = ec.generate_private_key(ec.SECP256R1())
    jwt_pem = jwt_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    service = await asyncio.to_thread(
        ServiceProcess, tmp_path, "--log-level", "debug", EMBARC_KEY=KEY, EMBARC_PRODUCTION="1"
    )

    made = [
        await asyncio.to_thread(service.ok, "POST", "hooks", one) for one in hooks(echo, identity, jwt_pem)
    ]
    first = made[0]["resourceId"]
    operator = {"username": "jane", "role": "viewer", "password": NAMES["operator"]}
    jane = (await asyncio.to_thread(service.ok, "POST", "operators", operator))["resourceId"]
    await asyncio.to_thread(service.ok, "PUT", f"operators/{jane}", {"password": NAMES["changed"]})
    key = await asyncio.to_thread(service.ok, "POST", "apikeys", {"name": "core", "role": "administrator"})
    await asyncio.to_thread(service.ok, "GET", "hooks", Authorization=f"Bearer {key['key']}")
    accepted = await asyncio.to_thread(service.ok, "POST", "events", event())
    paths = [f"/{name}" for name in ("signing", "basic", "api-key", "jwt", "jwt-pem", "oauth2")]
    await echo.received(*(f"POST {path} HTTP" for path in paths))
    await asyncio.to_thread(
        service.ok, "POST", f"hooks/{first}?command=rotateSecret", {"secret": NAMES["rotated"]}
    )
    made_up = (await asyncio.to_thread(service.ok, "POST", f"hooks/{first}?command=rotateSecret"))["secret"]
    for one in made:
        await asyncio.to_thread(service.ok, "POST", f"hooks/{one['resourceId']}?command=ping")
    refused = await asyncio.to_thread(bad_requests, service, first)
    event_id = accepted["eventId"]
    ids = {
        "hookId": str(first),
        "eventId": event_id,
        "operatorId": str(jane),
        "deliveryId": f"dlv_{event_id.removeprefix('evt_')}_{made[1]['resourceId']}",
    }
    answers = await asyncio.to_thread(every_get, service, ids)
    for one in made:
        delivery = f"dlv_{event_id.removeprefix('evt_')}_{one['resourceId']}"
        for path in (f"deliveries/{delivery}", f"hooks/{one['resourceId']}"):
            answers[path] = json.dumps((await asyncio.to_thread(service.call, "GET", path))[1])

    canaries = NAMES | {"key": KEY, "admin": PASSWORD, "API key": key["key"], "made up": made_up}
    canaries |= {f"made up {place}": one["secret"] for place, one in enumerate(made) if "secret" in one}
    canaries |= {"client key": identity.key.splitlines()[1], "JWT PEM": jwt_pem.splitlines()[1]}
    canaries["JWT"] = re.findall(rb"Authorization: Bearer (\S+)", b"".join(echo.arrived))[0].decode()
    places = {f"GET {path}": answer.encode() for path, answer in answers.items()}
    places |= {f"refused {place}": json.dumps(answer).encode() for place, answer in enumerate(refused)}
    running = searched(tmp_path)
    service.kill()
    log = (tmp_path / "stderr.log").read_bytes()

    # The run was what it was meant to be: everything was sent, refused, logged, and answered.
    sent = b"".join(echo.arrived)
    assert all(NAMES[name].encode() in sent for name in ("api", "token", "header"))
    told = "".join(answers.values())
    assert all(f"{one}: ****" in told for one in ("X-Partner", "X-Api-Key"))  # sent back, and not kept
    assert all(f"Authorization: {one} ****" in told for one in ("Basic", "Bearer"))
    assert all(400 <= status < 500 for status, _ in refused), refused
    assert b"delivery.attempted" in log
    assert {"embarc.db", "embarc.db-wal", "stderr.log"} <= set(running)
    assert any("fingerprints" in answer for answer in answers.values())
    assert found(canaries, places) == []
    assert found(canaries, running) == []
    assert found(canaries, searched(tmp_path)) == []

    clean = {name: value for name, value in os.environ.items() if not name.startswith("EMBARC_")}
    command = [str(Path(sys.executable).with_name("embarc")), "keys", "rotate", "--data", "--store"]
    done = await asyncio.to_thread(
        subprocess.run,
        [*command, f"sqlite:///{tmp_path / 'embarc.db'}"],
        env=clean | {"EMBARC_KEY": KEY},
        capture_output=True,
        check=True,
    )
    assert found(canaries, searched(tmp_path) | {"output": done.stdout + done.stderr}) == []
