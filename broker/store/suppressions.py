"""What people suppressed: shelves and maintenance, in order of their beginning. A row stays when it is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

from broker.store import tables
from broker.store.memory import Memory
from broker.store.rows.episodes import SuppressionRow
from broker.store.text import clean
from schemas.suppression import Suppression

_T: Final = tables.suppressions
_COLUMNS: Final = tuple(_T.c[name] for name in SuppressionRow._fields)


def begin(connection: sa.Connection, memory: Memory, found: Suppression) -> None:
    """Store one that begins; one that is there already stays as it is."""
    same = sa.select(_T.c.ordinal).where(_T.c.suppression_id == found.suppression_id)
    if connection.execute(same).first() is not None:
        return
    connection.execute(
        _T.insert().values(
            suppression_id=found.suppression_id,
            ordinal=memory.next("suppression"),
            mode=found.mode,
            target=clean(found.target),
            kind=found.kind,
            actor=clean(found.actor),
            reason=clean(found.reason),
            from_ns=found.from_ns,
            until_ns=found.until_ns,
            findings=0,
        )
    )


def end(connection: sa.Connection, suppression_id: str, at_ns: int, actor: str) -> None:
    """Note that one is over; *actor* is empty where time ended it."""
    values = {"ended_ns": at_ns, "ended_by": clean(actor)}
    connection.execute(_T.update().where(_T.c.suppression_id == suppression_id).values(**values))


def count(connection: sa.Connection, findings: Mapping[str, int]) -> None:
    """Note how many findings each has held so far."""
    for suppression_id, number in sorted(findings.items()):
        connection.execute(_T.update().where(_T.c.suppression_id == suppression_id).values(findings=number))


def list_suppressions(connection: sa.Connection, active: bool | None, limit: int) -> list[SuppressionRow]:
    """Newest first; *active*: those in force, or those that are over."""
    query = sa.select(*_COLUMNS).order_by(_T.c.ordinal.desc()).limit(limit)
    if active is not None:
        query = query.where(_T.c.ended_ns.is_(None) if active else _T.c.ended_ns.is_not(None))
    return [SuppressionRow._make(row) for row in connection.execute(query)]


def suppression_by_id(connection: sa.Connection, suppression_id: str) -> SuppressionRow | None:
    """One, in force or over."""
    row = connection.execute(sa.select(*_COLUMNS).where(_T.c.suppression_id == suppression_id)).first()
    return None if row is None else SuppressionRow._make(row)
