"""Hooks: who wants to know, what about, and where to send it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from embarc.core.events import EventKind
from embarc.core.filters import Filter
from embarc.core.schedules import DEFAULT_SCHEDULE, RetrySchedule

DEFAULT_TIMEOUT_SECONDS = 10.0
LONGEST_TIMEOUT_SECONDS = 30.0
DEFAULT_CONCURRENCY = 16


class ContentType(StrEnum):
    """How the payload is written into the body."""

    JSON = "json"
    FORM = "form"


class Order(StrEnum):
    """Which deliveries of a hook have to wait for one another."""

    NONE = "none"
    ENTITY = "entity"


class Signature(StrEnum):
    """What signs the sends of a hook: secrets that the receiver knows too, a key whose public half it knows, or both."""

    HMAC = "hmac"
    ED25519 = "ed25519"
    BOTH = "both"


class Authentication(StrEnum):
    """How a hook's sends tell the receiver's gateway who they are."""

    NONE = "none"
    BASIC = "basic"
    API_KEY = "api-key"
    JWT = "jwt"
    OAUTH2 = "oauth2"


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """A secret that signs, and until when; None: it is the present one."""

    text: str = field(repr=False)
    expires_at_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where and how one hook is sent to: its configuration, parsed once when the hook is read."""

    url: str
    content_type: ContentType = ContentType.JSON
    schedule: RetrySchedule = DEFAULT_SCHEDULE
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    concurrency: int = DEFAULT_CONCURRENCY
    order: Order = Order.NONE
    rate_limit: float | None = None
    """Requests per second; None: as fast as its concurrency allows."""
    filter: Filter | None = None
    """Which of the subscribed events it wants; None: all."""
    is_thin: bool = False
    """Sends ids only."""
    headers: tuple[str, ...] = field(repr=False, default=())
    """Further header lines, `Name: value`."""
    signature: Signature = Signature.HMAC
    authentication: Authentication = Authentication.NONE
    username: str = ""
    api_key_header: str = ""
    jwt_algorithm: str = ""
    jwt_issuer: str = ""
    jwt_audience: str = ""
    has_jwt_body_claim: bool = True
    """Whether each token names the body it goes with, and so serves one attempt."""
    token_url: str = ""
    client_id: str = ""
    scope: str = ""
    client_certificate: str = ""
    ca_certificate: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """One registration. `config` holds the template's fields as sent, canonical names, without secrets."""

    tenant: str
    id: int
    template: str
    name: str
    display_name: str
    is_active: bool
    is_paused: bool = False
    """A person stopped sending for a while: its events are kept as deliveries and wait."""
    subscriptions: tuple[EventKind, ...]
    config: Mapping[str, str]
    endpoint: Endpoint
    secrets: tuple[SigningSecret, ...] = field(default=(), repr=False)
    """Newest first; the others still sign until they expire."""
    signing_key: str = field(default="", repr=False)
    """The private half of the hook's own ed25519 key: `whsk_` and base64 of its seed."""
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Configured values that are secret, by the name of their field."""
    failing_since_ms: int | None = None
    """Since when nothing has succeeded, as far as the breaker noticed; None: it works."""
    inactive_since_ms: int | None = None
    inactive_because: str = ""
    """Why it was switched off, where it was not its owner who did it."""
    created_at_ms: int = 0
    updated_at_ms: int = 0
    version: int = 0
    """Rises with every change: what was prepared for an older version is thrown away."""

    def wants(self, kind: EventKind) -> bool:
        """Whether any subscription covers events of this kind."""
        return any(subscription.covers(kind) for subscription in self.subscriptions)
