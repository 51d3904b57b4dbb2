"""``fairlead docs``: the site's own manuals and maintenance logs, found again as evidence of anomalies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from broker.cli import exits
from broker.cli.local_api import ask_core
from broker.cli.output import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, print_rows, printable
from schemas.errors import ConfigError, FairleadError, Refused

if TYPE_CHECKING:
    from broker.config import Config
    from broker.manuals.library import Library
    from schemas.tagmap import TagMap

app = typer.Typer(no_args_is_help=True, help="Manuals and maintenance logs of the site, cited as evidence.")
_COLUMNS: Final = ("name", "kind", "passages", "about", "sha256", "imported", "imported_by")


@app.command(name="import")
def import_docs(
    place: Annotated[Path, typer.Argument(metavar="FILE_OR_FOLDER", help="Text, Markdown, PDF, or a log as CSV.")],
    equipment: Annotated[list[str] | None, typer.Option(help="Path that it is about; may be repeated.")] = None,
    classes: Annotated[list[str] | None, typer.Option("--class", help="Equipment class that it is about.")] = None,
    name: Annotated[
        str, typer.Option(help="Name of a file in the place of its own; of a folder: before those of its files.")
    ] = "",
    log: Annotated[bool, typer.Option("--log", help="A text or PDF is a maintenance log (CSV and .log are).")] = False,
    encoding: Annotated[str | None, typer.Option(help="Of texts that are not UTF-8, such as cp1252.")] = None,
    equipment_column: Annotated[
        str | None, typer.Option(help="Column of a log that names the equipment; default: a usual heading.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Also a file that is about something else.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """
    Import files, or import changed ones again: passages of them become evidence of anomalies.

    Without --equipment and --class a file is about the whole site. Removed files are left to `docs remove`.
    """
    from broker.config import load_config
    from broker.manuals.library import check_scope
    from broker.manuals.reading import files_below, read_manual
    from schemas.manuals import MAX_NAME, Manual

    settings = load_config(config)
    found, left = files_below(place)
    scope = tuple(dict.fromkeys(equipment or ())), tuple(dict.fromkeys(classes or ()))
    if any(scope):
        check_scope(_map(settings), *scope)
    for shown in left:
        typer.echo(f"fairlead: {printable(shown)}: passed over, not a text, Markdown, PDF or CSV file", err=True)
    failed = 0
    with _library(settings) as library:
        for path, its_name in found:
            shown = its_name if not name else f"{name}/{its_name}" if place.is_dir() else name
            try:
                if len(shown) > MAX_NAME or not shown.isprintable():
                    raise Refused(f"{printable(shown)}: such a name cannot be kept; give another with --name")
                read = read_manual(path, log=log, encoding=encoding, equipment_column=equipment_column)
                manual = Manual(
                    name=shown,
                    kind=read.kind,
                    sha256=read.sha256,
                    size=read.size,
                    pages=read.pages,
                    passages=len(read.passages),
                    equipment=scope[0],
                    classes=scope[1],
                )
                outcome = library.put(manual, read.passages, replace=replace)
            except ConfigError:
                raise
            except FairleadError as error:
                failed += 1
                typer.echo(f"fairlead: {printable(error)}", err=True)
                continue
            typer.echo(f"{shown}: {outcome}, {len(read.passages)} passages")
            for note in read.notes:
                typer.echo(f"fairlead: {shown}: {note}", err=True)
    if failed:
        raise typer.Exit(exits.FAILED)


@app.command(name="list")
def list_docs(config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE) -> None:
    """Print what is imported."""
    from broker.api.manuals import manual_json
    from broker.cli.store_access import reading

    with reading(config) as (_, reader):
        rows = [manual_json(row) for row in reader.manuals()]
    if output is Output.TABLE:
        for row in rows:
            row["about"] = ", ".join((*row["equipment"], *row["classes"])) or "the whole site"
            row["sha256"] = row["sha256"][:12]
    print_rows(output, _COLUMNS, rows, empty="nothing is imported; fairlead docs import takes files and folders")


@app.command(name="search")
def search_docs(
    words: Annotated[list[str], typer.Argument(help="A passage holds at least one of them.")],
    equipment: Annotated[str, typer.Option(help="Path: passages that are about it.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100, help="Passages at most.")] = 10,
    config: ConfigOption = DEFAULT_CONFIG,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print passages that hold some words, best first."""
    from broker.api.manuals import passage_json
    from broker.cli.store_access import reading
    from schemas.words import words as plain

    with reading(config) as (_, reader):
        found = reader.passages(plain(" ".join(words)), limit=limit, equipment=equipment)
    rows: list[dict[str, Any]] = [passage_json(row) for row in found]
    if output is Output.TABLE:
        for row in rows:
            row["place"] = f"page {row['page']}" if row["page"] else f"line {row['line']}"
    print_rows(output, ("name", "place", "heading", "text"), rows, empty="no passage holds one of these words")


@app.command(name="remove")
def remove_docs(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="As `docs list` prints it.")],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Remove files. What was cited from them stays in the evidence that cites it."""
    from broker.cli.store_access import reading

    with reading(config) as (settings, reader):
        known = {row.name: row.manual_id for row in reader.manuals()}
    missing = [name for name in names if name not in known]
    if missing:
        raise Refused(f"no imported file is called {missing[0]}; see fairlead docs list")
    with _library(settings) as library:
        for name in dict.fromkeys(names):
            library.remove(known[name])
            typer.echo(f"{name}: removed")


def _map(settings: Config) -> TagMap:
    from broker.tagmap import load

    return load(settings)


@contextmanager
def _library(settings: Config) -> Iterator[Library]:
    """The running core, or the store itself where none runs."""
    from broker.cli.store_access import writing
    from broker.manuals.library import IntoStore, ThroughCore

    if ask_core(settings, "GET", "/api/v1/manuals") is None:
        with writing(settings) as store:
            yield IntoStore(store)
        return

    def ask(method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = ask_core(settings, method, path, body)
        if answer is None:
            raise FairleadError("the core has stopped; import again")
        return answer

    yield ThroughCore(ask)
