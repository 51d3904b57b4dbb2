"""``fairlead records`` and ``fairlead anomalies``: what is in the store, read only."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from broker.cli.output import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, print_rows

if TYPE_CHECKING:
    from broker.store.rows.episodes import AnomalyRow

#: Records among which the newest of one tag are looked for.
NEWEST_SPAN: Final = 10_000
#: Letters of an id in a table; whoever takes one takes its beginning.
_SHORT_ID: Final = 12
LimitOption = Annotated[int, typer.Option(min=1, max=10_000, help="Most rows.")]


class EpisodeState(StrEnum):
    """State of an episode."""

    OPEN = "open"
    CLOSED = "closed"


class EpisodeReview(StrEnum):
    """Newest review of an episode; ``policy``: a written policy released it, and nobody has looked at it."""

    PENDING = "pending"
    APPROVED = "approved"
    EDITED = "edited"
    REJECTED = "rejected"
    POLICY = "policy"


def records(
    config: ConfigOption = DEFAULT_CONFIG,
    path: Annotated[str | None, typer.Option(help="Tag path; * stands for anything.")] = None,
    limit: LimitOption = 100,
    after: Annotated[int | None, typer.Option(min=0, help="Go on behind this seq; default: the newest rows.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print the newest records, or those behind a seq, in the order in which they were stored."""
    from broker.api.record_rows import records_json
    from broker.cli.store_access import reading
    from schemas.status import Flag

    with reading(config) as (_, reader):
        if after is None:
            first, last = reader.span()
            # with a path the newest rows of that tag may lie further back; so far is looked for them
            after = max((first or 1) - 1, last - (limit if path is None else max(limit, NEWEST_SPAN)))
            found = reader.records(after=after, limit=limit if path is None else NEWEST_SPAN, path=path)[-limit:]
        else:
            found = reader.records(after=after, limit=limit, path=path)
        rows = records_json(found)
        if output is Output.TABLE:
            types = {tag.path: tag.type or "" for tag in reader.tags(path)}
            rows = [
                _readable(row, types.get(row["path"], ""), is_text=one.value_text is not None)
                for row, one in zip(rows, found, strict=True)
            ]
    columns = ["seq", "source_time", "path", "value", "unit", "quality", "status"]
    marks = Flag.COUNTER_RESET | Flag.COUNTER_UNCERTAIN
    if any(one.increase is not None or marks & one.flags for one in found):
        columns.insert(5, "increase")
    print_rows(output, columns, rows, empty="no records")


def _readable(row: dict[str, Any], kind: str, *, is_text: bool) -> dict[str, Any]:
    """*row* as people read it: whole numbers of an integer or a switch without a point, a text without a unit."""
    value = row["value"]
    if is_text:
        return {**row, "unit": ""}
    if kind.startswith(("bool", "int", "uint", "bcd")) and isinstance(value, float) and value.is_integer():
        return {**row, "value": int(value), "unit": "" if kind == "bool" else row["unit"]}
    return row


def anomalies(
    config: ConfigOption = DEFAULT_CONFIG,
    state: Annotated[EpisodeState | None, typer.Option(help="Only open, or only closed episodes.")] = None,
    review: Annotated[
        EpisodeReview | None,
        typer.Option(help="By the newest review; policy: a policy released it and nobody has looked at it."),
    ] = None,
    limit: LimitOption = 100,
    output: OutputOption = Output.TABLE,
) -> None:
    """
    Print episodes, newest first, with cause, review, and whether what was released is withdrawn.

    annotation is the beginning of an id, and enough for fairlead audit show.
    """
    from broker.cli.store_access import reading

    with reading(config) as (_, reader):
        found = reader.anomalies(
            state=None if state is None else state.value, review=None if review is None else review.value, limit=limit
        )
    columns = (
        "onset",
        "state",
        "severity",
        "equipment",
        "title",
        "cause",
        "origin",
        "review",
        "reviewed_by",
        "withdrawn",
        "annotation",
    )
    rows = [_episode(row) for row in found]
    if output is Output.TABLE:
        rows = [{**row, "annotation": (row["annotation_id"] or "")[:_SHORT_ID]} for row in rows]
    print_rows(output, columns, rows, empty="no anomalies")


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
        "reviewed_annotation_id": row.reviewed_annotation_id,
        "withdrawn": row.withdrawn,
    }
