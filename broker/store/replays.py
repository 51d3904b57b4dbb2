"""Replays of the journal: their revisions, spans, maps and progress."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from broker.store import tables
from broker.store.memory import Memory
from broker.store.rows.operation import ReplayRow
from broker.store.text import clean

_T: Final = tables.replays
_COLUMNS: Final = tuple(_T.c[name] for name in ReplayRow._fields)


def begin(
    connection: sa.Connection,
    memory: Memory,
    *,
    actor: str,
    reason: str,
    sources: tuple[str, ...],
    span_ns: tuple[int, int],
    map_revision: bytes,
    map_body: bytes,
    at_ns: int,
) -> int:
    """Give a new replay its revision: one above every revision that a record may have."""
    revision = memory.next("replay")
    values = {
        "revision": revision,
        "state": "running",
        "actor": clean(actor),
        "reason": clean(reason),
        "sources": msgspec.json.encode([clean(source) for source in sources]).decode(),
        "from_ns": span_ns[0],
        "to_ns": span_ns[1],
        "map_revision": map_revision,
        "map_body": map_body,
        "started_ns": at_ns,
        "entries": 0,
        "rows": 0,
        "detail": "",
    }
    connection.execute(_T.insert().values(**values))
    return revision


def note(connection: sa.Connection, revision: int, values: Mapping[str, object]) -> None:
    """Set columns of a replay."""
    connection.execute(_T.update().where(_T.c.revision == revision).values(**values))


def interrupt(connection: sa.Connection, at_ns: int) -> list[int]:
    """Mark what still says that it runs as interrupted; only the one writer calls it, so nothing runs."""
    query = sa.select(_T.c.revision).where(_T.c.state == "running").order_by(_T.c.revision)
    found = list(connection.execute(query).scalars())
    for revision in found:
        note(connection, revision, {"state": "interrupted", "ended_ns": at_ns, "detail": "the process ended"})
    return found


def list_replays(connection: sa.Connection, limit: int) -> list[ReplayRow]:
    """Replays, newest first."""
    query = sa.select(*_COLUMNS).order_by(_T.c.revision.desc()).limit(limit)
    return [_row(row) for row in connection.execute(query)]


def maps_between(connection: sa.Connection, from_ns: int, to_ns: int) -> list[bytes]:
    """Bodies of the maps of every earlier replay that wrote records of this span of reception."""
    query = sa.select(_T.c.map_body).where(_T.c.from_ns < to_ns, _T.c.to_ns > from_ns, _T.c.rows > 0)
    return [bytes(body) for body in connection.execute(query).scalars()]


def _row(row: sa.Row[Any]) -> ReplayRow:
    found = ReplayRow._make(row)
    sources = tuple(msgspec.json.decode(row.sources, type=list[str]))
    return found._replace(sources=sources, map_revision=bytes(row.map_revision))
