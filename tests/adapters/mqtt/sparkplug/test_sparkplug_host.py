"""The host: births give names to what comes behind them, and no order of messages breaks it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.mqtt.sparkplug.topics import Edge
from schemas import status
from schemas.samples import GapCause, Sample
from schemas.status import Flag
from simulators.sparkplug_node import Metric, encode
from tests.adapters.mqtt.sparkplug.plant import NODE, PRESS, SENT, Plant


def test_births_give_values_names_and_types_to_aliases() -> None:
    """Birth values are rows; data by alias alone takes name and datatype from the birth of its own device."""
    plant = Plant()

    assert [(row.tag, row.value) for row in plant.born()] == [(0, 7.0), (1, 60.5), (2, 3.0)]
    oven = [Metric("Name", "String", "idle", 1)]
    assert [row.value for row in plant.put("DBIRTH", oven, 2, "oven")] == ["idle"]
    sent = [
        Metric(None, "Double", 61.25, 1, SENT + 5, typed=False),
        Metric(None, "UInt32", 4_000_000_000, 2, typed=False),
    ]
    rows = plant.put("DDATA", sent, 3, "press")

    good = int(Flag.ASSUMED_GOOD)
    assert rows == [
        Sample(1, (SENT + 5) * 10**6, 61.25, status.GOOD, good),
        Sample(2, SENT * 10**6, 4_000_000_000.0, status.GOOD, good),
    ]
    assert [row.value for row in plant.put("DDATA", [Metric(None, "String", "hot", 1, typed=False)], 4, "oven")] == [
        "hot"
    ]
    assert [row.value for row in plant.put("NDATA", [Metric(None, "Int32", -8, 0, typed=False)], 5)] == [-8.0]
    assert not plant.rejects
    assert plant.facts["edge node G/n"] == "online, bdSeq 4, 5 metrics, 2 devices online"


def test_data_without_a_birth_is_a_gap_until_the_birth_and_not_a_guess() -> None:
    """It waits for the birth, then is kept as it came, and is one gap that stays open and closes with the birth."""
    plant = Plant()
    unnamed = [Metric(None, "Double", 1.0, 1, typed=False)]
    assert plant.put("DDATA", unnamed, 9, "press") == []
    assert plant.rejects == []
    assert plant.later(0.3) == []
    for seq in (10, 11):
        assert plant.put("DDATA", [Metric(None, "Double", 1.0, 1, typed=False)], seq, "press") == []

    (opened,) = plant.gaps()
    assert (opened.cause, opened.tags, opened.to_ns) == (GapCause.SEQUENCE_GAP, (1, 2), None)
    assert {reject.reason for reject in plant.rejects} == {"G/n/press: no birth known"}
    assert [reject.raw for reject in plant.rejects] == [encode(unnamed, SENT, seq) for seq in (9, 10, 11)]
    assert plant.counters["without_birth"] == 3
    assert plant.host.losses.commands == []
    assert "rebirth needed, and rebirth is never" in plant.facts["edge node G/n"]
    plant.born()
    (closed,) = plant.gaps()
    assert (closed.tags, closed.cause, closed.from_ns) == (opened.tags, opened.cause, opened.from_ns)
    assert closed.to_ns is not None
    assert len(plant.put("DDATA", [Metric(None, "Double", 2.0, 1, typed=False)], 2, "press")) == 1


def test_a_device_without_tags_is_missed_by_nobody() -> None:
    """Its data without a birth is no gap, no refusal and no reason for a rebirth, and leaves nothing behind."""
    plant = Plant(role="secondary_active", rebirth="on_need")
    plant.put("NBIRTH", NODE, 0)
    for number in range(1, 200, 3):
        device = f"stranger{number}"
        plant.put("DDATA", [Metric(None, "Double", 1.0, 1, typed=False)], number, device)
        plant.put("DBIRTH", PRESS, number + 1, device)
        plant.put("DDEATH", [], number + 2, device)

    assert (plant.gaps(), plant.rejects, plant.host.losses.commands) == ([], [], [])
    assert plant.counters["reordered"] == 0
    node = plant.host._nodes[Edge("G", "n")]
    assert (list(node.state.devices), node.unexplained) == ([""], {})


def test_metrics_with_name_and_type_need_no_birth() -> None:
    """What says everything itself is taken."""
    plant = Plant()
    plant.put("DDATA", [Metric("Temperature", "Double", 5.5)], 9, "press")
    assert [row.value for row in plant.later(0.3)] == [5.5]


def test_a_name_without_a_type_needs_the_birth_as_an_alias_does() -> None:
    """How its bits are meant only a birth tells: a gap and a rebirth, not a refusal for ever."""
    plant = Plant(role="secondary_active", rebirth="on_need")
    named = [Metric("Temperature", "Double", 5.5, typed=False)]
    plant.put("DDATA", named, 9, "press")
    assert plant.later(0.3) == []
    (opened,) = plant.gaps()
    assert (opened.tags, opened.to_ns) == ((1, 2), None)
    assert plant.host.losses.commands == ["spBv1.0/G/NCMD/n"]
    plant.born()
    assert [row.value for row in plant.put("DDATA", named, 2, "press")] == [5.5]


@pytest.mark.parametrize("kind", ["NBIRTH", "DBIRTH"])
def test_an_unreadable_birth_ends_the_one_before_it(kind: str) -> None:
    """What it replaces is not valid any more: no value by the old aliases, and a rebirth; other devices go on."""
    plant = Plant(role="secondary_active", rebirth="on_need")
    plant.born()
    plant.put("DBIRTH", [Metric("Name", "String", "idle", 1)], 2, "oven")
    plant.raw(f"spBv1.0/G/{kind}/n" + ("/press" if kind == "DBIRTH" else ""), b"\xff")
    seq = 1 if kind == "NBIRTH" else 4

    assert [reject.reason[:23] for reject in plant.rejects] == ["not a Sparkplug payload"]
    assert plant.host.losses.commands == ["spBv1.0/G/NCMD/n"]
    assert plant.put("DDATA", [Metric(None, "Double", 99.0, 1, typed=False)], seq, "press") == []
    oven = plant.put("DDATA", [Metric(None, "String", "hot", 1, typed=False)], seq + 1, "oven")
    assert [row.value for row in oven] == (["hot"] if kind == "DBIRTH" else [])
    assert plant.counters["sequence_gaps"] == plant.counters["reordered"] == 0
    plant.put("DBIRTH", PRESS, seq + 2, "press")
    assert len(plant.put("DDATA", [Metric(None, "Double", 1.0, 1, typed=False)], seq + 3, "press")) == 1


def test_a_birth_longer_than_the_limit_ends_the_one_before_it() -> None:
    """It is refused before it is read."""
    plant = Plant()
    plant.born()
    plant.raw("spBv1.0/G/DBIRTH/n/press", bytes(2 << 20))
    assert plant.put("DDATA", [Metric(None, "Double", 99.0, 1, typed=False)], 3, "press") == []
    assert [reject.reason for reject in plant.rejects][1:] == ["G/n/press: no birth known"]


def test_unreadable_data_costs_only_itself() -> None:
    """Its number is one that cannot be read, and not one that is missing."""
    plant = Plant()
    plant.born()
    plant.raw("spBv1.0/G/DDATA/n/press", b"\xff")
    sent = [Metric(None, "Double", 1.0, 1, typed=False)]
    assert len(plant.put("DDATA", sent, 3, "press")) == 1
    plant.put("DDATA", sent, 5, "press")
    plant.later(0.3)
    assert plant.counters["sequence_gaps"] == 1


def test_an_empty_name_beside_an_alias_is_none() -> None:
    """Some encoders write every field."""
    plant = Plant()
    plant.born()
    rows = plant.put("DDATA", [Metric("", "Double", 5.5, 1)], 2, "press")
    assert [(row.tag, row.value) for row in rows] == [(1, 5.5)]
    plant.put("DDATA", [Metric("", "Double", 5.5, 77)], 3, "press")
    assert [reject.reason for reject in plant.rejects] == ["G/n/press: its birth has no alias 77"]


def test_an_alias_the_birth_does_not_know_costs_only_itself() -> None:
    """The others of the message are stored."""
    plant = Plant()
    plant.born()
    rows = plant.put(
        "DDATA", [Metric(None, "Double", 1.5, 1, typed=False), Metric(None, "Double", 9.0, 77)], 2, "press"
    )
    assert [row.value for row in rows] == [1.5]
    assert [reject.reason for reject in plant.rejects] == ["G/n/press: its birth has no alias 77"]


def test_a_datatype_other_than_the_birth_s_is_refused() -> None:
    """It would be the sign of a birth that passed unseen: no value under a wrong name."""
    plant = Plant()
    plant.born()
    assert plant.put("DDATA", [Metric(None, "String", "x", 1)], 2, "press") == []
    assert plant.put("DDATA", [Metric(None, "Boolean", True, 2, typed=False)], 3, "press") == []
    assert "its birth said Double, this says String" in plant.rejects[0].reason
    assert "is no UInt32" in plant.rejects[1].reason


def test_a_device_birth_before_its_node_birth_waits_for_it() -> None:
    """Brokers deliver them in either order; values and acknowledgements come when both are there."""
    plant = Plant()
    assert plant.put("DBIRTH", PRESS, 1, "press", sent=SENT + 1) == []
    assert plant.put("DDATA", [Metric(None, "Double", 2.5, 1, typed=False)], 2, "press", sent=SENT + 2) == []
    assert len(plant.host.held) == 2
    rows = plant.put("NBIRTH", NODE, 0)

    assert [(row.tag, row.value) for row in rows] == [(0, 7.0), (1, 60.5), (2, 3.0), (1, 2.5)]
    assert len(plant.host.finished) == 2
    assert plant.counters["sequence_gaps"] == 0


def test_a_late_node_birth_does_not_lend_its_aliases_to_the_old_one() -> None:
    """A node that began anew with other aliases while its NBIRTH is late: no value under the old names."""
    plant = Plant()
    plant.born()
    swapped = [Metric("Temperature", "Double", 70.0, 2), Metric("Count", "UInt32", 9, 1)]
    assert plant.put("DBIRTH", swapped, 1, "press", sent=SENT + 11) == []
    assert plant.put("DDATA", [Metric(None, "Double", 71.0, 2, typed=False)], 2 + 1, "press", sent=SENT + 13) == []
    rows = plant.put("NBIRTH", NODE, 0, sent=SENT + 10)
    rows += plant.put("NDATA", [], 2, sent=SENT + 12)

    assert [(row.tag, row.value) for row in rows] == [(0, 7.0), (1, 70.0), (2, 9.0), (1, 71.0)]
    assert not plant.rejects


def test_foreign_topics_and_groups_are_counted_and_cost_nothing() -> None:
    """Commands of other hosts, nodes without tags, and groups left out are no refusals."""
    plant = Plant(groups=["G"])
    assert plant.raw("spBv1.0/G/NCMD/n", b"\xff") == []
    assert plant.raw("spBv1.0/STATE/other", b"{}") == []
    assert plant.raw("spBv1.0/G/NDATA/stranger", b"\xff") == []
    assert plant.raw("spBv1.0/H/NDATA/n", b"\xff") == []
    assert plant.rejects == []
    assert (plant.counters["commands_ignored"], plant.counters["groups_ignored"]) == (2, 1)
    assert plant.raw("spBv1.0/G/NDATA/n", b"\xff") == []
    assert len(plant.rejects) == 1


_STEP = st.tuples(
    st.sampled_from(["NBIRTH", "NDEATH", "NDATA", "DBIRTH", "DDEATH", "DDATA"]),
    st.integers(0, 3) | st.integers(0, 255) | st.none(),
    st.sampled_from([0.0, 0.1, 0.3]),
    st.booleans(),
)


@pytest.mark.parametrize(
    "sparkplug", [{}, {"role": "secondary_active", "rebirth": "on_need"}], ids=["passive", "active"]
)
@given(steps=st.lists(_STEP, max_size=30))
def test_no_sequence_of_messages_breaks_the_host(
    sparkplug: dict[str, str], steps: list[tuple[str, int | None, float, bool]]
) -> None:
    """Whatever comes in whatever order: no error, no message that waits for ever, no value under another's name."""
    plant = Plant(**sparkplug)
    rows: list[Sample] = []
    for kind, seq, pause, named in steps:
        device = "press" if kind[0] == "D" else ""
        if kind == "NDEATH":
            metrics = [Metric("bdSeq", "UInt64", 4)]
        elif kind.endswith("BIRTH"):
            metrics = PRESS if device else NODE
        else:
            metrics = [Metric("Temperature" if named else None, "Double", 61.0, 1, typed=named)] if device else []
        rows += plant.put(kind, metrics, seq, device)
        rows += plant.later(pause)
    rows += plant.later(1.0)

    assert plant.host.due_s is None
    told = ("no birth known", "has no alias", "its birth said", "no Sparkplug")
    assert all(any(part in reject.reason for part in told) for reject in plant.rejects)
    wanted = {0: {7.0}, 1: {60.5, 61.0}, 2: {3.0}}
    assert all(row.value in wanted[row.tag] for row in rows if row.status == status.GOOD)
