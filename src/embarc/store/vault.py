"""Secrets at rest: AES-256-GCM, bound to the row they belong to.

A sealed value is `version (1) | key id (8) | nonce (12) | ciphertext and tag`. The associated data names tenant,
table, row and column, so a ciphertext that is copied to another row does not open (NIST SP 800-38D).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from embarc.core.errors import EmbarcError, SettingsError

_VERSION = b"\x01"
_KEY_BYTES = 32


class CannotOpen(EmbarcError):
    """A stored secret does not open with the installation's key. Was the database moved without its key file?"""


class Vault:
    """Seals and opens with one key."""

    def __init__(self, key: bytes) -> None:
        if len(key) != _KEY_BYTES:
            raise SettingsError(f"The encryption key must have {_KEY_BYTES} bytes, this one has {len(key)}.")
        self._cipher = AESGCM(key)
        self._fingerprint_key = hashlib.sha256(b"embarc fingerprint key" + key).digest()
        self._key_id = hashlib.sha256(b"embarc key id" + key).digest()[:8]

    @classmethod
    def from_file(cls, path: Path) -> Vault:
        """The key in this file, made on first use, readable by its owner only."""
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_bytes(_KEY_BYTES).hex() + "\n")
                file.flush()
                os.fsync(file.fileno())
        try:
            return cls(bytes.fromhex(path.read_text().strip()))
        except ValueError:
            raise SettingsError(
                f"{path} does not hold an encryption key: {_KEY_BYTES * 2} hexadecimal digits."
            ) from None

    def seal(self, plain: bytes, *context: object) -> bytes:
        """`plain`, readable again only with this key and this context."""
        nonce = os.urandom(12)
        return _VERSION + self._key_id + nonce + self._cipher.encrypt(nonce, plain, _bind(context))

    def open(self, sealed: bytes, *context: object) -> bytes:
        """What was sealed under this context; raises `CannotOpen`."""
        if sealed[:1] != _VERSION or sealed[1:9] != self._key_id:
            raise CannotOpen
        try:
            return self._cipher.decrypt(sealed[9:21], sealed[21:], _bind(context))
        except InvalidTag:
            raise CannotOpen from None

    def fingerprint(self, plain: str) -> str:
        """Tells whether two secrets are the same, and nothing else about them, to whoever has not the key."""
        return hmac.digest(self._fingerprint_key, plain.encode(), "sha256").hex()[:16]


def _bind(context: tuple[object, ...]) -> bytes:
    return b"|".join(str(part).encode() for part in context)
