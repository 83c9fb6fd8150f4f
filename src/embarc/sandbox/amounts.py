"""Amounts and rates as Fineract reads and writes them: exact decimals, as numbers or as text of a locale."""

from __future__ import annotations

from decimal import Decimal

from babel import Locale, UnknownLocaleError
from babel.numbers import NumberFormatError, parse_decimal

from embarc.core.fields import Fields

DIGITS = 15
"""Significant digits of an amount: what a JSON number keeps in every language that reads it as a double."""


def read_amount(
    fields: Fields, name: str, *, required: bool = False, digits: int = 6, zero: bool = False
) -> Decimal | None:
    """The number in this field, with at most `digits` decimals; greater than zero, or `zero` too. Mistakes are noted."""
    value = fields.body.get(name)
    if value is None or value == "":
        if required:
            fields.fail(name, "cannot.be.blank", f"The parameter `{name}` is mandatory.")
        return None
    number = _decimal(fields, name, value)
    if number is None:
        return None
    shown = str(value)[:50]
    if number < 0 or (number == 0 and not zero):
        rule, words = (
            ("not.zero.or.greater", "0 or greater") if zero else ("not.greater.than.zero", "greater than 0")
        )
        fields.fail(name, rule, f"The parameter `{name}` must be {words}.", shown)
    elif number >= Decimal(10) ** (DIGITS - digits):
        message = f"The parameter `{name}` must be less than 1 with {DIGITS - digits} zeros."
        fields.fail(name, "is.greater.than.max", message, shown)
    elif number != round(number, digits):
        message = f"The parameter `{name}` must have at most {digits} decimals."
        fields.fail(name, "has.too.many.decimals", message, shown)
    else:
        return round(number, digits)
    return None


def number(value: Decimal) -> int | float:
    """The amount as a JSON number. Exact: amounts have at most `DIGITS` digits."""
    return int(value) if value == value.to_integral_value() else float(value)


def _decimal(fields: Fields, name: str, value: object) -> Decimal | None:
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return Decimal(value)
    locale_name = fields.body.get("locale")
    if not isinstance(value, str):
        message = f"The parameter `{name}` must be a number."
        fields.fail_code(name, "validation.msg.invalid.decimal.format", message, str(value)[:50])
    elif not isinstance(locale_name, str) or not locale_name.strip():
        message = f"The parameter `{name}` requires a `locale` parameter to be passed with it."
        fields.fail_code(name, "validation.msg.missing.locale.parameter", message)
    else:
        try:
            locale = Locale.parse(locale_name.strip().replace("-", "_"))
            found = parse_decimal(value.strip(), locale, strict=True)
            if found.is_finite():
                return found
        except (UnknownLocaleError, NumberFormatError, ValueError, TypeError):
            pass
        message = f"The parameter `{name}` has value: {value[:50]} which is invalid decimal value for provided locale of [{locale_name[:20]}]."
        fields.fail_code(name, "validation.msg.invalid.decimal.format", message, value[:50])
    return None
