"""
False alarms on a healthy plant: seeded white and AR(1) noise, tags of several rates, a simulated week of journal time.

Every default detector runs, through the same stage as in the product. Each tag is on equipment of its own, so that a
finding is an alarm. Nothing changes in the signals, so everything that is found is false. The budget is half an alarm
per tag and week, since each is all of its equipment; counted are beginnings of conditions, by detector and kind of
signal.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from detectors.detection import Detection, DetectionOptions
from schemas.entries import Position
from schemas.records import RecordBatch
from schemas.samples import Origin
from schemas.tagmap import Tag, TagMap

SECOND = 1_000_000_000
T0 = 1_790_000_000 * SECOND
#: AR(1) coefficients from one sample to the next.
PHI = (0.0, 0.5, 0.9, 0.98)
WEEK_S = 604_800


def main(argv: Sequence[str]) -> int:
    """``python -m bench detect-false-alarms``."""
    parser = argparse.ArgumentParser(prog="python -m bench detect-false-alarms", description=__doc__)
    parser.add_argument("--tags", type=int, default=40, help="tags of each coefficient and scan (default 40)")
    parser.add_argument("--scan", type=float, nargs="+", default=[10.0, 60.0], help="scans in s (default 10 and 60)")
    parser.add_argument("--days", type=float, default=7.0, help="simulated days (default 7)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--extreme", action="store_true", help="with the detector of tails, which is off by default")
    arguments = parser.parse_args(argv)
    print("| scan s | phi | tags | tag-weeks | learned | alarms | alarms per tag and week | by detector |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for scan_s in arguments.scan:
        measure(arguments, scan_s)
    return 0


def measure(arguments: argparse.Namespace, scan_s: float) -> None:
    """One scan: a row for each coefficient."""
    phi = np.repeat(PHI, arguments.tags)
    count = len(phi)
    tags = tuple(
        Tag(
            number=i,
            id=f"t{i}",
            path=f"Bench/Site/Area/U{i}/v",
            source="plc",
            address=str(i),
            scan_ms=round(scan_s * 1000),
            range=(-100.0, 100.0),
        )
        for i in range(count)
    )
    tag_map = TagMap(site="Bench/Site", tags=tags)
    detection = Detection(DetectionOptions(extreme=arguments.extreme))
    detection.use_map(tag_map.revision, tag_map)
    chance = np.random.default_rng(arguments.seed)
    value = chance.normal(size=count)
    width = np.sqrt(1 - phi * phi)
    numbers = np.arange(count, dtype=np.int32)
    zero = np.zeros(count, np.uint32)
    alarms: dict[float, Counter[str]] = {coefficient: Counter() for coefficient in PHI}
    active: dict[str, frozenset[tuple[str, str, int]]] = {}
    step_ns = round(scan_s * SECOND)
    begun = time.process_time()
    steps = round(arguments.days * 86_400 / scan_s)
    for step in range(steps):
        now = T0 + step * step_ns
        value = phi * value + width * chance.normal(size=count)
        detection.records(
            RecordBatch(
                "plc",
                Origin.LIVE,
                tag_map.revision,
                Position(1, step + 1),
                now,
                numbers,
                np.full(count, now),
                None,
                50 + value,
                zero,
                zero,
                np.zeros(count, np.int64),
            )
        )
        for anomaly in detection.tick(now):
            on = frozenset((m.detector, m.direction, m.onset_ns) for m in anomaly.members)
            for detector, _, _ in on - active.get(anomaly.equipment, frozenset()):
                alarms[phi[int(anomaly.equipment.rsplit("U", 1)[1])]][detector] += 1
            active[anomaly.equipment] = on
    charts = detection._parts.panel.charts
    learned = charts.chart.learned if charts is not None else np.zeros(count, np.bool_)
    for coefficient in PHI:
        weeks = arguments.tags * arguments.days / 7
        found = alarms[coefficient]
        by = ", ".join(f"{name} {n}" for name, n in sorted(found.items())) or "none"
        known = int(learned[phi == coefficient].sum())
        print(
            f"| {scan_s:g} | {coefficient:g} | {arguments.tags} | {weeks:.1f} | {known} | {found.total()} "
            f"| {found.total() / weeks:.2f} | {by} |"
        )
    print(f"scan {scan_s:g} s: {steps * count} values, {time.process_time() - begun:.0f} s of CPU", flush=True)
