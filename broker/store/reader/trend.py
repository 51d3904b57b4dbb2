# ruff: noqa: S608 - the parts are constants of this module
"""Trends: per bucket the extremes, first and last, computed in SQL so that no row crosses into Python."""

from __future__ import annotations

import sys
from typing import Final

import sqlalchemy as sa

from broker.store.reader.operation import gaps_between
from broker.store.reader.values import other_units, tag_of
from broker.store.rollups import HOUR_NS, MINUTE_NS, counted_text
from broker.store.rows.records import Trend, TrendPoint

#: A longer span is answered from roll-ups: records are keyed by time, so a raw span reads every tag's rows.
RAW_SPAN_NS: Final = HOUR_NS

_RAW_ROWS: Final = f"""
    SELECT r.source_ts / :width AS b, r.source_ts AS at, r.seq AS place, 1 AS n,
        CASE WHEN r.status < 1073741824 THEN 1 ELSE 0 END AS good,
        CASE WHEN r.status >= 2147483648 THEN 1 ELSE 0 END AS bad,
        CASE WHEN r.status < 2147483648 AND r.value BETWEEN -:huge AND :huge THEN r.value END AS v
    FROM records r
    WHERE r.tag_id = :tag AND r.source_ts >= :low AND r.source_ts < :high AND {counted_text("r.flags")}
        AND NOT EXISTS (SELECT 1 FROM records h WHERE h.source_ts = r.source_ts AND h.tag_id = r.tag_id
            AND h.revision > r.revision)"""
_SAMPLES: Final = f"""
    SELECT b, at, place, n, good, bad, v AS low, v AS high, v AS first, v AS last, at AS first_ns, at AS last_ns
    FROM ({_RAW_ROWS}) s"""
_ROLLUP: Final = """
    SELECT r.bucket_ns / :width AS b, r.bucket_ns AS at, 0 AS place, r.n AS n, r.n_good AS good, r.n_bad AS bad,
        r.min AS low, r.max AS high, r.first AS first, r.last AS last, r.first_ns AS first_ns, r.last_ns AS last_ns
    FROM {table} r
    WHERE r.tag_id = :tag AND r.bucket_ns >= :low AND r.bucket_ns < :high
        AND NOT EXISTS (SELECT 1 FROM {table} h WHERE h.tag_id = r.tag_id AND h.bucket_ns = r.bucket_ns
            AND h.revision > r.revision)"""
_GROUPED: Final = """
    SELECT b, sum(n), sum(good), sum(bad), min(low), max(high),
        max(CASE WHEN up = 1 THEN first END), min(CASE WHEN low IS NOT NULL THEN first_ns END),
        max(CASE WHEN down = 1 THEN last END), max(CASE WHEN low IS NOT NULL THEN last_ns END)
    FROM (SELECT p.*,
            row_number() OVER (PARTITION BY b, low IS NULL ORDER BY at, place) AS up,
            row_number() OVER (PARTITION BY b, low IS NULL ORDER BY at DESC, place DESC) AS down
        FROM ({rows}) p) w
    GROUP BY b ORDER BY b"""


def resolution_for(from_ns: int, to_ns: int, buckets: int) -> str:
    """``raw``, ``1m`` or ``1h``: the finest that the span allows and the number of buckets asks for."""
    span = to_ns - from_ns
    if span <= RAW_SPAN_NS:
        return "raw"
    return "1h" if span // buckets >= HOUR_NS else "1m"


def trend(
    connection: sa.Connection,
    path: str,
    from_ns: int,
    to_ns: int,
    buckets: int,
    resolution: str,
    unit: str | None = None,
) -> Trend | None:
    """At most *buckets* + 1 points of a tag in ``from_ns <= time < to_ns``; None for an unknown path."""
    tag = tag_of(connection, path, unit)
    if tag is None:
        return None
    width = max(1, -(-(to_ns - from_ns) // buckets))
    if resolution == "raw":
        rows, low = _SAMPLES, from_ns
    else:
        level, table = (MINUTE_NS, "rollup_1m") if resolution == "1m" else (HOUR_NS, "rollup_1h")
        width = -(-width // level) * level
        rows, low = _ROLLUP.format(table=table), from_ns // level * level
    query = sa.text(_GROUPED.format(rows=rows))
    values: dict[str, float] = {"width": width, "tag": tag.tag_id, "low": low, "high": to_ns}
    if resolution == "raw":
        values["huge"] = sys.float_info.max
    points = [
        TrendPoint(int(b) * width, int(n), int(good), int(bad), least, most, first, first_ns, last, last_ns)
        for b, n, good, bad, least, most, first, first_ns, last, last_ns in connection.execute(query, values)
    ]
    gaps = gaps_between(connection, [path], from_ns, to_ns, None)
    others = other_units(connection, tag, from_ns, to_ns)
    return Trend(path, tag.unit, from_ns, to_ns, width, resolution, points, gaps, others)
