"""
Simulated plants side by side under one detection: each has a copy of the demo's tags and equipment of its own.

A call of normalizer and detection costs about the same for one plant as for fifty, so that many plants together take
hardly longer than one. The signals go straight into normalizer and detection, one row of each tag a simulated second.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

from broker.config.loader import load_config
from broker.tagmap.loader import load
from detectors.detection import Detection, DetectionOptions
from normalizers.normalizer import Normalizer
from normalizers.options import NormalizerOptions
from schemas.anomaly import Anomaly
from schemas.entries import Position
from schemas.records import RecordBatch
from schemas.samples import SampleBatch
from schemas.tagmap import TagMap
from simulators.plant import Plant

SECOND: Final = 1_000_000_000
T0: Final = 1_790_000_000 * SECOND
_SOURCE: Final = "plant"
#: Values of some seconds come at once, so that none is late before the next batch.
_STALE_MS: Final = 30_000
_ROOMS: Final = {"Room12": "R12"}


def demo_site() -> tuple[TagMap, DetectionOptions]:
    """The demo's tag map, and how the demo is told to detect."""
    names = {"modbus_host": "127.0.0.1", "modbus_port": "502", "opcua_endpoint": "opc.tcp://127.0.0.1:4840"}
    names |= {"mqtt_url": "mqtt://127.0.0.1:1883", "api_port": "8080"}
    with as_file(files("broker.demo")) as folder, tempfile.TemporaryDirectory(prefix="fairlead-bench-") as home:
        text = (folder / "fairlead.yaml").read_text(encoding="utf-8")
        for name, value in names.items():
            text = text.replace("{" + name + "}", value)
        (Path(home) / "fairlead.yaml").write_text(text, encoding="utf-8")
        shutil.copytree(folder / "maps", Path(home) / "maps")
        config = load_config(Path(home) / "fairlead.yaml")
        return load(config), config.detection


def site_map(rate: int = 1) -> TagMap:
    """The demo's tag map, for values in engineering units, *rate* of each tag a second."""
    tag_map, _ = demo_site()
    plain = {"scale_mode": "none", "factor": 1.0, "offset": 0.0, "clamp": "none", "source": _SOURCE}
    plain |= {"stale_after_ms": _STALE_MS, "scan_ms": 1000 // rate}
    numeric = [tag for tag in tag_map.tags if not (tag.type or "").startswith("string")]
    tags = tuple(tag.model_copy(update=plain | {"number": number}) for number, tag in enumerate(numeric))
    return tag_map.model_copy(update={"tags": tags})


def unit_of(equipment: str) -> str:
    """The plant's own name of a piece of equipment."""
    name = equipment.rsplit("/", 1)[-1]
    return _ROOMS.get(name, name)


@dataclass(frozen=True, slots=True)
class Opened:
    """The first revision of an anomaly: which plant, when in plant seconds, and what."""

    plant: int
    second: int
    anomaly: Anomaly

    @property
    def unit(self) -> str:
        """The plant's own name of the equipment."""
        return unit_of(self.anomaly.equipment)

    @property
    def detectors(self) -> str:
        """Who found it, sorted."""
        return ", ".join(sorted({member.detector for member in self.anomaly.members}))


class Fleet:
    """
    Plants and one detection; ``opened`` grows while the time passes.

    *rate* values of each tag come a second; detection begins at the plant second *start_s*.
    """

    def __init__(
        self, plants: Sequence[Plant], site: TagMap, options: DetectionOptions, *, rate: int = 1, start_s: int = 0
    ) -> None:
        self.second = start_s
        self.opened: list[Opened] = []
        self._plants = plants
        self._rate = rate
        self.tag_map = copies(site, len(plants))
        self._names = [signal_of(tag.path) for tag in site.tags]
        self._numbers = list(range(len(self.tag_map.tags)))
        self._normalizer = Normalizer(NormalizerOptions())
        self._detection = Detection(options)
        self._normalizer.use_map(self.tag_map.revision, self.tag_map)
        self._detection.use_map(self.tag_map.revision, self.tag_map)

    def until(self, second: int, tick_s: int = 1) -> None:
        """Let the plants run up to *second*; a batch and a tick come each *tick_s* simulated seconds."""
        while self.second < second:
            times: list[int] = []
            values: list[float] = []
            for _ in range(min(tick_s, second - self.second)):
                for part in range(1, self._rate + 1):
                    now_s = self.second + part / self._rate
                    times += [T0 + round(now_s * SECOND)] * len(self._numbers)
                    for plant in self._plants:
                        plant.advance(now_s)
                        signals = plant.signals()
                        values += [float(signals[name] or 0) for name in self._names]
                self.second += 1
            tags = self._numbers * (len(times) // len(self._numbers))
            batch = SampleBatch.build(
                _SOURCE, self.tag_map.revision, times[-1], tag=tags, source_ns=times, value=values
            )
            records = self._normalizer.step(batch, Position(1, self.second))
            self._detection.records(records)
            anomalies = self._detection.tick(times[-1])
            self.seen(records, anomalies)
            for anomaly in anomalies:
                if anomaly.revision == 0:
                    self.opened.append(Opened(plant_of(anomaly.equipment), self.second, anomaly))

    def seen(self, records: RecordBatch, anomalies: Sequence[Anomaly]) -> None:
        """What a batch and its tick brought; nothing here, a subclass may keep it."""

    @staticmethod
    def plant_of(anomaly: Anomaly) -> int:
        """Number of the plant that an anomaly is of."""
        return plant_of(anomaly.equipment)


def copies(site: TagMap, count: int) -> TagMap:
    """The map of *count* plants; the second part of a path says which it is."""
    width = len(site.tags)
    tags = [
        tag.model_copy(
            update={
                "number": plant * width + tag.number,
                "id": f"{tag.id}.{plant}",
                "path": _moved(tag.path, plant),
                "equipment": _moved(tag.equipment, plant),
            }
        )
        for plant in range(count)
        for tag in site.tags
    ]
    equipment = [
        item.model_copy(update={"path": _moved(item.path, plant), "state": item.state and _moved(item.state, plant)})
        for plant in range(count)
        for item in site.equipment
    ]
    return TagMap(site=site.site, tags=tuple(tags), equipment=tuple(equipment))


def _moved(path: str, plant: int) -> str:
    enterprise, _, *rest = path.split("/") if path else ("", "")
    return "/".join((enterprise, str(plant), *rest)) if path else ""


def plant_of(equipment: str) -> int:
    """Number of the plant that a piece of equipment belongs to."""
    return int(equipment.split("/")[1])


def signal_of(path: str) -> str:
    """The plant's own name of a tag."""
    *_, unit, name = path.split("/")
    return f"{_ROOMS.get(unit, unit)}.{name}"
