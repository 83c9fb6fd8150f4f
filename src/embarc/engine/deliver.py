"""Delivering: one claim, one HTTP attempt, one settlement."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from embarc.core.attempts import Attempt, Outcome, Result
from embarc.core.deliveries import Claim, Settlement, after
from embarc.core.envelopes import body_for, delivery_lines
from embarc.core.ids import event_id
from embarc.core.masking import redact
from embarc.engine.credentials import CannotAuthenticate, sent_secrets
from embarc.engine.registry import Prepared
from embarc.net.base import OutboundRequest, Transport


class Deliverer:
    """Sends what was claimed. Clock and chance are injected."""

    def __init__(
        self, transport: Transport, *, clock: Callable[[], float], chance: Callable[[], float], worker: str
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._chance = chance
        self._worker = worker

    async def deliver(self, claim: Claim, prepared: Prepared) -> Settlement:
        """Build the bytes, sign them, send them, and decide what the outcome means."""
        endpoint = prepared.hook.endpoint
        started_at = self._clock()
        body = body_for(endpoint, claim.payload)
        signature_lines = prepared.signer.header_lines(event_id(claim.event_key), int(started_at), body)

        request = OutboundRequest(
            tenant=claim.tenant,
            url=endpoint.url,
            header_lines=[*prepared.constant_lines, *delivery_lines(claim), *signature_lines],
            body=body,
            timeout_seconds=endpoint.timeout_seconds,
            tls=prepared.tls,
        )
        if prepared.authenticator is None:
            outcome = _redacted(await self._transport.send(request), prepared.secrets)
        else:
            outcome = await self._send_authenticated(request, claim, prepared)

        return Settlement(
            claim=claim,
            attempt=Attempt(
                number=claim.attempts + 1,
                started_at_ms=int(started_at * 1000),
                url=endpoint.url,
                outcome=outcome,
                worker=self._worker,
            ),
            verdict=after(
                claim.failures, outcome, endpoint.schedule, now_seconds=self._clock(), chance=self._chance()
            ),
        )

    async def _send_authenticated(
        self, request: OutboundRequest, claim: Claim, prepared: Prepared
    ) -> Outcome:
        """Send with a credential; once more with another one where it is refused. One timeout bounds it all."""
        authenticator = prepared.authenticator
        assert authenticator is not None  # noqa: S101 - the caller has looked
        began = time.monotonic()
        deadline = began + request.timeout_seconds
        outcome = Outcome(result=Result.CREDENTIAL)
        for is_last in (False, True):
            left = deadline - time.monotonic()
            if left <= 0:
                return Outcome(result=Result.TIMEOUT, duration_ms=(time.monotonic() - began) * 1000)
            try:
                async with asyncio.timeout(left):
                    lines = await authenticator.lines(claim, request.body, self._transport.send)
            except (CannotAuthenticate, TimeoutError) as error:
                duration_ms = (time.monotonic() - began) * 1000
                detail = str(error) or "the token URL did not answer in time"
                return Outcome(result=Result.CREDENTIAL, detail=detail, duration_ms=duration_ms)
            outcome = await self._transport.send(
                replace(
                    request,
                    header_lines=[*request.header_lines, *lines],
                    timeout_seconds=max(deadline - time.monotonic(), 0.001),
                )
            )
            outcome = _redacted(outcome, (*prepared.secrets, *sent_secrets(lines)))
            if is_last or outcome.status != 401 or not authenticator.refused(lines):
                break
        return outcome


def _redacted(outcome: Outcome, secrets: Sequence[bytes]) -> Outcome:
    """The outcome without what a receiver has sent back of the credentials that it got."""
    if not secrets or not (outcome.head or outcome.body):
        return outcome
    head, body = redact(outcome.head, secrets), redact(outcome.body, secrets)
    return (
        outcome if head is outcome.head and body is outcome.body else replace(outcome, head=head, body=body)
    )
