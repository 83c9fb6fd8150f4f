"""The commands, each a few lines: parse, call, print."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from embarc import __version__
from embarc.cli.failing import fail
from embarc.cli.sandbox import app as sandbox_app
from embarc.cli.store import app as store_app
from embarc.cli.upkeep import audit, keys, operators
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
    role: Annotated[str | None, typer.Option(help="all, api or dispatch.  [env: EMBARC_ROLE; all]")] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            help="Processes behind the port; several need a PostgreSQL store.  [env: EMBARC_PROCESSES; 1]"
        ),
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error.  [env: EMBARC_LOG_LEVEL; info]")
    ] = None,
    listening_socket: Annotated[int | None, typer.Option(hidden=True)] = None,
    shared_folder: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the service: the API, the dispatcher and, with --sandbox, a lending core to try it on."""
    from embarc.cli.server import serve_forever
    from embarc.cli.supervise import supervise

    try:
        settings = load_settings(
            os.environ,
            overrides={
                "host": host,
                "port": port,
                "store": store,
                "sandbox": sandbox,
                "allow_private": allow_private or None,
                "role": role,
                "processes": processes,
                "log_level": log_level,
            },
        )
        if settings.processes > 1:
            exit_code = uvloop.run(supervise(settings))
        else:
            exit_code = uvloop.run(serve_forever(settings, listening_socket, shared_folder))
    except EmbarcError as error:
        fail(error)
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
        fail(error)
    raise typer.Exit(exit_code)


@app.command()
def relay(
    source: Annotated[
        str,
        typer.Option(
            help="The platform's database: postgresql://, mysql:// or sqlite:///PATH.",
            envvar="EMBARC_RELAY_SOURCE",
        ),
    ],
    to: Annotated[
        str, typer.Option(help="Where Embarc answers.", envvar="EMBARC_RELAY_TO")
    ] = "http://127.0.0.1:8080",
    key: Annotated[
        str, typer.Option(help="An API key that may post events.", envvar="EMBARC_RELAY_KEY")
    ] = "",
    user: Annotated[
        str,
        typer.Option(
            help="A user, instead of a key; the password is in EMBARC_RELAY_PASSWORD.",
            envvar="EMBARC_RELAY_USER",
        ),
    ] = "",
    tenant: Annotated[
        str, typer.Option(help="Whose events; the tenant of the key.", envvar="EMBARC_RELAY_TENANT")
    ] = "default",
    keep: Annotated[
        bool, typer.Option("--keep", help="Mark what was accepted instead of deleting it.")
    ] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Carry events from a platform's outbox to Embarc. Any number may run at once."""
    from embarc.cli.relay import authorization_of, relay_forever

    try:
        authorization = authorization_of(key, user, os.environ.get("EMBARC_RELAY_PASSWORD", ""))
        uvloop.run(
            relay_forever(
                source, to, authorization=authorization, tenant=tenant, keep=keep, log_level=log_level
            )
        )
    except EmbarcError as error:
        fail(error)


@app.command()
def doctor(
    store: Annotated[
        str | None, typer.Option(help="The store's URL.  [env: EMBARC_STORE; sqlite:///embarc.db]")
    ] = None,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep", help="Read the whole of an embedded database for its integrity; takes a while."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Look the store over: durability, queue, hooks, disk. Exit 0 is well, 1 a warning, 2 critical. The service may run
    meanwhile."""
    from embarc.cli.doctor import run_doctor

    try:
        code = run_doctor(load_settings(os.environ, overrides={"store": store}), deep=deep, as_json=as_json)
    except EmbarcError as error:
        fail(error)
    raise typer.Exit(code)


app.add_typer(audit, name="audit")
app.add_typer(keys, name="keys")
app.add_typer(operators, name="operators")
app.add_typer(sandbox_app, name="sandbox")
app.add_typer(store_app, name="store")


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
    from embarc.stores import distribution
    from embarc.stores import migrate as apply

    if distribute:
        typer.echo("\n".join(distribution()))
        return
    try:
        settings = load_settings(os.environ, overrides={"store": store})
        applied = uvloop.run(apply(settings.store, dry_run=dry_run))
    except EmbarcError as error:
        fail(error)
    for migration in applied:
        typer.echo(f"{migration.number:04d}_{migration.name}{' (not applied)' if dry_run else ''}")
    typer.echo(f"{len(applied)} {'to apply' if dry_run else 'applied'}")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)
