"""Delivering: one claim, one HTTP attempt, one settlement."""

from __future__ import annotations

from collections.abc import Callable

from embarc.core.attempts import Attempt
from embarc.core.deliveries import Claim, Settlement, after
from embarc.core.envelopes import body_for, delivery_lines
from embarc.core.ids import event_id
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

        outcome = await self._transport.send(
            OutboundRequest(
                tenant=claim.tenant,
                url=endpoint.url,
                header_lines=[*prepared.constant_lines, *delivery_lines(claim), *signature_lines],
                body=body,
                timeout_seconds=endpoint.timeout_seconds,
            )
        )

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
