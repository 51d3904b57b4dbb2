"""
What differs between two tag maps, by the stable id of each tag, and what a value would become.

An id that the file does not give comes from the path, so that a new path without an id begins a new tag: where a tag
that is gone and a new one read the same item, this is told as a probable rename.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from normalizers.base import TagColumns
from normalizers.scale import clamp, scale
from schemas.tagmap import Tag, TagMap

#: ``renamed?``: probably; as new ids stand now, the history stays behind. ``other``: what changes no value.
Kind = Literal[
    "added",
    "removed",
    "renamed",
    "renamed?",
    "re-addressed",
    "type",
    "re-scaled",
    "unit",
    "limits",
    "other",
    "equipment",
    "calendar",
    "catalogue",
]
#: Fields of a tag by the kind of change that a difference is.
_FIELDS: Final[dict[Kind, tuple[str, ...]]] = {
    "renamed": ("path",),
    "re-addressed": ("source", "address"),
    "type": ("type", "byte_order", "encoding"),
    "re-scaled": (
        *("scale_mode", "raw_low", "raw_high", "factor", "offset", "clamp", "clamp_low", "clamp_high"),
        *("source_unit", "sentinels"),
    ),
    "unit": ("unit",),
    "limits": ("range", "deadband", "stale_after_ms", "rate_limit", "flatline_after_ms", "counter"),
    "other": ("scan_ms", "heartbeat_ms", "role", "loop", "enum", "equipment", "detect", "description"),
}
#: Kinds after which a number of the same raw value is another one.
VALUES: Final = frozenset({"re-scaled", "unit"})


class Change(NamedTuple):
    """
    One difference: of a tag, or of the equipment, calendar and catalogues.

    ``before`` and ``after`` are the tag in both maps, None where it is not in one; ``fields`` are those that differ,
    each with its two values.
    """

    kind: Kind
    path: str
    before: Tag | None = None
    after: Tag | None = None
    fields: tuple[tuple[str, Any, Any], ...] = ()

    @property
    def text(self) -> str:
        """What differs, in one line."""
        if self.kind == "renamed?" and self.before is not None and self.after is not None:
            return (
                f"was {self.before.path} ({self.before.id}), which read the same {self.before.address}: its history "
                f"would be lost; give the tag id: {self.before.id}"
            )
        if self.kind in ("added", "removed"):
            tag = self.after or self.before
            return "" if tag is None else f"{tag.source} {tag.address}"
        if self.kind == "unit":
            (_, was, now), *_ = self.fields
            return f"{was} -> {now}; what is stored keeps {was}"
        return ", ".join(f"{name} {_shown(was)} -> {_shown(now)}" for name, was, now in self.fields)


def compare(before: TagMap, after: TagMap) -> list[Change]:
    """Every difference, tags in order of their path in *after*, what is gone at its own; equal maps have none."""
    old, new = {tag.id: tag for tag in before.tags}, {tag.id: tag for tag in after.tags}
    gone = [tag for tag in before.tags if tag.id not in new]
    fresh = [tag for tag in after.tags if tag.id not in old]
    moved = _probably_renamed(gone, fresh)
    lost = {tag.id for tag, _ in moved.values()}
    found = [Change("removed", tag.path, tag) for tag in gone if tag.id not in lost]
    for tag in fresh:
        was = moved.get(tag.id)
        found.append(Change("added", tag.path, None, tag) if was is None else Change("renamed?", tag.path, *was))
    for tag in after.tags:
        if tag.id in old:
            found += _of_tag(old[tag.id], tag)
    found.sort(key=lambda change: change.path)
    return [*found, *_of_equipment(before, after), *_of_rest(before, after)]


def counts(changes: list[Change]) -> dict[str, int]:
    """How many tags were added, removed, renamed and changed in another way, for the audit."""
    by_kind = Counter(change.kind for change in changes)
    changed = {change.path for change in changes if change.kind in _FIELDS and change.kind != "renamed"}
    return {
        "added": by_kind["added"] + by_kind["renamed?"],
        "removed": by_kind["removed"] + by_kind["renamed?"],
        "renamed": by_kind["renamed"],
        "changed": len(changed),
    }


def becomes(before: Tag, after: Tag, value: float) -> float | None:
    """
    What *after* makes of the raw value of which *before* made *value*.

    None where that cannot be said: the tags read different items, *value* was clamped, or the factor was 0.
    """
    same = ("source", "address", "type", "byte_order", "encoding")
    if any(getattr(before, name) != getattr(after, name) for name in same) or before.factor == 0:
        return None
    if value in (before.clamp_low, before.clamp_high):
        return None
    raw = (value - before.offset) / before.factor
    if before.scale_mode == "sqrt":
        raw = before.raw_low + raw * raw * (before.raw_high - before.raw_low)
    columns = TagColumns(TagMap(site="", tags=(after.model_copy(update={"number": 0}),)))
    at = np.zeros(1, np.int32)
    made, _ = scale(np.array([raw]), at, columns)
    clamp(made, at, columns)
    # both maps have their own rounding; beyond 12 digits nothing is said
    return float(f"{made[0]:.12g}")


def _probably_renamed(gone: list[Tag], fresh: list[Tag]) -> dict[str, tuple[Tag, Tag]]:
    """By id of the new tag: a tag that is gone and the new one, where these two alone read one item."""
    places: dict[tuple[str, str], tuple[list[Tag], list[Tag]]] = defaultdict(lambda: ([], []))
    for side, tags in enumerate((gone, fresh)):
        for tag in tags:
            places[tag.source, tag.address][side].append(tag)
    pairs = [(old[0], new[0]) for old, new in places.values() if len(old) == len(new) == 1]
    return {new.id: (old, new) for old, new in pairs}


def _of_tag(before: Tag, after: Tag) -> Iterator[Change]:
    for kind, names in _FIELDS.items():
        values = ((name, getattr(before, name), getattr(after, name)) for name in names)
        fields = tuple(one for one in values if one[1] != one[2])
        if fields:
            yield Change(kind, after.path, before, after, fields)


def _of_equipment(before: TagMap, after: TagMap) -> Iterator[Change]:
    for path in sorted({*before.equipment_by_path, *after.equipment_by_path}):
        old, new = before.equipment_by_path.get(path), after.equipment_by_path.get(path)
        if old == new:
            continue
        if old is None or new is None:
            yield Change("equipment", path, fields=(("equipment", old and "there", new and "there"),))
            continue
        names = ((name, getattr(old, name), getattr(new, name)) for name in type(new).model_fields)
        yield Change("equipment", path, fields=tuple(one for one in names if one[1] != one[2]))


def _of_rest(before: TagMap, after: TagMap) -> Iterator[Change]:
    if before.calendar != after.calendar:
        yield Change("calendar", after.site, fields=(("windows", len(before.calendar), len(after.calendar)),))
    if before.catalogues != after.catalogues:
        was, now = (", ".join(one.equipment_class for one in site.catalogues) for site in (before, after))
        yield Change("catalogue", after.site, fields=(("classes", was, now),))


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value)
