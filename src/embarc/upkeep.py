"""What is done to a store while no service, or beside the service that runs: its keys, and whether its audit log is whole."""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from embarc.core.access import AuditEntry, AuditHead, broken_links
from embarc.core.errors import SettingsError
from embarc.core.findings import Finding
from embarc.core.members import NUMBER_BITS, Member
from embarc.engine.access import Access
from embarc.observe import Observer
from embarc.settings import Settings
from embarc.store.base import DataKey, Store
from embarc.store.keys import CommandKey, KeyFile, WrappingKey
from embarc.store.sqlite import doctor as sqlite_doctor
from embarc.store.sqlite.access import read_audits
from embarc.store.sqlite.keys import read_data_keys
from embarc.store.vault import Vault
from embarc.stores import database_path, is_postgres, key_of, open_store

ALIVE_SECONDS = 5.0
"""A process that has shown itself in this time is taken to run."""


async def examine(settings: Settings, *, deep: bool) -> list[Finding]:
    """What there is to tell about the store, beside whatever has it open. Raises `SettingsError`."""
    return await asyncio.to_thread(sqlite_doctor.examine, database_path(settings.store), deep=deep)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What became of checking an audit log."""

    entries: int
    broken: Sequence[str]
    heads: Sequence[AuditHead]


async def verify_audits(settings: Settings, known_heads: Path | None = None) -> Verified:
    """Check the chains of the audit log and their signed ends. May be asked beside a running service.

    With a file of `known_heads` also that what ended a chain at an earlier check is still in it; where all is well the
    file is written anew. Raises `SettingsError` where there is no database, `CannotOpen` without its key.
    """
    vault = Vault(key_of(settings))
    await vault.learn(await list_keys(settings))
    if is_postgres(settings.store):
        from embarc.store.postgres import access as postgres

        entries, heads = await postgres.read_audits(settings.store)
    else:
        entries, heads = read_audits(_existing(settings))
    broken = list(broken_links(entries, heads, vault.sign_head))
    if known_heads is not None:
        digests = {(entry.tenant, entry.number): entry.digest.hex() for entry in entries}
        for tenant, number, digest in _read_heads(known_heads):
            if not hmac.compare_digest(digests.get((tenant, number), "").encode(), digest.encode()):
                broken.append(
                    f"tenant {tenant}: entry {number} is not what it was when {known_heads} was written"
                )
        if not broken:
            _write_heads(known_heads, heads)
    return Verified(entries=len(entries), broken=broken, heads=heads)


async def list_keys(settings: Settings) -> Sequence[DataKey]:
    """The data keys, wrapped as they are. May be asked beside a running service, and needs no key.

    Raises `SettingsError` where there is no database.
    """
    if is_postgres(settings.store):
        from embarc.store.postgres import keys as postgres

        return await postgres.read_data_keys(settings.store)
    return read_data_keys(_existing(settings))


async def rotate_key(settings: Settings, *, to_file: str = "", to_command: str = "") -> tuple[int, list[str]]:
    """Wrap the data keys by another key; returns how many, and what has to be done next.

    Without a target, a key beside the embedded database is followed by a new one in its place, and a command wraps
    again, with whatever its KMS uses now. The service must not run. Raises `SettingsError`.
    """
    async with _store(settings) as (store, vault):
        present = vault.wrapping
        target, kept = _target(settings, present, to_file, to_command), ""
        count = await vault.rewrap(store, target)
        if to_command:
            return count, [
                f"Set EMBARC_KEY_COMMAND to {to_command}, and neither EMBARC_KEY nor EMBARC_KEY_FILE."
            ]
        if to_file:
            return count, [
                f"Set EMBARC_KEY_FILE to {to_file}, or EMBARC_KEY to what is in it; remove the old setting."
            ]
        if isinstance(present, KeyFile) and isinstance(target, KeyFile):
            kept = str(present.replace_by(target))
            return count, [
                f"The key before is kept as {kept}: backups made until now need it. Delete it with them."
            ]
        return count, []


async def rotate_data_keys(settings: Settings) -> tuple[int, int]:
    """Give every tenant a new data key and seal everything anew; returns how many keys and how many secrets.

    Goes on where it was interrupted; so does the next start of the service. The service must not run meanwhile.
    """
    async with _store(settings) as (store, vault):
        return await vault.rotate_data_keys(store)


async def set_password(settings: Settings, username: str, password: str, tenant: str) -> None:
    """Give an operator another password, for whoever has lost it. The service must not run. Raises `SettingsError`."""
    async with _store(settings) as (store, _):
        user = await store.get_user(tenant, username)
        if user is None:
            names = ", ".join(one.username for one in await store.list_users(tenant)) or "nobody"
            raise SettingsError(f"Tenant {tenant} has no operator `{username}`. It has: {names}.")
        hashed = await Access(store, monotonic=time.monotonic).hash_password(password)
        await store.replace_user(replace(user, password_hash=hashed))
        told = f'{{"username":{json.dumps(username)}}}'
        await store.append_audit(
            AuditEntry(
                tenant=tenant,
                username="(command line)",
                action="embarc operators password",
                resource_id=str(user.id),
                after=told,
            )
        )


def _target(settings: Settings, present: WrappingKey, to_file: str, to_command: str) -> WrappingKey:
    if to_file and to_command:
        raise SettingsError("Give one of --to-file and --to-command.")
    if to_command:
        return CommandKey(to_command)
    if to_file:
        path = Path(to_file)
        return KeyFile(path) if path.exists() else KeyFile.make(path)
    if isinstance(present, CommandKey):
        return present
    if settings.key or not isinstance(present, KeyFile):
        raise SettingsError(
            "The key comes from EMBARC_KEY, which this command cannot change. Give the next one with --to-file FILE (made "
            "where it is missing), then put its content into EMBARC_KEY."
        )
    return present.following()


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[tuple[Store, Vault]]:
    """The store, for this process alone; raises `SettingsError` where a service has it open."""
    if not is_postgres(settings.store):
        _existing(settings)
    store, vault = await open_store(settings, Observer(), on_broken=lambda reason: None)
    try:
        if running := await _members(store):
            raise SettingsError(f"Stop these processes first, they use the store: {', '.join(running)}.")
        yield store, vault
    finally:
        await store.close()


async def _members(store: Store) -> list[str]:
    """Who is alive beside us, by a heartbeat that wants nothing."""
    caller = Member(number=secrets.randbits(NUMBER_BITS), name="(command line)", dispatches=False)
    attendance = await store.attend(caller, wanted=(), alive_seconds=ALIVE_SECONDS)
    await store.leave(caller)
    return [member.name for member in attendance.members if member.number != caller.number]


def _existing(settings: Settings) -> Path:
    path = database_path(settings.store)
    if not path.exists():
        raise SettingsError(f"There is no database at {path}.")
    return path


def _read_heads(path: Path) -> list[tuple[str, int, str]]:
    if not path.exists():
        return []
    try:
        return [
            (str(tenant), int(number), str(digest)) for tenant, number, digest in json.loads(path.read_text())
        ]
    except (ValueError, TypeError):
        raise SettingsError(f"{path} is not a file that `embarc audit verify --heads` has written.") from None


def _write_heads(path: Path, heads: Sequence[AuditHead]) -> None:
    told = [(head.tenant, head.number, head.digest.hex()) for head in heads]
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
