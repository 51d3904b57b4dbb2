"""
The detectors that are fed with rows, blocks, chart points or windows of them, in the order in which they look.

Signal health comes first: while it finds something on a tag, nothing is learned of it, and what makes its numbers
meaningless keeps them from everything below. :mod:`detectors.panel` puts them in one order with those that look at
ticks; multivariate detection looks last, at ticks as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from detectors.charts import Charts, Points
from detectors.cusum import Cusum
from detectors.ewma import Ewma
from detectors.flatline import Flatline
from detectors.level_shift import LevelShift
from detectors.nelson import Nelson
from detectors.oscillation import Oscillation
from detectors.quantization import Quantization
from detectors.range import Range
from detectors.rate import Rate
from detectors.saturation import Saturation
from detectors.shewhart import Shewhart
from detectors.spike import Spike
from detectors.trend import Trend
from detectors.variance import Variance

__all__ = ["CHARTS", "ROWS", "SHAPES", "Charts", "PointDetector", "Points", "RowDetector", "WindowDetector"]

RowDetector = Range | Rate | Flatline | Spike | Saturation
PointDetector = Shewhart | Ewma | Cusum | Nelson
WindowDetector = LevelShift | Trend | Variance | Oscillation

#: Fed with every row of a tag. Option (``health``) and detector; ``missing``, ``late``, ``stale`` and ``clock`` look at
#: what comes and at ticks instead.
ROWS: Final[dict[str, Callable[[], RowDetector]]] = {
    "out_of_range": Range,
    "rate": Rate,
    "flatline": Flatline,
    "spike": Spike,
    "saturation": Saturation,
}
#: Fed with complete blocks of 16 samples: ``quantization`` alone; ``spike`` and ``saturation`` look at them as well.
BLOCKS: Final[dict[str, Callable[[], Quantization]]] = {"quantization": Quantization}
#: Fed with each point of a tag's chart (``spc``).
CHARTS: Final[dict[str, Callable[[], PointDetector]]] = {
    "shewhart": Shewhart,
    "ewma": Ewma,
    "cusum": Cusum,
    "nelson": Nelson,
}
#: Fed with the last 32 points at every fourth one (``shape``).
SHAPES: Final[dict[str, Callable[[], WindowDetector]]] = {
    "level_shift": LevelShift,
    "trend": Trend,
    "variance": Variance,
    "oscillation": Oscillation,
}
