"""What must hold of every parser that reads hostile text, whatever it is given.

Hypothesis runs these in every test run; `make fuzz` has atheris search for inputs that reach every branch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from embarc.core.addresses import Policy
from embarc.core.attempts import Outcome, Result
from embarc.core.headers import RESERVED, RESERVED_PREFIXES, parse_header_lines
from embarc.core.schedules import parse_retry_after
from embarc.core.urls import BadUrl, checked_url, parse_url
from embarc.receiver import VerificationError, verify
from embarc.receiver.events import Event, NotAnEvent

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = 1_700_000_000.0


PIECES = [
    b"https://", b"http://", b"ex.com", b"127.0.0.1", b"[::1]", b"0x7f", b"@", b":", b"/", b"\\", b"%00", b"%2e", b"#", b"?",
    b".", b"..", b"xn--", "ü。①".encode(), b"443", b"\r\n", b"\n\n", b"X-A: b", b"Host: x", b"webhook-id:a", b"webhook-signature:",
    b"v1,", b"v1a,", b"AAAA", b"t=", b"v1=00", b"1700000000", b"120", b"-1", b"1e9", b"Wed, 21 Oct 2026 07:28:00 GMT",
    b"inf", b"nan", b'{"entityName":"A"', b"[" * 50, b"\0", b"\xff", b" ", b"\t",
]  # fmt: skip
"""What hostile text is made of."""
HOSTILE = (Path(__file__).parent.parent / "data" / "hostile_urls.txt").read_bytes().splitlines()


def url(data: bytes) -> None:
    """A URL is refused, or is canonical: it reads the same again, and has nothing that another parser could read otherwise."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        parsed = parse_url(text)
    except BadUrl:
        return
    assert parse_url(parsed.text) == parsed
    assert parse_url(parsed.text).text == parsed.text
    assert parsed.text.isascii()
    assert parsed.text.isprintable()
    assert not set(parsed.text) & set(' \\^`{|}<>"#')
    assert "@" not in parsed.text.split("/")[2]
    try:
        assert checked_url(text, Policy()) == parsed.text
    except BadUrl:
        return
    assert parsed.scheme == "https"
    assert parsed.port in (443, 8443)


def headers(data: bytes) -> None:
    """Configured header lines are refused, or cannot break out of their line or take a name of ours. An answer's are read."""
    text = data.decode("utf-8", "surrogateescape")
    outcome = Outcome(result=Result.STATUS, status=200, head=data)
    for name, value in outcome.headers:
        assert "\n" not in name + value
    assert outcome.header("retry-after") is None or b"etry-" in data or b"ETRY-" in data.upper()
    try:
        lines = parse_header_lines(text)
    except ValueError:
        return
    for line in lines:
        name, _, value = line.partition(": ")
        assert line.isascii()
        assert not set(line) & set("\r\n\0")
        assert name.lower() not in RESERVED
        assert not name.lower().startswith(RESERVED_PREFIXES)
        assert value


def signature(data: bytes) -> None:
    """A request is refused with the one typed error: nothing that a fuzzer makes is signed."""
    head, _, body = data.partition(b"\n\n")
    pairs: list[tuple[str | bytes, str | bytes]] = []
    for line in head.split(b"\n"):
        name, _, value = line.partition(b":")
        pairs.append((name, value))
    pairs += [(b"webhook-id", b"evt_1"), (b"webhook-timestamp", b"1700000000")]
    for secrets in (SECRET, [SECRET, "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="]):
        for given in (pairs, [(b"webhook-signature", head), *pairs[-2:]], [(b"x-embarc-signature", head)]):
            try:
                verify(given, body, secrets, now=lambda: NOW)
            except VerificationError:
                continue
            raise AssertionError("verified")
    try:
        Event.parse(data)
    except NotAnEvent:
        return


def retry_after(data: bytes) -> None:
    """A `Retry-After` is ignored, or a wait that is a number of seconds and not in the past."""
    wait = parse_retry_after(data.decode("latin-1"), NOW)
    assert wait is None or 0 <= wait < float("inf")


TARGETS: dict[str, Callable[[bytes], None]] = {
    "url": url,
    "headers": headers,
    "signature": signature,
    "retry-after": retry_after,
}
