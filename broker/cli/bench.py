"""``fairlead llm bench`` and ``fairlead llm card``: make a model's score card, and read it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from broker.cli import exits
from broker.cli.output import DEFAULT_CONFIG, ConfigOption, printable
from schemas.errors import Refused, WorkerError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker.config import Config
    from broker.scorecard.runner import Progress
    from llm.model_file import AdapterFile, ModelFile
    from llm.options import ReasonerOptions
    from schemas.scorecard import ScoreCard

#: Where standard error is no terminal, a line of progress each so many percent.
_STEP: Final = 10

ModelOption = Annotated[
    str,
    typer.Option("--model", help="GGUF file, builtin:NAME or registry:NAME; default: the one that is configured."),
]
AdapterOption = Annotated[
    str, typer.Option("--adapter", help="LoRA adapter, named like the model; default: the configured one's.")
]


def bench(
    model: ModelOption = "",
    scenarios: Annotated[int, typer.Option(min=8, max=20_000, help="How many; a card needs 300 to pass.")] = 400,
    seed: Annotated[int, typer.Option(min=0, help="Of the scenarios; equal seeds give equal scenarios.")] = 20,
    again: Annotated[int, typer.Option(min=0, max=2000, help="Scenarios asked again in other words.")] = 80,
    style: Annotated[
        str, typer.Option(help="instruct, or rows for a model trained as the built-in is; default: as in service.")
    ] = "",
    adapter: AdapterOption = "",
    threads: Annotated[int | None, typer.Option(min=1, max=64, help="Default: as configured.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the card to this file, too; it may be there.")] = None,
    store: Annotated[bool, typer.Option(help="Keep the card in data_dir, where it counts at once.")] = True,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """
    Score a model on seeded scenarios with known causes, beside the rules and other baselines. Exit 1: it does not pass.

    The model runs in a worker of its own, as in service; the running broker is not asked.
    """
    from dataclasses import replace

    from broker.scorecard import cards
    from broker.scorecard.runner import Size, run
    from broker.scorecard.table import lines
    from llm.model_file import shipped

    settings = _settings(config, needed=store or not model)
    options = _options(settings, threads)
    file = _file(settings, model, adapter)
    if style not in {"", "instruct", "rows"}:
        raise Refused(f"style {style!r} is not known; instruct or rows")
    if style not in {"", file.style}:
        if store:
            raise Refused(f"in service {file.name} is asked as {file.style}: a card of {style} needs --no-store")
        file = replace(file, style=style)  # type: ignore[arg-type]
    card = asyncio.run(run(file, options, Size(scenarios, seed, again), _progress(file.name)))
    if out is not None:
        cards.write(out, card)
    if store and settings is not None:
        if file.rung != "builtin" and (same := shipped(card.model_sha256)) is not None:
            # kept, it would stand before the card in the package, although another way of asking was scored
            raise Refused(f"this file is builtin:{same['name']}; name it so, or add --no-store")
        typer.echo(f"kept as {cards.save(settings.data_dir, card)}", err=True)
    _print(card, lines(card), as_json=as_json)
    raise typer.Exit(exits.OK if card.passed else exits.FAILED)


def show_card(
    model: ModelOption = "",
    adapter: AdapterOption = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Print the stored score card of a model and what it is worth now. Exit 1: the model is advisory."""
    from broker.config import load_config
    from broker.scorecard.standing import Standings
    from broker.scorecard.table import lines
    from llm.model_file import digest
    from schemas.annotation import model_key

    settings = load_config(config)
    file = _file(settings, model, adapter)

    def hashed(one: ModelFile | AdapterFile) -> str:
        if one.sha256:
            return one.sha256
        with one.path.open("rb") as opened:
            return digest(opened)

    key = hashed(file)
    if file.adapter is not None:
        key = model_key(key, hashed(file.adapter), file.adapter.scale)
    standing = Standings(settings.data_dir, settings.llm.mode)(key)
    if standing.card is not None:
        _print(standing.card, lines(standing.card), as_json=as_json)
    if standing.mode == "advisory":
        typer.echo(printable(f"{file.name} is advisory: {standing.reason} ({standing.help})"), err=True)
        raise typer.Exit(exits.FAILED)


def _print(card: ScoreCard, told: Iterable[str], *, as_json: bool) -> None:
    if as_json:
        typer.echo(card.model_dump_json(indent=2))
        return
    for line in told:
        typer.echo(printable(line))


def _settings(path: Path, *, needed: bool) -> Config | None:
    """The configuration; without one a named model can be scored, and its card goes to ``--out`` alone."""
    from broker.config import load_config

    if not needed and not path.exists():
        return None
    return load_config(path)


def _options(settings: Config | None, threads: int | None) -> ReasonerOptions:
    from llm.options import ReasonerOptions

    options = ReasonerOptions() if settings is None else settings.llm
    return options if threads is None else options.model_copy(update={"threads": threads})


def _file(settings: Config | None, model: str, adapter: str) -> ModelFile:
    """The model that is asked, with its adapter. Raises Refused where there is no such model."""
    from broker.cli.store_access import reading
    from broker.models.locate import to_score
    from broker.models.registry import shelf_of
    from llm.model_file import find, with_adapter
    from schemas.manifest import REGISTRY

    if not model and settings is not None and settings.llm.backend != "local":
        raise Refused(f"llm.backend is {settings.llm.backend}, and only a model file has a card: name one with --model")
    if settings is not None and model and Path(model).resolve().is_relative_to(shelf_of(settings).folder.resolve()):
        raise Refused("this file is of the registry, whose manifest says how it is asked: name it as registry:NAME")
    try:
        if settings is None or (model and not model.startswith(REGISTRY)):
            scale = 1.0 if settings is None else settings.llm.adapter_scale
            return with_adapter(find(model, None, Path.cwd()), adapter or None, None, scale, Path.cwd())
        named = model or settings.llm.model
        wanted = adapter or (None if model else settings.llm.adapter)
        if not any((one or "").startswith(REGISTRY) for one in (named, wanted)):
            return to_score(settings, [], named, wanted)
        with reading(settings.path) as (_, reader):
            return to_score(settings, reader.model_imports(), named, wanted)
    except (WorkerError, ValueError) as error:
        raise Refused(str(error)) from error


def _progress(name: str) -> Progress:
    """Tell how far it has come, on standard error: in one line on a terminal, else each ten percent."""
    terminal = sys.stderr.isatty()
    told = -1

    def tell(done: int, total: int, what: str) -> None:
        nonlocal told
        percent = 100 * done // max(1, total)
        if terminal:
            typer.echo(f"\r\x1b[K{name}: {done} of {total} answers, {what}", nl=done == total, err=True)
        elif percent // _STEP > told:
            told = percent // _STEP
            typer.echo(f"{name}: {done} of {total} answers, {what}", err=True)

    return tell
