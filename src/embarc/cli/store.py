"""`embarc store`: an installation moves to another store."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from embarc.cli.failing import fail
from embarc.core.errors import EmbarcError
from embarc.settings import load_settings
from embarc.upkeep import Copied, copy_store

app = typer.Typer(help="Move to another store.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Move to another store."""  # a group, although it has one command today


@app.command("copy")
def store_copy(
    source: Annotated[str, typer.Argument(help="sqlite:///PATH")],
    target: Annotated[
        str, typer.Argument(help="postgresql://USER@HOST/DATABASE, where no service was started yet.")
    ],
) -> None:
    """Copy everything from an embedded store to an empty PostgreSQL. Stop the service first.

    What is interrupted goes on when it is called again. The source is left as it is, and no service starts on it any
    more. Exit 0: everything is there; 1: something is missing.
    """
    console = Console(highlight=False, soft_wrap=True)
    bars = _Bars(console)
    try:
        settings = replace(load_settings(os.environ, overrides={"store": target}), store=source)
        with bars.progress:
            copied = asyncio.run(copy_store(settings, target, on_page=bars.on_page))
    except EmbarcError as error:
        fail(error)
    _sum_up(console, copied)
    console.print(f"{bars.copied:,} rows in {bars.seconds:.1f} s, {bars.copied / bars.seconds:,.0f} a second")
    if not copied.is_whole:
        console.print(
            "[red]Not everything is there.[/] Services do not start on either. Copy again, to an empty database."
        )
        raise typer.Exit(1)
    console.print(
        "[green]Everything is there.[/] Start services with EMBARC_STORE set to the target, and the same key:"
    )
    beside = copied.key_file
    console.print(f"EMBARC_KEY_FILE={beside.absolute()}" if beside else "it is the one that was set here.")


class _Bars:
    """A bar for each table, with rows and rate."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            TextColumn("{task.description:16}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=console,
        )
        self.copied = 0
        self._tasks: dict[str, tuple[TaskID, int]] = {}
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return max(time.monotonic() - self._started, 0.001)

    def on_page(self, table: str, done: int, total: int) -> None:
        """Move a table's bar on; an empty one has none."""
        if not total:
            return
        if table not in self._tasks:
            self._tasks[table] = (self.progress.add_task(table, total=total, completed=done), done)
        task, before = self._tasks[table]
        self.copied += done - before
        self._tasks[table] = (task, done)
        self.progress.update(task, completed=done)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Rows a second."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "")


def _sum_up(console: Console, copied: Copied) -> None:
    table = Table("table", "source", "target", "", box=None)
    for column in table.columns[1:3]:
        column.justify = "right"
    for one in copied.compared:
        told = "" if one.is_equal else "[red]differs[/]"
        table.add_row(one.table, f"{one.source:,}", f"{one.target:,}", told)
    console.print(table)
    if copied.replaced:
        console.print(
            f"{copied.replaced} texts held a NUL character, which PostgreSQL cannot store: U+FFFD stands for it there."
        )
