"""Faults between the plant and its reader: what arrives, with the physics as it would be without them."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import get_args

import pytest

from simulators.plant import Plant
from simulators.site import REGISTERS
from simulators.source_faults import (
    COLD_S,
    CYCLE_S,
    FAULT_SOURCE,
    KEPT_S,
    SOURCES,
    TWO_REGISTERS,
    Arrived,
    SourceFault,
    SourceFaultKind,
    SourceSide,
)

START, END, LAST = 10, 80, 130
Scans = list[dict[str, list[Arrived]]]


def scans(kind: SourceFaultKind | None, last: int = LAST) -> Scans:
    """What arrives in each second of a plant, the fault from START to END."""
    side = SourceSide(Plant(3, step_s=0.5), None if kind is None else SourceFault(kind, START, END))
    return [side.scan(second) for second in range(last)]


@pytest.fixture(scope="module")
def healthy() -> Scans:
    return scans(None)


def values(rows: Sequence[Arrived]) -> list[float]:
    return [row.value for row in rows]


def test_sources_are_those_of_the_demo() -> None:
    """Equipment by source as the demo's maps have it, and the registers that hold half a number."""
    assert {point.name for point in REGISTERS if point.type == "float32"} == TWO_REGISTERS
    assert {point.name.partition(".")[0] for point in REGISTERS} == set(SOURCES["skid_plc"])
    assert set(FAULT_SOURCE) == set(get_args(SourceFaultKind))


@pytest.mark.parametrize("kind", get_args(SourceFaultKind))
def test_only_its_source_and_its_time(healthy: Scans, kind: SourceFaultKind) -> None:
    """Other sources, and all of them before and long after the fault, are the same to the last bit."""
    found = scans(kind)
    for second, (one, other) in enumerate(zip(found, healthy, strict=True)):
        for source in SOURCES:
            touched = source == FAULT_SOURCE[kind] and START <= second <= END
            assert touched or one[source] == other[source], (second, source)
    assert any(one != other for one, other in zip(found, healthy, strict=True))


def test_a_frozen_clock_still_sends_values(healthy: Scans) -> None:
    """Device times stand where they were, the values go on."""
    found = scans("frozen_clock")[START:END]
    assert {row.device_s for scan in found for row in scan["filler"]} == {START}
    assert [values(scan["filler"]) for scan in found] == [values(scan["filler"]) for scan in healthy[START:END]]


def test_a_late_batch_comes_behind_live_rows(healthy: Scans) -> None:
    """Nothing is lost or sent twice; what was kept comes in order, after rows that are younger."""
    found = scans("late_batch")
    arrived = [row for scan in found for row in scan["meters"]]
    assert sorted(arrived) == sorted(row for scan in healthy for row in scan["meters"])
    assert all(not scan["meters"] for scan in found[START : START + KEPT_S])
    batch = [row.device_s for row in found[START + KEPT_S]["meters"] if row.signal == "M1.Energy"]
    assert batch == [START + KEPT_S, *range(START, START + KEPT_S)]
    assert not found[START + CYCLE_S]["meters"]


def test_swapped_words_are_nonsense_of_the_same_bits(healthy: Scans) -> None:
    """Two registers in the other order; swapped once more they are the number again, to a float's precision."""
    for row, was in zip(scans("byte_swap")[50]["skid_plc"], healthy[50]["skid_plc"], strict=True):
        if row.signal not in TWO_REGISTERS:
            assert row == was
            continue
        assert not math.isclose(row.value, was.value, rel_tol=0.5)
        high, low = struct.unpack(">HH", struct.pack(">f", row.value))
        assert struct.unpack(">f", struct.pack(">HH", low, high))[0] == pytest.approx(was.value, rel=1e-6)


def test_a_plc_that_reboots_is_away_and_then_cold() -> None:
    """Every scan is answered bad; its first ones serve zeros as if they were good."""
    found = scans("plc_reboot")
    away, cold = found[START : END - COLD_S], found[END - COLD_S : END]
    assert all(scan["skid_plc"] for scan in away)
    assert not any(row.good for scan in away for row in scan["skid_plc"])
    assert all(math.isnan(row.value) for scan in away for row in scan["skid_plc"])
    assert {(row.good, row.value) for scan in cold for row in scan["skid_plc"]} == {(True, 0.0)}


def test_nothing_crosses_a_cut_network(healthy: Scans) -> None:
    """Not then, and not afterwards."""
    found = scans("network_cut")
    assert all(not scan["meters"] for scan in found[START:END])
    assert found[END]["meters"] == healthy[END]["meters"]
