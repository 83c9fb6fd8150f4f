"""The seam to the outer network: one verb."""

from __future__ import annotations

from dataclasses import field
from typing import Protocol

from embarc.core.attempts import Outcome
from embarc.core.values import value


@value
class TlsMaterial:
    """Certificates of a hook's own, in PEM: what it shows for mutual TLS, and whom it trusts instead of the system's."""

    certificate: bytes
    key: bytes = field(repr=False)
    authorities: bytes


@value
class OutboundRequest:
    """One POST, ready to send. `header_lines` are `Name: value`, already checked, `Content-Type` first; `body` goes
    out as it is.

    `timeout_seconds` bounds the whole exchange: name resolution, connect, TLS, request and answer.
    """

    tenant: str
    url: str
    header_lines: list[str] = field(repr=False)  # they carry credentials
    body: bytes = field(repr=False)
    timeout_seconds: float
    tls: TlsMaterial | None = None


class Transport(Protocol):
    """Sends requests to addresses it has checked.

    Contract:
    * `send` never raises for what a receiver, a resolver or a network does: that is an `Outcome`.
    * It ends within the request's timeout plus one second.
    * The address connected to was checked by `core.addresses` in this exchange or when its pooled
      connection was opened; redirects are not followed; nothing is decompressed; at most
      `ANSWER_BODY_LIMIT` bytes of the answer are kept.
    * Connections are pooled and never shared between tenants.
    """

    async def send(self, request: OutboundRequest) -> Outcome:
        """One exchange, to its end."""
        ...

    async def close(self) -> None:
        """Close every connection. Exchanges under way end as `Result.RESET`."""
        ...
