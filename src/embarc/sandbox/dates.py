"""Dates as Fineract reads them: text, with the format and the locale beside it in the same request.

Formats are patterns of Java's DateTimeFormatter, resolved strictly: 30 February is refused. Month names come from
the locale (CLDR, by Babel), in any case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Literal

from babel import Locale, UnknownLocaleError
from babel.dates import get_month_names

from embarc.core.fields import Fields

_TOKEN = re.compile(r"'([^']*)'|(d{1,2})|(M{1,4})|(y{4}|u{4}|yy|uu)|([A-Za-z]+)|(.)", re.DOTALL)


class BadDate(ValueError):
    """The text is not a date in this format and locale."""


def read_date(fields: Fields, name: str, *, required: bool = False) -> date | None:
    """The date in this field, by the request's own `dateFormat` and `locale`; mistakes are noted with Fineract's codes."""
    text = fields.text(name, required=required)
    if text is None:
        return None
    date_format = fields.body.get("dateFormat")
    locale_name = fields.body.get("locale")
    for parameter, value in (("dateFormat", date_format), ("locale", locale_name)):
        if not isinstance(value, str) or not value.strip():
            message = f"The parameter `{name}` requires a `{parameter}` parameter to be passed with it."
            fields.fail_code(name, f"validation.msg.missing.{parameter}.parameter", message)
            return None
    assert isinstance(date_format, str)  # noqa: S101 - checked above
    assert isinstance(locale_name, str)  # noqa: S101 - checked above
    locale = _locale(locale_name)
    if locale is None:
        message = f"The parameter `locale` has an invalid value of `{locale_name[:20]}`: en, fr or pt_BR are examples."
        fields.fail_code("locale", "validation.msg.invalid.locale.format", message, locale_name[:20])
        return None
    try:
        return parse_date(text, date_format, locale)
    except BadDate:
        message = (
            f"The parameter `{name}` is invalid based on the dateFormat: `{date_format[:50]}` and locale: "
            f"`{locale_name[:20]}` provided:"
        )
        fields.fail_code(name, "validation.msg.invalid.dateFormat.format", message, text[:50])
        return None


def parse_date(text: str, date_format: str, locale: Locale) -> date:
    """The date; raises `BadDate`. A time of day in the format is not accepted: these are days."""
    months: dict[str, int] = {}
    pattern = _pattern(date_format, locale, months)
    found = re.fullmatch(pattern, text, re.IGNORECASE)
    if not found:
        raise BadDate(text)
    parts = found.groupdict()
    if not {"day", "month", "year"} <= parts.keys():
        raise BadDate(date_format)
    month = months.get(parts["month"].casefold(), 0) or _digits(parts["month"])
    year = _digits(parts["year"])
    try:
        return date(2000 + year if len(parts["year"]) == 2 else year, month, _digits(parts["day"]))
    except ValueError:
        raise BadDate(text) from None


def _pattern(date_format: str, locale: Locale, months: dict[str, int]) -> str:
    pattern, seen = "", set[str]()
    for quoted, day, month, year, unknown, literal in _TOKEN.findall(date_format):
        part = "day" if day else "month" if month else "year" if year else ""
        if unknown or part in seen:
            raise BadDate(date_format)
        if part:
            seen.add(part)
        if day:
            pattern += r"(?P<day>\d{2})" if len(day) == 2 else r"(?P<day>\d{1,2})"
        elif month in ("M", "MM"):
            pattern += r"(?P<month>\d{2})" if month == "MM" else r"(?P<month>\d{1,2})"
        elif month:
            for form in ("format", "stand-alone"):
                for number, month_name in _month_names(month, form, locale).items():
                    months.setdefault(month_name.rstrip(".").casefold(), number)
                    months.setdefault(month_name.casefold(), number)
            names = sorted(months, key=len, reverse=True)
            pattern += f"(?P<month>{'|'.join(map(re.escape, names))})"
        elif year:
            pattern += rf"(?P<year>\d{{{len(year)}}})"
        else:
            pattern += re.escape(quoted or literal)
    return pattern


def _month_names(letters: str, form: Literal["format", "stand-alone"], locale: Locale) -> Mapping[int, str]:
    return get_month_names("wide" if letters == "MMMM" else "abbreviated", form, locale)


def _digits(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _locale(text: str) -> Locale | None:
    try:
        return Locale.parse(text.strip().replace("-", "_"))
    except (UnknownLocaleError, ValueError, TypeError):
        return None
