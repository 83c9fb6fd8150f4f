"""What sends carry besides their signature, seen by the receiver's gateway."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from embarc.core.attempts import Outcome, Result
from embarc.core.errors import Invalid
from embarc.engine.credentials import OAuth2Authenticator, public_key
from embarc.net.base import OutboundRequest
from embarc.receiver import VerificationError, verify
from embarc.testing.certificates import Authority
from embarc.testing.engine import EngineLab
from embarc.testing.receiver import ReceivedRequest, ScriptedReceiver

TOKEN_URL = "Token URL"


def pem(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def answer(value: object, status: int = 200) -> bytes:
    body = json.dumps(value).encode()
    return b"HTTP/1.1 %d Scripted\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body


async def add(engine: EngineLab, url: str, config: dict[str, str]) -> int:
    body = {
        "name": "Web",
        "isActive": True,
        "events": [{"entityName": "CLIENT", "actionName": "CREATE"}],
        "config": {"Payload URL": url, "Content Type": "json", **config},
    }
    return (await engine.hooks.create("default", body)).hook.id


async def one_request(engine: EngineLab, receiver: ScriptedReceiver) -> ReceivedRequest:
    await engine.publish()
    return (await receiver.received(1))[0]


async def test_basic_authentication(engine: EngineLab, receiver: ScriptedReceiver) -> None:
    await add(
        engine,
        receiver.url,
        {"Authentication": "basic", "Username": "embarc", "Password": "s:cret"},
    )

    request = await one_request(engine, receiver)

    assert request.header("authorization") == "Basic " + base64.b64encode(b"embarc:s:cret").decode()


async def test_an_api_key_and_further_headers(engine: EngineLab, receiver: ScriptedReceiver) -> None:
    await add(
        engine,
        receiver.url,
        {
            "Authentication": "api-key",
            "API Key Header": "X-Gateway-Key",
            "API Key": "k-123456",
            "Headers": "X-Partner: 17\nX-Region:  north ",
        },
    )

    request = await one_request(engine, receiver)

    assert request.header("x-gateway-key") == "k-123456"
    assert (request.header("x-partner"), request.header("x-region")) == ("17", "north")
    assert request.header("content-type") == "application/json; charset=UTF-8"


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("HS256", "a-shared-secret-of-at-least-32-characters"),
        ("RS256", rsa.generate_private_key(65537, 2048)),
        ("ES256", ec.generate_private_key(ec.SECP256R1())),
        ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
    ],
)
async def test_a_jwt_is_made_for_each_attempt_and_names_its_body(
    engine: EngineLab, receiver: ScriptedReceiver, algorithm: str, key: Any
) -> None:
    receiver.answers(500, 200)
    text = key if isinstance(key, str) else pem(key)
    await add(
        engine,
        receiver.url,
        {
            "Authentication": "jwt",
            "JWT Algorithm": algorithm,
            "JWT Issuer": "https://lender.example.com",
            "JWT Key": text,
            "Retry Schedule": "0",
        },
    )

    await engine.publish()
    requests = await receiver.received(2)

    known = key if isinstance(key, str) else key.public_key()
    origin = receiver.url.removesuffix("/hook")
    tokens = [request.header("authorization").removeprefix("Bearer ") for request in requests]
    claims = [jwt.decode(token, known, algorithms=[algorithm], audience=origin) for token in tokens]
    assert claims[0]["iss"] == "https://lender.example.com"
    assert claims[0]["sub"] == "default"
    assert claims[0]["exp"] - claims[0]["iat"] == 300
    assert claims[0]["nbf"] < claims[0]["iat"]
    assert claims[0]["body_sha256"] == hashlib.sha256(requests[0].body).hexdigest()
    assert claims[0]["jti"] != claims[1]["jti"]
    assert jwt.get_unverified_header(tokens[0])["kid"]


def verified_by_hand(token: str, algorithm: str, key: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a token, by the primitives of RFC 7515 and 7518: none of the code that made it."""
    signed, _, encoded = token.rpartition(".")
    header, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in signed.split("."))
    signature = base64.urlsafe_b64decode(encoded + "==")
    message = signed.encode()
    match algorithm:
        case "HS256":
            assert hmac.compare_digest(signature, hmac.digest(key.encode(), message, "sha256"))
        case "RS256":
            key.public_key().verify(signature, message, PKCS1v15(), SHA256())
        case "ES256":
            r, s = (int.from_bytes(part) for part in (signature[:32], signature[32:]))
            key.public_key().verify(encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))
        case _:
            key.public_key().verify(signature, message)
    return header, claims


KEYS: list[tuple[str, Any]] = [
    ("HS256", "a-shared-secret-of-at-least-32-characters"),
    ("RS256", rsa.generate_private_key(65537, 2048)),
    ("ES256", ec.generate_private_key(ec.SECP256R1())),
    ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
]


def jwt_config(algorithm: str, key: Any) -> dict[str, str]:
    return {
        "Authentication": "jwt",
        "JWT Algorithm": algorithm,
        "JWT Issuer": "https://lender.example.com",
        "JWT Key": key if isinstance(key, str) else pem(key),
    }


@pytest.mark.parametrize(("algorithm", "key"), KEYS, ids=[name for name, _ in KEYS])
async def test_a_jwt_is_verified_by_the_primitives_alone(
    engine: EngineLab, receiver: ScriptedReceiver, algorithm: str, key: Any
) -> None:
    await add(engine, receiver.url, jwt_config(algorithm, key) | {"JWT Audience": "the-gateway"})

    request = await one_request(engine, receiver)

    token = request.header("authorization").removeprefix("Bearer ")
    header, claims = verified_by_hand(token, algorithm, key)
    assert (header["alg"], header["typ"]) == (algorithm, "JWT")
    assert header["kid"]
    assert claims.keys() == {"iss", "aud", "sub", "iat", "nbf", "exp", "jti", "body_sha256"}
    assert (claims["aud"], claims["sub"]) == ("the-gateway", "default")
    assert claims["nbf"] <= claims["iat"] <= time.time() < claims["exp"] <= claims["iat"] + 300
    assert claims["body_sha256"] == hashlib.sha256(request.body).hexdigest()


async def test_without_the_body_claim_one_jwt_serves_many_attempts_until_its_end_is_near(
    engine: EngineLab, receiver: ScriptedReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm, key = KEYS[3]
    await add(engine, receiver.url, jwt_config(algorithm, key) | {"JWT Body Claim": "off"})
    await engine.publish(3)
    await receiver.received(3)
    later = time.time() + 245
    monkeypatch.setattr("embarc.engine.credentials.time.time", lambda: later)
    await engine.publish()
    requests = await receiver.received(4)

    tokens = [request.header("authorization").removeprefix("Bearer ") for request in requests]
    claims = [verified_by_hand(token, algorithm, key)[1] for token in tokens]
    assert len(set(tokens[:3])) == 1
    assert tokens[3] != tokens[0]
    assert not any("body_sha256" in one for one in claims)
    assert claims[0]["jti"] != claims[3]["jti"]


async def test_each_attempt_has_a_new_timestamp_and_the_same_id(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    receiver.answers(500, 500, 200)
    await add(engine, receiver.url, {"Retry Schedule": "3600", "Signature": "both"})
    await engine.publish()
    for _ in range(2):
        await engine.next_attempt()
        engine.later(3 * 3600)
    requests = await receiver.received(3)

    assert len({request.header("webhook-id") for request in requests}) == 1
    assert len({request.header("webhook-timestamp") for request in requests}) == 3
    assert len({request.header("webhook-signature") for request in requests}) == 3
    assert [request.header("x-embarc-attempt") for request in requests] == ["1", "2", "3"]


async def test_many_refused_tokens_are_renewed_once(engine: EngineLab, receiver: ScriptedReceiver) -> None:
    tokens = [answer({"access_token": f"tok-{number}", "expires_in": 3600}) for number in (1, 2, 3, 4)]
    receiver.answers(*[401] * 16, 200)
    async with ScriptedReceiver().answers(*tokens) as server:
        await add(engine, receiver.url, oauth(server) | {"Concurrency": "16"})
        await engine.publish(16)
        settled = [await engine.next_attempt() for _ in range(16)]
        asked = len(server.requests)

    assert asked == 2
    assert {one.attempt.outcome.status for one in settled} == {200}


async def test_a_token_is_renewed_before_its_end_while_it_is_still_used(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    hook_id = await add_oauth(engine, receiver, "http://127.0.0.1:9/token")
    authenticator = OAuth2Authenticator(await engine.hooks.get("default", str(hook_id)))
    answers = [b'{"access_token":"one","expires_in":1}', b'{"access_token":"two","expires_in":3600}']
    asked, may_answer = [], asyncio.Event()
    may_answer.set()

    async def token_server(request: OutboundRequest) -> Outcome:
        asked.append(request)
        await may_answer.wait()
        return Outcome(result=Result.STATUS, status=200, body=answers.pop(0))

    async def lines() -> list[str]:
        return await authenticator.lines(None, b"", token_server)  # type: ignore[arg-type] # it does not look at the claim

    assert await lines() == ["Authorization: Bearer one"]
    may_answer.clear()
    authenticator._renew_at = 0.0  # its end is near
    authenticator._ends_at = time.monotonic() + 60
    still = [await lines() for _ in range(5)]
    may_answer.set()
    assert authenticator._fetching
    await authenticator._fetching

    assert still == [["Authorization: Bearer one"]] * 5
    assert await lines() == ["Authorization: Bearer two"]
    assert len(asked) == 2


async def add_oauth(engine: EngineLab, receiver: ScriptedReceiver, token_url: str) -> int:
    config = {
        "Authentication": "oauth2",
        TOKEN_URL: token_url,
        "Client ID": "embarc",
        "Client Secret": "shh",
    }
    return await add(engine, receiver.url, config)


async def test_one_token_serves_everybody_who_waits_for_it(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    async with ScriptedReceiver().answers(answer({"access_token": "tok-1", "expires_in": 3600})) as server:
        await add(engine, receiver.url, oauth(server))
        await engine.publish(30)
        requests = await receiver.received(30)
        (asked,) = server.requests

    assert {request.header("authorization") for request in requests} == {"Bearer tok-1"}
    assert asked.header("authorization") == "Basic " + base64.b64encode(b"embarc:shh%2Fsecret").decode()
    assert asked.body == b"grant_type=client_credentials&scope=webhooks"


def oauth(server: ScriptedReceiver) -> dict[str, str]:
    return {
        "Authentication": "oauth2",
        TOKEN_URL: server.url,
        "Client ID": "embarc",
        "Client Secret": "shh/secret",
        "Scope": "webhooks",
        "Retry Schedule": "3600",
    }


async def test_a_refused_token_is_renewed_once_within_the_attempt(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    tokens = [answer({"access_token": f"tok-{number}"}) for number in (1, 2, 3)]
    receiver.answers(401, 200, 401, 401)
    async with ScriptedReceiver().answers(*tokens) as server:
        await add(engine, receiver.url, oauth(server) | {"Concurrency": "1"})
        await engine.publish()
        first = await engine.next_attempt()
        await engine.publish()
        second = await engine.next_attempt()

    sent = [request.header("authorization") for request in receiver.requests]
    assert (first.attempt.outcome.status, second.attempt.outcome.status) == (200, 401)
    assert sent == ["Bearer tok-1", "Bearer tok-2", "Bearer tok-2", "Bearer tok-3"]


@pytest.mark.parametrize(
    ("answered", "detail"),
    [
        (500, "the token URL: answered 500"),
        ("drop", "the token URL: reset"),
        (answer({"token": "x"}), "the token URL: its answer holds no access_token"),
        (answer({"access_token": "a\r\nX-Evil: 1"}), "the token URL: its access_token is not one"),
        (answer("[]"), "the token URL: its answer holds no access_token"),
    ],
)
async def test_without_a_token_nothing_is_sent_and_the_attempt_says_why(
    engine: EngineLab, receiver: ScriptedReceiver, answered: Any, detail: str
) -> None:
    async with ScriptedReceiver().answers(answered) as server:
        await add(engine, receiver.url, oauth(server))
        await engine.publish()
        settlement = await engine.next_attempt()

    outcome = settlement.attempt.outcome
    assert (outcome.result, outcome.detail) == (Result.CREDENTIAL, detail)
    assert settlement.verdict.retry_in_seconds is not None
    assert receiver.requests == []


async def test_mutual_tls_with_a_private_authority(engine: EngineLab, tmp_path: Path) -> None:
    authority, other = Authority(), Authority("Another")
    client, stranger = authority.issue("client"), other.issue("client")
    context = authority.issue("receiver").server_context(tmp_path, clients_of=authority)
    async with ScriptedReceiver(context) as receiver:
        await add(engine, receiver.url, tls(client.certificate, client.key, authority.certificate))
        await engine.publish()
        known = await engine.next_attempt()
        hooks = await engine.hooks.list("default")
        await engine.hooks.delete("default", str(hooks[0].id))
        await add(engine, receiver.url, tls(stranger.certificate, stranger.key, authority.certificate))
        await engine.publish()
        unknown = await engine.next_attempt()

    assert known.attempt.outcome.status == 200
    assert unknown.attempt.outcome.result in (Result.TLS, Result.RESET)
    assert len(receiver.requests) == 1


def tls(certificate: str, key: str, authorities: str) -> dict[str, str]:
    return {
        "Client Certificate": certificate,
        "Client Key": key,
        "CA Certificate": authorities,
        "Retry Schedule": "3600",
    }


@pytest.mark.parametrize("fault", ["unknown authority", "expired", "another name"])
async def test_a_certificate_that_cannot_be_trusted_is_a_tls_failure(
    engine: EngineLab, tmp_path: Path, fault: str
) -> None:
    authority = Authority()
    trusted = Authority() if fault == "unknown authority" else authority
    identity = authority.issue(
        "receiver",
        address="127.0.0.9" if fault == "another name" else "127.0.0.1",
        life=timedelta(days=-1) if fault == "expired" else timedelta(days=1),
    )
    async with ScriptedReceiver(identity.server_context(tmp_path)) as receiver:
        await add(engine, receiver.url, {"CA Certificate": trusted.certificate, "Retry Schedule": "3600"})
        await engine.publish()
        settlement = await engine.next_attempt()

    assert settlement.attempt.outcome.result is Result.TLS
    assert receiver.requests == []


@pytest.mark.parametrize("scheme", ["ed25519", "both"])
async def test_a_hook_with_a_key_of_its_own_signs_so_that_its_public_half_verifies(
    engine: EngineLab, receiver: ScriptedReceiver, scheme: str
) -> None:
    hook_id = await add(engine, receiver.url, {"Signature": scheme})
    hook = await engine.hooks.get("default", str(hook_id))

    request = await one_request(engine, receiver)

    key = public_key(hook.signing_key)
    secret = hook.secrets[0].text
    assert verify(request.headers, request.body, key).kind == "CLIENT.CREATE"
    assert engine.registry.public_keys() == [key]
    if scheme == "both":
        assert verify(request.headers, request.body, secret)
        assert verify(request.headers, request.body, [secret, key])
    else:
        with pytest.raises(VerificationError):
            verify(request.headers, request.body, secret)
    with pytest.raises(VerificationError):
        verify(request.headers, request.body + b" ", key)


async def test_while_a_secret_rotates_both_sign_and_afterwards_only_the_new_one(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    hook_id = await add(engine, receiver.url, {})
    old = (await engine.hooks.get("default", str(hook_id))).secrets[0].text
    hook, new = await engine.hooks.rotate_secret("default", str(hook_id), {})
    during = await one_request(engine, receiver)

    engine.later(25 * 3600)
    await engine.publish()
    after = (await receiver.received(2))[1]

    def now() -> float:
        return engine.now()

    assert verify(during.headers, during.body, old)
    assert verify(during.headers, during.body, new)
    assert verify(after.headers, after.body, new, now=now)
    with pytest.raises(VerificationError):
        verify(after.headers, after.body, old, now=now)
    assert [secret.text for secret in hook.secrets] == [new, old]


async def test_stored_credentials_do_not_follow_a_url_to_another_origin(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    config = {"Content Type": "json", "Authentication": "basic", "Username": "embarc"}
    hook_id = await add(engine, receiver.url, config | {"Password": "s3cret-word"})

    same = await engine.hooks.update(
        "default",
        str(hook_id),
        {"config": config | {"Payload URL": receiver.url + "/new", "Password": "****word"}},
    )
    left_out = await engine.hooks.update(
        "default", str(hook_id), {"config": config | {"Payload URL": receiver.url}}
    )
    with pytest.raises(Invalid) as refused:
        await engine.hooks.update(
            "default", str(hook_id), {"config": config | {"Payload URL": "http://127.0.0.2/hook"}}
        )
    with pytest.raises(Invalid) as also_refused:
        await engine.hooks.update(
            "default",
            str(hook_id),
            {"config": config | {"Payload URL": "http://127.0.0.2/hook", "Password": "****word"}},
        )

    assert same[0].credentials == left_out[0].credentials == {"Password": "s3cret-word"}
    assert [error.parameter for error in refused.value.errors] == ["Password"]
    assert [error.parameter for error in also_refused.value.errors] == ["Password"]
    assert (await engine.hooks.get("default", str(hook_id))).endpoint.url == receiver.url


async def test_credentials_that_are_not_used_any_more_are_forgotten(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    hook_id = await add(
        engine, receiver.url, {"Authentication": "basic", "Username": "embarc", "Password": "s3cret"}
    )

    await engine.hooks.update(
        "default", str(hook_id), {"config": {"Payload URL": receiver.url, "Content Type": "json"}}
    )

    assert (await engine.hooks.get("default", str(hook_id))).credentials == {}


async def test_a_slow_token_server_does_not_hold_an_attempt_beyond_its_timeout(
    engine: EngineLab, receiver: ScriptedReceiver
) -> None:
    async with ScriptedReceiver().answers("hang") as server:
        await add(engine, receiver.url, oauth(server) | {"Timeout Seconds": "1"})
        await engine.publish()
        async with asyncio.timeout(3):
            settlement = await engine.next_attempt()

    assert settlement.attempt.outcome.result is Result.CREDENTIAL
    assert receiver.requests == []
