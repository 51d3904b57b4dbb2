"""Which records are valid: what ``v_records`` shows, as a condition for queries."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from broker.store import tables

_R: Final[Any] = tables.records


def not_replaced(upto: int | None = None) -> sa.ColumnElement[bool]:
    """No row (up to *upto*, where it is given) of the same tag and time has a higher revision."""
    higher = _R.alias("higher")
    found = sa.exists().where(
        higher.c.source_ts == _R.c.source_ts, higher.c.tag_id == _R.c.tag_id, higher.c.revision > _R.c.revision
    )
    return ~(found if upto is None else found.where(higher.c.seq <= upto))
