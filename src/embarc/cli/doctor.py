"""`embarc doctor`: what a person, or their monitoring, should know about a store, with what to do about it."""

from __future__ import annotations

import asyncio
import json

from rich.console import Console
from rich.table import Table

from embarc.core.findings import Level, worst
from embarc.settings import Settings
from embarc.upkeep import examine

_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.CRITICAL: "red"}


def run_doctor(settings: Settings, *, deep: bool, as_json: bool) -> int:
    """Look the store over and print the findings; returns 0, 1 or 2 by the worst of them. Raises `EmbarcError`."""
    found = asyncio.run(examine(settings, deep=deep))
    level = worst(found)
    if as_json:
        rows = [
            {"name": one.name, "level": one.level.name, "told": one.told, "advice": one.advice}
            for one in found
        ]
        print(json.dumps({"level": level.name, "findings": rows}, indent=2, ensure_ascii=False))
        return level
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for one in found:
        colour = _COLOURS[one.level]
        advice = f"\n[dim]{one.advice}[/]" if one.advice else ""
        table.add_row(f"[{colour}]{one.level.name.lower()}[/]", one.name, one.told + advice)
    console = Console()
    console.print(table)
    console.print(f"\n{sum(one.level > Level.OK for one in found)} of {len(found)} need attention.")
    return level
