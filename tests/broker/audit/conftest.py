"""A core with one episode whose records really are in a journal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.journal import JournalOptions, JournalWriter
from schemas.annotation import Annotation
from schemas.anomaly import Anomaly
from schemas.evidence import Evidence
from schemas.samples import SampleBatch
from schemas.tagmap import TagMap
from tests.broker.api.core import Core, S, bearing_wear, plant, running_core
from tests.broker.cli.conftest import fairlead

__all__ = ["fairlead"]
T0 = 1_790_000_000 * S
Episode = tuple[Anomaly, Evidence, Annotation]
Run = Callable[..., Any]


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    """A core over an empty journal."""
    with running_core(tmp_path) as core:
        yield core


@pytest.fixture
def episode(core: Core) -> Episode:
    """An open episode with records and the rules' annotation."""
    return bearing_wear(core, T0)


@pytest.fixture
def run(core: Core, fairlead: Run) -> Run:
    """One command of ``fairlead audit`` on this core's site."""
    config = str(core.services.config.path)
    return lambda *arguments: fairlead("audit", *arguments, "--config", config)


def _raw(tag_map: TagMap, rows: list[dict[str, Any]], at_ns: Callable[[str], int]) -> Iterator[SampleBatch]:
    numbers = {tag.path: tag.number for tag in tag_map.tags}
    together: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        together.setdefault((row["received_time"], row["path"]), []).append(row)
    for (received, path), same in together.items():
        yield SampleBatch.build(
            "pumps",
            tag_map.revision,
            at_ns(received),
            tag=[numbers[path]] * len(same),
            source_ns=[at_ns(row["source_time"]) for row in same],
            # as a device sends it: a tenth of a unit a count
            value=[10 * row["value"] for row in same],
            status=[0] * len(same),
        )


@pytest.fixture
def journalled(core: Core, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[], Path]:
    """Write what is stored as the samples it came from; into a folder of its own, or core would read them, too."""

    def write() -> Path:
        from broker.store.episodes import parse_time

        pulled = core.as_role("consumer").get("/api/v1/records", params={"limit": 10_000}).json()["records"]
        now = [0]
        writer = JournalWriter(
            tmp_path / "journal",
            JournalOptions.model_validate({"commit": {"every": "1ms"}}),
            now_ns=lambda: now[0],
            mono_ns=lambda: now[0],
        )
        now[0] = parse_time(pulled[-1]["received_time"]) + 5_000_000
        writer.open()
        for batch in _raw(plant(), pulled, parse_time):
            writer.append(batch).result(120)
        writer.close()
        capsys.readouterr()  # what the writer said
        return tmp_path / "journal"

    return write
