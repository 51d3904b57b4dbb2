"""Gaps in the order in which they began, ended or were repaired: the pull of those who follow them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import sqlalchemy as sa

from broker.store import tables
from broker.store.kept import GAPS_GONE
from broker.store.reader.operation import EVERY_SOURCE, gap_query, gap_rows
from broker.store.reader.values import any_of, matcher
from broker.store.rows.operation import GapPage

_G: Final = tables.gaps
_T: Final = tables.tags
#: Changes that one filtered page looks at.
SCAN: Final = 50_000


@dataclass(frozen=True, slots=True)
class GapFilter:
    """
    Which gaps: those of *source* and of every source, of tags whose path fits *path* (``*`` stands for anything) and of
    their whole sources, ``open`` or ``closed`` ones, those that overlap ``from_ns <= time < to_ns``.
    """

    source: str | None = None
    path: str | None = None
    state: Literal["open", "closed"] | None = None
    from_ns: int | None = None
    to_ns: int | None = None

    def where(self, connection: sa.Connection) -> list[sa.ColumnElement[bool]] | None:
        """The conditions; None where no tag fits."""
        found: list[sa.ColumnElement[bool]] = []
        if self.source is not None:
            found.append(_G.c.source.in_([self.source, EVERY_SOURCE]))
        if self.path is not None and self.path != "*":
            wanted = matcher(self.path)
            rows = connection.execute(sa.select(_T.c.tag_id, _T.c.path, _T.c.source)).all()
            tags = [row for row in rows if wanted.fullmatch(row.path)]
            if not tags:
                return None
            sources = sorted({row.source for row in tags} | {EVERY_SOURCE})
            whole = sa.and_(_G.c.whole_source == 1, _G.c.source.in_(sources))
            found.append(sa.or_(whole, any_of(connection, tables.gap_tags.c.tag_id, [row.tag_id for row in tags])))
        if self.state is not None:
            found.append(_G.c.to_ns.is_(None) if self.state == "open" else _G.c.to_ns.is_not(None))
        if self.from_ns is not None:
            found.append(sa.or_(_G.c.to_ns.is_(None), _G.c.to_ns > self.from_ns))
        if self.to_ns is not None:
            found.append(_G.c.from_ns < self.to_ns)
        return found


def span(connection: sa.Connection) -> tuple[int, int]:
    """
    (first place behind which something may be, highest place ever given).

    Retention removes by the end of a gap: one that is open, or ended later, stays in a place before those removed.
    """
    counter = tables.counters.c
    query = sa.select(counter.name, counter.value).where(counter.name.in_((GAPS_GONE, "gap_change")))
    found = {row.name: row.value for row in connection.execute(query)}
    kept = connection.execute(sa.select(sa.func.min(_G.c.changed))).scalar()
    first = found.get(GAPS_GONE, 0) + 1
    return first if kept is None else min(first, kept), found.get("gap_change", 0)


def page(connection: sa.Connection, after: int, limit: int, wanted: GapFilter) -> GapPage:
    """
    One page of gaps that changed behind *after*, one row a gap and tag, each gap whole and as it is now.

    A gap of more than *limit* tags is a page of its own. A filtered page looks at ``SCAN`` changes at most.
    """
    first, head = span(connection)
    after = max(after, first - 1)
    where = wanted.where(connection)
    if where is None or after >= head:
        return GapPage([], max(after, head), False)
    until = min(head, after + SCAN) if where else head
    query = gap_query().where(_G.c.changed > after, _G.c.changed <= until, *where).order_by(_G.c.changed, _T.c.path)
    rows = gap_rows(connection.execute(query.limit(limit + 1)))
    if len(rows) <= limit:
        return GapPage(rows, until, until < head)
    last = rows[-1].changed
    kept = [row for row in rows if row.changed != last]
    if not kept:
        kept = gap_rows(connection.execute(_only(last, where)))
    return GapPage(kept, kept[-1].changed, kept[-1].changed < head)


def _only(changed: int, where: list[sa.ColumnElement[bool]]) -> sa.Select[Any]:
    return gap_query().where(_G.c.changed == changed, *where).order_by(_T.c.path)
