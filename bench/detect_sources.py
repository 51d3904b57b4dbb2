"""
The second part of ``detect-plant``: faults between the plant and its reader, each in a plant of its own.

The source with the fault brings batches of its own, as its adapter would; what the others bring comes together. A
fault is found when a detector that looks for it is a member of an anomaly on the equipment of its source; every anomaly
on other equipment, and every one that opens after the fault, is counted as false.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, get_args

import numpy as np

from bench.plant_fleet import SECOND, T0, copies, plant_of, signal_of, unit_of
from detectors.detection import Detection, DetectionOptions
from normalizers.normalizer import Normalizer
from normalizers.options import NormalizerOptions
from schemas.anomaly import Anomaly
from schemas.entries import Position
from schemas.samples import SampleBatch
from schemas.status import BAD_NO_COMMUNICATION
from schemas.tagmap import TagMap
from simulators.plant import Plant
from simulators.source_faults import Arrived, SourceFault, SourceFaultKind, SourceSide

#: Who has to find each: device times that stand still; rows older than what was shown; numbers that cannot be; silence.
LOOKED_FOR_BY: Final[dict[SourceFaultKind, frozenset[str]]] = {
    "frozen_clock": frozenset({"stale", "clock"}),
    "late_batch": frozenset({"late"}),
    "byte_swap": frozenset({"range", "extreme", "level_shift"}),
    "plc_reboot": frozenset({"missing"}),
    "network_cut": frozenset({"missing"}),
}
#: A fault begins at a seeded time in this span; shortest and longest time that it lasts.
_EARLIEST_S: Final = 1200
_SPAN_S: Final = 900
_LASTS_S: Final[dict[SourceFaultKind, tuple[int, int]]] = {
    "frozen_clock": (300, 600),
    "late_batch": (300, 600),
    "byte_swap": (300, 600),
    "plc_reboot": (60, 120),
    "network_cut": (120, 600),
}
#: What a fault leaves behind is looked for so long.
_AFTER_S: Final = 900
_OTHERS: Final = "others"


class SourceFleet:
    """Plants read through their sources under one detection; ``told`` has every revision with its second."""

    def __init__(self, plants: Sequence[SourceSide], site: TagMap, options: DetectionOptions) -> None:
        self.told: list[tuple[int, Anomaly]] = []
        self._plants = plants
        bare = copies(site, len(plants))
        width = len(site.tags)
        self._numbers = {signal_of(tag.path): tag.number for tag in site.tags}
        self._width = width
        faulty = [_units(side) for side in plants]
        sources = [
            f"{tag.number // width}" if unit_of(tag.equipment or tag.path.rpartition("/")[0]) in units else _OTHERS
            for tag, units in zip(bare.tags, (units for units in faulty for _ in range(width)), strict=True)
        ]
        tags = tuple(tag.model_copy(update={"source": of}) for tag, of in zip(bare.tags, sources, strict=True))
        self._map = bare.model_copy(update={"tags": tags})
        self._normalizer, self._detection = Normalizer(NormalizerOptions()), Detection(options)
        self._normalizer.use_map(self._map.revision, self._map)
        self._detection.use_map(self._map.revision, self._map)

    def until(self, seconds: int) -> None:
        """Let the plants run so long; a batch of each source, and a tick, come each second."""
        for second in range(1, seconds + 1):
            now_ns = T0 + second * SECOND
            shared: list[tuple[int, Arrived]] = []
            for plant, side in enumerate(self._plants):
                for source, rows in side.scan(second).items():
                    own = side.fault is not None and source == side.fault.source
                    placed = [(plant, row) for row in rows if row.signal in self._numbers]
                    if not own:
                        shared += placed
                    elif placed:
                        self._feed(f"{plant}", placed, second, now_ns)
            self._feed(_OTHERS, shared, second, now_ns)
            self.told += [(second, anomaly) for anomaly in self._detection.tick(now_ns)]

    def _feed(self, source: str, rows: Sequence[tuple[int, Arrived]], second: int, now_ns: int) -> None:
        batch = SampleBatch.build(
            source,
            self._map.revision,
            now_ns,
            tag=[plant * self._width + self._numbers[row.signal] for plant, row in rows],
            source_ns=[T0 + round(row.device_s * SECOND) for _, row in rows],
            value=[row.value for _, row in rows],
            status=[0 if row.good else BAD_NO_COMMUNICATION for _, row in rows],
        )
        self._detection.records(self._normalizer.step(batch, Position(1, second)))


def _units(side: SourceSide) -> tuple[str, ...]:
    return () if side.fault is None else side.fault.equipment


def source_fault(kind: SourceFaultKind, seed: int) -> SourceFault:
    """A fault at seeded times."""
    rng = np.random.default_rng([seed, *kind.encode()])
    start = _EARLIEST_S + int(rng.integers(0, _SPAN_S))
    return SourceFault(kind, start, start + int(rng.integers(*_LASTS_S[kind])))


def source_runs(
    seeds: Sequence[int], options: DetectionOptions, site: TagMap
) -> list[tuple[SourceFault, list[tuple[int, Anomaly]]]]:
    """Every kind with every seed, each in a plant of its own: the fault, and what was told of that plant."""
    faults = [(seed, source_fault(kind, seed)) for kind in get_args(SourceFaultKind) for seed in seeds]
    fleet = SourceFleet([SourceSide(Plant(seed), fault) for seed, fault in faults], site, options)
    fleet.until(_EARLIEST_S + _SPAN_S + max(long for _, long in _LASTS_S.values()) + _AFTER_S)
    told: list[list[tuple[int, Anomaly]]] = [[] for _ in faults]
    for second, anomaly in fleet.told:
        told[plant_of(anomaly.equipment)].append((second, anomaly))
    return [(fault, told[place]) for place, (_, fault) in enumerate(faults)]


def delay(fault: SourceFault, told: Sequence[tuple[int, Anomaly]]) -> tuple[int | None, str]:
    """After how many seconds who looks for it was a member on its equipment, and all members of that revision."""
    wanted = LOOKED_FOR_BY[fault.kind]
    for second, anomaly in told:
        members = {member.detector for member in anomaly.members}
        at_home = unit_of(anomaly.equipment) in fault.equipment
        if at_home and second >= fault.start_s and anomaly.onset_ns < T0 + fault.end_s * SECOND and members & wanted:
            return second - int(fault.start_s), ", ".join(sorted(members))
    return None, ""


def false_ones(fault: SourceFault, told: Sequence[tuple[int, Anomaly]]) -> tuple[int, int]:
    """Anomalies that opened before the fault; and those on other equipment, or after it."""
    opened = [(second, unit_of(anomaly.equipment)) for second, anomaly in told if anomaly.revision == 0]
    before = sum(second < fault.start_s for second, _ in opened)
    return before, sum(
        second >= fault.start_s and (unit not in fault.equipment or second > fault.end_s + COUNTED_S)
        for second, unit in opened
    )


#: What is counted by the minute is told up to so much later.
COUNTED_S: Final = 60
