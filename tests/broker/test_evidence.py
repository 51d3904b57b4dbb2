"""Evidence of an anomaly: facts computed from stored records."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from broker.evidence import build_evidence, reach, signature, strongest
from broker.store.rows.episodes import PastEpisode
from broker.store.rows.manuals import PassageRow
from broker.store.rows.operation import GapRow
from broker.store.rows.records import RecordRow, Window
from llm.rules import annotate_by_rules
from schemas.annotation import phrase
from schemas.anomaly import Anomaly, Kind
from schemas.evidence import Evidence, Fact
from schemas.status import BAD, BAD_DEVICE_FAILURE, GOOD
from schemas.tagmap import Equipment, Tag, TagMap

SECOND = 1_000_000_000
T0 = 1_790_000_000 * SECOND
P101 = "Acme/Lyon/Utilities/Skid1/P101"


@dataclass
class MemoryRecords:
    """Rows in memory: (path, source_ns, value, status, seq)."""

    rows: list[tuple[str, int, float, int, int]] = field(default_factory=list)
    past: list[PastEpisode] = field(default_factory=list)
    gaps: list[GapRow] = field(default_factory=list)
    manuals: list[PassageRow] = field(default_factory=list)

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

    def past_episodes(self, equipment: str, before_ns: int, limit: int) -> list[PastEpisode]:
        return self.past[:limit]

    def passages(
        self, equipment: str, equipment_class: str | None, kind: str, words: Collection[str], limit: int
    ) -> list[PassageRow]:
        return [row for row in self.manuals if row.kind == kind and row.words & set(words)][:limit]


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


def test_tag_that_may_have_moved_is_not_called_normal(records: MemoryRecords, anomaly: Anomaly) -> None:
    """Four sigmas away is neither a deviation nor normal: nothing is said of it."""
    records.rows = [row for row in records.rows if not (row[0].endswith("Flow") and row[1] >= T0)]
    records.add("Flow", 0, 6, 38.4, noise=0.0)

    assert "Flow" not in _by_name(build_evidence(records, TAGS, anomaly, len(records.rows)).facts)


def test_ramp_before_the_onset_is_no_part_of_what_was_normal(anomaly: Anomaly) -> None:
    """The fault begins before it is found: what rises in the newer half of the baseline has moved."""
    memory = MemoryRecords()
    for name, level in (("BearingTemp", 47.4), ("MotorPower", 4.2)):
        memory.add(name, -120, -30, level)
        for step in range(30):
            memory.add(name, step - 30, step - 29, level + 0.06 * step)
        memory.add(name, 0, 6, level + 1.8)

    power = _by_name(build_evidence(memory, TAGS, anomaly, len(memory.rows)).facts)["MotorPower"]
    assert (power.kind, power.direction) == ("deviation", "rose")
    assert power.baseline == pytest.approx(4.2, abs=0.1)
    assert power.sigmas is not None
    assert power.sigmas > 12


def test_one_step_of_a_coarse_signal_is_no_deviation(anomaly: Anomaly) -> None:
    """A flow that stood and goes on one step further stays normal; three steps are a movement."""
    told = []
    for steps in (1, 8):
        records = MemoryRecords()
        records.add("BearingTemp", -150, 0, 47.5)
        records.add("BearingTemp", 0, 60, 70.0)
        for begin, end, level in ((-150, -20, 38.0), (-20, -15, 38.1), (-15, -10, 38.0), (-10, 60, 38.0 + steps / 10)):
            records.add("MotorPower", begin, end, level, noise=0.0)
        later = anomaly.model_copy(update={"updated_ns": T0 + 59 * SECOND, "members": anomaly.members[:1]})
        facts = _by_name(build_evidence(records, TAGS, later, len(records.rows)).facts)
        told.append((facts["MotorPower"].kind, facts["BearingTemp"].contribution))
    assert told[0] == ("neighbour", 1.0)
    assert told[1][0] == "deviation"


def test_surest_neighbours_are_told(anomaly: Anomaly) -> None:
    """Of more tags than are told, those that are furthest from their normal are left out."""
    memory = MemoryRecords()
    memory.add("BearingTemp", -120, 0, 47.4)
    memory.add("BearingTemp", 0, 6, 74.0)
    for number in range(8):
        memory.add(f"Other{number}", -120, 0, 10.0)
        memory.add(f"Other{number}", 0, 6, 10.0 if number > 2 else 10.2, noise=0.0)
    more = (*TAGS.tags, *(_tag(len(TAGS.tags) + number, f"Other{number}") for number in range(8)))
    evidence = build_evidence(memory, TAGS.model_copy(update={"tags": more}), anomaly, len(memory.rows))

    names = [fact.name for fact in evidence.facts if fact.kind == "neighbour"]
    assert names == [f"Other{number}" for number in range(3, 8)]


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
    records.past = [PastEpisode(earlier, "approved", "bearing_wear", "Bearing wear", None, "changed it  myself")]

    facts = build_evidence(records, TAGS, anomaly, len(records.rows)).facts

    (told,) = [f for f in facts if f.kind == "history"]
    assert told.text == "a similar episode was Bearing wear, approved by a person"
    assert (told.cause, told.verdict, told.comment) == ("bearing_wear", "approved", "changed it myself")
    assert phrase(told).endswith("by a person: “changed it myself”")


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
    records.past = [PastEpisode(earlier, "rejected", "bearing_wear", "Bearing wear", "wrong_cause")]

    facts = build_evidence(records, TAGS, anomaly, len(records.rows)).facts

    assert [f.text for f in facts if f.kind == "history"] == [
        "a similar episode: Bearing wear was proposed, and rejected as wrong cause"
    ]


def test_silent_neighbour_is_not_called_normal(anomaly: Anomaly) -> None:
    """A tag without a good sample since the onset is not mentioned: nothing is known of it."""
    memory = MemoryRecords()
    memory.add("BearingTemp", -120, 6, 47.4)
    memory.add("Flow", -120, 0, 38.0)

    assert "Flow" not in _by_name(build_evidence(memory, TAGS, anomaly, len(memory.rows)).facts)


def _missing(anomaly: Anomaly, direction: str, until_s: int, **changes: object) -> Anomaly:
    """An episode about a missing bearing temperature from T0 on."""
    member = {"kind": Kind.MISSING, "detector": "missing", "direction": direction, "value": None, "peak": None}
    members = (anomaly.members[0].model_copy(update={**member, "onset_ns": T0, **changes}),)
    episode = {"kind": Kind.MISSING, "members": members, "updated_ns": T0 + until_s * SECOND, "onset_ns": T0}
    return anomaly.model_copy(update=episode)


#: Rows of the bearing temperature: from, to, level, status.
_BAD_ROWS: dict[str, list[tuple[int, int, float, int]]] = {
    "bad": [(0, 40, math.nan, BAD_DEVICE_FAILURE)],
    "not a number": [(0, 40, math.nan, GOOD)],
    # the detector counts from its last tick; the device's clock may be ahead of it
    "good behind the onset": [(0, 1, 47.4, GOOD), (1, 40, math.nan, BAD_DEVICE_FAILURE)],
    "told once, before the onset": [(-1, 0, math.nan, BAD_DEVICE_FAILURE)],
    "back": [(0, 40, math.nan, BAD_DEVICE_FAILURE), (40, 60, 47.4, GOOD)],
    "back as a bad number": [(0, 40, 9999.0, BAD_DEVICE_FAILURE), (40, 60, 47.4, GOOD)],
}


@pytest.mark.parametrize("rows", _BAD_ROWS)
def test_tag_of_bad_values_alone_is_not_called_silent(anomaly: Anomaly, rows: str) -> None:
    """Its samples come; what they say of themselves is a fact, and no cause rests on a silence."""
    memory = MemoryRecords()
    memory.add("BearingTemp", -120, -2, 47.4)
    for from_s, to_s, level, status in _BAD_ROWS[rows]:
        memory.add("BearingTemp", from_s, to_s, level, status=status)
    back = {"active": False, "last_ns": T0 + 40 * SECOND} if rows.startswith("back") else {}
    bad = _missing(anomaly, "bad", 60 if back else 40, **back)
    evidence = build_evidence(memory, TAGS, bad, len(memory.rows))

    said = "not a number" if rows == "not a number" else "BadDeviceFailure"
    facts = [fact for fact in evidence.facts if fact.name == "BearingTemp"]
    assert [(fact.kind, fact.direction, fact.text, fact.value) for fact in facts] == [
        ("deviation", None, "", None),
        ("state", None, said, None),
    ]
    assert [phrase(fact) for fact in facts] == ["BearingTemp sends only bad values", f"BearingTemp was {said}"]
    assert [cause.id for cause in annotate_by_rules(evidence, detector_score=1.0, created_ns=0).causes] == ["unknown"]


def test_silent_tag_is_called_silent_whatever_its_last_value_was(anomaly: Anomaly) -> None:
    """It sent bad values, and then nothing: the silence is told, not the values before it."""
    memory = MemoryRecords()
    memory.add("BearingTemp", -120, 0, 47.4)
    memory.add("BearingTemp", 0, 2, math.nan, status=BAD_DEVICE_FAILURE)
    evidence = build_evidence(memory, TAGS, _missing(anomaly, "silent", 40), len(memory.rows))

    assert [phrase(fact) for fact in evidence.facts if fact.name == "BearingTemp"] == ["BearingTemp sends no samples"]


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


@pytest.mark.parametrize(("score", "lasted_s", "direction"), [(3.5, 90, "rose"), (12.0, 90, "fell"), (3.5, 20, "fell")])
def test_way_back_does_not_replace_what_a_tag_did(
    records: MemoryRecords, anomaly: Anomaly, score: float, lasted_s: int, direction: str
) -> None:
    """A tag that rose, and overshoots on its way back, is told as risen; not where it fell further, or swings."""
    lasted = {"onset_ns": T0 + 10 * SECOND, "last_ns": T0 + (10 + lasted_s) * SECOND}
    rose = anomaly.members[0].model_copy(update={"active": False, "score": 3.0, **lasted})
    later = {"active": True, "direction": "fell", "onset_ns": T0 + 30 * SECOND, "peak": 12.0}
    fell = rose.model_copy(update={**later, "score": score})

    fact = _by_name(
        build_evidence(records, TAGS, anomaly.model_copy(update={"members": (rose, fell)}), len(records.rows)).facts
    )["BearingTemp"]

    expected = {"rose": (74.2, T0 + 10 * SECOND), "fell": (12.0, T0 + 30 * SECOND)}[direction]
    assert (fact.direction, fact.value, fact.from_ns) == (direction, *expected)


def test_onset_is_not_that_of_the_way_back(anomaly: Anomaly) -> None:
    """A trend that rose back from a dip does not date the rise above normal; one before any dip does."""
    rose = anomaly.members[0].model_copy(update={"score": 9.0, "onset_ns": T0 + 60 * SECOND})
    fell = rose.model_copy(update={"direction": "fell", "score": 1.0, "active": False, "onset_ns": T0})
    trend = rose.model_copy(update={"kind": Kind.TREND, "detector": "trend", "onset_ns": T0 + 20 * SECOND})

    assert [m.onset_ns for m in strongest((rose, fell, trend))] == [T0 + 60 * SECOND]
    assert [m.onset_ns for m in strongest((rose, trend))] == [T0 + 20 * SECOND]


def test_tag_that_was_away_is_not_called_normal(anomaly: Anomaly) -> None:
    """A neighbour that is back at its normal has moved when it was away for long, and is not told when for a while."""
    told = []
    for away_s in (60, 20, 0):
        records = MemoryRecords()
        records.add("BearingTemp", -150, 0, 47.5)
        records.add("BearingTemp", 0, 200, 70.0)
        records.add("MotorPower", -150, 20, 4.2)
        records.add("MotorPower", 20, 20 + away_s, 9.0)
        records.add("MotorPower", 20 + away_s, 200, 4.2)
        later = anomaly.model_copy(update={"updated_ns": T0 + 199 * SECOND, "members": anomaly.members[:1]})
        facts = _by_name(build_evidence(records, TAGS, later, len(records.rows)).facts)
        fact = facts.get("MotorPower")
        told.append(None if fact is None else (fact.kind, fact.direction, fact.from_ns, fact.to_ns))

    assert told == [
        ("deviation", "rose", T0 + 20 * SECOND, T0 + 79 * SECOND),
        None,
        ("neighbour", None, None, None),
    ]


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
        PastEpisode(past(1)),
        PastEpisode(past(2), "approved", "bearing_wear", "Bearing wear"),
        PastEpisode(past(3, members=other), "approved", "leak", "Leak"),
        PastEpisode(past(4), "approved", "bearing_wear", "Bearing wear"),
        PastEpisode(past(5), "rejected", "cavitation", "Cavitation"),
    ]
    told = [f for f in build_evidence(records, TAGS, anomaly, len(records.rows)).facts if f.kind == "history"]
    assert [(fact.cause, fact.verdict) for fact in told] == [("bearing_wear", "approved"), (None, "rejected")]
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
