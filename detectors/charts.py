"""
Control charts: subgroup means of each tag, and what is normal for them, learned on the first clean, steady window.

While it learns, a tag keeps at most 128 subgroup means: when they are full, pairs are merged and the subgroup
doubles; beyond 16 samples a subgroup, every second point is dropped instead. A window that shows nothing (a constant
signal) is continued from its newer half; one that is too short for how slowly the signal wanders grows. The chart then
runs on subgroups of the same size and spacing, so that its points are what the limits were learned on. What is done
with the points is the matter of the detectors that are fed with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.base import BadState, Rows
from detectors.baseline import correlation, learn, winsorised
from detectors.options import Budget
from detectors.parameters import Parameters
from schemas.columns import Columns, Index, column

_POINTS: Final = 128
#: Numbers of points at which a baseline is tried: few, because each look is a chance to be fooled by a calm spell.
_LOOKS: Final = (32, 48, 64, 80, 96, 128)
#: A window thinned so far that gives no baseline is continued from its newer half.
_LARGEST_STRIDE: Final = 16
_LARGEST_SUBGROUP: Final = 16
#: Values beyond this are no measurements and would overflow a square; they are not learned from.
_HUGE: Final = 1e30
#: A point is at most so many limits of the EWMA chart from the centre, so that a single spike is no shift.
CUT: Final = 3.0
#: An interval counts for at most this many scans of the clean window.
_LONGEST_SCANS: Final = 10
_GAP_SUBGROUPS: Final = 20
_SHORTEST_GAP_NS: Final = 60_000_000_000


@dataclass(frozen=True, slots=True)
class Points:
    """
    One subgroup mean of each of k tags, as distance from the centre in the tag's unit; columns of length k.

    ``mean`` is made of samples cut at CUT limits each and cut there itself; ``tamed`` of samples of which a single one
    moves it by less than Shewhart's limit; ``shown`` is what people read. ``broken``: a hole or a closed gate lies
    before this point, so that what came before does not lead to it. ``passed_ns`` since the point before.
    """

    slot: Index
    time_ns: NDArray[np.int64]
    mean: NDArray[np.float64]
    tamed: NDArray[np.float64]
    shown: NDArray[np.float64]
    samples: NDArray[np.int64]
    passed_ns: NDArray[np.int64]
    broken: NDArray[np.bool_]


class _Chart(Columns):
    learned: NDArray[np.bool_] = column(np.bool_)
    time_ns: NDArray[np.int64] = column(np.int64)
    sum: NDArray[np.float64] = column(np.float64)
    tamed: NDArray[np.float64] = column(np.float64)
    shown: NDArray[np.float64] = column(np.float64)  #: like sum, not cut: what people read
    count: NDArray[np.int32] = column(np.int32)
    group: NDArray[np.int32] = column(np.int32, 1)
    # learning
    reference: NDArray[np.float64] = column(np.float64, np.nan)
    before: NDArray[np.float64] = column(np.float64, np.nan)
    resolution: NDArray[np.float64] = column(np.float64, np.inf)
    samples: NDArray[np.int64] = column(np.int64)
    window_ns: NDArray[np.int64] = column(np.int64)
    row: NDArray[np.int32] = column(np.int32, -1)
    filled: NDArray[np.int32] = column(np.int32)
    stride: NDArray[np.int32] = column(np.int32, 1)
    skipped: NDArray[np.int32] = column(np.int32)
    last: NDArray[np.float64] = column(np.float64, np.nan)  #: the subgroup mean before
    differences: NDArray[np.int32] = column(np.int32)  #: from one subgroup mean to the next, of the present size
    rough: NDArray[np.float64] = column(np.float64)  #: mean square of them
    # what was learned, of the points
    center: NDArray[np.float64] = column(np.float64)
    sigma: NDArray[np.float64] = column(np.float64, np.inf)
    phi: NDArray[np.float64] = column(np.float64)  #: AR(1) coefficient from one point to the next
    independent: NDArray[np.float64] = column(np.float64, 1.0)  #: points of the window that were worth so many
    freedom: NDArray[np.float64] = column(np.float64, 1.0)  #: of the spread about the centre
    alarm: NDArray[np.float64] = column(np.float64)  #: chance that a point of a healthy signal may alarm, a detector
    limit: NDArray[np.float64] = column(np.float64, np.inf)  #: of the EWMA chart
    wide: NDArray[np.float64] = column(np.float64, np.inf)  #: of a single point
    # monitoring
    span_ns: NDArray[np.int64] = column(np.int64)
    gap_ns: NDArray[np.int64] = column(np.int64)
    closed_ns: NDArray[np.int64] = column(np.int64)
    broken: NDArray[np.bool_] = column(np.bool_, True)

    def dump(self) -> dict[str, bytes]:
        """Bytes of each column; rows of points are numbered in the order of slots, as they are saved."""
        learning = self.row >= 0
        row = np.where(learning, np.cumsum(learning) - 1, -1)
        return {**super().dump(), "row": row.astype("<i4").tobytes()}


class Charts:
    """
    Baselines and subgroup means of every chartable tag.

    Args:
        clean_window_s: how much steady time a baseline needs.
        budget: false alarms that one detector may give.
    """

    def __init__(self, clean_window_s: float, budget: Budget) -> None:
        self._window_ns = round(clean_window_s * 1e9)
        self._budget = budget
        self.chart = _Chart()
        self._points = np.empty((0, _POINTS), np.float32)
        self._free: list[int] = []

    @property
    def memory(self) -> tuple[Columns, ...]:
        """The charts; the points of learning tags are apart, see :meth:`points`."""
        return (self.chart,)

    def points(self) -> bytes:
        """Points of the tags that are learning, in the order of their slots, float32 little endian."""
        rows = self.chart.row[self.chart.row >= 0]
        return self._points[rows].astype("<f4", copy=False).tobytes()

    def load_points(self, saved: bytes) -> None:
        """Inverse of :meth:`points`, after the columns were loaded. Raises BadState where they do not fit."""
        learning = np.flatnonzero(self.chart.row >= 0)
        if len(saved) != len(learning) * _POINTS * 4:
            raise BadState("points of the learning tags do not fit their columns")
        self._points = np.frombuffer(saved, "<f4").astype(np.float32).reshape(-1, _POINTS)
        self.chart.row[learning] = np.arange(len(learning))
        self._free = []

    def relearn(self, slots: Index) -> None:
        """Forget what was learned of these tags."""
        self._release(slots)
        self.chart.reset(slots)

    def pause(self, slots: Index) -> None:
        """The gate of these tags has closed: an unfinished subgroup and what came before do not outlive it."""
        self._drop(slots)
        self.chart.broken[slots] = True
        self.chart.last[slots] = np.nan

    def feed(self, rows: Rows, parameters: Parameters, healthy: Callable[[], NDArray[np.bool_]]) -> Points | None:
        """
        Take a round of rows; the points that they complete.

        *healthy* says by slot that nothing else is wrong with the tag: only then is anything learned. It is asked where
        a tag learns.
        """
        chart = self.chart
        rows = rows.only(parameters.chart[rows.slot] & rows.steady)
        knows = chart.learned[rows.slot]
        if not knows.all():
            learns = rows.only(~knows & healthy()[rows.slot] & (np.abs(rows.value) < _HUGE))
            if len(learns.slot):
                self._learn(learns.slot, learns.time_ns, learns.value, parameters)
            rows = rows.only(knows)
        if len(rows.slot) == 0:
            return None
        return self._watch(rows.slot, rows.time_ns, rows.value)

    def _watch(self, slot: Index, time_ns: NDArray[np.int64], value: NDArray[np.float64]) -> Points | None:
        chart, group = self.chart, self.chart.group[slot]
        closed_ns = chart.closed_ns[slot]
        hole = (time_ns - chart.time_ns[slot] > chart.gap_ns[slot]) | (time_ns < closed_ns)
        chart.time_ns[slot] = time_ns
        if hole.any():
            anew = slot[hole]
            self._drop(anew)
            chart.closed_ns[anew] = time_ns[hole] - chart.span_ns[anew]
            chart.broken[anew] = True
            closed_ns = chart.closed_ns[slot]
        bound = CUT * chart.limit[slot] * group
        tame = chart.wide[slot] * ((group + 1) / 2)
        with np.errstate(over="ignore"):
            apart = value - chart.center[slot]
        chart.sum[slot] += np.minimum(np.maximum(apart, -bound), bound)
        chart.tamed[slot] += np.minimum(np.maximum(apart, -tame), tame)
        chart.shown[slot] += np.minimum(np.maximum(apart, -_HUGE), _HUGE)
        count = chart.count[slot] + 1
        chart.count[slot] = count
        full = (count >= group) & (time_ns - closed_ns >= chart.span_ns[slot])
        if not full.any():
            return None
        slot, time_ns, samples = slot[full], time_ns[full], count[full].astype(np.int64)
        limit = CUT * chart.limit[slot]
        points = Points(
            slot=slot,
            time_ns=time_ns,
            mean=np.clip(chart.sum[slot] / samples, -limit, limit),
            tamed=chart.tamed[slot] / samples,
            shown=chart.shown[slot] / samples,
            samples=samples,
            passed_ns=np.clip(time_ns - closed_ns[full], 0, chart.gap_ns[slot]),
            broken=chart.broken[slot],
        )
        self._drop(slot)
        chart.closed_ns[slot], chart.broken[slot] = time_ns, False
        return points

    def _drop(self, slot: Index) -> None:
        """Forget the unfinished subgroups."""
        chart = self.chart
        chart.sum[slot], chart.tamed[slot], chart.shown[slot], chart.count[slot] = 0.0, 0.0, 0.0, 0

    def _learn(
        self, slot: Index, time_ns: NDArray[np.int64], value: NDArray[np.float64], parameters: Parameters
    ) -> None:
        chart = self.chart
        first = np.isnan(chart.reference[slot])
        if first.any():
            self._reserve(slot[first])
            chart.reference[slot[first]] = value[first]
            chart.before[slot[first]] = value[first]
            chart.time_ns[slot[first]] = time_ns[first]
        passed = np.clip(time_ns - chart.time_ns[slot], 0, _LONGEST_SCANS * parameters.scan_ns[slot])
        chart.time_ns[slot] = time_ns
        chart.window_ns[slot] += passed
        chart.samples[slot] += 1
        step = np.abs(value - chart.before[slot])
        chart.before[slot] = value
        chart.resolution[slot] = np.where(step > 0, np.minimum(step, chart.resolution[slot]), chart.resolution[slot])
        chart.sum[slot] += value - chart.reference[slot]
        chart.count[slot] += 1
        full = slot[chart.count[slot] >= chart.group[slot]]
        if len(full) == 0:
            return
        mean = chart.sum[full] / chart.count[full]
        chart.sum[full], chart.count[full] = 0.0, 0
        self._compare(full, mean)
        chart.skipped[full] += 1
        keep = chart.skipped[full] >= chart.stride[full]
        kept = full[keep]
        chart.skipped[kept] = 0
        self._points[chart.row[kept], chart.filled[kept]] = mean[keep]
        chart.filled[kept] += 1
        ready = (chart.window_ns[kept] >= self._window_ns) & np.isin(chart.filled[kept], _LOOKS)
        for filled in np.unique(chart.filled[kept[ready]]).tolist():
            self._conclude(kept[ready & (chart.filled[kept] == filled)], filled, parameters)
        crowded = kept[(chart.row[kept] >= 0) & (chart.filled[kept] >= _POINTS)]
        if len(crowded):
            self._make_room(crowded)

    def _compare(self, slot: Index, mean: NDArray[np.float64]) -> None:
        """Follow the differences from one subgroup mean to the next."""
        chart = self.chart
        apart = mean - chart.last[slot]
        chart.last[slot] = mean
        known = ~np.isnan(apart)
        slot, square = slot[known], apart[known] ** 2
        count = np.minimum(chart.differences[slot] + 1, 2**30)
        chart.differences[slot] = count
        chart.rough[slot] += (square - chart.rough[slot]) / count

    def _conclude(self, slot: Index, filled: int, parameters: Parameters) -> None:
        """Draw the chart of tags whose window is full, or go on with its newer half."""
        chart = self.chart
        points = np.ascontiguousarray(self._points[chart.row[slot], :filled], np.float64)
        interval_s = chart.window_ns[slot] / chart.samples[slot] * chart.group[slot] / 1e9
        probability = np.clip(self._budget.per_s(parameters.charted[slot]) * interval_s, 1e-12, 0.01)
        found = learn(points, chart.stride[slot], chart.phi[slot], probability)
        good = slot[found.usable]
        other = slot[~found.usable & ((chart.stride[slot] >= _LARGEST_STRIDE) | ~found.varies)]
        if len(good):
            scan_ns = chart.window_ns[good] // chart.samples[good]
            chart.center[good] = chart.reference[good] + found.center[found.usable]
            # A mean closer than three quarters of a step of the signal's own resolution is no other mean: some equal
            # samples running are nothing strange on a signal of few values.
            finest = np.where(np.isfinite(chart.resolution[good]), 0.75 * chart.resolution[good], 0.0)
            chart.limit[good] = np.maximum(found.limit[found.usable], finest)
            chart.wide[good] = np.maximum(found.wide[found.usable], 2 * finest)
            chart.sigma[good] = np.maximum(found.sigma[found.usable], finest / 3)
            chart.phi[good], chart.independent[good] = found.phi[found.usable], found.independent[found.usable]
            chart.freedom[good], chart.alarm[good] = found.freedom[found.usable], probability[found.usable]
            chart.span_ns[good] = (scan_ns * (2 * chart.group[good] - 1)) // 2
            chart.gap_ns[good] = np.maximum(scan_ns * chart.group[good] * _GAP_SUBGROUPS, _SHORTEST_GAP_NS)
            chart.closed_ns[good] = chart.time_ns[good]
            chart.learned[good] = True
            self._release(good)
        if len(other):
            half = filled // 2
            rows = chart.row[other]
            self._points[rows, : filled - half] = self._points[rows, half:filled]
            chart.filled[other] = filled - half
            chart.window_ns[other] //= 2
            chart.samples[other] = np.maximum(chart.samples[other] // 2, 1)
            chart.phi[other] = 0.0

    def _make_room(self, slot: Index) -> None:
        """Halve the points of tags whose 128 places are taken."""
        chart = self.chart
        rows = chart.row[slot]
        points = self._points[rows].astype(np.float64)
        merge = chart.group[slot] < _LARGEST_SUBGROUP
        pairs = (points[:, 0::2] + points[:, 1::2]) / 2
        thin = ~merge
        if thin.any():
            deviation = winsorised(points[thin])[1]
            chart.phi[slot[thin]] = np.maximum(chart.phi[slot[thin]], correlation(deviation, chart.stride[slot[thin]]))
        self._points[rows, : _POINTS // 2] = np.where(merge[:, None], pairs, points[:, 1::2])
        chart.filled[slot] = _POINTS // 2
        merged = slot[merge]
        chart.group[merged] *= 2
        chart.stride[slot[thin]] *= 2
        if len(merged):
            self._compare_anew(merged, pairs[merge])

    def _compare_anew(self, slot: Index, pairs: NDArray[np.float64]) -> None:
        """The differences of larger subgroups are others: of those that are kept, float64[k, n], they are known."""
        chart = self.chart
        apart = np.diff(pairs, axis=1)
        # A difference of two pairs is made of three steps, and its square at most four times theirs: what is more
        # comes from places where the gate had closed between two points.
        chart.rough[slot] = np.minimum((apart * apart).mean(axis=1), 4 * chart.rough[slot])
        chart.differences[slot] = np.minimum(chart.differences[slot] // 2, apart.shape[1])
        chart.last[slot] = pairs[:, -1]

    def _reserve(self, slot: Index) -> None:
        need = slot[self.chart.row[slot] < 0]
        more = len(need) - len(self._free)
        if more > 0:
            size = len(self._points)
            grown = max(more, size // 2)
            self._points = np.concatenate([self._points, np.zeros((grown, _POINTS), np.float32)])
            self._free.extend(range(size, size + grown))
        self.chart.row[need] = self._free[: len(need)]
        del self._free[: len(need)]

    def _release(self, slot: Index) -> None:
        rows = self.chart.row[slot]
        self._points[rows[rows >= 0]] = 0.0
        self._free.extend(rows[rows >= 0].tolist())
        self.chart.row[slot] = -1
        if len(self._free) == len(self._points):
            self._points, self._free = np.empty((0, _POINTS), np.float32), []
