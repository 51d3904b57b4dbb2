"""
The univariate set NAB: one tag a file; a row has a score where a condition begins or has become clearly worse.

A condition that goes on says nothing new, and one that comes again within hours says little: the benchmark counts every
row with a score as one more alarm, so a detector is heard once in six hours, unless it has clearly worse to say.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from bench.detect_stream import SECOND, Stream
from detectors.detection import DetectionOptions
from schemas.anomaly import Finding

#: Most series have a row each five minutes.
_SCAN_MS: Final = 300_000
_QUIET_NS: Final = 6 * 3600 * SECOND
#: A score is clearly worse when it is larger by this; 1 is the limit.
_WORSE: Final = 0.5
#: What people do has daily and weekly rhythms and bursts, which no chart of a mean fits: the charts and shapes are
#: off, and tails alone are looked at, beside signal health. Learned is a day; the first 15 % of a series, at most 750
#: rows, are not scored. A window found is worth some seventeen false rows: hence the budget.
NAB: Final = DetectionOptions(
    clean_window="24h",
    relearn_after="168h",
    extreme=True,
    spc=(),
    shape=(),
    false_alarms="4 per tag per week",
    equipment_false_alarms="4 per equipment per week",
)


class _Heard:
    """Which conditions have been told, and when each detector was heard with which score."""

    def __init__(self) -> None:
        self._going: set[tuple[str, int]] = set()
        self._last: dict[str, tuple[int, float]] = {}

    def score(self, time_ns: int, found: Iterable[Finding]) -> float:
        """Score of a row, 0 to 1: of the worst condition that is told with it."""
        worst, going = 0.0, set()
        for finding in found:
            condition = (finding.detector, finding.onset_ns)
            going.add(condition)
            heard_ns, score = self._last.get(finding.detector, (time_ns - _QUIET_NS, 0.0))
            news = condition not in self._going and time_ns - heard_ns >= _QUIET_NS
            if news or finding.score > score + _WORSE:
                self._last[finding.detector] = (time_ns, finding.score)
                worst = max(worst, finding.score)
        self._going = going
        return worst / (1 + worst)


def write(data: Path, folder: Path, options: DetectionOptions) -> None:
    """Scores of every labelled file under *data*, into the same names under *folder*."""
    for name in sorted(json.loads((data / "combined_windows.json").read_text(encoding="utf-8"))):
        if not (data / name).exists():
            continue
        with (data / name).open(encoding="utf-8", newline="") as lines:
            _, *rows = csv.reader(lines)
        stream, heard = Stream(["value"], _SCAN_MS, options, tick_s=_SCAN_MS / 1000), _Heard()
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            out = csv.writer(file)
            out.writerow(("timestamp", "anomaly_score"))
            for text, value in rows:
                time_ns = int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND
                found = stream.row(time_ns, np.array([float(value)]))
                out.writerow((text, heard.score(time_ns, found)))
