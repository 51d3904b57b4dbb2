"""The command ``fairlead``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from broker.cli import (
    alarms,
    ask,
    audit,
    check,
    configs,
    database,
    detectors,
    discover,
    docs,
    exits,
    journal,
    llm,
    modbus,
    model,
    plan,
    processes,
    records,
    replay,
    status,
    suppress,
    trust,
    users,
)
from broker.cli.output import Output, OutputOption, print_json

app = typer.Typer(
    name="fairlead",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Broker between plant floor and office.",
)
app.command()(processes.run)
app.command()(status.status)
app.command()(check.check)
app.command()(plan.plan)
app.command()(discover.discover)
app.command()(processes.demo)
app.command()(records.records)
app.command()(records.anomalies)
app.command()(detectors.detectors)
app.command()(alarms.events)
app.command()(ask.ask)
app.command()(replay.replay)
app.command()(suppress.shelve)
app.command()(suppress.unshelve)
app.add_typer(suppress.app, name="maintenance")
app.add_typer(audit.app, name="audit")
app.add_typer(docs.app, name="docs")
app.add_typer(users.app, name="user")
app.add_typer(trust.app, name="trust")
app.add_typer(database.app, name="db")
app.add_typer(journal.app, name="journal")
app.add_typer(llm.app, name="llm")
app.add_typer(model.app, name="model")
app.add_typer(configs.app, name="config")
app.add_typer(modbus.app, name="modbus")
app.command(hidden=True)(processes.acquire)
app.command(hidden=True)(processes.core)


def _show_version(wanted: bool) -> None:
    if wanted:
        version(Output.TABLE)
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Broker between plant floor and office."""


@app.command()
def version(output: OutputOption = Output.TABLE) -> None:
    """Print the version."""
    from broker.version import VERSION

    if output is Output.JSON:
        print_json({"version": VERSION, "python": sys.version.split()[0]})
    else:
        typer.echo(f"fairlead {VERSION}")


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's) and return the exit code; nothing is raised."""
    return exits.guarded(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        app(args=list(sys.argv[1:] if arguments is None else arguments), prog_name="fairlead")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else exits.OK if end.code is None else exits.FAILED
    return exits.OK
