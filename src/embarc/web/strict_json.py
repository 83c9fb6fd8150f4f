"""JSON as RFC 8259 means it, and as two parsers cannot read in two ways.

Refused: duplicate keys, NaN and Infinity, bytes that are not UTF-8, NUL characters, lone surrogates, nesting
beyond 64. What one system checks must be what the other one reads (RFC 8259 section 4; a bank's filter that
sees the first of two `amount` keys while the receiver sees the second is a hole).
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any, NoReturn

import msgspec

from embarc.core.errors import MalformedBody

DEEPEST = 64
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse(raw: bytes) -> Any:
    """The value of the text, numbers with a fraction as `Decimal` so that money keeps its digits.

    Raises `MalformedBody` with the reason and, where there is one, the place.
    """
    if not raw or raw.isspace():
        raise MalformedBody("The body of the request is empty; a JSON document is expected.")
    _check_text(raw)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedBody(f"The body is not valid UTF-8 at byte {error.start}.") from None
    if _SURROGATE.search(raw):
        _check_surrogates(raw)
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_decimal)
    except json.JSONDecodeError as error:
        raise MalformedBody(
            f"The body is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None
    except RecursionError:
        raise MalformedBody(f"The body is nested deeper than {DEEPEST} levels.") from None
    except ValueError as error:
        raise MalformedBody(f"The body is not acceptable JSON: {error}") from None


def check(raw: bytes) -> bytes:
    """`raw` without insignificant whitespace, every number's text as it was; raises `MalformedBody` like `parse`.

    The hot path: when decoding and encoding again yields the same bytes, no key was there twice, and the
    slow reading of `parse` (it looks at every object in Python) is not needed.
    """
    _check_text(raw)
    try:
        encoded = msgspec.json.encode(msgspec.json.decode(raw))
        if encoded == raw or encoded == msgspec.json.format(raw, indent=-1):
            return encoded
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        pass  # parse() finds the words for it, or reads what msgspec does not
    parse(raw)
    return msgspec.json.format(raw, indent=-1)


def _check_text(raw: bytes) -> None:
    if b"\\u0000" in raw or b"\x00" in raw:
        raise MalformedBody("The body contains a NUL character.")
    if raw.count(b"{") + raw.count(b"[") > DEEPEST and _depth(raw) > DEEPEST:
        raise MalformedBody(f"The body is nested deeper than {DEEPEST} levels.")


def _depth(raw: bytes) -> int:
    depth = deepest = 0
    in_string = escaped = False
    for byte in raw:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"}]":
            depth -= 1
    return deepest


def _check_surrogates(raw: bytes) -> None:
    try:
        json.dumps(json.loads(raw), ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise MalformedBody(
            "The body contains a lone surrogate (\\ud800 to \\udfff), which is no character."
        ) from None
    except (ValueError, RecursionError):
        return  # parse() says it better


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {json.dumps(key)[:100]} is there twice in one object.")
            seen.add(key)
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number.")


def _decimal(text: str) -> Decimal:
    if len(text) > 400:
        raise ValueError("a number has more than 400 characters.")
    number = Decimal(text)
    if not number.is_finite() or abs(number.adjusted()) > 400:
        raise ValueError("a number is too large.")
    return number
