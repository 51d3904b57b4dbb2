"""A scripted stream of records and ticks for detector tests; no clock but the one the script moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from detectors.detection import Detection, DetectionOptions
from schemas.anomaly import Anomaly
from schemas.calendar import Window
from schemas.entries import Link, Position
from schemas.records import RecordBatch
from schemas.samples import Origin
from schemas.suppression import Command, SuppressionEvent
from schemas.tagmap import Equipment, Tag, TagMap

S = 1_000_000_000
NOW = 1_790_000_000 * S
UNIT = "Acme/Lyon/Utilities/P101"


def make_tag(number: int, **more: Any) -> Tag:
    given = {
        "id": f"id{number}",
        "path": f"{UNIT}/T{number}",
        "source": "plc",
        "address": str(number),
        "equipment": UNIT,
    }
    return Tag(number=number, **(given | more))


def make_records(
    revision: bytes,
    tag: Sequence[int],
    source_ns: Sequence[int],
    value: Sequence[float],
    *,
    status: Sequence[int] | None = None,
    flags: Sequence[int] | None = None,
    exact: dict[int, Any] | None = None,
    source: str = "plc",
    origin: Origin = Origin.LIVE,
) -> RecordBatch:
    n = len(tag)
    return RecordBatch(
        source=source,
        origin=origin,
        map_revision=revision,
        position=Position(1, 1),
        received_ns=max(source_ns, default=0),
        tag=np.asarray(tag, np.int32),
        source_ns=np.asarray(source_ns, np.int64),
        server_ns=None,
        value=np.asarray(value, np.float64),
        status=np.zeros(n, np.uint32) if status is None else np.asarray(status, np.uint32),
        flags=np.zeros(n, np.uint32) if flags is None else np.asarray(flags, np.uint32),
        fingerprint=np.zeros(n, np.int64),
        exact=exact or {},
    )


@dataclass
class Script:
    """Drives one Detection; ``said`` collects every revision, ``second`` is the time of the script."""

    tag_map: TagMap
    detection: Detection
    second: float = 0.0
    said: list[Anomaly] = field(default_factory=list)
    events: list[SuppressionEvent] = field(default_factory=list)

    @property
    def now_ns(self) -> int:
        return NOW + round(self.second * S)

    def send(self, values: dict[int, float], **more: Any) -> None:
        """One row of each of these tags at the script's time."""
        times = [self.now_ns] * len(values)
        batch = make_records(self.tag_map.revision, list(values), times, list(values.values()), **more)
        assert self.detection.records(batch) == []

    def tick(self, seconds: float = 1.0, times: int = 1) -> list[Anomaly]:
        """Let time pass in ticks; the revisions they gave."""
        found = []
        for _ in range(times):
            self.second += seconds
            self.events += self.detection.suppressor.tick(self.now_ns)
            found += self.detection.tick(self.now_ns)
        self.said += found
        return found

    def run(self, column: dict[int, Sequence[float]], **more: Any) -> list[Anomaly]:
        """One row of each tag and one tick a second, for as long as the columns are."""
        found = []
        for i in range(len(next(iter(column.values())))):
            self.send({number: float(values[i]) for number, values in column.items()}, **more)
            found += self.tick()
        return found

    def link(self, *, up: bool, source: str = "plc") -> None:
        assert self.detection.link(Link(source, up), self.now_ns) == []

    def ask(self, action: str, target: str, **more: Any) -> str:
        """A person's command, taken at the next tick; its id."""
        command_id = f"{len(self.events):032x}"
        more = {"actor": "a.moreau", "reason": "known", **more}
        self.detection.suppressor.command(Command(command_id, action, target=target, **more))  # type: ignore[arg-type]
        return command_id

    def learned(self) -> frozenset[str]:
        """Ids of the tags that have a control chart."""
        charts = self.detection._parts.panel.charts
        assert charts is not None
        return frozenset(self.detection._parts.slots.ids[place] for place in np.flatnonzero(charts.chart.learned))

    def latest(self) -> dict[str, Anomaly]:
        """Last revision of each anomaly, in the order of their beginning."""
        return {anomaly.anomaly_id: anomaly for anomaly in self.said}


@pytest.fixture
def script() -> Callable[..., Script]:
    """Start a script: ``script(tag, tag, equipment=[...], clean_window="100s")``."""

    def start(
        *tags: Tag, equipment: Sequence[Equipment] = (), calendar: Sequence[Window] = (), **options: Any
    ) -> Script:
        tag_map = TagMap(site="Acme/Lyon", tags=tuple(tags), equipment=tuple(equipment), calendar=tuple(calendar))
        detection = Detection(DetectionOptions(**options))
        detection.use_map(tag_map.revision, tag_map)
        made = Script(tag_map, detection)
        made.detection.suppressor.tick(made.now_ns)
        made.detection.tick(made.now_ns)
        return made

    return start


@pytest.fixture
def tag() -> Callable[..., Tag]:
    """Make a tag of the test unit by its number."""
    return make_tag


@pytest.fixture
def records() -> Callable[..., RecordBatch]:
    """Make a batch of records from lists."""
    return make_records
