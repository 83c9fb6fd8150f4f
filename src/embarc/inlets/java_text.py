"""What Java's `Map.toString` and `List.toString` write, read back as JSON as far as that can be told.

Fineract sends form fields this way: `{name=Acme, officeId=1.0, tags=[a, b]}`. The text has no quotes: where a value
contains `=`, a brace or `, ` nobody can say where it ends, and the text is kept as it is. (A value such as `x, y=z`
looks exactly like two; whoever needs certainty chooses JSON.) Its numbers went through `double`, which always prints
a point: `1.0` is a number, `1` was a string. Their text is kept.
"""

from __future__ import annotations

import json
import re

from embarc.core.masking import is_secret

UNPARSED = "unparsed"
"""The key under which text stands that could not be read."""

_KEY = re.compile(r"([A-Za-z_][A-Za-z0-9_.\-]*)=")
_SCALAR = re.compile(r"(?:[^{}\[\]=,]|,(?! ))*")
_LITERAL = re.compile(r"(?:-?(?:0|[1-9][0-9]*)\.[0-9]+(?:E-?[0-9]+)?|true|false|null)\Z")
_NAMED = re.compile(r"([A-Za-z0-9_.\-]+)=")
_DEEPEST = 32


def object_of(text: str) -> str:
    """The JSON object of a map's text; one with the text itself under `unparsed` where it cannot be read.

    A secret's value may end anywhere: from its key on nothing of the text is kept.
    """
    if found := next((one for one in _NAMED.finditer(text) if is_secret(one[1])), None):
        return json.dumps({UNPARSED: text[: found.end()] + "****"}, ensure_ascii=False)
    try:
        written, end = _map(text, 0, 1)
        if end == len(text):
            return written
    except ValueError:
        pass
    return json.dumps({UNPARSED: text}, ensure_ascii=False)


def scalar(text: str) -> str:
    """The JSON text of a single value."""
    return text if _LITERAL.match(text) else json.dumps(text, ensure_ascii=False)


def _value(text: str, at: int, depth: int) -> tuple[str, int]:
    if depth > _DEEPEST:
        raise ValueError("too deep")
    if text.startswith("{", at):
        return _map(text, at, depth)
    if text.startswith("[", at):
        return _list(text, at, depth)
    found = _SCALAR.match(text, at)
    assert found is not None  # noqa: S101 - it matches the empty text too
    return scalar(found[0]), found.end()


def _map(text: str, at: int, depth: int) -> tuple[str, int]:
    members: dict[str, str] = {}
    at = _after(text, "{", at)
    is_over = text.startswith("}", at)
    while not is_over:
        key = _KEY.match(text, at)
        if key is None or key[1] in members:
            raise ValueError("no key, or one that was there")
        members[key[1]], at = _value(text, key.end(), depth + 1)
        is_over = text.startswith("}", at)
        at = at if is_over else _after(text, ", ", at)
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in members.items()) + "}", at + 1


def _list(text: str, at: int, depth: int) -> tuple[str, int]:
    values: list[str] = []
    at = _after(text, "[", at)
    is_over = text.startswith("]", at)
    while not is_over:
        value, at = _value(text, at, depth + 1)
        values.append(value)
        is_over = text.startswith("]", at)
        at = at if is_over else _after(text, ", ", at)
    return "[" + ",".join(values) + "]", at + 1


def _after(text: str, mark: str, at: int) -> int:
    if not text.startswith(mark, at):
        raise ValueError(f"no {mark} at {at}")
    return at + len(mark)
