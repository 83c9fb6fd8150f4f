"""What a send carries besides its signature: the receiver's gateway wants to know who is calling.

* `basic` and `api-key` are header lines that never change.
* `jwt`: a token for each attempt, five minutes long, with the SHA-256 of the body (RFC 7519); or, where that claim is off, one
  token for many attempts.
* `oauth2`: client credentials (RFC 6749 section 4.4). The token is kept and renewed early, fetched once for everybody who
  waits for it, and once more when a send is answered 401. Its URL goes through the same guarded transport as every send.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import quote_plus, urlencode

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from embarc.core.attempts import Outcome, Result
from embarc.core.deliveries import Claim
from embarc.core.hook_config import (
    API_KEY,
    CA_CERTIFICATE,
    CLIENT_CERTIFICATE,
    CLIENT_KEY,
    CLIENT_SECRET,
    JWT_KEY,
    PASSWORD,
)
from embarc.core.hooks import Authentication, Endpoint, Hook
from embarc.core.ids import delivery_id
from embarc.core.signatures import KEY_PREFIX, PUBLIC_KEY_PREFIX
from embarc.core.urls import BadUrl, parse_url
from embarc.net.base import OutboundRequest, TlsMaterial

TOKEN_LIFE_SECONDS = 300
NOT_BEFORE_SECONDS = 30
"""A receiver's clock may be behind ours by this much."""
SHORTEST_HS256 = 32
EARLY_SECONDS = 60.0
"""Before its end a kept token is renewed; of a short-lived one, after four fifths of its life."""
DEFAULT_LIFE_SECONDS = 300.0

Send = Callable[[OutboundRequest], Awaitable[Outcome]]


class CannotAuthenticate(Exception):
    """No credential for this send could be had; the text says why, and nothing of it."""


class Authenticator(Protocol):
    """Makes header lines for one send after the other of one hook."""

    async def lines(self, claim: Claim, body: bytes, send: Send) -> list[str]:
        """The header lines; raises `CannotAuthenticate`."""
        ...

    def refused(self, lines: list[str]) -> bool:
        """The receiver answered 401 to these lines; whether another credential is worth a try."""
        ...


def constant_credential_lines(endpoint: Endpoint, credentials: Mapping[str, str]) -> list[str]:
    """The lines that are the same in every send."""
    match endpoint.authentication:
        case Authentication.BASIC:
            pair = f"{endpoint.username}:{credentials[PASSWORD]}".encode()
            return [f"Authorization: Basic {base64.b64encode(pair).decode()}"]
        case Authentication.API_KEY:
            return [f"{endpoint.api_key_header}: {credentials[API_KEY]}"]
        case _:
            return []


def sent_secrets(lines: Iterable[str]) -> list[bytes]:
    """The values of header lines, those of `Authorization` without the name of the scheme."""
    values = [line.partition(": ")[2] for line in lines]
    return [value.removeprefix("Basic ").removeprefix("Bearer ").encode() for value in values]


def authenticator(hook: Hook) -> Authenticator | None:
    """What makes the lines that change, for hooks that need it."""
    match hook.endpoint.authentication:
        case Authentication.JWT:
            return JwtAuthenticator(hook)
        case Authentication.OAUTH2:
            return OAuth2Authenticator(hook)
        case _:
            return None


def tls_material(hook: Hook) -> TlsMaterial | None:
    """Certificates of the hook's own, where it has any."""
    endpoint = hook.endpoint
    if not endpoint.client_certificate and not endpoint.ca_certificate:
        return None
    return TlsMaterial(
        certificate=endpoint.client_certificate.encode(),
        key=hook.credentials.get(CLIENT_KEY, "").encode(),
        authorities=endpoint.ca_certificate.encode(),
    )


def mistakes(endpoint: Endpoint, credentials: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What is wrong with keys and certificates, as (field, reason); nothing of a key is in it."""
    for name, pem in (
        (CLIENT_CERTIFICATE, endpoint.client_certificate),
        (CA_CERTIFICATE, endpoint.ca_certificate),
    ):
        if pem:
            try:
                x509.load_pem_x509_certificates(pem.encode())
            except ValueError:
                yield name, "it does not hold a certificate that can be read"
    if CLIENT_KEY in credentials:
        try:
            key: Any = load_pem_private_key(credentials[CLIENT_KEY].encode(), None)
            certificate = x509.load_pem_x509_certificates(endpoint.client_certificate.encode())[0]
            if _public_bytes(key.public_key()) != _public_bytes(certificate.public_key()):
                yield CLIENT_KEY, f"it is not the key of the `{CLIENT_CERTIFICATE}`"
        except (ValueError, TypeError):
            yield CLIENT_KEY, "it is not a private key in PEM without a password"
    if endpoint.authentication is Authentication.JWT and JWT_KEY in credentials:
        if endpoint.jwt_algorithm == "HS256" and len(credentials[JWT_KEY]) < SHORTEST_HS256:
            yield (
                JWT_KEY,
                f"for HS256 it must have at least {SHORTEST_HS256} characters (RFC 7518 section 3.2)",
            )
        else:
            try:
                jwt.encode({}, credentials[JWT_KEY], algorithm=endpoint.jwt_algorithm)
            except Exception:
                yield JWT_KEY, f"it is not a key for {endpoint.jwt_algorithm}"


class JwtAuthenticator:
    """`Authorization: Bearer` with a token of its own for each attempt, or one that is kept until a minute before its end."""

    def __init__(self, hook: Hook) -> None:
        endpoint = hook.endpoint
        self._tenant = hook.tenant
        self._key = hook.credentials[JWT_KEY]
        self._algorithm = endpoint.jwt_algorithm
        self._issuer = endpoint.jwt_issuer
        self._audience = endpoint.jwt_audience or _origin(endpoint.url)
        self._key_id = _key_id(hook, self._key, self._algorithm)
        self._names_body = endpoint.has_jwt_body_claim
        self._kept: list[str] = []
        self._keep_until = 0.0

    async def lines(self, claim: Claim, body: bytes, send: Send) -> list[str]:
        """A token that names tenant, attempt and body; or the kept one."""
        now = time.time()
        if self._names_body:
            token_id = f"{delivery_id(claim.event_key, claim.hook_id)}-{claim.attempts + 1}"
            digest = hashlib.sha256(body).hexdigest()
            return self._token(int(now), {"jti": token_id, "body_sha256": digest})
        if not now < self._keep_until:
            self._kept = self._token(int(now), {"jti": secrets.token_urlsafe(16)})
            self._keep_until = now + TOKEN_LIFE_SECONDS - EARLY_SECONDS
        return self._kept

    def refused(self, lines: list[str]) -> bool:
        """Another token would be no better."""
        return False

    def _token(self, now: int, more: dict[str, str]) -> list[str]:
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": self._tenant,
            "iat": now,
            "nbf": now - NOT_BEFORE_SECONDS,
            "exp": now + TOKEN_LIFE_SECONDS,
        } | more
        token = jwt.encode(claims, self._key, algorithm=self._algorithm, headers={"kid": self._key_id})
        return [f"Authorization: Bearer {token}"]


class OAuth2Authenticator:
    """`Authorization: Bearer` with a token of the hook's authorization server."""

    def __init__(self, hook: Hook) -> None:
        self._hook = hook
        self._lines: list[str] = []
        self._renew_at = 0.0
        self._ends_at = 0.0
        self._fetching: asyncio.Task[None] | None = None

    async def lines(self, claim: Claim, body: bytes, send: Send) -> list[str]:
        """The present token. Near its end it is renewed while it is still used; where there is none, everybody who asks waits
        for the same fetch."""
        now = time.monotonic()
        if now >= self._renew_at and self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch(send))
            self._fetching.add_done_callback(self._fetched)
        if now >= self._ends_at and self._fetching is not None:
            await asyncio.shield(self._fetching)
        return self._lines

    def refused(self, lines: list[str]) -> bool:
        """The token is thrown away, unless somebody did so before: the next one may be good."""
        if lines is self._lines:
            self._renew_at = self._ends_at = 0.0
        return True

    def _fetched(self, task: asyncio.Task[None]) -> None:
        self._fetching = None
        if not task.cancelled():
            task.exception()  # whoever waits for it is told

    async def _fetch(self, send: Send) -> None:
        endpoint = self._hook.endpoint
        form = {"grant_type": "client_credentials"} | ({"scope": endpoint.scope} if endpoint.scope else {})
        secret = self._hook.credentials[CLIENT_SECRET]
        pair = f"{quote_plus(endpoint.client_id)}:{quote_plus(secret)}".encode()  # RFC 6749 section 2.3.1
        outcome = await send(
            OutboundRequest(
                tenant=self._hook.tenant,
                url=endpoint.token_url,
                header_lines=[
                    "Content-Type: application/x-www-form-urlencoded",
                    "Accept: application/json",
                    f"Authorization: Basic {base64.b64encode(pair).decode()}",
                ],
                body=urlencode(form).encode(),
                timeout_seconds=endpoint.timeout_seconds,
                tls=tls_material(self._hook),
            )
        )
        if not outcome.is_success:
            answered = (
                f"answered {outcome.status}" if outcome.result is Result.STATUS else outcome.result.value
            )
            raise CannotAuthenticate(f"the token URL: {answered}")
        token, life = _token(outcome.body)
        now = time.monotonic()
        self._lines = [f"Authorization: Bearer {token}"]
        self._renew_at = now + max(life - EARLY_SECONDS, life * 0.8)
        self._ends_at = now + life


def new_signing_key() -> str:
    """A private ed25519 key as Standard Webhooks writes it: `whsk_` and base64 of the seed."""
    seed = Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    return KEY_PREFIX + base64.b64encode(seed).decode()


def signing_function(key: str) -> Callable[[bytes], bytes]:
    """What signs with it."""
    return _private(key).sign


def public_key(key: str) -> str:
    """Its public half: `whpk_` and base64."""
    raw = _private(key).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return PUBLIC_KEY_PREFIX + base64.b64encode(raw).decode()


def _private(key: str) -> Ed25519PrivateKey:
    """Of the seed, which some write with the public key behind it."""
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(key.removeprefix(KEY_PREFIX))[:32])


def _origin(url: str) -> str:
    try:
        return parse_url(url).origin
    except BadUrl:
        return url  # nothing will be sent there


def _public_bytes(key: Any) -> bytes:
    found: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return found


def _key_id(hook: Hook, key: str, algorithm: str) -> str:
    """Names the key without telling of it: from its public half, or the hook's number where it has none."""
    if algorithm == "HS256":
        return f"hook-{hook.id}-{hook.version}"
    private: Any = load_pem_private_key(key.encode(), None)
    return hashlib.sha256(_public_bytes(private.public_key())).hexdigest()[:16]


def _token(body: bytes) -> tuple[str, float]:
    """The token of an answer, and its life in seconds; raises `CannotAuthenticate`."""
    try:
        answer = json.loads(body)
        token = answer["access_token"]
        life = float(answer.get("expires_in", DEFAULT_LIFE_SECONDS))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise CannotAuthenticate("the token URL: its answer holds no access_token") from None
    if (
        not isinstance(token, str)
        or not token
        or not (token.isascii() and token.isprintable() and " " not in token)
    ):
        raise CannotAuthenticate("the token URL: its access_token is not one")
    return token, min(max(life, 1.0), 86_400.0)
