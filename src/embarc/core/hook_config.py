"""A hook's configuration: the template's fields, how each is read, and what it becomes.

`FIELDS` is the whole truth about what can be configured; the template, the checks, the documentation and the
`Endpoint` are made from it. Every mistake is noted, none ends the reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from embarc.core.fields import Fields, nearest
from embarc.core.filters import Filter
from embarc.core.hooks import (
    DEFAULT_CONCURRENCY,
    DEFAULT_TIMEOUT_SECONDS,
    LONGEST_TIMEOUT_SECONDS,
    ContentType,
    Endpoint,
    Order,
)
from embarc.core.schedules import DEFAULT_MAX_RETRIES, DEFAULT_SCHEDULE, RetrySchedule
from embarc.core.signatures import parse_secret

LONGEST_VALUE = 2000
MOST_RETRIES = 50
LONGEST_WAIT = 7 * 86_400
MOST_CONCURRENCY = 64
SLOWEST_RATE = 0.1
FASTEST_RATE = 10_000

URL = "Payload URL"
CONTENT_TYPE = "Content Type"
SECRET = "Secret"  # noqa: S105 - the field's name


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigField:
    """One field of the template. `apply` writes its value into the endpoint; raises ValueError with what is wrong."""

    name: str
    help: str
    required: bool = False
    secret: bool = False
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
        code="validation.msg.hook.url.invalid",
        apply=_url,
    ),
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
        name=SECRET,
        help="Signs every send: `whsec_` and base64 of 24 to 64 bytes. Made for you when absent, shown once.",
        secret=True,
        code="validation.msg.hook.secret.invalid",
        placeholder="whsec_...",
        apply=lambda endpoint, value: (parse_secret(value), endpoint)[1],
    ),
    ConfigField(
        name="Timeout Seconds",
        help=f"For the whole exchange, 1 to {LONGEST_TIMEOUT_SECONDS:g}.",
        placeholder=f"{DEFAULT_TIMEOUT_SECONDS:g}",
        apply=_timeout,
    ),
)
_BY_NAME = {field.name: field for field in FIELDS}
_BY_FOLDED = {field.name.casefold(): field for field in FIELDS}


@dataclass(frozen=True, slots=True)
class ParsedConfig:
    """A configuration that was read. `secret` is set where the caller gave one."""

    config: Mapping[str, str]
    secret: str | None


def read_config(
    fields: Fields, checked_url: Callable[[str], str], masked_secret: str | None = None
) -> ParsedConfig:
    """Read the parameter `config`, the list form or the object form; mistakes are noted in `fields`.

    `checked_url` gives the canonical form of a URL or raises ValueError with the reason. `masked_secret` is how the
    present secret is shown: a client that sends it back means "as it is".
    """
    given = _by_field(fields)
    if masked_secret is not None and given.get(SECRET) == masked_secret:
        del given[SECRET]
    config: dict[str, str] = {}
    endpoint = Endpoint(url="")
    for field in FIELDS:
        value = given.get(field.name)
        if not value:
            if field.required:
                fields.fail_code(
                    field.name,
                    "validation.msg.hook.required.config.field.not.provided",
                    f"The configuration field `{field.name}` is mandatory. {field.help}",
                )
            continue
        try:
            if field.name == URL:
                value = checked_url(value)
            endpoint = field.apply(endpoint, value)
        except ValueError as error:
            fields.fail_code(
                field.name,
                field.code or "validation.msg.hook.config.value.invalid",
                f"The configuration field `{field.name}` is not valid: {error}.",
                None if field.secret else value,
            )
            continue
        config[field.name] = value.lower() if field.name == CONTENT_TYPE else value
    secret = config.pop(SECRET, None)
    return ParsedConfig(config, secret)


def masked(secret: str) -> str:
    """How a secret is shown after its creation."""
    return "****" + secret[-4:]


def parse_endpoint(config: Mapping[str, str]) -> Endpoint:
    """The endpoint of a stored configuration. Names that a newer version wrote are left alone."""
    endpoint = Endpoint(url="")
    for name, value in config.items():
        if field := _BY_NAME.get(name):
            endpoint = field.apply(endpoint, value)
    return endpoint


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
        fields.fail_code(field.name, "validation.msg.hook.config.value.invalid", message)
        return
    text = str(value).strip()
    if len(text) > LONGEST_VALUE:
        message = f"The configuration field `{field.name}` exceeds max length of {LONGEST_VALUE}."
        fields.fail_code(field.name, "validation.msg.hook.config.value.exceeds.max.length", message)
        return
    given[field.name] = text
