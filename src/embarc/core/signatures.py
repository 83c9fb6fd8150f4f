"""Signatures over the exact bytes of a send.

Two headers carry the same assurance in two dialects:
* `webhook-signature` of Standard Webhooks 1.0: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`, keyed with
  the decoded secret.
* `X-Embarc-Signature: t=...,v1=...`: hexadecimal HMAC-SHA256 over `t.body`, keyed with the secret's text. This is
  Stripe's scheme to the letter, so its verifiers in every language work.

Each has one signature for every live secret, so that a secret can be rotated without a gap. With a key of its own a hook's
sends carry `v1a,` besides or instead: base64 of the ed25519 signature over `id.timestamp.body`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence

SECRET_PREFIX = "whsec_"  # noqa: S105 - a prefix, not a secret
SHORTEST_SECRET = 24
LONGEST_SECRET = 64
NEW_SECRET_BYTES = 32

_BLOCK = 64
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


def new_secret(random_bytes: Callable[[int], bytes]) -> str:
    """A secret of 32 bytes as it is shown: `whsec_` and base64."""
    return SECRET_PREFIX + base64.b64encode(random_bytes(NEW_SECRET_BYTES)).decode()


KEY_PREFIX = "whsk_"
PUBLIC_KEY_PREFIX = "whpk_"
"""Of ed25519 keys as Standard Webhooks writes them: the seed, and the public key, each in base64."""


def parse_secret(text: str) -> bytes:
    """The key bytes of a shown secret, with or without its prefix.

    Raises ValueError with a sentence that tells what is wrong and never shows the secret. Missing base64
    padding is accepted, as in the reference libraries.
    """
    encoded = text.removeprefix(SECRET_PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("A secret is `whsec_` and base64; this one is not valid base64.") from None
    if not SHORTEST_SECRET <= len(key) <= LONGEST_SECRET:
        raise ValueError(
            f"A secret has {SHORTEST_SECRET} to {LONGEST_SECRET} bytes before encoding; this one has {len(key)}."
        )
    return key


class Hmac:
    """HMAC-SHA256 (RFC 2104) with one key, the padded key hashed once: half the cost of `hmac.new` for a webhook."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        if len(key) > _BLOCK:
            key = hashlib.sha256(key).digest()
        block = key.ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(block.translate(_INNER))
        self._outer = hashlib.sha256(block.translate(_OUTER))

    def digest(self, *parts: bytes) -> bytes:
        """The 32 bytes over the parts, one after the other."""
        inner = self._inner.copy()
        for part in parts:
            inner.update(part)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


class Signer:
    """Signs for one hook with all of its live secrets, newest first, and with its private key where it has one.

    `secrets` are texts and the Unix second at which each expires, None: never. `sign` makes an ed25519 signature.
    """

    __slots__ = ("_expires_at", "_keys", "_sign")

    def __init__(
        self,
        secrets: Sequence[tuple[str, float | None]],
        *,
        sign: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._keys = [
            (Hmac(parse_secret(secret)), Hmac(secret.encode()), expires_at) for secret, expires_at in secrets
        ]
        self._expires_at = min((at for _, at in secrets if at is not None), default=None)
        self._sign = sign

    def __repr__(self) -> str:
        return f"<Signer with {len(self._keys)} secrets>"

    def header_lines(self, event_id: str, timestamp: int, body: bytes) -> list[str]:
        """The header lines of one attempt; `timestamp` is its time in whole seconds."""
        if self._expires_at is not None and timestamp >= self._expires_at:
            self._forget(timestamp)
        standard_prefix = f"{event_id}.{timestamp}.".encode()
        prefix = b"%d." % timestamp
        standard = []
        hexadecimal = ""
        for standard_key, text_key, _ in self._keys:
            digest = standard_key.digest(standard_prefix, body)
            standard.append("v1," + binascii.b2a_base64(digest, newline=False).decode())
            hexadecimal += ",v1=" + text_key.digest(prefix, body).hex()
        if self._sign is not None:
            signature = self._sign(standard_prefix + body)
            standard.append("v1a," + binascii.b2a_base64(signature, newline=False).decode())
        lines = [
            f"webhook-id: {event_id}",
            f"webhook-timestamp: {timestamp}",
            f"webhook-signature: {' '.join(standard)}",
        ]
        if hexadecimal:
            lines.append(f"X-Embarc-Signature: t={timestamp}{hexadecimal}")
        return lines

    def _forget(self, now: float) -> None:
        """Drop the secrets whose time is over."""
        self._keys = [key for key in self._keys if key[2] is None or key[2] > now]
        self._expires_at = min((at for _, _, at in self._keys if at is not None), default=None)
