"""
Extreme: further out than the tag's own highest (lowest) values so far explain.

It assumes nothing of the body of the signal: bursts, daily patterns and slow wander, for which no chart can be drawn,
have tails as well. Kept are the ten highest and lowest of the peaks of blocks of eight samples. Above the tenth one a
tail is taken to be exponential; its mean is known from nine excesses only, so that the chance of a value beyond it is
that of a Pareto tail. A value is told where values as far out would come more seldom than the budget allows.

What was told becomes known as well: a level that lasts is as usual as any other after ten blocks, and a peak that comes
again is seldom news, for four weeks: what has not been seen for so long is told again. A hole in the data adds nothing
to the time that was watched.

Source: Pickands (1975), peaks over threshold; Siffer et al. (2017), *Anomaly detection in streams with extreme value
theory*, for its use on streams.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.base import FELL, NO_ROWS, ROSE, Detector, Fed, Judgement, Rows
from detectors.options import Budget
from detectors.parameters import Parameters
from schemas.anomaly import Kind
from schemas.columns import Columns, Index, column

#: Peaks kept on each side.
_KEPT: Final = 10
#: Samples of which one peak is taken, so that one excursion is not ten peaks.
_BLOCK: Final = 8
#: Blocks before anything is judged.
_KNOWN: Final = 2 * _KEPT
#: Fewer different peaks are those of a signal of few values, which has no tail.
_DIFFERENT: Final = 4
#: Values beyond this are no measurements, and would overflow.
_HUGE: Final = 1e30
#: A tail narrower than this part of the value is the number format's.
_FINEST: Final = 1e-9
_LONGEST_SCANS: Final = 10
#: A peak is known for so long: four of the weeks by which people and plants repeat what they do.
_MEMORY_NS: Final = 28 * 86_400_000_000_000
_MINUTE_NS: Final = 60_000_000_000


class _State(Columns):
    time_ns: NDArray[np.int64] = column(np.int64)
    watched_ns: NDArray[np.int64] = column(np.int64)
    blocks: NDArray[np.int32] = column(np.int32)
    count: NDArray[np.int8] = column(np.int8)  #: samples of the present block
    top: NDArray[np.float64] = column(np.float64, -np.inf)  #: its highest value
    bottom: NDArray[np.float64] = column(np.float64, -np.inf)  #: its lowest value, negated like all of its side
    high: NDArray[np.float64] = column(np.float64, -np.inf, _KEPT)
    low: NDArray[np.float64] = column(np.float64, -np.inf, _KEPT)
    high_min: NDArray[np.int32] = column(np.int32, 0, _KEPT)  #: minute of the watched time of each; 0: older state
    low_min: NDArray[np.int32] = column(np.int32, 0, _KEPT)
    # of the tails: where they begin, and their mean excess; infinite where nothing is known
    high_from: NDArray[np.float64] = column(np.float64, np.inf)
    high_mean: NDArray[np.float64] = column(np.float64)
    low_from: NDArray[np.float64] = column(np.float64, np.inf)
    low_mean: NDArray[np.float64] = column(np.float64)


class Extreme(Detector):
    """
    Peaks over threshold, both ways.

    Args:
        clean_window_s: time that is watched before anything is judged.
        budget: false alarms that this detector may give.
    """

    name = "extreme"
    kind = Kind.EXTREME

    def __init__(self, clean_window_s: float, budget: Budget) -> None:
        self._window_ns = round(clean_window_s * 1e9)
        self._budget = budget
        self._state = _State()
        super().__init__(self._state)

    def feed(self, rows: Rows, parameters: Parameters, healthy: NDArray[np.bool_]) -> Fed:
        """Score is 1 at the limit, and one more for each tenth part of its chance; the band is what is known."""
        at = np.flatnonzero(parameters.chart[rows.slot] & rows.steady)
        if len(at) == 0:
            return NO_ROWS
        slot, time_ns, value = rows.slot[at], rows.time_ns[at], np.clip(rows.value[at], -_HUGE, _HUGE)
        said = self._judge(slot, time_ns, value, parameters)
        self._learn(slot, time_ns, value, healthy[slot], parameters)
        return NO_ROWS if said is None else (slot, self.conditions.update(slot, time_ns, said))

    def _judge(
        self, slot: Index, time_ns: NDArray[np.int64], value: NDArray[np.float64], parameters: Parameters
    ) -> Judgement | None:
        state = self._state
        rose, fell = value - state.high_from[slot], -value - state.low_from[slot]
        excess = np.maximum(rose, fell)
        if not (excess > 0).any() and not self.conditions.active[slot].any():
            return None
        up = rose >= fell
        mean = np.where(up, state.high_mean[slot], state.low_mean[slot])
        known = (excess > 0) & (mean > 0)
        beyond = np.where(known, excess, 0.0) / np.where(known, mean, 1.0)
        freedom = _KEPT - 1
        # expected number of such values in the time of the budget's one, as a power of ten
        side_per_s = self._budget.per_s(parameters.charted[slot]) / 2
        remembered_s = np.clip(state.watched_ns[slot], 1, _MEMORY_NS) / 1e9
        seldom = np.log10(remembered_s * side_per_s / _KEPT)
        score = 1 + seldom + freedom * np.log1p(beyond / freedom) / np.log(10)
        return Judgement(
            outside=known & (score >= 1),
            inside=excess <= 0,
            onset_ns=time_ns,
            value=value,
            score=np.where(known, score, 0.0),
            low=-state.low_from[slot],
            high=state.high_from[slot],
            direction=np.where(up, ROSE, FELL).astype(np.int8),
            samples=np.ones(len(slot), np.int64),
        )

    def _learn(
        self,
        slot: Index,
        time_ns: NDArray[np.int64],
        value: NDArray[np.float64],
        healthy: NDArray[np.bool_],
        parameters: Parameters,
    ) -> None:
        state = self._state
        if not healthy.all():
            slot, time_ns, value = slot[healthy], time_ns[healthy], value[healthy]
        passed = np.clip(time_ns - state.time_ns[slot], 0, _LONGEST_SCANS * parameters.scan_ns[slot])
        state.watched_ns[slot] += np.where(state.time_ns[slot] > 0, passed, 0)
        state.time_ns[slot] = time_ns
        state.top[slot] = np.maximum(state.top[slot], value)
        state.bottom[slot] = np.maximum(state.bottom[slot], -value)
        count = state.count[slot] + 1
        done = count >= _BLOCK
        state.count[slot] = np.where(done, 0, count)
        slot = slot[done]
        if len(slot) == 0:
            return
        state.blocks[slot] = np.minimum(state.blocks[slot] + 1, 2**30)
        known = (state.blocks[slot] >= _KNOWN) & (state.watched_ns[slot] >= self._window_ns)
        minute = (state.watched_ns[slot] // _MINUTE_NS).astype(np.int32)
        for kept, seen, peak, begin, mean in (
            (state.high, state.high_min, state.top, state.high_from, state.high_mean),
            (state.low, state.low_min, state.bottom, state.low_from, state.low_mean),
        ):
            _keep(kept, seen, slot, peak[slot], minute)
            peak[slot] = -np.inf
            # while places of forgotten peaks are empty, the tail is what it was
            full = slot[known & (kept[slot].min(axis=1) > -np.inf)]
            begin[full], mean[full] = _tail(kept[full])


def _keep(
    kept: NDArray[np.float64],
    seen: NDArray[np.int32],
    slot: Index,
    peak: NDArray[np.float64],
    minute: NDArray[np.int32],
) -> None:
    """Forget what is too long ago, and put each peak into the place of the smallest kept one, where it is larger."""
    peaks, minutes = kept[slot], seen[slot]
    minutes = np.where(minutes == 0, minute[:, None], minutes)
    peaks[minute[:, None] - minutes > _MEMORY_NS // _MINUTE_NS] = -np.inf
    rows, least = np.arange(len(slot)), peaks.argmin(axis=1)
    larger = peak > peaks[rows, least]
    peaks[rows[larger], least[larger]] = peak[larger]
    minutes[rows[larger], least[larger]] = minute[larger]
    kept[slot], seen[slot] = peaks, minutes


def _tail(kept: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the tail begins (infinite: it has none) and its mean excess, float64[k] each, of float64[k, 10] peaks."""
    ordered = np.sort(kept, axis=1)
    begin = ordered[:, 0]
    mean = (ordered[:, 1:] - begin[:, None]).mean(axis=1)
    different = (np.diff(ordered, axis=1) > 0).sum(axis=1) + 1
    usable = (different >= _DIFFERENT) & (mean > _FINEST * np.abs(begin))
    return np.where(usable, begin, np.inf), np.where(usable, mean, 0.0)
