"""What the arrival of samples says of their tags and sources, whatever their values are."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.missing import Arrived
from detectors.panel import Panel, Said
from schemas.columns import Index
from schemas.records import RecordBatch
from schemas.samples import Origin
from schemas.status import BAD, UNCERTAIN, Flag

_NOT_ARRIVED: Final = np.uint32(Flag.CORNER | Flag.RETAINED | Flag.BACKFILL | Flag.NO_CHANGE_CONFIRMED)


def arrivals(
    batch: RecordBatch, slot: Index, known: NDArray[np.bool_], panel: Panel, now_ns: int, wall_ns: int
) -> list[Said]:
    """
    Take note of a batch: a sample of any status says that its tag is there; history and retained values do not.
    Whether its value is bad counts apart.

    *slot* and *known* are by row; what is no longer missing comes back.
    """
    fresh = (batch.flags & _NOT_ARRIVED) == 0
    if batch.origin not in (Origin.LIVE, Origin.REPLAY) or not fresh.any():
        return []
    rows = np.flatnonzero(fresh & known)
    for source in _sources(batch, fresh):
        panel.missing.heard(source, now_ns)
    if panel.timings:
        _count(batch, slot, fresh & known, panel)
    ending = rows[panel.missing.arrived(_arrived(batch, slot, rows), now_ns, wall_ns)].tolist()
    return [Said(row, -2, int(slot[row]), panel.seen("missing", int(slot[row]))) for row in ending]


def _arrived(batch: RecordBatch, slot: Index, rows: Index) -> Arrived:
    """What these rows say of their tags; a late one says nothing of how the tag is now."""
    status, late = batch.status[rows], (batch.flags[rows] & np.uint32(Flag.LATE)) != 0
    number = ~np.isnan(batch.value[rows])
    if batch.exact:
        number |= np.isin(rows, np.fromiter(batch.exact, np.intp, len(batch.exact)))
    bad = (status >= np.uint32(BAD)) | ~number
    other = ~bad & ~late
    return Arrived(slot[rows], bad & ~late, other, other & (status < np.uint32(UNCERTAIN)))


def _count(batch: RecordBatch, slot: Index, fresh: NDArray[np.bool_], panel: Panel) -> None:
    """Count late rows, and those whose device time is not believed, by source."""
    odd = bool((batch.flags & (Flag.LATE | Flag.CLOCK_SUSPECT)).any())
    parts = batch.parts()
    ends = [*(piece.first for piece in parts[1:]), len(batch)]
    for piece, end in zip(parts, ends, strict=True):
        rows = slice(piece.first, end)
        arrived = int(np.count_nonzero(fresh[rows]))
        for timing in panel.timings:
            flagged = np.empty(0, np.intp)
            if odd:
                flagged = slot[rows][fresh[rows] & ((batch.flags[rows] & np.uint32(timing.flag)) != 0)]
            timing.arrived(piece.source, arrived, flagged)


def _sources(batch: RecordBatch, fresh: NDArray[np.bool_]) -> list[str]:
    """Sources of which a *fresh* row came, in the order of the rows."""
    parts = batch.parts()
    if len(parts) == 1:
        return [batch.source]
    ends = [*(piece.first for piece in parts[1:]), len(batch)]
    heard = (p.source for p, end in zip(parts, ends, strict=True) if fresh[p.first : end].any())
    return list(dict.fromkeys(heard))
