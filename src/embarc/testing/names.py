"""A resolver for tests, where nothing may ask a real one."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

from embarc.core.addresses import Address
from embarc.net.resolver import CannotResolve


class StaticResolver:
    """Knows the names it was given and no other."""

    def __init__(self, names: Mapping[str, str]) -> None:
        """`names` are addresses separated by blanks, by name; they may be changed."""
        self.names = dict(names)
        self.asked: list[str] = []

    def known(self, host: str) -> tuple[Address, ...] | None:
        """Nothing is remembered: every connection asks."""
        return None

    async def resolve(self, host: str) -> tuple[Address, ...]:
        """The addresses of the name as they are now."""
        self.asked.append(host)
        if host not in self.names:
            raise CannotResolve(host)
        return tuple(ip_address(text) for text in self.names[host].split())
