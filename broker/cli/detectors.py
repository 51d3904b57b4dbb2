"""``fairlead detectors``: which detector opened how much, against its budget, and how much of it people rejected."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

import typer

from broker.cli import exits
from broker.cli.output import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, print_json, print_rows, printable

#: A year and the week that runs.
_MOST_WEEKS: Final = 53
_COLUMNS: Final = (
    *("week", "detector", "opened", "budget_per_week", "findings", "suppressed"),
    *("reviewed", "rejected", "not_abnormal", "wrong_cause", "reject_rate"),
)


def detectors(
    config: ConfigOption = DEFAULT_CONFIG,
    weeks: Annotated[int, typer.Option(min=1, max=_MOST_WEEKS, help="ISO weeks, the running one first.")] = 4,
    equipment: Annotated[str | None, typer.Option(help="Path of the equipment; * stands for anything.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 1 where one is over its limit; 2 where no equipment fits.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print what each detector opened by week, its budget, and what people rejected."""
    from zoneinfo import ZoneInfo

    from broker.cli.store_access import reading
    from broker.detector_figures import budget, figures, fits, shown

    with reading(config) as (settings, reader):
        options = settings.detection
        found = figures(reader, ZoneInfo(settings.site.timezone), time.time_ns(), weeks, equipment)
        told = shown(found, budget(reader, options, equipment), options, equipment)
        unknown = equipment is not None and not found.rows and not fits(reader, equipment)
    nothing = "no detector has found anything in these weeks"
    if unknown:
        nothing = f"no equipment of the map in force fits {equipment!r}, and {nothing} there"
    if output is Output.JSON:
        print_json(told)
        if unknown:
            typer.echo(printable(nothing), err=True)
    else:
        rows = [_row(week["week"], row) for week in told["weeks"] for row in week["detectors"]]
        print_rows(output, _COLUMNS, rows, empty=printable(nothing))
        for name, text in told["over"].items():
            typer.echo(printable(f"over the limit: {name}: {text}"))
        if not told["complete"]:
            typer.echo("there were more anomalies than one answer looks at; the oldest are not counted", err=True)
    if check and unknown:
        raise typer.Exit(exits.USAGE)
    raise typer.Exit(exits.FAILED if check and told["over"] else exits.OK)


def _row(week: str, row: dict[str, Any]) -> dict[str, Any]:
    rate, per_week = row["reject_rate"], row["budget_per_week"]
    return row | {
        "week": week,
        "reject_rate": "" if rate is None else f"{rate:.0%}",
        "budget_per_week": "" if per_week is None else f"{per_week:.3g}",
    }
