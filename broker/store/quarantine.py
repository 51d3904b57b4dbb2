"""What stands in quarantine for a row or an event that SQL refuses."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from broker.store import tables
from schemas.alarms import Event
from schemas.records import Piece, RecordBatch
from schemas.samples import Reject


def refused_row(
    connection: sa.Connection, batch: RecordBatch, piece: Piece, row: int, tag_id: int, reason: str
) -> Reject:
    """The reject of one row of *batch*: its place is the path of the tag, its raw form JSON."""
    tags = tables.tags
    path = connection.execute(sa.select(tags.c.path).where(tags.c.tag_id == tag_id)).scalar_one()
    item = batch.exact.get(row)
    value = repr(item)[:4000] if item is not None else repr(float(batch.value[row]))
    raw = msgspec.json.encode(
        {
            "source_ns": int(batch.source_ns[row]),
            "status": int(batch.status[row]),
            "flags": int(batch.flags[row]),
            "value": value.encode("utf-8", "backslashreplace").decode(),
        }
    )
    return Reject(piece.source, path, reason, raw, piece.received_ns)


def refused_event(event: Event, error: ValueError) -> Reject:
    """The reject of an event that has no form in SQL; *error* says why."""
    raw = f"{event.event_id.hex()} {event.event_type} {event.message}"[:4096]
    place = event.source_name or event.notifier
    return Reject(event.source, place, str(error), raw.encode("utf-8", "backslashreplace"), event.received_ns)
