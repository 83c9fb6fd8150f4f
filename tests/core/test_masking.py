"""Secret values inside events are masked before storage, and nothing else is touched."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embarc.core.envelopes import body_for
from embarc.core.hooks import ContentType, Endpoint
from embarc.core.masking import is_secret, mask, redact
from embarc.outbox import OutboxEvent

SECRET_NAMES = [
    *("password", "Password", "PASSWORD", "repeatPassword", "passwordRepeat", "newPassword", "old_password"),
    *("user-password", "db.password", "passwd", "passphrase", "passcode", "pin", "PIN", "newPin", "otp"),
    *("token", "Token", "accessToken", "access_token", "refreshToken", "X-Auth-Token", "idToken"),
    *("secret", "clientSecret", "client_secret", "CLIENT SECRET", "apiKey", "api_key", "API Key", "apikey"),
    *("privateKey", "private_key", "secretKey", "accessKey", "Authorization", "proxy-authorization"),
    *("base64EncodedAuthenticationKey", "cvv", "CVC", "JWT Key", "Client Key"),
]
OTHER_NAMES = [
    *("x", "", "passport", "passwordNeverExpires", "sendPasswordToEmail", "tokenExpiry", "secretary", "key"),
    *("keyFacts", "monkey", "shipping", "pinCode", "topping", "spin", "externalId", "officeId", "authorized"),
    *("secretQuestion", "passwordPolicyId"),
]


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_these_names_are_secret(name: str) -> None:
    assert is_secret(name)
    assert mask(json.dumps({"a": {name: "canary"}}).encode()) == json.dumps({"a": {name: "****"}}).encode()


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_these_names_are_not(name: str) -> None:
    text = json.dumps({name: "kept", "password": None}).encode()

    assert mask(text) == text


def masked(value: object) -> object:
    if isinstance(value, dict):
        return {
            key: "****"
            if is_secret(json.dumps(key)[1:-1]) and not (inner is None or isinstance(inner, bool))
            else masked(inner)
            for key, inner in value.items()
        }
    return [masked(inner) for inner in value] if isinstance(value, list) else value


keys = st.sampled_from(
    ["a", "password", "Token", "apiKey", "note", "pin", "secret", '"password":', "\\password"]
)
json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(max_size=10), st.sampled_from(['"token": "x"'])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=12,
)


@given(
    st.dictionaries(st.sampled_from(["x", "password"]), json_values, max_size=3),
    st.sampled_from([None, (",", ":")]),
)
def test_the_values_of_secret_keys_are_masked_at_any_depth(
    value: dict[str, object], separators: tuple[str, str] | None
) -> None:
    text = json.dumps(value, separators=separators).encode()

    assert json.loads(mask(text)) == masked(value)


def test_everything_else_keeps_its_text() -> None:
    text = (
        b'{ "amount" : 1.00, "big":1E+5,"password" : ["canary",{"a":1}] , "n":null,"u":"\\u00e9 \xc3\xa9" }'
    )

    assert mask(text) == (
        b'{ "amount" : 1.00, "big":1E+5,"password" : "****" , "n":null,"u":"\\u00e9 \xc3\xa9" }'
    )


def test_a_name_that_is_written_with_escapes_is_a_name_all_the_same() -> None:
    assert mask(b'{"pass\\u0077ord":"canary"}') == b'{"pass\\u0077ord":"****"}'
    assert mask(b'{"\\u0070\\u0069\\u006e":"canary"}') == b'{"\\u0070\\u0069\\u006e":"****"}'


@given(st.text(string.printable, max_size=40))
def test_text_that_speaks_of_secrets_is_not_one(text: str) -> None:
    written = json.dumps({"note": text + "password"}).encode()

    assert mask(written) == written


def test_a_form_has_what_was_stored() -> None:
    payload = b'{"entityName":"USER","request":' + mask(b'{"password":"canary"}') + b"}"

    body = body_for(Endpoint(url="https://example.com", content_type=ContentType.FORM), payload)

    assert b"canary" not in body
    assert b"%2A%2A%2A%2A" in body


def test_an_outbox_does_not_hold_them_either() -> None:
    event = OutboxEvent(
        entity_name="USER",
        action_name="CREATE",
        request='{"password" : "canary","n":1.0}',
        response={"token": "canary"},
    )

    written = event.json()

    assert "canary" not in written
    assert '{"password" : "****","n":1.0}' in written


def test_what_a_receiver_sends_back_of_a_credential_is_not_kept() -> None:
    answer = b'{"headers":{"X-Key":"a-long-key","X-Partner":"17"}}'

    assert redact(answer, [b"a-long-key", b"17"]) == b'{"headers":{"X-Key":"****","X-Partner":"17"}}'
    assert redact(answer, [b"not-there"]) is answer
