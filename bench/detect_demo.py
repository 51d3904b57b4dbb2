"""
What a viewer of ``fairlead demo`` sees, over many seeds: the planned faults, and what opens without any.

Each seed is a plant of its own under the demo's maps, options and schedule of faults, sampled as often as there. The
signals go straight into normalizer and detection, so that minutes take seconds. A fault is found when an anomaly opens
on its equipment while it is there. False is what opens on equipment that neither has a fault nor feels one by physics,
up to some seconds after its end: what swings back is still of it. The causes are those of the built-in model and of
the rules, of the evidence as it was when the anomaly opened and as it was last.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from bench.plant_evidence import CAUSES, Explained
from bench.plant_fleet import Opened, demo_site, site_map, unit_of
from broker.scorecard.scenarios import Scenario
from llm.model_file import find
from llm.rules import annotate_by_rules
from schemas.evidence import Evidence
from simulators.plant import FAULT_EQUIPMENT, FELT_BY, Fault, Plant
from simulators.site import DEMO_PERIOD_S, DEMO_RECORDED_S, DEMO_SCHEDULE, PERIOD_S
from training.calibrate import decisions

#: The broker's first value comes so many seconds after the plant's start (measured on two cores).
_START_S: Final = 3
#: What begins so long after the end of a fault is still of it: a loop that swings back.
_SWING_S: Final = 20


@dataclass(frozen=True, slots=True)
class Seen:
    """
    One planned fault in one plant: delay in seconds, None where it was not found.

    ``evidence``: as the anomaly opened, as the fault ended, and last.
    """

    fault: Fault
    delay_s: float | None
    by: str
    evidence: tuple[Evidence, ...]


def _of(opened: Opened, faults: Sequence[Fault]) -> Fault | None:
    """The fault that explains an anomaly; its own equipment's first."""
    there = [fault for fault in faults if fault.start_s <= opened.second < fault.end_s + _SWING_S]
    own = [fault for fault in there if FAULT_EQUIPMENT[fault.kind] == opened.unit]
    felt = [fault for fault in there if opened.unit in FELT_BY.get(fault.kind, ())]
    return next(iter(own + felt), None)


def _seen(fault: Fault, plant: int, fleet: Explained) -> Seen:
    home = FAULT_EQUIPMENT[fault.kind]
    for one in fleet.opened:
        if one.plant == plant and one.unit == home and fault.start_s <= one.second < fault.end_s:
            mine = [(t, e) for at, t, e in fleet.evidence if at == plant and e.anomaly_id == one.anomaly.anomaly_id]
            during = [e for t, e in mine if t < fault.end_s]
            return Seen(fault, one.second - fault.start_s, one.detectors, (during[0], during[-1], mine[-1][1]))
    return Seen(fault, None, "", ())


def main(argv: Sequence[str]) -> int:
    """``python -m bench detect-demo``."""
    parser = argparse.ArgumentParser(prog="python -m bench detect-demo", description=__doc__)
    parser.add_argument("--seeds", type=int, default=40, help="plants (default 40)")
    parser.add_argument(
        "--seconds", type=int, default=round(DEMO_PERIOD_S), help="of the demo (default: its whole schedule)"
    )
    parser.add_argument(
        "--history",
        type=int,
        default=round(DEMO_RECORDED_S),
        help=f"seconds that are recorded before; 0: none (default {DEMO_RECORDED_S:g})",
    )
    parser.add_argument("--clean-window", type=int, default=0, help="seconds; default: the demo's")
    parser.add_argument("--model", default="builtin:plant-tiny", help="default builtin:plant-tiny")
    arguments = parser.parse_args(argv)
    begun = time.perf_counter()
    rate = round(1 / PERIOD_S)
    _, options = demo_site()
    if arguments.clean_window:
        options = options.model_copy(update={"clean_window": arguments.clean_window})
    before = arguments.history
    planned = [
        replace(fault, start_s=fault.start_s + before, end_s=fault.end_s + before)
        for fault in DEMO_SCHEDULE
        if fault.start_s < arguments.seconds
    ]
    plants = [Plant(seed, list(planned)) for seed in range(1, arguments.seeds + 1)]
    fleet = Explained(plants, site_map(rate), options, rate=rate, start_s=0 if before else _START_S)
    fleet.until(before + arguments.seconds)
    _print_false([one for one in fleet.opened if _of(one, planned) is None], planned, arguments.seeds)
    print(
        "\n| fault | found | median, longest delay, s | first by | model right: first, at its end, last | rules right |"
    )
    print("|" + "---|" * 6)
    for fault in planned:
        _print_fault(fault, [_seen(fault, plant, fleet) for plant in range(arguments.seeds)], arguments.model)
    print(f"\n{arguments.seeds} plants, {time.perf_counter() - begun:.0f} s")
    return 0


def _print_false(false: Sequence[Opened], planned: Sequence[Fault], seeds: int) -> None:
    first = min(fault.start_s for fault in planned)
    print("| equipment | plants with a false anomaly before the first fault | before its own first fault | ever |")
    print("|---|---|---|---|")
    units = sorted({unit_of(tag.equipment or tag.path.rpartition("/")[0]) for tag in demo_site()[0].tags})
    for unit in (*units, "any"):
        own = [one for one in false if unit in (one.unit, "any")]
        mine = [fault.start_s for fault in planned if unit in (FAULT_EQUIPMENT[fault.kind], "any")]
        before = {one.plant for one in own if one.second < first}
        before_own = {one.plant for one in own if one.second < min(mine, default=float("inf"))}
        ever = {one.plant for one in own}
        print(f"| {unit} | {len(before)} of {seeds} | {len(before_own)} of {seeds} | {len(ever)} of {seeds} |")
    counted = Counter(f"{one.unit}: {one.anomaly.title} ({one.detectors})" for one in false)
    for text, count in counted.most_common(12):
        print(f"- {count} times {text}")


def _print_fault(fault: Fault, seen: Sequence[Seen], model: str) -> None:
    delays = [one.delay_s for one in seen if one.delay_s is not None]
    evidence = [pair for one in seen if (pair := one.evidence)]
    cause = CAUSES[fault.kind]
    by_model, by_rules = [], []
    for turn in (0, 1, 2):
        cases = [Scenario(pair[turn], (cause,), {}, "in_distribution") for pair in evidence]
        told = decisions(find(model, None, Path()).path, cases) if cases else []
        said = Counter(max(shares, key=lambda name: shares[name]) for shares in told)
        rules = [annotate_by_rules(one.evidence, detector_score=1.0, created_ns=0).causes[0].id for one in cases]
        wrong = ", ".join(f"{name} {count}" for name, count in said.items() if name != cause)
        by_model.append(f"{said[cause]} of {len(cases)}" + (f" ({wrong})" if wrong else ""))
        by_rules.append(str(rules.count(cause)))
    by = "; ".join(name for name, _ in Counter(one.by for one in seen if one.by).most_common(2))
    numbers = f"{np.median(delays):.0f}, {max(delays):.0f}" if delays else "–"
    print(
        f"| {fault.kind} | {len(delays)} of {len(seen)} | {numbers} | {by} | {', '.join(by_model)} "
        f"| {', '.join(by_rules)} |",
        flush=True,
    )
