"""
Nelson's run rules 2 to 8, on the residuals of the learned AR(1) process. Switched off by default.

Their limits are fixed, so they keep no false-alarm budget: on independent points one of them is broken every hundred
points or so. On the points of a correlated signal itself it would be every few. Rule 1 is Shewhart's.

2. nine points on one side; 3. six rising or falling; 4. fourteen alternating; 5. two of three beyond two sigmas on one
side; 6. four of five beyond one sigma on one side; 7. fifteen within one sigma; 8. eight beyond one sigma, on both
sides.

Source: Nelson (1984), *The Shewhart control chart: tests for special causes*.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.base import FELL, NO_ROWS, ROSE, Detector, Fed, Judgement
from detectors.charts import Charts, Points
from schemas.anomaly import Kind
from schemas.columns import Columns, column

_RULES: Final = (2, 3, 4, 5, 6, 7, 8)
_KEPT: Final = 0xFFFF


class _State(Columns):
    """The last sixteen residuals as bits, the newest lowest."""

    before: NDArray[np.float64] = column(np.float64, np.nan)
    residual: NDArray[np.float64] = column(np.float64)
    points: NDArray[np.int32] = column(np.int32)
    above: NDArray[np.int32] = column(np.int32)
    rising: NDArray[np.int32] = column(np.int32)
    beyond1: NDArray[np.int32] = column(np.int32)
    beyond2: NDArray[np.int32] = column(np.int32)
    rule: NDArray[np.int8] = column(np.int8)


class Nelson(Detector):
    """Run rules."""

    name = "nelson"
    kind = Kind.RUN

    def __init__(self) -> None:
        self._state = _State()
        super().__init__(self._state)

    def rule(self, slot: int) -> int:
        """Number of the rule that was broken last."""
        return int(self._state.rule[slot])

    def feed(self, points: Points, charts: Charts) -> Fed:
        """Score is 1: a rule is broken or not."""
        chart, state, slot = charts.chart, self._state, points.slot
        state.reset(slot[points.broken])
        phi, sigma, before = chart.phi[slot], chart.sigma[slot], state.before[slot]
        state.before[slot] = points.mean
        residual = (points.mean - phi * before) / (sigma * np.sqrt(1 - phi * phi))
        known = ~np.isnan(residual)
        slot, residual = slot[known], residual[known]
        if len(slot) == 0:
            return NO_ROWS
        size = np.abs(residual)
        for name, bit in (
            ("above", residual > 0),
            ("rising", residual > state.residual[slot]),
            ("beyond1", size > 1),
            ("beyond2", size > 2),
        ):
            bits = getattr(state, name)
            bits[slot] = (bits[slot] << 1 | bit) & _KEPT
        state.residual[slot] = residual
        seen = state.points[slot] = np.minimum(state.points[slot] + 1, 1000)
        broken = self._broken(slot, seen)
        said = _judge(slot, residual, points, known, charts)
        said.outside[:] = broken > 0
        said.inside[:] = broken == 0
        state.rule[slot[broken > 0]] = broken[broken > 0]
        return slot, self.conditions.update(slot, points.time_ns[known], said)

    def _broken(self, slot: NDArray[np.intp], seen: NDArray[np.int32]) -> NDArray[np.int8]:
        """Number of the first rule that is broken, 0 for none."""
        state = self._state
        above, rising = state.above[slot], state.rising[slot]
        one, two = state.beyond1[slot], state.beyond2[slot]
        below = ~above & _KEPT
        turns = (rising ^ (rising >> 1)) & 0xFFF

        def count(bits: NDArray[np.int32], n: int) -> NDArray[np.uint8]:
            ones: NDArray[np.uint8] = np.bitwise_count(bits & ((1 << n) - 1)).astype(np.uint8)
            return ones

        rules = {
            2: ((count(above, 9) == 9) | (count(below, 9) == 9)) & (seen >= 9),
            3: ((count(rising, 5) == 5) | (count(rising, 5) == 0)) & (seen >= 6),
            4: (count(turns, 12) == 12) & (seen >= 14),
            5: ((count(two & above, 3) >= 2) | (count(two & below, 3) >= 2)) & (seen >= 3),
            6: ((count(one & above, 5) >= 4) | (count(one & below, 5) >= 4)) & (seen >= 5),
            7: (count(one, 15) == 0) & (seen >= 15),
            8: (count(one, 8) == 8) & (count(above, 8) > 0) & (count(above, 8) < 8) & (seen >= 8),
        }
        found = np.zeros(len(slot), np.int8)
        for number in reversed(_RULES):
            found[rules[number]] = number
        return found


def _judge(
    slot: NDArray[np.intp], residual: NDArray[np.float64], points: Points, known: NDArray[np.bool_], charts: Charts
) -> Judgement:
    center, band = charts.chart.center[slot], charts.chart.sigma[slot]
    no = np.zeros(len(slot), np.bool_)
    return Judgement(
        outside=no.copy(),
        inside=no,
        onset_ns=points.time_ns[known],
        value=center + points.shown[known],
        score=np.ones(len(slot)),
        low=center - band,
        high=center + band,
        direction=np.where(residual > 0, ROSE, FELL).astype(np.int8),
        samples=points.samples[known],
    )
