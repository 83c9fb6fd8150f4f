"""`embarc sandbox simulate` on the screen: a bar that moves through the days, and a summary."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from embarc.sandbox.simulate import Answer, Api, Command, Played, Scale, make_plan, play


async def simulate_portfolio(scale: Scale, *, rate: float, url: str, user: str, password: str) -> Played:
    """Plan, play and sum up. Raises `PlayFailed`."""
    console = Console(highlight=False, soft_wrap=True)
    commands = make_plan(scale)
    console.print(
        f"{len(commands)} commands of {scale.clients} clients, {scale.first_day} to {scale.today}, to {url}  "
        f"(--seed {scale.seed} repeats them)"
    )
    api = Api(url, user, password)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("", total=len(commands))

            def on_done(command: Command, answer: Answer | None) -> None:
                progress.update(task, advance=1, description=f"{command.day:%d %B %Y}")

            played = await play(api, commands, rate=rate, on_done=on_done)
    finally:
        api.close()
    _sum_up(console, played)
    return played


def _sum_up(console: Console, played: Played) -> None:
    table = Table("command", "succeeded", "refused", "not sent", title="What happened", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    refused = played.refused_by_kind
    for kind in sorted(played.succeeded.keys() | refused.keys() | played.unsent.keys()):
        cells = (played.succeeded[kind], refused[kind], played.unsent[kind])
        table.add_row(kind, *(str(count) if count else "" for count in cells))
    table.add_section()
    sums = (played.succeeded.total(), refused.total(), played.unsent.total())
    table.add_row("all", *(str(count) for count in sums))
    console.print(table)
    for (kind, code), count in sorted(played.refused.items()):
        console.print(f"refused {count} x {kind}: {code}")
    if ("OFFICE.CREATE", "error.msg.office.duplicate.name") in played.refused:
        console.print("This seed was played here before; another --seed brings other people.")
    sent = played.succeeded.total() + refused.total()
    console.print(
        f"{sent} commands in {played.seconds:.1f} s, {sent / max(played.seconds, 0.001):.0f} a second; "
        f"{played.events} events accepted by Embarc meanwhile"
    )
