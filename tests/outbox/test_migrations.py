"""Alembic and Django: the outbox is made by their migrations, and emitted into by Django's connections."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect
from sqlalchemy.pool import NullPool

from embarc.outbox.schema import drop_ddl

from .conftest import Database
from .test_emitting import DRIVERS

ENVIRONMENT = """
from alembic import context
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

with create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=NullPool).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
REVISION = """
from embarc.outbox.alembic import downgrade, upgrade

revision = "0001"
down_revision = None
"""

DJANGO = """
import sys
import django
from django.conf import settings

settings.configure(DATABASES={"default": %(database)r}, INSTALLED_APPS=[], USE_TZ=True)
django.setup()
from django.db import connection, connections, transaction
from embarc.outbox import OutboxEvent, ddl, emit
from embarc.outbox.emitting import NoTransaction

EVENT = OutboxEvent(entity_name="LOAN", action_name="APPROVE", ids={"loanId": 17}, request='{"rate": "100%%"}')

def statement(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)

for one in ddl(connection.vendor):
    statement(one)
with transaction.atomic():
    statement("insert into loans (id) values (17)")
    emit(connection, EVENT)
    try:
        with transaction.atomic():
            emit(connection, EVENT)
            raise KeyError
    except KeyError:
        pass
try:
    with transaction.atomic():
        statement("insert into loans (id) values (18)")
        emit(connections["default"], EVENT)
        raise KeyError
except KeyError:
    pass
try:
    emit(connection, EVENT)
except NoTransaction as error:
    print(error)
"""


@pytest.fixture
def config(tmp_path: Path, database: Database) -> Config:
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(ENVIRONMENT)
    (folder / "versions" / "0001.py").write_text(REVISION)
    for statement in drop_ddl(database.dialect):
        database.query(statement)
    found = Config()
    found.set_main_option("script_location", str(folder))
    found.set_main_option("path_separator", "os")
    found.set_main_option(
        "sqlalchemy.url", database.with_driver(DRIVERS[database.dialect]).replace("%", "%%")
    )
    return found


def test_alembic_makes_the_outbox_and_takes_it_away(config: Config, database: Database) -> None:
    def tables() -> set[str]:
        engine = create_engine(database.with_driver(DRIVERS[database.dialect]), poolclass=NullPool)
        return {name for name in inspect(engine).get_table_names() if name.startswith("embarc")}

    command.upgrade(config, "head")
    made = tables()
    command.downgrade(config, "base")

    assert made == {"embarc_outbox"} | (set() if database.dialect == "sqlite" else {"embarc_outbox_lane"})
    assert tables() == set()


@pytest.mark.parametrize("name", ["sqlite", "postgres", "mariadb"])
def test_django_emits_inside_atomic_and_nowhere_else(name: str, request: pytest.FixtureRequest) -> None:
    database: Database = request.getfixturevalue(name)
    path, _, query = database.url.partition("://")[2].partition("?")
    settings = {
        "sqlite": {"ENGINE": "django.db.backends.sqlite3", "NAME": path[1:]},
        "postgres": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": path.rpartition("/")[2],
            "USER": "postgres",
            "HOST": query.removeprefix("host="),
        },
        "mariadb": {
            "ENGINE": "django.db.backends.mysql",
            "NAME": path.rpartition("/")[2],
            "USER": "root",
            "OPTIONS": {"unix_socket": query.removeprefix("unix_socket=")},
        },
    }[name]
    # Django reads mysqlclient; PyMySQL stands in for it, and says so.
    stand_in = (
        "import pymysql; pymysql.version_info = (2, 2, 8, 'final', 0); pymysql.install_as_MySQLdb()\n"
        if name == "mariadb"
        else ""
    )

    done = subprocess.run(
        [sys.executable, "-c", stand_in + DJANGO % {"database": settings}], capture_output=True, text=True
    )

    assert "Emit inside `with transaction.atomic():`" in done.stdout, done.stderr
    assert database.loans() == [17]
    ((entity, body),) = database.rows("entity, body")
    assert entity == "default/LOAN/17"
    assert '"rate": "100%"' in body
