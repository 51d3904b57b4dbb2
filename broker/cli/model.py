"""``fairlead model``: models as controlled goods; changes go through the running core, else with the store's lock."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from broker.cli import exits, model_media, model_shown
from broker.cli.local_api import ask_core
from broker.cli.output import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, print_json, print_rows
from schemas.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.config import Config
    from broker.store import Transaction
    from schemas.manifest import Manifest

app = typer.Typer(no_args_is_help=True, help="Models: signed media, registry, decisions, figures in service.")
app.command()(model_media.key)
app.command()(model_media.pack)
app.add_typer(model_media.trust, name="trust")
app.command(name="list")(model_shown.list_models)
app.command()(model_shown.show)
ACTOR: Final = "command line"


@app.command(name="import")
def import_model(
    medium: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder with model.json and model.sig.")],
    config: ConfigOption = DEFAULT_CONFIG,
    allow_rollback: Annotated[bool, typer.Option("--allow-rollback", help="Take an older version, too.")] = False,
    reason: Annotated[str, typer.Option(help="Why an older version; the audit keeps it.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Verify a medium against the trusted keys, copy its files, and note them in registry and audit."""
    from broker.config import load_config
    from broker.models import registry
    from broker.models.media import open_medium
    from broker.models.overview import shown_import

    if allow_rollback is not bool(reason.strip()):
        raise typer.BadParameter("--allow-rollback and --reason go together", param_hint="--reason")
    settings = load_config(config)
    try:
        opened = open_medium(medium, registry.trust_of(settings))
        _look_before(settings, config, opened.manifest, reason)
        shelf = registry.shelf_of(settings)
        held = shelf.place(opened)
    except Refused as error:
        _refused(settings, str(medium), str(error))
        raise
    kept = registry.highest_kept(settings, held.manifest)
    body = {"manifest_sha256": held.manifest.sha256, "rollback": reason[: registry.MAX_REASON]}
    try:
        done = ask_core(settings, "POST", "/api/v1/models/imports", body)
        if done is None:
            done = shown_import(_here(settings, lambda tx: registry.register(tx, held, ACTOR, body["rollback"], kept)))
    except Refused:
        # the store was asked before, so only somebody who was quicker gets here; what is imported stays
        if not _is_imported(config, held.manifest.sha256):
            shelf.remove(held.manifest.sha256)
        raise
    if output is Output.JSON:
        print_json(done)
        return
    typer.echo(f"{done['name']}@{done['version']}: {len(held.manifest.files)} files, signed by {done['signer']}")
    if done["rollback"]:
        typer.echo(f"rolled back: {done['rollback']}")
    if held.manifest.weights is not None:
        typer.echo(f"in quarantine until it is scored: fairlead llm bench --model {done['name']}")


def _look_before(settings: Config, config: Path, manifest: Manifest, reason: str) -> None:
    """Say no to a rollback before gigabytes are copied; where no store can be read, it is decided afterwards."""
    from broker.cli.store_access import reading
    from broker.models.registry import check_version, highest_kept
    from schemas.errors import StoreError

    try:
        with reading(config) as (_, reader):
            imported = reader.model_imports(manifest.name)
    except StoreError:
        imported = []
    check_version(manifest, imported, reason, highest_kept(settings, manifest))


def _is_imported(config: Path, sha256: str) -> bool:
    from broker.cli.store_access import reading

    with reading(config) as (_, reader):
        return any(row.sha256 == sha256 for row in reader.model_imports())


def _here(settings: Config, command: Callable[[Transaction], Any]) -> Any:
    """Run a command with the store's lock, because no core runs."""
    from broker.cli.store_access import writing

    with writing(settings) as store, store.transaction() as transaction:
        return command(transaction)


def _refused(settings: Config, medium: str, why: str) -> None:
    """Let the audit know of a medium that was refused; where it cannot, the message on the screen has to do."""
    from schemas.errors import FairleadError

    detail = {"medium": medium[:500], "reason": why[:2000]}
    try:
        if ask_core(settings, "POST", "/api/v1/models/refusals", detail) is None:
            _here(settings, lambda tx: tx.audit(ACTOR, "model_refused", medium[:500], detail))
    except (FairleadError, OSError) as error:
        typer.echo(f"fairlead: the audit does not know of this refusal: {error}", err=True)


@app.command()
def decide(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As llm.model names it, without a version.")],
    use: Annotated[str, typer.Option(help="annotation or questions.")],
    file: Annotated[Path | None, typer.Option(help="The decision in YAML: axes, reason, alternatives, rung.")] = None,
    rung: Annotated[str, typer.Option(help="Step of the ladder, where the model does not say it.")] = "",
    data_residency: Annotated[str, typer.Option(help="Where evidence goes and stays.")] = "",
    regulation: Annotated[str, typer.Option(help="Which rules apply, and how they are met.")] = "",
    latency: Annotated[str, typer.Option(help="How long an answer takes.")] = "",
    capability: Annotated[str, typer.Option(help="How well it does, and what it cannot.")] = "",
    cost: Annotated[str, typer.Option(help="Machine, licence, operation.")] = "",
    lock_in: Annotated[str, typer.Option(help="What it takes to go away from it again.")] = "",
    reason: Annotated[str, typer.Option(help="Why this model, in one paragraph.")] = "",
    config: ConfigOption = DEFAULT_CONFIG,
    output: OutputOption = Output.TABLE,
) -> None:
    """Record why a model was chosen for a use, in words on six axes; the newest decision is in force."""
    from broker.config import load_config
    from broker.models import registry
    from broker.models.decision import make

    axes = {
        "data_residency": data_residency,
        "regulation": regulation,
        "latency": latency,
        "capability": capability,
        "cost": cost,
        "lock_in": lock_in,
    }
    settings = load_config(config)
    decision = make(settings, name, use, file, {"rung": rung, "axes": axes, "reason": reason})
    done = ask_core(settings, "POST", "/api/v1/models/decisions", decision.model_dump(mode="json"))
    if done is None:
        _here(settings, lambda tx: registry.decide(tx, decision, ACTOR))
        done = decision.model_dump(mode="json")
    if output is Output.JSON:
        print_json(done)
    else:
        typer.echo(f"{decision.model} is chosen for {decision.use}, rung {decision.rung}")


@app.command()
def watch(config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE) -> None:
    """Print rates and drift of every model that answered within the window. Exit 1: one is over a limit."""
    from broker.cli.store_access import reading
    from broker.models.figures import figures, shown

    with reading(config) as (settings, reader):
        limits, now_ns = settings.models.watch, time.time_ns()
        from_ns = now_ns - int(limits.window) * 10**9
        keys = [use.model_key for use in reader.model_uses() if use.last_ns >= from_ns]
        found = [shown(figures(reader, key, limits, now_ns), limits) for key in keys]
    if output is Output.JSON:
        print_json(found)
    else:
        columns = ("model", "answers", "reject_rate", "unknown_rate", "facts", "classes", "kinds", "causes", "over")
        rows = [_figures(one, limits.least) for one in found]
        print_rows(output, columns, rows, empty="no model has answered within models.watch.window")
    raise typer.Exit(exits.FAILED if any(one["over"] for one in found) else exits.OK)


def _figures(one: dict[str, Any], least: int) -> dict[str, Any]:
    def rate(value: float | None) -> str:
        return f"below {least}" if value is None else f"{value:.0%}"

    drift = {
        name: f"{told['psi']:.2f}{'' if told['beyond_chance'] else ' (chance)'}" for name, told in one["drift"].items()
    }
    return {
        "model": one["model_key"][:16],
        "answers": one["answers"],
        "reject_rate": rate(one["reject_rate"]),
        "unknown_rate": rate(one["unknown_rate"]),
        **drift,
        "over": "; ".join(one["over"].values()),
    }
