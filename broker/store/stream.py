"""Gaps, rejects and links as the stream brings them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

from broker.store import bulk, tables
from broker.store.memory import Memory
from broker.store.registry import numbering_of
from broker.store.text import clean
from schemas.entries import Link, Position
from schemas.samples import Gap, Reject

_RAW_BYTES: Final = 4096
#: Rejects kept of one source, the newest: 400 MB at the most, however long it sends what nobody can use.
REJECTS: Final = 100_000


def put_gap(connection: sa.Connection, memory: Memory, gap: Gap, position: Position) -> None:
    """
    Store a gap, or close the open one with the same source, tags, cause and begin. A closed gap never opens again.

    Tag numbers of a map that was never registered cannot be named: the gap is then the whole source's.
    """
    tag_ids, detail = _tags(connection, memory, gap)
    digest = hashlib.sha256(",".join(map(str, tag_ids)).encode()).hexdigest()[:32] if tag_ids else ""
    digest = tables.EVENTS if gap.events else digest
    table = tables.gaps
    where = sa.and_(
        table.c.source == clean(gap.source),
        table.c.cause == gap.cause.value,
        table.c.from_ns == gap.from_ns,
        table.c.tags_digest == digest,
    )
    found = connection.execute(
        sa.select(table.c.gap_id, table.c.to_ns, table.c.backfilled, table.c.detail).where(where)
    ).first()
    if found is not None:
        values: dict[str, object] = {"backfilled": max(found.backfilled, int(gap.backfilled))}
        if gap.to_ns is not None:
            values["to_ns"] = gap.to_ns
        if detail:
            values["detail"] = detail
        if any(getattr(found, name) != value for name, value in values.items()):
            values["changed"] = memory.next("gap_change")
            connection.execute(table.update().where(table.c.gap_id == found.gap_id).values(**values))
        return
    gap_id = memory.next("gap_id")
    connection.execute(
        table.insert().values(
            gap_id=gap_id,
            source=clean(gap.source),
            cause=gap.cause.value,
            from_ns=gap.from_ns,
            to_ns=gap.to_ns,
            whole_source=int(not tag_ids and not gap.events),
            tags_digest=digest,
            backfilled=int(gap.backfilled),
            detail=detail,
            epoch=position.epoch,
            seq=position.seq,
            changed=memory.next("gap_change"),
        )
    )
    if tag_ids:
        connection.execute(tables.gap_tags.insert(), [{"gap_id": gap_id, "tag_id": number} for number in tag_ids])


def _tags(connection: sa.Connection, memory: Memory, gap: Gap) -> tuple[list[int], str]:
    detail = clean(gap.detail)
    if not gap.tags:
        return [], detail
    try:
        numbering = numbering_of(memory, connection, gap.map_revision)
    except ValueError:
        return [], detail or f"tags {', '.join(map(str, gap.tags[:20]))} of an unknown map"
    named = {int(numbering[tag]) for tag in gap.tags if 0 <= tag < len(numbering)} - {-1}
    return sorted(named), detail


def put_reject(connection: sa.Connection, memory: Memory, reject: Reject, position: Position) -> None:
    """Store a quarantine row; ``raw`` is cut to 4096 bytes."""
    connection.execute(
        tables.quarantine.insert().values(
            quarantine_id=memory.next("quarantine_id"),
            source=clean(reject.source),
            place=clean(reject.place),
            reason=clean(reject.reason),
            raw=reject.raw[:_RAW_BYTES],
            received_ns=reject.received_ns,
            epoch=position.epoch,
            seq=position.seq,
        )
    )


def put_link(connection: sa.Connection, link: Link, wall_ns: int) -> None:
    """Remember whether a source is up, and since when."""
    _source(connection, link.source, {"up": int(link.up), "reason": clean(link.reason), "since_ns": wall_ns})


def put_source_rows(connection: sa.Connection, figures: Mapping[str, tuple[int, int]]) -> None:
    """Count stored rows of sources, and when the last batch came: (rows, time of reception) by source."""
    found = [(rows, last_ns, clean(source)) for source, (rows, last_ns) in sorted(figures.items())]
    statement = "UPDATE sources SET rows = rows + ?, last_received_ns = ? WHERE source = ?"
    if bulk.many(connection, statement, found) == len(found):
        return
    for source, (rows, last_ns) in sorted(figures.items()):
        if _add_source(connection, clean(source)):
            bulk.many(connection, statement, [(rows, last_ns, clean(source))])


def put_source_rejects(connection: sa.Connection, source: str, count: int) -> None:
    """Count rejects of a source that were stored, and remove its oldest beyond ``REJECTS``."""
    table, rejects = tables.sources, tables.quarantine
    _source(connection, source, {"rejected": table.c.rejected + count, "quarantined": table.c.quarantined + count})
    name = clean(source)
    kept = connection.execute(sa.select(table.c.quarantined).where(table.c.source == name)).scalar_one()
    if kept > REJECTS:
        oldest = (
            sa.select(rejects.c.quarantine_id)
            .where(rejects.c.source == name)
            .order_by(rejects.c.quarantine_id)
            .limit(kept - REJECTS)
        )
        connection.execute(rejects.delete().where(rejects.c.quarantine_id.in_(oldest)))
        _source(connection, source, {"quarantined": REJECTS})


def put_source_events(connection: sa.Connection, counts: Mapping[str, int]) -> None:
    """Count stored events of sources."""
    events = tables.sources.c.events
    for source in sorted(counts):
        if counts[source]:
            _source(connection, source, {"events": events + counts[source]})


def _source(connection: sa.Connection, source: str, values: dict[str, object]) -> None:
    table = tables.sources
    name = clean(source)
    _add_source(connection, name)
    connection.execute(table.update().where(table.c.source == name).values(**values))


def _add_source(connection: sa.Connection, name: str) -> bool:
    """Make the row of a source that has none; whether it had none."""
    table = tables.sources
    if connection.execute(sa.select(table.c.source).where(table.c.source == name)).first() is not None:
        return False
    connection.execute(table.insert().values(source=name, reason="", rows=0, rejected=0, quarantined=0))
    return True
