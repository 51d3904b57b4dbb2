"""
Late rows and rows with an unbelievable device time, counted over a minute of ticks for each source.

Both are troubles of a source, not of a tag: where their share is large enough, the first such tag of each piece of
equipment speaks for all of it.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.base import SILENT, Detector, Judgement, plain
from detectors.parameters import Parameters
from schemas.anomaly import Kind
from schemas.columns import Columns, Index, column
from schemas.status import Flag

_WINDOW_NS: Final = 60_000_000_000
#: Share of the rows at which it begins, and below which it is over; and the fewest rows that say anything.
_BEGINS: Final = 0.1
_OVER: Final = 0.02
_FEWEST: Final = 5


class SourceRows(msgspec.Struct):
    """Rows of a source in the present window."""

    rows: int = 0
    flagged: int = 0


class _State(Columns):
    flagged: NDArray[np.int32] = column(np.int32)


class Timing(Detector):
    """Share of rows of each source that carry *flag*."""

    def __init__(self, name: str, kind: Kind, flag: Flag) -> None:
        self.name, self.kind, self.flag = name, kind, flag
        self._state = _State()
        super().__init__(self._state)
        self.sources: dict[str, SourceRows] = {}
        self.since_ns = 0

    def arrived(self, source: str, rows: int, flagged: Index) -> None:
        """Take note of so many rows of a source; *flagged* are the slots of those with the flag, one each."""
        counted = self.sources.setdefault(source, SourceRows())
        counted.rows += rows
        if len(flagged):
            counted.flagged += len(flagged)
            np.add.at(self._state.flagged, flagged, 1)

    def tick(self, now_ns: int, wall_ns: int, parameters: Parameters) -> Index:
        """The slots whose condition begins or is over now: once a minute, none in between."""
        if now_ns - self.since_ns < _WINDOW_NS:
            return np.empty(0, np.intp)
        began_ns = wall_ns - (now_ns - self.since_ns)
        self.since_ns = now_ns
        changed = [self._judge(name, counted, began_ns, wall_ns, parameters) for name, counted in self.sources.items()]
        self.sources = {name: SourceRows() for name in self.sources if name in parameters.sources}
        self._state.flagged[:] = 0
        return np.concatenate([np.empty(0, np.intp), *changed])

    def _judge(self, name: str, counted: SourceRows, began_ns: int, wall_ns: int, parameters: Parameters) -> Index:
        none_at_all = np.empty(0, np.intp)
        if name not in parameters.sources or counted.rows == 0:
            return none_at_all
        share = counted.flagged / counted.rows
        of_source = parameters.fed & (parameters.source == parameters.sources.index(name))
        active = np.flatnonzero(of_source & self.conditions.active)
        if share < _OVER:
            self.conditions.last_ns[active] = wall_ns
            return self.conditions.end(active)
        if share < _BEGINS or counted.flagged < _FEWEST:
            return none_at_all
        flagged = np.flatnonzero(of_source & (self._state.flagged > 0))
        spoken = np.isin(parameters.equipment[flagged], parameters.equipment[active])
        waiting = flagged[~spoken]
        waiting = waiting[np.argsort(parameters.number[waiting], kind="stable")]
        slot = waiting[np.unique(parameters.equipment[waiting], return_index=True)[1]]
        if len(slot) == 0:
            return none_at_all
        none, silent = plain(len(slot), SILENT)
        said = Judgement(
            outside=np.ones(len(slot), np.bool_),
            inside=np.zeros(len(slot), np.bool_),
            onset_ns=np.full(len(slot), began_ns, np.int64),
            value=none,
            score=np.full(len(slot), share / _BEGINS),
            low=none,
            high=none,
            direction=silent,
            samples=np.full(len(slot), counted.flagged, np.int64),
        )
        return slot[self.conditions.update(slot, np.full(len(slot), wall_ns, np.int64), said).began]
