"""
The maps of the journal with a corrected meaning.

The old map keeps its numbers: each revision met in the journal is normalized under a copy of itself in which the
corrected tags have their new meaning, so that every time and every flag comes out as it did.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.records import RecordBatch, fingerprints
from schemas.status import BAD_CONFIGURATION_ERROR, Flag
from schemas.tagmap import Tag, TagMap

#: Place of the unit in what :func:`meaning` says.
_UNIT: Final = -1


@dataclass(frozen=True, slots=True)
class Repaired:
    """
    A map of the journal with corrected tags; ``wanted`` bool[tag number]: whose rows are written.

    ``former`` are maps in which corrected tags have a unit that their rows were stored in before: these rows are
    withdrawn. ``missing`` and ``unreachable`` are paths with their sources, as the outcome of a replay has them.
    """

    tag_map: TagMap
    wanted: NDArray[np.bool_]
    former: tuple[TagMap, ...]
    missing: tuple[tuple[str, str], ...]
    unreachable: tuple[tuple[str, str], ...]

    def taken(self, record: RecordBatch) -> RecordBatch | None:
        """The rows of corrected tags; None where there are none."""
        keep = self.wanted[record.tag]
        if not keep.any():
            return None
        if keep.all():
            return record
        place = np.cumsum(keep) - 1
        return replace(
            record,
            tag=record.tag[keep],
            source_ns=record.source_ns[keep],
            server_ns=None if record.server_ns is None else record.server_ns[keep],
            value=record.value[keep],
            status=record.status[keep],
            flags=record.flags[keep],
            fingerprint=record.fingerprint[keep],
            exact={int(place[row]): item for row, item in record.exact.items() if keep[row]},
            increase=None if record.increase is None else record.increase[keep],
        )

    def withdrawn(self, record: RecordBatch) -> Iterator[RecordBatch]:
        """
        What takes the place of rows of :meth:`taken` that were stored in another unit: a Bad status and no number.

        All are marked as held back by the deadband, so that only those are written that replace a stored row.
        """
        for before in self.former:
            other = np.array([a.unit != b.unit for a, b in zip(before.tags, self.tag_map.tags, strict=True)], np.bool_)
            keep = np.flatnonzero(other[record.tag])
            if not len(keep):
                continue
            value = np.full(len(keep), np.nan)
            status = np.full(len(keep), BAD_CONFIGURATION_ERROR, np.uint32)
            yield replace(
                record,
                map_revision=before.revision,
                tag=record.tag[keep],
                source_ns=record.source_ns[keep],
                server_ns=None if record.server_ns is None else record.server_ns[keep],
                value=value,
                status=status,
                flags=np.full(len(keep), Flag.DEADBAND, np.uint32),
                fingerprint=fingerprints(value, status, {}),
                exact={},
                increase=None,
            )


class Corrections:
    """The corrected map against those of the journal; *earlier* are the maps of former replays of the span."""

    def __init__(self, tag_map: TagMap, earlier: Iterable[TagMap]) -> None:
        self._new = {tag.id: tag for tag in tag_map.tags}
        self._earlier: dict[str, set[tuple[object, ...]]] = {}
        for one in earlier:
            for tag in one.tags:
                self._earlier.setdefault(tag.id, set()).add(meaning(tag))

    def repair(self, old: TagMap) -> Repaired:
        """Which tags of a map of the journal are corrected, and how."""
        wanted = np.zeros(len(old.tags), np.bool_)
        tags: list[Tag] = []
        former: list[dict[int, Tag]] = []
        missing: list[tuple[str, str]] = []
        unreachable: list[tuple[str, str]] = []
        for tag in old.tags:
            new = self._new.get(tag.id)
            if new is None:
                missing.append((tag.source, tag.path))
            elif reading(new) != reading(tag):
                unreachable.append((tag.source, tag.path))
            elif {meaning(tag), *self._earlier.get(tag.id, ())} != {meaning(new)}:
                wanted[tag.number] = True
                units = {tag.unit, *(str(one[_UNIT]) for one in self._earlier.get(tag.id, ()))} - {new.unit}
                for place, unit in enumerate(sorted(units)):
                    if place == len(former):
                        former.append({})
                    former[place][tag.number] = new.model_copy(update={"number": tag.number, "unit": unit})
                tag = new.model_copy(update={"number": tag.number})
            tags.append(tag)
        repaired = TagMap(site=old.site, tags=tuple(tags), equipment=old.equipment)
        before = tuple(
            TagMap(site=old.site, tags=tuple(one.get(tag.number, tag) for tag in tags), equipment=old.equipment)
            for one in former
        )
        return Repaired(repaired, wanted, before, tuple(missing), tuple(unreachable))


def reading(tag: Tag) -> tuple[object, ...]:
    """What decides which raw value is read."""
    return tag.source, tag.address, tag.type, tag.byte_order, tag.encoding


def meaning(tag: Tag) -> tuple[object, ...]:
    """What decides which record a raw value becomes."""
    return (
        tag.scale_mode,
        tag.raw_low,
        tag.raw_high,
        tag.factor,
        tag.offset,
        tag.clamp,
        tag.clamp_low,
        tag.clamp_high,
        tag.range,
        tag.deadband,
        tag.sentinels,
        tag.counter,
        tag.unit,
    )
