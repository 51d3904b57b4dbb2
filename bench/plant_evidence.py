"""
The annotators on the simulated plant's faults, with evidence made by the product's own detectors and rows.

Each fault of the plant's catalogue runs with every seed in a plant of its own. Of each anomaly on the equipment that
the fault belongs to, one seeded revision is asked about: early ones hold few facts, late ones all of them. No
annotator was made with these; the plant's physics are those that the training scenarios were measured from.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from bench.plant_fleet import Fleet, site_map, unit_of
from broker.evidence import build_evidence, signature
from broker.scorecard.scenarios import Scenario
from broker.store.rows.episodes import PastEpisode
from broker.store.rows.manuals import PassageRow
from broker.store.rows.operation import GapRow
from broker.store.rows.records import RecordRow, Window
from detectors.detection import DetectionOptions
from llm.model_file import find
from llm.prompt import build
from llm.rules import annotate_by_rules
from schemas.anomaly import Anomaly
from schemas.evidence import Evidence
from schemas.records import RecordBatch
from schemas.tagmap import TagMap
from simulators.plant import FAULT_EQUIPMENT, Fault, FaultKind, Plant
from training.calibrate import decisions

#: The cause of the fault catalogue that stands for a fault of the plant.
CAUSES: Final[dict[FaultKind, str]] = {
    "bearing_wear": "bearing_wear",
    "cavitation": "cavitation",
    "hx_fouling": "fouling",
    "valve_stiction": "valve_sticking",
    "nozzle_drift": "nozzle_drift",
    "sensor_stuck": "sensor_stuck",
    "sensor_drift": "sensor_drift",
    "spike": "sensor_spikes",
}
_EARLIEST_S: Final = 600
_SPAN_S: Final = 120
_LASTS_S: Final = 240
#: Records of so many seconds are kept; evidence looks no further back for tags of one value a second.
_KEPT_S: Final = 1200


class _Kept:
    """Records of all plants as rings of the last minutes; what :func:`build_evidence` reads."""

    def __init__(self, paths: Sequence[str], rate: int) -> None:
        self._most = _KEPT_S * rate
        self._at = {path: number for number, path in enumerate(paths)}
        self._times: list[int] = []
        self._rows: list[NDArray[np.float64]] = []
        self._status: list[NDArray[np.uint32]] = []

    def add(self, records: RecordBatch) -> None:
        """The rows of some time, a ring's row for each time of them; a tag without a row keeps NaN."""
        for time_ns in np.unique(records.source_ns).tolist():
            at = records.source_ns == time_ns
            value = np.full(len(self._at), np.nan)
            status = np.zeros(len(self._at), np.uint32)
            value[records.tag[at]] = records.value[at]
            status[records.tag[at]] = records.status[at]
            self._times.append(time_ns)
            self._rows.append(value)
            self._status.append(status)
        del self._times[: -self._most], self._rows[: -self._most], self._status[: -self._most]

    def window(self, path: str, from_ns: int, to_ns: int, *, upto: int, limit: int = 5000) -> Window:  # noqa: ARG002
        """Samples of a tag in a span."""
        times = np.asarray(self._times, np.int64)
        first, last = np.searchsorted(times, [from_ns, to_ns])
        first = max(first, last - limit)
        at = self._at[path]
        value = np.array([row[at] for row in self._rows[first:last]])
        status = np.array([row[at] for row in self._status[first:last]], np.uint32)
        there = np.isfinite(value)
        return Window(times[first:last][there], value[there], status[there])

    def last_value(self, path: str, before_ns: int, *, upto: int) -> RecordRow | None:
        """The newest sample before a time."""
        window = self.window(path, 0, before_ns, upto=upto)
        if not len(window.value):
            return None
        at, value = int(window.source_ns[-1]), float(window.value[-1])
        return RecordRow(0, path, "1", at, None, at, value, None, None, int(window.status[-1]), 0, 1)

    def gaps_between(
        self,
        paths: Sequence[str],  # noqa: ARG002
        from_ns: int,  # noqa: ARG002
        to_ns: int,  # noqa: ARG002
        *,
        source: str | None = None,  # noqa: ARG002
    ) -> Sequence[GapRow]:
        """The simulated sources lose nothing."""
        return ()

    def past_episodes(
        self,
        equipment: str,  # noqa: ARG002
        before_ns: int,  # noqa: ARG002
        limit: int,  # noqa: ARG002
    ) -> list[PastEpisode]:
        """Nothing was reviewed yet."""
        return []

    def passages(
        self,
        equipment: str,  # noqa: ARG002
        equipment_class: str | None,  # noqa: ARG002
        kind: str,  # noqa: ARG002
        words: Collection[str],  # noqa: ARG002
        limit: int,  # noqa: ARG002
    ) -> list[PassageRow]:
        """No manual was imported."""
        return []


class Explained(Fleet):
    """Plants whose anomalies are explained as they grow: ``evidence`` has (plant, second, evidence)."""

    def __init__(
        self, plants: Sequence[Plant], site: TagMap, options: DetectionOptions, *, rate: int = 1, start_s: int = 0
    ) -> None:
        super().__init__(plants, site, options, rate=rate, start_s=start_s)
        self.evidence: list[tuple[int, int, Evidence]] = []
        self._kept = _Kept([tag.path for tag in self.tag_map.tags], rate)
        self._explained: dict[str, tuple[str, ...]] = {}

    def seen(self, records: RecordBatch, anomalies: Sequence[Anomaly]) -> None:
        """Keep the records, and explain what is open as the broker does."""
        self._kept.add(records)
        for anomaly in anomalies:
            content = signature(anomaly)
            if anomaly.state == "closed" or self._explained.get(anomaly.anomaly_id) == content:
                continue
            self._explained[anomaly.anomaly_id] = content
            evidence = build_evidence(self._kept, self.tag_map, anomaly, self.second)
            self.evidence.append((self.plant_of(anomaly), self.second, evidence))


@dataclass(frozen=True, slots=True)
class Recorded:
    """Evidence of one revision, and the cause that was put in."""

    cause: str
    evidence: Evidence


def recorded(seeds: Sequence[int], options: DetectionOptions, site: TagMap) -> list[Recorded]:
    """Evidence of every fault with every seed; of each anomaly one revision."""
    faults = [(seed, _fault(kind, seed)) for kind in get_args(FaultKind) for seed in seeds]
    fleet = Explained([Plant(seed, [fault]) for seed, fault in faults], site, options)
    fleet.until(_EARLIEST_S + _SPAN_S + _LASTS_S)
    by_anomaly: dict[str, list[tuple[int, Evidence]]] = {}
    for plant, second, evidence in fleet.evidence:
        fault = faults[plant][1]
        home = unit_of(evidence.equipment) == FAULT_EQUIPMENT[fault.kind]
        if home and fault.start_s <= second < fault.end_s:
            by_anomaly.setdefault(evidence.anomaly_id, []).append((plant, evidence))
    rng = random.Random(4)
    chosen = [rng.choice(revisions) for revisions in by_anomaly.values()]
    return [Recorded(CAUSES[faults[plant][1].kind], evidence) for plant, evidence in chosen]


def _fault(kind: FaultKind, seed: int) -> Fault:
    rng = np.random.default_rng([seed, 3, *kind.encode()])
    start = _EARLIEST_S + int(rng.integers(0, _SPAN_S))
    return Fault(kind, start, start + _LASTS_S, float(rng.uniform(0.4, 1.0)), float(rng.uniform(3.0, 60.0)))


def main(argv: Sequence[str]) -> int:
    """``python -m bench plant-evidence``."""
    parser = argparse.ArgumentParser(prog="python -m bench plant-evidence", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="runs of each fault (default 5)")
    parser.add_argument("--model", default="builtin:plant-tiny", help="in the rows style (default builtin:plant-tiny)")
    parser.add_argument("--facts", action="store_true", help="print each case with its facts")
    arguments = parser.parse_args(argv)
    cases = recorded(range(1, arguments.seeds + 1), DetectionOptions(), site_map())
    rules = [annotate_by_rules(one.evidence, detector_score=1.0, created_ns=0).causes[0].id for one in cases]
    file = find(arguments.model, None, Path())
    scenarios = [Scenario(one.evidence, (one.cause,), {}, "in_distribution") for one in cases]
    told = decisions(file.path, scenarios)
    model = [max(shares, key=lambda cause: shares[cause]) for shares in told]
    print("| cause | episodes | rules right | model right | the model's mistakes |")
    print("|" + "---|" * 5)
    for cause in CAUSES.values():
        _print_cause(cause, [row for row in zip(cases, rules, model, strict=True) if row[0].cause == cause])
    _print_cause("all", list(zip(cases, rules, model, strict=True)))
    for one, by_rules, by_model in zip(cases, rules, model, strict=True):
        if arguments.facts:
            print(f"\n{one.cause}: rules {by_rules}, model {by_model}\n{build(one.evidence, 'v3-tekken', 'rows').text}")
    return 0


def _print_cause(name: str, rows: Sequence[tuple[Recorded, str, str]]) -> None:
    right_rules = sum(by_rules == one.cause for one, by_rules, _ in rows)
    right_model = sum(by_model == one.cause for one, _, by_model in rows)
    wrong = Counter(by_model for one, _, by_model in rows if by_model != one.cause)
    told = ", ".join(f"{cause} {count}" for cause, count in wrong.most_common(4))
    print(f"| {name} | {len(rows)} | {right_rules} | {right_model} | {told} |")
