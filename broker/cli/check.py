"""
``fairlead check``: every problem of configuration and tag maps; on request a value of each tag from its source, and the
model server's list of models.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli import exits
from broker.cli.output import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, print_json, print_rows
from schemas.errors import Problem

if TYPE_CHECKING:
    from broker.config import Config
    from broker.config.loader import Checked
    from broker.config.yaml_lines import Node
    from schemas.tagmap import TagMap

#: So much equipment is named in a note.
_NAMED = 3


def check(
    config: ConfigOption = DEFAULT_CONFIG,
    connect: Annotated[
        bool,
        typer.Option(
            "--connect", help="Read each source until every tag has come, and ask a model server for its models."
        ),
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=300, help="Seconds for each source, and for the model server.")
    ] = 10.0,
    output: OutputOption = Output.TABLE,
) -> None:
    """
    Check the configuration and the tag maps; report every problem with file, line and column.

    Where the store is a file on this machine, tags whose history a restart would leave behind are named as well;
    fairlead plan shows all that it would change.

    Exit code 78 if anything blocks, 69 if a source or the model server cannot be reached, or a source has bad values
    only. Bad values, and tags that did not come in time, are named.
    """
    from broker import tagmap
    from broker.config import check_config

    checked = check_config(config)
    problems = list(checked.problems)
    tags = None
    if checked.draft is not None:
        tags, found = tagmap.load_with_problems(checked.draft, checked.broken, _in_force(checked.draft))
        problems += [*found, *_models(checked), *_around(checked)]
    blocked = any(not problem.warning for problem in problems)
    rows: list[dict[str, Any]] = []
    code = exits.BAD_CONFIGURATION if blocked else exits.OK
    if connect and not blocked and checked.draft is not None and tags is not None:
        from broker.cli.connect import probe_all, worst

        rows, code = probe_all(checked.draft, tags, timeout)
        if checked.draft.llm.backend == "openai":
            from broker.cli.model_server import probe_model_server

            row, of_model = probe_model_server(checked.draft, timeout)
            rows, code = [*rows, row], worst({code, of_model})
    counts = {"sources": len(checked.draft.sources) if checked.draft else 0, "tags": len(tags.tags) if tags else 0}
    if output is Output.JSON:
        report: dict[str, Any] = {"ok": code == exits.OK, **counts, "problems": [asdict(item) for item in problems]}
        print_json({**report, "connections": rows} if connect else report)
    else:
        _print(problems, counts, config)
        if checked.draft is not None and tags is not None and not blocked and checked.draft.detection.enabled:
            _print_stateless(tags)
        if rows:
            print_rows(output, ("source", "kind", "result", "detail"), rows)
    raise typer.Exit(code)


def _print_stateless(tags: TagMap) -> None:
    """Name the equipment that detectors judge whether it runs or not, for want of a state."""
    from detectors.parameters import equipment_of, is_chartable

    known = {equipment.path for equipment in tags.equipment if equipment.state}
    paths = sorted({equipment_of(tag) for tag in tags.tags if is_chartable(tag)} - known - {""})
    if paths:
        more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
        typer.echo(
            f"note: {', '.join(paths[:_NAMED])}{more}: no state; equipment that runs on and off needs one, or each"
            " change is told as abnormal (docs/detectors.md)"
        )


def _in_force(config: Config) -> TagMap | None:
    """The map in force, from a store that is a file here; None where there is none that can be read."""
    from broker.store import Store
    from schemas.errors import FairleadError

    if not (config.store.url or "sqlite:").startswith("sqlite:"):
        return None  # a check shall not wait for another machine
    store = None
    try:
        store = Store.open(config.store, config.data_dir, write=False)
        return store.reader().map() if store.is_current() else None
    except FairleadError:
        return None
    finally:
        if store is not None:
            store.close()


def _models(checked: Checked) -> list[Problem]:
    """Models that the configuration names and that were not imported."""
    from broker.models.locate import warnings

    if checked.draft is None or checked.tree is None:
        return []
    section = checked.tree.at(("llm",))
    return list(warnings(checked.draft, lambda option: section.at((option,))))


def _around(checked: Checked) -> list[Problem]:
    """What is not in the files: a data folder that there cannot be, secrets that are not there, a day that is over."""
    from broker.config.data_folder import data_dir_problems
    from broker.config.validate import unusable_secrets

    if checked.draft is None or checked.tree is None:
        return []
    folder = data_dir_problems(checked.draft, checked.tree.at(("data_dir",)))
    return [*folder, *unusable_secrets(checked.tree, checked.draft.base_dir), *_over(checked.draft, checked.tree)]


def _over(config: Config, tree: Node) -> Iterator[Problem]:
    """Sources whose ``insecure_ack`` has ended."""
    for name, options in config.sources.items():
        insecure = options.insecure()
        if insecure is not None and insecure.over(time.time_ns()):
            where = tree.at(("sources", name, "insecure_ack"))
            message = f"ended on {insecure.until}: the source is not read any more"
            place = f"sources.{name}.insecure_ack"
            yield where.problem(place, "insecure_ended", message, "encrypt it, or state it anew", warning=True)


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
