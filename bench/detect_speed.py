"""
CPU time and memory of detection with its default options, on many tags at one value a second.

Learning is measured once, watching is the least of five turns. With the short clean window each sample is a point of a
chart, which is the dearest case; with the default one (``--clean-window 600s``, minutes longer) each eighth is.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from typing import Final

import numpy as np

from bench.stages import Stages
from detectors.detection import Detection, DetectionOptions
from detectors.multivariate import Multivariate
from schemas.entries import Position
from schemas.records import RecordBatch
from schemas.samples import Origin
from schemas.tagmap import Tag, TagMap

SECOND: Final = 1_000_000_000
T0: Final = 1_790_000_000 * SECOND
_TURNS: Final = 5


def site(tags: int, equipment: int) -> TagMap:
    """*tags* measured values on *equipment* pieces of equipment."""
    return TagMap(
        site="Bench/Site",
        tags=tuple(
            Tag(
                number=i,
                id=f"t-{i}",
                path=f"Bench/Site/Area/U{i * equipment // tags}/v{i}",
                source="plc",
                address=str(i),
                unit="1",
                range=(-1000.0, 1000.0) if i % 2 else None,
            )
            for i in range(tags)
        ),
    )


def batch(revision: bytes, at_ns: int, first: int, value: np.ndarray[tuple[int], np.dtype[np.float64]]) -> RecordBatch:
    """One second of some tags, as the normalizer gives it."""
    n = len(value)
    return RecordBatch(
        source="plc",
        origin=Origin.LIVE,
        map_revision=revision,
        position=Position(1, 1),
        received_ns=at_ns,
        tag=np.arange(first, first + n, dtype=np.int32),
        source_ns=np.full(n, at_ns, np.int64),
        server_ns=None,
        value=value,
        status=np.zeros(n, np.uint32),
        flags=np.zeros(n, np.uint32),
        fingerprint=np.zeros(n, np.int64),
    )


def measure(tags: int, equipment: int, rows: int, seconds: int, options: DetectionOptions) -> str:
    """One line of the table: while learning, and when every group has its model."""
    tag_map = site(tags, equipment)
    detection = Detection(options)
    detection.use_map(tag_map.revision, tag_map)
    rng = np.random.default_rng(7)
    common = rng.normal(size=(4096, equipment))
    own = rng.normal(size=(64, tags))
    of = np.arange(tags) * equipment // tags
    stages = Stages()
    places = [(Detection, "records", "rows"), (Detection, "tick", "tick"), (Multivariate, "tick", "pca")]
    cells = []
    second = 0
    together = detection._parts.multivariate
    with stages.of(places):
        for phase in ("learning", "watching"):
            if phase == "watching":
                while together is not None and together.known() < sum(len(bank.groups) for bank in together._banks):
                    second += 1
                    _second(detection, tag_map.revision, second, rows, common[second % 4096][of] + own[second % 64])
            found = []
            # what other processes do to the caches makes a turn dearer, never cheaper
            for _ in range(_TURNS if phase == "watching" else 1):
                stages.spent.clear()
                for _ in range(seconds):
                    second += 1
                    _second(detection, tag_map.revision, second, rows, common[second % 4096][of] + own[second % 64])
                found.append([stages.spent[name] / (tags * seconds) * 1e6 for name in ("rows", "tick", "pca")])
            cells.append(min(found, key=sum))
    begun = time.thread_time()
    state = detection.state(models=False)
    took = time.thread_time() - begun
    held = sum(
        c.nbytes for group in detection._parts.memory().values() for c in vars(group).values() if hasattr(c, "nbytes")
    )
    learned = 0 if together is None else together.nbytes()
    figures = " | ".join(f"{sum(cell):.2f} ({cell[2]:.2f})" for cell in cells)
    sizes = f"{(held + learned) / tags:.0f} | {len(state) / tags:.0f} | {len(detection.models()) / tags:.0f}"
    return f"| {tags} | {equipment} | {rows} | {figures} | {sizes} | {took * 1000:.0f} |"


def _second(
    detection: Detection, revision: bytes, second: int, rows: int, value: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> None:
    at_ns = T0 + second * SECOND
    for first in range(0, len(value), rows):
        detection.records(batch(revision, at_ns, first, value[first : first + rows]))
    detection.tick(at_ns)


def main(argv: Sequence[str]) -> int:
    """``python -m bench detect-speed``."""
    parser = argparse.ArgumentParser(prog="python -m bench detect-speed", description=__doc__)
    parser.add_argument("--tags", type=int, default=10_000, help="tags (default 10000)")
    parser.add_argument(
        "--equipment", type=int, nargs="+", default=[20, 200, 1000], help="pieces of equipment (default 20 200 1000)"
    )
    parser.add_argument("--batch", type=int, default=1000, help="rows of one batch (default 1000)")
    parser.add_argument("--seconds", type=int, default=60, help="journal time measured in each phase (default 60)")
    parser.add_argument("--clean-window", default="64s", help="learning time, short so that models come soon")
    parser.add_argument("--extreme", action="store_true", help="with the detector of tails, which is off by default")
    arguments = parser.parse_args(argv)
    options = DetectionOptions(clean_window=arguments.clean_window, extreme=arguments.extreme)
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; CPU µs a value, of it the multivariate part")
    print(
        "| tags | equipment | batch | learning | watching | memory, B/tag | state, B/tag | models, B/tag | saving, ms |"
    )
    print("|" + "---|" * 9, flush=True)
    for equipment in arguments.equipment:
        print(
            measure(arguments.tags, equipment, arguments.batch, arguments.seconds, options),
            flush=True,
        )
    return 0
