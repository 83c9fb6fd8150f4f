"""A hook's configuration: the template's fields, how each is read, and what it becomes.

`FIELDS` is the whole truth about what can be configured; the template, the checks, the documentation and the
`Endpoint` are made from it. Every mistake is noted, none ends the reading.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from embarc.core.fields import Fields, nearest
from embarc.core.filters import Filter
from embarc.core.headers import parse_header_lines, parse_header_name
from embarc.core.hooks import (
    DEFAULT_CONCURRENCY,
    DEFAULT_TIMEOUT_SECONDS,
    LONGEST_TIMEOUT_SECONDS,
    Authentication,
    ContentType,
    Endpoint,
    Order,
    Signature,
)
from embarc.core.schedules import DEFAULT_MAX_RETRIES, DEFAULT_SCHEDULE, RetrySchedule
from embarc.core.signatures import parse_secret

LONGEST_VALUE = 2000
LONGEST_PEM = 20_000
MOST_RETRIES = 50
LONGEST_WAIT = 7 * 86_400
MOST_CONCURRENCY = 64
SLOWEST_RATE = 0.1
SHORTEST_SHOWN = 8
"""Characters of a secret whose last four may be shown."""
FASTEST_RATE = 10_000

URL = "Payload URL"
CONTENT_TYPE = "Content Type"
SECRET = "Secret"  # noqa: S105 - the field's name
AUTHENTICATION = "Authentication"
PASSWORD = "Password"  # noqa: S105 - the field's name
API_KEY = "API Key"
JWT_KEY = "JWT Key"
TOKEN_URL = "Token URL"  # noqa: S105 - the field's name
CLIENT_SECRET = "Client Secret"  # noqa: S105 - the field's name
CLIENT_CERTIFICATE = "Client Certificate"
CLIENT_KEY = "Client Key"
CA_CERTIFICATE = "CA Certificate"
HEADERS = "Headers"
INVALID_VALUE = "validation.msg.hook.config.value.invalid"
URL_INVALID = "validation.msg.hook.url.invalid"
JWT_ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")

REQUIRED_FOR = {
    Authentication.NONE: (),
    Authentication.BASIC: ("Username", PASSWORD),
    Authentication.API_KEY: ("API Key Header", API_KEY),
    Authentication.JWT: ("JWT Algorithm", "JWT Issuer", JWT_KEY),
    Authentication.OAUTH2: (TOKEN_URL, "Client ID", CLIENT_SECRET),
}
"""Fields that each way of authenticating cannot do without."""
_ALSO_FOR = {Authentication.JWT: ("JWT Audience", "JWT Body Claim"), Authentication.OAUTH2: ("Scope",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigField:
    """One field of the template. `apply` writes its value into the endpoint; raises ValueError with what is wrong."""

    name: str
    help: str
    required: bool = False
    secret: bool = False
    """Write-only: shown as its last four characters."""
    longest: int = LONGEST_VALUE
    placeholder: str = ""
    code: str = ""
    """The code of an error in it, where that is not `validation.msg.hook.config.value.invalid`."""
    apply: Callable[[Endpoint, str], Endpoint] = lambda endpoint, value: endpoint


def _url(endpoint: Endpoint, value: str) -> Endpoint:
    return replace(endpoint, url=value)


def _content_type(endpoint: Endpoint, value: str) -> Endpoint:
    try:
        return replace(endpoint, content_type=ContentType(value.lower()))
    except ValueError:
        raise ValueError("it must be `json` or `form`") from None


def _max_retries(endpoint: Endpoint, value: str) -> Endpoint:
    retries = int(_number(value, 0, MOST_RETRIES, whole=True))
    return replace(endpoint, schedule=RetrySchedule(endpoint.schedule.waits, retries))


def _retry_schedule(endpoint: Endpoint, value: str) -> Endpoint:
    waits = tuple(_number(part.strip(), 0, LONGEST_WAIT) for part in value.split(","))
    if len(waits) > MOST_RETRIES:
        raise ValueError(f"it may name at most {MOST_RETRIES} waits")
    return replace(endpoint, schedule=RetrySchedule(waits, endpoint.schedule.max_retries))


def _timeout(endpoint: Endpoint, value: str) -> Endpoint:
    return replace(endpoint, timeout_seconds=_number(value, 1, LONGEST_TIMEOUT_SECONDS))


def _concurrency(endpoint: Endpoint, value: str) -> Endpoint:
    return replace(endpoint, concurrency=int(_number(value, 1, MOST_CONCURRENCY, whole=True)))


def _rate_limit(endpoint: Endpoint, value: str) -> Endpoint:
    return replace(endpoint, rate_limit=_number(value, SLOWEST_RATE, FASTEST_RATE))


def _order(endpoint: Endpoint, value: str) -> Endpoint:
    try:
        return replace(endpoint, order=Order(value.lower()))
    except ValueError:
        raise ValueError("it must be `none` or `entity`") from None


def _filter(endpoint: Endpoint, value: str) -> Endpoint:
    return replace(endpoint, filter=Filter(value))


def _payload(endpoint: Endpoint, value: str) -> Endpoint:
    if value.lower() not in ("full", "thin"):
        raise ValueError("it must be `full` or `thin`")
    return replace(endpoint, is_thin=value.lower() == "thin")


def _headers(endpoint: Endpoint, value: str) -> Endpoint:
    return replace(endpoint, headers=parse_header_lines(value))


def _signature(endpoint: Endpoint, value: str) -> Endpoint:
    try:
        return replace(endpoint, signature=Signature(value.lower()))
    except ValueError:
        raise ValueError("it must be `hmac`, `ed25519` or `both`") from None


def _authentication(endpoint: Endpoint, value: str) -> Endpoint:
    try:
        return replace(endpoint, authentication=Authentication(value.lower()))
    except ValueError:
        raise ValueError("it must be `none`, `basic`, `api-key`, `jwt` or `oauth2`") from None


def _username(endpoint: Endpoint, value: str) -> Endpoint:
    if ":" in value:
        raise ValueError("it must not contain a colon (RFC 7617)")
    return replace(endpoint, username=value)


def _jwt_algorithm(endpoint: Endpoint, value: str) -> Endpoint:
    if value not in JWT_ALGORITHMS:
        raise ValueError(f"it must be one of {', '.join(JWT_ALGORITHMS)}")
    return replace(endpoint, jwt_algorithm=value)


def _jwt_body_claim(endpoint: Endpoint, value: str) -> Endpoint:
    if value.lower() not in ("on", "off"):
        raise ValueError("it must be `on` or `off`")
    return replace(endpoint, has_jwt_body_claim=value.lower() == "on")


def _visible(endpoint: Endpoint, value: str) -> Endpoint:
    """For secrets that travel in a header."""
    if not (value.isascii() and value.isprintable()):
        raise ValueError("it must be visible ASCII")
    return endpoint


def _pem(endpoint: Endpoint, value: str) -> Endpoint:
    if "-----BEGIN " not in value or "-----END " not in value:
        raise ValueError("it must be PEM, with its BEGIN and END lines")
    return endpoint


def _number(text: str, least: float, most: float, *, whole: bool = False) -> float:
    try:
        number = float(text)
        if not (text.isascii() and least <= number <= most) or (whole and not number.is_integer()):
            raise ValueError(text)
    except ValueError:
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"it must be {kind} between {least:g} and {most:g}") from None
    return number


FIELDS = (
    ConfigField(
        name=CONTENT_TYPE,
        help="How the payload is written into the body.",
        required=True,
        placeholder="json / form",
        code="validation.msg.hook.content.type.must.be.json.or.form",
        apply=_content_type,
    ),
    ConfigField(
        name=URL,
        help="Where to send: https, kept as it is with path and query.",
        required=True,
        placeholder="https://yourapp.example.com/webhooks/embrc",
        code=URL_INVALID,
        apply=_url,
    ),
    ConfigField(
        name="API Key",
        help="The value of the header for `api-key`.",
        secret=True,
        placeholder="",
        apply=_visible,
    ),
    ConfigField(
        name="API Key Header",
        help="The name of the header for `api-key`.",
        placeholder="X-API-Key",
        apply=lambda endpoint, value: replace(endpoint, api_key_header=parse_header_name(value)),
    ),
    ConfigField(
        name=AUTHENTICATION,
        help="How sends authenticate at the receiver's gateway: `none`, `basic`, `api-key`, `jwt` (a token of five minutes "
        "for each attempt, with the body's SHA-256) or `oauth2` (client credentials).",
        placeholder="none",
        apply=_authentication,
    ),
    ConfigField(
        name=CA_CERTIFICATE,
        help="PEM of the authorities that may sign the receiver's certificate, instead of the system's.",
        longest=LONGEST_PEM,
        placeholder="-----BEGIN CERTIFICATE-----",
        apply=lambda endpoint, value: replace(_pem(endpoint, value), ca_certificate=value),
    ),
    ConfigField(
        name=CLIENT_CERTIFICATE,
        help="PEM of the certificate for mutual TLS, with its chain; goes with `Client Key`.",
        longest=LONGEST_PEM,
        placeholder="-----BEGIN CERTIFICATE-----",
        apply=lambda endpoint, value: replace(_pem(endpoint, value), client_certificate=value),
    ),
    ConfigField(
        name="Client ID",
        help="For `oauth2`.",
        placeholder="embarc",
        apply=lambda endpoint, value: replace(endpoint, client_id=value),
    ),
    ConfigField(
        name=CLIENT_KEY,
        help="PEM of the private key of `Client Certificate`, not encrypted.",
        secret=True,
        longest=LONGEST_PEM,
        placeholder="-----BEGIN PRIVATE KEY-----",
        apply=_pem,
    ),
    ConfigField(name=CLIENT_SECRET, help="For `oauth2`.", secret=True, placeholder="", apply=_visible),
    ConfigField(
        name="Concurrency",
        help=f"Attempts that may be under way at once, 1 to {MOST_CONCURRENCY}; halves by itself on signs of overload.",
        placeholder=str(DEFAULT_CONCURRENCY),
        apply=_concurrency,
    ),
    ConfigField(
        name="Filter",
        help="An expression in CEL over `payload`, `entity` and `action` that says which of the events are wanted. An "
        "event about which it cannot say (a field is missing) is sent and counted.",
        placeholder="payload.officeId == 3",
        code="validation.msg.hook.filter.invalid",
        apply=_filter,
    ),
    ConfigField(
        name=HEADERS,
        help="Further headers, one `Name: value` a line, their values shown like secrets: some are. Names that Embarc or HTTP "
        "itself sets are refused.",
        secret=True,
        placeholder="X-Partner: 17",
        code="validation.msg.hook.headers.invalid",
        apply=_headers,
    ),
    ConfigField(
        name="JWT Algorithm",
        help=f"For `jwt`: {', '.join(JWT_ALGORITHMS)}.",
        placeholder="ES256",
        apply=_jwt_algorithm,
    ),
    ConfigField(
        name="JWT Audience",
        help="The claim `aud`; the origin of the Payload URL where it is not set.",
        placeholder="https://yourapp.example.com",
        apply=lambda endpoint, value: replace(endpoint, jwt_audience=value),
    ),
    ConfigField(
        name="JWT Body Claim",
        help="`on`: a token for each attempt, with the body's SHA-256 in `body_sha256`; `off`: one token for many attempts, for "
        "gateways that count or price them.",
        placeholder="on",
        apply=_jwt_body_claim,
    ),
    ConfigField(
        name="JWT Issuer",
        help="The claim `iss`.",
        placeholder="https://lender.example.com",
        apply=lambda endpoint, value: replace(endpoint, jwt_issuer=value),
    ),
    ConfigField(
        name=JWT_KEY,
        help="What signs: PEM of a private key, or for HS256 a secret of at least 32 characters.",
        secret=True,
        longest=LONGEST_PEM,
        placeholder="-----BEGIN PRIVATE KEY-----",
    ),
    ConfigField(
        name="Max Retries",
        help=f"Retries after the first attempt, 0 to {MOST_RETRIES}.",
        placeholder=str(DEFAULT_MAX_RETRIES),
        apply=_max_retries,
    ),
    ConfigField(
        name="Order",
        help="`entity`: events of one loan, client, ... strictly in order, each entity by itself; a failure holds back "
        "what comes after it, until it is delivered, cancelled or replayed.",
        placeholder="none",
        apply=_order,
    ),
    ConfigField(name=PASSWORD, help="For `basic`.", secret=True, placeholder="", apply=_visible),
    ConfigField(
        name="Payload",
        help="`full`, or `thin`: ids only, for receivers that ask the platform for the rest.",
        placeholder="full",
        apply=_payload,
    ),
    ConfigField(
        name="Rate Limit",
        help=f"Requests per second, {SLOWEST_RATE:g} to {FASTEST_RATE:g}; without it as fast as the concurrency allows.",
        placeholder="50",
        apply=_rate_limit,
    ),
    ConfigField(
        name="Retry Schedule",
        help="Seconds to wait before each retry, comma separated; past its end the last one repeats.",
        placeholder=DEFAULT_SCHEDULE.text,
        apply=_retry_schedule,
    ),
    ConfigField(
        name="Scope",
        help="For `oauth2`, where the token needs one.",
        placeholder="webhooks",
        apply=lambda endpoint, value: replace(endpoint, scope=value),
    ),
    ConfigField(
        name=SECRET,
        help="Signs every send: `whsec_` and base64 of 24 to 64 bytes. Made for you when absent, shown once.",
        secret=True,
        code="validation.msg.hook.secret.invalid",
        placeholder="whsec_...",
        apply=lambda endpoint, value: (parse_secret(value), endpoint)[1],
    ),
    ConfigField(
        name="Signature",
        help="`hmac`: signed with the secret; `ed25519`: with a key of the hook's own, whose public half is in the hook and at "
        "`/.well-known/embarc/keys`; or `both`.",
        placeholder="hmac",
        apply=_signature,
    ),
    ConfigField(
        name="Timeout Seconds",
        help=f"For the whole exchange, 1 to {LONGEST_TIMEOUT_SECONDS:g}.",
        placeholder=f"{DEFAULT_TIMEOUT_SECONDS:g}",
        apply=_timeout,
    ),
    ConfigField(
        name=TOKEN_URL,
        help="Where `oauth2` gets its tokens; the same rules as for the Payload URL.",
        placeholder="https://login.example.com/oauth2/token",
        apply=lambda endpoint, value: replace(endpoint, token_url=value),
    ),
    ConfigField(
        name="Username",
        help="For `basic`.",
        placeholder="embarc",
        apply=_username,
    ),
)
_BY_NAME = {field.name: field for field in FIELDS}
SECRET_FIELDS = frozenset(field.name for field in FIELDS if field.secret)
"""Names of the fields whose values are write-only."""
_BY_FOLDED = {field.name.casefold(): field for field in FIELDS}


@dataclass(frozen=True, slots=True)
class ParsedConfig:
    """A configuration that was read."""

    config: Mapping[str, str]
    endpoint: Endpoint
    secret: str | None = field(repr=False)
    """Set where the caller gave one that was not there."""
    credentials: Mapping[str, str] = field(repr=False)


def read_config(
    fields: Fields, checked_url: Callable[[str], str], present: Mapping[str, str] | None = None
) -> ParsedConfig:
    """Read the parameter `config`, the list form or the object form; mistakes are noted in `fields`.

    `checked_url` gives the canonical form of a URL or raises ValueError with the reason. `present` are the secret values
    that may stay, by field: a client that sends one back as it is shown, or leaves it out, means "as it is".
    """
    present = present or {}
    given = _by_field(fields)
    for name, value in present.items():
        if name == HEADERS and name in given:
            given[name] = _unmasked(given[name], value)
        elif given.get(name, shown(name, value)) == shown(name, value):
            given[name] = value
    config: dict[str, str] = {}
    secrets: dict[str, str] = {}
    endpoint = Endpoint(url="")
    for one in FIELDS:
        value = given.get(one.name, "")
        if not value:
            if one.required:
                fields.fail_code(
                    one.name,
                    "validation.msg.hook.required.config.field.not.provided",
                    f"The configuration field `{one.name}` is mandatory. {one.help}",
                )
            continue
        try:
            if one.secret and (value.startswith("****") or (one.name == HEADERS and ": ****" in value)):
                raise ValueError("this is how a secret is shown; give the secret itself")
            if one.name in (URL, TOKEN_URL):
                value = checked_url(value)
            endpoint = one.apply(endpoint, value)
        except ValueError as error:
            fields.fail_code(
                one.name,
                one.code or INVALID_VALUE,
                f"The configuration field `{one.name}` is not valid: {error}.",
                None if one.secret else value,
            )
            continue
        into = secrets if one.secret else config
        into[one.name] = value.lower() if one.name == CONTENT_TYPE else value
    _check_authentication(fields, endpoint.authentication, {**config, **secrets}, present)
    secret = secrets.pop(SECRET, None)
    is_known = hmac.compare_digest((secret or "").encode(), present.get(SECRET, "").encode())
    return ParsedConfig(config, endpoint, None if is_known else secret, secrets)


def _check_authentication(
    fields: Fields, chosen: Authentication, given: dict[str, str], present: Mapping[str, str]
) -> None:
    """Note what the chosen way of authenticating lacks, and what belongs to another one."""
    for name in REQUIRED_FOR[chosen]:
        if name not in given and not any(error.parameter == name for error in fields.errors):
            fields.fail_code(
                name,
                "validation.msg.hook.required.config.field.not.provided",
                f"With the authentication `{chosen}` the configuration field `{name}` is mandatory. A value that was stored "
                "for another origin is not sent to a new one.",
            )
    for other in Authentication:
        for name in (*REQUIRED_FOR[other], *_ALSO_FOR.get(other, ())):
            if other is chosen or name not in given:
                continue
            if name in present:  # of before: it goes with the authentication that needed it
                continue
            fields.fail_code(
                name,
                INVALID_VALUE,
                f"The configuration field `{name}` is only used with the authentication `{other}`; this hook has `{chosen}`.",
            )
    has = [name in given for name in (CLIENT_CERTIFICATE, CLIENT_KEY)]
    if any(has) and not all(has):
        missing = CLIENT_KEY if has[0] else CLIENT_CERTIFICATE
        fields.fail_code(
            missing,
            "validation.msg.hook.required.config.field.not.provided",
            f"`{CLIENT_CERTIFICATE}` and `{CLIENT_KEY}` go together; `{missing}` is not there.",
        )


def credentials_in_use(endpoint: Endpoint, credentials: Mapping[str, str]) -> dict[str, str]:
    """Of the stored credentials those that this endpoint's configuration uses."""
    used = {HEADERS, *REQUIRED_FOR[endpoint.authentication]} | (
        {CLIENT_KEY} if endpoint.client_certificate else set()
    )
    return {name: value for name, value in credentials.items() if name in used}


def masked(secret: str) -> str:
    """How a secret is shown after its creation. Of a short one nothing is, and of a key in PEM neither: its last letters are
    the same in all."""
    return "****" if "-----" in secret or len(secret) < SHORTEST_SHOWN else "****" + secret[-4:]


def shown(name: str, value: str) -> str:
    """How the secret value of a field is shown: of header lines the names and each value masked."""
    if name != HEADERS:
        return masked(value)
    pairs = (line.partition(": ") for line in parse_header_lines(value))
    return "\n".join(f"{header}: {masked(text)}" for header, _, text in pairs)


def _unmasked(given: str, present: str) -> str:
    """Header lines of a request, those that are as they are shown with their values."""
    known = dict(zip(shown(HEADERS, present).splitlines(), parse_header_lines(present), strict=True))
    return "\n".join(known.get(line.strip(), line) for line in given.splitlines())


def parse_endpoint(config: Mapping[str, str]) -> Endpoint:
    """The endpoint of a stored configuration. Names that a newer version wrote are left alone."""
    endpoint = Endpoint(url="")
    for name, value in config.items():
        if field := _BY_NAME.get(name):
            endpoint = field.apply(endpoint, value)
    return endpoint


def given_value(fields: Fields, wanted: str) -> str | None:
    """The value that a request gives a configuration field, unchecked; notes nothing."""
    raw = fields.body.get("config")
    pairs = raw.items() if isinstance(raw, Mapping) else []
    if isinstance(raw, list):
        pairs = [(one.get("fieldName"), one.get("fieldValue")) for one in raw if isinstance(one, Mapping)]
    for name, value in pairs:
        if isinstance(name, str) and name.strip().casefold() == wanted.casefold() and isinstance(value, str):
            return value.strip()
    return None


def _by_field(fields: Fields) -> dict[str, str]:
    """Canonical name and text of every configured value."""
    raw = fields.body.get("config")
    if isinstance(raw, Mapping):
        pairs: list[tuple[Any, Any]] = list(raw.items())
    elif isinstance(raw, list) and all(isinstance(item, Mapping) for item in raw):
        pairs = []
        for item in raw:
            if extra := set(item) - {"fieldName", "fieldValue"}:
                fields.unsupported(min(extra), ("fieldName", "fieldValue"))
            pairs.append((item.get("fieldName"), item.get("fieldValue")))
    else:
        if raw is not None:
            fields.fail(
                "config",
                "invalid",
                "The parameter `config` must be a list of {fieldName, fieldValue} or an object of names and values.",
            )
        pairs = []
    given: dict[str, str] = {}
    for name, value in pairs:
        _add(fields, given, name, value)
    return given


def _add(fields: Fields, given: dict[str, str], name: Any, value: Any) -> None:
    field = _BY_FOLDED.get(name.strip().casefold()) if isinstance(name, str) else None
    if field is None:
        near = nearest(name, list(_BY_NAME)) if isinstance(name, str) else None
        hint = f"Did you mean `{near}`?" if near else f"There are: {', '.join(_BY_NAME)}."
        message = f"There is no configuration field `{str(name)[:100]}`. {hint}"
        fields.fail_code(str(name)[:100], "validation.msg.hook.config.field.unknown", message)
        return
    if field.name in given:
        message = f"The configuration field `{field.name}` is there more than once."
        fields.fail_code(field.name, "validation.msg.hook.config.field.duplicate", message)
        return
    if value is None:
        return
    if isinstance(value, bool | list | dict):
        message = f"The configuration field `{field.name}` must be a string."
        fields.fail_code(field.name, INVALID_VALUE, message)
        return
    text = str(value).strip()
    if len(text) > field.longest:
        message = f"The configuration field `{field.name}` exceeds max length of {field.longest}."
        fields.fail_code(field.name, "validation.msg.hook.config.value.exceeds.max.length", message)
        return
    given[field.name] = text
