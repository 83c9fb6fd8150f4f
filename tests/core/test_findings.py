"""What a doctor says about numbers."""

from __future__ import annotations

import pytest

from embarc.core.findings import (
    Finding,
    Level,
    clock_skew,
    disabled_hooks,
    failing_hooks,
    free_disk,
    migrations,
    queue_age,
    versions,
    worst,
)

GIGABYTE = 1024**3


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
