"""Faults of sources in the simulated plant: each is told by who looks for it, and by nobody else's equipment."""

from __future__ import annotations

from typing import get_args

import pytest

from bench.detect_sources import SourceFleet, delay, false_ones
from bench.plant_fleet import plant_of, site_map
from detectors.detection import DetectionOptions
from schemas.anomaly import Anomaly
from simulators.plant import Plant
from simulators.source_faults import SourceFault, SourceFaultKind, SourceSide

START = 400
LASTS: dict[SourceFaultKind, int] = {
    "frozen_clock": 120,
    "late_batch": 180,
    "byte_swap": 120,
    "plc_reboot": 60,
    "network_cut": 90,
}
#: Longest delay that the detectors' own times allow: half a minute of silence, or two minutes that are counted.
WITHIN_S: dict[SourceFaultKind, int] = {
    "frozen_clock": 33,
    "late_batch": 121,
    "byte_swap": 2,
    "plc_reboot": 33,
    "network_cut": 33,
}
Told = list[tuple[int, Anomaly]]


@pytest.fixture(scope="module")
def runs() -> dict[SourceFaultKind | None, tuple[SourceFault | None, Told]]:
    """Of each fault, and of a plant without one: what was told."""
    kinds: list[SourceFaultKind | None] = [*get_args(SourceFaultKind), None]
    faults = [None if kind is None else SourceFault(kind, START, START + LASTS[kind]) for kind in kinds]
    sides = [SourceSide(Plant(11, step_s=0.5), fault) for fault in faults]
    fleet = SourceFleet(sides, site_map(), DetectionOptions.model_validate({"clean_window": "120s"}))
    fleet.until(START + max(LASTS.values()) + 320)
    told: list[Told] = [[] for _ in kinds]
    for second, anomaly in fleet.told:
        told[plant_of(anomaly.equipment)].append((second, anomaly))
    return {kind: (faults[place], told[place]) for place, kind in enumerate(kinds)}


@pytest.mark.parametrize("kind", get_args(SourceFaultKind))
def test_a_fault_of_a_source_is_told_by_who_looks_for_it(
    runs: dict[SourceFaultKind | None, tuple[SourceFault | None, Told]], kind: SourceFaultKind
) -> None:
    """On the equipment of its source, in time, and nothing else before, elsewhere or afterwards."""
    fault, told = runs[kind]
    assert fault is not None
    after, _ = delay(fault, told)
    assert after is not None
    assert after <= WITHIN_S[kind]
    assert false_ones(fault, told) == (0, 0)


def test_a_plant_without_a_fault_is_quiet(
    runs: dict[SourceFaultKind | None, tuple[SourceFault | None, Told]],
) -> None:
    """Control: the same seed, read beside the others."""
    assert runs[None][1] == []
