"""Which addresses may be sent to.

Our own tables, because Python's `ipaddress` differs between versions and lets through what reaches inside: NAT64 and
6to4 forms of private addresses, IPv4-compatible and translated addresses, site-local, multicast, Azure's host
address. IPv4: everything but the ranges below. IPv6: nothing but global unicast, minus the ranges below.
Sources: IANA's special-purpose registries (RFC 6890 and successors), the providers' metadata addresses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

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
_METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd20:ce::254",
    )
)


@dataclass(frozen=True, slots=True)
class AllowedNetwork:
    """A private network that the operator lets hooks point to, on one port or on all."""

    network: Network
    port: int | None = None

    def covers(self, address: Address, port: int) -> bool:
        """Whether a connection to this address and port is inside."""
        return address in self.network and self.port in (None, port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What this installation lets hooks point to. The default: public addresses, https, ports 443 and 8443."""

    allow_private: tuple[AllowedNetwork, ...] = ()
    ports: frozenset[int] = frozenset({443, 8443})

    def is_inside(self, address: Address, port: int) -> bool:
        """Whether the operator's allow-list covers this address and port. Metadata services never are."""
        plain = _unmapped(address)
        return plain not in _METADATA and any(allowed.covers(plain, port) for allowed in self.allow_private)


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


def refusal(address: Address, port: int, policy: Policy) -> str | None:
    """Why this address may not be connected to, or None where it may. The words do not tell what is behind it."""
    if policy.is_inside(address, port):
        return None
    if not is_public(address):
        return "the address is private, local or reserved"
    if port not in policy.ports:
        return f"the port {port} is not one that hooks may use"
    return None


def is_public(address: Address) -> bool:
    """Whether this is an ordinary address of the public internet, by our own tables."""
    plain = _unmapped(address)
    if isinstance(plain, IPv4Address):
        return not any(plain in network for network in _DENIED_V4)
    return plain in _ALLOWED_V6 and not any(plain in network for network in _DENIED_V6)


def _unmapped(address: Address) -> Address:
    """::ffff:a.b.c.d is a.b.c.d in other clothes."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
