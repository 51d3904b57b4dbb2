"""A journal with a plant in it: two minutes of a pump, a bearing that gets hot for a while, a gap, a reject."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np

from broker.core.pipeline import Pipeline
from broker.journal import JournalFiles, JournalOptions, JournalWriter
from broker.store import Store, StoreOptions
from detectors.detection import Detection, DetectionOptions
from normalizers.normalizer import Normalizer
from normalizers.options import NormalizerOptions
from schemas.entries import Entry, JournalReader, Link, MapInForce, Position, Tick
from schemas.samples import Gap, GapCause, Reject, SampleBatch
from schemas.status import Flag
from schemas.tagmap import Equipment, Tag, TagMap
from simulators.plant import Fault, Plant
from tests.waiting import PATIENT_STORE

SECOND = 1_000_000_000
T0 = 1_790_000_000 * SECOND
P101 = "Demo/Site/Skid1/P101"
SIGNALS = ("BearingTemp", "Vibration", "Flow", "MotorPower", "SuctionPressure")
PERIOD_NS = 200_000_000


def tag_map() -> TagMap:
    """The pump's five signals, unscaled, with a range on the bearing temperature."""
    tags = tuple(
        Tag(
            number=i,
            id=f"t-{name.lower()}",
            path=f"{P101}/{name}",
            source="plc",
            address=name,
            type="float64",
            scan_ms=200,
            unit="Cel" if name == "BearingTemp" else "1",
            range=(0.0, 75.0) if name == "BearingTemp" else None,
            equipment=P101,
        )
        for i, name in enumerate(SIGNALS)
    )
    return TagMap(site="Demo/Site", tags=tags, equipment=(Equipment(path=P101, equipment_class="centrifugal_pump"),))


class Clock:
    """Wall time of the journal's entries, moved by hand."""

    def __init__(self) -> None:
        self.now_ns = T0

    def __call__(self) -> int:
        return self.now_ns


def write_journal(folder: Path, seconds: int = 120, fault_at_s: float = 45.0, *, mapped: bool = True) -> int:
    """Write the stream and return its number of samples."""
    plant = Plant(11, [Fault("bearing_wear", fault_at_s, fault_at_s + 15.0, ramp_s=4.0)])
    clock = Clock()
    writer = JournalWriter(folder, JournalOptions(), now_ns=clock, mono_ns=clock)
    writer.open()
    site = tag_map()
    futures = [writer.append(Link("plc", True))]
    if mapped:
        futures.append(writer.append(MapInForce(site.revision, site.body)))
    samples = 0
    for step in range(int(seconds * SECOND / PERIOD_NS)):
        clock.now_ns = T0 + step * PERIOD_NS
        plant.advance(step * PERIOD_NS / SECOND)
        now = plant.signals()
        batch = SampleBatch.build(
            "plc",
            site.revision,
            clock.now_ns,
            tag=range(len(SIGNALS)),
            source_ns=[clock.now_ns + i for i in range(len(SIGNALS))],
            value=[float(now[f"P101.{name}"]) for name in SIGNALS],  # type: ignore[arg-type]
            flags=np.full(len(SIGNALS), int(Flag.ARRIVAL_TIME), np.uint32),
        )
        futures.append(writer.append(batch))
        samples += len(batch)
        if step % 5 == 4:
            futures.append(writer.append(Tick()))
    futures.append(writer.append(Gap("plc", (), clock.now_ns, None, GapCause.LINK_DOWN)))
    futures.append(writer.append(Reject("plc", "40001", "cannot be decoded", b"\x00\xff", clock.now_ns)))
    for future in futures:
        future.result(120)
    writer.close()
    return samples


class Bundled:
    """The journal, handed out in bundles of given sizes: what a slower or faster reader would get."""

    def __init__(self, files: JournalFiles, sizes: list[int]) -> None:
        self._files = files
        self._sizes = sizes
        self._turn = 0

    def read(self, after: Position, limit: int = 1000) -> list[Entry]:
        self._turn += 1
        return list(self._files.read(after, min(limit, self._sizes[self._turn % len(self._sizes)])))

    def done(self, position: Position) -> None:
        self._files.done(position)


def open_store(folder: Path) -> Store:
    """A fresh SQLite store."""
    folder.mkdir(parents=True, exist_ok=True)
    store = Store.open(StoreOptions.model_validate(PATIENT_STORE), folder, write=True)
    store.upgrade()
    return store


def make_pipeline(store: Store, journal: JournalReader) -> Pipeline:
    """The pipeline as the core builds it, with a learning time that fits the stream."""
    options = DetectionOptions(clean_window="30s", close_after="10s")  # type: ignore[arg-type]
    return Pipeline(store, journal, Normalizer(NormalizerOptions()), Detection(options))


#: What a journal decides; people, audit and the model's answers come from elsewhere.
TABLES = ("records", "rollup_1m", "rollup_1h", "gaps", "quarantine", "tags", "anomalies", "anomaly_revisions")
MORE_TABLES = ("evidence", "annotations")


def dump(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    """Content of every table that the journal decides, in order."""
    with sqlite3.connect(f"file:{folder / 'store.db'}?mode=ro", uri=True) as connection:
        return {
            table: sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
            for table in TABLES + MORE_TABLES
        }
