"""The house: imports go downwards only, and importing does nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "embarc"

MAY_IMPORT = {
    "core": set(),
    "data": set(),
    "settings": {"core"},
    "observe": {"core"},
    "receiver": {"core"},
    "outbox": {"core"},
    "store": {"core"},
    "net": {"core"},
    "web": {"core", "observe"},
    "engine": {"core", "observe", "store", "net"},
    "api": {"core", "observe", "store", "web", "engine"},
    "inlets": {"core", "observe", "web"},
    "sandbox": {"core", "outbox", "web"},
    "telemetry": {"core", "observe"},
    "stores": {"core", "settings", "observe", "store"},
    "app": {
        "stores",
        "core",
        "settings",
        "observe",
        "store",
        "net",
        "web",
        "engine",
        "api",
        "inlets",
        "sandbox",
        "telemetry",
    },
    "__main__": {"cli"},
    "upkeep": {"core", "settings", "observe", "store", "stores", "engine"},
    "cli": {
        "stores",
        "core",
        "settings",
        "observe",
        "receiver",
        "sandbox",
        "telemetry",
        "web",
        "inlets",
        "app",
        "upkeep",
    },
}
"""Each part, and the parts it may know. `testing` is shipped for tests and may know everything."""

CONCRETE = ("embarc.store.sqlite", "embarc.store.postgres", "embarc.net.transport", "embarc.net.resolver")
STANDARD = set(sys.stdlib_module_names)


def part_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def modules() -> list[Path]:
    return [path for path in sorted(SOURCE.rglob("*.py")) if part_of(path) in MAY_IMPORT]


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_part_of_the_source_has_its_floor() -> None:
    parts = {part_of(path) for path in SOURCE.rglob("*.py")} - {"__init__", "testing"}

    assert parts == set(MAY_IMPORT)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_downwards_only(path: Path) -> None:
    own = part_of(path)

    for name in imports(path):
        if name.startswith("embarc.") and len(name.split(".")) > 1:
            other = name.split(".")[1]
            assert other == own or other in MAY_IMPORT[own] or other == "__version__", (
                f"{path} imports {name}"
            )


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_the_composition_root_names_a_concrete_store_or_transport(path: Path) -> None:
    if part_of(path) in ("app", "stores", "upkeep", "store", "net"):
        return

    assert not [name for name in imports(path) if name.startswith(CONCRETE)]


GUESTS: dict[str, set[str]] = {
    "core": {"cel"},  # evaluates filters, as pure as the rest
    # Each imported only where it is asked for: public keys, a framework's adapter, a ledger in a database.
    "receiver": {"cryptography", "django", "flask", "sqlalchemy"},
    "outbox": {"alembic", "sqlalchemy"},  # of a caller who uses them
}


@pytest.mark.parametrize("part", sorted(GUESTS))
def test_these_need_nothing_but_the_standard_library(part: str) -> None:
    for path in (SOURCE / part).rglob("*.py"):
        outside = {name.split(".")[0] for name in imports(path)} - STANDARD - {"embarc"}
        assert outside <= GUESTS[part], path


def test_the_receiver_sdk_is_importable_without_any_other_package() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('msgspec', 'apsw', 'starlette', 'cryptography', 'sqlalchemy')));"
        "import embarc.receiver, embarc.outbox.middleware; print('ok')"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stdout == "ok\n", done.stderr


def test_the_receiver_sdk_verifies_in_an_interpreter_that_has_nothing_else() -> None:
    """No site-packages at all (-S), no environment (-I): what a receiver without dependencies has."""
    code = (
        f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r});"
        "from embarc.receiver import *; from embarc.receiver import asgi, wsgi, kinds;"
        "import embarc.outbox, embarc.core.signatures as s;"
        "lines = s.Signer([('whsec_' + 'A' * 32, None)]).header_lines('evt_1', 1000, b'{}');"
        "print(verify(dict(line.split(': ', 1) for line in lines), b'{}', 'whsec_' + 'A' * 32, now=lambda: 1000).id);"
        "print(sorted(name for name in sys.modules if '.' not in name and name not in sys.stdlib_module_names"
        " and not name.startswith('_')))"
    )

    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)

    assert done.stdout == "evt_1\n['embarc']\n", done.stderr + done.stdout


def test_no_file_grows_past_what_one_can_hold_in_mind() -> None:
    longest = max(modules(), key=lambda path: len(path.read_text(encoding="utf-8").splitlines()))

    assert len(longest.read_text(encoding="utf-8").splitlines()) <= 600, longest
