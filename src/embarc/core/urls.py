"""Endpoint URLs: one parser, one canonical form.

Parsers differ, and what one takes for a path another takes for a host. So a URL is taken apart once, by a strict
grammar (RFC 3986, hosts as the WHATWG URL standard sees numbers), put together again from its parts, and only the
result is stored, checked and sent to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from urllib.parse import quote

from embarc.core.addresses import Address, Policy, port_refusal, refusal

LONGEST_URL = 2000
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)://"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]/?#:@\\%\s]+)"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?\Z"
)
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\x9f\ud800-\udfff\\^`{|}<>\"]")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)\Z")
_NUMERIC = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")
_HIDDEN_CONTROL = re.compile(r"%(?:0[0-9a-f]|1[0-9a-f]|7f)", re.IGNORECASE)
_SAFE = "/?:@!$&'()*+,;=-._~%[]"
_LOCAL_NAMES = frozenset({"localhost", "ip6-localhost", "ip6-loopback", "localhost.localdomain"})
_METADATA_NAMES = frozenset({"metadata.google.internal", "metadata", "instance-data"})
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HTTP = "plain http is not allowed; use https"


class BadUrl(ValueError):
    """This text is not a URL that a hook may point to."""


@dataclass(frozen=True)
class Url:
    """A URL taken apart."""

    scheme: str
    host: str
    """ASCII, lower case; an IPv6 address without its brackets."""
    port: int
    target: str
    """Path and query as they are sent."""

    @cached_property
    def text(self) -> str:
        """The canonical form."""
        port = "" if _DEFAULT_PORTS[self.scheme] == self.port else f":{self.port}"
        return f"{self.scheme}://{self.bracketed_host}{port}{self.target}"

    @property
    def origin(self) -> str:
        """Scheme, host and port: what credentials are for (RFC 6454)."""
        return self.text.removesuffix(self.target)

    @property
    def bracketed_host(self) -> str:
        """The host as it stands in a URL."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def address(self) -> Address | None:
        """The address, where the host is one."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None


def parse_url(text: str) -> Url:
    """Take a URL apart; raises `BadUrl` with the reason."""
    url = _take_apart(text)
    if _take_apart(url.text) != url:
        raise BadUrl("the URL can be read in more than one way")
    return url


def checked_url(text: str, policy: Policy) -> str:
    """The canonical form of a URL that may be saved under this policy; raises `BadUrl`.

    What a name resolves to is checked at every connection, by the same policy.
    """
    url = parse_url(text)
    address = url.address
    if address is not None:
        reason = refusal(address, url.port, policy) or (
            _HTTP if url.scheme == "http" and not policy.is_inside(address, url.port) else None
        )
    else:
        reason = _name_refusal(url, policy)
    if reason:
        raise BadUrl(reason)
    return url.text


def _name_refusal(url: Url, policy: Policy) -> str | None:
    """Why a name may not be saved, whatever its address. One that may be private is decided by its address."""
    is_local = url.host in _LOCAL_NAMES or url.host.endswith((".localhost", ".internal", ".local"))
    if url.host in _METADATA_NAMES and not policy.allow_metadata:
        return "the host is private, local or reserved"
    if any(allowed.covers_port(url.port) for allowed in policy.allow_private):
        return None
    if is_local:
        return "the host is private, local or reserved"
    return _HTTP if url.scheme == "http" else port_refusal(url.port, policy)


def _take_apart(text: str) -> Url:
    if len(text) > LONGEST_URL:
        raise BadUrl(f"the URL has more than {LONGEST_URL} characters")
    if _FORBIDDEN.search(text):
        raise BadUrl("the URL contains a blank, a control character or one that must be percent-encoded")
    found = _URL.match(text)
    if not found:
        raise BadUrl(_why(text))
    scheme = found["scheme"].lower()
    if scheme not in _DEFAULT_PORTS:
        raise BadUrl(f"the scheme `{scheme[:20]}` is not http or https")
    port = int(found["port"]) if found["port"] else _DEFAULT_PORTS[scheme]
    if not 0 < port <= 65535:
        raise BadUrl(f"the port {port} is not between 1 and 65535")
    target = quote((found["path"] or "/") + (found["query"] or ""), safe=_SAFE)
    if _HIDDEN_CONTROL.search(target):
        raise BadUrl("the path or query hides a control character")
    return Url(scheme, _host(found["host"]), port, target)


def _why(text: str) -> str:
    """Words for the commonest ways in which a URL is none."""
    if "://" not in text:
        return "the URL must begin with https://"
    rest = text.partition("://")[2]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "#" in rest:
        return "a fragment (#...) has no meaning for a hook"
    if "@" in authority:
        return "a user name or password in the URL is not allowed; use the hook's authentication"
    if not authority or authority.startswith(":"):
        return "the URL has no host"
    return "the host or port is not valid"


def _host(text: str) -> str:
    if text.startswith("["):
        try:
            return str(IPv6Address(text[1:-1]))
        except AddressValueError:
            raise BadUrl("the host is not a valid IPv6 address") from None
    host = _ascii(text)
    labels = host.split(".")
    if _NUMERIC.match(labels[-1] or (labels[-2] if len(labels) > 1 else "")):
        # What resolvers read as a number must be spelt as an address: 127.1, 0x7f.1 and 2130706433 are loopback.
        try:
            return str(IPv4Address(host))
        except AddressValueError:
            raise BadUrl(
                "the host looks like an address and is not written as four decimal numbers"
            ) from None
    host = host.removesuffix(".")
    if len(host) > 253 or not all(_LABEL.match(label) for label in host.split(".")):
        raise BadUrl("the host is not a valid name")
    return host


def _ascii(host: str) -> str:
    """The host in lower-case ASCII (IDNA). Only names that are already what they mean: no look-alike digits or dots."""
    if host.isascii():
        return host.lower()
    try:
        encoded = host.encode("idna").decode("ascii").lower()
        if encoded.encode("ascii").decode("idna") != host.lower():
            raise BadUrl("the host contains characters that stand for others")
    except UnicodeError:
        raise BadUrl("the host is not a valid international name") from None
    return encoded
