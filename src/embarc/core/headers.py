"""Header lines that a hook's owner configures: checked as RFC 9110 section 5 has them, none of which is ours."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}\Z")
_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?\Z")
MOST_HEADERS = 20

RESERVED = frozenset(
    [
        "accept-encoding",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "fineract-platform-tenantid",
    ]
)
RESERVED_PREFIXES = ("webhook-", "x-embarc-", "x-fineract-", "proxy-")


def parse_header_name(text: str) -> str:
    """The name, if it may be configured; raises ValueError."""
    if not _NAME.match(text):
        raise ValueError(f"`{text[:50]}` is not the name of a header")
    if text.lower() in RESERVED or text.lower().startswith(RESERVED_PREFIXES):
        raise ValueError(f"the header `{text}` is reserved")
    return text


def parse_header_lines(text: str) -> tuple[str, ...]:
    """The lines `Name: value` of a text; raises ValueError naming what is wrong."""
    lines = []
    seen = set()
    for line in text.splitlines():
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        name, value = parse_header_name(name.strip()), value.strip()
        if not colon or not _VALUE.match(value):
            raise ValueError(f"the header `{name}` must have a value of visible ASCII after a colon")
        if name.lower() in seen:
            raise ValueError(f"the header `{name}` is there more than once")
        seen.add(name.lower())
        lines.append(f"{name}: {value}")
    if len(lines) > MOST_HEADERS:
        raise ValueError(f"there may be at most {MOST_HEADERS} of them")
    return tuple(lines)
