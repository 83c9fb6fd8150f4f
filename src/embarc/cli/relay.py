"""The relay as a process of its own, until it is asked to stop."""

from __future__ import annotations

import asyncio
import signal

from embarc.core.errors import SettingsError
from embarc.inlets.outboxes import open_source, shown
from embarc.inlets.posting import AT_ONCE, Poster, basic
from embarc.inlets.relay import Relay
from embarc.observe import Observer
from embarc.telemetry import log_to

LEVELS = ("debug", "info", "warning", "error")


async def relay_forever(
    source: str, to: str, *, authorization: str, tenant: str, keep: bool, log_level: str
) -> None:
    """Carry events from the outbox at `source` to the Embarc at `to` until SIGINT or SIGTERM. Raises `SettingsError`."""
    if log_level not in LEVELS:
        raise SettingsError(f"`log_level` must be one of {', '.join(LEVELS)}.")
    observer = Observer()
    log_to(observer, log_level)
    outbox = open_source(source, tenant=tenant, keep=keep)
    poster = Poster(to, authorization=authorization)
    relay = Relay(outbox, poster.publish, observer, at_once=AT_ONCE)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    relay.start()
    print(f"Relaying from {shown(source)} to {to}", flush=True)
    await stopped.wait()
    await relay.stop()
    poster.close()


def authorization_of(key: str, user: str, password: str) -> str:
    """The `Authorization` header of a key, or of a user; raises `SettingsError` where it is not exactly one of them."""
    if bool(key) == bool(user):
        raise SettingsError("Give either `--key` (or EMBARC_RELAY_KEY) or `--user`, not both and not none.")
    if key:
        return f"Bearer {key}"
    if not password:
        raise SettingsError(f"The password of {user} is expected in the variable EMBARC_RELAY_PASSWORD.")
    return basic(user, password)
