"""A journal of 100 tags, written as fast as it goes, and what of it is in SQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from broker.core.pipeline import Pipeline
from broker.journal import JournalOptions, JournalWriter
from broker.store import Store
from detectors.detection import Detection, DetectionOptions
from normalizers.normalizer import Normalizer
from normalizers.options import NormalizerOptions
from schemas.entries import JournalReader, MapInForce, Tick
from schemas.samples import SampleBatch
from schemas.tagmap import Tag, TagMap

S = 1_000_000_000
T0 = 1_790_000_000 * S
TAGS = 100
MAP = TagMap(
    site="A/B",
    tags=tuple(Tag(number=n, id=f"t{n}", path=f"A/B/T{n}", source="plc", address=str(n)) for n in range(TAGS)),
)


class Plant:
    """Writes a journal of 100 tags, ten batches a second of journal time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now_ns, self.batches = folder, T0, 0
        self.writer = JournalWriter(folder, JournalOptions(), now_ns=lambda: self.now_ns, mono_ns=lambda: self.now_ns)
        self.writer.open()
        self.writer.append(MapInForce(MAP.revision, MAP.body)).result(60)
        self.sent: list[NDArray[np.float64]] = []
        self._rng = np.random.default_rng(3)

    def run(self, seconds: int) -> None:
        futures = []
        for _ in range(seconds * 10):
            self.now_ns += S // 10
            values = self._rng.normal(20, 1, TAGS)
            self.sent.append(values)
            batch = SampleBatch.build(
                "plc",
                MAP.revision,
                self.now_ns,
                tag=range(TAGS),
                source_ns=[self.now_ns] * TAGS,
                value=values,
            )
            futures.append(self.writer.append(batch))
            self.batches += 1
            if self.batches % 10 == 0:
                futures.append(self.writer.append(Tick()))
        for future in futures:
            future.result(120)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    made = Plant(tmp_path / "journal")
    yield made
    made.writer.close()


def pipeline_of(store: Store, journal: JournalReader, made: type[Pipeline] = Pipeline) -> Pipeline:
    return made(store, journal, Normalizer(NormalizerOptions()), Detection(DetectionOptions()))


@dataclass(frozen=True)
class Outcome:
    """What SQL has of what a plant sent: rows that are missing, there twice, and of another value."""

    lost: int
    doubled: int
    wrong: int


def outcome(store: Store, plant: Plant) -> Outcome:
    """Compare every row of SQL with what was sent."""
    text = "SELECT source_ts, tag_id, value FROM records ORDER BY source_ts, tag_id, seq"
    with store._read.connect() as connection:
        rows = connection.exec_driver_sql(text).fetchall()
    numbers = {tag: number for number, tag in enumerate(sorted({tag for _, tag, _ in rows}))}
    seen = {(source_ns, tag) for source_ns, tag, _ in rows}
    wrong = sum(plant.sent[(ns - T0) // (S // 10) - 1][numbers[tag]] != value for ns, tag, value in rows)
    return Outcome(plant.batches * TAGS - len(seen), len(rows) - len(seen), int(wrong))


def count(store: Store) -> int:
    """Rows in SQL."""
    with store._read.connect() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM records").scalar_one())
