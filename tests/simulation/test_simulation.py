"""The simulation: promises kept over hundreds of seeds, and a simulation that would notice if they were not."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from embarc.core.submissions import Draft, Submission
from embarc.engine.lanes import Lane
from embarc.store.vault import Vault
from embarc.testing.simulated import DAY, HOUR
from embarc.testing.simulation import KIND, TENANT, Life, World, simulate, simulate_many
from embarc.testing.virtual import run_virtually

SEEDS = 500


def test_no_promise_is_broken_in_five_hundred_seeds() -> None:
    reports = simulate_many(range(1, SEEDS + 1), days=5)

    assert [(report.seed, report.violation) for report in reports if report.violation] == []
    assert len(reports) == SEEDS
    assert sum(report.crashes for report in reports) > SEEDS
    assert sum(report.attempts for report in reports) > 100 * SEEDS


def test_a_seed_is_the_same_each_time_in_any_process() -> None:
    once = simulate(7, days=5)
    again = simulate(7, days=5)
    script = "from embarc.testing.simulation import simulate; print(simulate(7, days=5).digest)"
    elsewhere = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()

    assert once == again
    assert elsewhere == once.digest
    assert simulate(8, days=5).digest != once.digest


def test_months_pass_in_seconds() -> None:
    report = simulate(3, days=90)

    assert report.violation == ""
    assert report.events > 300


def test_a_broken_promise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lane, "has_slot", lambda lane: True)

    violations = [simulate(seed, days=3).violation for seed in range(1, 9)]

    assert any("is one more attempt at a time than" in violation for violation in violations)


def test_a_receiver_that_comes_back_to_twenty_thousand_never_sees_more_than_its_limit(
    tmp_path: Path,
) -> None:
    world = World(1, tmp_path / "embarc.db", Vault.from_file(tmp_path / "key"))
    rate = 100

    async def story() -> list[float]:
        life = Life(world)
        await life.begin()
        config = {
            "Payload URL": "http://127.0.0.1:9000/",
            "Content Type": "json",
            "Rate Limit": str(rate),
            "Concurrency": "64",
        }
        events = [{"entityName": "LOAN", "actionName": "*"}]
        world.receivers.limits[1] = (64, float(rate), False)
        world.receivers.set_mood(config["Payload URL"], "absent", until=2 * DAY)
        body = {"name": "Web", "isActive": True, "events": events, "config": config}
        hook = (await life.hooks.create(TENANT, body)).hook
        for start in range(0, 20_000, 500):
            drafts = tuple(Draft(kind=KIND, ids={"loanId": start + place}) for place in range(500))
            await life.publisher.publish(Submission(tenant=TENANT, drafts=drafts))
        await asyncio.sleep(DAY)
        in_vain = len(world.ledger.sent_at[hook.id])
        world.receivers.are_well = True
        await asyncio.sleep(HOUR)
        await life.stop()
        assert in_vain < 150  # one probe every quarter of an hour, and the beginning
        return world.ledger.sent_at[hook.id][in_vain:]

    sent_at = run_virtually(story())

    def most_within(seconds: float) -> int:
        first = most = 0
        for last, moment in enumerate(sent_at):
            while sent_at[first] <= moment - seconds:
                first += 1
            most = max(most, last - first + 1)
        return most

    assert world.violation == ""
    assert most_within(10) <= rate * 10 * 1.1
    assert most_within(1) <= rate * 1.1 + 1
    assert len(world.ledger.processed) == 20_000  # within the hour
    early = [moment for moment in sent_at if moment < sent_at[0] + 5]
    assert len(early) <= 55  # it begins slowly
