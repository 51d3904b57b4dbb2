"""Labelled data of a real test bed: the anomaly is found, and the normal part before it stays quiet."""

from __future__ import annotations

import csv
from datetime import UTC, datetime

import numpy as np
import pytest

from detectors.detection import Detection, DetectionOptions
from normalizers.normalizer import Normalizer
from normalizers.options import NormalizerOptions
from schemas.entries import Position
from schemas.samples import SampleBatch
from schemas.tagmap import Tag, TagMap

S = 1_000_000_000
BENCH = "Skab/Lab/Water/Bench"


@pytest.mark.parametrize("name", ["valve1/1", "valve1/3", "valve1/4", "other/5"])
def test_labelled_fault_is_found_and_the_time_before_is_quiet(shared, name):
    """With a clean window of 400 s the first episode opens within the labelled fault, none before it."""
    with (shared / "data" / "skab" / f"{name}.csv").open(encoding="utf-8", newline="") as lines:
        header, *rows = csv.reader(lines, delimiter=";")
    times = [int(datetime.fromisoformat(row[0]).replace(tzinfo=UTC).timestamp()) * S for row in rows]
    values = np.array([[float(cell) for cell in row[1:9]] for row in rows])
    faulty = [time for time, row in zip(times, rows, strict=True) if float(row[9]) > 0]
    tags = tuple(
        Tag(number=i, id=title, path=f"{BENCH}/{title}", source="bench", address=title, equipment=BENCH)
        for i, title in enumerate(header[1:9])
    )
    tag_map = TagMap(site="Skab/Lab", tags=tags)
    normalizer = Normalizer(NormalizerOptions())
    detection = Detection(DetectionOptions(clean_window="400s"))
    normalizer.use_map(tag_map.revision, tag_map)
    detection.use_map(tag_map.revision, tag_map)
    found = []
    for i, time in enumerate(times):
        batch = SampleBatch.build("bench", tag_map.revision, time, tag=range(8), source_ns=[time] * 8, value=values[i])
        detection.records(normalizer.step(batch, Position(1, i + 1)))
        found += [(time, anomaly) for anomaly in detection.tick(time)]
    opened = [time for time, anomaly in found if anomaly.revision == 0]
    assert faulty[0] <= opened[0] <= faulty[-1]
