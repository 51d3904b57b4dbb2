"""Births and positions over a restart: used as long as nothing can have replaced them unseen."""

from __future__ import annotations

import pytest

from adapters.mqtt.message import Message
from schemas import status
from simulators.sparkplug_node import Metric, encode
from tests.adapters.mqtt.sparkplug.plant import ACTIVE, ARRIVED, NODE, SENT, Plant


def test_births_survive_a_restart_where_the_session_did() -> None:
    """
    What was dumped reads data without a new birth. Where the session was lost, births are forgotten and asked for, or
    where that is not allowed doubted, whatever the numbers say.
    """
    before = Plant()
    before.born()
    saved, places = before.host.dump(), before.host.positions()
    kept, lost, passive = Plant(), Plant(**ACTIVE), Plant()
    kept.host.restore(saved, places, kept=True, now_s=kept.now_s)
    lost.host.restore(saved, places, kept=False, now_s=lost.now_s)
    passive.host.restore(saved, places, kept=False, now_s=passive.now_s)
    sent = [Metric(None, "Double", 1.0, 1, typed=False)]

    assert len(kept.put("DDATA", sent, 2, "press")) == 1
    assert len(kept.put("DDATA", sent, 3, "press")) == 1
    assert lost.put("DDATA", sent, 2, "press") == []
    assert lost.host.losses.commands == ["spBv1.0/G/NCMD/n"]
    assert [row.status for row in passive.put("DDATA", sent, 2, "press")] == [status.UNCERTAIN]
    assert passive.facts["edge node G/n"].endswith("rebirth needed, and rebirth is never: the session is new")
    rows = kept.put("NDEATH", [Metric("bdSeq", "UInt64", 4)], None)
    assert len(rows) == 4


@pytest.mark.parametrize("seq", [77, 250, None], ids=["ahead", "behind", "none"])
def test_births_that_may_have_been_replaced_unseen_are_doubted_where_none_may_be_asked_for(seq: int | None) -> None:
    """The node's first number is not the next one: a gap since its last message, and uncertain values until births."""
    before = Plant()
    before.born()
    plant = Plant()
    plant.host.restore(before.host.dump(), before.host.positions(), kept=True, now_s=plant.now_s)
    sent = [Metric(None, "Double", 1.0, 1, typed=False), Metric("Temperature", "Double", 2.0)]
    rows = plant.put("DDATA", sent, seq, "press") + plant.later(0.3)
    again = Plant()  # a doubt is not forgotten over another restart
    again.host.restore(plant.host.dump(), plant.host.positions(), kept=True, now_s=again.now_s)
    rows += again.put("DDATA", sent, None if seq is None else seq + 1, "press") + again.later(0.3)

    assert [(row.value, row.status) for row in rows] == [(1.0, status.UNCERTAIN), (2.0, status.GOOD)] * 2
    (hole,) = plant.gaps()
    assert (hole.tags, hole.from_ns) == ((0, 1, 2, 3), ARRIVED + 2)
    assert hole.to_ns is not None
    assert (plant.counters["births_doubted"], plant.rejects, plant.host.losses.commands) == (1, [], [])
    plant.born()
    rows = plant.put("DDATA", [Metric(None, "Double", 1.0, 1, typed=False)], 2, "press")
    assert [row.status for row in rows] == [status.GOOD]


def test_births_of_a_node_that_was_dead_are_not_used_for_what_it_says_behind_an_absence() -> None:
    """That a birth passed unseen is certain there, and no doubt."""
    before = Plant()
    before.born()
    before.put("NDEATH", [Metric("bdSeq", "UInt64", 4)], None)
    for kept in (True, False):
        plant = Plant()
        plant.host.restore(before.host.dump(), before.host.positions(), kept=kept, now_s=plant.now_s)
        rows = plant.put("DDATA", [Metric(None, "Double", 1.0, 1, typed=False)], 2, "press") + plant.later(0.3)
        assert (rows, [reject.reason for reject in plant.rejects]) == ([], ["G/n/press: no birth known"])


@pytest.mark.parametrize("seq", [77, 250, None], ids=["ahead", "behind", "none"])
def test_births_that_may_have_been_replaced_unseen_are_forgotten(seq: int | None) -> None:
    """The node's first number is not the next one: a gap since its last message, a rebirth, and no value."""
    before = Plant()
    before.born()
    plant = Plant(role="secondary_active", rebirth="on_need")
    plant.host.restore(before.host.dump(), before.host.positions(), kept=True, now_s=plant.now_s)
    rows = plant.put("DDATA", [Metric(None, "Double", 1.0, 1, typed=False)], seq, "press")
    rows += plant.later(0.3)

    assert rows == []
    hole, unexplained = plant.gaps()
    assert (hole.tags, hole.from_ns, unexplained.to_ns) == ((0, 1, 2, 3), ARRIVED + 2, None)
    assert plant.host.losses.commands == ["spBv1.0/G/NCMD/n"]
    assert plant.counters["births_forgotten"] == 1
    plant.born()
    assert len(plant.put("DDATA", [Metric(None, "Double", 1.0, 1, typed=False)], 2, "press")) == 1


@pytest.mark.parametrize(("sparkplug", "statuses"), [(ACTIVE, []), ({}, [status.UNCERTAIN])], ids=["active", "passive"])
def test_births_without_a_position_are_not_trusted(sparkplug: dict[str, str], statuses: list[int]) -> None:
    """After a power cut the position may be lost: nothing tells whether a birth was missed."""
    before = Plant()
    before.born()
    plant = Plant(**sparkplug)
    plant.host.restore(before.host.dump(), None, kept=True, now_s=plant.now_s)

    rows = plant.put("DDATA", [Metric(None, "Double", 1.0, 1, typed=False)], 2, "press") + plant.later(0.3)
    assert [row.status for row in rows] == statuses
    assert "rebirth" in plant.facts["edge node G/n"]


def test_a_birth_that_was_read_but_not_stored_makes_the_one_before_untrusted() -> None:
    """With QoS 0 it does not come again; the numbers may fit by chance, and yet the old aliases are not used."""
    plant = Plant()
    plant.born()
    saved, places = plant.host.dump(), plant.host.positions()
    swapped = [Metric("Temperature", "Double", 70.0, 2), Metric("Count", "UInt32", 9, 1)]
    plant.put("NBIRTH", NODE, 0)
    plant.put("DBIRTH", swapped, 1, "press")
    plant.host.restore(saved, places, kept=True, now_s=plant.now_s)

    assert plant.host.changed
    assert plant.put("DDATA", [Metric(None, "Double", 1.0, 1, typed=False)], 2, "press") == []
    assert plant.later(0.3) == []
    assert plant.counters["births_forgotten"] == 1


def test_what_was_settled_and_comes_again_is_not_read_anew() -> None:
    """Only its acknowledgement was lost; the births may be newer than it is."""
    plant = Plant()
    plant.born()
    sent = [Metric(None, "Double", 1.0, 1, typed=False)]
    plant.put("DDATA", sent, 2, "press")
    plant.host.restore(plant.host.dump(), plant.host.positions(), kept=True, now_s=plant.now_s)
    again = Message(b"spBv1.0/G/DDATA/n/press", encode(sent, SENT, 2), 30, 1, False, True, 7, ARRIVED + 9)

    assert plant._decode([again]) == []
    assert plant.counters["repeated"] == 1
    assert len(plant.put("DDATA", sent, 3, "press")) == 1


def test_what_waited_when_the_connection_ended_is_counted() -> None:
    """With QoS 0 nobody sends it again."""
    plant = Plant()
    plant.born()
    assert plant.put("DDATA", [Metric(None, "Double", 1.0, 1, typed=False)], 9, "press") == []
    plant.host.restore(plant.host.dump(), plant.host.positions(), kept=True, now_s=plant.now_s)

    assert plant.counters["dropped"] == 1
    assert plant.host.due_s is None
