"""A command that is sent again with its key happens once, and is told once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from embarc.testing.sandbox import LendingCore

ALICE = {"fullname": "Alice"}


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[LendingCore]:
    opened = LendingCore(tmp_path / "sandbox.db")
    yield opened
    await opened.close()


async def test_the_same_key_and_command_get_the_first_answer_and_tell_nothing_more(core: LendingCore) -> None:
    first = await core.call("POST", "/clients", ALICE, idempotency_key="k1")
    again = await core.call("POST", "/clients", ALICE, idempotency_key="k1")
    another = await core.call("POST", "/clients", ALICE, idempotency_key="k2")

    assert first.json == again.json
    assert again.headers["x-served-from-cache"] == "true"
    assert "x-served-from-cache" not in first.headers
    assert another.json != first.json
    assert core.kinds() == ["CLIENT.CREATE", "CLIENT.CREATE"]


async def test_a_key_that_was_another_commands_is_refused(core: LendingCore) -> None:
    await core.call("POST", "/clients", ALICE, idempotency_key="k1")

    other_body = await core.call("POST", "/clients", {"fullname": "Bob"}, idempotency_key="k1")
    other_path = await core.call("POST", "/clients/1?command=activate", ALICE, idempotency_key="k1")

    assert (other_body.status, other_path.status) == (422, 422)
    assert core.kinds() == ["CLIENT.CREATE"]


async def test_a_refused_command_may_be_sent_again_with_its_key(core: LendingCore) -> None:
    path = "/clients/1?command=activate"
    body = {"activationDate": "20 October 2025", "dateFormat": "dd MMMM yyyy", "locale": "en"}
    before = await core.call("POST", path, body, idempotency_key="k1")
    await core.ok("POST", "/clients", ALICE)

    after = await core.call("POST", path, body, idempotency_key="k1")

    assert (before.status, after.status) == (404, 200)


async def test_of_many_at_a_time_with_one_key_one_is_carried_out(core: LendingCore) -> None:
    answers = await asyncio.gather(
        *(core.call("POST", "/clients", ALICE, idempotency_key="k1") for _ in range(12))
    )

    assert {answer.status for answer in answers} == {200}
    assert len({answer.json["clientId"] for answer in answers}) == 1
    assert core.kinds() == ["CLIENT.CREATE"]


@pytest.mark.parametrize("key", ["", "k" * 201])
async def test_what_is_no_key_is_refused(core: LendingCore, key: str) -> None:
    answer = await core.call("POST", "/clients", ALICE, idempotency_key=key)

    assert answer.status == 400
    assert core.kinds() == []
