"""Signing: published vectors, and that the fast HMAC is HMAC."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embarc.core.signatures import Hmac, Signer, new_secret, parse_secret

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "data" / "signature_vectors.json").read_text()
)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize(
    "vector", [vector for vector in VECTORS if vector["scheme"] == "v1"], ids=lambda vector: vector["name"]
)
def test_the_published_vectors_hold(vector: dict[str, Any]) -> None:
    lines = Signer([(vector["secret"], None)]).header_lines(
        vector["id"], vector["timestamp"], vector["body"].encode()
    )

    assert f"webhook-id: {vector['id']}" in lines
    assert f"webhook-timestamp: {vector['timestamp']}" in lines
    assert f"webhook-signature: {vector['signature']}" in lines


def test_the_second_dialect_is_keyed_with_the_secrets_text() -> None:
    lines = Signer([(SECRET, None)]).header_lines("evt_1", 1_700_000_000, b"{}")

    expected = hmac.new(SECRET.encode(), b"1700000000.{}", hashlib.sha256).hexdigest()
    assert lines[-1] == f"X-Embarc-Signature: t=1700000000,v1={expected}"


def test_every_live_secret_signs_newest_first() -> None:
    other = new_secret(lambda count: b"7" * count)

    both = Signer([(other, None), (SECRET, None)]).header_lines("evt_1", 5, b"x")
    new, old = (Signer([(secret, None)]).header_lines("evt_1", 5, b"x") for secret in (other, SECRET))

    assert both[2] == f"{new[2]} {old[2].removeprefix('webhook-signature: ')}"
    assert both[3] == f"{new[3]},{old[3].partition(',')[2]}"


@given(key=st.binary(max_size=200), parts=st.lists(st.binary(max_size=300), max_size=4))
def test_the_fast_hmac_is_hmac(key: bytes, parts: list[bytes]) -> None:
    assert Hmac(key).digest(*parts) == hmac.digest(key, b"".join(parts), "sha256")


def test_a_new_secret_is_one() -> None:
    secret = new_secret(lambda count: bytes(range(count)))

    assert secret.startswith("whsec_")
    assert parse_secret(secret) == bytes(range(32))


@pytest.mark.parametrize(
    "text", ["", "whsec_", "whsec_%", "whsec_AAAA", "whpk_1SiA4o9hyqTCpIqC", "whsec_" + "A" * 200]
)
def test_what_is_not_a_secret_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ValueError, match="A secret") as refused:
        parse_secret(text)

    assert text.removeprefix("whsec_")[:8] not in str(refused.value) or not text.removeprefix("whsec_")


def test_a_signer_does_not_show_its_secrets() -> None:
    assert SECRET not in repr(Signer([(SECRET, None)]))
