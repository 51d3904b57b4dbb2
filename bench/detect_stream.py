"""Labelled data through the product's own stages: normalizer and detection, row by row, time passing in ticks."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from detectors.detection import Detection, DetectionOptions
from normalizers.normalizer import Normalizer
from normalizers.options import NormalizerOptions
from schemas.anomaly import Finding
from schemas.entries import Position
from schemas.samples import SampleBatch
from schemas.tagmap import Tag, TagMap

SECOND: Final = 1_000_000_000
#: The tick clock counts an interval for so long at most.
_TICK_S: Final = 10.0
EQUIPMENT: Final = "Bench/Site/Area/Unit"


class Stream:
    """
    One piece of equipment with some tags; ``row`` feeds a row of all of them and lets time pass up to it.

    What is returned is what the detectors saw then: strictly causal, and the same as in service. *tick_s*: longest time
    between two ticks; beyond 10 s what goes by the tick clock (missing, stale, the multivariate detector) runs slower.
    """

    def __init__(self, names: Sequence[str], scan_ms: int, options: DetectionOptions, tick_s: float = _TICK_S) -> None:
        tags = tuple(
            Tag(
                number=i,
                id=name,
                path=f"{EQUIPMENT}/{name.replace(' ', '')}",
                source="bench",
                address=name,
                scan_ms=scan_ms,
                equipment=EQUIPMENT,
            )
            for i, name in enumerate(names)
        )
        self._options = options
        self._map = TagMap(site="Bench/Site", tags=tags)
        self._normalizer, self.detection = Normalizer(NormalizerOptions()), Detection(options)
        self._normalizer.use_map(self._map.revision, self._map)
        self.detection.use_map(self._map.revision, self._map)
        self._numbers = np.arange(len(names), dtype=np.int32)
        self._rows = 0
        self._tick_ns = round(tick_s * SECOND)
        self._wall_ns = 0

    def row(self, time_ns: int, values: NDArray[np.float64]) -> list[Finding]:
        """Conditions that are active when this row has been looked at."""
        if self._wall_ns:
            for tick_ns in range(self._wall_ns + self._tick_ns, time_ns, self._tick_ns):
                self.detection.tick(tick_ns)
        self._rows += 1
        self._wall_ns = time_ns
        times = np.full(len(values), time_ns, np.int64)
        batch = SampleBatch.build(
            "bench", self._map.revision, time_ns, tag=self._numbers, source_ns=times, value=values
        )
        self.detection.records(self._normalizer.step(batch, Position(1, self._rows)))
        self.detection.tick(time_ns)
        return self.detection.active()

    def again(self) -> Self:
        """Another stream that goes on from here."""
        other = copy.copy(self)
        other._normalizer, other.detection = Normalizer(NormalizerOptions()), Detection(self._options)
        other._normalizer.use_map(self._map.revision, self._map)
        other.detection.use_map(self._map.revision, self._map)
        other._normalizer.restore(self._normalizer.state())
        other.detection.restore(self.detection.state())
        return other
