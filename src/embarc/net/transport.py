"""The real transport: libcurl, driven by the event loop, to addresses that were checked.

Rules of this file:
* The address is decided here. A name is resolved and every one of its addresses checked; one denied address refuses
  the name. The connection is pinned to a checked address (CONNECT_TO); when libcurl opens a socket the address in hand
  must be that one, and so must the peer of a new connection.
* One deadline covers everything, name resolution included.
* Connections are pooled for each tenant apart.
* Where there is an egress proxy, every connection is a tunnel through it (CONNECT) to the address that was checked.
"""

from __future__ import annotations

import asyncio
import ssl
import time

from embarc.core.addresses import Address, Policy
from embarc.core.attempts import Outcome, Result
from embarc.core.urls import BadUrl, parse_url
from embarc.net.base import OutboundRequest
from embarc.net.connections import Pool, Target
from embarc.net.guard import Denied, EgressProxy, choose
from embarc.net.outcomes import failure
from embarc.net.resolver import CannotResolve, Resolver

_REMEMBER = 10_000


class CurlTransport:
    """A `Transport`. Make it inside a running event loop."""

    def __init__(
        self,
        *,
        policy: Policy,
        resolver: Resolver,
        ca_file: str | None = None,
        proxy: EgressProxy | None = None,
    ) -> None:
        self._policy = policy
        self._resolver = resolver
        self._ca_file = ca_file or _system_ca_file()
        self._proxy = proxy
        self._loop = asyncio.get_running_loop()
        self._pools: dict[str, Pool] = {}
        self._targets: dict[str, Target] = {}

    async def send(self, request: OutboundRequest) -> Outcome:
        started = time.monotonic()
        try:
            target = self._targets.get(request.url) or self._target(request.url)
            known = target.literal or self._resolver.known(target.url.host)
            if known is None:
                async with asyncio.timeout(request.timeout_seconds):
                    known = await self._resolver.resolve(target.url.host)
            if known is not target.checked:
                target.pinned = str(choose(target.url, known, self._policy))
                target.checked = known
            if self._proxy is not None:
                async with asyncio.timeout(request.timeout_seconds - (time.monotonic() - started)):
                    target.via = str(await self._proxy_address(self._proxy))
        except BadUrl as error:
            return failure(Result.DENIED, str(error), started)
        except CannotResolve as error:
            return failure(Result.DNS, f"{error} has no address", started)
        except Denied as error:
            target.checked = None
            return failure(Result.DENIED, str(error), started)
        except TimeoutError:
            return failure(Result.DNS, "the name was not resolved in time", started)
        pool = self._pools.get(request.tenant) or self._pool(request.tenant)
        return await pool.exchange(request, target, started)

    async def close(self) -> None:
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()

    def _pool(self, tenant: str) -> Pool:
        pool = self._pools[tenant] = Pool(self._loop, self._ca_file, self._proxy)
        return pool

    def _target(self, text: str) -> Target:
        if len(self._targets) >= _REMEMBER:
            self._targets.clear()
        target = self._targets[text] = Target(parse_url(text))
        return target

    async def _proxy_address(self, proxy: EgressProxy) -> Address:
        return (
            proxy.address or (self._resolver.known(proxy.host) or await self._resolver.resolve(proxy.host))[0]
        )


def _system_ca_file() -> str | None:
    """The system's certificates: the wheel of pycurl brings a libcurl that does not know where they are."""
    return ssl.get_default_verify_paths().cafile
