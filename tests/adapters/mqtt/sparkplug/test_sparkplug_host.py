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
from simulators.sparkplug_node import Metric, encode

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
    """It waits for the birth, then is told once, is a gap that stays open, and closes with the birth."""
    plant = Plant()
    assert plant.put("DDATA", [Metric(None, "Double", 1.0, 1, typed=False)], 9, "press") == []
    assert plant.rejects == []
    assert plant.later(0.3) == []
    for seq in (10, 11):
        assert plant.put("DDATA", [Metric(None, "Double", 1.0, 1, typed=False)], seq, "press") == []

    (opened,) = plant.gaps()
    assert (opened.cause, opened.tags, opened.to_ns) == (GapCause.SEQUENCE_GAP, (1, 2), None)
    assert [reject.reason for reject in plant.rejects] == ["G/n/press: no birth known"]
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
    After the wait the hole is a gap over all tags of the node, and no alias is trusted until the next birth.

    What is missing may have been a birth with other aliases.
    """
    plant = Plant()
    plant.born()
    assert plant.put("DDATA", [Metric(None, "Double", 1.0, 1, typed=False)], 4, "press") == []
    assert plant.put("DDATA", [Metric(None, "Double", 2.0, 1, typed=False)], 5, "press") == []
    assert plant.later(0.26) == []

    gap, unexplained = plant.gaps()
    assert (unexplained.tags, unexplained.to_ns) == ((1, 2), None)
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


def test_a_device_birth_that_was_lost_lends_no_value_to_another_tag() -> None:
    """A DBIRTH that swaps two aliases does not come: no value of the messages behind it is stored."""
    plant = Plant()
    twins = [Metric("Temperature", "Double", 60.5, 1), Metric("Count", "Double", 3.0, 2)]
    plant.put("NBIRTH", NODE, 0)
    plant.put("DBIRTH", twins, 1, "press")
    plant.put("DDATA", [Metric(None, "Double", 99.0, 1, typed=False)], 3, "press")
    assert plant.later(0.3) == []
    assert plant.put("DDATA", [Metric(None, "Double", 99.0, 1, typed=False)], 4, "press") == []


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


def test_births_survive_a_restart_where_the_session_did() -> None:
    """What was dumped reads data without a new birth; where the session was lost, births are forgotten."""
    before = Plant()
    before.born()
    saved, places = before.host.dump(), before.host.positions()
    kept, lost = Plant(), Plant(role="secondary_active", rebirth="on_need")
    kept.host.restore(saved, places, kept=True, now_s=kept.now_s)
    lost.host.restore(saved, places, kept=False, now_s=lost.now_s)
    sent = [Metric(None, "Double", 1.0, 1, typed=False)]

    assert len(kept.put("DDATA", sent, 2, "press")) == 1
    assert len(kept.put("DDATA", sent, 3, "press")) == 1
    assert lost.put("DDATA", sent, 2, "press") == []
    assert lost.host.losses.commands == ["spBv1.0/G/NCMD/n"]
    rows = kept.put("NDEATH", [Metric("bdSeq", "UInt64", 4)], None)
    assert len(rows) == 4


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


def test_births_without_a_position_are_not_trusted() -> None:
    """After a power cut the position may be lost: nothing tells whether a birth was missed."""
    before = Plant()
    before.born()
    plant = Plant()
    plant.host.restore(before.host.dump(), None, kept=True, now_s=plant.now_s)

    assert plant.put("DDATA", [Metric(None, "Double", 1.0, 1, typed=False)], 2, "press") == []
    assert plant.later(0.3) == []


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


@given(st.lists(_STEP, max_size=30))
def test_no_sequence_of_messages_breaks_the_host(steps: list[tuple[str, int | None, float, bool]]) -> None:
    """Whatever comes in whatever order: no error, no message that waits for ever, no value under another's name."""
    plant = Plant(role="secondary_active", rebirth="on_need")
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
