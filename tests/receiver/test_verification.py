"""The receiver SDK: what is accepted, and one typed error for everything else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook
from stripe import WebhookSignature

from embarc.core.signatures import Signer
from embarc.engine.credentials import public_key, signing_function
from embarc.receiver import Reason, VerificationError, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
NOW = 1_700_000_000
BODY = b'{"entityName":"CLIENT","amount":1.00}'


def signed(
    body: bytes = BODY, secrets: tuple[str, ...] = (SECRET,), at: int = NOW, **more: str
) -> dict[str, str]:
    lines = Signer([(secret, None) for secret in secrets]).header_lines("evt_1", at, body)
    headers = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return headers | {name.replace("_", "-"): value for name, value in more.items()}


def check(headers: Any, body: bytes = BODY, secrets: Any = SECRET) -> Any:
    return verify(headers, body, secrets, now=lambda: NOW)


def refused(headers: Any, body: bytes = BODY, secrets: Any = SECRET) -> VerificationError:
    with pytest.raises(VerificationError) as error:
        check(headers, body, secrets)
    return error.value


def test_a_signed_webhook_is_verified_and_tells_what_it_is() -> None:
    verified = check(signed(X_Embarc_Event="CLIENT.CREATE", X_Embarc_Attempt="3", X_Embarc_Replay="1"))

    assert (verified.id, verified.timestamp, verified.body) == ("evt_1", NOW, BODY)
    assert (verified.kind, verified.attempt, verified.is_replay) == ("CLIENT.CREATE", 3, True)
    assert verified.json() == {"entityName": "CLIENT", "amount": 1.0}


@pytest.mark.parametrize("rename", [str.lower, str.upper, str.title])
def test_header_names_count_in_any_case(rename: Any) -> None:
    check({rename(name): value for name, value in signed().items()})


def test_headers_may_be_pairs_of_bytes_as_asgi_has_them() -> None:
    check([(name.lower().encode(), value.encode()) for name, value in signed().items()])


def test_any_of_several_secrets_and_any_of_several_signatures_will_do() -> None:
    check(signed(secrets=(OTHER, SECRET)))
    check(signed(), secrets=[OTHER, SECRET])


def test_signatures_of_unknown_versions_are_ignored() -> None:
    headers = signed()
    headers["webhook-signature"] = f"v2,abc v1a,zzz v1,bad= {headers['webhook-signature']}"
    check(headers)


def test_a_request_with_only_the_second_dialect_is_verified() -> None:
    headers = {"X-Embarc-Signature": signed()["X-Embarc-Signature"]}
    assert check(headers).timestamp == NOW


def test_independent_verifiers_accept_what_we_sign() -> None:
    import time

    headers = signed(at=int(time.time()))
    Webhook(SECRET).verify(BODY, headers)
    WebhookSignature.verify_header(BODY.decode(), headers["X-Embarc-Signature"], SECRET, 300)


def test_what_the_reference_library_signs_is_verified() -> None:
    from datetime import UTC, datetime

    signature = Webhook(SECRET).sign("evt_1", datetime.fromtimestamp(NOW, UTC), BODY.decode())
    check({"webhook-id": "evt_1", "webhook-timestamp": str(NOW), "webhook-signature": signature})


VECTOR_ID, VECTOR_TIME, VECTOR_BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
GOOD = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
OF_ANOTHER = "Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
PRIVATE = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
PUBLIC = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
GOOD_V1A = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="


def vector(
    signature: str, secrets: Any = SECRET, body: bytes = VECTOR_BODY, event_id: str = VECTOR_ID
) -> Any:
    headers = {
        "webhook-id": event_id,
        "webhook-timestamp": str(VECTOR_TIME),
        "webhook-signature": signature,
    }
    return verify(headers, body, secrets, now=lambda: VECTOR_TIME + 5)


def test_the_published_vectors_are_accepted() -> None:
    third = b'{"type":"contact.created","timestamp":"2022-11-03T20:26:10.344522Z","data":{"id":"1f81eb52-5198-4599-803e-771906343485"}}'

    assert vector(GOOD).id == VECTOR_ID
    assert vector(GOOD_V1A, PUBLIC).id == VECTOR_ID
    headers = {
        "webhook-id": "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
        "webhook-timestamp": "1674087231",
        "webhook-signature": "v1,ARw42xaAApl/nxRo+iPGYwSaMQaOwMo2eyH5JBRA+bQ=",
    }
    assert verify(headers, third, SECRET, now=lambda: 1674087231)
    assert vector(f"v1,{OF_ANOTHER} v2,{OF_ANOTHER} {GOOD} v1,{OF_ANOTHER}")


def test_the_published_ed25519_vector_is_what_we_sign() -> None:
    signer = Signer([], sign=signing_function(PRIVATE))

    assert f"webhook-signature: {GOOD_V1A}" in signer.header_lines(VECTOR_ID, VECTOR_TIME, VECTOR_BODY)
    assert public_key(PRIVATE) == PUBLIC


@pytest.mark.parametrize(
    ("signature", "secrets"),
    [
        (GOOD.replace("1OE=", "1OA="), SECRET),
        (GOOD_V1A.replace("v1a", "v1"), SECRET),  # no signature counts as one of another scheme
        (GOOD.replace("v1,", "v1a,"), PUBLIC),
        (GOOD_V1A, SECRET),
        (GOOD, PUBLIC),
        (GOOD[:11], SECRET),
        (f"v1,{'A' * 86}==", PUBLIC),
    ],
)
def test_what_the_vectors_must_not_become_is_refused(signature: str, secrets: str) -> None:
    with pytest.raises(VerificationError):
        vector(signature, secrets)


@pytest.mark.parametrize("body", [b"", b"\xef\xbb\xbf{}", b'{"a":\r\n1}', b"\xff\xfe\x00"])
def test_any_bytes_are_a_body(body: bytes) -> None:
    check(signed(body), body)


def test_an_id_with_dots_in_it_is_an_id() -> None:
    lines = Signer([(SECRET, None)]).header_lines("a.b.c", NOW, BODY)
    check(dict(line.split(": ", 1) for line in lines))


def test_a_signature_header_that_is_repeated_counts_as_one_list() -> None:
    headers = signed()
    good = headers.pop("webhook-signature")
    check([*headers.items(), ("webhook-signature", f"v1,{OF_ANOTHER}"), ("Webhook-Signature", good)])


def test_a_secret_may_come_without_its_prefix_and_without_padding() -> None:
    check(signed(), secrets=SECRET.removeprefix("whsec_"))
    unpadded = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwBr"
    lines = Signer([(unpadded, None)]).header_lines("evt_1", NOW, BODY)
    check(dict(line.split(": ", 1) for line in lines), secrets=[OTHER, unpadded])


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_named(name: str) -> None:
    headers = {key: value for key, value in signed().items() if key != name and not key.startswith("X-")}
    error = refused(headers)
    assert error.reason is Reason.MISSING_HEADER
    assert name in str(error)


@pytest.mark.parametrize(("offset", "reason"), [(-301, Reason.TOO_OLD), (301, Reason.TOO_NEW)])
def test_the_tolerance_holds_in_both_directions(offset: int, reason: Reason) -> None:
    error = refused(signed(at=NOW + offset))
    assert error.reason is reason
    assert "301 s" in str(error)
    check(signed(at=NOW + offset - (1 if offset > 0 else -1)))


@pytest.mark.parametrize(
    "timestamp", ["", "x", "-1", "1.5", "1700000000.9", "1e9", "\u0661\u0667\u0660", "9" * 30, "nan"]
)
def test_a_timestamp_that_is_not_whole_seconds_is_refused(timestamp: str) -> None:
    refused(signed() | {"webhook-timestamp": timestamp})


@pytest.mark.parametrize(
    "signature",
    [
        "garbage",
        "v1,",
        "v1,abc",
        "v1,AAAA  v1,BBBB",
        "v2,AAAA",
        ",",
        "v1",
        "v1,\xff",
        " ",
        "v1," + "A" * 9000,
    ],
)
def test_a_malformed_signature_is_the_same_typed_error(signature: str) -> None:
    refused(signed() | {"webhook-signature": signature})


def test_more_signatures_than_anybody_needs_are_refused() -> None:
    headers = signed()
    headers["webhook-signature"] = " ".join([headers["webhook-signature"]] * 11)
    assert refused(headers).reason is Reason.MALFORMED_HEADER


def test_a_body_that_was_serialised_again_is_told_as_such() -> None:
    error = refused(signed(b'{"a":1}'), json.dumps({"a": 1}).encode())
    assert error.reason is Reason.BODY_CHANGED
    assert "pass the raw bytes" in str(error)


def test_another_secret_does_not_match() -> None:
    assert refused(signed(), secrets=OTHER).reason is Reason.NO_MATCH


@pytest.mark.parametrize("body", [{"a": 1}, "text", None])
def test_a_body_that_is_not_bytes_is_the_receivers_own_mistake(body: Any) -> None:
    with pytest.raises(TypeError, match="raw bytes"):
        verify(signed(), body, SECRET)


@pytest.mark.parametrize(
    ("secrets", "error"), [((), ValueError), ("", ValueError), ("whsec_", ValueError), ([None], TypeError)]
)
def test_a_wrong_secret_is_the_receivers_own_mistake(secrets: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        verify(signed(), BODY, secrets)


@given(place=st.integers(0, len(BODY) - 1), bit=st.integers(0, 7))
def test_a_body_with_one_bit_changed_is_refused(place: int, bit: int) -> None:
    changed = bytearray(BODY)
    changed[place] ^= 1 << bit
    refused(signed(), bytes(changed))


@settings(max_examples=400)
@given(
    headers=st.dictionaries(
        st.sampled_from(
            ["webhook-id", "webhook-timestamp", "webhook-signature", "x-embarc-signature", "x-embarc-attempt"]
        ),
        st.one_of(
            st.text(max_size=60), st.sampled_from(["1700000000", "v1,AAAA", "t=1700000000,v1=00", "t=,v1="])
        ),
    ),
    body=st.binary(max_size=60),
)
def test_no_request_whatever_raises_anything_else(headers: dict[str, str], body: bytes) -> None:
    refused(headers, body)
