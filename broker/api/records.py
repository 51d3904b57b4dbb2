"""Records, tags, trends, gaps, quarantine and sources: what historians pull and integrators look at."""

from __future__ import annotations

import csv
import hashlib
import io
from typing import Annotated, Any, Literal

import msgspec
from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response

from broker.api import cursor
from broker.api.model import standing_now
from broker.api.parameters import From, To, check_span
from broker.api.record_rows import CSV_COLUMNS, cell, records_json
from broker.api.services import ReaderOf, ServicesOf
from broker.store.reader.gap_pages import GapFilter
from broker.store.rows.operation import GapRow
from schemas.documents import rfc3339
from schemas.errors import Refused

Limit = Annotated[int, Query(ge=1, le=10_000, description="Most rows of the page.")]
After = Annotated[str | None, Query(max_length=200, description="Cursor of the page before; none: beginning.")]
Path = Annotated[str | None, Query(max_length=500, description="Tag path, `*` stands for anything.")]


def add_routes(app: FastAPI) -> None:
    """Register the routes of this module."""
    app.get("/api/v1/records")(records)
    app.get("/api/v1/current")(current)
    app.get("/api/v1/tags")(tags)
    app.get("/api/v1/trend")(trend)
    app.get("/api/v1/gaps")(gaps)
    app.get("/api/v1/quarantine")(quarantine)
    app.get("/api/v1/sources")(sources)


def records(
    services: ServicesOf,
    reader: ReaderOf,
    after: After = None,
    limit: Limit = 1000,
    path: Path = None,
    format: Literal["json", "ndjson", "csv"] = "json",  # noqa: A002 - the name integrators meet
    from_: From = None,
    to: To = None,
) -> Response:
    """
    Records in the order in which they were stored, late and backfilled ones too; ``from <= source_time < to``.

    The header ``X-Next-Cursor`` (and ``next`` in JSON) is the cursor for the next page; an empty page repeats it. 410
    says that retention has removed rows behind the cursor (or that the store is older than it), and with ``earliest``
    where to go on.
    """
    check_span(from_, to)
    store_id = reader.store_id
    place = cursor.begin(store_id, after, reader.span(), "records")
    if isinstance(place, Response):
        return place
    most = min(limit, services.config.store.page_limit)
    page = reader.record_page(after=place, limit=most, path=path, from_ns=from_, to_ns=to)
    following = cursor.encode(store_id, page.next_after)
    headers = {"X-Next-Cursor": following, "X-Has-More": str(page.has_more).lower()}
    rows = records_json(page.rows)
    if format == "csv":
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(CSV_COLUMNS)
        writer.writerows([cell(row[column]) for column in CSV_COLUMNS] for row in rows)
        return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)
    if format == "ndjson":
        body = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
        return Response(body, media_type="application/x-ndjson", headers=headers)
    answer = {"records": rows, "next": following, "has_more": page.has_more}
    return Response(msgspec.json.encode(answer), media_type="application/json", headers=headers)


def current(reader: ReaderOf, path: Path = None, limit: Limit = 1000) -> Response:
    """
    The newest record of each tag, with the cursor from which following goes on.

    ``gap_cause`` and ``gap_from`` tell of the gap that is open for the tag: the value is then the last one there was,
    and not the present one. Both are null while the tag is sampled.
    """
    rows = reader.current(path=path, limit=limit)
    newest = max((row.record.seq for row in rows), default=0)
    records = [
        {
            **record,
            "gap_cause": row.gap_cause,
            "gap_from": None if row.gap_from_ns is None else rfc3339(row.gap_from_ns),
        }
        for row, record in zip(rows, records_json([row.record for row in rows]), strict=True)
    ]
    answer = {"records": records, "next": cursor.encode(reader.store_id, newest)}
    return Response(msgspec.json.encode(answer), media_type="application/json")


def tags(reader: ReaderOf, request: Request, path: Path = None) -> Response:
    """The tags of the map in force, in order of path; with ``If-None-Match``, 304 while nothing has changed."""
    rows = [{key: value for key, value in row._asdict().items() if key != "tag_id"} for row in reader.tags(path)]
    body = msgspec.json.encode({"tags": rows})
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    # no-cache asks a client to keep the answer and to come back with its ETag
    headers = {"ETag": etag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def trend(
    reader: ReaderOf,
    path: Annotated[str, Query(min_length=1, max_length=500)],
    from_ms: Annotated[int, Query(ge=0, le=4_102_444_800_000)],
    to_ms: Annotated[int, Query(ge=0, le=4_102_444_800_000)],
    buckets: Annotated[int, Query(ge=1, le=2000)] = 300,
    unit: Annotated[str | None, Query(min_length=1, max_length=100)] = None,
) -> Response:
    """
    Smallest, largest and last value of a tag in each bucket of time, for drawing.

    A point with nulls is a break: a gap, or bad values. Nothing is interpolated. All are in the unit of the answer: the
    tag's present one, or the one asked for where it had that before; `other_units` has further numbers of this time.
    """
    if to_ms <= from_ms:
        raise Refused("to_ms must be later than from_ms")
    found = reader.trend(path, from_ms * 1_000_000, to_ms * 1_000_000, buckets, unit)
    if found is None:
        return JSONResponse({"detail": f"no tag has the path {path!r}"}, 404)
    points = [
        {
            "at_ms": (point.last_ns if point.last_ns is not None else point.at_ns) // 1_000_000,
            "min": point.min,
            "max": point.max,
            "last": point.last,
            "n": point.n,
            "bad": point.n_bad,
        }
        for point in found.points
    ]
    breaks = {"min": None, "max": None, "last": None, "n": 0, "bad": 0}
    points.extend({"at_ms": max(gap.from_ns // 1_000_000 + 1, from_ms), **breaks} for gap in found.gaps)
    points.sort(key=lambda point: point["at_ms"] or 0)
    answer = {
        "path": found.path,
        "unit": found.unit,
        "other_units": list(found.other_units),
        "points": points,
        "gaps": [_gap(gap) for gap in found.gaps],
    }
    return Response(msgspec.json.encode(answer), media_type="application/json")


def _gap(row: GapRow) -> dict[str, Any]:
    return {
        "gap_id": str(row.gap_id),
        "source": row.source,
        "tag_id": row.tag,
        "path": row.path,
        "cause": row.cause,
        "from": rfc3339(row.from_ns),
        "to": None if row.to_ns is None else rfc3339(row.to_ns),
        "backfilled": row.backfilled,
        "scope": row.scope,
        "detail": row.detail,
    }


def cursor_of_gaps(store_id: str) -> str:
    """What cursors over gaps are told by: one over records or events is refused here, and the other way round."""
    return f"{store_id}-gaps"


def gaps(
    services: ServicesOf,
    reader: ReaderOf,
    after: After = None,
    limit: Limit = 1000,
    source: Annotated[str | None, Query(max_length=200, description="Name of the source.")] = None,
    path: Path = None,
    state: Annotated[Literal["open", "closed"] | None, Query(description="Only open, or only closed gaps.")] = None,
    from_: From = None,
    to: To = None,
) -> Response:
    """
    Holes in the expected sampling with their cause, in the order in which they began, ended or were repaired.

    A gap that changes comes again behind the cursor, with the same ``gap_id``: keep the last one. ``from`` and ``to``:
    those that overlap ``from <= time < to``. Cursor, ``next``, ``has_more`` and 410 are those of ``/api/v1/records``.
    """
    check_span(from_, to)
    store = cursor_of_gaps(reader.store_id)
    place = cursor.begin(store, after, reader.gap_span(), "gaps")
    if isinstance(place, Response):
        return place
    wanted = GapFilter(source, path, state, from_, to)
    page = reader.gap_page(after=place, limit=min(limit, services.config.store.page_limit), wanted=wanted)
    following = cursor.encode(store, page.next_after)
    answer = {"gaps": [_gap(row) for row in page.rows], "next": following, "has_more": page.has_more}
    headers = {"X-Next-Cursor": following, "X-Has-More": str(page.has_more).lower()}
    return Response(msgspec.json.encode(answer), media_type="application/json", headers=headers)


def quarantine(reader: ReaderOf, limit: Limit = 200) -> Response:
    """What sources sent and nobody could use, with the reason, newest first; ``raw`` is repaired to text."""
    rows = [
        {
            "id": str(row.quarantine_id),
            "source": row.source,
            "place": row.place,
            "reason": row.reason,
            "raw": row.raw[:500].decode("utf-8", "replace"),
            "received_time": rfc3339(row.received_ns),
        }
        for row in reader.quarantine(limit=limit)
    ]
    return Response(msgspec.json.encode({"quarantine": rows}), media_type="application/json")


def sources(services: ServicesOf, reader: ReaderOf) -> dict[str, Any]:
    """Each source of the configuration: what acquire says of it, and its rows in SQL."""
    status = services.acquire_status()
    stored = {row.source: row for row in reader.sources()}
    rows = []
    for source, kind in services.config.kinds.items():
        live = status.sources.get(source) if status else None
        row = stored.get(source)
        skew = services.writer.skews.get(source)
        rows.append(
            {
                "name": source,
                "kind": kind,
                **(msgspec.to_builtins(live) if live else {"state": "unknown", "error": "acquire does not run"}),
                "records": row.rows if row else 0,
                "events_stored": row.events if row else 0,
                "rejected": row.rejected if row else 0,
                "quarantined": row.quarantined if row else 0,
                "clock_ahead_s": None if skew is None else round(skew.ahead_ns / 1e9, 3),
                "clock_suspect": skew is not None and skew.beyond_limit,
                "last_received": rfc3339(row.last_received_ns) if row and row.last_received_ns else None,
            }
        )
    reasoner = services.reasoner.state
    standing = standing_now(services)
    state = reasoner.status if standing is None else f"{reasoner.status}, {standing.mode}"
    reason = reasoner.reason or (standing.reason if standing is not None else "")
    return {
        "sources": rows,
        "journal": msgspec.to_builtins(status.journal) if status else None,
        "reasoning": f"{state}: {reason}" if reason else state,
    }
