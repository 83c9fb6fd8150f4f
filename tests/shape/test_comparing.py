"""Secrets are compared in constant time: `hmac.compare_digest` or `secrets.compare_digest`, never `==`.

Read from the source: a comparison by `==`, `!=` or `in` with a name that sounds like a secret fails, wherever it is,
unless the other side is written in the code.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "embarc"
SECRET = re.compile(
    r"(?:^|_)(secret|password|passwd|token|digest|signature|mac|hmac|api_key|credential|authorization|key_hash)s?$"
)


def name_of(node: ast.expr) -> str:
    match node:
        case ast.Attribute():
            return f"{name_of(node.value)}.{node.attr}"
        case ast.Name():
            return node.id
        case ast.Subscript():
            return name_of(node.value)
        case ast.Call():
            return name_of(node.func)
        case _:
            return ""


def is_harmless(node: ast.expr) -> bool:
    """What is compared with is written in the code: None, a number, an empty text, an enumeration's member."""
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return all(is_harmless(one) for one in node.elts)
    return name_of(node).rpartition(".")[2].isupper()


def comparisons(tree: ast.AST) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare):
            continue
        operands = [node.left, *node.comparators]
        for place, operator in enumerate(node.ops):
            left, right = operands[place], operands[place + 1]
            if not isinstance(operator, ast.Eq | ast.NotEq | ast.In | ast.NotIn):
                continue
            if is_harmless(left) or is_harmless(right):
                continue
            for side in (left, right):
                if SECRET.search(name_of(side).rpartition(".")[2]):
                    found.append((node.lineno, ast.unparse(node)))
                    break
    return found


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(SOURCE.rglob("*.py")) if "testing" not in path.parts],
    ids=lambda path: str(path.relative_to(SOURCE)),
)
def test_no_secret_is_compared_in_a_way_that_tells_how_far_it_was_right(path: Path) -> None:
    found = comparisons(ast.parse(path.read_text(encoding="utf-8")))

    assert found == []


@pytest.mark.parametrize(
    ("code", "is_found"),
    [
        ("given == self.secret", True),
        ("key.digest != digest(text)", True),
        ("token in tokens", True),
        ("headers['x'] == expected_signature", True),
        ("hmac.compare_digest(given, secret)", False),
        ("password is None", False),
        ("secret == ''", False),
        ("endpoint.signature == Signature.HMAC", False),
    ],
)
def test_the_lint_finds_what_it_is_to_find(code: str, *, is_found: bool) -> None:
    assert bool(comparisons(ast.parse(code))) == is_found
