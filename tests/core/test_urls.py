"""Endpoint URLs and addresses: what may be sent to."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embarc.core.addresses import Policy, is_public, parse_allowed, parse_network, parse_port, refusal
from embarc.core.urls import BadUrl, checked_url, parse_url

HOSTILE = [
    line.replace("<CR>", "\r").replace("<LF>", "\n").replace("<SPACE>", " ")
    for line in (Path(__file__).parent.parent / "data" / "hostile_urls.txt")
    .read_text(encoding="utf-8")
    .splitlines()
]
PRIVATE = Policy(allow_private=(parse_allowed("127.0.0.0/8"), parse_allowed("10.1.0.0/16:9000")))


@pytest.mark.parametrize("url", HOSTILE)
def test_every_hostile_url_is_refused_with_http_and_with_https(url: str) -> None:
    for variant in (url, url.replace("http://", "https://", 1)):
        with pytest.raises(BadUrl):
            checked_url(variant, Policy())


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("https://yourapp.example.com/webhooks/embrc", None),
        ("https://yourapp.example.com/webhooks/embrc/", None),
        ("https://example.com", "https://example.com/"),
        ("HTTPS://EXAMPLE.com:443/A?b=C&d=%2F", "https://example.com/A?b=C&d=%2F"),
        ("https://example.com:8443/x", None),
        ("https://bücher.example/ü", "https://xn--bcher-kva.example/%C3%BC"),
        ("https://93.184.216.34/x", None),
        ("https://[2606:2800:220:1:0:0:0:1]/", "https://[2606:2800:220:1::1]/"),
    ],
)
def test_an_ordinary_url_is_kept_in_its_canonical_form(url: str, canonical: str | None) -> None:
    assert checked_url(url, Policy()) == (canonical or url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9999/x", "http://localhost:1/", "https://10.1.2.3:9000/"])
def test_inside_the_operators_list_plain_http_and_any_port_will_do(url: str) -> None:
    assert checked_url(url, PRIVATE) == url


@pytest.mark.parametrize(
    "url",
    ["http://10.1.2.3:9001/", "http://10.2.0.1:9000/", "http://169.254.169.254/", "http://93.184.216.34/"],
)
def test_outside_the_operators_list_everything_is_as_before(url: str) -> None:
    with pytest.raises(BadUrl):
        checked_url(url, PRIVATE)


def test_metadata_services_are_denied_even_inside_the_list() -> None:
    policy = Policy(allow_private=(parse_allowed("0.0.0.0/0"), parse_allowed("::/0")))

    for address in (
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
    ):
        assert refusal(ip_address(address), 80, policy)
    assert refusal(ip_address("10.0.0.1"), 80, policy) is None


@pytest.mark.parametrize(
    "address", ["169.254.170.2", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "fe80::a9fe:a9fe", "::a9fe:a9fe"]
)
def test_metadata_services_need_a_switch_of_their_own(address: str) -> None:
    everywhere = (parse_allowed("0.0.0.0/0"), parse_allowed("::/0"))

    assert refusal(ip_address(address), 80, Policy(allow_private=everywhere))
    assert refusal(ip_address(address), 80, Policy(allow_private=everywhere, allow_metadata=True)) is None
    with pytest.raises(BadUrl):
        checked_url("http://metadata.google.internal/", Policy(allow_private=everywhere))


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"])
def test_this_machine_has_to_be_meant(address: str) -> None:
    everywhere = Policy(allow_private=(parse_allowed("0.0.0.0/0"), parse_allowed("::/0")))
    meant = Policy(allow_private=tuple(map(parse_allowed, ("127.0.0.0/8", "0.0.0.0/8", "::/128", "::1/128"))))

    assert refusal(ip_address(address), 9000, everywhere)
    assert refusal(ip_address(address), 9000, meant) is None


def test_ports_of_databases_and_mail_have_to_be_named() -> None:
    network, named = (
        Policy(allow_private=(parse_allowed(text),)) for text in ("10.0.0.0/8", "10.0.0.0/8:6379")
    )

    assert refusal(ip_address("10.1.2.3"), 6379, network)
    assert refusal(ip_address("10.1.2.3"), 6379, named) is None
    for url in ("http://ex.com:22/", "http://ex.com:6379/"):
        with pytest.raises(BadUrl):
            checked_url(url, network)
    assert checked_url("http://ex.com:6379/", named)  # its address decides


def test_what_is_denied_is_denied_whatever_allows_it() -> None:
    policy = Policy(
        allow_private=(parse_allowed("10.0.0.0/8"),),
        deny=(parse_network("10.9.0.0/16"), parse_network("93.184.216.0/24")),
    )

    assert refusal(ip_address("10.9.1.1"), 443, policy)
    assert refusal(ip_address("93.184.216.34"), 443, policy)
    assert refusal(ip_address("10.8.1.1"), 443, policy) is None
    with pytest.raises(ValueError, match="port"):
        parse_network("10.0.0.0/8:80")


def test_further_ports_of_public_addresses_are_the_operators() -> None:
    policy = Policy(ports=frozenset({443, parse_port("9443")}))

    assert checked_url("https://ex.com:9443/", policy) == "https://ex.com:9443/"
    for text in ("", "x", "0", "65536", "25", "6379", "-1"):
        with pytest.raises(ValueError, match="not a port"):
            parse_port(text)


@pytest.mark.parametrize(
    "address",
    ["64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1", "::ffff:0:127.0.0.1", "fec0::1", "3fff::1", "5f00::1", "224.0.0.1",
     "192.88.99.1", "192.0.0.8", "168.63.129.16", "100.64.0.1", "::ffff:127.0.0.1", "2001::1", "::", "::1"],
)  # fmt: skip
def test_what_pythons_own_tables_let_through_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "::ffff:8.8.8.8"])
def test_ordinary_addresses_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("text", ["", "x", "10.0.0.0/33", "10.0.0.0:0", "10.0.0.0:99999", "[::1", "1.2.3"])
def test_what_is_not_a_network_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="Write it as"):
        parse_allowed(text)


@pytest.mark.parametrize(
    ("text", "port"),
    [("10.0.0.0/8", None), ("10.0.0.1:80", 80), ("fd12::/16", None), ("[fd12::]/16:8443", 8443)],
)
def test_networks_are_read_with_and_without_port(text: str, port: int | None) -> None:
    assert parse_allowed(text).port == port


@given(st.text(max_size=40))
def test_a_url_is_refused_or_round_trips(rest: str) -> None:
    try:
        url = parse_url("https://" + rest)
    except BadUrl:
        return
    assert parse_url(url.text) == url
    assert url.text.isascii()
    assert "@" not in url.text.split("/")[2]
