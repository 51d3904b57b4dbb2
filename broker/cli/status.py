"""``fairlead status``: what the running broker says of itself."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from broker.cli import exits
from broker.cli.output import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, print_json, printable

if TYPE_CHECKING:
    from broker.config import Config

#: As long as ``/healthz`` bears of core's writer.
ACQUIRE_SILENT_S: Final = 30.0


def status(
    config: ConfigOption = DEFAULT_CONFIG,
    output: OutputOption = Output.TABLE,
    alive: Annotated[
        bool, typer.Option("--alive", help="Only whether acquire and core go on, for health checks; exit 1 or 75: not.")
    ] = False,
) -> None:
    """Print whether the broker is ready, its sources, and what the model's answers count for. Exit 1: not ready."""
    from broker.cli.local_api import ask_core
    from broker.config import load_config

    settings = load_config(config)
    told = ask_core(settings, "GET", "/healthz" if alive else "/api/v1/status")
    if told is None:
        typer.echo("no broker runs with this configuration; fairlead run starts it", err=True)
        raise typer.Exit(exits.RETRY_LATER)
    if alive:
        # core answers 200 while its writer thread goes round; anything else was raised, with what /healthz says
        silent_s = _silence_of_acquire(settings)
        if silent_s > ACQUIRE_SILENT_S:
            typer.echo("core is alive, acquire gives no sign of life", err=True)
            raise typer.Exit(exits.FAILED)
        typer.echo(f"fairlead {told['version']} is alive")
        return
    sources = (ask_core(settings, "GET", "/api/v1/sources") or {}).get("sources", [])
    if output is Output.JSON:
        print_json(told | {"sources": sources})
    else:
        for line in _lines(told, sources):
            typer.echo(printable(line))
    raise typer.Exit(exits.OK if told["ready"] else exits.FAILED)


def _silence_of_acquire(settings: Config) -> float:
    """Seconds since acquire last touched its status file, its sign of life also where the disk is full."""
    from broker.acquire.files import STATUS_FILE

    try:
        return time.time() - (settings.data_dir / STATUS_FILE).stat().st_mtime
    except OSError:
        return math.inf


def _lines(told: dict[str, Any], sources: list[dict[str, Any]]) -> Iterator[str]:
    yield f"fairlead {told['version']}: {'ready' if told['ready'] else 'NOT READY'}"
    for problem in told["problems"]:
        yield f"  problem: {problem}"
    for step in told["degraded"]:
        yield f"  degraded: {step}"
    if not told["acquire"]:
        yield "  acquire does not run: no new data comes"
    for note in told["notes"]:
        yield f"  note: {note}"
    for source in sources:
        error = f": {source['error']}" if source.get("error") else ""
        yield f"source {source['name']} is {source['state']}{error}"
    yield from _model(told["model"])


def _model(model: dict[str, Any]) -> Iterator[str]:
    if model["mode"] == "rules":
        yield f"model: rules explain; {model['name'] or 'no model'} is {model['status']}" + _because(model["reason"])
        return
    yield f"model {model['name']} is {model['mode']}" + _because(model["reason"])
    if model["help"]:
        yield f"  what helps: {model['help']}"
    card = model["card"]
    if card is None:
        yield "  score card: none"
        return
    passed = "passed" if card["passed"] else "did not pass"
    made = f"of {card['made_at'][:10]}, {card['suite']}, {card['scenarios']} scenarios"
    yield f"  score card {card['card_id']} {made}: {passed}"
    for reason in card["reasons"]:
        yield f"    {reason}"
    yield f"  answered {model['answered']}, rules in its place {model['fallbacks']}, crashes {model['crashes']}"


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""
