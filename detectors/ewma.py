"""
Mean shift: an EWMA chart over subgroup means, against a baseline learned on the first clean, steady window.

While it learns, a tag keeps at most 128 subgroup means: when they are full, pairs are merged and the subgroup
doubles; beyond 16 samples a subgroup, every second point is dropped instead. A window that gives no usable baseline
(constant, drifting, too slow) is continued from its newer half. The chart then runs on subgroups of the same size and
spacing, so that its points are what the limit was learned on.

A shift that lasts becomes normal: where a second chart, about the mean since the shift and with the learned limit, has
seen nothing but that level for ``relearn_after`` of the tag's time, the condition ends and the tag is learned anew. A
level that goes on drifting begins that time again.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.base import FELL, NOTHING, ROSE, BadState, Changes, Conditions, Judgement, Rows
from detectors.baseline import LAMBDA, correlation, learn, winsorised
from detectors.parameters import Parameters
from schemas.anomaly import Kind
from schemas.columns import Columns, Index, column

_POINTS: Final = 128
_FEWEST_POINTS: Final = 32
_LARGEST_SUBGROUP: Final = 16
#: Values beyond this are no measurements and would overflow a square; they are not learned from.
_HUGE: Final = 1e30
#: One point moves the chart by at most LAMBDA times this many limits, so that a single spike is no shift.
_CUT: Final = 3.0
_BACK: Final = 0.5
_QUIET: Final = 0.5
#: An interval counts for at most this many scans of the clean window.
_LONGEST_SCANS: Final = 10
_GAP_SUBGROUPS: Final = 20
_SHORTEST_GAP_NS: Final = 60_000_000_000


class _Chart(Columns):
    learned: NDArray[np.bool_] = column(np.bool_)
    time_ns: NDArray[np.int64] = column(np.int64)
    sum: NDArray[np.float64] = column(np.float64)
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
    phi: NDArray[np.float64] = column(np.float64)
    # monitoring
    center: NDArray[np.float64] = column(np.float64)
    limit: NDArray[np.float64] = column(np.float64, np.inf)
    level: NDArray[np.float64] = column(np.float64)
    span_ns: NDArray[np.int64] = column(np.int64)
    gap_ns: NDArray[np.int64] = column(np.int64)
    closed_ns: NDArray[np.int64] = column(np.int64)
    quiet_ns: NDArray[np.int64] = column(np.int64)
    # a new level, while shifted
    anchor: NDArray[np.float64] = column(np.float64)  #: mean of its points
    anchored: NDArray[np.int64] = column(np.int64)  #: number of its points
    wander: NDArray[np.float64] = column(np.float64)  #: chart about the anchor
    steady_ns: NDArray[np.int64] = column(np.int64)  #: how long it has stayed there

    def dump(self) -> dict[str, bytes]:
        """Bytes of each column; rows of points are numbered in the order of slots, as they are saved."""
        learning = self.row >= 0
        row = np.where(learning, np.cumsum(learning) - 1, -1)
        return {**super().dump(), "row": row.astype("<i4").tobytes()}


class Ewma:
    """
    Mean-shift detector of every chartable tag.

    Args:
        clean_window_s: how much steady time a baseline needs.
        alarms_per_s: false-alarm budget of one tag.
        relearn_after_s: steady time at a new level after which it is normal.
    """

    name = "ewma"
    kind = Kind.MEAN_SHIFT
    gate = "steady"

    def __init__(self, clean_window_s: float, alarms_per_s: float, relearn_after_s: float) -> None:
        self._window_ns = round(clean_window_s * 1e9)
        self._relearn_ns = round(relearn_after_s * 1e9)
        self._alarms_per_s = alarms_per_s
        self.conditions = Conditions()
        self._chart = _Chart()
        self._points = np.empty((0, _POINTS), np.float32)
        self._free: list[int] = []

    @property
    def memory(self) -> tuple[Columns, ...]:
        """Conditions and charts; the points of learning tags are apart, see :meth:`points`."""
        return (self.conditions, self._chart)

    def points(self) -> bytes:
        """Points of the tags that are learning, in the order of their slots, float32 little endian."""
        rows = self._chart.row[self._chart.row >= 0]
        return self._points[rows].astype("<f4", copy=False).tobytes()

    def load_points(self, saved: bytes) -> None:
        """Inverse of :meth:`points`, after the columns were loaded. Raises BadState where they do not fit."""
        learning = np.flatnonzero(self._chart.row >= 0)
        if len(saved) != len(learning) * _POINTS * 4:
            raise BadState("points of the learning tags do not fit their columns")
        self._points = np.frombuffer(saved, "<f4").astype(np.float32).reshape(-1, _POINTS)
        self._chart.row[learning] = np.arange(len(learning))
        self._free = []

    def relearn(self, slots: Index) -> None:
        """Forget what was learned of these tags."""
        self._release(slots)
        self._chart.reset(slots)

    def pause(self, slots: Index) -> None:
        """The gate of these tags has closed: an unfinished subgroup and the chart's memory do not outlive it."""
        self._chart.sum[slots] = 0.0
        self._chart.shown[slots] = 0.0
        self._chart.count[slots] = 0
        self._chart.level[slots] = 0.0

    def feed(self, rows: Rows, parameters: Parameters, healthy: NDArray[np.bool_]) -> tuple[Index, Changes]:
        """
        Take a round of rows; *healthy* says by slot that nothing else is wrong with the tag.

        Score is the distance from the centre over the limit.
        """
        chart = self._chart
        at = np.flatnonzero(parameters.chart[rows.slot] & rows.steady & np.isfinite(rows.value))
        slot = rows.slot[at]
        knows = chart.learned[slot]
        learns = ~knows & healthy[slot] & (np.abs(rows.value[at]) < _HUGE)
        if learns.any():
            self._learn(slot[learns], rows.time_ns[at[learns]], rows.value[at[learns]], parameters)
        if not knows.any():
            return np.empty(0, np.intp), NOTHING
        return self._watch(slot[knows], rows.time_ns[at[knows]], rows.value[at[knows]])

    def _watch(self, slot: Index, time_ns: NDArray[np.int64], value: NDArray[np.float64]) -> tuple[Index, Changes]:
        chart, limit = self._chart, self._chart.limit[slot]
        apart = time_ns - chart.time_ns[slot]
        chart.time_ns[slot] = time_ns
        hole = (apart > chart.gap_ns[slot]) | (time_ns < chart.closed_ns[slot])
        if hole.any():
            anew = slot[hole]
            chart.sum[anew], chart.shown[anew], chart.count[anew] = 0.0, 0.0, 0
            chart.closed_ns[anew] = time_ns[hole] - chart.span_ns[anew]
            chart.level[anew[~self.conditions.active[anew]]] = 0.0
        bound = _CUT * limit * chart.group[slot]
        with np.errstate(over="ignore"):
            apart_by = value - chart.center[slot]
            chart.sum[slot] += np.clip(apart_by, -bound, bound)
            chart.shown[slot] += np.clip(apart_by, -_HUGE, _HUGE)
        chart.count[slot] += 1
        full = chart.count[slot] >= chart.group[slot]
        full &= time_ns - chart.closed_ns[slot] >= chart.span_ns[slot]
        if not full.any():
            return slot, NOTHING
        slot, time_ns, limit = slot[full], time_ns[full], limit[full]
        samples = chart.count[slot].astype(np.int64)
        mean = np.clip(chart.sum[slot] / samples, -_CUT * limit, _CUT * limit)
        shown = chart.shown[slot] / samples
        passed = np.clip(time_ns - chart.closed_ns[slot], 0, chart.gap_ns[slot])
        chart.sum[slot], chart.shown[slot], chart.count[slot], chart.closed_ns[slot] = 0.0, 0.0, 0, time_ns
        level = chart.level[slot] + LAMBDA * (mean - chart.level[slot])
        quiet = (np.abs(level) < _QUIET * limit) | (np.sign(level) != np.sign(chart.level[slot]))
        chart.level[slot] = level
        chart.quiet_ns[slot[quiet]] = time_ns[quiet]
        center = chart.center[slot]
        said = Judgement(
            outside=np.abs(level) > limit,
            inside=np.abs(level) < _BACK * limit,
            onset_ns=chart.quiet_ns[slot],
            value=center + shown,
            score=np.abs(level) / limit,
            low=center - limit,
            high=center + limit,
            direction=np.where(level > 0, ROSE, FELL).astype(np.int8),
            samples=samples,
        )
        began, over = self.conditions.update(slot, time_ns, said)
        settled = self._settled(slot, passed, mean, shown)
        if len(settled):
            settled = np.setdiff1d(settled, began)
            self.conditions.end(slot[settled])
            self.relearn(slot[settled])
            over = np.union1d(over, settled)
        return slot, Changes(began, over)

    def _settled(
        self, slot: Index, passed: NDArray[np.int64], mean: NDArray[np.float64], shown: NDArray[np.float64]
    ) -> Index:
        """
        Follow the level of shifted tags by one point each; the numbers of those that have stayed long enough.

        A closed gate interrupts that time, a point near the centre while nothing is wrong ends it.
        """
        chart, shifted = self._chart, self.conditions.active[slot]
        normal = ~shifted & (np.abs(mean) < _BACK * chart.limit[slot])
        chart.anchored[slot[normal]] = 0
        at = np.flatnonzero(shifted)
        if len(at) == 0:
            return at
        slot, passed, shown = slot[at], passed[at], shown[at]
        limit, count = chart.limit[slot], chart.anchored[slot] + 1
        step = np.clip(shown - chart.anchor[slot], -_CUT * limit, _CUT * limit)
        wander = chart.wander[slot] + LAMBDA * (step - chart.wander[slot])
        leaves = (count == 1) | (np.abs(wander) > limit)
        chart.anchor[slot] = np.where(leaves, shown, chart.anchor[slot] + step / count)
        chart.anchored[slot] = np.where(leaves, 1, count)
        chart.wander[slot] = np.where(leaves, 0.0, wander)
        chart.steady_ns[slot] = np.where(leaves, 0, chart.steady_ns[slot] + passed)
        return at[chart.steady_ns[slot] >= self._relearn_ns]

    def _learn(
        self, slot: Index, time_ns: NDArray[np.int64], value: NDArray[np.float64], parameters: Parameters
    ) -> None:
        chart = self._chart
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
        chart.skipped[full] += 1
        keep = chart.skipped[full] >= chart.stride[full]
        kept = full[keep]
        chart.skipped[kept] = 0
        self._points[chart.row[kept], chart.filled[kept]] = mean[keep]
        chart.filled[kept] += 1
        ready = (chart.window_ns[kept] >= self._window_ns) & (chart.filled[kept] >= _FEWEST_POINTS)
        for filled in np.unique(chart.filled[kept[ready]]).tolist():
            self._conclude(kept[ready & (chart.filled[kept] == filled)], filled)
        crowded = kept[(chart.row[kept] >= 0) & (chart.filled[kept] >= _POINTS)]
        if len(crowded):
            self._make_room(crowded)

    def _conclude(self, slot: Index, filled: int) -> None:
        """Draw the chart of tags whose window is full, or go on with its newer half."""
        chart = self._chart
        points = np.ascontiguousarray(self._points[chart.row[slot], :filled], np.float64)
        interval_s = chart.window_ns[slot] / chart.samples[slot] * chart.group[slot] / 1e9
        probability = np.clip(self._alarms_per_s * interval_s, 1e-12, 0.01)
        found = learn(points, chart.stride[slot], chart.phi[slot], probability)
        good, other = slot[found.usable], slot[~found.usable]
        if len(good):
            scan_ns = chart.window_ns[good] // chart.samples[good]
            chart.center[good] = chart.reference[good] + found.center[found.usable]
            # A mean closer than half a step of the signal's own resolution is no other mean.
            finest = np.where(np.isfinite(chart.resolution[good]), chart.resolution[good] / 2, 0.0)
            chart.limit[good] = np.maximum(found.limit[found.usable], finest)
            chart.span_ns[good] = (scan_ns * (2 * chart.group[good] - 1)) // 2
            chart.gap_ns[good] = np.maximum(scan_ns * chart.group[good] * _GAP_SUBGROUPS, _SHORTEST_GAP_NS)
            chart.closed_ns[good] = chart.quiet_ns[good] = chart.time_ns[good]
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
        chart = self._chart
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
        chart.group[slot[merge]] *= 2
        chart.stride[slot[thin]] *= 2

    def _reserve(self, slot: Index) -> None:
        need = slot[self._chart.row[slot] < 0]
        more = len(need) - len(self._free)
        if more > 0:
            size = len(self._points)
            grown = max(more, size // 2)
            self._points = np.concatenate([self._points, np.zeros((grown, _POINTS), np.float32)])
            self._free.extend(range(size, size + grown))
        self._chart.row[need] = self._free[: len(need)]
        del self._free[: len(need)]

    def _release(self, slot: Index) -> None:
        rows = self._chart.row[slot]
        self._points[rows[rows >= 0]] = 0.0
        self._free.extend(rows[rows >= 0].tolist())
        self._chart.row[slot] = -1
        if len(self._free) == len(self._points):
            self._points, self._free = np.empty((0, _POINTS), np.float32), []
