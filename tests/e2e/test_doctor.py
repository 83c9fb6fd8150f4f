"""`embarc doctor` beside a running service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from embarc.core.findings import Level
from embarc.settings import Settings
from embarc.testing.engine import EngineLab
from embarc.testing.process import ServiceProcess
from embarc.upkeep import examine


def doctor(store: Path, *options: str) -> tuple[int, dict[str, Any]]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EMBARC_")}
    done = subprocess.run(
        [
            Path(sys.executable).with_name("embarc"),
            "doctor",
            "--json",
            "--store",
            f"sqlite:///{store}",
            *options,
        ],
        capture_output=True,
        text=True,
        env=clean,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_running_service_is_looked_over_without_disturbing_it(tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path)
    try:
        code, found = doctor(tmp_path / "embarc.db", "--deep")
        by_name = {one["name"]: one for one in found["findings"]}

        assert by_name["service"]["told"] == "running"
        assert by_name["integrity"]["told"] == "ok"
        assert by_name["schema"]["told"] == "up to date"
        assert by_name["failing hooks"]["told"] == "none"
        assert by_name["key"]["told"].startswith("opens ")
        assert code == max({"OK": 0, "WARNING": 1, "CRITICAL": 2}[one["level"]] for one in found["findings"])
    finally:
        service.stop()


def test_a_database_that_is_not_there_is_critical(tmp_path: Path) -> None:
    code, found = doctor(tmp_path / "none.db")

    assert code == 2
    assert "there is no database" in found["findings"][0]["told"]


async def test_a_key_that_does_not_open_what_is_sealed_is_critical(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'embarc.db'}"
    engine = await EngineLab(url).start()
    await engine.stop()

    (key,) = [
        one for one in await examine(Settings(store=url, key="11" * 32), deep=False) if one.name == "key"
    ]

    assert key.level is Level.CRITICAL
    assert "are protected by the key" in key.told
