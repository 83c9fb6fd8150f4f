"""Verifying `v1a` signatures, for receivers that were given a hook's public key. Needs the package `cryptography`."""

from __future__ import annotations

import base64
import binascii

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from embarc.core.signatures import PUBLIC_KEY_PREFIX


class PublicKey:
    """The public half of a hook's key: `whpk_` and base64. Raises ValueError where the text is not one."""

    def __init__(self, text: str) -> None:
        try:
            raw = base64.b64decode(text.removeprefix(PUBLIC_KEY_PREFIX), validate=True)
            self._key = Ed25519PublicKey.from_public_bytes(raw)
        except (binascii.Error, ValueError):
            raise ValueError(f"A public key is `{PUBLIC_KEY_PREFIX}` and base64 of 32 bytes.") from None

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        """Whether the private half made this signature over these bytes."""
        try:
            self._key.verify(signature, signed)
        except InvalidSignature:
            return False
        return True
