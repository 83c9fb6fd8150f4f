"""The commands, each a few lines: parse, call, print."""

from __future__ import annotations

import os
from typing import Annotated, NoReturn

import typer
import uvloop

from embarc import __version__
from embarc.core.errors import EmbarcError
from embarc.settings import load_settings

app = typer.Typer(
    name="embarc",
    help="Reliable webhooks for lending platforms.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Host = Annotated[str | None, typer.Option(help="Address to listen on.  [env: EMBARC_HOST; 127.0.0.1]")]
Port = Annotated[
    int | None, typer.Option(help="Port to listen on, 0 for a free one.  [env: EMBARC_PORT; 8080]")
]


@app.command()
def serve(
    host: Host = None,
    port: Port = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="sqlite:///PATH or postgresql://USER@HOST/DATABASE  [env: EMBARC_STORE; sqlite:///embarc.db]"
        ),
    ] = None,
    sandbox: Annotated[
        bool | None,
        typer.Option("--sandbox/--no-sandbox", help="Mount the sandbox lending core.  [env: EMBARC_SANDBOX]"),
    ] = None,
    allow_private: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CIDR",
            help="A private network that hooks may point to; repeatable.  [env: EMBARC_ALLOW_PRIVATE]",
        ),
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error.  [env: EMBARC_LOG_LEVEL; info]")
    ] = None,
) -> None:
    """Run the service: the API, the dispatcher and, with --sandbox, a lending core to try it on."""
    from embarc.cli.server import serve_forever

    try:
        settings = load_settings(
            os.environ,
            overrides={
                "host": host,
                "port": port,
                "store": store,
                "sandbox": sandbox,
                "allow_private": allow_private or None,
                "log_level": log_level,
            },
        )
        exit_code = uvloop.run(serve_forever(settings))
    except EmbarcError as error:
        _fail(error)
    raise typer.Exit(exit_code)


@app.command()
def demo(
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="Exit when the webhook arrived: 0 if it was valid, else 1 with the reason."
        ),
    ] = False,
    host: Host = None,
    port: Port = None,
) -> None:
    """Start everything on a temporary store, create a client, and show the webhook as it arrived."""
    from embarc.cli.demo import run_demo

    try:
        exit_code = uvloop.run(run_demo(host=host, port=port, once=once))
    except EmbarcError as error:
        _fail(error)
    raise typer.Exit(exit_code)


audit = typer.Typer(help="The audit log.", no_args_is_help=True)
app.add_typer(audit, name="audit")


@audit.command("verify")
def audit_verify(
    store: Annotated[
        str | None,
        typer.Option(
            help="sqlite:///PATH or postgresql://USER@HOST/DATABASE  [env: EMBARC_STORE; sqlite:///embarc.db]"
        ),
    ] = None,
) -> None:
    """Check that no entry was changed or taken out; exit 1 and tell where, if one was. The service may run meanwhile."""
    from embarc.app import verify_audits

    try:
        settings = load_settings(os.environ, overrides={"store": store})
        count, broken = uvloop.run(verify_audits(settings.store))
    except EmbarcError as error:
        _fail(error)
    for what in broken:
        typer.echo(what, err=True)
    typer.echo(f"{count} entries, {len(broken)} broken")
    raise typer.Exit(1 if broken else 0)


@app.command()
def migrate(
    store: Annotated[
        str | None,
        typer.Option(help="postgresql://USER@HOST/DATABASE  [env: EMBARC_STORE; sqlite:///embarc.db]"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be done, and do nothing.")
    ] = False,
    distribute: Annotated[
        bool,
        typer.Option(
            "--distribute", help="Print the statements that spread the tables over a Citus cluster."
        ),
    ] = False,
) -> None:
    """Bring the database's schema up to date; running processes go on meanwhile. (Every start does it too.)"""
    from embarc.app import distribution
    from embarc.app import migrate as apply

    if distribute:
        typer.echo("\n".join(distribution()))
        return
    try:
        settings = load_settings(os.environ, overrides={"store": store})
        applied = uvloop.run(apply(settings.store, dry_run=dry_run))
    except EmbarcError as error:
        _fail(error)
    for migration in applied:
        typer.echo(f"{migration.number:04d}_{migration.name}{' (not applied)' if dry_run else ''}")
    typer.echo(f"{len(applied)} {'to apply' if dry_run else 'applied'}")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _fail(error: EmbarcError) -> NoReturn:
    typer.echo(f"embarc: {error}", err=True)
    raise typer.Exit(2)
