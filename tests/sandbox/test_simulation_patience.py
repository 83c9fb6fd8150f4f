"""What the simulation's client does while the platform restarts: a command is sent again, and is the same command."""

from __future__ import annotations

import asyncio
import json

import pytest

from embarc.sandbox.simulate import Api, PlayFailed
from embarc.testing.receiver import ScriptedReceiver


def answer(status: int, body: object) -> bytes:
    text = json.dumps(body)
    return f"HTTP/1.1 {status} Scripted\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


REACHED = answer(200, [])
DONE = answer(200, {"resourceId": 7})
AWAY = answer(503, {"defaultUserMessage": "starting"})


def api_of(receiver: ScriptedReceiver, patience_seconds: float = 60) -> Api:
    return Api(f"http://127.0.0.1:{receiver.port}", "admin", "x", patience_seconds=patience_seconds)


async def test_what_was_not_answered_is_sent_again_under_the_same_key() -> None:
    async with ScriptedReceiver().answers(REACHED, "drop", AWAY, DONE, DONE) as receiver:
        api = api_of(receiver)
        await asyncio.to_thread(api.ok, "/offices")
        done = await asyncio.to_thread(api.call, "POST", "/clients", {"firstname": "Asha"})
        await asyncio.to_thread(api.call, "POST", "/clients", {"firstname": "Asha"})
        api.close()

    _, *same, another = receiver.requests
    keys = [request.header("idempotency-key") for request in (*same, another)]
    assert (done.status, done.json) == (200, {"resourceId": 7})
    assert len(same) == 3
    assert len(set(keys[:3])) == 1
    assert {(one.method, one.target, one.body) for one in same} == {
        ("POST", "/api/v1/clients", b'{"firstname": "Asha"}')
    }
    assert keys[3] != keys[0]


async def test_who_never_answered_is_not_waited_for() -> None:
    async with ScriptedReceiver().answers("drop") as receiver:
        api = api_of(receiver)
        with pytest.raises(PlayFailed, match="Is `embarc serve --sandbox` running there"):
            await asyncio.to_thread(api.call, "POST", "/clients", {})
        api.close()

    assert len(receiver.requests) == 1


@pytest.mark.parametrize("failure", ["drop", AWAY], ids=["no answer", "503"])
async def test_patience_ends(failure: str | bytes) -> None:
    async with ScriptedReceiver().answers(REACHED, failure) as receiver:
        api = api_of(receiver, patience_seconds=0.5)
        await asyncio.to_thread(api.ok, "/offices")
        with pytest.raises(PlayFailed):
            await asyncio.to_thread(api.ok, "/offices")
        api.close()

    assert len(receiver.requests) > 2
