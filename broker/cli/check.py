"""``fairlead check``: every problem of configuration and tag maps, and on request one batch from each source."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from broker.cli import exits
from broker.cli.output import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, print_json, print_rows
from schemas.errors import Problem


def check(
    config: ConfigOption = DEFAULT_CONFIG,
    connect: Annotated[bool, typer.Option("--connect", help="Read one batch from each source.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, max=300, help="Seconds for each source.")] = 10.0,
    output: OutputOption = Output.TABLE,
) -> None:
    """
    Check the configuration and the tag maps; report every problem with file, line and column.

    Exit code 78 if anything blocks, 69 if a source cannot be reached.
    """
    from broker import tagmap
    from broker.config import check_config

    checked = check_config(config)
    problems = list(checked.problems)
    tags = None
    if checked.draft is not None:
        tags, found = tagmap.load_with_problems(checked.draft, checked.broken)
        problems += found
    blocked = any(not problem.warning for problem in problems)
    rows: list[dict[str, Any]] = []
    code = exits.BAD_CONFIGURATION if blocked else exits.OK
    if connect and not blocked and checked.draft is not None and tags is not None:
        from broker.cli.connect import probe_all

        rows, code = probe_all(checked.draft, tags, timeout)
    counts = {"sources": len(checked.draft.sources) if checked.draft else 0, "tags": len(tags.tags) if tags else 0}
    if output is Output.JSON:
        report: dict[str, Any] = {"ok": code == exits.OK, **counts, "problems": [asdict(item) for item in problems]}
        print_json({**report, "connections": rows} if connect else report)
    else:
        _print(problems, counts, config)
        if rows:
            print_rows(output, ("source", "kind", "result", "detail"), rows)
    raise typer.Exit(code)


def _print(problems: list[Problem], counts: dict[str, int], config: Path) -> None:
    for problem in problems:
        typer.echo(f"{'warning: ' if problem.warning else ''}{problem}")
    warnings = sum(problem.warning for problem in problems)
    errors = len(problems) - warnings
    also = f", {_count(warnings, 'warning')}" if warnings else ""
    if errors:
        typer.echo(f"{_count(errors, 'error')}{also}")
    else:
        typer.echo(f"{config}: ok, {_count(counts['sources'], 'source')}, {_count(counts['tags'], 'tag')}{also}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
