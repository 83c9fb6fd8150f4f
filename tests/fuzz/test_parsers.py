"""Every parser of hostile text, with what Hypothesis makes up; and curl's own parser of URLs beside ours."""

from __future__ import annotations

import ctypes
import re
from functools import cache
from ipaddress import ip_address
from pathlib import Path

import pycurl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.fuzz.parsers import HOSTILE, PIECES, TARGETS

from embarc.core.urls import BadUrl, parse_url

texts = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join),
    st.sampled_from(HOSTILE),
)


@pytest.mark.parametrize("target", sorted(TARGETS))
@settings(max_examples=500, deadline=None)
@given(data=texts)
@example(data=b"")
def test_what_must_hold_of_a_parser_holds(target: str, data: bytes) -> None:
    TARGETS[target](data)


class Curl:
    """libcurl's URL API (curl_url_set and curl_url_get), of the very library that sends."""

    URL, SCHEME, HOST, PORT, PATH, QUERY = 0, 1, 5, 6, 7, 8
    DEFAULT_PORT, PATH_AS_IS = 1 << 0, 1 << 4

    def __init__(self) -> None:
        assert pycurl.version  # which has loaded the library
        mapped = re.findall(r"/\S*libcurl[^/\s]*\.so\S*", Path("/proc/self/maps").read_text())
        self._library = ctypes.CDLL(mapped[0])
        for name in ("curl_url", "curl_url_set", "curl_url_get", "curl_url_cleanup"):
            getattr(self._library, name).argtypes = None
        self._library.curl_url.restype = ctypes.c_void_p

    def parts(self, text: str) -> tuple[str, str, int, str]:
        handle = ctypes.c_void_p(self._library.curl_url())
        code = self._library.curl_url_set(handle, self.URL, text.encode(), self.PATH_AS_IS)
        assert code == 0, (text, code)
        try:
            query = self._get(handle, self.QUERY)
            target = self._get(handle, self.PATH) + (f"?{query}" if query else "")
            port = int(self._get(handle, self.PORT, self.DEFAULT_PORT))
            return self._get(handle, self.SCHEME), self._get(handle, self.HOST), port, target
        finally:
            self._library.curl_url_cleanup(handle)

    def _get(self, handle: ctypes.c_void_p, part: int, flags: int = 0) -> str:
        found = ctypes.c_char_p()
        code = self._library.curl_url_get(handle, part, ctypes.byref(found), flags)
        return found.value.decode() if code == 0 and found.value is not None else ""


@cache
def curl() -> Curl:
    return Curl()


def spelt(host: str) -> str:
    """A host in one spelling: ::ffff:1.2.3.4 is ::ffff:102:304."""
    return str(ip_address(host[1:-1])) if host.startswith("[") else host


hosts = st.one_of(
    st.from_regex(r"[a-z0-9_-]{1,8}(\.[a-z0-9-]{1,8}){0,3}\.?", fullmatch=True),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
    st.sampled_from(["bücher.example", "EX.com", "a.b.c.d.e"]),
)
urls = st.builds(
    lambda scheme, host, port, rest: f"{scheme}://{host}{port}{rest}",
    st.sampled_from(["http", "https", "HTTPS"]),
    hosts,
    st.one_of(st.just(""), st.integers(0, 70_000).map(lambda port: f":{port}")),
    st.one_of(st.just(""), st.text("/?.@:;=&%2eE~ü[]!$'()*+,-_a", max_size=20).map(lambda rest: f"/{rest}")),
)


@settings(max_examples=1000, deadline=None)
@given(text=st.one_of(urls, texts.map(lambda data: data.decode("utf-8", "replace"))))
@example(text="https://ex.com/a/../b?")
@example(text="https://ex.com/??")
@example(text="https://[::ffff:1.2.3.4]:8443/")
def test_curl_reads_what_we_accept_as_we_do(text: str) -> None:
    try:
        ours = parse_url(text)
    except BadUrl:
        return

    scheme, host, port, target = curl().parts(ours.text)

    assert (scheme, port) == (ours.scheme, ours.port)
    assert spelt(host) == spelt(ours.bracketed_host)
    path, _, query = ours.target.partition("?")
    assert target == (f"{path}?{query}" if query else path)
