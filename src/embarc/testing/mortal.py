"""Processes that are killed at random and started again at once: what a bad day does to an installation."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

_CALM_START_SECONDS = 1.5
"""How long a process takes to start on a machine that has nothing else to do."""
_START_SECONDS = 120
_STOP_SECONDS = 60


class MortalProcess:
    """The installed command with these arguments, running in `folder`. `await start()`; `await stop()` at the end."""

    def __init__(self, name: str, folder: Path, *arguments: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self.kills = 0
        self._folder = folder
        self._command = [str(Path(sys.executable).with_name("embarc")), *arguments]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("EMBARC_")}
        self._environment = clean | dict(environment)
        self._process: asyncio.subprocess.Process

    async def start(self) -> float:
        """Return when it has said its first line, which is that it works, with the seconds that took; raises RuntimeError
        with its log."""
        began = time.monotonic()
        log_path = self._folder / f"{self.name}.log"
        with log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdout  # noqa: S101 - PIPE
        async with asyncio.timeout(_START_SECONDS):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} did not start: {log_path.read_text()[-2000:]}")
        return time.monotonic() - began

    async def kill(self) -> None:
        """SIGKILL: what a crash does."""
        self._process.kill()
        await self._process.wait()
        self.kills += 1

    async def stop(self) -> int:
        """SIGTERM, and SIGKILL where that takes too long; returns the exit code."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
        return await self._process.wait()


async def kill_again_and_again(
    processes: Sequence[MortalProcess],
    chance: Random,
    over: asyncio.Event,
    *,
    every_seconds: tuple[float, float],
) -> None:
    """Kill one of them after each such while and start it again, until it is `over`. Then all of them are alive.

    On a machine that is busy with something else, where starting takes longer, so does the while: they get to work.
    """
    slowness = 1.0
    while not over.is_set():
        try:
            async with asyncio.timeout(chance.uniform(*every_seconds) * slowness):
                await over.wait()
        except TimeoutError:
            victim = chance.choice(processes)
            await victim.kill()
            slowness = max(1.0, await victim.start() / _CALM_START_SECONDS)


def lasting_port() -> int:
    """A port for whoever comes back to it: none of those that the system gives to clients meanwhile."""
    lowest_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10_000, lowest_given)  # noqa: S311 - no secret
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
