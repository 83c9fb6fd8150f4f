"""Writes `docs/reference/` from the code: `make docs`. A test fails when a page is not what this would write."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from typer.main import get_command

from embarc.app import Service
from embarc.cli.commands import app as command_line
from embarc.core.attempts import Result
from embarc.core.catalogue import Firing, load_catalogue
from embarc.core.deliveries import HELD, TRANSITIONS, State
from embarc.core.hook_config import FIELDS
from embarc.observe import NAMES, Observer
from embarc.settings import Settings, load_settings, variable
from embarc.web.routes import Route

FOLDER = Path(__file__).parent / "reference"


def pages() -> dict[str, str]:
    """Every page by file name."""
    return {
        "settings.md": "\n".join(_settings()) + "\n",
        "hook-configuration.md": "\n".join(_hook_configuration()) + "\n",
        "states.md": "\n".join(_states()) + "\n",
        "api.md": "\n".join(_api(asyncio.run(_routes()))) + "\n",
        "command-line.md": "\n".join(_command_line()) + "\n",
        "event-kinds.md": "\n".join(_event_kinds()) + "\n",
        "observations.md": "\n".join(_observations()) + "\n",
    }


KINDS = Path(__file__).parent.parent / "src" / "embarc" / "receiver" / "kinds.py"


def kinds() -> str:
    """The module of the receiver SDK with every kind of event by name."""
    names = sorted({str(entry.kind) for entry in load_catalogue().entries})
    lines = [f'    {re.sub("[^A-Za-z0-9]", "_", name)} = "{name}"' for name in names]
    head = '"""Every kind of event that the catalogue has. Written by `make docs`."""'
    return "\n".join(
        [
            head,
            "",
            "from enum import StrEnum",
            "",
            "",
            "class Kind(StrEnum):",
            '    """To compare with `Event.kind`."""',
            "",
            *lines,
            "",
        ]
    )


def _settings() -> Iterator[str]:
    yield "# Settings\n"
    yield "Read from `embarc.toml` in the working directory (or the file named by `EMBARC_CONFIG`), then from the"
    yield "environment, then from the command line; later ones win. A name that does not exist is refused.\n"
    yield "| `embarc.toml` | environment | default | |"
    yield "| --- | --- | --- | --- |"
    for setting in fields(Settings):
        default = ", ".join(setting.default) if isinstance(setting.default, tuple) else str(setting.default)
        shown = f"`{default}`" if default else ""
        yield f"| `{setting.name}` | `{variable(setting.name)}` | {shown} | {setting.metadata['doc']} |"


def _hook_configuration() -> Iterator[str]:
    yield "# Configuration of a hook\n"
    yield "The fields of the templates `Web` and `Elastic Search`, given as a list of `{fieldName, fieldValue}` or as an"
    yield "object. Names count in any case; a value has at most 2,000 characters.\n"
    yield "| field | | default or form |"
    yield "| --- | --- | --- |"
    for field in sorted(FIELDS, key=lambda one: (not one.required, one.name)):
        required = " Required." if field.required else ""
        yield f"| {field.name} | {field.help}{required} | `{field.placeholder}` |"


def _states() -> Iterator[str]:
    yield "# States of a delivery\n"
    yield "```mermaid\nstateDiagram-v2\n    [*] --> waiting: an event is accepted"
    for source, why, target in TRANSITIONS:
        yield f"    {source} --> {target}: {why.replace(':', '')}"
    yield "```\n"
    yield "| state | |"
    yield "| --- | --- |"
    for state in State:
        yield f"| `{state}` | {state.meaning} |"
    yield f"| `{HELD}` | Shown instead of `waiting` while the hook may not receive. |\n"
    yield "| from | when | to |"
    yield "| --- | --- | --- |"
    for source, why, target in TRANSITIONS:
        yield f"| `{source}` | {why} | `{target}` |"
    yield "\n## Results of an attempt\n"
    yield "| result | |"
    yield "| --- | --- |"
    for result in Result:
        yield f"| `{result}` | {result.meaning} |"


def _api(routes: list[Route]) -> Iterator[str]:
    yield "# HTTP API\n"
    yield "Base path `/api/v1`, and the same under `/fineract-provider/api/v1`; those that are open stand at the"
    yield "root. The machine-readable form is `/openapi.json`, the browsable one `/docs`.\n"
    yield "| | | permission | |"
    yield "| --- | --- | --- | --- |"
    for route in routes:
        permission = f"`{route.permission}`" if route.permission else "open"
        yield f"| {route.method} | `{route.path}` | {permission} | {route.summary} |"


def _command_line() -> Iterator[str]:
    yield "# Command line\n"
    for name, command in _commands("embarc", get_command(command_line)):
        yield f"## `{name}`\n"
        yield f"{command.help}\n"
        for option in (one for one in command.params if not getattr(one, "hidden", False)):
            names = ", ".join(f"`{one}`" for one in [*option.opts, *option.secondary_opts])
            yield f"* {names}: {getattr(option, 'help', '') or ''}"
        yield ""


def _commands(path: str, group: Any) -> Iterator[tuple[str, Any]]:
    for name, command in sorted(group.commands.items()):
        yield f"{path} {name}", command
        if hasattr(command, "commands"):
            yield from _commands(f"{path} {name}", command)


def _event_kinds() -> Iterator[str]:
    entries = load_catalogue().entries
    yield "# Kinds of event\n"
    yield "What ships with Embarc; `POST /eventkinds` adds your own. A subscription names a kind, or has `*` for either part."
    yield "Of the kinds of Apache Fineract some are listed in its own template and never emitted, some emitted and not listed.\n"
    for firing in (Firing.NEVER, Firing.UNLISTED):
        odd = [entry for entry in entries if entry.firing is firing]
        yield f"## {len(odd)} of `{firing}`: {firing.meaning}\n"
        for entry in odd:
            yield f"* `{entry.kind}`" + (f": it emits `{entry.fires_as}` instead" if entry.fires_as else "")
        yield ""
    for grouping in sorted({entry.grouping for entry in entries}):
        yield f"## {grouping}\n"
        yield "| kind | Fineract | |"
        yield "| --- | --- | --- |"
        for entry in entries:
            if entry.grouping == grouping:
                odd_one = f"`{entry.firing}`" if entry.firing in (Firing.NEVER, Firing.UNLISTED) else ""
                yield f"| `{entry.kind}` | {odd_one} | {entry.description} |"
        yield ""


def _observations() -> Iterator[str]:
    yield "# Observations\n"
    yield "What the service tells about itself: each is a JSON line on standard error (what happens all the time only at"
    yield "`log_level = debug`), and is counted at `/metrics`.\n"
    yield "| name | |"
    yield "| --- | --- |"
    for name, meaning in sorted(NAMES.items()):
        yield f"| `{name}` | {meaning} |"


async def _routes() -> list[Route]:
    with tempfile.TemporaryDirectory() as folder:
        overrides = {"store": f"sqlite:///{folder}/embarc.db", "sandbox": True}
        settings = load_settings({}, overrides=overrides, directory=Path(folder))
        service = await Service.open(settings, Observer(), on_broken=print)
        routes = list(service.routes)
        await service.stop()
    return routes


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    KINDS.write_text(kinds(), encoding="utf-8")
