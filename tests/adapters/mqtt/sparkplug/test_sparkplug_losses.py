"""Lost messages and births: a gap, values that are uncertain, or a request for a birth, and never a guess."""

from __future__ import annotations

import itertools

import pytest

from schemas import status
from schemas.samples import GapCause, Sample
from schemas.status import Flag
from simulators.sparkplug_node import Metric, encode
from tests.adapters.mqtt.sparkplug.plant import ACTIVE, NODE, PRESS, SENT, Plant


def test_a_missing_number_is_a_gap_of_the_node() -> None:
    """
    After the wait the hole is a gap over all tags of the node, and no alias is trusted until the next birth, which is
    asked for; what comes before it is kept as it came.

    What is missing may have been a birth with other aliases.
    """
    plant = Plant(role="secondary_active", rebirth="on_need")
    plant.born()
    assert plant.put("DDATA", [Metric(None, "Double", 1.0, 1, typed=False)], 4, "press") == []
    assert plant.put("DDATA", [Metric(None, "Double", 2.0, 1, typed=False)], 5, "press") == []
    assert plant.later(0.26) == []

    gap, unexplained = plant.gaps()
    assert (unexplained.tags, unexplained.to_ns) == ((1, 2), None)
    assert [reject.reason for reject in plant.rejects] == ["G/n/press: no birth known"] * 2
    assert plant.host.losses.commands == ["spBv1.0/G/NCMD/n"]
    assert plant.counters["births_forgotten"] == 1
    assert (gap.cause, gap.tags, gap.detail) == (
        GapCause.SEQUENCE_GAP,
        (0, 1, 2, 3),
        "G/n: 2 messages before seq 4 did not come",
    )
    assert gap.to_ns is not None
    assert gap.from_ns < gap.to_ns
    plant.put("DBIRTH", PRESS, 6, "press")
    assert [row.value for row in plant.put("DDATA", [Metric(None, "Double", 3.0, 1, typed=False)], 7, "press")] == [3.0]


@pytest.mark.parametrize("sparkplug", [{}, {"role": "primary", "host_id": "site"}], ids=["passive", "primary"])
def test_a_missing_number_makes_values_uncertain_where_no_rebirth_may_be_asked_for(sparkplug: dict[str, str]) -> None:
    """
    The next birth may be weeks away: the births are used on, for values that are uncertain, until each comes anew.

    What names itself is as sure as before, and what no birth explains is refused with its bytes.
    """
    plant = Plant(**sparkplug)
    plant.born()
    plant.put("DBIRTH", [Metric("Name", "String", "idle", 1)], 2, "oven")
    rows = plant.put("DDATA", [Metric(None, "Double", 1.0, 1, typed=False)], 4, "press")
    rows += plant.later(0.26)
    for seq in range(5, 205):
        rows += plant.put("DDATA", [Metric(None, "Double", float(seq), 1, typed=False)], seq, "press")

    (gap,) = plant.gaps()
    assert (gap.tags, gap.detail) == ((0, 1, 2, 3), "G/n: 1 messages before seq 4 did not come")
    assert [row.value for row in rows] == [1.0, *(float(seq) for seq in range(5, 205))]
    assert {(row.status, Flag(row.flags) & Flag.ASSUMED_GOOD) for row in rows} == {(status.UNCERTAIN, Flag(0))}
    assert (plant.rejects, plant.host.losses.commands) == ([], [])
    assert (plant.counters["births_doubted"], plant.counters["births_forgotten"]) == (1, 0)
    assert "a birth may have been lost: values are uncertain; rebirth needed" in plant.facts["edge node G/n"]

    sent = [
        Metric("Temperature", "Double", 1.0),
        Metric("Temperature", "Double", 2.0, typed=False),
        Metric(None, "Double", 3.0, 1, quality=0, typed=False),
        Metric(None, "Double", None, 1, typed=False),
        Metric(None, "Double", 4.0, 77, typed=False),
    ]
    rows = plant.put("DDATA", sent, 205, "press")
    assert [row.status for row in rows] == [status.GOOD, status.UNCERTAIN, status.BAD, status.BAD]
    assert [bool(row.flags & Flag.ASSUMED_GOOD) for row in rows] == [True, False, False, False]
    (reject,) = plant.rejects
    assert (reject.reason, reject.raw) == ("G/n/press: its birth has no alias 77", encode(sent, SENT, 205))

    plant.put("DBIRTH", PRESS, 206, "press")
    pressed = plant.put("DDATA", [Metric(None, "Double", 3.0, 1, typed=False)], 207, "press")
    oven = plant.put("DDATA", [Metric(None, "String", "hot", 1, typed=False)], 208, "oven")
    assert [row.status for row in pressed + oven] == [status.GOOD, status.UNCERTAIN]
    plant.put("NBIRTH", NODE, 0)
    plant.put("DBIRTH", [Metric("Name", "String", "idle", 1)], 1, "oven")
    oven = plant.put("DDATA", [Metric(None, "String", "hot", 1, typed=False)], 2, "oven")
    assert [row.status for row in oven] == [status.GOOD]
    assert "uncertain" not in plant.facts["edge node G/n"]


def test_a_doubt_outlives_a_restart_and_the_node_s_death_is_heard() -> None:
    """The birth that was lost may have had another bdSeq, so any death is taken for the node's."""
    before = Plant()
    before.born()
    before.put("NDATA", [], 3)
    before.later(0.3)
    plant = Plant()
    plant.host.restore(before.host.dump(), before.host.positions(), kept=True, now_s=plant.now_s)

    rows = plant.put("DDATA", [Metric(None, "Double", 3.0, 1, typed=False)], 4, "press")
    assert [(row.value, row.status) for row in rows] == [(3.0, status.UNCERTAIN)]
    rows = plant.put("NDEATH", [Metric("bdSeq", "UInt64", 5)], None)
    assert [row.status for row in rows] == [status.BAD_NO_COMMUNICATION] * 4


def test_a_node_that_does_not_number_is_incomplete_until_its_next_birth() -> None:
    """Order is given up, which is counted, shown, and an open gap over the node's tags."""
    plant = Plant()
    plant.born()
    values = [float(n) for n in range(12)]
    rows: list[Sample] = []
    for value in values:
        rows += plant.put("DDATA", [Metric(None, "Double", value, 1, typed=False)], 1, "press")
        rows += plant.later(0.3)

    assert [row.value for row in rows] == values
    (opened,) = plant.gaps()
    assert (opened.tags, opened.to_ns) == ((0, 1, 2, 3), None)
    assert plant.counters["order_given_up"] == 1
    assert "order is not checked" in plant.facts["edge node G/n"]
    plant.born()
    (closed,) = plant.gaps()
    assert (closed.tags, closed.from_ns) == (opened.tags, opened.from_ns)
    assert closed.to_ns is not None
    assert "order is not checked" not in plant.facts["edge node G/n"]


def test_losses_are_told_however_many_there_are() -> None:
    """A bad line is no reason to stop looking: the hundredth hole is a gap as the first one is."""
    plant = Plant()
    plant.born()
    for seq in range(3, 203, 2):
        plant.put("NDATA", [], seq)
        plant.later(0.3)

    assert plant.counters["sequence_gaps"] == len(plant.gaps()) == 100
    assert plant.counters["order_given_up"] == 0


@pytest.mark.parametrize(
    ("sparkplug", "statuses"), [(ACTIVE, []), ({}, [status.UNCERTAIN] * 2)], ids=["active", "passive"]
)
def test_a_device_birth_that_was_lost_lends_no_good_value_to_another_tag(
    sparkplug: dict[str, str], statuses: list[int]
) -> None:
    """
    A DBIRTH that swaps two aliases does not come: of the messages behind it nothing is stored where the birth can be
    asked for, and nothing as good where it cannot.
    """
    plant = Plant(**sparkplug)
    twins = [Metric("Temperature", "Double", 60.5, 1), Metric("Count", "Double", 3.0, 2)]
    plant.put("NBIRTH", NODE, 0)
    plant.put("DBIRTH", twins, 1, "press")
    rows = plant.put("DDATA", [Metric(None, "Double", 99.0, 1, typed=False)], 3, "press")
    rows += plant.later(0.3)
    rows += plant.put("DDATA", [Metric(None, "Double", 99.0, 1, typed=False)], 4, "press")
    assert [row.status for row in rows] == statuses
    assert not any(row.flags & Flag.ASSUMED_GOOD for row in rows)


def test_a_rebirth_is_asked_for_once_in_a_while() -> None:
    """One request a node, however many reasons; the pause doubles, and begins anew with a birth."""
    plant = Plant(role="secondary_active", rebirth="on_need", rebirth_every="1s")
    times = []
    for step in range(400):
        plant.put("DDATA", [Metric(None, "Double", 1.0, 1, typed=False)], step % 256, "press")
        plant.later(0.1)
        if plant.host.losses.commands:
            assert plant.host.losses.commands == ["spBv1.0/G/NCMD/n"]
            plant.host.losses.commands = []
            times.append(plant.now_s)
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert pauses == pytest.approx([1, 2, 4, 8, 16], abs=0.31)
    plant.born()
    plant.put("DDATA", [Metric(None, "Double", 1.0, 99, typed=False)], 2, "press")
    assert plant.host.losses.commands == ["spBv1.0/G/NCMD/n"]
    assert plant.counters["rebirths_requested"] == len(times) + 1
