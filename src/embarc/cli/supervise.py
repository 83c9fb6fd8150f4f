"""`embarc serve --processes N`: one socket, N processes behind it, each started again when it ends.

Rules of this file:
* The socket is opened here and inherited: whichever process is free accepts, and the end of one loses no connection.
* This process touches the store once, before the others exist: it migrates and makes the user `admin`.
* A process whose supervisor is gone stops by itself: its standard input ends.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from embarc.app import Service
from embarc.cli.server import listen, make_admin
from embarc.observe import Observer
from embarc.settings import Settings, as_environment
from embarc.telemetry import log_to

STOPS_WITHIN_SECONDS = 60.0
"""Longer than the longest attempt and an answer's grace; then a process is killed."""
LONGEST_PAUSE_SECONDS = 30.0
"""Between two starts of a process that ends at once."""
CALM_AFTER_SECONDS = 60.0


async def supervise(settings: Settings, *, tell: Callable[[str], None] = print) -> int:
    """Run the processes until SIGINT or SIGTERM; returns the exit code."""
    observer = Observer()
    log_to(observer, settings.log_level)
    listening = listen(settings.host, settings.port)
    folder = Path(tempfile.mkdtemp(prefix="embarc-"))
    try:
        await _prepare(settings, observer, tell)
        supervisor = _Supervisor(settings, listening, folder, observer)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, supervisor.stop)
        running = [asyncio.create_task(supervisor.keep_running(place)) for place in range(settings.processes)]
        await supervisor.until_all_answer()
        if not supervisor.is_stopping:
            host, port = listening.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            tell(
                f"Embarc answers at http://{shown}:{port}  (API: /api/v1, documentation: /docs; {settings.processes} processes)"
            )
        return max(await asyncio.gather(*running))
    finally:
        listening.close()
        shutil.rmtree(folder, ignore_errors=True)


async def _prepare(settings: Settings, observer: Observer, tell: Callable[[str], None]) -> None:
    service = await Service.open(replace(settings, sandbox=False), observer, on_broken=lambda reason: None)
    try:
        await make_admin(service, settings, tell)
    finally:
        await service.stop()


class _Supervisor:
    def __init__(
        self, settings: Settings, listening: socket.socket, folder: Path, observer: Observer
    ) -> None:
        self.is_stopping = False
        self._settings = settings
        self._listening = listening
        self._folder = folder
        self._observe = observer
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._readers: dict[int, asyncio.Task[None]] = {}
        self._answering: set[int] = set()
        self._changed = asyncio.Event()
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Ask every process to stop; safe to call from a signal handler, and more than once."""
        self.is_stopping = True
        self._stop.set()
        self._changed.set()
        for process in self._processes.values():
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)

    async def until_all_answer(self) -> None:
        while len(self._answering) < self._settings.processes and not self.is_stopping:
            self._changed.clear()
            await self._changed.wait()

    async def keep_running(self, place: int) -> int:
        """Start the process of this place, and again whenever it ends; its last exit code."""
        pause = 0.0
        while True:
            started = time.monotonic()
            process = await self._start(place)
            code = await self._until_it_ends(process)
            self._answering.discard(place)
            if self.is_stopping:
                return max(code, 0)
            pause = (
                0.0
                if time.monotonic() - started > CALM_AFTER_SECONDS
                else min(pause * 2 or 0.5, LONGEST_PAUSE_SECONDS)
            )
            self._observe("process.ended", place=place, exit_code=code, again_in_seconds=pause)
            try:
                async with asyncio.timeout(pause):
                    await self._stop.wait()
                return max(code, 0)
            except TimeoutError:
                continue

    async def _start(self, place: int) -> asyncio.subprocess.Process:
        descriptor = self._listening.fileno()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "embarc", "serve", "--listening-socket", str(descriptor)),
            *("--shared-folder", str(self._folder)),
            env=os.environ | as_environment(replace(self._settings, processes=1)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(descriptor,),
            start_new_session=True,  # Ctrl-C of a terminal reaches this process only, which tells the others
        )
        self._processes[place] = process
        if self.is_stopping:
            process.send_signal(signal.SIGTERM)
        self._readers[place] = asyncio.create_task(self._read(place, process))
        return process

    async def _read(self, place: int, process: asyncio.subprocess.Process) -> None:
        """Its first line tells that it answers."""
        assert process.stdout is not None  # noqa: S101 - PIPE
        if await process.stdout.readline():
            self._answering.add(place)
            self._changed.set()

    async def _until_it_ends(self, process: asyncio.subprocess.Process) -> int:
        ending = asyncio.create_task(process.wait())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({ending, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        try:
            async with asyncio.timeout(STOPS_WITHIN_SECONDS if self.is_stopping else None):
                return await ending
        except TimeoutError:
            process.kill()
            return await process.wait()
