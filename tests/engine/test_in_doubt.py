"""A commit whose answer never came: whatever it brought about is not left to a lease that nobody holds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from embarc.core.errors import OutcomeUnknown
from embarc.testing.engine import EngineLab
from embarc.testing.proxy import FaultProxy
from embarc.testing.receiver import ScriptedReceiver

LONG_LEASE_SECONDS = 3600


@pytest.fixture
async def proxy(postgres_url: str) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(urlsplit(postgres_url).port or 5432) as opened:
        yield opened


@pytest.fixture
async def engine(postgres_url: str, proxy: FaultProxy) -> AsyncIterator[EngineLab]:
    url = urlsplit(postgres_url)._replace(netloc=f"postgres@127.0.0.1:{proxy.port}").geturl()
    started = await EngineLab(url).start(lease_seconds=LONG_LEASE_SECONDS)
    yield started
    await started.stop()


async def test_what_was_born_claimed_by_a_commit_in_doubt_is_sent_when_the_store_is_back(
    engine: EngineLab, proxy: FaultProxy, receiver: ScriptedReceiver
) -> None:
    """It used to wait until the lease had run out that nobody knew of: after a failover, a minute."""
    await engine.hook(receiver.url)
    first = await engine.publish()
    await engine.next_attempt()
    proxy.refuse()
    proxy.swallow_answers(1000)

    with pytest.raises(OutcomeUnknown):
        await engine.publish()
    proxy.swallow_answers(0)
    proxy.refuse(False)
    requests = await receiver.received(2)

    assert requests[0].header("webhook-id") == first.event_ids[0]
    assert requests[1].header("webhook-id") != first.event_ids[0]
