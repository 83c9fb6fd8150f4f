"""Filters: which events of a subscribed kind a hook wants, as an expression in CEL (Common Expression Language).

The expression sees `payload` (the event's body), `entity` and `action`, and says true or false. It is compiled when the
hook is read and evaluated once for each event that the hook subscribes to.
"""

from __future__ import annotations

import re
from typing import Any

import cel

MOST_MACROS = 2
"""Loops over the payload in one expression: each one inside another multiplies what an evaluation can cost."""

_MACRO = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(")
_PLACE = re.compile(r"ERROR: <input>:(\d+):(\d+): (?:Syntax error: )?(.*)")
_PROBE = {"payload": {}, "entity": "CLIENT", "action": "CREATE"}


class FilterFailed(Exception):
    """An expression could not say whether it wants an event."""


class Filter:
    """A compiled expression. Raises ValueError with what is wrong and where."""

    __slots__ = ("_program", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        if len(_MACRO.findall(text)) > MOST_MACROS:
            raise ValueError(f"it may loop over the payload at most {MOST_MACROS} times")
        try:
            self._program = cel.compile(text)
        except ValueError as error:
            raise ValueError(_why(str(error))) from None
        try:
            answer = self._program.execute(_PROBE)
        except RuntimeError as error:  # a name that is none of the three
            raise ValueError(str(error).partition(".")[0][:200]) from None
        except Exception:
            return  # it asks for something that the empty payload of the probe does not have
        if not isinstance(answer, bool):
            raise ValueError(f"it must say true or false, and says {str(answer)[:50]}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filter) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Filter({self.text!r})"

    def wants(self, payload: dict[str, Any], entity: str, action: str) -> bool:
        """What the expression says to an event; raises `FilterFailed` where it cannot say."""
        try:
            answer = self._program.execute({"payload": payload, "entity": entity, "action": action})
        except Exception as error:
            raise FilterFailed(f"{type(error).__name__}: {str(error)[:200]}") from None
        if not isinstance(answer, bool):
            raise FilterFailed("neither true nor false")
        return answer


def _why(message: str) -> str:
    found = _PLACE.search(message)
    if found is None:
        return message.partition("\n")[0][:200]
    what = found[3].partition(" expecting {")[0]
    return f"line {found[1]}, column {found[2]}: {what[:200]}"
