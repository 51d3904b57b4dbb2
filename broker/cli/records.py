"""``fairlead records`` and ``fairlead anomalies``: what is in the store, read only."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from broker.cli.output import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, print_rows

if TYPE_CHECKING:
    from broker.store.rows import AnomalyRow

#: Records among which the newest of one tag are looked for.
NEWEST_SPAN: Final = 10_000
LimitOption = Annotated[int, typer.Option(min=1, max=10_000, help="Most rows.")]


class EpisodeState(StrEnum):
    """State of an episode."""

    OPEN = "open"
    CLOSED = "closed"


def records(
    config: ConfigOption = DEFAULT_CONFIG,
    path: Annotated[str | None, typer.Option(help="Tag path; * stands for anything.")] = None,
    limit: LimitOption = 100,
    after: Annotated[int | None, typer.Option(min=0, help="Go on behind this seq; default: the newest rows.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print the newest records, or those behind a seq, in the order in which they were stored."""
    from broker.api.records import record_json
    from broker.cli.store_access import reading

    with reading(config) as (_, reader):
        if after is None:
            first, last = reader.span()
            # with a path the newest rows of that tag may lie further back; so far is looked for them
            after = max((first or 1) - 1, last - (limit if path is None else max(limit, NEWEST_SPAN)))
            found = reader.records(after=after, limit=limit if path is None else NEWEST_SPAN, path=path)[-limit:]
        else:
            found = reader.records(after=after, limit=limit, path=path)
        rows = [record_json(row) for row in found]
    print_rows(output, ("seq", "source_time", "path", "value", "unit", "quality", "status"), rows, empty="no records")


def anomalies(
    config: ConfigOption = DEFAULT_CONFIG,
    state: Annotated[EpisodeState | None, typer.Option(help="Only open, or only closed episodes.")] = None,
    limit: LimitOption = 100,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print episodes, newest first, with cause and review."""
    from broker.cli.store_access import reading

    with reading(config) as (_, reader):
        found = reader.anomalies(state=None if state is None else state.value, limit=limit)
    columns = ("onset", "state", "severity", "equipment", "title", "cause", "origin", "review", "reviewed_by")
    print_rows(output, columns, [_episode(row) for row in found], empty="no anomalies")


def _episode(row: AnomalyRow) -> dict[str, Any]:
    from schemas.documents import rfc3339

    anomaly = row.anomaly
    return {
        "anomaly_id": anomaly.anomaly_id,
        "revision": anomaly.revision,
        "equipment": anomaly.equipment,
        "title": anomaly.title,
        "state": anomaly.state,
        "kind": anomaly.kind.value,
        "severity": int(anomaly.severity),
        "ne107": anomaly.ne107,
        "onset": rfc3339(anomaly.onset_ns),
        "closed": None if anomaly.closed_ns is None else rfc3339(anomaly.closed_ns),
        "annotation_id": row.annotation_id,
        "origin": row.origin,
        "cause": row.cause,
        "probability": row.probability,
        "review": row.verdict,
        "reviewed_by": row.person,
    }
