"""A fuzzer at one parser: `python -m tests.fuzz.harness url -max_total_time=60`. The options are libFuzzer's."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["embarc", "tests.fuzz"]):
    from tests.fuzz.parsers import HOSTILE, PIECES, TARGETS

SEEDS = [*PIECES, *HOSTILE, b"https://ex.com/a?b=c", b"X-Partner: 17\nX-B: c"]


def main() -> None:
    """Fuzz the target that the command line names first."""
    name = sys.argv.pop(1)
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(SEEDS):
            (Path(folder) / str(number)).write_bytes(seed)
        atheris.Setup([*sys.argv, folder], TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
