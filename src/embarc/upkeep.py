"""What is done to a store while no service, or beside the service that runs: its keys, and whether its audit log is whole."""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from embarc.core.access import AuditEntry, AuditHead, broken_links
from embarc.core.errors import SettingsError, StoreUnavailable
from embarc.core.findings import Finding, installation_key
from embarc.core.hook_config import parse_endpoint
from embarc.core.members import NUMBER_BITS, Member
from embarc.engine.access import Access
from embarc.observe import Observer
from embarc.settings import Settings
from embarc.store.base import DataKey, Store
from embarc.store.copying import PAGE_ROWS, TABLES, Compared, Table
from embarc.store.keys import CannotOpen, CommandKey, KeyFile, WrappingKey
from embarc.store.sqlite import doctor as sqlite_doctor
from embarc.store.sqlite.access import read_audits
from embarc.store.sqlite.copying import Source
from embarc.store.sqlite.keys import read_data_keys
from embarc.store.sqlite.moved import Moved
from embarc.store.vault import Vault
from embarc.stores import database_path, is_postgres, key_of, open_store, shown

if TYPE_CHECKING:  # its driver is imported where it is needed
    from embarc.store.postgres.copying import Target

ALIVE_SECONDS = 5.0
"""A process that has shown itself in this time is taken to run."""


async def examine(settings: Settings, *, deep: bool) -> list[Finding]:
    """What there is to tell about the store, beside whatever has it open; `deep` reads an embedded one as a whole.

    Raises `SettingsError` where the URL leads nowhere, `MigrationError` where the store is too new.
    """
    if is_postgres(settings.store):
        from embarc.store.postgres import doctor as postgres_doctor

        found = await postgres_doctor.examine(settings.store, alive_seconds=ALIVE_SECONDS)
    else:
        found = await asyncio.to_thread(sqlite_doctor.examine, database_path(settings.store), deep=deep)
    return [*found, *await _examine_key(settings)]


async def _examine_key(settings: Settings) -> list[Finding]:
    try:
        keys = await list_keys(settings)
    except (SettingsError, StoreUnavailable):
        return []  # there is nothing to open yet, which was told already
    try:
        await Vault(key_of(settings, may_make=False)).learn(keys)
    except (SettingsError, CannotOpen) as error:
        return [installation_key(len(keys), str(error))]
    return [installation_key(len(keys), "")]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What became of a copy."""

    compared: Sequence[Compared]
    replaced: int
    """Texts that held a NUL, which the target cannot store: it stands as U+FFFD there."""
    key_file: Path | None
    """The file beside the source with the key that services on the target need too, where it is in none of the settings."""

    @property
    def is_whole(self) -> bool:
        """Whether everything is there."""
        return all(one.is_equal for one in self.compared)


async def copy_store(
    settings: Settings,
    target_url: str,
    *,
    on_page: Callable[[str, int, int], None],
    page_rows: int = PAGE_ROWS,
) -> Copied:
    """Copy the store of these settings into an empty PostgreSQL database, or go on with that where it was interrupted.

    No service may use either. From the first page on none starts on the source any more; on the target none does until
    everything is there. `on_page` is told a table, how many of its rows are there, and of how many. Raises `SettingsError`,
    `CannotOpen` where the key is not the source's, `StoreUnavailable`.
    """
    if is_postgres(settings.store) or not is_postgres(target_url):
        raise SettingsError(
            "A copy goes from `sqlite:///PATH` to `postgresql://USER@HOST/DATABASE`. From one PostgreSQL to another, pg_dump "
            "copies everything."
        )
    from embarc.store.postgres.copying import Target

    path = _existing(settings)
    vault = Vault(key_of(settings))
    source = await Source.open(path, parse_endpoint=parse_endpoint, vault=vault)
    try:
        moved = source.moved()
        copy_id = moved.copy_id if moved else secrets.token_hex(8)
        target = await Target.open(target_url)
        try:
            facts = await source.facts()
            mark = Moved(copy_id=copy_id, target=shown(target_url), is_complete=False)
            if not await target.check_free(copy_id, alive_seconds=ALIVE_SECONDS):
                source.mark(mark)
                await target.begin(copy_id, str(path), facts)
                for table in TABLES:
                    await _copy_table(source, target, table, on_page, page_rows)
            compared = await _compare(source, target)
            if all(one.is_equal for one in compared):
                await target.finish(facts)
                source.mark(replace(mark, is_complete=True))
        finally:
            await target.close()
    finally:
        await source.close()
    beside = vault.wrapping.path if isinstance(vault.wrapping, KeyFile) and not settings.key_file else None
    return Copied(compared=compared, replaced=target.replaced, key_file=beside)


async def _copy_table(
    source: Source, target: Target, table: Table, on_page: Callable[[str, int, int], None], page_rows: int
) -> None:
    done, after = target.reached(table)
    total = await source.count(table)
    on_page(table.name, done, total)
    page = await source.page(table, after, limit=page_rows)
    while page is not None:
        # One page is read while the one before it is written.
        _, following = await asyncio.gather(
            target.write(table, page), source.page(table, page.reached, limit=page_rows)
        )
        done += len(page.rows)
        on_page(table.name, done, total)
        page = following


async def _compare(source: Source, target: Target) -> Sequence[Compared]:
    there = await target.counts()
    here = {table.name: await source.count(table) for table in TABLES}
    here["event_times"] = await source.count_times()
    return [Compared(table=name, source=count, target=there[name]) for name, count in here.items()]


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
