"""What libcurl says about an exchange, in Embarc's words."""

from __future__ import annotations

import time
from typing import Any

import pycurl

from embarc.core.attempts import Outcome, Result

_RESULTS: dict[int, Result] = {
    pycurl.E_COULDNT_RESOLVE_HOST: Result.DNS,
    pycurl.E_COULDNT_CONNECT: Result.REFUSED,
    pycurl.E_OPERATION_TIMEDOUT: Result.TIMEOUT,
    pycurl.E_SSL_CONNECT_ERROR: Result.TLS,
    pycurl.E_PEER_FAILED_VERIFICATION: Result.TLS,
    pycurl.E_SSL_CERTPROBLEM: Result.TLS,
    pycurl.E_SSL_CIPHER: Result.TLS,
    pycurl.E_SSL_CACERT_BADFILE: Result.TLS,
    pycurl.E_GOT_NOTHING: Result.RESET,
    pycurl.E_RECV_ERROR: Result.RESET,
    pycurl.E_SEND_ERROR: Result.RESET,
    pycurl.E_PARTIAL_FILE: Result.RESET,
    pycurl.E_UNSUPPORTED_PROTOCOL: Result.PROTOCOL,
    8: Result.PROTOCOL,  # CURLE_WEIRD_SERVER_REPLY, for which pycurl has the old name of FTP
    100: Result.TOO_LARGE,  # CURLE_TOO_LARGE, for which pycurl has no name
}


def failure(result: Result, detail: str, started: float) -> Outcome:
    """An exchange that ended before libcurl had it. `started` is of the monotonic clock."""
    return Outcome(result=result, detail=detail, duration_ms=(time.monotonic() - started) * 1000)


def phases(curl: Any) -> tuple[tuple[str, float], ...]:
    """Milliseconds from the start until each phase was over, of an exchange that opened a connection. On a kept one there is
    only the wait for the answer, which the duration tells."""
    connect = ("connect", round(curl.getinfo(pycurl.CONNECT_TIME) * 1000, 3))
    tls = ("tls", round(curl.getinfo(pycurl.APPCONNECT_TIME) * 1000, 3))
    first_byte = ("first_byte", round(curl.getinfo(pycurl.STARTTRANSFER_TIME) * 1000, 3))
    return (connect, tls, first_byte) if tls[1] else (connect, first_byte)


def result_of(
    code: int, message: str, timings: dict[str, float], *, is_https: bool, has_begun: bool
) -> tuple[Result, str]:
    """What libcurl's error `code` means, and words for it. `has_begun`: some of the answer was there."""
    result = _RESULTS.get(code, Result.PROTOCOL)
    if result is Result.TIMEOUT:
        return _timeout(timings, is_https=is_https, has_begun=has_begun)
    if result is Result.RESET and "chunk" in message:  # libcurl has no code of its own for a bad one
        return Result.PROTOCOL, message
    if message.startswith("CONNECT tunnel failed"):
        return Result.REFUSED, message.replace("CONNECT tunnel failed", "the egress proxy refused")
    return result, message or result.meaning


def _timeout(timings: dict[str, float], *, is_https: bool, has_begun: bool) -> tuple[Result, str]:
    if "connect" in timings and not timings["connect"]:
        return Result.CONNECT_TIMEOUT, "no connection in time"
    if "connect" in timings and is_https and "tls" not in timings:
        return Result.TLS_TIMEOUT, "the TLS handshake did not end in time"
    return Result.TIMEOUT, "the answer did not end in time" if has_begun else "no answer in time"
