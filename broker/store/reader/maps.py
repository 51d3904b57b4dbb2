"""Registered tag maps, and what they say of equipment and shifts."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from broker.store import tables
from schemas.calendar import Window
from schemas.tagmap import Equipment, TagMap


def equipment_by_path(connection: sa.Connection, path: str) -> Equipment | None:
    """The equipment as the newest map that names it has it."""
    table = tables.equipment
    body = connection.execute(sa.select(table.c.body).where(table.c.path == path)).scalar()
    return None if body is None else Equipment.model_validate_json(body)


def map_by_revision(connection: sa.Connection, revision: bytes | None) -> TagMap | None:
    """A registered map; None asks for the one that came into force last."""
    table = tables.maps
    query = sa.select(table.c.body).order_by(table.c.ordinal.desc()).limit(1)
    body = connection.execute(query if revision is None else query.where(table.c.revision == revision)).scalar()
    return None if body is None else TagMap.from_body(bytes(body))


class _Calendar(msgspec.Struct):
    """What is decoded of a map's body; its tags are passed over."""

    calendar: list[dict[str, Any]] = []


def shifts(connection: sa.Connection) -> tuple[Window, ...]:
    """The shifts of the map that came into force last."""
    table = tables.maps
    body = connection.execute(sa.select(table.c.body).order_by(table.c.ordinal.desc()).limit(1)).scalar()
    windows = msgspec.json.decode(bytes(body), type=_Calendar).calendar if body is not None else []
    return tuple(Window.model_validate(one) for one in windows if one.get("kind") == "shift")
