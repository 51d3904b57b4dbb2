"""The host: births give names, deaths take values, and what nobody can explain is told instead of guessed."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import AdapterContext
from adapters.mqtt import MqttOptions
from adapters.mqtt.decode import Decoder
from adapters.mqtt.message import Block, Message
from adapters.mqtt.sparkplug.topics import Edge
from schemas import status
from schemas.samples import Gap, GapCause, Origin, Reject, Sample
from schemas.status import Flag
from schemas.tagmap import Tag
from simulators.sparkplug_node import Metric, _varint, encode

ARRIVED = 1_800_000_000 * 10**9
SENT = 1_799_999_999_000
FILTER = [{"filter": "spBv1.0/#", "decode": "sparkplug"}]
ADDRESSES = {
    "spBv1.0/G/n#Uptime": "int32",
    "spBv1.0/G/n/press#Temperature": "float64",
    "spBv1.0/G/n/press#Count": "uint32",
    "spBv1.0/G/n/oven#Name": "string[20]",
}
PRESS = [Metric("Temperature", "Double", 60.5, 1), Metric("Count", "UInt32", 3, 2)]
NODE = [Metric("bdSeq", "UInt64", 4), Metric("Uptime", "Int32", 7, 0)]
ACTIVE = {"role": "secondary_active", "rebirth": "on_need"}
GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden.json").read_text("utf-8"))


class Plant:
    """A decoder with a host, fed with messages of node G/n; ``now_s`` moves by hand."""

    def __init__(self, addresses: dict[str, str | None] | None = None, **sparkplug: Any) -> None:
        chosen: dict[str, str | None] = {**ADDRESSES} if addresses is None else addresses
        tags = tuple(
            Tag(number=n, id=f"t{n}", path=f"S/{n}", source="m", address=address, type=type_)
            for n, (address, type_) in enumerate(chosen.items())
        )
        raw = {"broker": "mqtt://127.0.0.1", "subscriptions": FILTER, **({"sparkplug": sparkplug} if sparkplug else {})}
        self.counters: Counter[str] = Counter()
        self.facts: dict[str, str] = {}
        context = AdapterContext("m", tags, b"m" * 16, lambda: ARRIVED, Path())
        self.decoder = Decoder(MqttOptions.model_validate(raw), context, self.counters, self.facts)
        assert self.decoder.host is not None
        self.host = self.decoder.host
        self.now_s = 100.0
        self.host.restore(None, kept=True, now_s=self.now_s)
        self.rejects: list[Reject] = []
        self.origin = Origin.LIVE
        self._n = 0

    def put(
        self, kind: str, metrics: list[Metric], seq: int | None, device: str = "", *, sent: int | None = SENT
    ) -> list[Sample]:
        """One message; the rows that come of it."""
        topic = f"spBv1.0/G/{kind}/n" + (f"/{device}" if device else "")
        return self.raw(topic, encode(metrics, sent, seq))

    def raw(self, topic: str, payload: bytes) -> list[Sample]:
        """One message of any content."""
        self._n += 1
        message = Message(topic.encode(), payload, len(payload), 0, False, False, 0, ARRIVED + self._n)
        return self._decode([message])

    def later(self, seconds: float) -> list[Sample]:
        """What comes of waiting."""
        self.now_s += seconds
        return self._decode([])

    def born(self) -> list[Sample]:
        """Births of the node and of the press, numbers 0 and 1."""
        return self.put("NBIRTH", NODE, 0) + self.put("DBIRTH", PRESS, 1, "press")

    def gaps(self) -> list[Gap]:
        """Gaps since the last call."""
        gaps, self.host.losses.gaps = self.host.losses.gaps, []
        return gaps

    def _decode(self, messages: list[Message]) -> list[Sample]:
        batch, rejects = self.decoder.decode(Block.of(*messages), self.now_s)
        batch.check()
        self.rejects += rejects
        self.origin = batch.origin
        return list(batch.rows())


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


def test_history_quality_and_null_say_what_they_are() -> None:
    """A historical metric is marked as filled in later, a null has no number, and Quality becomes a status."""
    plant = Plant()
    plant.born()
    sent = [
        Metric(None, "Double", 1.0, 1, 5_000_000_000_00, historical=True, typed=False),
        Metric(None, "Double", None, 1, typed=False),
        *[Metric(None, "Double", 2.0, 1, quality=mark, typed=False) for mark in (192, 0, 500, 64, 7777)],
    ]
    rows = plant.put("DDATA", sent, 2, "press")

    assert rows[0].flags & Flag.BACKFILL
    assert rows[0].source_ns == 500_000_000_000 * 10**6
    assert [row.status for row in rows] == [
        status.GOOD,
        status.BAD,
        status.GOOD,
        status.BAD,
        status.UNCERTAIN_NO_COMMUNICATION,
        status.UNCERTAIN,
        status.UNCERTAIN,
    ]
    assert [isinstance(r.value, float) and math.isnan(r.value) for r in rows] == [False, True, False, True] + [
        False
    ] * 3
    assert plant.counters["quality_unknown"] == 1
    old = plant.put("DDATA", [Metric(None, "Double", 1.0, 1, SENT, historical=True, typed=False)], 3, "press")
    assert len(old) == 1
    assert plant.origin is Origin.HISTORY


def test_tables_and_templates_are_flattened_to_names() -> None:
    """Members and cells are metrics of their own; the whole can be taken as a structure."""
    names = ["table", "table/n", "table[1]/text", "motor/speed", "motor/inner/on", "motor/rated", "old"]
    plant = Plant({f"spBv1.0/G/n/press#{name}": None for name in names})
    payload = bytes.fromhex(GOLDEN["special"])
    plant.put("NBIRTH", NODE, 254)
    rows = plant.raw("spBv1.0/G/DBIRTH/n/press", payload)

    assert {names[row.tag]: row.value for row in rows} == {
        "table": {"n": [-7, 8], "text": ["a", "b"]},
        "table/n": [-7, 8],
        "table[1]/text": "b",
        "motor/speed": -5.0,
        "motor/inner/on": 1.0,
        "motor/rated": 63.5,
        "old": 1.5,
    }


def template(name: str, *members: Metric | bytes, **more: Any) -> bytes:
    """A template metric as bytes; *more* as in :class:`Metric`."""
    inner = b"".join(member if isinstance(member, bytes) else encode([member]) for member in members)
    head = encode([Metric(name, None, None, **more)])
    body = head[2:].removesuffix(b"\x38\x01") + b"\x20\x13"  # its null away, its datatype there
    body += b"\x92\x01" + _varint(len(inner)) + inner
    return b"\x12" + _varint(len(body)) + body


def born_with(plant: Plant, *metrics: bytes) -> dict[str, Sample]:
    """Rows of a birth of the press with these metrics, by the last part of the tag's address."""
    plant.put("NBIRTH", NODE, 0)
    rows = plant.raw("spBv1.0/G/DBIRTH/n/press", encode([], SENT) + b"".join(metrics) + b"\x18\x01")
    return {plant.decoder._context.tags[row.tag].address.partition("#")[2]: row for row in rows}


def test_a_float_is_told_from_a_double() -> None:
    """A Float, also in a template; NaN and null have no number."""
    plant = Plant({f"spBv1.0/G/n/press#{name}": None for name in ("one", "two", "none", "nan", "in/one", "in/two")})
    plain = (("one", "Float", 21.1), ("two", "Double", 21.1), ("none", "Float", None), ("nan", "Float", math.nan))
    rows = born_with(
        plant,
        *(encode([Metric(*one)]) for one in plain),
        template("in", Metric("one", "Float", 21.1), Metric("two", "Double", 21.1)),
    )
    assert {name for name, row in rows.items() if row.flags & Flag.FLOAT32} == {"one", "in/one"}
    assert (rows["one"].value, rows["two"].value) == (21.100000381469727, 21.1)


def test_a_member_of_a_template_has_its_own_quality_and_time() -> None:
    """What the member says of itself is the row's; what it does not say is the template's, and of two the worse."""
    names = ("speed", "temp", "old", "plain", "inner/on", "inner/off")
    plant = Plant({f"spBv1.0/G/n/press#{top}/{name}": None for top in ("motor", "pump") for name in names})
    members = (
        Metric("speed", "Double", 1500.0, quality=0),
        Metric("temp", "Double", 55.0, timestamp=SENT - 60_000, quality=192),
        Metric("old", "Double", 5.0, timestamp=SENT - 3_600_000, historical=True),
        Metric("plain", "Double", 6.0),
        template("inner", Metric("on", "Boolean", True), Metric("off", "Boolean", False, quality=0), quality=500),
    )
    rows = born_with(plant, template("motor", *members), template("pump", *members, timestamp=SENT - 5, quality=64))

    good, stale = status.GOOD, status.UNCERTAIN_NO_COMMUNICATION
    said = {name: (row.status, (row.source_ns // 10**6) - SENT, row.flags) for name, row in rows.items()}
    assumed, filled = int(Flag.ASSUMED_GOOD), int(Flag.BACKFILL)
    assert said == {
        "motor/speed": (status.BAD, 0, 0),
        "motor/temp": (good, -60_000, 0),
        "motor/old": (good, -3_600_000, assumed | filled),
        "motor/plain": (good, 0, assumed),
        "motor/inner/on": (stale, 0, 0),
        "motor/inner/off": (status.BAD, 0, 0),
        "pump/speed": (status.BAD, -5, 0),
        "pump/temp": (status.UNCERTAIN, -60_000, 0),
        "pump/old": (status.UNCERTAIN, -3_600_000, filled),
        "pump/plain": (status.UNCERTAIN, -5, 0),
        "pump/inner/on": (status.UNCERTAIN, -5, 0),
        "pump/inner/off": (status.BAD, -5, 0),
    }
    assert all(math.isnan(row.value) for row in rows.values() if row.status == status.BAD)  # type: ignore[arg-type]


def test_a_template_as_one_value_is_as_good_as_its_members() -> None:
    """A bad member has no value in it, and the whole is uncertain; an inner template that is null takes its parts."""
    plant = Plant({f"spBv1.0/G/n/press#{name}": None for name in ("motor", "pump", "pump/inner/on")})
    rows = born_with(
        plant,
        template("motor", Metric("speed", "Double", 1500.0, quality=0), Metric("temp", "Double", 55.0)),
        template("pump", b"\x12\x0b\x0a\x05inner\x20\x13\x38\x01", Metric("temp", "Double", 5.0)),
    )

    assert (rows["motor"].status, rows["motor"].value) == (status.UNCERTAIN, {"speed": None, "temp": 55.0})
    assert (rows["pump"].status, rows["pump"].value) == (status.GOOD, {"inner": None, "temp": 5.0})
    assert rows["pump/inner/on"].status == status.BAD


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
