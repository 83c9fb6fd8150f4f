"""What a doctor says about numbers."""

from __future__ import annotations

import pytest

from embarc.core.findings import (
    Finding,
    Level,
    autovacuum,
    clock_skew,
    connections,
    dead_rows,
    disabled_hooks,
    durability,
    failing_hooks,
    free_disk,
    installation_key,
    members,
    migrations,
    oldest_transaction,
    partitions,
    queue_age,
    replication_slot,
    standbys,
    versions,
    worst,
)

GIGABYTE = 1024**3
SAFE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}


@pytest.mark.parametrize(
    ("finding", "level"),
    [
        (queue_age(None), Level.OK),
        (queue_age(-5), Level.OK),
        (queue_age(59), Level.OK),
        (queue_age(60), Level.WARNING),
        (queue_age(900), Level.CRITICAL),
        (free_disk(50 * GIGABYTE, 100 * GIGABYTE), Level.OK),
        (free_disk(9 * GIGABYTE, 100 * GIGABYTE), Level.WARNING),
        (free_disk(1 * GIGABYTE, 2 * GIGABYTE), Level.WARNING),
        (free_disk(1 * GIGABYTE, 100 * GIGABYTE), Level.CRITICAL),
        (free_disk(0, 0), Level.CRITICAL),
        (clock_skew(-0.4), Level.OK),
        (clock_skew(-2.5), Level.WARNING),
        (clock_skew(61), Level.CRITICAL),
        (versions("x", (3, 51, 2), (3, 51, 3), "it is broken."), Level.CRITICAL),
        (versions("x", (3, 54, 1), (3, 51, 3), "it is broken."), Level.OK),
        (failing_hooks([]), Level.OK),
        (failing_hooks(["a"]), Level.WARNING),
        (disabled_hooks([]), Level.OK),
        (disabled_hooks(["a"]), Level.WARNING),
        (migrations([]), Level.OK),
        (migrations(["one"]), Level.WARNING),
        (durability(SAFE), Level.OK),
        (durability(SAFE | {"synchronous_commit": "local"}), Level.OK),
        (durability(SAFE | {"fsync": "off"}), Level.CRITICAL),
        (durability(SAFE | {"full_page_writes": "off"}), Level.CRITICAL),
        (durability(SAFE | {"synchronous_commit": "off"}), Level.CRITICAL),
        (standbys([]), Level.OK),
        (standbys([("b", "async")]), Level.OK),
        (standbys([("b", "sync")], wants_synchronous=True), Level.OK),
        (standbys([("b", "quorum")], wants_synchronous=True), Level.OK),
        (standbys([("b", "async")], wants_synchronous=True), Level.CRITICAL),
        (standbys([], wants_synchronous=True), Level.CRITICAL),
        (standbys([], is_standby=True), Level.CRITICAL),
        (oldest_transaction([]), Level.OK),
        (oldest_transaction([("process 7", 299.9), ("process 8", 2)]), Level.OK),
        (oldest_transaction([("process 7", 300)]), Level.WARNING),
        (oldest_transaction([("prepared transaction x", 3600)]), Level.CRITICAL),
        (replication_slot("s", 1000, 1000, is_active=True), Level.OK),
        (replication_slot("s", 1_000_000, 0, is_active=True), Level.WARNING),
        (replication_slot("s", 0, GIGABYTE, is_active=False), Level.WARNING),
        (replication_slot("s", 0, 16 * GIGABYTE, is_active=False), Level.CRITICAL),
        (dead_rows("t", 0, 99_999), Level.OK),
        (dead_rows("t", 1_000_000, 999_999), Level.OK),
        (dead_rows("t", 100_000, 100_000), Level.WARNING),
        (dead_rows("t", 500_001, 1_000_000), Level.WARNING),
        (dead_rows("t", 500_000, 1_000_000), Level.CRITICAL),
        (partitions("t", 7, has_missed=False, alarm_days=2), Level.OK),
        (partitions("t", 1, has_missed=False, alarm_days=2), Level.WARNING),
        (partitions("t", 7, has_missed=True, alarm_days=2), Level.WARNING),
        (partitions("t", -1, has_missed=False, alarm_days=2), Level.CRITICAL),
        (autovacuum({"autovacuum": "on", "track_counts": "on"}), Level.OK),
        (autovacuum({"autovacuum": "off", "track_counts": "on"}), Level.CRITICAL),
        (autovacuum({"autovacuum": "on", "track_counts": "off"}), Level.CRITICAL),
        (connections(79, 100), Level.OK),
        (connections(80, 100), Level.WARNING),
        (connections(95, 100), Level.CRITICAL),
        (members([], 0, None), Level.OK),
        (members([], 0, -3), Level.OK),
        (members(["a"], 1, 500), Level.OK),
        (members(["a"], 0, 0), Level.CRITICAL),
        (members([], 0, 500), Level.CRITICAL),
        (installation_key(3, ""), Level.OK),
        (installation_key(0, ""), Level.OK),
        (installation_key(3, "it is another one"), Level.CRITICAL),
    ],
)
def test_a_number_has_its_level_and_only_what_is_bad_has_advice(finding: Finding, level: Level) -> None:
    assert finding.level is level
    assert bool(finding.advice) == (level is not Level.OK)


def test_the_worst_finding_decides() -> None:
    assert worst([queue_age(None), queue_age(70)]) is Level.WARNING
    assert worst([]) is Level.OK


def test_many_names_are_cut_short() -> None:
    assert failing_hooks(list("abcdefg")).told == "7: a, b, c, d, e and 2 more"


def test_who_holds_the_oldest_transaction_is_named_and_what_cannot_be_seen_is_said() -> None:
    found = oldest_transaction([("process 7", 400), ("process 8", 2)], sees_all=False)

    assert found.told.startswith("process 7 for 400 s and 1 younger (of this role's own; grant it")
    assert "grant" not in oldest_transaction([("process 7", 400)]).told
