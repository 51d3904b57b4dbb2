"""
Slow trend: over weeks a tag drifts, and when it will reach the end of its range.

The stage keeps hourly means (the hours of the roll-ups, sampled at ticks) and up to 42 daily means of them. At the end
of each UTC day a line is laid through the days; its error is inflated for the correlation of what it leaves. From
slope, error and range follows when the limit is reached, and how uncertain that is.

A tag that all but only ever rises from sample to sample is a totaliser, and nothing is told of it: that it rises is
what it is for. But a signal with a deadband or a coarse step may drift without a fall, so that this holds only where
the map does not speak against it, by a range or a unit of which there are no totals.

A tag that told nothing on the day before is not looked at; its condition is over when too few of its days are left.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.base import FELL, ROSE, TINY, Detector, Judgement
from detectors.baseline import student, two_sided
from detectors.parameters import Parameters
from schemas.anomaly import Kind
from schemas.columns import Columns, Index, column

_SAMPLE_NS: Final = 10_000_000_000
_HOUR_NS: Final = 3_600_000_000_000
_HOURS: Final = 24
DAYS: Final = 42
#: An hour needs so many samples, a day so many hours, a line so many days.
_SAMPLES: Final = 6
_FEWEST_HOURS: Final = 6
_FEWEST_DAYS: Final = 10
#: A line is looked at once a day, and reported below this chance at most.
_CHANCE: Final = 1e-4
#: A change over the window smaller than so many spreads of the days is of no use to anyone.
_WORTH: Final = 3.0
_BACK: Final = 0.5
#: A limit further away than this is not named.
_FARTHEST_DAYS: Final = 365.0
_HUGE: Final = 1e30
#: Where fewer than one move in so many is a fall the tag may be a totaliser; now and then one is reset, or rolls over.
_FALLS: Final = 100


class _State(Columns):
    sum: NDArray[np.float64] = column(np.float64)
    samples: NDArray[np.int32] = column(np.int32)
    day_sum: NDArray[np.float64] = column(np.float64)
    hours: NDArray[np.int8] = column(np.int8)
    days: NDArray[np.float32] = column(np.float32, np.nan, width=DAYS)  #: means about the reference, the newest last
    reference: NDArray[np.float64] = column(np.float64, np.nan)
    before: NDArray[np.float64] = column(np.float64, np.nan)  #: the sample before
    rises: NDArray[np.int64] = column(np.int64)  #: from sample to sample
    falls: NDArray[np.int64] = column(np.int64)
    slope: NDArray[np.float64] = column(np.float64)  #: per day
    soonest: NDArray[np.float64] = column(np.float64, np.nan)  #: days until the limit
    latest: NDArray[np.float64] = column(np.float64, np.nan)


def chance_a_day(alarms_per_s: float) -> float:
    """Of a false alarm of one tag: its budget of so many a second, or less."""
    return min(alarms_per_s * _HOURS * _HOUR_NS / 1e9, _CHANCE)


class SlowTrend(Detector):
    """Drift over weeks."""

    name = "slow_trend"
    kind = Kind.SLOW_TREND

    def __init__(self, alarms_per_s: float) -> None:
        self._chance = chance_a_day(alarms_per_s)
        self._state = _State()
        super().__init__(self._state)
        self.sampled_ns = 0
        self.hour = 0

    def outlook(self, slot: int) -> tuple[float, float, float]:
        """Slope a day, and in how many days the limit is reached: soonest and latest; NaN where it is not."""
        state = self._state
        return float(state.slope[slot]), float(state.soonest[slot]), float(state.latest[slot])

    def tick(
        self, wall_ns: int, parameters: Parameters, row_value: NDArray[np.float64], usable: NDArray[np.bool_]
    ) -> Index:
        """Take the last values of *usable* slots; those whose condition begins or is over, at the end of a day."""
        nothing = np.empty(0, np.intp)
        if 0 <= wall_ns - self.sampled_ns < _SAMPLE_NS:
            return nothing
        self.sampled_ns = wall_ns
        state = self._state
        hour = wall_ns // _HOUR_NS
        changed = nothing
        if hour != self.hour:
            if self.hour:
                self._end_hour()
                if hour // _HOURS != self.hour // _HOURS:
                    changed = self._end_day(wall_ns, parameters, int(hour // _HOURS - self.hour // _HOURS))
            self.hour = int(hour)
        slot = np.flatnonzero(usable & parameters.chart & (np.abs(row_value) < _HUGE))
        fresh = slot[np.isnan(state.reference[slot])]
        state.reference[fresh] = row_value[fresh]
        state.sum[slot] += row_value[slot] - state.reference[slot]
        state.samples[slot] += 1
        state.rises[slot] += row_value[slot] > state.before[slot]
        state.falls[slot] += row_value[slot] < state.before[slot]
        state.before[slot] = row_value[slot]
        return changed

    def _end_hour(self) -> None:
        state = self._state
        slot = np.flatnonzero(state.samples >= _SAMPLES)
        state.day_sum[slot] += state.sum[slot] / state.samples[slot]
        state.hours[slot] += 1
        state.sum[:], state.samples[:] = 0.0, 0

    def _end_day(self, wall_ns: int, parameters: Parameters, passed: int) -> Index:
        state = self._state
        steps = min(max(passed, 1), DAYS)
        state.days[:, :-steps] = state.days[:, steps:].copy()
        state.days[:, -steps:] = np.nan
        full = state.hours >= _FEWEST_HOURS
        state.days[full, -steps] = state.day_sum[full] / state.hours[full]
        state.day_sum[:], state.hours[:] = 0.0, 0
        there = np.isfinite(state.days)
        enough = (there.sum(axis=1) >= _FEWEST_DAYS) & parameters.chart
        changed = self.conditions.end(np.flatnonzero(~enough))
        slot = np.flatnonzero(enough & there[:, -1])
        if len(slot):
            changed = np.union1d(changed, self._judge(slot, wall_ns, parameters))
        return changed

    def relearn(self, slots: Index, time_ns: int) -> Index:
        """Forget the days of these tags; those whose condition is over with it, at *time_ns*."""
        ended = self.conditions.end(slots)
        self.conditions.last_ns[ended] = np.maximum(self.conditions.last_ns[ended], time_ns)
        self._state.reset(slots)
        return ended

    def _judge(self, slot: Index, wall_ns: int, parameters: Parameters) -> Index:
        state = self._state
        days = state.days[slot].astype(np.float64)
        there = np.isfinite(days)
        n = there.sum(axis=1)
        run = np.where(there, np.arange(DAYS) - (DAYS - 1.0), 0.0)
        y = np.where(there, days, 0.0)
        mean_x, mean_y = run.sum(axis=1) / n, y.sum(axis=1) / n
        x = np.where(there, run - mean_x[:, None], 0.0)
        squares = (x * x).sum(axis=1)
        slope = (x * y).sum(axis=1) / squares
        rest = np.where(there, y - mean_y[:, None] - slope[:, None] * x, 0.0)
        power = (rest * rest).sum(axis=1)
        lag = (rest[:, 1:] * rest[:, :-1]).sum(axis=1) / np.maximum(power, TINY)
        phi = np.clip(lag + (1 + 3 * np.maximum(lag, 0)) / n, 0.0, 0.9)
        independent = np.maximum(n * (1 - phi) / (1 + phi), 3.0)
        spread = np.sqrt(power / (n - 2))
        error = spread / np.sqrt(squares) * np.sqrt((1 + phi) / (1 - phi))
        limit = student(two_sided(np.full(len(slot), self._chance)), independent - 2) * error
        limit = np.maximum(limit, TINY)
        level = mean_y - slope * mean_x
        length = np.where(there, -run, 0.0).max(axis=1)
        size = np.abs(slope)
        falls, rises = state.falls[slot], state.rises[slot]
        drifts = ~parameters.may_total[slot] | ((falls > 0) & (falls * _FALLS >= rises))
        outside = drifts & (size > limit) & (size * length > _WORTH * spread)
        self._outlook(slot, state.reference[slot] + level, slope, error, parameters)
        state.slope[slot] = slope
        sigma = state.reference[slot] + level - slope * length
        said = Judgement(
            outside=outside,
            inside=(size < _BACK * limit) | (~drifts & (rises > 0)),
            onset_ns=wall_ns - (length * _HOURS * _HOUR_NS).astype(np.int64),
            value=state.reference[slot] + level,
            score=size / limit,
            low=sigma - limit * length,
            high=sigma + limit * length,
            direction=np.where(slope > 0, ROSE, FELL).astype(np.int8),
            samples=n.astype(np.int64),
        )
        changes = self.conditions.update(slot, np.full(len(slot), wall_ns, np.int64), said)
        return slot[np.union1d(changes.began, changes.over)]

    def _outlook(
        self,
        slot: Index,
        level: NDArray[np.float64],
        slope: NDArray[np.float64],
        error: NDArray[np.float64],
        parameters: Parameters,
    ) -> None:
        """Days until the range ends, with the slope's error twice to both sides."""
        state = self._state
        ahead = np.where(slope > 0, parameters.high[slot] - level, level - parameters.low[slot])
        size = np.abs(slope)
        with np.errstate(divide="ignore", invalid="ignore"):
            soonest = np.maximum(ahead, 0.0) / (size + 2 * error)
            latest = np.where(size > 2 * error, np.maximum(ahead, 0.0) / (size - 2 * error), np.inf)
        named = np.isfinite(ahead) & (soonest < _FARTHEST_DAYS)
        state.soonest[slot] = np.where(named, soonest, np.nan)
        state.latest[slot] = np.where(named, latest, np.nan)
