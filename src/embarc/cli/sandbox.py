"""`embarc sandbox`: what one does with a running sandbox."""

from __future__ import annotations

import asyncio
import os
import secrets
from datetime import UTC, datetime
from typing import Annotated

import typer

app = typer.Typer(help="Play with the sandbox lending core.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Play with the sandbox lending core."""  # a group, although it has one command today


@app.command()
def simulate(
    clients: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many people come.")] = 100,
    days: Annotated[
        int, typer.Option(min=1, max=1500, help="Simulated business dates, the last of them today.")
    ] = 90,
    rate: Annotated[
        float,
        typer.Option(min=0.1, max=10_000, help="Commands a second, at most; half while offices are open."),
    ] = 50.0,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed gives the same commands; a random one if absent.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Where Embarc answers.  [http://EMBARC_HOST:EMBARC_PORT]")
    ] = None,
    user: Annotated[str, typer.Option(help="Who gives the commands.")] = "admin",
    password: Annotated[
        str | None, typer.Option(help="Their password.  [env: EMBARC_ADMIN_PASSWORD; asked for if absent]")
    ] = None,
) -> None:
    """Let a portfolio live: applications, loans, repayments, arrears, all over HTTP against `embarc serve --sandbox`."""
    from embarc.cli.simulating import simulate_portfolio
    from embarc.core.errors import EmbarcError
    from embarc.sandbox.simulate import Scale
    from embarc.settings import load_settings

    try:
        settings = load_settings(os.environ)
        scale = Scale(
            clients=clients,
            days=days,
            seed=secrets.randbelow(1_000_000) if seed is None else seed,
            today=datetime.now(UTC).date(),
        )
        asyncio.run(
            simulate_portfolio(
                scale,
                rate=rate,
                url=url or f"http://{settings.host}:{settings.port}",
                user=user,
                password=password
                or settings.admin_password
                or typer.prompt(f"Password of {user}", hide_input=True),
            )
        )
    except EmbarcError as error:
        typer.echo(f"embarc: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
