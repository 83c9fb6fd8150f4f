"""Attempts: one HTTP try of one delivery, written once and never changed.

An `Outcome` says what happened on the wire; it is a value, because a receiver's 500 is a normal day.
What follows from it is decided in `deliveries.after`.
"""

from __future__ import annotations

from enum import StrEnum

from embarc.core.values import value

ANSWER_BODY_LIMIT = 16 * 1024
"""Bytes of the answer that are kept: enough to debug, too little to hoard."""


class Result(StrEnum):
    """How an attempt ended. `STATUS` means the receiver answered; everything else that it did not."""

    STATUS = "status"
    DNS = "dns"
    DENIED = "denied"
    REFUSED = "refused"
    CONNECT_TIMEOUT = "connect_timeout"
    TLS = "tls"
    TLS_TIMEOUT = "tls_timeout"
    TIMEOUT = "timeout"
    RESET = "reset"
    PROTOCOL = "protocol"
    TOO_LARGE = "too_large"
    CREDENTIAL = "credential"
    LOST = "lost"

    @property
    def meaning(self) -> str:
        """One sentence for people."""
        return _MEANING[self]


_MEANING = {
    Result.STATUS: "The receiver answered.",
    Result.DNS: "The host name could not be resolved.",
    Result.DENIED: "The address is not one that this installation may send to.",
    Result.REFUSED: "The receiver refused the connection or could not be reached.",
    Result.CONNECT_TIMEOUT: "No connection within the hook's timeout.",
    Result.TLS: "The TLS handshake failed or the certificate is not trusted.",
    Result.TLS_TIMEOUT: "The TLS handshake did not end within the hook's timeout.",
    Result.TIMEOUT: "The exchange did not end within the hook's timeout.",
    Result.RESET: "The receiver closed the connection before its answer was complete.",
    Result.PROTOCOL: "What the receiver answered is not HTTP.",
    Result.TOO_LARGE: "The receiver's answer exceeded the limit for headers or interim responses.",
    Result.CREDENTIAL: "No token for the endpoint could be had from its token URL.",
    Result.LOST: "The process that held this delivery ended before it could record a result. It may have been sent.",
}


@value
class Outcome:
    """What happened on the wire in one attempt."""

    result: Result
    status: int | None = None
    head: bytes = b""
    """The answer's header lines as they came; read by `headers` when somebody asks."""
    body: bytes = b""
    detail: str = ""
    duration_ms: float = 0.0
    phases_ms: tuple[tuple[str, float], ...] = ()

    @property
    def is_success(self) -> bool:
        """Whether the whole exchange ended in 2xx."""
        return self.result is Result.STATUS and self.status is not None and 200 <= self.status < 300

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The answer's headers, in order."""
        lines = (line.partition(":") for line in self.head.decode("latin-1").splitlines())
        return tuple((name.strip(), value.strip()) for name, colon, value in lines if colon)

    def header(self, name: str) -> str | None:
        """The first answer header of this name, or None."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)


@value
class Attempt:
    """The record of one try."""

    number: int
    started_at_ms: int
    url: str
    outcome: Outcome
    worker: str = ""
