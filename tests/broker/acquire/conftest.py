"""A journal in a folder, and options of a source that wait for nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapters.base import Backoff, SourceOptions
from broker.acquire.runner import AdapterRunner
from broker.journal import JournalFiles, JournalOptions, JournalWriter
from schemas.entries import START, Entry
from tests.broker.acquire.scripted import REVISION, Plant

OPTIONS = JournalOptions.model_validate({"commit": {"every": "1ms"}, "segment": "64KiB", "max_size": "1MiB"})


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[JournalWriter]:
    """An open journal in ``tmp_path/journal``."""
    writer = JournalWriter(tmp_path / "journal", OPTIONS)
    writer.open()
    yield writer
    writer.close()


@pytest.fixture
def read(tmp_path: Path) -> Callable[[], list[Entry]]:
    """Every durable entry of that journal."""
    return lambda: list(JournalFiles(tmp_path / "journal").read(START, 100_000))


@pytest.fixture
def options() -> SourceOptions:
    """Back-off of 10 ms to 40 ms, silence after 100 ms."""
    return SourceOptions.model_construct(
        enabled=True,
        description="",
        scan=0.01,
        backoff=Backoff.model_construct(first=0.01, max=0.04),
        silence_after=0.1,
    )


@pytest.fixture
def run(journal: JournalWriter, options: SourceOptions) -> Callable[..., AdapterRunner]:
    """A runner of the source `plc` over a scripted plant."""

    def make(plant: Plant, **changes: object) -> AdapterRunner:
        changes.setdefault("map_revision", REVISION)
        chosen = changes.pop("options", options)
        return AdapterRunner("plc", plant.build, chosen, journal, now_ns=plant.now_ns, **changes)  # type: ignore[arg-type]

    return make
