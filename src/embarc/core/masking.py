"""Masks the values of secret keys in an event's request and response before anything is stored.

A platform that emits USER.CREATE hands over the password that was typed; receivers have no use for it. A key is secret
by its name: `_`, `-`, spaces and case do not count, and what stands before does not either (`newPassword`,
`db_password`, `X-Auth-Token`). `null`, `true` and `false` tell no secret and stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import lru_cache

SHORTEST_REDACTED = 6
"""Characters; what is shorter stands anywhere by chance."""
MASK = '"****"'

SECRET_ENDINGS = (
    "password",
    "passwordrepeat",
    "passwordconfirmation",
    "passwordhash",
    "passwd",
    "pwd",
    "passphrase",
    "passcode",
    "token",
    "secret",
    "apikey",
    "secretkey",
    "privatekey",
    "accesskey",
    "signingkey",
    "encryptionkey",
    "authenticationkey",
    "clientkey",
    "jwtkey",
    "authorization",
    "otp",
    "mpin",
    "cvv",
    "cvv2",
    "cvc",
)
SECRET_NAMES = {"pin", "cardpin", "atmpin", "newpin", "oldpin", "repeatpin"}
"""Whole names; an ending `pin` would be too much."""

# Every string of a JSON text, and whether a colon makes it a key. Strings are taken whole, so that nothing inside one is
# mistaken for a key.
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"(\s*:\s*)?', re.DOTALL)
_DECODER = json.JSONDecoder()


def mask(text: bytes) -> bytes:
    """The JSON text with the values of secret keys replaced, everything else as it was."""
    if not _may_have_secrets(text.lower()):
        return text
    source, parts, position, kept = text.decode(), [], 0, 0
    while found := _STRING.search(source, position):
        position = found.end()
        if (
            found[2] is None
            or not is_secret(found[1])
            or source.startswith(("null", "true", "false"), position)
        ):
            continue
        parts += [source[kept:position], MASK]
        _, position = _DECODER.raw_decode(source, position)
        kept = position
    return "".join([*parts, source[kept:]]).encode() if parts else text


def redact(text: bytes, secrets: Iterable[bytes]) -> bytes:
    """What a receiver answered, without the secrets that were sent to it: some send back what they got."""
    for secret in secrets:
        if len(secret) >= SHORTEST_REDACTED:
            text = text.replace(secret, b"****")
    return text


def _may_have_secrets(lowered: bytes) -> bool:
    """Whether a part of any of the names is there, or an escape that could hide one: much cheaper than reading the keys."""
    return (
        b"pass" in lowered
        or b"token" in lowered
        or b"secret" in lowered
        or b"key" in lowered
        or b"pwd" in lowered
        or b'pin"' in lowered
        or b'otp"' in lowered
        or b"cvv" in lowered
        or b"cvc" in lowered
        or b"authorization" in lowered
        or b"\\u00" in lowered
    )


@lru_cache(maxsize=4096)
def is_secret(name: str) -> bool:
    """Whether the value under this name is a secret. The name may have JSON's escapes."""
    if len(name) > 200:
        return False
    if "\\" in name:
        name = json.loads(f'"{name}"')
    plain = re.sub(r"[\s_.\-]", "", name).lower()
    return plain.endswith(SECRET_ENDINGS) or plain in SECRET_NAMES
