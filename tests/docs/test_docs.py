"""The documentation is complete: what the code offers is written down, and the README's commands exist."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_what_the_code_says() -> None:
    pages = generator().pages()

    assert {path.name for path in REFERENCE.iterdir()} == set(pages)
    for name, text in pages.items():
        assert (REFERENCE / name).read_text(encoding="utf-8") == text, (
            f"{name} is out of date: run `make docs`"
        )


def test_the_kinds_of_the_receiver_sdk_are_those_of_the_catalogue() -> None:
    module = generator()

    assert module.KINDS.read_text(encoding="utf-8") == module.kinds()


def test_the_first_screen_of_the_readme_has_the_two_commands() -> None:
    first_screen = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:30])
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)

    for command in ("demo", "test"):
        assert f"make {command}" in first_screen
        assert command in targets


@pytest.mark.parametrize(
    "page",
    sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]),
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), f"{page} links to {link}"


def test_every_observation_that_is_told_has_a_meaning() -> None:
    from embarc.observe import NAMES

    told = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
                if name.lstrip("_") in ("observe", "observer") and node.args:
                    told |= {one.value for one in ast.walk(node.args[0]) if isinstance(one, ast.Constant)}

    assert {name for name in told if isinstance(name, str)} == set(NAMES)


def test_every_public_function_says_what_it_does() -> None:
    missing = []
    for path in sorted((ROOT / "src" / "embarc").rglob("*.py")):
        if "testing" in path.parts:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        protocols = {"Store", "Transport", "Resolver", "Source", "Ledger"}
        for parent in ast.walk(tree):
            if not isinstance(parent, ast.Module | ast.ClassDef):
                continue
            if isinstance(parent, ast.ClassDef) and parent.name.startswith("_"):
                continue
            for node in parent.body:
                if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    continue
                keeps_a_contract = (
                    isinstance(parent, ast.ClassDef)
                    and parent.name not in protocols
                    and any(
                        word in parent.name
                        for word in (
                            "Store",
                            "Transport",
                            "Resolver",
                            "Source",
                            "Outcome",
                            "Ledger",
                            "_Exchange",
                        )
                    )
                )
                if node.name.startswith("_") or keeps_a_contract or ast.get_docstring(node):
                    continue
                missing.append(f"{path.relative_to(ROOT)}: {node.name}")

    assert missing == []
