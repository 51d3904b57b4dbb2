"""
Detection on the simulated plant: every fault of its catalogue at seeded times, and a week without any.

The signals go straight into normalizer and detection with the demo's tag map and default options, one row of each tag
and one tick a simulated second; nothing waits, so a week takes minutes. A fault is found when an anomaly opens on its
equipment while it is there; what opens before it, or on other equipment, is counted as well.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final, get_args

import numpy as np

from broker.config.loader import load_config
from broker.tagmap.loader import load
from detectors.detection import Detection, DetectionOptions
from normalizers.normalizer import Normalizer, NormalizerOptions
from schemas.anomaly import Anomaly
from schemas.entries import Position
from schemas.samples import SampleBatch
from schemas.tagmap import Tag, TagMap
from simulators.plant import FAULT_EQUIPMENT, Fault, FaultKind, Plant

SECOND: Final = 1_000_000_000
T0: Final = 1_790_000_000 * SECOND
_DAY_S: Final = 86_400
#: What others of the equipment do when the plant is disturbed upstream is no false anomaly: flow feeds the exchanger.
_DOWNSTREAM: Final[dict[str, frozenset[str]]] = {"P101": frozenset({"E201", "M1"})}
_ROOMS: Final = {"Room12": "R12"}


def site_map() -> TagMap:
    """The demo's tag map, for values in engineering units, one a second."""
    with as_file(files("broker.demo")) as folder:
        text = (folder / "fairlead.yaml").read_text(encoding="utf-8")
        names = {"modbus_host": "127.0.0.1", "modbus_port": "502", "opcua_endpoint": "opc.tcp://127.0.0.1:4840"}
        names |= {"mqtt_url": "mqtt://127.0.0.1:1883", "api_port": "8080"}
        return _load(text, names, folder / "maps")


@dataclass
class Run:
    """Plant and detection side by side; ``opened`` are first revisions with their time in plant seconds."""

    plant: Plant
    tag_map: TagMap
    detection: Detection
    normalizer: Normalizer
    second: int = 0
    opened: list[tuple[int, Anomaly]] = field(default_factory=list)

    @classmethod
    def start(cls, seed: int, faults: Sequence[Fault], tag_map: TagMap, options: DetectionOptions) -> Run:
        """A fresh plant with these faults."""
        run = cls(Plant(seed, list(faults)), tag_map, Detection(options), Normalizer(NormalizerOptions()))
        run.normalizer.use_map(tag_map.revision, tag_map)
        run.detection.use_map(tag_map.revision, tag_map)
        return run

    def __post_init__(self) -> None:
        numeric = [tag for tag in self.tag_map.tags if not (tag.type or "").startswith("string")]
        self._by_source = {
            source: [tag for tag in numeric if tag.source == source] for source in {t.source for t in numeric}
        }

    def until(self, second: int) -> None:
        """Let the plant run up to *second*."""
        while self.second < second:
            self.second += 1
            self.plant.advance(self.second)
            signals = self.plant.signals()
            now_ns = T0 + self.second * SECOND
            for source, tags in sorted(self._by_source.items()):
                batch = SampleBatch.build(
                    source,
                    self.tag_map.revision,
                    now_ns,
                    tag=[tag.number for tag in tags],
                    source_ns=[now_ns] * len(tags),
                    value=[float(signals[_signal(tag)]) for tag in tags],
                )
                self.detection.records(self.normalizer.step(batch, Position(1, self.second)))
            for anomaly in self.detection.tick(now_ns):
                if anomaly.revision == 0:
                    self.opened.append((self.second, anomaly))


def _load(text: str, names: dict[str, str], maps: Path) -> TagMap:
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as home:
        for name, value in names.items():
            text = text.replace("{" + name + "}", value)
        (Path(home) / "fairlead.yaml").write_text(text, encoding="utf-8")
        shutil.copytree(maps, Path(home) / "maps")
        tag_map = load(load_config(Path(home) / "fairlead.yaml"))
    plain = {"scale_mode": "none", "factor": 1.0, "offset": 0.0, "clamp": "none", "scan_ms": 1000}
    tags = tuple(tag.model_copy(update=plain) for tag in tag_map.tags)
    return tag_map.model_copy(update={"tags": tags})


def _signal(tag: Tag) -> str:
    *_, unit, name = tag.path.split("/")
    return f"{_ROOMS.get(unit, unit)}.{name}"


def _unit(equipment: str) -> str:
    name = equipment.rsplit("/", 1)[-1]
    return _ROOMS.get(name, name)


@dataclass(frozen=True, slots=True)
class Found:
    """One injected fault: delay in seconds, None where it was not found; who found it; what else opened."""

    kind: FaultKind
    delay_s: int | None
    by: str
    before: int
    elsewhere: int


def fault_runs(seeds: Sequence[int], options: DetectionOptions, tag_map: TagMap) -> Iterator[Found]:
    """Every kind with every seed, each in a plant of its own."""
    for kind in get_args(FaultKind):
        for seed in seeds:
            rng = np.random.default_rng([seed, *kind.encode()])
            start = 1200 + int(rng.integers(0, 900))
            size, ramp_s = float(rng.uniform(0.5, 1.0)), float(rng.uniform(5.0, 120.0))
            run = Run.start(seed, [Fault(kind, start, start + 900, size, ramp_s)], tag_map, options)
            run.until(start + 900)
            home = FAULT_EQUIPMENT[kind]
            related = {home} | _DOWNSTREAM.get(home, frozenset())
            during = [(second, a) for second, a in run.opened if second >= start]
            own = [(second, a) for second, a in during if _unit(a.equipment) == home]
            yield Found(
                kind,
                own[0][0] - start if own else None,
                ", ".join(sorted({member.detector for member in own[0][1].members})) if own else "",
                len(run.opened) - len(during),
                sum(_unit(a.equipment) not in related for _, a in during),
            )


def main(argv: Sequence[str]) -> int:
    """``python -m bench detect-plant``."""
    parser = argparse.ArgumentParser(prog="python -m bench detect-plant", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="runs of each fault (default 5)")
    parser.add_argument("--days", type=float, default=7.0, help="simulated time without faults (default 7)")
    arguments = parser.parse_args(argv)
    options, tag_map = DetectionOptions(), site_map()
    begun = time.perf_counter()
    if arguments.seeds:
        print("| fault | found | median delay, s | longest, s | first found by | anomalies before it | elsewhere |")
        print("|" + "---|" * 7, flush=True)
        found = list(fault_runs(range(1, arguments.seeds + 1), options, tag_map))
        for kind in dict.fromkeys(item.kind for item in found):
            same = [item for item in found if item.kind == kind]
            _print_fault(kind, same)
        _print_fault("all", found)
    if arguments.days:
        run = Run.start(7, [], tag_map, options)
        run.until(round(arguments.days * _DAY_S))
        by_unit = Counter(_unit(anomaly.equipment) for _, anomaly in run.opened)
        units = sorted({_unit(path) for path in {tag.equipment or tag.path for tag in tag_map.tags}})
        print(f"\n{arguments.days:g} simulated days without faults\n")
        print("| equipment | false anomalies | a week |")
        print("|---|---|---|")
        for unit in units:
            print(f"| {unit} | {by_unit[unit]} | {by_unit[unit] * 7 / arguments.days:.1f} |")
        for second, anomaly in run.opened[:20]:
            detectors = ", ".join(sorted({member.detector for member in anomaly.members}))
            print(f"{second} s: {anomaly.title} ({_unit(anomaly.equipment)}; {detectors})")
    print(f"\n{time.perf_counter() - begun:.0f} s")
    return 0


def _print_fault(kind: str, found: Sequence[Found]) -> None:
    delays = [item.delay_s for item in found if item.delay_s is not None]
    median = f"{np.median(delays):.0f}" if delays else "–"
    longest = str(max(delays)) if delays else "–"
    by = ", ".join(name for name, _ in Counter(item.by for item in found if item.by).most_common(2))
    before, elsewhere = sum(item.before for item in found), sum(item.elsewhere for item in found)
    print(
        f"| {kind} | {len(delays)} of {len(found)} | {median} | {longest} | {by} | {before} | {elsewhere} |", flush=True
    )
