"""The connections of one tenant: libcurl's multi interface, driven by the event loop.

Rules of this file:
* libcurl gets no chance to be helpful: no redirects, no decompression, no cookies, no netrc, no proxy from the
  environment, nothing but http and https.
* A socket is opened to the pinned address and to no other, whatever libcurl asks for.
* Handles are reused: one that was sent to this URL before keeps its settings, and only body, headers and deadline
  change.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import time
from collections import OrderedDict
from ipaddress import ip_address
from typing import Any

import pycurl

from embarc.core.addresses import Address
from embarc.core.attempts import ANSWER_BODY_LIMIT, Outcome, Result
from embarc.core.urls import Url
from embarc.net.base import OutboundRequest, TlsMaterial
from embarc.net.guard import EgressProxy
from embarc.net.outcomes import failure, phases, result_of

READ_LIMIT = 64 * 1024
"""Bytes of an answer's body after which the exchange is cut; its status is known by then."""
HEADER_LIMIT = 64 * 1024
INTERIM_LIMIT = 20
"""Interim (1xx) answers before the exchange is given up."""
CONNECTION_LIFE_SECONDS = 60
IDLE_HANDLES = 1024
_IDENTITY = "\r\nAccept-Encoding: identity"
_NO_EXPECT = "Expect:"
_MOST_READY = 256
_READABLE = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR
_EPOLL_EVENTS = {
    pycurl.POLL_IN: select.EPOLLIN,
    pycurl.POLL_OUT: select.EPOLLOUT,
    pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
    pycurl.POLL_NONE: 0,
}


class Target:
    """A URL that was sent to, and the address it was last checked and pinned to."""

    __slots__ = ("checked", "literal", "pinned", "url", "via")

    def __init__(self, url: Url) -> None:
        self.url = url
        self.literal = None if url.address is None else (url.address,)
        self.checked: tuple[Address, ...] | None = None
        # Text, because they are part of the key that finds a handle: an address hashes thirty times slower.
        self.pinned = ""
        self.via = ""
        """The egress proxy's address, where there is one."""


_Key = tuple[str, str, str, TlsMaterial | None]
"""What handles can be used for: URL, pinned address, proxy, certificates."""


class _Descriptor:
    """A new socket on its way to libcurl, which takes a duplicate; ours is closed as soon as it has."""

    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number

    def __del__(self) -> None:
        os.close(self._number)


class _Exchange:
    """A handle and what its current transfer has received."""

    __slots__ = (
        "body",
        "curl",
        "denied",
        "future",
        "has_head",
        "has_opened",
        "head",
        "interim",
        "key",
        "size",
        "started",
        "too_large",
    )

    def __init__(self, key: _Key) -> None:
        self.key = key
        self.curl: Any = pycurl.Curl()
        self.future: asyncio.Future[Outcome] | None = None
        self.denied = False
        self.begin(0.0)

    def begin(self, started: float) -> None:
        self.started = started
        self.head: list[bytes] = []
        self.body = b""
        self.size = 0
        self.interim = 0
        self.too_large = ""
        self.has_head = False
        """Whether the empty line was there that ends it: libcurl takes a connection's end for one."""
        self.has_opened = False
        """Whether a socket was opened for it: it did not find a kept connection."""

    def on_header(self, line: bytes) -> int:
        """Keep a line of the head. Each interim answer begins a new head; fewer bytes than given cut the exchange."""
        if line.startswith(b"HTTP/"):
            self.interim += 1
            self.head = []
            self.has_head = False
            if self.interim > INTERIM_LIMIT:
                self.too_large = f"more than {INTERIM_LIMIT} interim answers"
                return 0
        self.size += len(line)
        if self.size > HEADER_LIMIT:
            self.too_large = f"more than {HEADER_LIMIT // 1024} KiB of headers"
            return 0
        if line in (b"\r\n", b"\n"):
            self.has_head = True
        else:
            self.head.append(line)
        return len(line)

    def on_body(self, chunk: bytes) -> int:
        """Keep the beginning of the body; past the limit the exchange is cut. It may come a byte at a time: no work here may
        grow with what is there already."""
        left = ANSWER_BODY_LIMIT - len(self.body)
        if left > 0:
            self.body += chunk[:left]
        self.size += len(chunk)
        return len(chunk) if self.size <= READ_LIMIT + HEADER_LIMIT else 0

    @property
    def is_cut(self) -> bool:
        """Whether we ended the exchange because its body went on and on."""
        return self.size > READ_LIMIT + HEADER_LIMIT and not self.too_large


class Pool:
    """One multi handle: the connections of one tenant, driven by the event loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, ca_file: str | None, proxy: EgressProxy | None
    ) -> None:
        self._loop = loop
        self._ca_file = ca_file
        self._proxy = proxy
        self._idle: OrderedDict[_Key, list[_Exchange]] = OrderedDict()
        self._idle_count = 0
        self._active: dict[Any, _Exchange] = {}
        self._wanted: set[int] = set()
        self._registered: dict[int, int] = {}
        self._epoll = select.epoll()
        loop.add_reader(self._epoll.fileno(), self._on_ready)
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._multi: Any = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, IDLE_HANDLES)

    async def exchange(self, request: OutboundRequest, target: Target, started: float) -> Outcome:
        """Send, and wait for the end."""
        left = request.timeout_seconds - (time.monotonic() - started)
        if left <= 0:
            return failure(Result.DNS, "the name was not resolved in time", started)
        exchange = self._take(target, request.tls)
        curl = exchange.curl
        exchange.begin(started)
        exchange.future = self._loop.create_future()
        curl.setopt(pycurl.POSTFIELDS, request.body)
        # All lines as one: libcurl sends it as it is, and looks at each of its list for a dozen names otherwise.
        curl.setopt(pycurl.HTTPHEADER, ["\r\n".join(request.header_lines) + _IDENTITY, _NO_EXPECT])
        curl.setopt(pycurl.TIMEOUT_MS, max(1, int(left * 1000)))
        self._active[curl] = exchange
        self._multi.add_handle(curl)
        try:
            return await exchange.future
        except asyncio.CancelledError:
            if self._active.pop(curl, None) is not None:
                self._multi.remove_handle(curl)
                curl.close()
            raise

    def close(self) -> None:
        """End every exchange and close every connection."""
        for curl, exchange in list(self._active.items()):
            self._multi.remove_handle(curl)
            curl.close()
            if exchange.future and not exchange.future.done():
                exchange.future.set_result(
                    failure(Result.RESET, "the transport was closed", exchange.started)
                )
        self._active.clear()
        for idle in self._idle.values():
            for exchange in idle:
                exchange.curl.close()
        self._idle.clear()
        if self._timer:
            self._timer.cancel()
        self._loop.remove_reader(self._epoll.fileno())
        self._multi.close()
        self._epoll.close()

    # -- handles -----------------------------------------------------------------------------------------------

    def _take(self, target: Target, tls: TlsMaterial | None) -> _Exchange:
        key = (target.url.text, target.pinned, target.via, tls)
        idle = self._idle.get(key)
        if idle:
            self._idle_count -= 1
            return idle.pop()
        return self._prepare(_Exchange(key), target, tls)

    def _give(self, exchange: _Exchange) -> None:
        idle = self._idle.get(exchange.key)
        if idle is None:
            idle = self._idle[exchange.key] = []
        idle.append(exchange)
        self._idle_count += 1
        while self._idle_count > IDLE_HANDLES:
            _, handles = self._idle.popitem(last=False)
            for one in handles:
                one.curl.close()
            self._idle_count -= len(handles)

    def _prepare(self, exchange: _Exchange, target: Target, tls: TlsMaterial | None) -> _Exchange:
        """The settings that stay, whatever is sent."""
        curl, url = exchange.curl, target.url
        peer = ip_address(target.via or target.pinned)
        port = self._proxy.port if self._proxy else url.port

        def open_socket(purpose: int, wanted: Any) -> Any:
            family, kind, protocol, endpoint = wanted[0], wanted[1], wanted[2], wanted[3]
            host = endpoint[0].decode() if isinstance(endpoint[0], bytes) else endpoint[0]
            if (ip_address(host), endpoint[1]) != (peer, port):
                exchange.denied = True
                return pycurl.SOCKET_BAD
            exchange.has_opened = True
            # The new socket may get the number of one that was closed, which the kernel has forgotten and we have not.
            self._registered.clear()
            return _Descriptor(socket.socket(family, kind, protocol).detach())

        for option, value in (
            (pycurl.URL, url.text),
            (pycurl.POST, 1),
            (pycurl.USERAGENT, ""),
            (pycurl.NOSIGNAL, 1),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.FOLLOWLOCATION, 0),
            (pycurl.PROXY, ""),  # and none from the environment
            (pycurl.NOPROXY, "*"),
            (pycurl.NETRC, pycurl.NETRC_IGNORED),
            (pycurl.PATH_AS_IS, 1),
            (pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2),
            (pycurl.SSL_VERIFYPEER, 1),
            (pycurl.SSL_VERIFYHOST, 2),
            (pycurl.TCP_NODELAY, 1),
            (pycurl.TCP_KEEPALIVE, 1),
            (pycurl.MAXAGE_CONN, CONNECTION_LIFE_SECONDS),
            (pycurl.MAXLIFETIME_CONN, CONNECTION_LIFE_SECONDS),
            (pycurl.WRITEFUNCTION, exchange.on_body),
            (pycurl.HEADERFUNCTION, exchange.on_header),
            (pycurl.OPENSOCKETFUNCTION, open_socket),
        ):
            curl.setopt(option, value)
        if tls is not None and tls.authorities:
            curl.setopt(pycurl.CAINFO_BLOB, tls.authorities)
        elif self._ca_file:
            curl.setopt(pycurl.CAINFO, self._ca_file)
        if tls is not None and tls.certificate:
            curl.setopt(pycurl.SSLCERT_BLOB, tls.certificate)
            curl.setopt(pycurl.SSLCERTTYPE, "PEM")
            curl.setopt(pycurl.SSLKEY_BLOB, tls.key)
            curl.setopt(pycurl.SSLKEYTYPE, "PEM")
        if target.literal is None:
            curl.setopt(pycurl.CONNECT_TO, [f"{url.host}:{url.port}:{_bracketed(target.pinned)}:{url.port}"])
        if self._proxy:
            curl.setopt(pycurl.NOPROXY, "")
            curl.setopt(pycurl.PROXY, f"http://{_bracketed(target.via)}:{port}")
            curl.setopt(pycurl.HTTPPROXYTUNNEL, 1)
            if self._proxy.credentials:
                curl.setopt(pycurl.PROXYUSERPWD, self._proxy.credentials)
        return exchange

    # -- libcurl and the event loop ----------------------------------------------------------------------------

    def _on_socket(self, what: int, descriptor: int, multi: Any, data: Any) -> None:
        """libcurl wants to know when this socket can be read or written.

        A socket of a kept connection stays registered: no system call a request instead of two, and none through the
        event loop's own bookkeeping, which would cost more than sending.
        """
        if what == pycurl.POLL_REMOVE:
            self._wanted.discard(descriptor)
            return
        self._wanted.add(descriptor)
        if self._registered.get(descriptor) == what:
            return
        try:
            self._epoll.modify(descriptor, _EPOLL_EVENTS[what])
        except FileNotFoundError:
            self._epoll.register(descriptor, _EPOLL_EVENTS[what])
        self._registered[descriptor] = what

    def _on_ready(self) -> None:
        """Some sockets can be read or written."""
        for descriptor, events in self._epoll.poll(0, _MOST_READY):
            if descriptor in self._wanted:
                ready = pycurl.CSELECT_IN if events & _READABLE else 0
                ready |= pycurl.CSELECT_OUT if events & select.EPOLLOUT else 0
                self._multi.socket_action(descriptor, ready)
            else:  # an idle connection that its receiver closed: libcurl finds out when it wants to use it
                self._epoll.unregister(descriptor)
                self._registered.pop(descriptor, None)
        self._collect()

    def _on_timer(self, milliseconds: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if milliseconds == 0:
            self._timer = self._loop.call_soon(self._on_time)
        elif milliseconds > 0:
            self._timer = self._loop.call_later(milliseconds / 1000, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._collect()

    def _collect(self) -> None:
        """Answer whoever's exchange has ended."""
        while True:
            queued, succeeded, failed = self._multi.info_read()
            for curl in succeeded:
                self._finish(curl, 0, "")
            for curl, code, message in failed:
                self._finish(curl, code, message)
            if not queued:
                return

    def _finish(self, curl: Any, code: int, message: str) -> None:
        self._multi.remove_handle(curl)
        exchange = self._active.pop(curl)
        outcome = _outcome(exchange, code, message)
        if code == 0:
            self._give(exchange)
        else:
            curl.close()
        if exchange.future is not None and not exchange.future.done():
            exchange.future.set_result(outcome)


def _outcome(exchange: _Exchange, code: int, message: str) -> Outcome:
    duration_ms = (time.monotonic() - exchange.started) * 1000
    curl = exchange.curl
    timings = phases(curl) if exchange.has_opened else ()
    if timings and not exchange.denied:
        exchange.denied = not _is_peer(curl.getinfo(pycurl.PRIMARY_IP), exchange.key)
    if exchange.denied:
        return Outcome(
            result=Result.DENIED, detail="the address may not be connected to", duration_ms=duration_ms
        )
    if exchange.too_large:
        return Outcome(result=Result.TOO_LARGE, detail=exchange.too_large, duration_ms=duration_ms)
    if code == 0 and not exchange.has_head:
        return Outcome(
            result=Result.RESET,
            detail="closed within the headers",
            duration_ms=duration_ms,
            phases_ms=timings,
        )
    if code == 0 or exchange.is_cut:
        return Outcome(
            result=Result.STATUS,
            status=curl.getinfo(pycurl.RESPONSE_CODE),
            head=b"".join(exchange.head[1:]),
            body=exchange.body,
            detail=f"the body was cut after {READ_LIMIT // 1024} KiB" if exchange.is_cut else "",
            duration_ms=duration_ms,
            phases_ms=timings,
        )
    result, detail = result_of(
        code,
        message,
        dict(timings),
        is_https=exchange.key[0].startswith("https:"),
        has_begun=exchange.size > 0,
    )
    return Outcome(result=result, detail=detail, duration_ms=duration_ms, phases_ms=timings)


def _is_peer(primary_ip: str, key: _Key) -> bool:
    """Whether a new connection went where it was to go; empty: it came to none."""
    _, pinned, via, _ = key
    return not primary_ip or ip_address(primary_ip) == ip_address(via or pinned)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
