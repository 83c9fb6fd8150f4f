"""`embarc audit`, `embarc keys` and `embarc operators`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from embarc.cli.failing import fail
from embarc.core.access import SHORTEST_PASSWORD
from embarc.core.errors import EmbarcError, SettingsError
from embarc.core.events import timestamp_text
from embarc.settings import Settings, load_settings

Store = Annotated[str | None, typer.Option(help="sqlite:///PATH  [env: EMBARC_STORE; sqlite:///embarc.db]")]

audit = typer.Typer(help="The audit log.", no_args_is_help=True)
keys = typer.Typer(help="The keys that protect stored secrets.", no_args_is_help=True)
operators = typer.Typer(help="The people who sign in.", no_args_is_help=True)


@audit.command("verify")
def audit_verify(
    store: Store = None,
    heads: Annotated[
        Path | None,
        typer.Option(
            help="A file, kept where whoever holds the database cannot write: what it says of an earlier check must "
            "still be so. Made where it is missing, brought up to date where all is well."
        ),
    ] = None,
) -> None:
    """Check that no entry was changed or taken out, at the end neither; exit 1 and tell where, if one was. The service may run."""
    from embarc.upkeep import verify_audits

    try:
        verified = asyncio.run(verify_audits(_settings(store), heads))
    except EmbarcError as error:
        fail(error)
    for what in verified.broken:
        typer.echo(what, err=True)
    for head in verified.heads:
        typer.echo(f"{head.tenant} ends with entry {head.number}, {head.digest.hex()}")
    typer.echo(f"{verified.entries} entries, {len(verified.broken)} broken")
    raise typer.Exit(1 if verified.broken else 0)


@keys.command("show")
def keys_show(store: Store = None) -> None:
    """List the keys: ids and ages, nothing else. The service may run."""
    from embarc.upkeep import list_keys

    try:
        found = asyncio.run(list_keys(_settings(store)))
    except EmbarcError as error:
        fail(error)
    typer.echo(f"{'tenant':20} {'data key':16}  {'wrapped by':16}  made")
    for key in found:
        retired = "  (retired)" if key.is_retired else ""
        typer.echo(
            f"{key.tenant or '(installation)':20} {key.key_id.hex()}  {key.wrapped_by:16}  "
            f"{timestamp_text(key.created_at_ms)}{retired}"
        )


@keys.command("rotate")
def keys_rotate(
    store: Store = None,
    data: Annotated[
        bool, typer.Option("--data", help="New data keys too: every stored secret is sealed anew.")
    ] = False,
    to_file: Annotated[
        str, typer.Option(metavar="FILE", help="The next key is in this file, made where it is missing.")
    ] = "",
    to_command: Annotated[
        str, typer.Option(metavar="COMMAND", help="The next key is behind this command (KMS, HSM).")
    ] = "",
) -> None:
    """Wrap the data keys by a new key, at once however much is stored. Stop the service first.

    With --data the data keys are new and the wrapping key stays. What is interrupted goes on when it is called again, or
    when the service is started.
    """
    from embarc.upkeep import rotate_data_keys, rotate_key

    try:
        settings = _settings(store)
        if data:
            made, sealed = asyncio.run(rotate_data_keys(settings))
            typer.echo(f"{made} new data keys, {sealed} secrets sealed anew")
            return
        count, following = asyncio.run(rotate_key(settings, to_file=to_file, to_command=to_command))
    except EmbarcError as error:
        fail(error)
    typer.echo(f"{count} data keys wrapped anew")
    for line in following:
        typer.echo(line)


@operators.command("password")
def operators_password(
    name: Annotated[str, typer.Argument(help="Who has lost it.")],
    store: Store = None,
    tenant: Annotated[str, typer.Option(help="Whose operator it is.")] = "default",
) -> None:
    """Set an operator's password, asked for or read from standard input. Stop the service first."""
    from embarc.upkeep import set_password

    password = typer.prompt("New password", hide_input=True, confirmation_prompt=sys.stdin.isatty())
    try:
        if len(password) < SHORTEST_PASSWORD:
            raise SettingsError(f"A password must have at least {SHORTEST_PASSWORD} characters.")
        asyncio.run(set_password(_settings(store), name, password, tenant))
    except EmbarcError as error:
        fail(error)
    typer.echo(f"{name} has another password")


def _settings(store: str | None) -> Settings:
    return load_settings(os.environ, overrides={"store": store})
