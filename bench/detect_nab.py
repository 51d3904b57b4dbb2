"""
The univariate set NAB: one tag a file; a row's score is that of the condition that begins with it.

A condition that goes on says nothing new, so only its first row has a score: the benchmark counts every other one as
one more alarm.
"""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from bench.detect_stream import SECOND, Stream
from detectors.detection import DetectionOptions

#: Most series have a row each five minutes. Time runs thirty times faster here: a tick stands for ten seconds at most.
_FASTER: Final = 30
_SCAN_MS: Final = 10_000
#: Two days of the series are learned from: the first 15 % of it, at most 750 rows, are not scored.
NAB: Final = DetectionOptions(clean_window=f"{48 * 3600 // _FASTER}s", relearn_after=f"{168 * 3600 // _FASTER}s")


def write(data: Path, folder: Path, options: DetectionOptions) -> None:
    """Scores of every labelled file under *data*, into the same names under *folder*."""
    for name in sorted(json.loads((data / "combined_windows.json").read_text(encoding="utf-8"))):
        if not (data / name).exists():
            continue
        with (data / name).open(encoding="utf-8", newline="") as lines:
            _, *rows = csv.reader(lines)
        stream = Stream(["value"], _SCAN_MS, options)
        going: set[tuple[str, int]] = set()
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            out = csv.writer(file)
            out.writerow(("timestamp", "anomaly_score"))
            for text, value in rows:
                time_ns = int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND // _FASTER
                found = stream.row(time_ns, np.array([float(value)]))
                begun = [f.score for f in found if (f.detector, f.onset_ns) not in going]
                going = {(f.detector, f.onset_ns) for f in found}
                out.writerow((text, max((score / (1 + score) for score in begun), default=0.0)))
