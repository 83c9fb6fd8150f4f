"""Which addresses may be sent to.

Our own tables, because Python's `ipaddress` differs between versions and lets through what reaches inside: NAT64 and
6to4 forms of private addresses, IPv4-compatible and translated addresses, site-local, multicast, Azure's host
address. IPv4: everything but the ranges below. IPv6: nothing but global unicast, minus the ranges below.
Sources: IANA's special-purpose registries (RFC 6890 and successors), the providers' metadata addresses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_DENIED_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "168.63.129.16/32",  # Azure's host
    )
)
_ALLOWED_V6 = IPv6Network("2000::/3")
_DENIED_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo, ORCHID, benchmarking
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: carries an IPv4 address of anybody's choice
        "3fff::/20",  # documentation
    )
)
_METADATA = tuple(
    ip_network(text)
    for text in (
        "169.254.0.0/16",  # 169.254.169.254 nearly everywhere, 169.254.170.2 and .23 for containers, 169.254.0.23
        "fe80::/10",  # the same for IPv6
        "fd00:ec2::/32",  # AWS
        "fd20:ce::254/128",  # Google
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure's host
        "192.0.0.192/32",  # Oracle
    )
)
"""Where machines in a cloud get their own credentials from. A private network never covers them by itself."""
_THIS_MACHINE = tuple(ip_network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "::/128", "::1/128"))
_CARRIES_V4 = tuple(
    IPv6Network(text)
    for text in (
        "::ffff:0:0/96",  # IPv4-mapped
        "::/96",  # IPv4-compatible
        "::ffff:0:0:0/96",  # IPv4-translated
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",  # NAT64 of one's own
    )
)
"""Ranges whose last 32 bits are an IPv4 address."""
_6TO4 = IPv6Network("2002::/16")

NEVER_PORTS = frozenset(
    {0, 22, 23, 25, 53, 110, 111, 135, 139, 143, 389, 445, 465, 514, 587, 636, 873, 993, 995, 1433, 1521, 2049, 2181,
     2375, 2379, 3306, 3389, 5432, 5672, 5900, 6379, 9042, 9200, 11211, 27017}
)  # fmt: skip
"""Ports of mail, shells, file servers, databases and queues, some of which obey what an HTTP request happens to spell. Only
an allowed network that names such a port itself reaches it."""


@dataclass(frozen=True, slots=True)
class AllowedNetwork:
    """A private network that the operator lets hooks point to, on one port or on all."""

    network: Network
    port: int | None = None

    def covers(self, address: Address, port: int) -> bool:
        """Whether a connection to this address and port is inside. This machine itself has to be meant: 0.0.0.0/0 and ::/0 do
        not cover it, 127.0.0.0/8 does."""
        if address not in self.network or not self.covers_port(port):
            return False
        return not _is_in(address, _THIS_MACHINE) or any(
            self.network.version == own.version and self.network.subnet_of(own)  # type: ignore[arg-type] # of one version
            for own in _THIS_MACHINE
        )

    def covers_port(self, port: int) -> bool:
        """Whether the port is meant."""
        return self.port == port or (self.port is None and port not in NEVER_PORTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What this installation lets hooks point to. The default: public addresses, https, ports 443 and 8443."""

    allow_private: tuple[AllowedNetwork, ...] = ()
    ports: frozenset[int] = frozenset({443, 8443})
    deny: tuple[Network, ...] = ()
    """Networks that are denied whatever else allows them: public addresses of one's own."""
    allow_metadata: bool = False
    """Whether `allow_private` may cover the metadata services of clouds."""

    def is_inside(self, address: Address, port: int) -> bool:
        """Whether the operator's allow-list covers this address and port."""
        if not self.allow_metadata and is_metadata(address):
            return False
        return any(allowed.covers(_unmapped(address), port) for allowed in self.allow_private)


_ALLOWED = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[0-9.]+))(?P<length>/\d{1,3})?(?::(?P<port>[1-9]\d{0,4}))?\Z"
)


def parse_allowed(text: str) -> AllowedNetwork:
    """`10.1.0.0/16`, `127.0.0.1:9000`, `fd12::/16`, `[fd12::1]/128:8443`; raises ValueError with what was expected."""
    text = text.strip()
    try:
        found = _ALLOWED.match(text)
        if not found:
            return AllowedNetwork(
                ip_network(text, strict=False)
            )  # IPv6 without brackets: every colon is the address's
        port = int(found["port"]) if found["port"] else None
        if port is not None and port > 65535:
            raise ValueError(text)
        return AllowedNetwork(
            ip_network((found["v6"] or found["v4"]) + (found["length"] or ""), strict=False), port
        )
    except ValueError:
        raise ValueError(
            f"`{text[:60]}` is not a network. Write it as 10.1.0.0/16, 127.0.0.0/8:9000 or [fd12::]/16:8443."
        ) from None


def parse_network(text: str) -> Network:
    """`198.51.100.0/24`, `2001:db8::/32`; raises ValueError with what was expected."""
    allowed = parse_allowed(text)
    if allowed.port is not None:
        raise ValueError(f"`{text.strip()[:60]}` must not name a port.")
    return allowed.network


def parse_port(text: str) -> int:
    """A port that hooks may use; raises ValueError."""
    port = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    if not 0 < port <= 65535 or port in NEVER_PORTS:
        raise ValueError(f"`{text[:20]}` is not a port that hooks may use.")
    return port


def refusal(address: Address, port: int, policy: Policy) -> str | None:
    """Why this address may not be connected to, or None where it may. The words do not tell what is behind it."""
    plain = _unmapped(address)
    if _is_in(plain, policy.deny):
        return "the address is not one that hooks may use"
    if policy.is_inside(address, port):
        return None
    if any(plain in allowed.network and not allowed.covers_port(port) for allowed in policy.allow_private):
        return f"the port {port} is not one that hooks may use"
    if not is_public(address):
        return "the address is private, local or reserved"
    return port_refusal(port, policy)


def port_refusal(port: int, policy: Policy) -> str | None:
    """Why this port of a public address may not be connected to."""
    return None if port in policy.ports else f"the port {port} is not one that hooks may use"


def is_metadata(address: Address) -> bool:
    """Whether this is the metadata service of a cloud, also in the forms that gateways turn into its IPv4 address."""
    return any(_is_in(form, _METADATA) for form in _forms(address))


def is_public(address: Address) -> bool:
    """Whether this is an ordinary address of the public internet, by our own tables."""
    plain = _unmapped(address)
    if isinstance(plain, IPv4Address):
        return not _is_in(plain, _DENIED_V4)
    return plain in _ALLOWED_V6 and not _is_in(plain, _DENIED_V6)


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _forms(address: Address) -> Iterator[Address]:
    """The address, and the IPv4 address that it carries."""
    yield address
    if isinstance(address, IPv6Address):
        if _is_in(address, _CARRIES_V4):
            yield IPv4Address(int(address) & 0xFFFFFFFF)
        elif address in _6TO4:
            yield IPv4Address(int(address) >> 80 & 0xFFFFFFFF)


def _unmapped(address: Address) -> Address:
    """::ffff:a.b.c.d is a.b.c.d in other clothes."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
