"""``fairlead shelve``, ``unshelve`` and ``maintenance``: through the running core, else left for acquire."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from broker.cli import times
from broker.cli.local_api import ask_core
from broker.cli.output import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, print_rows

if TYPE_CHECKING:
    from broker.config import Config
    from schemas.suppression import Command

app = typer.Typer(
    no_args_is_help=True, help="Equipment that people work on: findings are suppressed, nothing is learned."
)
_ACTOR: Final = "command line"

EquipmentArgument = Annotated[str, typer.Argument(help="Path of equipment, or of anything above.")]
ReasonOption = Annotated[str, typer.Option(help="Why, for whoever comes next and for the audit.")]
_HELP: Final = "RFC 3339 with its offset, or a duration: so long from now (8h)."
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `shelve --list` or `maintenance list` prints it.")]


def shelve(
    target: Annotated[str | None, typer.Argument(help="Path of a tag, of equipment, or of anything above.")] = None,
    until: Annotated[str | None, typer.Option(help=_HELP)] = None,
    reason: ReasonOption = "",
    kind: Annotated[str, typer.Option(help="Findings of this kind only, such as flatline.")] = "",
    show: Annotated[bool, typer.Option("--list", help="Print the shelves in force.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let findings ask nobody for attention until a time: they are stored and counted, and shown where one asks."""
    if show:
        _print("shelf", config, output)
        return
    if target is None or until is None or not reason:
        raise typer.BadParameter("a shelf needs TARGET, --until and --reason")
    _begin("shelf", target, until, reason, config, kind)


def unshelve(suppression_id: IdArgument, reason: ReasonOption = "", config: ConfigOption = DEFAULT_CONFIG) -> None:
    """End a shelf before its time."""
    _end(suppression_id, reason, config)


@app.command(name="on")
def maintenance_on(
    target: EquipmentArgument,
    reason: ReasonOption,
    until: Annotated[str | None, typer.Option(help=f"{_HELP} Default: until it is ended.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Put equipment into maintenance."""
    _begin("maintenance", target, until, reason, config)


@app.command(name="off")
def maintenance_off(
    suppression_id: IdArgument, reason: ReasonOption = "", config: ConfigOption = DEFAULT_CONFIG
) -> None:
    """End a maintenance."""
    _end(suppression_id, reason, config)


@app.command(name="list")
def maintenance_list(config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE) -> None:
    """Print the equipment that people work on; what the calendar plans is not among it."""
    _print("maintenance", config, output)


def _begin(mode: str, target: str, until: str | None, reason: str, path: Any, kind: str = "") -> None:
    from broker.config import load_config

    settings = load_config(path)
    now_ns = time.time_ns()
    until_ns = times.ahead(until, now_ns, "--until")
    body: dict[str, Any] = {"mode": mode, "target": target, "reason": reason, "kind": kind}
    if until_ns is not None:
        body["until_ns"] = str(max(0, until_ns))
    answer = ask_core(settings, "POST", "/api/v1/suppressions", body)
    if answer is None:
        from broker import commands
        from broker.tagmap import load

        more: dict[str, Any] = {"actor": _ACTOR, "reason": reason, "now_ns": now_ns, "until_ns": until_ns}
        tag_map = load(settings)
        if mode == "shelf":
            answer = _leave(settings, commands.shelve(tag_map, target, kind=kind, **more))
        else:
            answer = _leave(settings, commands.maintenance(tag_map, target, **more))
    _say(answer)


def _end(suppression_id: str, reason: str, path: Any) -> None:
    from broker import commands
    from broker.config import load_config

    settings = load_config(path)
    answer = ask_core(settings, "POST", f"/api/v1/suppressions/{suppression_id}/end", {"reason": reason})
    if answer is None:
        command = commands.end(suppression_id, actor=_ACTOR, reason=reason, now_ns=time.time_ns())
        answer = _leave(settings, command)
    _say(answer)


def _leave(settings: Config, command: Command) -> dict[str, Any]:
    from broker import commands

    commands.put(settings.data_dir, command)
    return {"suppression_id": command.command_id, "acquire_runs": False}


def _say(answer: dict[str, Any]) -> None:
    typer.echo(answer["suppression_id"])
    if not answer["acquire_runs"]:
        typer.echo("fairlead: it takes effect when acquire runs", err=True)


def _print(mode: str, path: Any, output: Output) -> None:
    from broker.api.suppressions import suppression_json
    from broker.cli.store_access import reading

    with reading(path) as (_, reader):
        rows = [suppression_json(row) for row in reader.suppressions(active=True, limit=1000) if row.mode == mode]
    columns = ("suppression_id", "target", "kind", "until", "actor", "reason", "findings")
    print_rows(output, columns, rows, empty="nothing is shelved" if mode == "shelf" else "nothing is in maintenance")
