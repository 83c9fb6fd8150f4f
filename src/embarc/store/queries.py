"""Reads a file of named statements: a line `-- name` before each, comments after it."""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"^-- ([a-z_]+)$", re.MULTILINE)


def load_queries(package: str, file: str = "queries.sql") -> dict[str, str]:
    """Every statement of the file, by name."""
    return parse_queries(files(package).joinpath(file).read_text(encoding="utf-8"))


def parse_queries(text: str) -> dict[str, str]:
    """Every statement of such a file's text, by name."""
    parts = _NAME.split(text)
    return {name: _bare(body) for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def _bare(body: str) -> str:
    lines = [line for line in body.splitlines() if line.strip() and not line.lstrip().startswith("--")]
    return "\n".join(lines).rstrip(";")
