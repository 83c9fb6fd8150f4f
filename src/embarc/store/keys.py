"""The installation's own key, which wraps the data keys: from a file, from a setting, or behind a command (KMS, HSM).

Only this key has to be kept apart from the database. A stolen database, or a backup of one, opens nothing without it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
import secrets
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from embarc.core.errors import EmbarcError, SettingsError

KEY_BYTES = 32
NONCE_BYTES = 12
_WRAPPED = b"embarc data key"
_COMMAND_SECONDS = 60
_SECONDS_EACH = 1
_FIRST_FORMAT = b"\x01"


class CannotOpen(EmbarcError):
    """A stored secret does not open with the installation's key. Was the database moved without its key?"""


class WrappingKey(Protocol):
    """What wraps data keys and gives them back."""

    @property
    def key_id(self) -> str:
        """Tells one key from another, and nothing else about it."""
        ...

    @property
    def source(self) -> str:
        """Where it comes from, for messages."""
        ...

    async def wrap(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        """Each key, unreadable without this one."""
        ...

    async def unwrap(self, wrapped: Sequence[bytes]) -> Sequence[bytes]:
        """The keys that were wrapped; raises `CannotOpen`."""
        ...


class LocalKey:
    """A key that this process holds: AES-256-GCM (NIST SP 800-38D) with a random nonce each time."""

    def __init__(self, key: bytes, source: str) -> None:
        self.source = source
        self.key_id = hashlib.sha256(b"embarc key id" + key).digest()[:8].hex()
        self._cipher = AESGCM(key)

    async def wrap(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        """Each key, unreadable without this one."""
        nonces = [os.urandom(NONCE_BYTES) for _ in keys]
        return [
            nonce + self._cipher.encrypt(nonce, key, _WRAPPED)
            for nonce, key in zip(nonces, keys, strict=True)
        ]

    async def unwrap(self, wrapped: Sequence[bytes]) -> Sequence[bytes]:
        """The keys that were wrapped; raises `CannotOpen`."""
        try:
            return [self._cipher.decrypt(one[:NONCE_BYTES], one[NONCE_BYTES:], _WRAPPED) for one in wrapped]
        except (InvalidTag, ValueError):
            raise CannotOpen from None

    def open_first_format(self, sealed: bytes, context: Sequence[object]) -> bytes:
        """What an Embarc without data keys sealed: with the key of the installation itself. Raises `CannotOpen`."""
        if sealed[:1] != _FIRST_FORMAT or sealed[1:9].hex() != self.key_id:
            raise CannotOpen
        try:
            bound = b"|".join(str(part).encode() for part in context)
            return self._cipher.decrypt(sealed[9:21], sealed[21:], bound)
        except InvalidTag:
            raise CannotOpen from None


class KeyFile(LocalKey):
    """The key in a file of ours, beside the embedded database, which can be followed by another one.

    The next key waits in a file of its own until the data keys are wrapped by it, then takes the place of this one. A
    crash in between leaves both, and whichever opens the data keys is the one in force.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._next = _next_to(path)
        if not path.exists() and self._next.exists():  # a crash between the two renames
            os.replace(self._next, path)
        super().__init__(_read(path), str(path))

    @staticmethod
    def is_at(path: Path) -> bool:
        """Whether there is a key at this path, or one that was about to take its place."""
        return path.exists() or _next_to(path).exists()

    @classmethod
    def make(cls, path: Path) -> KeyFile:
        """A new key in a new file, for its owner only and on the disk when this returns; raises `SettingsError`."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise SettingsError(f"A new key cannot be written to {path}: {error.strerror}.") from None
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_bytes(KEY_BYTES).hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(path)
        return cls(path)

    async def unwrap(self, wrapped: Sequence[bytes]) -> Sequence[bytes]:
        """The keys that were wrapped, by this one or by one that was about to follow it; raises `CannotOpen`."""
        try:
            return await super().unwrap(wrapped)
        except CannotOpen:
            if not self._next.exists():
                raise
        following = KeyFile(self._next)
        keys = await following.unwrap(wrapped)
        self.replace_by(following)
        return keys

    def following(self) -> KeyFile:
        """Make the key that is to follow this one."""
        self._next.unlink(missing_ok=True)
        return KeyFile.make(self._next)

    def replace_by(self, following: KeyFile) -> Path:
        """Put the key that follows in the place of this one; returns where this one is kept, for old backups."""
        kept = self.path.with_name(f"{self.path.name}.old-{self.key_id}")
        os.replace(self.path, kept)
        os.replace(following.path, self.path)
        _sync_folder(self.path)
        super().__init__(_read(self.path), str(self.path))
        return kept


class CommandKey:
    """A key that never leaves a KMS or HSM: a command wraps and unwraps.

    It is run as `COMMAND wrap` or `COMMAND unwrap`, gets lines of base64 on standard input, and answers as many on
    standard output, in their order. No shell is involved. Another exit code than 0 is a failure.
    """

    key_id = "command"

    def __init__(self, command: str) -> None:
        self._command = shlex.split(command)
        if not self._command:
            raise SettingsError("The command that wraps keys is empty.")
        self.source = f"the command {self._command[0]}"

    async def wrap(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        """Each key, unreadable without the command."""
        return await asyncio.to_thread(self._run, "wrap", keys)

    async def unwrap(self, wrapped: Sequence[bytes]) -> Sequence[bytes]:
        """The keys that were wrapped; raises `CannotOpen`."""
        return await asyncio.to_thread(self._run, "unwrap", wrapped)

    def _run(self, verb: str, values: Sequence[bytes]) -> Sequence[bytes]:
        if not values:
            return []
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own command, without a shell
                [*self._command, verb],
                input=b"".join(base64.b64encode(value) + b"\n" for value in values),
                capture_output=True,
                timeout=_COMMAND_SECONDS + _SECONDS_EACH * len(values),
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            # The exception's text may hold what was sent.
            raise CannotOpen(
                f"{self.source} could not {verb} keys: {type(error).__name__}. Run it by hand with one line of base64."
            ) from None
        if done.returncode:
            # What it wrote is not shown: it may be a key. Whoever runs it by hand sees it.
            raise CannotOpen(
                f"{self.source} could not {verb} keys: exit code {done.returncode}. Run it by hand with one line of base64."
            )
        try:
            answered = [base64.b64decode(line, validate=True) for line in done.stdout.split()]
        except binascii.Error:
            answered = []
        if len(answered) != len(values):
            raise CannotOpen(
                f"{self.source} must answer to `{verb}` with as many lines of base64 as it gets; it does not."
            )
        return answered


def choose_key(
    *, key: str, key_file: str, key_command: str, beside: Path | None, may_make: bool, is_production: bool
) -> WrappingKey:
    """The installation's key, from the one setting that names it, else from the file `beside` the embedded database.

    That file is made where it is missing and `may_make` says that nothing is sealed yet. Raises `SettingsError`.
    """
    given = [
        name for name, value in (("key", key), ("key_file", key_file), ("key_command", key_command)) if value
    ]
    if len(given) > 1:
        raise SettingsError(f"Only one key can wrap the data keys; {' and '.join(given)} are set.")
    if key:
        return LocalKey(parse_key(key, "The setting `key`"), "the setting `key`")
    if key_file:
        return KeyFile(Path(key_file))
    if key_command:
        return CommandKey(key_command)
    if is_production:
        raise SettingsError(
            "In production the key that protects stored secrets must be kept apart from the database. Make one with "
            "`openssl rand -hex 32`, put it where your secrets are kept, and set EMBARC_KEY to it, or EMBARC_KEY_FILE to "
            "a file with it, or EMBARC_KEY_COMMAND to a command that wraps keys with a KMS."
        )
    if beside is None:
        raise SettingsError("This store needs a key: set EMBARC_KEY, EMBARC_KEY_FILE or EMBARC_KEY_COMMAND.")
    if KeyFile.is_at(beside):
        return KeyFile(beside)
    if not may_make:
        raise SettingsError(
            f"The database is there and its key is not: {beside} is missing. Put it back, or name the key with EMBARC_KEY, "
            "EMBARC_KEY_FILE or EMBARC_KEY_COMMAND. Without it the stored secrets are lost."
        )
    return KeyFile.make(beside)


def parse_key(text: str, source: str) -> bytes:
    """The key that is written as 64 hexadecimal digits; raises `SettingsError` without telling what is there."""
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise SettingsError(
            f"{source} does not hold an encryption key: {KEY_BYTES * 2} hexadecimal digits, as `openssl rand -hex "
            f"{KEY_BYTES}` writes them."
        )
    return key


def _next_to(path: Path) -> Path:
    return path.with_name(path.name + ".next")


def _read(path: Path) -> bytes:
    try:
        return parse_key(path.read_text(encoding="utf-8", errors="replace"), str(path))
    except OSError as error:
        raise SettingsError(f"The key file {path} cannot be read: {error.strerror}.") from None


def _sync_folder(path: Path) -> None:
    """Make a rename or a new file durable."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
