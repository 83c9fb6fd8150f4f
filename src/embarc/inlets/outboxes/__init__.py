"""Outbox tables where platforms have them: one file for each kind of database."""

from __future__ import annotations

from urllib.parse import urlsplit

from embarc.core.errors import SettingsError
from embarc.inlets.outboxes.base import OutboxRow, Source
from embarc.inlets.outboxes.sqlite import SqliteSource

__all__ = ["OutboxRow", "Source", "SqliteSource", "open_source"]


def open_source(url: str, *, tenant: str | None = None, keep: bool = False) -> Source:
    """The outbox in the database at `url`; nothing is connected yet.

    `url` is as SQLAlchemy writes it: `postgresql://`, `mysql://`, `mariadb://` or `sqlite:///PATH`, with or without a
    driver (`postgresql+psycopg://`). Of `tenant` its rows only, of None all. With `keep` rows are marked as published
    instead of deleted. Raises `SettingsError` for another URL, or where the database's driver is not installed.
    """
    scheme, _, rest = url.partition("://")
    dialect = scheme.partition("+")[0]
    try:
        match dialect:
            case "postgresql" | "postgres":
                from embarc.inlets.outboxes.postgres import PostgresSource

                return PostgresSource(f"postgresql://{rest}", tenant=tenant, keep=keep)
            case "mysql" | "mariadb":
                from embarc.inlets.outboxes.mysql import MysqlSource

                return MysqlSource(f"mysql://{rest}", tenant=tenant, keep=keep)
            case "sqlite" if rest.startswith("/") and len(rest) > 1:
                return SqliteSource(rest[1:], tenant=tenant, keep=keep)
    except ModuleNotFoundError as error:
        extra = "mysql" if error.name == "pymysql" else "postgres"
        raise SettingsError(
            f"A {dialect} source needs the package {error.name}. Install it with: pip install 'embarc[server,{extra}]'"
        ) from None
    raise SettingsError(
        "`source` must be postgresql://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE or sqlite:///PATH; "
        f"this one starts with `{dialect}`."
    )


def shown(url: str) -> str:
    """The URL without user and password, for people."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{place}{parts.path}"
