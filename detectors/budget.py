"""How many false alarms the configured budget allows in a week, detector by detector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

import numpy as np

from detectors.multivariate_told import Told
from detectors.options import DetectionOptions
from detectors.parameters import equipment_of, is_chartable
from detectors.slow_trend import SlowTrend, chance_a_day
from schemas.tagmap import Tag

WEEK_S: Final = 604_800.0
#: Its limits are fixed, whatever the budget is.
_NO_BUDGET: Final = "nelson"


def weekly(options: DetectionOptions, tags: Iterable[Tag]) -> dict[str, float]:
    """
    False alarms a week that healthy *tags* may give together, by the name of each detector that keeps a budget.

    Signal health and loop checks keep none: they look for what healthy tags do not do at all.
    """
    if not options.enabled:
        return {}
    charted = np.array(list(Counter(equipment_of(tag) for tag in tags if is_chartable(tag)).values()), np.intp)
    share = float((charted * options.chart_budget().per_s(charted)).sum()) * WEEK_S
    found = {name: share for name in options.charts() if name != _NO_BUDGET}
    if options.slow_trend:
        found[SlowTrend.name] = float(charted.sum()) * chance_a_day(options.alarms_per_s()) * 7
    if options.multivariate.enabled:
        found[Told.name] = float(np.count_nonzero(charted > 1)) * options.multivariate.alarms_per_s() * WEEK_S
    return found
