"""Evidence of an anomaly: facts computed from stored records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from broker.evidence import build_evidence, reach, signature, strongest
from broker.store.rows import GapRow, RecordRow, Window
from schemas.anomaly import Anomaly, Kind
from schemas.evidence import Evidence, Fact
from schemas.status import BAD, GOOD
from schemas.tagmap import Equipment, Tag, TagMap

SECOND = 1_000_000_000
T0 = 1_790_000_000 * SECOND
P101 = "Acme/Lyon/Utilities/Skid1/P101"


@dataclass
class MemoryRecords:
    """Rows in memory: (path, source_ns, value, status, seq)."""

    rows: list[tuple[str, int, float, int, int]] = field(default_factory=list)
    past: list[tuple[Anomaly, str | None, str | None]] = field(default_factory=list)
    gaps: list[GapRow] = field(default_factory=list)

    def add(self, name: str, from_s: int, to_s: int, level: float, *, noise: float = 0.1, status: int = GOOD) -> None:
        rng = np.random.default_rng(len(self.rows))
        for second in range(from_s, to_s):
            value = level + noise * float(rng.standard_normal())
            self.rows.append((f"{P101}/{name}", T0 + second * SECOND, value, status, len(self.rows) + 1))

    def window(self, path: str, from_ns: int, to_ns: int, *, upto: int, limit: int = 5000) -> Window:
        found = [r for r in self.rows if r[0] == path and from_ns <= r[1] < to_ns and r[4] <= upto]
        found = sorted(found, key=lambda row: row[1])[-limit:]
        return Window(
            np.array([r[1] for r in found], np.int64),
            np.array([r[2] for r in found], np.float64),
            np.array([r[3] for r in found], np.uint32),
        )

    def last_value(self, path: str, before_ns: int, *, upto: int) -> RecordRow | None:
        found = [r for r in self.rows if r[0] == path and r[1] < before_ns and r[4] <= upto]
        if not found:
            return None
        _, at, value, status, seq = max(found, key=lambda row: row[1])
        return RecordRow(seq, path, "1", at, None, at, value, None, None, status, 0, 0)

    def gaps_between(
        self, paths: Sequence[str], from_ns: int, to_ns: int, *, source: str | None = None
    ) -> list[GapRow]:
        return [gap for gap in self.gaps if gap.from_ns < to_ns and (gap.to_ns is None or gap.to_ns >= from_ns)]

    def past_episodes(self, equipment: str, before_ns: int, limit: int) -> list[tuple[Anomaly, str | None, str | None]]:
        return self.past[:limit]


def _tag(number: int, name: str, **changes: object) -> Tag:
    fields = {"number": number, "id": f"t-{name.lower()}", "path": f"{P101}/{name}", "source": "plc", "address": "x"}
    return Tag.model_validate({**fields, "equipment": P101, "unit": "Cel", **changes})


TAGS = TagMap(
    site="Acme/Lyon",
    tags=(
        _tag(0, "BearingTemp"),
        _tag(1, "Vibration", unit="mm/s"),
        _tag(2, "Flow", unit="m3/h"),
        _tag(3, "MotorPower", unit="kW"),
        _tag(4, "State", role="state", enum={6: "Execute"}, unit="1"),
        _tag(5, "Setpoint", role="sp"),
    ),
    equipment=(Equipment(path=P101, equipment_class="centrifugal_pump", state=f"{P101}/State", running=(6,)),),
)


@pytest.fixture
def records() -> MemoryRecords:
    """Two minutes of normal running, then a bearing that gets hot while the flow stays."""
    memory = MemoryRecords()
    for name, level in (("BearingTemp", 47.4), ("Vibration", 1.6), ("Flow", 38.0), ("MotorPower", 4.2)):
        memory.add(name, -120, 0, level)
    memory.add("State", -120, -119, 6.0, noise=0.0)
    memory.add("Setpoint", -60, -59, 70.0, noise=0.0)
    memory.add("Setpoint", -1, 0, 72.0, noise=0.0)
    memory.add("BearingTemp", 0, 6, 74.0)
    memory.add("Vibration", 0, 6, 5.9)
    memory.add("Flow", 0, 6, 38.0)
    memory.add("MotorPower", 2, 6, 6.1)
    return memory


def _by_name(facts: tuple[Fact, ...]) -> dict[str, Fact]:
    return {fact.name: fact for fact in facts}


def test_members_become_deviations_with_their_baseline(records: MemoryRecords, anomaly: Anomaly) -> None:
    """A member's fact carries peak, mean before, distance in sigmas and rank of onset."""
    evidence = build_evidence(records, TAGS, anomaly, len(records.rows))

    bearing = _by_name(evidence.facts)["BearingTemp"]
    assert (bearing.id, bearing.rank, bearing.kind) == ("E1", 1, "deviation")
    assert bearing.value == max(r[2] for r in records.rows if r[0].endswith("BearingTemp") and r[1] >= T0)
    assert bearing.baseline == pytest.approx(47.4, abs=0.1)
    assert bearing.sigmas is not None
    assert bearing.sigmas > 100
    assert bearing.samples == 6


def test_other_tags_are_moved_or_normal(records: MemoryRecords, anomaly: Anomaly) -> None:
    """A tag that no detector named is a deviation when it moved, a normal neighbour when it did not."""
    facts = _by_name(build_evidence(records, TAGS, anomaly, len(records.rows)).facts)

    assert (facts["MotorPower"].kind, facts["MotorPower"].direction) == ("deviation", "rose")
    assert facts["MotorPower"].from_ns == T0 + 2 * SECOND
    assert (facts["Flow"].kind, facts["Flow"].direction) == ("neighbour", None)


def test_context_names_state_and_changed_set_point(records: MemoryRecords, anomaly: Anomaly) -> None:
    """The equipment's state and a set point that was changed shortly before are facts."""
    facts = _by_name(build_evidence(records, TAGS, anomaly, len(records.rows)).facts)

    assert facts["State"].text == "Execute"
    assert (facts["Setpoint"].baseline, facts["Setpoint"].value) == (70.0, 72.0)


def test_records_stored_later_change_nothing(records: MemoryRecords, anomaly: Anomaly) -> None:
    """Only records up to the seq of the revision count, so a catch-up gives the same evidence."""
    upto = len(records.rows)
    first = build_evidence(records, TAGS, anomaly, upto)
    records.add("Flow", 1, 6, 90.0)

    assert build_evidence(records, TAGS, anomaly, upto) == first
    assert build_evidence(records, TAGS, anomaly, len(records.rows)) != first


def test_bad_values_are_no_baseline(anomaly: Anomaly) -> None:
    """A tag that had only bad values before has no baseline and is no neighbour."""
    memory = MemoryRecords()
    memory.add("BearingTemp", -120, 0, 47.4, status=BAD)
    memory.add("Flow", -120, 6, 38.0, status=BAD)

    facts = _by_name(build_evidence(memory, TAGS, anomaly, len(memory.rows)).facts)

    assert facts["BearingTemp"].baseline is None
    assert "Flow" not in facts


def test_past_episode_with_its_verdict_is_a_fact(records: MemoryRecords, anomaly: Anomaly) -> None:
    """A similar closed episode is named with what a person said of it."""
    earlier = anomaly.model_copy(update={"anomaly_id": "b2" * 8, "onset_ns": T0 - 10**15, "state": "closed"})
    records.past = [(earlier, "Bearing wear", "approved")]

    facts = build_evidence(records, TAGS, anomaly, len(records.rows)).facts

    assert [f.text for f in facts if f.kind == "history"] == [
        "a similar episode was Bearing wear, approved by a person"
    ]


def test_ids_are_consecutive_and_bounded(records: MemoryRecords, anomaly: Anomaly) -> None:
    """Facts are E1…En without holes, however many members shout."""
    many = tuple(anomaly.members[0].model_copy(update={"path": f"{P101}/T{i}", "tag_id": f"t{i}"}) for i in range(200))
    evidence = build_evidence(records, TAGS, anomaly.model_copy(update={"members": many}), len(records.rows))

    assert [fact.id for fact in evidence.facts] == [f"E{i}" for i in range(1, len(evidence.facts) + 1)]
    assert len(evidence.facts) <= 18


def test_growth_of_a_peak_is_no_new_evidence(anomaly: Anomaly) -> None:
    """Members and severity make new evidence, and a peak several times further out; a little growth does not."""
    higher = anomaly.members[0].model_copy(update={"peak": 75.0})
    far = anomaly.members[0].model_copy(update={"peak": 999.0})
    grown = anomaly.model_copy(update={"members": (higher, *anomaly.members[1:]), "revision": 3})
    joined = anomaly.model_copy(update={"members": anomaly.members[:1]})

    assert signature(grown) == signature(anomaly)
    assert signature(anomaly.model_copy(update={"members": (far, *anomaly.members[1:])})) != signature(anomaly)
    assert signature(joined) != signature(anomaly)


def test_rejected_cause_is_not_stated_as_if_it_were_true(records: MemoryRecords, anomaly: Anomaly) -> None:
    """A cause that a person rejected is told as rejected."""
    earlier = anomaly.model_copy(update={"anomaly_id": "b2" * 8, "onset_ns": T0 - 10**15, "state": "closed"})
    records.past = [(earlier, "Bearing wear", "rejected")]

    facts = build_evidence(records, TAGS, anomaly, len(records.rows)).facts

    assert [f.text for f in facts if f.kind == "history"] == [
        "a similar episode: Bearing wear was proposed, and rejected"
    ]


def test_silent_neighbour_is_not_called_normal(anomaly: Anomaly) -> None:
    """A tag without a good sample since the onset is not mentioned: nothing is known of it."""
    memory = MemoryRecords()
    memory.add("BearingTemp", -120, 6, 47.4)
    memory.add("Flow", -120, 0, 38.0)

    assert "Flow" not in _by_name(build_evidence(memory, TAGS, anomaly, len(memory.rows)).facts)


def test_tag_of_another_open_episode_is_not_called_normal(records: MemoryRecords, anomaly: Anomaly) -> None:
    """What another open episode is about is left to that episode."""
    other = [f"{P101}/Flow"]

    assert "Flow" not in _by_name(build_evidence(records, TAGS, anomaly, len(records.rows), other).facts)


def test_peak_beyond_the_window_is_kept(records: MemoryRecords, anomaly: Anomaly) -> None:
    """The window holds the latest rows of a long episode; the peak the detector saw before them counts."""
    hot = anomaly.members[0].model_copy(update={"peak": 180.0})
    evidence = build_evidence(
        records, TAGS, anomaly.model_copy(update={"members": (hot, anomaly.members[1])}), len(records.rows)
    )

    assert _by_name(evidence.facts)["BearingTemp"].value == 180.0


def test_set_point_reported_once_is_seen(anomaly: Anomaly) -> None:
    """A set point that is reported by exception has one row in the window; the one before it lies outside."""
    memory = MemoryRecords()
    memory.add("Setpoint", -4000, -3999, 70.0, noise=0.0)
    memory.add("Setpoint", -5, -4, 72.0, noise=0.0)
    memory.add("BearingTemp", -120, 6, 47.4)

    fact = _by_name(build_evidence(memory, TAGS, anomaly, len(memory.rows)).facts)["Setpoint"]

    assert (fact.kind, fact.baseline, fact.value) == ("setpoint", 70.0, 72.0)


def test_gap_during_the_episode_is_a_fact(records: MemoryRecords, anomaly: Anomaly) -> None:
    """A hole in the data of the equipment is stated with its cause."""
    records.gaps = [GapRow(1, "plc", None, "link_down", T0 + SECOND, T0 + 3 * SECOND, False, "")]

    facts = build_evidence(records, TAGS, anomaly, len(records.rows)).facts

    assert [(f.kind, f.text) for f in facts if f.kind == "gap"] == [("gap", "link down")]


def test_tag_that_turned_is_told_as_it_is_now(records: MemoryRecords, anomaly: Anomaly) -> None:
    """Of a tag that rose and then fell below its band, evidence says that it fell."""
    rose = anomaly.members[0].model_copy(update={"active": False, "score": 3.0})
    fell = rose.model_copy(
        update={"active": True, "direction": "fell", "score": 1.5, "onset_ns": T0 + 3 * SECOND, "peak": 12.0}
    )

    fact = _by_name(
        build_evidence(records, TAGS, anomaly.model_copy(update={"members": (rose, fell)}), len(records.rows)).facts
    )["BearingTemp"]

    assert (fact.direction, fact.value, fact.from_ns) == ("fell", 12.0, T0 + 3 * SECOND)


def test_way_back_and_spread_do_not_hide_where_a_tag_went(records: MemoryRecords, anomaly: Anomaly) -> None:
    """A mean that rose is told, although the step back to normal and the spread have the higher scores."""
    rose = anomaly.members[0].model_copy(update={"score": 3.0})
    back = rose.model_copy(
        update={"kind": Kind.LEVEL_SHIFT, "detector": "level_shift", "direction": "fell", "score": 9.0}
    )
    spread = rose.model_copy(
        update={"kind": Kind.VARIANCE, "detector": "variance", "direction": "jumped", "score": 8.0}
    )
    for active in (True, False):
        members = (rose.model_copy(update={"active": active}), back, spread)

        (told,) = strongest(members)

        assert (told.kind, told.direction) == (Kind.MEAN_SHIFT, "rose")
    assert strongest((back,))[0].direction == "fell"
    swung = rose.model_copy(update={"kind": Kind.STICTION, "detector": "stiction", "direction": "jumped", "score": 9.0})
    assert strongest((rose, spread, swung)) == [swung]


def test_shares_say_who_deviates_most(records: MemoryRecords, anomaly: Anomaly) -> None:
    """Deviations share one whole by their sigmas, unless a detector of several tags has told their parts."""
    facts = build_evidence(records, TAGS, anomaly, len(records.rows)).facts
    moved = [fact for fact in facts if fact.kind == "deviation"]
    assert sum(fact.contribution or 0 for fact in moved) == pytest.approx(1, abs=0.01)
    assert moved == sorted(moved, key=lambda fact: fact.from_ns or 0)
    largest = max(moved, key=lambda fact: fact.sigmas or 0)
    assert largest.contribution == max(fact.contribution or 0 for fact in moved)

    told = tuple(member.model_copy(update={"contribution": 0.25}) for member in anomaly.members)
    facts = build_evidence(records, TAGS, anomaly.model_copy(update={"members": told}), len(records.rows)).facts
    assert {fact.contribution for fact in facts if fact.path in {m.path for m in told}} == {0.25}


def test_shift_and_last_change_are_context(records: MemoryRecords, anomaly: Anomaly) -> None:
    """Who works now is a fact, and when the set point became what it is."""
    evidence = build_evidence(records, TAGS, anomaly, len(records.rows), shifts=("early", "maintenance crew"))
    facts = _by_name(evidence.facts)
    assert (facts["shift"].kind, facts["shift"].text) == ("state", "early, maintenance crew")
    assert facts["Setpoint"].from_ns == T0 - 1 * SECOND


def test_similar_episodes_are_told_with_their_verdicts(records: MemoryRecords, anomaly: Anomaly) -> None:
    """Reviewed ones first, two different ones at most, each with how many say the same; others are not similar."""

    def past(number: int, **changes: object) -> Anomaly:
        return anomaly.model_copy(update={"anomaly_id": f"{number:032x}", "onset_ns": T0 - number * SECOND, **changes})

    other = tuple(m.model_copy(update={"path": f"{P101}/Flow"}) for m in anomaly.members[:1])
    records.past = [
        (past(1), None, None),
        (past(2), "Bearing wear", "approved"),
        (past(3, members=other), "Leak", "approved"),
        (past(4), "Bearing wear", "approved"),
        (past(5), "Cavitation", "rejected"),
    ]
    told = [f for f in build_evidence(records, TAGS, anomaly, len(records.rows)).facts if f.kind == "history"]
    assert [(fact.text, fact.samples, fact.from_ns) for fact in told] == [
        ("a similar episode was Bearing wear, approved by a person", 2, T0 - 2 * SECOND),
        ("a similar episode: Cavitation was proposed, and rejected", 1, T0 - 5 * SECOND),
    ]


def test_ids_of_evidence_from_before_shares_stay(records: MemoryRecords, anomaly: Anomaly) -> None:
    """A fact without a contribution is hashed as it was before there was one."""
    evidence = build_evidence(records, TAGS, anomaly, len(records.rows))
    plain = tuple(fact.model_copy(update={"contribution": None}) for fact in evidence.facts)
    old = Evidence.model_validate(evidence.model_dump() | {"facts": [fact.model_dump() for fact in plain]})
    assert b"contribution" not in old.body
    assert b"contribution" in evidence.body


def test_slow_tag_has_a_baseline_of_its_own_pace(anomaly: Anomaly) -> None:
    """One sample in twenty seconds is enough for a normal, and for a distance from it."""
    memory = MemoryRecords()
    rng = np.random.default_rng(7)
    for second in range(-400, 40, 20):
        value = (47.4 if second < 0 else 74.0) + 0.1 * float(rng.standard_normal())
        memory.rows.append((f"{P101}/BearingTemp", T0 + second * SECOND, value, GOOD, len(memory.rows) + 1))
    slow = TAGS.model_copy(update={"tags": tuple(tag.model_copy(update={"scan_ms": 20_000}) for tag in TAGS.tags)})
    late = anomaly.model_copy(update={"updated_ns": T0 + 40 * SECOND})
    assert reach(slow, late)[1] == T0 - 400 * SECOND
    bearing = _by_name(build_evidence(memory, slow, late, len(memory.rows)).facts)["BearingTemp"]
    assert bearing.baseline == pytest.approx(47.4, abs=0.2)
    assert bearing.sigmas is not None
    assert _by_name(build_evidence(memory, TAGS, late, len(memory.rows)).facts)["BearingTemp"].sigmas is None
