"""`embarc demo --once`, as the README's first command runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EMBARC = str(Path(sys.executable).with_name("embarc"))


def test_the_demo_shows_a_valid_webhook_and_ends_well(tmp_path: Path) -> None:
    done = subprocess.run(
        [EMBARC, "demo", "--once", "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "NO_COLOR": "1"},
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "signature valid" in done.stdout
    assert "X-Embarc-Event: CLIENT.CREATE" in done.stdout
    assert '"state": "delivered"' in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_setting_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    done = subprocess.run(
        [EMBARC, "serve"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "EMBARC_PROT": "1"},
    )

    assert done.returncode == 2
    assert "There is no setting EMBARC_PROT. Did you mean EMBARC_PORT?" in done.stderr
