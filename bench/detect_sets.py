"""
The labelled sets: files of ``shared/data`` as rows, one fixed configuration per set, predictions for the scorers.

The configuration of a set stands here and nowhere else. It differs from the defaults only where the protocol of the
set says so: how much may be learned from, and whether a row counts as faulty as long as the fault is there (SKAB: until
the test bed is put back; TEP: to the end of the run, also where the controllers have taken the deviation away).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.detect_stream import SECOND, Stream
from detectors.detection import DetectionOptions
from detectors.options import MultivariateOptions

SKAB_ROWS: Final = 400
SKAB: Final = DetectionOptions(clean_window="400s", multivariate=MultivariateOptions(returned=0.5))
TEP_ROW_S: Final = 180
TEP: Final = DetectionOptions(
    clean_window=f"{500 * TEP_ROW_S}s",
    relearn_after="1000h",
    multivariate=MultivariateOptions(false_alarms="1 per equipment per day", returned=0.0),
)
_TEP_START: Final = 1_700_000_000 * SECOND
#: The test run of a fault is another run than the one that is learned: a hole lies between them.
_TEP_HOLE_NS: Final = 7200 * SECOND


@dataclass(frozen=True, slots=True)
class Series:
    """One file: column names, times in ns, values float64[n, p], and the texts of the times."""

    name: str
    columns: list[str]
    time_ns: NDArray[np.int64]
    values: NDArray[np.float64]
    texts: list[str]


def budget(options: DetectionOptions, false_alarms: str) -> DetectionOptions:
    """The same configuration with another false-alarm budget of the multivariate detector."""
    own = options.multivariate.model_copy(update={"false_alarms": false_alarms})
    return options.model_copy(update={"multivariate": own})


def skab_files(folder: Path) -> Iterator[Series]:
    """The labelled files, by name."""
    for path in sorted(folder.rglob("*.csv")):
        with path.open(encoding="utf-8", newline="") as lines:
            header, *rows = csv.reader(lines, delimiter=";")
        if "anomaly" not in header:
            continue
        texts = [row[0] for row in rows]
        times = [int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND for text in texts]
        values = np.array([[float(cell) for cell in row[1:9]] for row in rows])
        name = path.relative_to(folder).as_posix()
        yield Series(name, header[1:9], np.array(times, np.int64), values, texts)


def skab(folder: Path, options: DetectionOptions, detector: str = "pca") -> Iterator[tuple[str, str, int, int]]:
    """
    Rows of the scorer: file, datetime, anomaly, changepoint; *detector* "" for any.

    Anomalous is a row at which a finding is active, and a change point one at which a finding began or was over.
    """
    for series in skab_files(folder):
        stream = Stream(series.columns, 1000, options)
        before: set[tuple[str, int, str]] = set()
        for i, time_ns in enumerate(series.time_ns.tolist()):
            found = stream.row(time_ns, series.values[i])
            now: set[tuple[str, int, str]] = {
                (f.detector, f.tag, f.direction) for f in found if detector in ("", f.detector)
            }
            yield series.name, series.texts[i], int(bool(now)), int(now != before)
            before = now


def tep_normal(folder: Path) -> NDArray[np.float64]:
    """The normal training run, float64[500, 52]."""
    return np.loadtxt(folder / "d00.dat").T


def tep(folder: Path, options: DetectionOptions, detector: str = "pca") -> Iterator[tuple[str, int, int]]:
    """Rows of the scorer: file, row, anomaly. What the normal training run has taught stands before each test run."""
    normal = tep_normal(folder)
    names = [f"x{i + 1}" for i in range(normal.shape[1])]
    taught = Stream(names, TEP_ROW_S * 1000, options)
    begin_ns = _TEP_START
    for row in normal:
        taught.row(begin_ns, row)
        begin_ns += TEP_ROW_S * SECOND
    for path in sorted(folder.glob("d??_te.dat")):
        stream = taught.again()
        time_ns = begin_ns + _TEP_HOLE_NS
        for i, row in enumerate(np.loadtxt(path)):
            found = stream.row(time_ns, row)
            yield path.name, i, int(any(detector in ("", finding.detector) for finding in found))
            time_ns += TEP_ROW_S * SECOND


def write(path: Path, header: tuple[str, ...], rows: Iterator[tuple[str | int, ...]]) -> None:
    """A CSV file of predictions."""
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(header)
        out.writerows(rows)
