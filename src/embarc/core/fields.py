"""Reading a caller's JSON object field by field, with Fineract's codes for whatever is wrong.

All mistakes of a request are collected and answered together: `Fields` never raises while reading; `check`
raises once, at the end. Codes: `validation.msg.<resource>.<field>.<rule>` (Fineract's DataValidatorBuilder).
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from embarc.core.errors import FieldError, Invalid, MalformedBody


class Fields:
    """A request's JSON object while it is being read; `resource` names it in the codes."""

    def __init__(self, body: object, resource: str, allowed: Collection[str]) -> None:
        if not isinstance(body, Mapping):
            raise MalformedBody("The body of the request must be a JSON object.")
        self.body: Mapping[str, Any] = body
        self.resource = resource
        self.errors: list[FieldError] = []
        for name in body:
            if name not in allowed:
                self.unsupported(name, allowed)

    def unsupported(self, name: str, allowed: Collection[str]) -> None:
        """Note that this name is not one of ours, and which one was probably meant."""
        message = f"The parameter {name} is not supported."
        if near := nearest(name, allowed):
            message += f" Did you mean {near}?"
        self.errors.append(FieldError("error.msg.parameter.unsupported", message, name))

    def fail(self, name: str, rule: str, message: str, value: object = None) -> None:
        """Note one mistake; `rule` completes the code."""
        self.errors.append(FieldError(f"validation.msg.{self.resource}.{name}.{rule}", message, name, value))

    def fail_code(self, name: str, code: str, message: str, value: object = None) -> None:
        """Note one mistake with a code that does not follow the pattern."""
        self.errors.append(FieldError(code, message, name, value))

    def check(self) -> None:
        """Raise `Invalid` with everything that was noted."""
        if self.errors:
            raise Invalid(errors=self.errors)

    def __contains__(self, name: str) -> bool:
        return self.body.get(name) is not None

    def text(self, name: str, *, required: bool = False, longest: int | None = None) -> str | None:
        """A string, trimmed; None where it is absent or blank."""
        value = self.body.get(name)
        if value is not None and not isinstance(value, str):
            self.fail(name, "is.not.a.string", f"The parameter `{name}` must be a string.")
            return None
        value = value.strip() if value else None
        if not value:
            if required:
                self.fail(name, "cannot.be.blank", f"The parameter `{name}` is mandatory.")
            return None
        if longest is not None and len(value) > longest:
            self.fail(
                name,
                "exceeds.max.length",
                f"The parameter `{name}` exceeds max length of {longest}.",
                value[:100],
            )
        return value

    def moment(self, name: str) -> int | None:
        """A time in ISO 8601, as milliseconds since 1970."""
        text = self.text(name)
        try:
            return None if text is None else moment_ms(text)
        except ValueError:
            message = f"The parameter `{name}` must be a time in ISO 8601, such as 2025-10-13T07:45:12Z."
            self.fail(name, "invalid", message, (text or "")[:50])
            return None

    def boolean(self, name: str, *, default: bool | None = None) -> bool | None:
        """true or false, also as text; the empty string means "not given" (Mifos X sends it)."""
        value = self.body.get(name)
        if value is None or value == "":
            return default
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        if not isinstance(value, bool):
            self.fail(name, "must.be.a.boolean", f"The parameter `{name}` must be set to true or false.")
            return default
        return value

    def integer(
        self,
        name: str,
        *,
        required: bool = False,
        default: int | None = None,
        at_least: int | None = None,
        at_most: int | None = None,
    ) -> int | None:
        """A whole number within bounds, also as text of digits."""
        value = self.body.get(name)
        if value is None or value == "":
            if required:
                self.fail(name, "cannot.be.blank", f"The parameter `{name}` is mandatory.")
            return default
        if (
            isinstance(value, str)
            and value.strip().removeprefix("-").isascii()
            and value.strip().removeprefix("-").isdigit()
        ):
            value = int(value.strip()[:20])
        if isinstance(value, bool) or not isinstance(value, int):
            self.fail(name, "not.an.integer", f"The parameter `{name}` must be a whole number.")
            return default
        if at_least is not None and value < at_least:
            rule = "not.greater.than.zero" if at_least == 1 else "is.less.than.min"
            words = "greater than 0" if at_least == 1 else f"at least {at_least}"
            self.fail(name, rule, f"The parameter `{name}` must be {words}.", value)
        if at_most is not None and value > at_most:
            self.fail(
                name, "is.greater.than.max", f"The parameter `{name}` must be at most {at_most}.", value
            )
        return value


def moment_ms(text: str) -> int:
    """Milliseconds since 1970 of a time in ISO 8601, UTC where it has no offset; raises ValueError."""
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    try:
        return int(when.timestamp() * 1000)
    except OverflowError as error:
        raise ValueError(text) from error


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name that was probably meant, or None where nothing is near."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    found = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None
