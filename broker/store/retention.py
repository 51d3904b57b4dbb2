"""Retention: whole days, a bounded number of rows a call, so that the writer is never held up for long."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from broker.store import tables
from broker.store.options import KeepOptions

DAY_NS: Final = 86_400_000_000_000
#: Rows looked at in one call and table.
SLICE: Final = 20_000
#: Tags whose 1 min roll-ups are trimmed in one call.
TAGS: Final = 200
#: Closed episodes removed in one call.
EPISODES: Final = 100


def cutoff(now_ns: int, keep_s: float) -> int:
    """Begin of the oldest day that stays."""
    return (now_ns - int(keep_s) * 1_000_000_000) // DAY_NS * DAY_NS


def trim(connection: sa.Connection, keep: KeepOptions, now_ns: int, tag_turn: int) -> int:
    """
    Remove the oldest slice of what is past its time, in the caller's transaction.

    1 min roll-ups are trimmed tag by tag; *tag_turn* is where the last call stopped, the result is for the next.
    """
    records, quarantine, outbox = tables.records, tables.quarantine, tables.outbox
    _oldest(connection, records.c.seq, records.c.received_ts, cutoff(now_ns, keep.records))
    _oldest(connection, quarantine.c.quarantine_id, quarantine.c.received_ns, cutoff(now_ns, keep.quarantine))
    _oldest(connection, outbox.c.seq, outbox.c.time_ns, cutoff(now_ns, keep.documents))
    _episodes(connection, cutoff(now_ns, keep.documents))
    _gaps(connection, cutoff(now_ns, keep.documents))
    return _minutes(connection, cutoff(now_ns, keep.rollups_1m), tag_turn)


def _oldest(connection: sa.Connection, key: sa.Column[int], time: sa.Column[int], before_ns: int) -> None:
    first = connection.execute(sa.select(sa.func.min(key))).scalar()
    if first is not None:
        slice_ = sa.and_(key >= first, key < first + SLICE, time < before_ns)
        connection.execute(sa.delete(key.table).where(slice_))


def _episodes(connection: sa.Connection, before_ns: int) -> None:
    heads, notes = tables.anomalies, tables.annotations
    # an episode bears the device's times: in a recording of years ago it was found, and explained, only now
    explained_lately = sa.exists().where(notes.c.anomaly_id == heads.c.anomaly_id, notes.c.created_ns >= before_ns)
    query = (
        sa.select(heads.c.anomaly_id)
        .where(heads.c.state == "closed", heads.c.updated_ns < before_ns, ~explained_lately)
        .order_by(heads.c.ordinal)
        .limit(EPISODES)
    )
    ids = list(connection.execute(query).scalars())
    if not ids:
        return
    attempts, evidence = tables.annotation_attempts, tables.evidence
    old = sa.select(evidence.c.evidence_id).where(evidence.c.anomaly_id.in_(ids))
    connection.execute(attempts.delete().where(attempts.c.evidence_id.in_(old)))
    for table in (tables.reviews, tables.annotations, evidence, tables.anomaly_revisions, heads):
        connection.execute(table.delete().where(table.c.anomaly_id.in_(ids)))


def _gaps(connection: sa.Connection, before_ns: int) -> None:
    gaps, marks = tables.gaps, tables.gap_tags
    query = sa.select(gaps.c.gap_id).where(gaps.c.to_ns < before_ns).order_by(gaps.c.to_ns).limit(EPISODES)
    ids = list(connection.execute(query).scalars())
    if ids:
        connection.execute(marks.delete().where(marks.c.gap_id.in_(ids)))
        connection.execute(gaps.delete().where(gaps.c.gap_id.in_(ids)))


def _minutes(connection: sa.Connection, before_ns: int, turn: int) -> int:
    tags, minutes = tables.tags, tables.rollup_1m
    query = sa.select(tags.c.tag_id).where(tags.c.tag_id > turn).order_by(tags.c.tag_id).limit(TAGS)
    ids = list(connection.execute(query).scalars())
    for tag_id in ids:
        connection.execute(minutes.delete().where(minutes.c.tag_id == tag_id, minutes.c.bucket_ns < before_ns))
    return ids[-1] if len(ids) == TAGS else 0
