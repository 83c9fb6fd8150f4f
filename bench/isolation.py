"""`make bench-isolation`: what a hundred hooks feel of ten dead ones among them.

A hundred hooks get 200 events a second between them. Once all of them answer; once five never answer and five answer one
byte a second. The ninety others should not notice: their p99 from posted to received, with and without, side by side,
runs taken in turns because the machine is noisy.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.quick import Bench, percentile_ms

HOOKS = 100
DEAD = {"hang": 5, "drip": 5}
RATE = 200.0
SECONDS = 15.0
RUNS = 3


def run_once(*, with_dead: bool) -> tuple[float, float]:
    """p50 and p99 in milliseconds of the hooks that answer."""
    with tempfile.TemporaryDirectory(prefix="embarc-bench-") as folder:
        bench = Bench(Path(folder), EMBARC_OPEN_CATALOGUE="true")
        receivers = []
        urls = []
        for mode, count in DEAD.items():
            receiver = subprocess.Popen(
                [sys.executable, "-m", "bench.sink", mode],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert receiver.stdout
            receivers.append(receiver)
            urls += [f"http://127.0.0.1:{int(receiver.stdout.readline())}/hook"] * count
        dead = len(urls) if with_dead else 0
        for number in range(HOOKS):
            bench.add_hook(urls[number] if number < dead else bench.sink_url, f"E{number:05d}")
        accepted = bench.post(RATE, SECONDS, kinds=HOOKS)
        time.sleep(1)
        arrived = bench.close()
        for receiver in receivers:
            receiver.communicate("")
    healthy = [arrived[event_id] - sent for event_id, sent, _ in accepted if event_id in arrived]
    expected = len(accepted) * (HOOKS - dead) / HOOKS
    if len(healthy) < expected * 0.99:
        raise SystemExit(
            f"only {len(healthy)} of about {expected:.0f} events arrived at the hooks that answer"
        )
    return percentile_ms(healthy, 50), percentile_ms(healthy, 99)


def main() -> None:
    """Run in turns, print a table, write JSON beside it."""
    console = Console(width=120)
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    with console.status("isolation ...") as status:
        for number in range(RUNS):
            for with_dead in (False, True):
                status.update(f"{'ten dead hooks' if with_dead else 'all alive'}, run {number + 1} of {RUNS}")
                found[with_dead].append(run_once(with_dead=with_dead))
    medians = {
        with_dead: [statistics.median(run[place] for run in runs) for place in (0, 1)]
        for with_dead, runs in found.items()
    }
    table = Table(title=f"{HOOKS} hooks, {RATE:g} events/s; medians of {RUNS} runs")
    for column in ("", "received p50 ms", "received p99 ms", "p99 of each run"):
        table.add_column(column, justify="right" if column else "left")
    for with_dead, name in ((False, "all alive"), (True, "ten of them dead")):
        runs = ", ".join(f"{p99:.1f}" for _, p99 in found[with_dead])
        table.add_row(name, f"{medians[with_dead][0]:.2f}", f"{medians[with_dead][1]:.2f}", runs)
    console.print(table)
    ratio = medians[True][1] / medians[False][1]
    console.print(f"p99 with dead hooks / without: {ratio:.2f}")
    folder = Path("bench/results")
    folder.mkdir(exist_ok=True)
    (folder / "isolation.json").write_text(
        json.dumps({"alive_ms": medians[False], "with_dead_ms": medians[True], "p99_ratio": ratio}, indent=2)
        + "\n"
    )


if __name__ == "__main__":
    main()
