"""What the demo site's plant did before its servers were up."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import pytest

from simulators.plant import Fault, Plant
from simulators.recording import record, served
from simulators.site import PERIOD_S


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[Plant, list[dict[str, str]]]:
    """A plant that has run for 20 s, and the rows of its recording."""
    plant = Plant(7, [Fault("bearing_wear", 5.0)])
    record(plant, 20.0, tmp_path / "before.csv")
    with (tmp_path / "before.csv").open(encoding="utf-8", newline="") as file:
        return plant, list(csv.DictReader(file))


def test_the_recording_ends_where_the_live_plant_begins(recorded: tuple[Plant, list[dict[str, str]]]) -> None:
    """A row each period up to time 0, and no fault of the schedule that is still to come."""
    plant, rows = recorded
    times = [int(row["time"]) for row in rows]

    assert len(rows) == round(20.0 / PERIOD_S)
    assert {later - time for time, later in pairwise(times)} == {round(PERIOD_S * 1000)}
    assert plant.now_s == 0.0
    assert not plant.active()
    assert max(float(row["40011"]) for row in rows) < 2500, "vibration, 0.001 mm/s"
    plant.advance(15.0)
    assert [fault.kind for fault in plant.active()] == ["bearing_wear"]


def test_values_are_those_of_the_sources(recorded: tuple[Plant, list[dict[str, str]]]) -> None:
    """Registers as counts, and an OPC UA value only where it has changed."""
    plant, rows = recorded

    assert list(rows[0]) == ["time", *served(plant.signals())]
    assert all(row["40001"].isdigit() for row in rows), "speed is an uint16"
    states = [row["nsu=urn:fairlead:demo:filler;s=F301.State"] for row in rows]
    assert states == ["6", *[""] * (len(rows) - 1)]
    assert all(row["nsu=urn:fairlead:demo:filler;s=F301.FillWeight"] for row in rows)
