"""Names into addresses, remembered for a minute, asked for once at a time."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Protocol

from embarc.core.addresses import Address

REMEMBER_SECONDS = 60.0
REMEMBER_FAILURE_SECONDS = 5.0
LOOK_UP_SECONDS = 5.0
"""How long a look-up may take before its name counts as unknown. The system's own patience is longer, and not ours to set."""
_REMEMBER = 10_000
_THREADS = 16
_SUSPECT_THREADS = 4


class CannotResolve(Exception):
    """The name has no address, or nobody could tell."""


class Resolver(Protocol):
    """Finds the addresses of a name."""

    def known(self, host: str) -> tuple[Address, ...] | None:
        """What is remembered, without waiting; raises `CannotResolve` where a failure is remembered."""
        ...

    async def resolve(self, host: str) -> tuple[Address, ...]:
        """Every address of the name; raises `CannotResolve`."""
        ...


class SystemResolver:
    """The operating system's resolver, in threads of its own.

    A look-up cannot be stopped. So that dead zones do not keep every thread, a name that was too slow once is looked up in
    a few threads apart until it answers.
    """

    def __init__(
        self,
        *,
        look_up: Callable[[str], tuple[Address, ...]] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        look_up_seconds: float = LOOK_UP_SECONDS,
    ) -> None:
        self._look_up = look_up or _look_up
        self._monotonic = monotonic
        self._look_up_seconds = look_up_seconds
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="embarc-resolver")
        self._suspect_threads = ThreadPoolExecutor(
            _SUSPECT_THREADS, thread_name_prefix="embarc-slow-resolver"
        )
        self._suspects: set[str] = set()
        self._answers: dict[str, tuple[tuple[Address, ...], float]] = {}
        self._under_way: dict[str, asyncio.Future[tuple[Address, ...]]] = {}

    def known(self, host: str) -> tuple[Address, ...] | None:
        answer = self._answers.get(host)
        if answer is None or self._monotonic() >= answer[1]:
            return None
        if not answer[0]:
            raise CannotResolve(host)
        return answer[0]

    async def resolve(self, host: str) -> tuple[Address, ...]:
        known = self.known(host)
        if known is not None:
            return known
        asked = self._under_way.get(host)
        if asked is None:
            threads = self._suspect_threads if host in self._suspects else self._threads
            asked = asyncio.get_running_loop().run_in_executor(threads, self._look_up, host)
            self._under_way[host] = asked
            asked.add_done_callback(lambda done: self._remember(host, done))
        try:
            async with asyncio.timeout(self._look_up_seconds):
                # Whoever waits may give up; the answer is kept for the next one.
                found = await asyncio.shield(asked)
        except TimeoutError:
            self._suspect(host)
            found = ()
        except OSError:
            found = ()
        if not found:
            raise CannotResolve(host)
        return found

    def close(self) -> None:
        """Let go of the threads; a look-up under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._suspect_threads.shutdown(wait=False, cancel_futures=True)

    def _suspect(self, host: str) -> None:
        if len(self._suspects) >= _REMEMBER:
            self._suspects.clear()
        self._suspects.add(host)
        self._keep(host, (), REMEMBER_FAILURE_SECONDS)

    def _remember(self, host: str, done: asyncio.Future[tuple[Address, ...]]) -> None:
        del self._under_way[host]
        found = () if done.cancelled() or done.exception() else done.result()
        if found:
            self._suspects.discard(host)
        self._keep(host, found, REMEMBER_SECONDS if found else REMEMBER_FAILURE_SECONDS)

    def _keep(self, host: str, found: tuple[Address, ...], seconds: float) -> None:
        while len(self._answers) >= _REMEMBER:
            del self._answers[next(iter(self._answers))]
        self._answers[host] = (found, self._monotonic() + seconds)


def _look_up(host: str) -> tuple[Address, ...]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))
