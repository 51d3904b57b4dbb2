"""``fairlead events``: what servers told of events and alarms, read only."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli import times
from broker.cli.output import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, print_rows

if TYPE_CHECKING:
    from broker.store.rows.alarms import EventRow


def events(
    config: ConfigOption = DEFAULT_CONFIG,
    equipment: Annotated[str | None, typer.Option(help="Equipment path; * stands for anything.")] = None,
    source: Annotated[str | None, typer.Option(help="Events of this source only.")] = None,
    severity: Annotated[int | None, typer.Option(min=1, max=1000, help="Least severity.")] = None,
    since: Annotated[str | None, typer.Option(help=f"That happened then or later: {times.HELP}")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most rows.")] = 100,
    after: Annotated[int | None, typer.Option(min=0, help="Go on behind this seq; default: the newest rows.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print the newest events and alarms, or those behind a seq, in the order in which they were stored."""
    from broker.api.alarms import event_json
    from broker.cli.store_access import reading
    from broker.store.reader.alarms import EventFilter

    wanted = EventFilter(equipment, source, severity, times.moment(since, time.time_ns(), "--since"))
    with reading(config) as (_, reader):
        note = ""
        if after is None:
            tail = reader.newest_events(limit=limit, wanted=wanted)
            found = tail.rows
            if tail.looked_from is not None:
                note = f"events before seq {tail.looked_from} were not looked at; from the oldest on with --after 0"
        else:
            page = reader.event_page(after=after, limit=limit, wanted=wanted)
            found = page.rows
            if page.has_more:
                note = f"there may be more; go on with --after {page.next_after}"
    rows = [{**event_json(row), "state": _state(row)} for row in found]
    columns = ("seq", "revision", "time", "severity", "equipment", "source_name", "state", "message")
    print_rows(output, columns, rows, empty="no events")
    if note:
        typer.echo(note, err=True)


def _state(row: EventRow) -> Any:
    """The state of the condition in a word or two; null for an event that is no alarm."""
    if row.condition_id is None:
        return None
    active = {True: "active", False: "inactive", None: ""}[row.active]
    acked = {True: "acknowledged", False: "unacknowledged", None: ""}[row.acked]
    return ", ".join(filter(None, (active, acked))) or row.state or ""
