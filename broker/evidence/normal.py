"""What was normal of a tag before an onset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from broker.evidence.records import Records
from broker.store.rows.records import Window
from schemas.status import Quality, quality, quality_of
from schemas.tagmap import Tag

#: What was normal is taken from this stretch before the onset.
BASELINE_NS: Final = 120_000_000_000
#: A slower tag needs longer for enough samples: so many scans, but not beyond an hour.
BASELINE_SCANS: Final = 20
LONGEST_BASELINE_NS: Final = 3_600_000_000_000
#: The last moments before the onset already belong to it.
GUARD_NS: Final = 2_000_000_000
#: A tag of the same equipment that moved by so many sigmas is a deviation although no detector has spoken yet.
MOVED_SIGMAS: Final = 5.0
#: A tag of the same equipment stayed normal below so many sigmas; of what lies between, nothing is said.
NORMAL_SIGMAS: Final = 3.0
#: Where the newer half of a baseline widens its span so many times, what happened had begun before it was found.
WIDENED: Final = 1.5
#: Fewer good samples than this say nothing about what is normal.
MIN_BASELINE: Final = 8


@dataclass(frozen=True, slots=True)
class Level:
    """Where a tag was before, in its unit: median, spread as of normal noise, lowest and highest."""

    mean: float
    sigma: float
    low: float
    high: float

    def left(self, levels: NDArray[np.float64]) -> NDArray[np.bool_]:
        """
        Which of these are far from what was normal: many sigmas away, and beyond twice the span of the baseline.

        The span guards against slow wander, which a short baseline's sigma does not know.
        """
        span = self.high - self.low
        far = np.abs(levels - self.mean) >= MOVED_SIGMAS * self.sigma
        left: NDArray[np.bool_] = far & ((levels <= self.low - span) | (levels >= self.high + span))
        return left

    def stayed(self, level: float) -> bool:
        """Whether *level* is one of those that were normal."""
        return abs(level - self.mean) < NORMAL_SIGMAS * self.sigma and self.low <= level <= self.high


def baseline_ns(tag: Tag | None) -> int:
    """How long before the onset a tag's normal is looked for."""
    scans_ns = 0 if tag is None else BASELINE_SCANS * tag.scan_ms * 1_000_000
    return min(max(BASELINE_NS, scans_ns), LONGEST_BASELINE_NS)


def baseline(records: Records, path: str, tag: Tag | None, onset_ns: int, upto: int) -> Level | None:
    """What was normal before the onset; of a tag that reports changes only, the last value it reported."""
    deadband = 0.0 if tag is None else tag.deadband
    found = _level(records.window(path, onset_ns - baseline_ns(tag), onset_ns - GUARD_NS, upto=upto))
    if found is not None or deadband <= 0:
        return found
    last = records.last_value(path, onset_ns - GUARD_NS, upto=upto)
    if last is None or last.value is None or quality(last.status) != Quality.GOOD:
        return None
    return Level(last.value, deadband, last.value - deadband, last.value + deadband)


def _level(window: Window) -> Level | None:
    good = window.value[(quality_of(window.status) == Quality.GOOD) & np.isfinite(window.value)]
    if len(good) < MIN_BASELINE:
        return None
    older, step = good[: len(good) // 2], 0.0
    if len(older) >= 2 * MIN_BASELINE and np.ptp(good) > WIDENED * np.ptp(older):
        # a coarse signal that stood still has a next value, and that is no ramp
        step = float(np.diff(np.unique(good)).min())
        good = older
    middle = float(np.median(good))
    # 1.4826 makes the median absolute deviation a sigma for normal noise; a stuck or coarse signal has none
    sigma = 1.4826 * float(np.median(np.abs(good - middle)))
    sigma = max(sigma, float(np.std(good)) * 0.5, abs(middle) * 1e-6, 1e-9, step)
    return Level(middle, sigma, float(good.min()) - step, float(good.max()) + step)
