"""Which address a URL is sent to: the policy applied to what its name resolves to.

One denied address refuses the whole name: whoever controls a name's answers must not choose which of them is looked at.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

from embarc.core.addresses import Address, Policy, refusal
from embarc.core.urls import BadUrl, Url, checked_url, parse_url
from embarc.net.resolver import CannotResolve, Resolver

CHECK_SECONDS = 3.0
"""A name is waited for this long when a hook is saved. One that is not found by then is checked when it is sent to."""


class Denied(Exception):
    """Nothing may be sent there."""


def choose(url: Url, addresses: tuple[Address, ...], policy: Policy) -> Address:
    """The first address, if every one of them is allowed; raises `Denied`. `localhost` may have one that is not: a machine's
    own name has both families, and an operator who allows 127.0.0.0/8 means it."""
    reasons = [_refusal(address, url, policy) for address in addresses]
    allowed = [address for address, reason in zip(addresses, reasons, strict=True) if reason is None]
    if not allowed or (len(allowed) < len(addresses) and url.host != "localhost"):
        raise Denied(next(filter(None, reasons), "no address"))
    return allowed[0]


def _refusal(address: Address, url: Url, policy: Policy) -> str | None:
    reason = refusal(address, url.port, policy)
    if reason is None and url.scheme == "http" and not policy.is_inside(address, url.port):
        return "plain http is not allowed; use https"
    return reason


class UrlChecker:
    """Checks a URL that somebody wants to save: its text, then the addresses of its name."""

    def __init__(self, policy: Policy, resolver: Resolver) -> None:
        self._policy = policy
        self._resolver = resolver

    def canonical(self, text: str) -> str:
        """The canonical form; raises `BadUrl`. Looks at the text only."""
        return checked_url(text, self._policy)

    async def check_name(self, text: str) -> None:
        """Raises `BadUrl` where the name has an address that may not be sent to. One without an address passes: its
        endpoint may not be there yet, and every connection is checked anew."""
        url = parse_url(text)
        if url.address is not None:
            return
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                choose(url, await self._resolver.resolve(url.host), self._policy)
        except Denied as error:
            raise BadUrl(str(error)) from None
        except (CannotResolve, TimeoutError):
            return


@dataclass(frozen=True, slots=True)
class EgressProxy:
    """A proxy that every connection goes through by HTTP CONNECT (RFC 9110 section 9.3.6)."""

    host: str
    port: int
    credentials: str = field(default="", repr=False)
    """`user:password`; empty where it asks for none."""

    @property
    def address(self) -> Address | None:
        """The address, where the host is one."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None


def parse_proxy(text: str) -> EgressProxy:
    """`http://proxy.example:3128`, `http://user:password@10.0.0.5:3128`; raises ValueError, without the password."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if (
        parts.scheme != "http"
        or not parts.hostname
        or not port
        or parts.path not in ("", "/")
        or parts.query
        or parts.fragment
    ):
        raise ValueError("write it as http://HOST:PORT or http://USER:PASSWORD@HOST:PORT")
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if parts.username else ""
    return EgressProxy(parts.hostname, port, pair)
