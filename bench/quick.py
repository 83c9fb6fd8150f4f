"""`make bench-quick`: CPU microseconds per delivered webhook of the real service, in under two minutes.

The service runs as its own process from the installed command, on a durable store, with one hook pointing at a
cheap sink. Single events come from 64 connections: saturated (closed loop), then at half of that rate (open loop).
CPU is read from /proc over all processes of the service, from the first post to the last delivery. Every number is
the median of three runs; CPU per webhook depends on the load, so it always stands beside it. Shared machines are noisy:
the reference is a fixed piece of work measured before each run, to compare runs by.
"""

from __future__ import annotations

import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RUNS = 3
SECONDS = 4.0
CONNECTIONS = 64
PASSWORD = "bench"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Measured:
    """One run."""

    cpu_us: float
    per_second: float
    accepted_p50_ms: float
    accepted_p99_ms: float
    received_p50_ms: float
    received_p99_ms: float
    rss_mb: float
    delivered: int
    reference_us: float


class Bench:
    """A service and a sink, both processes."""

    def __init__(self, folder: Path, **settings: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EMBARC_")}
        self.sink = subprocess.Popen(
            [sys.executable, "-m", "bench.sink"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.sink.stdout
        self.sink_url = f"http://127.0.0.1:{int(self.sink.stdout.readline())}/hook"
        self.service = subprocess.Popen(
            [
                *(
                    str(Path(sys.executable).with_name("embarc")),
                    "serve",
                    "--port",
                    "0",
                    "--log-level",
                    "error",
                ),
                *("--store", f"sqlite:///{folder / 'bench.db'}", "--allow-private", "127.0.0.0/8"),
            ],
            env=environment | {"EMBARC_ADMIN_PASSWORD": PASSWORD} | settings,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.service.stdout
        self.port = int(self.service.stdout.readline().split("http://127.0.0.1:")[1].split()[0])
        self.idle_rss_mb = self.rss_mb()

    def add_hook(self, url: str, entity: str = "CLIENT", **config: str) -> None:
        """A hook for one entity's creations."""
        body = {
            "name": "Web",
            "displayName": "bench",
            "isActive": True,
            "events": [{"entityName": entity, "actionName": "CREATE"}],
            "config": {"Payload URL": url, "Content Type": "json", **config},
        }
        self.call("POST", "/hooks", body)

    def measure(self, rate: float, start: int) -> tuple[list[tuple[str, float, float]], float, float]:
        """Post events; returns what was accepted, the CPU seconds until all were delivered, and when that was."""
        before = self.cpu_seconds()
        accepted = self.post(rate, SECONDS, start=start)
        self._wait_until_settled()
        return accepted, self.cpu_seconds() - before, time.time()

    def post(
        self, rate: float, seconds: float, *, start: int = 1, kinds: int = 0
    ) -> list[tuple[str, float, float]]:
        """Post events for a while; returns the id of each, when it was sent and when it was answered."""
        load = subprocess.run(
            [
                *(sys.executable, "-m", "bench.load", "--port", str(self.port), "--password", PASSWORD),
                *("--connections", str(CONNECTIONS), "--seconds", str(seconds)),
                *("--rate", str(rate), "--start", str(start), "--kinds", str(kinds)),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        return [tuple(row) for row in json.loads(load.stdout)]

    def _wait_until_settled(self) -> None:
        while self.call("GET", "/deliveries?state=waiting&limit=1")["pageItems"]:
            time.sleep(0.05)

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One call of the API."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v1{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()},
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as response:
            return json.load(response)

    def cpu_seconds(self) -> float:
        """User and system time of the service, all threads and children."""
        fields = Path(f"/proc/{self.service.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / _TICKS

    def rss_mb(self) -> float:
        """Resident memory of the service."""
        pages = int(Path(f"/proc/{self.service.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def close(self) -> dict[str, float]:
        """Stop both; returns when each event arrived at the sink."""
        self.service.terminate()
        self.service.wait(timeout=60)
        out, _ = self.sink.communicate("")
        arrived: dict[str, float] = json.loads(out)
        return arrived


def run_once(rate: float) -> Measured:
    """One run on a fresh store."""
    reference = reference_us()
    with tempfile.TemporaryDirectory(prefix="embarc-bench-") as folder:
        bench = Bench(Path(folder))
        bench.add_hook(bench.sink_url, Concurrency="64")
        bench.call("GET", "/events")  # signs in once, so that the hash of the password is not in the numbers
        accepted, cpu, _ = bench.measure(rate, start=1)
        rss = bench.rss_mb()
        arrived = bench.close()
    lost = [event_id for event_id, _, _ in accepted if event_id not in arrived]
    if lost:
        raise SystemExit(f"{len(lost)} of {len(accepted)} accepted events never arrived, such as {lost[0]}")
    to_accept = [answered - sent for _, sent, answered in accepted]
    to_receive = [arrived[event_id] - sent for event_id, sent, _ in accepted]
    began = min(sent for _, sent, _ in accepted)
    return Measured(
        cpu_us=cpu / len(accepted) * 1e6,
        per_second=len(accepted) / (max(arrived.values()) - began),
        accepted_p50_ms=percentile_ms(to_accept, 50),
        accepted_p99_ms=percentile_ms(to_accept, 99),
        received_p50_ms=percentile_ms(to_receive, 50),
        received_p99_ms=percentile_ms(to_receive, 99),
        rss_mb=rss,
        delivered=len(accepted),
        reference_us=reference,
    )


def reference_us() -> float:
    """CPU microseconds of a fixed piece of work, to tell a slow moment of the machine from a slow service."""
    text = json.dumps({"entityName": "CLIENT", "request": {f"field{number}": number for number in range(20)}})
    began = time.process_time()
    for _ in range(20_000):
        json.loads(text)
    return (time.process_time() - began) / 20_000 * 1e6


def percentile_ms(seconds: list[float], percent: int) -> float:
    """Milliseconds below which so many of a hundred are."""
    return statistics.quantiles(seconds, n=100)[percent - 1] * 1000


def _median(runs: list[Measured]) -> dict[str, float]:
    return {name: statistics.median(getattr(run, name) for run in runs) for name in Measured.__slots__}


def main() -> None:
    """Run, print a table, write JSON beside it."""
    console = Console(width=120)
    results: dict[str, dict[str, Any]] = {}
    with console.status("saturated ...") as status:
        runs = []
        for number in range(RUNS):
            status.update(f"saturated, run {number + 1} of {RUNS}")
            runs.append(run_once(0))
        results["saturated"] = _median(runs) | {"cpu_us_runs": [round(run.cpu_us, 1) for run in runs]}
        half = results["saturated"]["per_second"] / 2
        runs = []
        for number in range(RUNS):
            status.update(f"half load ({half:.0f}/s), run {number + 1} of {RUNS}")
            runs.append(run_once(half))
        results["half load"] = _median(runs) | {"cpu_us_runs": [round(run.cpu_us, 1) for run in runs]}
    table = Table(
        title=f"one hook, {CONNECTIONS} connections, single events, SQLite FULL; medians of {RUNS} runs"
    )
    for column in (
        "",
        "CPU us/webhook",
        "webhooks/s",
        "accepted p50/p99 ms",
        "received p50/p99 ms",
        "RSS MB",
        "reference us",
    ):
        table.add_column(column, justify="right" if column else "left")
    for name, found in results.items():
        table.add_row(
            name,
            f"{found['cpu_us']:.0f}",
            f"{found['per_second']:.0f}",
            f"{found['accepted_p50_ms']:.1f} / {found['accepted_p99_ms']:.1f}",
            f"{found['received_p50_ms']:.1f} / {found['received_p99_ms']:.1f}",
            f"{found['rss_mb']:.0f}",
            f"{found['reference_us']:.2f}",
        )
    console.print(table)
    folder = Path("bench/results")
    folder.mkdir(exist_ok=True)
    (folder / "quick.json").write_text(json.dumps(results, indent=2) + "\n")
    console.print(f"written to {folder / 'quick.json'}")


if __name__ == "__main__":
    main()
