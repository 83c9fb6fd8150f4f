"""Values of the hot path: immutable for the type checker, cheap at run time.

A frozen dataclass sets each field through `object.__setattr__`. A webhook is a dozen such values, and their making was a
twentieth of its CPU. mypy refuses to assign to a field of a `value` all the same, and no test runs without mypy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """A slotted dataclass of keyword arguments, compared and hashed by its fields, never changed."""
    return dataclass(slots=True, kw_only=True, unsafe_hash=True)(cls)
