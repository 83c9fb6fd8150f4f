"""How a command ends that cannot do what it was asked."""

from __future__ import annotations

from typing import NoReturn

import typer

from embarc.core.errors import EmbarcError


def fail(error: EmbarcError) -> NoReturn:
    """Tell what is wrong and exit with 2."""
    typer.echo(f"embarc: {error}", err=True)
    raise typer.Exit(2)
