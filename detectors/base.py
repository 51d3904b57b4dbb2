"""What every detector shares: the rows it is fed, the conditions it keeps, and the errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.anomaly import Direction, Finding, Kind
from schemas.columns import Columns, Index, column

#: Directions by their code in the state columns.
DIRECTIONS: Final[tuple[Direction, ...]] = ("rose", "fell", "flat", "silent", "jumped", "bad")
ROSE, FELL, FLAT, SILENT, JUMPED, BAD = range(6)

#: What a divisor is at least.
TINY: Final[np.float64] = np.finfo(np.float64).tiny
#: A score is told up to here; an infinite value has no larger one.
HIGHEST_SCORE: Final = 1e6


class UnknownMap(LookupError):
    """A batch names a map revision that was never read, or a tag number that its map does not have."""


class BadState(ValueError):
    """Saved state of another version, or damaged."""


@dataclass(frozen=True, slots=True)
class Rows:
    """
    Rows of one round, no tag twice: what row detectors are fed. All of length n.

    ``time_ns`` is the device's, or the time of arrival where ``suspect``. ``cut``: the value was outside its range
    and a clamp has cut it. ``running``: the equipment runs;
    ``steady``: it also has been left alone for the hold-off.
    """

    slot: Index
    time_ns: NDArray[np.int64]
    value: NDArray[np.float64]
    suspect: NDArray[np.bool_]
    cut: NDArray[np.bool_]
    running: NDArray[np.bool_]
    steady: NDArray[np.bool_]

    def only(self, mask: NDArray[np.bool_]) -> Rows:
        """The rows where *mask* holds; itself where it holds everywhere."""
        at = np.flatnonzero(mask)
        if len(at) == len(mask):
            return self
        return Rows(
            self.slot[at],
            self.time_ns[at],
            self.value[at],
            self.suspect[at],
            self.cut[at],
            self.running[at],
            self.steady[at],
        )


class Changes(NamedTuple):
    """Rows at which a condition began, and at which one was over."""

    began: Index
    over: Index


NOTHING: Final = Changes(np.empty(0, np.intp), np.empty(0, np.intp))


@dataclass(frozen=True, slots=True)
class Judgement:
    """
    What a detector says of n rows, each column of length n.

    A condition begins where ``outside``, and is over where ``inside``; between the two (hysteresis) it stays as it
    is. One that is ``outside`` the other way is another one, and begins anew. ``onset_ns`` counts where it begins.
    """

    outside: NDArray[np.bool_]
    inside: NDArray[np.bool_]
    onset_ns: NDArray[np.int64]
    value: NDArray[np.float64]
    score: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    direction: NDArray[np.int8]
    samples: NDArray[np.int64]


class Conditions(Columns):
    """The present or last condition of each tag under one detector; numbers in the tag's unit, NaN for none."""

    active: NDArray[np.bool_] = column(np.bool_)
    onset_ns: NDArray[np.int64] = column(np.int64)
    last_ns: NDArray[np.int64] = column(np.int64)
    value: NDArray[np.float64] = column(np.float64, np.nan)
    peak: NDArray[np.float64] = column(np.float64, np.nan)
    low: NDArray[np.float64] = column(np.float64, np.nan)
    high: NDArray[np.float64] = column(np.float64, np.nan)
    score: NDArray[np.float64] = column(np.float64)
    direction: NDArray[np.int8] = column(np.int8)
    samples: NDArray[np.int64] = column(np.int64)

    def update(self, slot: Index, time_ns: NDArray[np.int64], said: Judgement) -> Changes:
        """Take a judgement of rows of different tags; the row numbers at which something began or was over."""
        active = self.active[slot]
        if not active.any() and not said.outside.any():
            return NOTHING
        began = said.outside & (~active | (said.direction != self.direction[slot]))
        over = active & said.inside & ~said.outside
        on = began | (active & ~over)
        fresh, live = slot[began], slot[on]
        self.onset_ns[fresh] = said.onset_ns[began]
        self.score[fresh], self.peak[fresh] = -1.0, np.nan
        self.active[fresh] = True
        self.value[live] = said.value[on]
        self.samples[live] = said.samples[on]
        self.last_ns[slot[on | over]] = time_ns[on | over]
        score = np.minimum(np.nan_to_num(said.score, nan=0.0, posinf=HIGHEST_SCORE), HIGHEST_SCORE)
        top = on & (score > self.score[slot])
        worse = slot[top]
        self.score[worse] = score[top]
        self.low[worse] = said.low[top]
        self.high[worse] = said.high[top]
        self.direction[worse] = said.direction[top]
        # scores saturate: the peak is the value furthest the way it went, not the one of the highest score
        peak, way = self.peak[slot], self.direction[slot]
        further = ((way == ROSE) & (said.value > peak)) | ((way == FELL) & (said.value < peak))
        reached = on & (further | ~np.isfinite(peak) | (top & (way != ROSE) & (way != FELL)))
        self.peak[slot[reached]] = said.value[reached]
        self.active[slot[over]] = False
        return Changes(np.flatnonzero(began), np.flatnonzero(over))

    def end(self, slots: Index) -> Index:
        """Declare the conditions of these tags over, at the time they were last seen; those that were active."""
        ended = slots[self.active[slots]]
        self.active[ended] = False
        return ended

    def dump(self) -> dict[str, bytes]:
        """Bytes of the active conditions alone: of one that is over, nothing is used again."""
        at = np.flatnonzero(self.active)
        active = type(self)(len(at))
        for title in self._declared:
            setattr(active, title, getattr(self, title)[at])
        return {"at": at.astype("<i4").tobytes(), **super(Conditions, active).dump()}

    def load(self, saved: dict[str, bytes], size: int) -> None:
        """Inverse of :meth:`dump`. Raises ValueError where the columns do not fit."""
        at = np.frombuffer(saved.get("at", b""), "<i4").astype(np.intp)
        if len(at) and not (at.min() >= 0 and at.max() < size):
            raise ValueError("a condition of a tag that is not there")
        active = type(self)()
        super(Conditions, active).load({title: data for title, data in saved.items() if title != "at"}, len(at))
        super().load({}, size)
        for title in self._declared:
            getattr(self, title)[at] = getattr(active, title)

    def finding(self, slot: int, detector: str, kind: Kind, tag: int) -> Finding:
        """The condition of one tag as it stands."""
        return Finding(
            detector=detector,
            kind=kind,
            tag=tag,
            onset_ns=int(self.onset_ns[slot]),
            at_ns=int(self.last_ns[slot]),
            active=bool(self.active[slot]),
            value=finite(self.value[slot]),
            low=finite(self.low[slot]),
            high=finite(self.high[slot]),
            score=float(self.score[slot]),
            direction=DIRECTIONS[int(self.direction[slot])],
            samples=int(self.samples[slot]),
        )


class Detector:
    """
    What all detectors of single tags share: a name, the kind of what they find, and conditions by slot.

    ``gate`` says when one that is fed rows, points or loops looks: while the equipment runs, or only when steady.
    ``invalidates``: while its condition is active the numbers of the tag say nothing of the process, and nothing but
    signal health looks at them.

    Args:
        own: the detector's own state columns.
    """

    name: str
    kind: Kind
    gate: Literal["running", "steady"] = "steady"
    invalidates = False

    def __init__(self, *own: Columns) -> None:
        self.conditions = Conditions()
        self._own_columns = own

    @property
    def memory(self) -> tuple[Columns, ...]:
        """All state columns, each as long as there are slots: the conditions first. Saved by their place in it."""
        return (self.conditions, *self._own_columns)


#: What a detector that was fed rows answers: slots, and the numbers within them where something began or was over.
Fed = tuple[Index, Changes]
NO_ROWS: Final[Fed] = (np.empty(0, np.intp), NOTHING)


def plain(n: int, direction: int) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Columns of a judgement without a band (NaN) and of one direction, both of length n."""
    return np.full(n, np.nan), np.full(n, direction, np.int8)


def finite(value: float) -> float | None:
    """The number, None where there is none that JSON could hold."""
    return float(value) if np.isfinite(value) else None
