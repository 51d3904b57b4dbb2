"""
Detection on the simulated plant: every fault of its catalogue at seeded times, and weeks without any.

Plants run side by side under one detection with default options, one row of each tag a simulated second; nothing
waits. A fault is found when an anomaly opens on its equipment while it is there; what opens before it, or on other
equipment, is counted as well. Only what another machine feels of it by physics is left out.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, get_args

import numpy as np

from bench.detect_sources import delay, false_ones, source_runs
from bench.plant_fleet import Fleet, Opened, site_map, unit_of
from detectors.detection import DetectionOptions
from schemas.tagmap import TagMap
from simulators.plant import FAULT_EQUIPMENT, FELT_BY, Fault, FaultKind, Plant
from simulators.source_faults import SourceFaultKind

_DAY_S: Final = 86_400
#: A fault begins at a seeded time in this span, and lasts so long.
_EARLIEST_S: Final = 1200
_SPAN_S: Final = 900
_LASTS_S: Final = 900
#: Of the long runs: physics in steps of half a second, and a tick each five.
_STEP_S: Final = 0.5
_TICK_S: Final = 5


@dataclass(frozen=True, slots=True)
class Found:
    """One injected fault: delay in seconds, None where it was not found; who found it; what else opened."""

    kind: FaultKind | SourceFaultKind
    delay_s: int | None
    by: str
    before: int
    elsewhere: int


def fault_runs(seeds: Sequence[int], options: DetectionOptions, site: TagMap) -> list[Found]:
    """Every kind with every seed, each in a plant of its own."""
    faults = [(seed, _fault(kind, seed)) for kind in get_args(FaultKind) for seed in seeds]
    fleet = Fleet([Plant(seed, [fault]) for seed, fault in faults], site, options)
    fleet.until(_EARLIEST_S + _SPAN_S + _LASTS_S)
    return [_judge(fault, [one for one in fleet.opened if one.plant == at]) for at, (_, fault) in enumerate(faults)]


def source_faults(seeds: Sequence[int], options: DetectionOptions, site: TagMap) -> list[Found]:
    """The same of the faults of sources; found only where a detector that looks for it tells of it."""
    runs = source_runs(seeds, options, site)
    return [Found(fault.kind, *delay(fault, told), *false_ones(fault, told)) for fault, told in runs]


def _fault(kind: FaultKind, seed: int) -> Fault:
    rng = np.random.default_rng([seed, *kind.encode()])
    start = _EARLIEST_S + int(rng.integers(0, _SPAN_S))
    return Fault(kind, start, start + _LASTS_S, float(rng.uniform(0.5, 1.0)), float(rng.uniform(5.0, 120.0)))


def _judge(fault: Fault, opened: Sequence[Opened]) -> Found:
    home = FAULT_EQUIPMENT[fault.kind]
    related = {home} | FELT_BY.get(fault.kind, frozenset())
    during = [one for one in opened if fault.start_s <= one.second < fault.end_s]
    own = [one for one in during if one.unit == home]
    return Found(
        fault.kind,
        own[0].second - int(fault.start_s) if own else None,
        own[0].detectors if own else "",
        sum(one.second < fault.start_s for one in opened),
        sum(one.unit not in related for one in during),
    )


def main(argv: Sequence[str]) -> int:
    """``python -m bench detect-plant``."""
    parser = argparse.ArgumentParser(prog="python -m bench detect-plant", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="runs of each fault (default 5)")
    parser.add_argument("--days", type=float, default=7.0, help="simulated time without faults (default 7)")
    parser.add_argument("--plants", type=int, default=3, help="plants without faults, side by side (default 3)")
    arguments = parser.parse_args(argv)
    options, site = DetectionOptions(), site_map()
    if arguments.seeds:
        begun = time.perf_counter()
        seeds = range(1, arguments.seeds + 1)
        found = [*fault_runs(seeds, options, site), *source_faults(seeds, options, site)]
        print("| fault | found | median delay, s | longest, s | first found by | anomalies before it | elsewhere |")
        print("|" + "---|" * 7)
        for kind in dict.fromkeys(item.kind for item in found):
            _print_fault(kind, [item for item in found if item.kind == kind])
        _print_fault("all", found)
        print(f"\n{len(found)} plants, {time.perf_counter() - begun:.0f} s\n", flush=True)
    if arguments.days:
        begun = time.perf_counter()
        fleet = Fleet([Plant(7 + at, step_s=_STEP_S) for at in range(arguments.plants)], site, options)
        fleet.until(round(arguments.days * _DAY_S), _TICK_S)
        _print_quiet(fleet.opened, site, arguments.plants, arguments.days)
        print(f"\n{time.perf_counter() - begun:.0f} s")
    return 0


def _print_quiet(opened: Sequence[Opened], site: TagMap, plants: int, days: float) -> None:
    by_unit = Counter(one.unit for one in opened)
    print(f"{plants} plants, {days:g} simulated days without faults, a tick each {_TICK_S} s\n")
    print("| equipment | false anomalies | a piece of equipment and week |")
    print("|---|---|---|")
    for unit in sorted({unit_of(tag.equipment or tag.path.rpartition("/")[0]) for tag in site.tags}):
        print(f"| {unit} | {by_unit[unit]} | {by_unit[unit] * 7 / days / plants:.1f} |")
    for one in opened[:40]:
        print(f"{one.plant}: {one.second} s: {one.anomaly.title} ({one.unit}; {one.detectors})")


def _print_fault(kind: str, found: Sequence[Found]) -> None:
    delays = [item.delay_s for item in found if item.delay_s is not None]
    median = f"{np.median(delays):.0f}" if delays else "–"
    longest = str(max(delays)) if delays else "–"
    by = "; ".join(name for name, _ in Counter(item.by for item in found if item.by).most_common(2))
    before, elsewhere = sum(item.before for item in found), sum(item.elsewhere for item in found)
    print(f"| {kind} | {len(delays)} of {len(found)} | {median} | {longest} | {by} | {before} | {elsewhere} |")
