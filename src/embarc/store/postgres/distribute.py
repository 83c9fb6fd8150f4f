"""Spreading the tables over a Citus cluster: the statements, for a person to run once, on a database that was migrated."""

from __future__ import annotations

from collections.abc import Sequence

SHARD_KEY = "tenant"
FIRST = "events"
WITH_IT = (
    "event_times",
    "deliveries",
    "ended_deliveries",
    "attempts",
    "idempotency_keys",
    "replays",
    "audits",
    "audit_heads",
)
"""What lies where its tenant's events lie: every key begins with the tenant, every join is within one."""
EVERYWHERE = (
    "hooks",
    "hooks_revision",
    "users",
    "tenants",
    "api_keys",
    "data_keys",
    "kinds",
    "inlets",
    "members",
    "segments",
    "copies",
)
"""Small, read by everybody, seldom changed."""


def distribution() -> Sequence[str]:
    """SQL statements in order, one a line."""
    return [
        "create extension if not exists citus;",
        *(f"select create_reference_table('{table}');" for table in EVERYWHERE),
        f"select create_distributed_table('{FIRST}', '{SHARD_KEY}');",
        *(
            f"select create_distributed_table('{table}', '{SHARD_KEY}', colocate_with => '{FIRST}');"
            for table in WITH_IT
        ),
    ]
