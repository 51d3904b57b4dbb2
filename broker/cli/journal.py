"""``fairlead journal``: figures, check and content of the journal; read only, also while the broker runs."""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TextIO

import typer

from broker.cli import exits, times
from broker.cli.output import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, print_json, print_rows
from schemas.errors import FairleadError, JournalError

if TYPE_CHECKING:
    from broker.config import Config
    from broker.journal.stats import Figures
    from schemas.entries import Position

app = typer.Typer(no_args_is_help=True, help="Look into the journal.")
#: As broker.api.records guards a spreadsheet against text that it would run.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


class Form(StrEnum):
    """Form of an exported file."""

    JSONL = "jsonl"
    CSV = "csv"


class Kind(StrEnum):
    """Kinds of entries."""

    SAMPLES = "samples"
    GAP = "gap"
    REJECT = "reject"
    LINK = "link"
    MAP = "map"
    TICK = "tick"
    NOTICE = "notice"
    COMMAND = "command"
    EVENT = "event"


@app.command()
def stats(
    config: ConfigOption = DEFAULT_CONFIG,
    quick: Annotated[
        bool, typer.Option("--quick", help="Headers and mark only: no rows and no figures by source.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print size, age and content of the journal, how many hours still fit, and what core has not read."""
    from broker.journal import stats as journal_stats

    settings, directory = _directory(config)
    figures = journal_stats.stats(
        directory, settings.journal, core=_committed(settings), quick=quick, progress=_progress()
    )
    body = _stats_json(figures, directory)
    if output is Output.JSON:
        print_json(body)
        return
    sources = body.pop("sources")
    rows = [{"figure": key, "value": _cell(value)} for key, value in body.items()]
    print_rows(output, ("figure", "value"), rows)
    if sources:
        typer.echo()
        columns = ("source", "entries", "rows", "rejects", "gaps", "events", "oldest", "newest")
        print_rows(output, columns, [{"source": name or "(all)", **row} for name, row in sources.items()])


@app.command()
def verify(config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE) -> None:
    """Check every byte of the journal: exit code 1 where something is damaged or missing, with its place."""
    from broker.journal.verify import verify as judge

    _, directory = _directory(config)
    verdict = judge(directory)
    if output is Output.JSON:
        print_json(
            {
                "whole": not verdict.faults,
                "segments": verdict.segments,
                "entries": verdict.entries,
                "bytes": verdict.bytes,
                "first": list(verdict.first),
                "last": list(verdict.last),
                "faults": [asdict(fault) for fault in verdict.faults],
                "notes": verdict.notes,
            }
        )
    else:
        if verdict.faults:
            print_rows(output, ("segment", "offset", "size", "what"), [asdict(fault) for fault in verdict.faults])
        for note in verdict.notes:
            typer.echo(f"note: {note}")
        state = "whole" if not verdict.faults else f"{len(verdict.faults)} faults"
        last = f", the last is {verdict.last.seq} of epoch {verdict.last.epoch}" if verdict.entries else ""
        typer.echo(f"{directory}: {state}, {verdict.segments} segments, {verdict.entries} entries{last}")
    raise typer.Exit(exits.FAILED if verdict.faults else exits.OK)


@app.command()
def export(
    config: ConfigOption = DEFAULT_CONFIG,
    begin: Annotated[str | None, typer.Option("--from", help=f"Journalled at or after: {times.HELP}")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Journalled before; the same forms.")] = None,
    source: Annotated[str | None, typer.Option(help="Entries of this source only.")] = None,
    kind: Annotated[list[Kind] | None, typer.Option(help="Kinds of entries; default: all but map and tick.")] = None,
    form: Annotated[Form, typer.Option("--format", help="Form of the file.")] = Form.JSONL,
    out: Annotated[Path | None, typer.Option(help="Write here; default: standard output.")] = None,
) -> None:
    """
    Write raw entries of a span as JSON lines or CSV: values, status and flags as they were journalled.

    Exit code 1 where entries of the span cannot be read; they are named on stderr, the others are written.
    """
    from broker.journal.export import COLUMNS, Export

    settings, directory = _directory(config)
    if source is not None and source not in settings.sources:
        typer.echo(f"fairlead: {source} is not a source of {config}; entries of former sources are given", err=True)
    now_ns = time.time_ns()
    usual = frozenset(item.value for item in Kind) - {Kind.MAP, Kind.TICK}
    kinds = frozenset(item.value for item in kind) if kind else usual
    job = Export(
        directory,
        from_ns=times.moment(begin, now_ns, "--from"),
        to_ns=times.moment(end, now_ns, "--to"),
        source=source,
        kinds=kinds,
    )
    if out is None:
        _write(job.rows(), form, sys.stdout, COLUMNS)
    else:
        with out.open("w", encoding="utf-8", newline="") as file:
            _write(job.rows(), form, file, COLUMNS)
    for text in job.done.unreadable:
        typer.echo(f"fairlead: not readable: {text}", err=True)
    typer.echo(f"{job.done.entries} entries, {job.done.rows} samples", err=True)
    raise typer.Exit(exits.FAILED if job.done.unreadable else exits.OK)


def _write(rows: Any, form: Form, file: TextIO, columns: tuple[str, ...]) -> None:
    if form is Form.JSONL:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        return
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_field(row.get(column)) for column in columns])


def _field(value: Any) -> str:
    """A CSV cell; text that a spreadsheet would run as a formula gets a quote before it, a number does not."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "|".join(value)
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return f"'{value}" if value.startswith(_FORMULA) and not value.lstrip("-").isdigit() else value


def _directory(config: Path) -> tuple[Config, Path]:
    from broker.config import load_config

    settings = load_config(config)
    directory = settings.data_dir / "journal"
    if not directory.is_dir() or not os.listdir(directory):
        raise JournalError(f"there is no journal in {directory}; fairlead run makes it")
    return settings, directory


def _committed(settings: Config) -> Position | None:
    """How far the store has come; None where it cannot say, then the published position counts."""
    from broker.cli.store_access import patient
    from broker.store import Store

    try:
        store = Store.open(patient(settings), settings.data_dir, write=False)
    except FairleadError:
        return None
    try:
        return store.position() if store.is_current() else None
    except FairleadError as error:
        typer.echo(f"fairlead: the store does not say how far core is, what it published counts: {error}", err=True)
        return None
    finally:
        store.close()


def _stats_json(figures: Figures, directory: Path) -> dict[str, Any]:
    from schemas.documents import rfc3339

    def at(ns: int | None) -> str | None:
        return None if ns is None else rfc3339(ns)

    span_h = None
    if figures.oldest_ns is not None and figures.newest_ns is not None:
        span_h = round((figures.newest_ns - figures.oldest_ns) / 3.6e12, 3)
    return {
        "directory": str(directory),
        "segments": figures.segments,
        "bytes": figures.bytes,
        "damaged_files": figures.damaged_files,
        "damaged_bytes": figures.damaged_bytes,
        "unreadable_bytes": figures.unreadable_bytes,
        "budget_bytes": figures.budget_bytes,
        "oldest": at(figures.oldest_ns),
        "newest": at(figures.newest_ns),
        "span_h": span_h,
        "bytes_per_s": round(figures.bytes_per_s, 1),
        "capacity_h": None if figures.capacity_h is None else round(figures.capacity_h, 2),
        "epoch": figures.end.epoch,
        "seq": figures.end.seq,
        "core_epoch": figures.core.epoch,
        "core_seq": figures.core.seq,
        "backlog_entries": figures.backlog_entries,
        "backlog_bytes": figures.backlog_bytes,
        "backlog_s": round(figures.backlog_s, 3),
        "rows": figures.rows,
        "kinds": dict(sorted(figures.kinds.items())),
        "sources": {
            name: {
                "entries": item.entries,
                "rows": item.rows,
                "rejects": item.rejects,
                "gaps": item.gaps,
                "events": item.events,
                "oldest": at(item.oldest_ns),
                "newest": at(item.newest_ns),
            }
            for name, item in sorted(figures.sources.items())
        },
    }


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return "" if value is None else str(value)


def _progress() -> Any:
    """Percent on a terminal's stderr; nothing elsewhere."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        share = 100 if total == 0 else min(100, done * 100 // total)
        typer.echo(f"\r{share} % read" if done < total else "\r            \r", nl=False, err=True)

    return show
