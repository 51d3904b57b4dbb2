"""
Tags, equipment and maps: numbers for stable ids, in the order in which the stream first names them.

A tag whose unit changes gets another number: its rows, roll-ups and current value then never mix two units, and each
keeps the one that it was made with.
"""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from broker.store import meanings, tables
from broker.store.memory import Memory, identity, numbers
from broker.store.text import clean, stored_json
from schemas.tagmap import Equipment, Tag, TagMap


def use_map(connection: sa.Connection, memory: Memory, revision: bytes, tag_map: TagMap, next_seq: int) -> None:
    """
    Register what *tag_map* names; a tag known by its id and unit keeps its number, whatever its path is now.

    Records from *next_seq* on have the types and texts of this map.

    What the map does not name any more stays, marked as not in the map.
    """
    if revision != tag_map.revision:
        raise ValueError("the map's content does not belong to this revision")
    tags, maps = tables.tags, tables.maps
    connection.execute(tags.update().values(in_map=0))
    connection.execute(tables.equipment.update().values(in_map=0))
    fresh: dict[int, dict[str, object]] = {}
    known: list[dict[str, object]] = []
    for tag in tag_map.tags:
        number = memory.tag_ids.get(identity(tag))
        if number is None:
            number = memory.tag_ids[identity(tag)] = memory.next("tag_id")
            fresh[number] = {"tag_id": number, "id": clean(tag.id), **_tag(tag)}
        else:
            known.append({"key": number, **_tag(tag)})
    if fresh:
        connection.execute(tags.insert(), list(fresh.values()))
    if known:
        connection.execute(tags.update().where(tags.c.tag_id == sa.bindparam("key")), known)
    _let_former_follow(connection, memory, tag_map)
    memory.set("tags_in_map", len({tag.id for tag in tag_map.tags}))
    memory.make_room()
    memory.numbering[revision] = numbers(memory, tag_map)
    _equipment(connection, tag_map)
    meanings.use_map(connection, memory, tag_map, next_seq, fresh.keys())
    place = connection.execute(sa.select(maps.c.ordinal).where(maps.c.revision == revision)).scalar()
    if place is None:
        connection.execute(maps.insert().values(revision=revision, ordinal=memory.next("map"), body=tag_map.body))
    elif place != memory.last("map"):
        # a former map is in force again
        connection.execute(maps.update().where(maps.c.revision == revision).values(ordinal=memory.next("map")))


def numbering_of(memory: Memory, connection: sa.Connection, revision: bytes) -> NDArray[np.int64]:
    """
    int64[tag number] of ``tag_id`` for a map revision; maps of former runs are read from SQL.

    Raises:
        ValueError: the revision was never registered.
    """
    if revision not in memory.numbering:
        query = sa.select(tables.maps.c.body).where(tables.maps.c.revision == revision)
        body = connection.execute(query).scalar()
        if body is None:
            raise ValueError(f"tag map {revision.hex()} was never registered; call use_map first")
        # a store from before tags had a row a unit knows the newest unit alone
        number(connection, memory, TagMap.from_body(bytes(body)))
    return memory.numbering[revision]


def number(connection: sa.Connection, memory: Memory, tag_map: TagMap) -> None:
    """
    Let batches name the tags of a map that was never in force: one of the stream in which tags have other units.

    Raises:
        ValueError: the stream has named no tag with an id of the map.
    """
    missing = [tag for tag in tag_map.tags if identity(tag) not in memory.tag_ids]
    if missing:
        unknown = {clean(tag.id) for tag in missing}.difference(known for known, _ in memory.tag_ids)
        if unknown:
            raise ValueError(f"tag {min(unknown)} was never registered")
        fresh: list[dict[str, object]] = []
        for tag in missing:
            made = memory.tag_ids[identity(tag)] = memory.next("tag_id")
            fresh.append({"tag_id": made, "id": clean(tag.id), **_tag(tag), "in_map": 0, "former": 1})
        connection.execute(tables.tags.insert(), fresh)
        memory.make_room()
    memory.numbering[tag_map.revision] = numbers(memory, tag_map)


def _let_former_follow(connection: sa.Connection, memory: Memory, tag_map: TagMap) -> None:
    """Mark what tags had in another unit, and let it follow their paths."""
    units = Counter(known for known, _ in memory.tag_ids)
    moved = [
        {"key": clean(tag.id), "now": clean(tag.unit), "to": clean(tag.path), "at": clean(tag.equipment)}
        for tag in tag_map.tags
        if units[clean(tag.id)] > 1
    ]
    if moved:
        tags = tables.tags
        former = tags.update().where(tags.c.id == sa.bindparam("key"), tags.c.unit != sa.bindparam("now"))
        values = {"former": 1, "path": sa.bindparam("to"), "equipment": sa.bindparam("at")}
        connection.execute(former.values(values), moved)


def _tag(tag: Tag) -> dict[str, object]:
    low, high = tag.range or (None, None)
    return {
        "path": clean(tag.path),
        "source": clean(tag.source),
        "address": clean(tag.address),
        "type": tag.type,
        "unit": clean(tag.unit),
        "role": tag.role,
        "equipment": clean(tag.equipment),
        "range_low": low,
        "range_high": high,
        "enum": None
        if tag.enum is None
        else msgspec.json.encode({str(k): clean(v) for k, v in sorted(tag.enum.items())}).decode(),
        "description": clean(tag.description),
        "in_map": 1,
        "former": 0,
    }


def _equipment(connection: sa.Connection, tag_map: TagMap) -> None:
    table = tables.equipment
    paths = [item.path for item in tag_map.equipment]
    if not paths:
        return
    connection.execute(table.delete().where(table.c.path == sa.bindparam("key")), [{"key": path} for path in paths])
    connection.execute(table.insert(), [_equipment_row(item) for item in tag_map.equipment])


def _equipment_row(item: Equipment) -> dict[str, object]:
    return {
        "path": clean(item.path),
        "equipment_class": item.equipment_class,
        "body": stored_json(item),
        "in_map": 1,
    }
