"""
CPU of detection alone: records and ticks of 10,000 tags at 1 Hz through the stage with its default options.

Printed: CPU µs a value while the charts learn and while they watch (median, mean over the seconds), the share of
the ticks, the stage's memory and its saved state, bytes a tag. Asserts nothing.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence

import numpy as np

from detectors.detection import Detection, DetectionOptions
from schemas.entries import Position
from schemas.records import RecordBatch
from schemas.samples import Origin
from schemas.tagmap import Tag, TagMap

SECOND = 1_000_000_000
T0 = 1_790_000_000 * SECOND


def main(argv: Sequence[str]) -> int:
    """``python -m bench detect-speed``."""
    parser = argparse.ArgumentParser(prog="python -m bench detect-speed", description=__doc__)
    parser.add_argument("--tags", type=int, default=10_000, help="tags (default 10000)")
    parser.add_argument("--batch", type=int, default=1000, help="rows of one batch (default 1000)")
    parser.add_argument("--watch", type=int, default=256, help="seconds to watch after learning (default 256)")
    arguments = parser.parse_args(argv)
    tags = tuple(
        Tag(
            number=i,
            id=f"t{i}",
            path=f"Bench/Site/Area/Line{i % 20}/v{i}",
            source="plc",
            address=str(i),
            type="float32",
            range=(-1000.0, 1000.0) if i % 2 else None,
        )
        for i in range(arguments.tags)
    )
    tag_map = TagMap(site="Bench/Site", tags=tags)
    options = DetectionOptions()
    detection = Detection(options)
    detection.use_map(tag_map.revision, tag_map)
    noise = np.random.default_rng(1).normal(size=1 << 21)
    learning: list[float] = []
    watching: list[float] = []
    ticks: list[float] = []
    second = 0
    while len(watching) < arguments.watch and second < 4 * options.clean_window:
        now = T0 + second * SECOND
        spent = 0.0
        for first in range(0, arguments.tags, arguments.batch):
            numbers = np.arange(first, min(first + arguments.batch, arguments.tags), dtype=np.int32)
            n = len(numbers)
            start = (second * 7919 + first) % (1 << 20)
            batch = RecordBatch(
                "plc",
                Origin.LIVE,
                tag_map.revision,
                Position(1, 1),
                now,
                numbers,
                now + numbers.astype(np.int64),
                None,
                50 + noise[start : start + n],
                np.zeros(n, np.uint32),
                np.zeros(n, np.uint32),
                np.zeros(n, np.int64),
            )
            begun = time.thread_time()
            detection.records(batch)
            spent += time.thread_time() - begun
        begun = time.thread_time()
        detection.tick(now)
        tick = time.thread_time() - begun
        charts = detection._panel.charts
        learned = charts is not None and bool(charts.chart.learned.all())
        (watching if learned else learning).append(spent + tick)
        ticks.append(tick)
        second += 1
    begun = time.thread_time()
    state = detection.state()
    saved_s = time.thread_time() - begun
    memory = sum(getattr(group, title).nbytes for group in detection._memory().values() for title in group._declared)
    per_value = 1e6 / arguments.tags
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; {second} s of journal time")
    print(
        "| tags | batch | learning µs/value | watching µs/value (mean) | ticks µs/value | memory B/tag | state B/tag |"
    )
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {arguments.tags} | {arguments.batch} | {np.median(learning) * per_value:.2f} "
        f"| {np.mean(watching or [np.nan]) * per_value:.2f} | {np.median(ticks) * per_value:.3f} "
        f"| {memory / arguments.tags:.0f} | {len(state) / arguments.tags:.0f} ({saved_s * 1000:.0f} ms) |"
    )
    return 0
