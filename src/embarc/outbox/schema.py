"""The outbox's tables, in the words of each database.

`embarc_outbox` holds the events. A relay reads those that wait (`state` 0) and deletes what was accepted, or marks it
(1) where it was told to keep; what Embarc refuses for good stays, marked (2), with the `reason`.
`embarc_outbox_lane` has one row for each share of the entities: a relay locks the rows of the lanes it carries.
"""

from __future__ import annotations

TABLE = "embarc_outbox"
LANE_TABLE = "embarc_outbox_lane"
LANES = 16
"""Entities are spread over so many lanes, each carried by one relay at a time."""

WAITING, PUBLISHED, REFUSED = 0, 1, 2

_LANE_ROWS = ", ".join(f"({lane})" for lane in range(LANES))

_SQLITE = (
    f"""create table if not exists {TABLE} (
  position integer primary key autoincrement,
  id text not null unique,
  lane integer not null,
  tenant text not null,
  entity text,
  state integer not null default {WAITING},
  reason text,
  body text not null
)""",
    f"create index if not exists {TABLE}_state on {TABLE} (state, lane, position)",
    f"create index if not exists {TABLE}_refused on {TABLE} (entity) where state = {REFUSED}",
)

_POSTGRESQL = (
    f"""create table if not exists {TABLE} (
  position bigint generated always as identity primary key,
  id varchar(64) not null unique,
  lane smallint not null,
  tenant varchar(100) not null,
  entity varchar(200),
  state smallint not null default {WAITING},
  reason text,
  body text not null
)""",
    f"create index if not exists {TABLE}_state on {TABLE} (state, lane, position)",
    f"create index if not exists {TABLE}_refused on {TABLE} (entity) where state = {REFUSED}",
    f"create table if not exists {LANE_TABLE} (lane smallint primary key)",
    f"insert into {LANE_TABLE} (lane) values {_LANE_ROWS} on conflict do nothing",  # noqa: S608 - numbers of ours
)

# Keys are compared byte by byte: MySQL's usual collations take `LOAN/a` and `loan/A` for the same.
_MYSQL = (
    f"""create table if not exists {TABLE} (
  position bigint not null auto_increment primary key,
  id varchar(64) not null unique,
  lane smallint not null,
  tenant varchar(100) not null,
  entity varchar(200),
  state smallint not null default {WAITING},
  reason text,
  body longtext not null,
  key {TABLE}_state (state, lane, position),
  key {TABLE}_entity (entity, state)
) engine = InnoDB character set utf8mb4 collate utf8mb4_bin""",
    f"create table if not exists {LANE_TABLE} (lane smallint primary key) engine = InnoDB",
    f"insert ignore into {LANE_TABLE} (lane) values {_LANE_ROWS}",  # noqa: S608 - numbers of ours
)

_DDL = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL, "mysql": _MYSQL, "mariadb": _MYSQL}


def ddl(dialect: str) -> tuple[str, ...]:
    """The statements that make the outbox, to be run one after the other; where it exists they change nothing.

    `dialect` is `postgresql` (12 or newer), `mysql` (8.0.1), `mariadb` (10.6) or `sqlite`, as SQLAlchemy and Django
    (`connection.vendor`) call them. Raises ValueError for others.
    """
    try:
        return _DDL[dialect]
    except KeyError:
        raise ValueError(f"The outbox knows no dialect `{dialect}`. There are: {', '.join(_DDL)}.") from None


def drop_ddl(dialect: str) -> tuple[str, ...]:
    """The statements that take the outbox away again, with every event in it. Raises ValueError like `ddl`."""
    ddl(dialect)
    tables = (TABLE,) if dialect == "sqlite" else (TABLE, LANE_TABLE)
    return tuple(f"drop table if exists {table}" for table in tables)
