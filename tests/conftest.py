"""What every test has: an environment without our settings."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("EMBARC_") and not name.startswith("EMBARC_TEST_"):
            monkeypatch.delenv(name)
