"""The guard at every door: what may not be sent to is refused when it is saved, and again when it is sent to."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from embarc.core.addresses import Policy
from embarc.core.attempts import Outcome, Result
from embarc.core.errors import Invalid
from embarc.core.urls import BadUrl, parse_url
from embarc.engine.deliver import Deliverer
from embarc.engine.ping import Pinger
from embarc.engine.replay import Replayer
from embarc.testing.engine import EngineLab
from embarc.testing.receiver import ScriptedReceiver

HOSTILE = [
    line.replace("<CR>", "\r").replace("<LF>", "\n").replace("<SPACE>", " ")
    for line in (Path(__file__).parent.parent / "data" / "hostile_urls.txt")
    .read_text(encoding="utf-8")
    .splitlines()
]
NAMES = {
    "inside.example": "10.0.0.1",
    "loopback.example": "127.0.0.1",
    "mapped.example": "::ffff:127.0.0.1",
    "nat64.example": "64:ff9b::7f00:1",
    "mixed.example": "93.184.216.34 127.0.0.1",
    "mixed-families.example": "2606:2800:220:1::1 fd00:ec2::254",
    "metadata.example": "169.254.169.254",
    "alibaba.example": "100.100.100.200",
    "azure.example": "168.63.129.16",
    "localhost": "127.0.0.1 ::1",
    "public.example": "93.184.216.34",
}
DENIED_NAMES = [name for name in NAMES if name != "public.example"]
TOKEN_URL = "Token URL"


class Sockets:
    """Every socket that the transport opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[Any] = []
        real = socket.socket

        def spy(*arguments: Any) -> socket.socket:
            self.opened.append(arguments)
            return real(*arguments)

        monkeypatch.setattr("embarc.net.connections.socket", SimpleNamespace(socket=spy))


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Sockets:
    return Sockets(monkeypatch)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Who would notice a connection to this machine, on either family."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listening:
        listening.setblocking(False)
        yield listening


@pytest.fixture
async def strict(tmp_path: Path, listener: socket.socket) -> AsyncIterator[EngineLab]:
    """An installation that allows public addresses only; also on the listener's port, so that the address alone decides."""
    ports = frozenset({80, 443, 8443, listener.getsockname()[1]})
    started = await EngineLab(
        f"sqlite:///{tmp_path / 'embarc.db'}", policy=Policy(ports=ports), names=NAMES
    ).start()
    yield started
    await started.stop()


def body(url: str, **config: str) -> dict[str, Any]:
    return {
        "name": "Web",
        "isActive": True,
        "events": [{"entityName": "CLIENT", "actionName": "CREATE"}],
        "config": {"Payload URL": url, "Content Type": "json"} | config,
    }


def oauth(token_url: str) -> dict[str, str]:
    return {
        "Authentication": "oauth2",
        TOKEN_URL: token_url,
        "Client ID": "embarc",
        "Client Secret": "a-long-s3cret",
    }


def reached(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def variants(url: str, listener: socket.socket) -> list[str]:
    """The line with http and with https, and where its address is the point, at a port where somebody listens."""
    both = [url, url.replace("http://", "https://", 1)]
    try:
        known = parse_url(url)
    except BadUrl:
        return both
    if known.host == "ex.com":  # its port or its path is the point
        return both
    at_listener = f"https://{known.bracketed_host}:{listener.getsockname()[1]}{known.target}"
    return [*both, at_listener, at_listener.replace("https", "http", 1)]


async def test_no_hostile_url_is_saved_by_any_door(
    strict: EngineLab, listener: socket.socket, sockets: Sockets
) -> None:
    created = await strict.hooks.create("default", body("https://public.example/hook"))

    accepted = []
    for url in (url for line in HOSTILE for url in variants(line, listener)):
        for attempt in (
            strict.hooks.create("default", body(url)),
            strict.hooks.update("default", str(created.hook.id), body(url)),
            strict.hooks.create("default", body("https://public.example/hook", **oauth(url))),
        ):
            try:
                await attempt
                accepted.append(url)
            except Invalid:
                continue

    assert accepted == []
    assert await strict.hooks.list("default") == [created.hook]
    assert sockets.opened == []
    assert not reached(listener)


@pytest.mark.parametrize("name", DENIED_NAMES)
async def test_no_name_of_a_denied_address_is_saved_by_any_door(strict: EngineLab, name: str) -> None:
    created = await strict.hooks.create("default", body("https://public.example/hook"))
    url = f"https://{name}/hook"

    for attempt in (
        strict.hooks.create("default", body(url)),
        strict.hooks.update("default", str(created.hook.id), body(url)),
        strict.hooks.create("default", body("https://public.example/hook", **oauth(url))),
    ):
        with pytest.raises(Invalid) as refused:
            await attempt
        assert "private, local or reserved" in refused.value.errors[0].message


async def test_a_name_that_has_no_address_yet_may_be_saved(strict: EngineLab) -> None:
    created = await strict.hooks.create("default", body("https://not-yet.example/hook"))

    assert created.hook.endpoint.url == "https://not-yet.example/hook"


async def stored(engine: EngineLab, url: str, **config: str) -> int:
    """A hook that got past the checks of saving, as one of an older version or of a looser policy may have."""
    created = await engine.hooks.create("default", body("https://public.example/hook"))
    known = {"Client Secret"}
    changed = replace(
        created.hook,
        config={"Content Type": "json", "Payload URL": url}
        | {name: value for name, value in config.items() if name not in known},
        credentials={name: value for name, value in config.items() if name in known},
    )
    await engine.store.replace_hook(changed)
    await engine.registry.refresh()
    return created.hook.id


async def sent_by_every_way(engine: EngineLab, hook_id: int) -> list[Outcome]:
    """What came of a delivery, its replay, and a ping."""
    receipt = await engine.publish()
    delivered = await engine.next_attempt()
    replayer = Replayer(engine.store, engine.registry, engine.dispatcher.wake)
    await replayer.replay("default", f"dlv_{receipt.event_ids[0].removeprefix('evt_')}_{hook_id}")
    replayed = await engine.next_attempt()
    deliverer = Deliverer(engine.transport, clock=time.time, chance=random.random, worker="test")
    pinger = Pinger(
        engine.hooks,
        deliverer,
        clock=time.time,
        monotonic=time.monotonic,
        random_bits=random.getrandbits,
    )
    pinged = await pinger.ping("default", str(hook_id))
    return [delivered.attempt.outcome, replayed.attempt.outcome, pinged.outcome]


async def test_no_hostile_url_is_sent_to_although_it_is_stored(
    strict: EngineLab, listener: socket.socket, sockets: Sockets
) -> None:
    for url in (url for line in HOSTILE for url in variants(line, listener)):
        hook_id = await stored(strict, url)
        outcomes = await sent_by_every_way(strict, hook_id)
        await strict.hooks.delete("default", str(hook_id))
        assert {outcome.result for outcome in outcomes} <= {Result.DENIED, Result.DNS}, url

    assert sockets.opened == []
    assert not reached(listener)


async def test_no_hostile_token_url_is_asked_although_it_is_stored(
    strict: EngineLab, listener: socket.socket, sockets: Sockets
) -> None:
    for url in (url for line in HOSTILE for url in variants(line, listener)):
        hook_id = await stored(strict, "https://public.example/hook", **oauth(url))
        outcomes = await sent_by_every_way(strict, hook_id)
        await strict.hooks.delete("default", str(hook_id))
        assert {outcome.result for outcome in outcomes} == {Result.CREDENTIAL}, url
        assert {outcome.detail for outcome in outcomes} <= {"the token URL: denied", "the token URL: dns"}

    assert sockets.opened == []
    assert not reached(listener)


@pytest.mark.parametrize("name", DENIED_NAMES)
async def test_no_name_of_a_denied_address_is_sent_to_by_any_way(
    strict: EngineLab, listener: socket.socket, sockets: Sockets, name: str
) -> None:
    url = f"https://{name}:{listener.getsockname()[1]}/hook"
    hook_id = await stored(strict, url)
    outcomes = await sent_by_every_way(strict, hook_id)
    await strict.hooks.delete("default", str(hook_id))
    hook_id = await stored(strict, "https://public.example/hook", **oauth(url))
    through_token = await sent_by_every_way(strict, hook_id)

    assert {outcome.result for outcome in outcomes} == {Result.DENIED}
    assert {outcome.detail for outcome in through_token} == {"the token URL: denied"}
    assert sockets.opened == []
    assert not reached(listener)


async def test_a_name_that_changes_its_address_after_it_was_saved_is_refused_at_the_next_connection(
    tmp_path: Path, sockets: Sockets, listener: socket.socket
) -> None:
    port = listener.getsockname()[1]
    policy = Policy(ports=frozenset({443, port}))
    engine = await EngineLab(
        f"sqlite:///{tmp_path / 'embarc.db'}", policy=policy, names={"rebinding.example": "93.184.216.34"}
    ).start()
    created = await engine.hooks.create("default", body(f"https://rebinding.example:{port}/"))

    engine.names.names["rebinding.example"] = "127.0.0.1"
    outcomes = await sent_by_every_way(engine, created.hook.id)

    assert {outcome.result for outcome in outcomes} == {Result.DENIED}
    assert sockets.opened == []
    assert not reached(listener)
    await engine.stop()


async def test_a_redirect_to_anywhere_is_not_followed(
    tmp_path: Path, listener: socket.socket, sockets: Sockets
) -> None:
    location = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    answers = [
        f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
        for status in (301, 302, 303, 307, 308)
    ]
    async with ScriptedReceiver().answers(*answers) as receiver:
        engine = await EngineLab(f"sqlite:///{tmp_path / 'embarc.db'}").start()
        await engine.hook(receiver.url)
        statuses = []
        for _ in answers:
            await engine.publish()
            statuses.append((await engine.next_attempt()).attempt.outcome.status)
        await engine.stop()

    assert statuses == [301, 302, 303, 307, 308]
    assert len(sockets.opened) == 1  # to the receiver: the spy does see
    assert not reached(listener)


async def test_a_stored_client_secret_does_not_follow_the_token_url_to_another_origin(
    engine: EngineLab,
) -> None:
    config = oauth("http://127.0.0.1:9/token")
    created = await engine.hooks.create("default", body("http://127.0.0.1:9/hook", **config))
    kept = config | {TOKEN_URL: "http://127.0.0.1:9/other"}
    moved = config | {TOKEN_URL: "http://127.0.0.2:9/token"}
    hook_id = str(created.hook.id)
    for secret in (None, "****cret"):
        shown = {"Client Secret": secret} if secret else {}
        without = {name: value for name, value in moved.items() if name != "Client Secret"}
        with pytest.raises(Invalid) as refused:
            await engine.hooks.update("default", hook_id, body("http://127.0.0.1:9/hook", **without, **shown))
        assert [error.parameter for error in refused.value.errors] == ["Client Secret"]

    same, _ = await engine.hooks.update(
        "default", hook_id, body("http://127.0.0.1:9/hook", **(kept | {"Client Secret": "****cret"}))
    )

    assert same.credentials == {"Client Secret": "a-long-s3cret"}


async def test_a_secret_given_in_a_change_is_a_rotation_with_overlap(engine: EngineLab) -> None:
    secrets = ["whsec_" + letter * 32 for letter in "ABCDEF"]
    created = await engine.hooks.create("default", body("http://127.0.0.1:9/hook", Secret=secrets[0]))
    for secret in secrets[1:]:
        hook, _ = await engine.hooks.update(
            "default", str(created.hook.id), body("http://127.0.0.1:9/hook", Secret=secret)
        )

    assert [one.text for one in hook.secrets] == secrets[:1:-1]
    assert hook.secrets[0].expires_at_ms is None
    ends = [one.expires_at_ms or 0 for one in hook.secrets[1:]]
    assert all(0 < end - engine.now() * 1000 <= 24 * 3_600_000 for end in ends)
