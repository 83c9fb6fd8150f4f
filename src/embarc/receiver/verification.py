"""Verifying a webhook: the signature, over the raw bytes, before anything is parsed.

Rules of this file:
* Whatever a request contains, the answer is `Verified` or `VerificationError`. A hostile request must not turn into
  a 500 of the receiver.
* Mistakes of the receiver's own code (no secret, a body that is not bytes) are ValueError or TypeError, at once.
* One good signature of a known version is enough; unknown versions are ignored (Standard Webhooks 1.0).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from embarc.core.signatures import PUBLIC_KEY_PREFIX, Hmac, parse_secret

if TYPE_CHECKING:
    from embarc.receiver.ed25519 import PublicKey

DEFAULT_TOLERANCE_SECONDS = 300.0
MOST_SIGNATURES = 10
_LONGEST_HEADER = 8192

Headers = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]


class Reason(StrEnum):
    """Why a request was not verified."""

    MISSING_HEADER = "missing_header"
    MALFORMED_HEADER = "malformed_header"
    TOO_OLD = "too_old"
    TOO_NEW = "too_new"
    NO_MATCH = "no_match"
    BODY_CHANGED = "body_changed"


class VerificationError(Exception):
    """The request is not a webhook that this secret signed. Answer 401 and do nothing with it."""

    def __init__(self, reason: Reason, message: str) -> None:
        self.reason = reason
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Verified:
    """A webhook whose signature is valid. `id` is the same on every try and every replay: de-duplicate by it."""

    id: str
    timestamp: int
    """Unix seconds of this attempt, not of the event."""
    body: bytes = field(repr=False)
    kind: str = ""
    """Such as `CLIENT.CREATE`."""
    attempt: int = 1
    is_replay: bool = False

    def json(self) -> Any:
        """The body's JSON value."""
        return json.loads(self.body)


def verify(
    headers: Headers,
    body: bytes | bytearray | memoryview,
    secrets: str | Sequence[str],
    *,
    tolerance_seconds: float = DEFAULT_TOLERANCE_SECONDS,
    now: Callable[[], float] = time.time,
) -> Verified:
    """Check that `body`, the raw bytes as they arrived, was signed with one of the `secrets`.

    `headers` may be any mapping, or pairs; names in any case. `secrets` is one `whsec_...` or several while a
    secret rotates; a hook's public key, `whpk_...`, may be among them and needs the package `cryptography`. `tolerance_seconds` bounds the attempt's age in both directions; `now` gives Unix seconds.

    Raises `VerificationError` for anything that is wrong with the request, ValueError or TypeError for a secret
    or a body that is wrong in the receiver's own code.
    """
    if not isinstance(body, bytes | bytearray | memoryview):
        raise TypeError(
            f"verify needs the raw bytes of the body, not {type(body).__name__}: a body that was parsed and "
            "serialised again is not what was signed."
        )
    keys, public_keys = _keys(secrets)
    raw = bytes(body)
    found = _headers(headers)
    if "webhook-signature" in found:
        verified = _standard(found, raw, keys, public_keys, tolerance_seconds, now())
    elif "x-embarc-signature" in found:
        verified = _stripe(found, raw, keys, tolerance_seconds, now())
    else:
        raise VerificationError(Reason.MISSING_HEADER, "The request has no webhook-signature header.")
    return verified


def _standard(
    headers: dict[str, str],
    body: bytes,
    keys: list[tuple[bytes, bytes]],
    public_keys: list[PublicKey],
    tolerance: float,
    now: float,
) -> Verified:
    event_id = _required(headers, "webhook-id")
    timestamp = _timestamp(_required(headers, "webhook-timestamp"), tolerance, now)
    prefix = f"{event_id}.{headers['webhook-timestamp']}.".encode()
    given, asymmetric = [], []
    for entry in headers["webhook-signature"].split():
        version, _, encoded = entry.partition(",")
        if version == "v1" and encoded:
            given.append(_base64(encoded))
        elif version == "v1a" and encoded:
            asymmetric.append(_base64(encoded))
    _limit([*given, *asymmetric])

    def matches(other: bytes) -> bool:
        return _any_equal(given, [Hmac(key).digest(prefix, other) for key, _ in keys]) or any(
            key.verifies(one, prefix + other) for key in public_keys for one in asymmetric
        )

    if not matches(body):
        raise _mismatch(body, matches)
    return _verified(headers, event_id, timestamp, body)


def _stripe(
    headers: dict[str, str], body: bytes, keys: list[tuple[bytes, bytes]], tolerance: float, now: float
) -> Verified:
    parts = [part.strip().partition("=") for part in headers["x-embarc-signature"].split(",")]
    times = [value for name, _, value in parts if name == "t"]
    if len(times) != 1:
        raise VerificationError(Reason.MALFORMED_HEADER, "X-Embarc-Signature must have exactly one t=.")
    timestamp = _timestamp(times[0], tolerance, now)
    given = [_hexadecimal(value) for name, _, value in parts if name == "v1"]
    _limit(given)
    prefix = f"{times[0]}.".encode()
    if not _any_equal(given, [Hmac(text).digest(prefix, body) for _, text in keys]):
        raise _mismatch(
            body, lambda other: _any_equal(given, [Hmac(text).digest(prefix, other) for _, text in keys])
        )
    return _verified(headers, headers.get("webhook-id", ""), timestamp, body)


def _keys(secrets: str | Sequence[str]) -> tuple[list[tuple[bytes, bytes]], list[PublicKey]]:
    """For each secret the key of either scheme; and the public keys."""
    listed = [secrets] if isinstance(secrets, str) else list(secrets)
    if not listed:
        raise ValueError("verify needs at least one secret.")
    for secret in listed:
        if not isinstance(secret, str):
            raise TypeError(f"A secret is text, `whsec_...`, not {type(secret).__name__}.")
    public = [text for text in listed if text.startswith(PUBLIC_KEY_PREFIX)]
    shared = [text for text in listed if not text.startswith(PUBLIC_KEY_PREFIX)]
    return [(parse_secret(text), text.encode()) for text in shared], _public_keys(public)


def _public_keys(texts: list[str]) -> list[PublicKey]:
    if not texts:
        return []
    from embarc.receiver.ed25519 import PublicKey  # only here: HMAC needs nothing but the standard library

    return [PublicKey(text) for text in texts]


def _headers(headers: Headers) -> dict[str, str]:
    """The headers of ours by lower-case name. A repeated signature header counts as one list."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    found: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name = (raw_name.decode("latin-1") if isinstance(raw_name, bytes) else str(raw_name)).strip().lower()
        if not name.startswith(("webhook-", "x-embarc-")):
            continue
        value = (raw_value.decode("latin-1") if isinstance(raw_value, bytes) else str(raw_value)).strip()
        if name in found:
            if name != "webhook-signature":
                raise VerificationError(
                    Reason.MALFORMED_HEADER, f"The header {name} is there more than once."
                )
            value = f"{found[name]} {value}"
        if len(value) > _LONGEST_HEADER:
            raise VerificationError(Reason.MALFORMED_HEADER, f"The header {name} is too long.")
        found[name] = value
    return found


def _required(headers: dict[str, str], name: str) -> str:
    value = headers.get(name, "")
    if not value:
        raise VerificationError(Reason.MISSING_HEADER, f"The request has no {name} header.")
    return value


def _timestamp(text: str, tolerance: float, now: float) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise VerificationError(
            Reason.MALFORMED_HEADER, "The signature's timestamp is not whole Unix seconds."
        )
    timestamp = int(text)
    if timestamp < now - tolerance:
        raise VerificationError(
            Reason.TOO_OLD,
            f"The webhook was signed {now - timestamp:.0f} s ago, more than the {tolerance:g} s tolerated. "
            "Is it a replay by a third party, or is this machine's clock ahead?",
        )
    if timestamp > now + tolerance:
        raise VerificationError(
            Reason.TOO_NEW,
            f"The webhook was signed {timestamp - now:.0f} s in the future, more than the {tolerance:g} s tolerated. "
            "Is this machine's clock behind?",
        )
    return timestamp


def _limit(given: list[bytes]) -> None:
    if not given:
        raise VerificationError(Reason.MALFORMED_HEADER, "The request has no signature of a known version.")
    if len(given) > MOST_SIGNATURES:
        raise VerificationError(
            Reason.MALFORMED_HEADER, f"The request has more than {MOST_SIGNATURES} signatures."
        )


def _any_equal(given: list[bytes], computed: list[bytes]) -> bool:
    """Whether any pair is equal, without telling by its duration which."""
    equal = False
    for one in given:
        for other in computed:
            equal |= hmac.compare_digest(one, other)
    return equal


def _mismatch(body: bytes, matches: Callable[[bytes], bool]) -> VerificationError:
    """The error; where the body matches in another spelling of its JSON, it says what happened to it."""
    try:
        value = json.loads(body)
        spellings = (
            json.dumps(value, separators=(",", ":"), ensure_ascii=False),
            json.dumps(value, separators=(",", ":")),
        )
        was_changed = any(matches(spelling.encode()) for spelling in spellings)
    except (ValueError, RecursionError):
        was_changed = False
    if was_changed:
        return VerificationError(
            Reason.BODY_CHANGED,
            "The body was parsed and serialised again before verification: pass the raw bytes as they arrived.",
        )
    return VerificationError(
        Reason.NO_MATCH,
        "No signature matches. Is this the secret of this hook, and the body its raw bytes as they arrived?",
    )


def _verified(headers: dict[str, str], event_id: str, timestamp: int, body: bytes) -> Verified:
    attempt = headers.get("x-embarc-attempt", "")
    return Verified(
        id=event_id,
        timestamp=timestamp,
        body=body,
        kind=headers.get("x-embarc-event", ""),
        attempt=int(attempt) if attempt.isascii() and attempt.isdigit() and len(attempt) < 10 else 1,
        is_replay=headers.get("x-embarc-replay") == "1",
    )


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""  # matches nothing; another entry may be good


def _hexadecimal(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
