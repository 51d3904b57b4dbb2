"""
Runs a typed query on the store, read-only and within limits, and writes the answer.

Every number, unit, name and time of an answer is put there by code from a row that it cites.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal
from zoneinfo import ZoneInfo

from broker.ask import episodes, numbers
from broker.ask.draft import Draft
from broker.ask.names import Names
from broker.ask.options import AskOptions
from broker.store import Reader
from schemas.documents import rfc3339
from schemas.errors import Refused
from schemas.question import Answer, Query

#: Gaps that one answer tells of.
MAX_GAPS: Final = 10


def execute(
    query: Query,
    reader: Reader,
    names: Names,
    zone: ZoneInfo,
    options: AskOptions,
    *,
    question: str = "",
    parsed_by: Literal["code", "model", "person"] = "code",
    notes: Sequence[str] = (),
) -> Answer:
    """
    Answer a query from what is stored.

    Raises:
        Refused: a path that the map in force does not have, a window over the limit, or a query that takes too long.
        StoreError: the store cannot be read.
    """
    names.check(query.equipment, query.tags)
    for span in query.windows:
        if span.to_ns - span.from_ns > options.longest * 1e9:
            raise Refused(f"the window is longer than ask.longest ({options.longest / 86400:g} days)")
    draft = Draft(reader, names, zone, query)
    _RUN[query.form](draft)
    _gaps(draft)
    _corrections(draft)
    return Answer(
        question=question,
        query=query,
        parsed_by=parsed_by,
        lines=tuple(draft.lines),
        citations=tuple(draft.citations),
        complete=not draft.reasons,
        reasons=tuple(draft.reasons),
        notes=tuple(notes),
    )


def _tags(draft: Draft) -> list[str]:
    """The tags of the query, else those of its equipment."""
    return list(draft.query.tags) or [
        tag.path for equipment in draft.query.equipment for tag in draft.names.of_equipment(equipment)
    ]


def _corrections(draft: Draft) -> None:
    """A replay that is under way: what is told may come from before it, or from both."""
    for span in draft.query.windows:
        if draft.reader.corrected_between(_tags(draft), span.from_ns, span.to_ns):
            draft.reasons.append(
                f"a replay has corrected records {draft.window(span)}, and minutes and hours that count them are still "
                "being made anew; ask again when it is through"
            )


def _gaps(draft: Draft) -> None:
    """Holes in the data of the window: an answer over them is not complete."""
    tags = _tags(draft)
    for span in draft.query.windows:
        seen = {
            gap.gap_id: gap
            for gap in draft.reader.gaps_between(tags, span.from_ns, span.to_ns)
            if not gap.backfilled and gap.scope == "samples"
        }
        for gap in list(seen.values())[:MAX_GAPS]:
            end = "now" if gap.to_ns is None else draft.time(gap.to_ns)
            text = (
                f"{gap.source or 'every source'} {gap.path or ''}: {gap.cause} from {draft.time(gap.from_ns)} to {end}"
            )
            body = {
                "source": gap.source,
                "path": gap.path,
                "cause": gap.cause,
                "from": rfc3339(gap.from_ns),
                "to": None if gap.to_ns is None else rfc3339(gap.to_ns),
            }
            mark = draft.cite("gap", " ".join(text.split()), body)
            draft.reasons.append(f"samples are missing from {draft.time(gap.from_ns)} to {end} ({gap.cause}) {mark}")
        if len(seen) > MAX_GAPS:
            draft.reasons.append(f"{len(seen) - MAX_GAPS} more gaps touch the window")


def _why(draft: Draft) -> None:
    numbers.happened(draft)
    episodes.why(draft)


_RUN: Final[dict[str, Callable[[Draft], None]]] = {
    "why": _why,
    "what": episodes.what,
    "value": numbers.value,
    "count": numbers.count,
    "compare": numbers.compare,
    "first": numbers.first,
}
