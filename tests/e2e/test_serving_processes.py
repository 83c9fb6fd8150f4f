"""`embarc serve --processes 2`: one port, restarts, one sum of what was counted, and nobody left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from embarc.testing.process import ServiceProcess

EVENT = {"entityName": "CLIENT", "actionName": "CREATE", "clientId": 7, "response": {"resourceId": 7}}


@pytest.fixture
def service(tmp_path: Path, postgres_url: str) -> Iterator[ServiceProcess]:
    started = ServiceProcess(tmp_path, "--processes", "2", "--no-sandbox", store=postgres_url)
    yield started
    if started.process.poll() is None:
        started.stop()


def children(service: ServiceProcess) -> set[int]:
    pid = service.process.pid
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def accepted(service: ServiceProcess) -> int:
    _, told = service.call("GET", "/metrics")
    (line,) = (line for line in told.splitlines() if line.startswith("embarc_events_accepted_total"))
    return int(float(line.split()[1]))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"


def test_the_counts_of_all_processes_are_told_as_one_sum_that_never_falls(service: ServiceProcess) -> None:
    for _ in range(20):
        service.ok("POST", "events", EVENT)
    until(lambda: {accepted(service) for _ in range(8)} == {20})  # whichever of them is asked

    before = children(service)
    os.kill(min(before), signal.SIGKILL)
    until(lambda: len(children(service) - before) == 1)
    service.ok("POST", "events", EVENT)

    until(lambda: {accepted(service) for _ in range(8)} == {21})


def test_a_process_that_ends_is_started_again_and_the_port_answers_meanwhile(service: ServiceProcess) -> None:
    before = children(service)

    os.kill(min(before), signal.SIGKILL)
    answers = [service.call("POST", "events", EVENT)[0] for _ in range(20)]
    until(lambda: len(children(service)) == 2)

    assert len(before) == 2
    assert answers == [200] * 20
    assert service.stop() == 0


@contextmanager
def standing_still(pid: int) -> Iterator[None]:
    """Every call is answered by another process meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_key_that_was_taken_back_at_one_process_is_worthless_at_the_other_although_it_remembered_it(
    service: ServiceProcess,
) -> None:
    made = service.ok("POST", "apikeys", {"name": "core", "role": "viewer"})
    one, other = children(service)

    def status() -> int:
        return service.call("GET", "hooks", Authorization=f"Bearer {made['key']}")[0]

    with standing_still(one):
        assert status() == 200
    with standing_still(other):
        assert status() == 200
        service.ok("DELETE", f"apikeys/{made['resourceIdentifier']}")
        assert status() == 401
    began = time.monotonic()
    with standing_still(one):
        until(lambda: status() == 401)

    assert time.monotonic() - began < 45  # without a word it would be remembered for a minute


def test_processes_whose_supervisor_was_killed_stop_by_themselves(service: ServiceProcess) -> None:
    left = children(service)

    service.kill()

    until(lambda: not any(is_alive(pid) for pid in left))


def test_an_embedded_store_is_for_one_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("embarc"), "serve", "--processes", "2"),
            *("--store", f"sqlite:///{tmp_path}/embarc.db"),
        ],
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("EMBARC_")},
    )

    assert done.returncode == 2
    assert "An embedded store is opened by one process" in done.stderr
