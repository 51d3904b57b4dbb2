"""Records, tags, trends, gaps, quarantine and sources: what historians pull and integrators look at."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response

from broker.api import cursor
from broker.api.model import standing_now
from broker.api.services import ReaderOf, ServicesOf
from broker.store.rows.operation import GapRow
from broker.store.rows.records import RecordRow
from schemas.documents import rfc3339
from schemas.errors import Refused
from schemas.status import Flag, name

_INTEGER: Final = re.compile(r"-[0-9]+")
#: Programs read by position as well as by name: new columns come last.
_CSV_COLUMNS: Final = (
    *("seq", "path", "source_time", "value", "unit", "quality", "status", "flags", "received_time"),
    *("revision", "server_time", "status_code", "increase"),
)

Limit = Annotated[int, Query(ge=1, le=10_000, description="Most rows of the page.")]
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


def record_json(row: RecordRow) -> dict[str, Any]:
    """
    One record for JSON: times RFC 3339 with nine digits, integers beyond 2**53 and text as strings, never NaN.

    ``value`` is the best single reading of the row: a number, else its text, else null.
    """
    number = row.value if row.value is not None and math.isfinite(row.value) else None
    value: float | str | None = number
    if row.value_int is not None:
        value = str(row.value_int)
    elif row.value_text is not None:
        value = row.value_text
    return {
        "seq": str(row.seq),
        "path": row.path,
        "source_time": rfc3339(row.source_ns),
        "server_time": None if row.server_ns is None else rfc3339(row.server_ns),
        "received_time": rfc3339(row.received_ns),
        "value": value,
        "unit": row.unit,
        "quality": row.quality,
        "status": name(row.status),
        "status_code": row.status,
        "flags": [flag.name.lower() for flag in Flag(row.flags) if flag.name],
        "revision": row.revision,
        "increase": row.increase,
    }


def _cell(value: object) -> str:
    """A CSV cell; text that a spreadsheet would run as a formula gets a quote before it, a number does not."""
    text = "" if value is None else "|".join(value) if isinstance(value, list) else str(value)
    risky = isinstance(value, str) and text.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    return f"'{text}" if risky and not _INTEGER.fullmatch(text) else text


def records(
    services: ServicesOf,
    reader: ReaderOf,
    after: Annotated[
        str | None, Query(max_length=200, description="Cursor of the page before; none: beginning.")
    ] = None,
    limit: Limit = 1000,
    path: Path = None,
    format: Literal["json", "ndjson", "csv"] = "json",  # noqa: A002 - the name integrators meet
) -> Response:
    """
    Records in the order in which they were stored, late and backfilled ones too.

    The header ``X-Next-Cursor`` (and ``next`` in JSON) is the cursor for the next page; an empty page repeats it. 410
    says that retention has removed rows behind the cursor (or that the store is older than it), and with ``earliest``
    where to go on.
    """
    store_id = reader.store_id
    place = cursor.begin(store_id, after, reader.span(), "records")
    if isinstance(place, Response):
        return place
    page = reader.record_page(after=place, limit=min(limit, services.config.store.page_limit), path=path)
    following = cursor.encode(store_id, page.next_after)
    headers = {"X-Next-Cursor": following, "X-Has-More": str(page.has_more).lower()}
    rows = [record_json(row) for row in page.rows]
    if format == "csv":
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(_CSV_COLUMNS)
        writer.writerows([_cell(row[column]) for column in _CSV_COLUMNS] for row in rows)
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
            **record_json(row.record),
            "gap_cause": row.gap_cause,
            "gap_from": None if row.gap_from_ns is None else rfc3339(row.gap_from_ns),
        }
        for row in rows
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
        "source": row.source,
        "path": row.path,
        "cause": row.cause,
        "from": rfc3339(row.from_ns),
        "to": None if row.to_ns is None else rfc3339(row.to_ns),
        "backfilled": row.backfilled,
        "scope": row.scope,
        "detail": row.detail,
    }


def gaps(reader: ReaderOf, limit: Limit = 1000) -> Response:
    """Holes in the expected sampling with their cause, newest first."""
    rows = [_gap(row) for row in reader.gaps(limit=limit)]
    return Response(msgspec.json.encode({"gaps": rows}), media_type="application/json")


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
