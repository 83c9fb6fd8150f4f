"""A whole receiver: verify, de-duplicate, handle, answer. The adapters beside this file plug it into frameworks."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

from embarc.receiver.deduplication import Deduplicator, InProgress
from embarc.receiver.events import Event, NotAnEvent
from embarc.receiver.verification import Headers, VerificationError, Verified, verify

log = logging.getLogger("embarc.receiver")

Handler = Callable[[Event, Verified], Awaitable[None] | None]
"""Does the work of one event, and returns when it is committed. What it raises makes the sender try again."""
BODY_LIMIT = 2 * 1024 * 1024
"""Bytes: an event has at most one MiB."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What to answer: plain text, for the sender's log."""

    status: int
    text: str


class Receiver:
    """Answers 200 after the handler has committed, and for known duplicates; 401 for a bad signature; 503 while the same
    webhook is being handled; 500 where the handler failed. All but 200 are tried again by the sender."""

    def __init__(
        self,
        handler: Handler,
        secrets: str | Sequence[str] | Callable[[], str | Sequence[str]],
        *,
        deduplicator: Deduplicator | None = None,
        allowed_networks: Sequence[str] = (),
    ) -> None:
        """`secrets` may be a function, asked each time, so that a rotation needs no restart. `allowed_networks` are CIDRs
        that webhooks may come from; none: from anywhere, the signature decides."""
        self._handler = handler
        self._secrets = secrets
        self._deduplicator = deduplicator or Deduplicator()
        self._networks = [ip_network(text) for text in allowed_networks]

    def is_allowed(self, address: str) -> bool:
        """Whether a webhook may come from this address."""
        if not self._networks:
            return True
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped:  # as a socket of both families tells it
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in self._networks)

    def handle(self, headers: Headers, body: bytes, address: str = "") -> Answer:
        """The answer to one request; for handlers that are plain functions."""
        verified = self._verified(headers, body, address)
        if isinstance(verified, Answer):
            return verified
        event, webhook = verified
        try:
            with self._deduplicator.once(webhook.id) as is_new:
                if is_new and inspect.isawaitable(self._handler(event, webhook)):
                    raise TypeError("an async handler needs an ASGI adapter")
        except InProgress:
            return _BUSY
        except Exception:
            return _failed(webhook)
        return _ACCEPTED if is_new else _DUPLICATE

    async def handle_async(self, headers: Headers, body: bytes, address: str = "") -> Answer:
        """The same, for handlers of either colour. The ledger's calls block: they are short."""
        verified = self._verified(headers, body, address)
        if isinstance(verified, Answer):
            return verified
        event, webhook = verified
        try:
            with self._deduplicator.once(webhook.id) as is_new:
                if is_new:
                    working = self._handler(event, webhook)
                    if inspect.isawaitable(working):
                        await working
        except InProgress:
            return _BUSY
        except Exception:
            return _failed(webhook)
        return _ACCEPTED if is_new else _DUPLICATE

    def _verified(self, headers: Headers, body: bytes, address: str) -> tuple[Event, Verified] | Answer:
        if not self.is_allowed(address):
            return Answer(403, "not from here")
        try:
            secrets = self._secrets() if callable(self._secrets) else self._secrets
            webhook = verify(headers, body, secrets)
            if not webhook.id:
                return Answer(400, "the request has no webhook-id header")
            return Event.parse(webhook.body), webhook
        except VerificationError as error:
            return Answer(401, str(error))
        except NotAnEvent as error:
            return Answer(400, str(error))


_ACCEPTED = Answer(200, "accepted")
_DUPLICATE = Answer(200, "known already")
_BUSY = Answer(503, "the same webhook is being handled; try again")


def _failed(webhook: Verified) -> Answer:
    log.exception("the handler failed at webhook %s (%s)", webhook.id, webhook.kind)
    return Answer(500, "the handler failed; try again")
