"""Which store a URL leads to, opened with the key that belongs to it. Beside `app.py` the only one who names a store.

PostgreSQL's driver is imported where it is needed: whoever runs on SQLite needs none.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from embarc.core.errors import SettingsError
from embarc.core.hook_config import parse_endpoint
from embarc.observe import Observe
from embarc.settings import Settings
from embarc.store.base import Store
from embarc.store.keys import WrappingKey, choose_key
from embarc.store.migrate import Migration
from embarc.store.postgres.distribute import distribution
from embarc.store.sqlite.store import SqliteStore
from embarc.store.vault import Vault

__all__ = [
    "database_path",
    "distribution",
    "is_postgres",
    "key_of",
    "migrate",
    "open_store",
    "sandbox_path",
    "shown",
]

SQLITE_PREFIX = "sqlite:///"
POSTGRES_SCHEMES = ("postgresql", "postgres")
KEY_FILE = Path("embarc.key")
"""In the working directory, for a store in PostgreSQL that was given no key: good for trying."""


async def open_store(
    settings: Settings, observe: Observe, *, on_broken: Callable[[str], None]
) -> tuple[Store, Vault]:
    """The store of these settings and the vault with its keys, made and migrated where needed.

    Raises `SettingsError`, `CannotOpen` where the key is another one, `StoreUnavailable`, `MigrationError`.
    """
    vault = Vault(key_of(settings))
    if is_postgres(settings.store):
        from embarc.store.postgres.store import PostgresStore

        opened = await PostgresStore.open(settings.store, parse_endpoint=parse_endpoint, vault=vault)
        for warning in await opened.durability():
            observe("store.alarm", reason=warning)
        return opened, vault
    database = database_path(settings.store)
    database.parent.mkdir(parents=True, exist_ok=True)
    store = await SqliteStore.open(database, parse_endpoint=parse_endpoint, vault=vault, on_broken=on_broken)
    return store, vault


async def migrate(store: str, *, dry_run: bool) -> Sequence[Migration]:
    """Bring a PostgreSQL store's schema up to date; returns what was, or would be, applied. SQLite's is when it is opened."""
    if not is_postgres(store):
        database_path(store)
        return []
    from embarc.store.postgres import database as postgres

    return await postgres.migrate(store, dry_run=dry_run)


def key_of(settings: Settings, *, may_make: bool = True) -> WrappingKey:
    """The installation's key; made beside a new embedded database, or in the working directory for a store in PostgreSQL,
    where nothing else is set and it may be. Raises `SettingsError`."""
    if is_postgres(settings.store):
        beside = KEY_FILE
    else:
        database = database_path(settings.store)
        beside, may_make = database.with_name(database.name + ".key"), may_make and not database.exists()
    return choose_key(
        key=settings.key,
        key_file=settings.key_file,
        key_command=settings.key_command,
        beside=beside,
        may_make=may_make,
        is_production=settings.production,
    )


def sandbox_path(settings: Settings) -> Path:
    """The sandbox's own database: beside the embedded one, or in the working directory."""
    if is_postgres(settings.store):
        return Path("embarc-sandbox.db")
    database = database_path(settings.store)
    return database.with_name(database.stem + "-sandbox.db")


def is_postgres(url: str) -> bool:
    """Whether a store's URL leads to PostgreSQL; raises `SettingsError` where its driver is not installed."""
    if url.partition("://")[0] not in POSTGRES_SCHEMES:
        return False
    if importlib.util.find_spec("asyncpg") is None:
        raise SettingsError("A PostgreSQL store needs its driver: install `embarc[server,postgres]`.")
    return True


def shown(url: str) -> str:
    """A store's URL as it may be told: without a password, and without options, which may hold one."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return urlunsplit((parts.scheme, user.partition(":")[0] + at + host, parts.path, "", ""))


def database_path(url: str) -> Path:
    """The file of a `sqlite:///` URL: three slashes and a relative path, or four and an absolute one."""
    if not url.startswith(SQLITE_PREFIX) or not url.removeprefix(SQLITE_PREFIX):
        scheme = url.partition(":")[0]
        raise SettingsError(
            f"`store` must be `sqlite:///PATH` or `postgresql://USER@HOST/DATABASE`; this one starts with `{scheme}`."
        )
    return Path(url.removeprefix(SQLITE_PREFIX))
