"""What is copied when an installation moves to another store: the tables, their columns, and the key that pages go by.

Both stores have these tables under these names. What they have not in common is in their own `copying.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PAGE_ROWS = 4000
PAGE_BYTES = 8 * 1024 * 1024
"""A page ends with whichever comes first: what is in memory does not grow with the payloads."""

Key = Sequence[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table in both stores. `flags` are columns that SQLite, which has no booleans, holds as 0 and 1."""

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    flags: tuple[str, ...] = ()


def _table(name: str, key: str, others: str, flags: str = "") -> Table:
    names = tuple(key.split())
    flag_names = tuple(flags.split())
    return Table(name=name, key=names, columns=names + tuple(others.split()) + flag_names, flags=flag_names)


DELIVERIES = _table(
    "deliveries",
    "tenant event_key hook_id",
    "state due_at_ms lease_token attempts failures traffic order_key accepted_seq settled_at_ms reason",
)
EVENTS = _table(
    "events",
    "accepted_seq",
    "tenant event_key entity_name action_name entity_id timestamp_ms accepted_at_ms payload",
)
TABLES = (
    _table("data_keys", "key_id", "tenant wrapped wrapped_by created_at_ms", "is_retired"),
    _table("tenants", "name", "display_name created_at_ms"),
    _table("users", "id", "tenant username full_name office_id permissions password_hash created_at_ms"),
    _table(
        "api_keys",
        "key_id",
        "tenant name digest permissions created_by created_at_ms expires_at_ms last_used_at_ms revoked_at_ms",
    ),
    _table(
        "hooks",
        "id",
        "tenant template name display_name subscriptions config sealed_secrets version created_at_ms updated_at_ms "
        "failing_since_ms inactive_since_ms inactive_because",
        "is_active is_paused",
    ),
    _table("kinds", "tenant entity_name action_name", "grouping description sample created_at_ms"),
    _table("inlets", "id", "tenant name digest created_by created_at_ms", "forwards_failures"),
    _table("audits", "tenant number", "at_ms username action resource_id before after digest"),
    _table("audit_heads", "tenant", "number digest signature"),
    _table("idempotency_keys", "tenant key", "fingerprint event_keys deliveries created_at_ms"),
    _table(
        "replays",
        "tenant replay_key",
        "hook_id selection state reached queued created_by created_at_ms finished_at_ms",
    ),
    EVENTS,
    DELIVERIES,
    _table(
        "attempts",
        "tenant event_key hook_id number",
        "started_at_ms url worker result status duration_ms detail head body phases",
    ),
)
"""In the order in which they are copied: whatever is interrupted holds the keys of what it has."""
IDENTITIES = ("hooks", "users", "inlets")
"""Tables whose ids the store gives out, and never twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Rows of a table, in the order of its key, and where the next page begins."""

    rows: Sequence[tuple[Any, ...]]
    reached: Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What there is beside the rows."""

    hooks_revision: int
    last_ids: Mapping[str, int]
    """Of each of `IDENTITIES`, the highest id that was ever given."""
    oldest_ms: int | None
    """When the oldest event was accepted of which anything is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """How many rows a table has on either side."""

    table: str
    source: int
    target: int

    @property
    def is_equal(self) -> bool:
        """Whether nothing is missing and nothing too much."""
        return self.source == self.target
