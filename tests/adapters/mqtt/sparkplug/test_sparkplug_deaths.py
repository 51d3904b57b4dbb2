"""Deaths take values, where they are those of the connection that lives."""

from __future__ import annotations

import math

import pytest

from schemas import status
from schemas.status import Flag
from simulators.sparkplug_node import Metric
from tests.adapters.mqtt.sparkplug.plant import ACTIVE, ARRIVED, NODE, SENT, Plant


def test_a_death_is_one_row_without_a_value_for_each_tag() -> None:
    """The tags of the node and of all its devices say no communication; a second death says nothing new."""
    plant = Plant()
    plant.born()
    rows = plant.put("NDEATH", [Metric("bdSeq", "UInt64", 4)], None, sent=SENT - 10**6)

    assert [row.tag for row in rows] == [0, 1, 2, 3]
    assert {row.status for row in rows} == {status.BAD_NO_COMMUNICATION}
    assert all(isinstance(row.value, float) and math.isnan(row.value) for row in rows)
    assert all(row.flags & Flag.ARRIVAL_TIME and row.source_ns >= ARRIVED for row in rows)
    assert plant.put("NDEATH", [Metric("bdSeq", "UInt64", 4)], None) == []
    assert plant.later(0.3) == []
    assert plant.counters["deaths_ignored"] == 1


def test_a_device_s_death_is_dated_by_itself_and_concerns_it_alone() -> None:
    """DDEATH carries its own time."""
    plant = Plant()
    plant.born()
    rows = plant.put("DDEATH", [], 2, "press", sent=SENT + 7)
    assert [(row.tag, row.source_ns, row.status) for row in rows] == [
        (1, (SENT + 7) * 10**6, status.BAD_NO_COMMUNICATION),
        (2, (SENT + 7) * 10**6, status.BAD_NO_COMMUNICATION),
    ]
    assert len(plant.put("NDATA", [Metric(None, "Int32", 1, 0, typed=False)], 3)) == 1


def test_the_death_of_an_earlier_connection_is_ignored() -> None:
    """A will that comes after the node is back carries another bdSeq."""
    plant = Plant()
    plant.born()
    assert plant.put("NDEATH", [Metric("bdSeq", "UInt64", 3)], None) == []
    assert plant.later(0.3) == []
    assert plant.counters["deaths_ignored"] == 1
    assert len(plant.put("DDATA", [Metric(None, "Double", 1.0, 1, typed=False)], 2, "press")) == 1


def test_a_death_that_overtook_its_birth_is_taken_behind_it() -> None:
    """NDEATH and NBIRTH of one bdSeq in the wrong order: the node is dead at the end."""
    plant = Plant()
    assert plant.put("NDEATH", [Metric("bdSeq", "UInt64", 4)], None) == []
    assert len(plant.put("NBIRTH", NODE, 0)) == 1
    rows = plant.later(0.3)
    assert {row.status for row in rows} == {status.BAD_NO_COMMUNICATION}
    assert plant.facts["edge node G/n"].startswith("offline")


@pytest.mark.parametrize("will", ["timed", "timed at its bdSeq", "untimed"])
def test_a_death_before_the_birth_of_a_node_that_is_back_with_the_same_number_is_not_its_death(will: str) -> None:
    """We came in the middle: the will of the connection before comes first, the birth while the will waits."""
    plant = Plant()
    long_ago = SENT - 60_000
    at_metric = long_ago if will == "timed at its bdSeq" else None
    plant.put(
        "NDEATH", [Metric("bdSeq", "UInt64", 4, timestamp=at_metric)], None, sent=long_ago if will == "timed" else None
    )
    plant.later(0.05)
    rows = plant.born() + plant.later(0.3)
    rows += plant.put("DDATA", [Metric(None, "Double", 5.5, 1, typed=False)], 2, "press")

    assert [(row.value, row.status) for row in rows] == [(value, status.GOOD) for value in (7.0, 60.5, 3.0, 5.5)]
    assert (plant.counters["deaths"], plant.counters["deaths_ignored"], plant.rejects) == (0, 1, [])
    assert (len(plant.host.finished), plant.host.due_s) == (1, None)
    assert len(plant.put("NDEATH", [Metric("bdSeq", "UInt64", 4)], None)) == 4


@pytest.mark.parametrize("restart", [False, True], ids=["same connection", "over a restart"])
def test_a_death_that_the_node_outlives_is_taken_back(restart: bool) -> None:
    """Made just before the birth, it may have been the birth's own; the next message shows that it was not."""
    plant = Plant(**ACTIVE)
    plant.put("NDEATH", [Metric("bdSeq", "UInt64", 4)], None, sent=SENT - 50)
    plant.born()
    assert {row.status for row in plant.later(0.3)} == {status.BAD_NO_COMMUNICATION}
    if restart:
        saved, places = plant.host.dump(), plant.host.positions()
        plant = Plant(**ACTIVE)
        plant.host.restore(saved, places, kept=True, now_s=plant.now_s)
    rows = plant.put("DDATA", [Metric(None, "Double", 5.5, 1, typed=False)], 2, "press")

    assert [(row.tag, row.value, row.status) for row in rows] == [(1, 5.5, status.GOOD)]
    assert plant.counters["deaths_taken_back"] == 1
    assert plant.facts["edge node G/n"].startswith("online, bdSeq 4, 4 metrics, 1 devices online; rebirth requested")
    assert plant.host.losses.commands == ["spBv1.0/G/NCMD/n"]  # what the death made bad says its value again
    assert (plant.gaps(), plant.rejects) == ([], [])


def test_a_death_is_not_taken_back_by_numbers_that_do_not_go_on() -> None:
    """A birth with other aliases may have been lost behind it."""
    plant = Plant(**ACTIVE)
    plant.put("NDEATH", [Metric("bdSeq", "UInt64", 4)], None)
    plant.born()
    plant.later(0.3)
    rows = plant.put("DDATA", [Metric(None, "Double", 5.5, 1, typed=False)], 1, "press") + plant.later(0.3)

    assert rows == []
    assert plant.counters["births_forgotten"] == 1


def test_a_second_death_of_a_connection_does_not_end_the_next_one() -> None:
    """The farewell of a node and its will: both are of the connection that is over, and so is nothing behind them."""
    plant = Plant()
    plant.born()
    assert len(plant.put("NDEATH", [Metric("bdSeq", "UInt64", 4)], None)) == 4
    assert plant.put("NDEATH", [Metric("bdSeq", "UInt64", 4)], None) == []
    rows = plant.born() + plant.later(0.3)
    rows += plant.put("DDATA", [Metric(None, "Double", 5.5, 1, typed=False)], 2, "press")

    assert {row.status for row in rows} == {status.GOOD}
    assert (plant.counters["deaths"], plant.counters["deaths_ignored"]) == (1, 1)


def test_a_death_told_twice_is_not_taken_back() -> None:
    """The second one is that of the birth."""
    plant = Plant()
    plant.put("NDEATH", [Metric("bdSeq", "UInt64", 4)], None)
    plant.born()
    plant.later(0.3)
    assert plant.put("NDEATH", [Metric("bdSeq", "UInt64", 4)], None) == []
    assert plant.put("DDATA", [Metric(None, "Double", 5.5, 1, typed=False)], 2, "press") + plant.later(0.3) == []
