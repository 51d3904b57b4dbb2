"""The journal entry that a stored record came from; read only, also while the broker runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from broker.journal.disk import Disk
from broker.journal.export import number, plain
from broker.journal.survey import Damage, Survey
from schemas.samples import SampleBatch

#: A batch is journalled at most so long after it was received (a commit group, a busy disk), and never before.
LATE_NS: Final = 60_000_000_000
#: The clock may have been set back between the two.
EARLY_NS: Final = 2_000_000_000

#: Number of a tag (by path) in a map revision; None where the map is not known or has no such tag.
NumberOf = Callable[[bytes, str], int | None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A record by what it has in common with its sample: path, source's and our time."""

    source: str
    path: str
    source_ns: int
    received_ns: int


@dataclass(frozen=True, slots=True)
class Place:
    """Row *row* of entry (*epoch*, *seq*): the raw ``value`` as the device sent it, before any scale."""

    epoch: int
    seq: int
    row: int
    segment: str
    wall_ns: int
    map_revision: bytes
    value: Any
    status: int


def find(
    directory: Path, wanted: Sequence[Wanted], number_of: NumberOf, *, disk: Disk | None = None
) -> dict[Wanted, Place]:
    """
    Places of the records that the journal still holds.

    Raises:
        OSError: the directory cannot be read.
    """
    found: dict[Wanted, Place] = {}
    if not wanted or not directory.is_dir():
        return found
    survey = Survey(directory, disk=disk)
    for segment in survey.segments:
        here = [one for one in wanted if segment.header is None or segment.may_hold(*_span(one))]
        if not here:
            continue
        for item in survey.items(segment):
            if isinstance(item, Damage):
                continue
            near = [one for one in here if one not in found and _span(one)[0] <= item.wall_ns < _span(one)[1]]
            if not near:
                continue
            try:
                body = item.decode()
            except ValueError:
                continue
            if isinstance(body, SampleBatch):
                for one in near:
                    row = _row(body, one, number_of)
                    if row is not None:
                        value = plain(body.exact[row]) if row in body.exact else number(float(body.value[row]))
                        found[one] = Place(
                            item.position.epoch,
                            item.position.seq,
                            row,
                            item.segment,
                            item.wall_ns,
                            body.map_revision,
                            value,
                            int(body.status[row]),
                        )
    return found


def _span(one: Wanted) -> tuple[int, int]:
    return one.received_ns - EARLY_NS, one.received_ns + LATE_NS


def _row(batch: SampleBatch, one: Wanted, number_of: NumberOf) -> int | None:
    if batch.source != one.source or batch.received_ns != one.received_ns:
        return None
    tag = number_of(batch.map_revision, one.path)
    if tag is None:
        return None
    rows = np.flatnonzero((batch.tag == tag) & (batch.source_ns == one.source_ns))
    return int(rows[0]) if len(rows) else None
