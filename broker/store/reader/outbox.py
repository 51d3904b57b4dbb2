"""Documents of the outbox."""

from __future__ import annotations

import sqlalchemy as sa

from broker.store import tables
from schemas.documents import Document

_O = tables.outbox


def document_span(connection: sa.Connection) -> tuple[int | None, int]:
    """(lowest place of the outbox still kept or None, highest ever given)."""
    first = connection.execute(sa.select(sa.func.min(_O.c.seq))).scalar()
    counters = tables.counters.c
    last = connection.execute(sa.select(counters.value).where(counters.name == "outbox_seq")).scalar()
    return first, last or 0


def list_documents(connection: sa.Connection, after: int, limit: int, kind: str | None) -> list[tuple[int, Document]]:
    """(place in the outbox, document) behind *after*, in order."""
    query = sa.select(_O.c.seq, _O.c.body).where(_O.c.seq > after).order_by(_O.c.seq).limit(limit)
    if kind is not None:
        query = query.where(_O.c.type == kind)
    return [(seq, _document(seq, body)) for seq, body in connection.execute(query)]


def document_by_id(connection: sa.Connection, document_id: str) -> Document | None:
    """One document with its place in the outbox."""
    row = connection.execute(sa.select(_O.c.seq, _O.c.body).where(_O.c.document_id == document_id)).first()
    return None if row is None else _document(row.seq, row.body)


def _document(seq: int, body: str) -> Document:
    return Document.model_validate_json(body).model_copy(update={"sequence": str(seq)})
