"""Episodes: grouping, growth in few revisions, flapping, closing, stable identity."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from detectors.severity import assess
from schemas.anomaly import Kind, Member, Severity
from schemas.tagmap import TagMap

LIMITED = {"range": (0.0, 100.0)}


def test_findings_close_in_time_on_one_equipment_are_one_anomaly(script, tag):
    """Within the group window they join, in order of onset; other equipment and later findings stand apart."""
    tags = [tag(i, equipment="U1" if i < 4 else "U2", **LIMITED) for i in range(5)]
    plant = script(*tags, spc=[], group_window="60s")
    plant.send({1: 150.0, 0: 50.0})
    plant.tick(10)
    plant.send({0: 150.0, 4: 150.0})
    plant.tick(10, 5)
    plant.send({2: 150.0})
    plant.tick(10, 7)
    plant.send({3: 150.0})
    plant.tick(10, 2)
    found = [(a.equipment, [m.tag_id for m in a.members]) for a in plant.latest().values()]
    assert sorted(found) == [("U1", ["id1", "id0", "id2"]), ("U1", ["id3"]), ("U2", ["id4"])]


@pytest.mark.parametrize(("scan_s", "anomalies"), [(1, 2), (10, 1)])
def test_slow_scans_are_seen_apart_and_belong_together(script, tag, scan_s, anomalies):
    """Two minutes between two findings are a long time at one sample a second, and a few samples at one in ten."""
    plant = script(*(tag(i, scan_ms=scan_s * 1000, **LIMITED) for i in range(2)), spc=[])
    plant.send({0: 150.0})
    plant.tick(10, 12)
    plant.send({1: 150.0})
    plant.tick()
    assert len(plant.latest()) == anomalies


def test_later_finding_on_an_active_member_s_tag_joins_its_anomaly(script, tag):
    """What else is found on a tag that is in trouble is the same trouble; another tag's stands apart, and so later."""
    plant = script(*(tag(i, rate_limit=10.0, **LIMITED) for i in range(2)), spc=[], shape=[])
    plant.send({0: 99.0, 1: 50.0})
    plant.tick()
    plant.send({0: 105.0, 1: 50.0})
    plant.tick(10, 60)
    plant.send({0: 106.0, 1: 50.0})
    plant.tick()
    plant.send({0: 400.0, 1: 50.0})
    plant.tick(10, 1)
    (anomaly,) = plant.latest().values()
    assert {m.detector for m in anomaly.members} == {"range", "rate"}

    plant.tick(10, 60)
    plant.send({0: 400.0, 1: 150.0})
    plant.tick(10, 1)
    assert len(plant.latest()) == 2

    plant.send({0: 50.0, 1: 50.0})
    plant.tick(10, 40)
    assert [a.state for a in plant.latest().values()] == ["closed", "closed"]
    plant.send({0: 150.0})
    plant.tick()
    assert len(plant.latest()) == 3


def test_later_finding_on_the_other_tag_of_a_loop_joins_its_anomaly(script, tag):
    """What the controller makes of a trouble is the same trouble; a tag beside the loop stands apart."""
    roles = {0: "pv", 1: "sp", 2: "out"}
    plant = script(
        *(tag(i, **LIMITED, **({"role": roles[i]} if i in roles else {})) for i in range(4)), spc=[], loop=[]
    )
    plant.send({0: 50.0, 1: 50.0, 2: 150.0, 3: 50.0})
    plant.tick(10, 60)
    plant.send({0: 150.0})
    plant.tick()
    (anomaly,) = plant.latest().values()
    assert [m.tag_id for m in anomaly.members] == ["id2", "id0"]
    plant.tick(10, 60)
    plant.send({3: 150.0})
    plant.tick()
    assert len(plant.latest()) == 2


def test_storm_of_findings_is_a_handful_of_revisions(script, tag):
    """A thousand findings within a minute make one anomaly of about ten revisions, with every member in it."""
    plant = script(*(tag(i, **LIMITED) for i in range(1000)), spc=[])
    for second in range(60):
        plant.send(dict.fromkeys(range(17 * second, min(17 * second + 17, 1000)), 150.0 + second))
        plant.tick()
    plant.tick(1, 15)
    (anomaly,) = plant.latest().values()
    assert len(anomaly.members) == 1000
    assert [a.revision for a in plant.said] == list(range(len(plant.said)))
    assert len(plant.said) <= 12
    assert anomaly.severity is Severity.CRITICAL


def test_flapping_condition_stays_in_its_episode(script, tag):
    """A value that goes in and out of range for an hour is one anomaly, told at most each thirty seconds."""
    plant = script(tag(0, **LIMITED), spc=[])
    for i in range(720):
        plant.send({0: 150.0 if i % 4 == 0 else 50.0})
        plant.tick(5)
    assert len(plant.latest()) == 1
    assert len(plant.said) < 80
    plant.tick(10, 31)
    assert plant.said[-1].state == "closed"


def test_standing_condition_is_not_told_again_and_again(script, tag):
    """A day out of range without a new peak gives one revision; a new peak gives another."""
    plant = script(tag(0, **LIMITED), spc=[])
    plant.send({0: 150.0})
    plant.tick(10, 8640)
    assert len(plant.said) == 1
    plant.send({0: 180.0})
    plant.tick()
    assert [a.members[0].peak for a in plant.said] == [150.0, 180.0]
    assert plant.said[1].members[0].last_ns > plant.said[0].members[0].last_ns


def test_slow_growth_is_told_by_and_by(script, tag):
    """A value that creeps away in steps too small to tell is told whenever it has come half as far again."""
    plant = script(tag(0, **LIMITED), spc=[], health=["out_of_range"])
    for i in range(900):
        plant.send({0: 101.0 + i / 2})
        plant.tick(10)
    peaks = [a.members[0].peak for a in plant.said]
    assert peaks[0] == 101.0
    assert peaks[-1] > 400.0
    assert all(after - 50 >= 1.04 * (before - 50) for before, after in pairwise(peaks))
    assert len(plant.said) <= 10


def test_noise_that_gives_way_to_stillness_is_another_member(script, tag):
    """After a hole a noisy tag is all but still: the jump of its spread is over, and another member is active."""
    rng = np.random.default_rng(4)
    plant = script(tag(0), clean_window="200s", health=(), spc=(), shape=("variance",))
    plant.run({0: rng.normal(50, 1, 600)})
    plant.run({0: rng.normal(50, 9, 400)})
    plant.tick(10, 60)
    plant.run({0: rng.normal(50, 0.01, 400)})
    (anomaly,) = plant.latest().values()
    assert [(m.direction, m.active) for m in anomaly.members] == [("jumped", False), ("flat", True)]
    assert anomaly.members[0].last_ns <= anomaly.members[1].last_ns


def test_episode_closes_after_its_quiet_time_and_a_later_one_is_new(script, tag):
    """Told when it ends and once when it closes, with the member's end as its end; the next one is another."""
    plant = script(tag(0, **LIMITED), spc=[], close_after="60s")
    plant.send({0: 150.0})
    plant.tick(10)
    plant.send({0: 50.0})
    ended = plant.now_ns
    plant.tick(10, 20)
    assert [(a.state, a.members[0].active) for a in plant.said] == [("open", True), ("open", False), ("closed", False)]
    assert [a.revision for a in plant.said] == [0, 1, 2]
    assert plant.said[-1].closed_ns == ended
    plant.send({0: 150.0})
    plant.tick(10)
    assert len(plant.latest()) == 2


def test_identity_is_made_of_equipment_and_first_finding(script, tag):
    """The same stream gives the same ids; another onset gives another."""
    ids = []
    for wait in (0, 0, 1):
        plant = script(tag(0, **LIMITED), spc=[])
        plant.second += wait
        plant.send({0: 150.0})
        ids += [a.anomaly_id for a in plant.tick()]
    assert ids[0] == ids[1] != ids[2]
    assert len(ids[0]) == 32


def test_graver_severity_is_told_at_once(script, tag):
    """Range violations on three tags are critical with the tick that sees the third."""
    plant = script(*(tag(i, **LIMITED) for i in range(3)), spc=[])
    for i in range(3):
        plant.send({i: 150.0})
        plant.tick(1)
    assert [a.severity for a in plant.said] == [Severity.HIGH, Severity.CRITICAL]


def test_tag_that_leaves_the_map_does_not_keep_its_episode_open(script, tag):
    """A new map without the tag ends what was found on it."""
    plant = script(tag(0, **LIMITED), tag(1), spc=[])
    plant.send({0: 150.0})
    plant.tick()
    smaller = TagMap(site="Acme/Lyon", tags=(tag(0, id="id1", path="Acme/T1"),))
    plant.detection.use_map(smaller.revision, smaller)
    assert plant.tick(10, 32)[-1].state == "closed"


BAND = {"range": (8.0, 11.0)}


@pytest.mark.parametrize("column", [[10, 12, 10, 4], [10, 12, 4]])
def test_value_that_rose_and_then_fell_is_told_as_both(script, tag, column):
    """Whether or not it came back in between: one member rose, another fell, each with its own onset and peak."""
    plant = script(tag(0, **BAND), spc=[])
    onset = [plant.now_ns + 1_000_000_000, plant.now_ns + (len(column) - 1) * 1_000_000_000]
    plant.run({0: column})
    plant.tick(10, 2)
    (anomaly,) = plant.latest().values()
    told = [(m.direction, m.peak, m.active, m.low, m.high, m.onset_ns) for m in anomaly.members]
    assert told == [("rose", 12.0, False, 8.0, 11.0, onset[0]), ("fell", 4.0, True, 8.0, 11.0, onset[1])]
    assert anomaly.members[0].last_ns <= onset[1]
    assert anomaly.members[1].value == 4.0


def test_both_directions_stay_two_members_however_often(script, tag):
    """A value that swings beyond both ends for minutes has two members in one anomaly, one of them active."""
    plant = script(tag(0, **BAND), spc=[])
    for i in range(100):
        plant.send({0: [12.0, 4.0, 10.0][i % 3]})
        plant.tick(5)
        if plant.said:
            assert sum(m.active for m in plant.said[-1].members) <= 1
    (anomaly,) = plant.latest().values()
    assert [(m.direction, m.peak) for m in anomaly.members] == [("rose", 12.0), ("fell", 4.0)]


def test_lesser_condition_after_a_greater_one_leaves_the_worst_together(script, tag):
    """Score, band and peak are those of the furthest excursion; the value is the present one."""
    plant = script(tag(0, **LIMITED), spc=[])
    plant.run({0: [50.0, 150.0, 50.0, 110.0]})
    plant.tick(10, 4)
    (member,) = plant.said[-1].members
    assert (member.peak, member.score, member.value, member.active) == (150.0, 2.0, 110.0, True)


def test_other_limits_are_another_normal(script, tag):
    """When a new map moves the range, score, band and peak of the next condition are told together."""
    plant = script(tag(0, **LIMITED), spc=[])
    plant.run({0: [50.0, 150.0, 50.0]})
    moved = TagMap(site="Acme/Lyon", tags=(tag(0, range=(0.0, 140.0)),))
    plant.detection.use_map(moved.revision, moved)
    plant.tag_map = moved
    plant.run({0: [145.0]})
    plant.tick(10, 4)
    (member,) = plant.said[-1].members
    assert (member.high, member.peak) == (140.0, 145.0)
    assert member.score == pytest.approx(1 + 5 / 70)


def test_standing_condition_of_a_one_sided_range_is_told_once(script, tag):
    """A band with one end has a peak to compare with as well."""
    plant = script(tag(0, range=(float("-inf"), 100.0)), spc=[])
    plant.send({0: 150.0})
    plant.tick(10, 100)
    assert len(plant.said) == 1


def member(kind: Kind, score: float = 1.0, number: int = 0) -> Member:
    return Member(
        tag_id=f"id{number}",
        path="A/T",
        unit="1",
        detector="d",
        kind=kind,
        direction="rose",
        onset_ns=0,
        last_ns=0,
        active=True,
        value=None,
        peak=None,
        low=None,
        high=None,
        score=score,
    )


@pytest.mark.parametrize(
    ("members", "severity", "ne107"),
    [
        ([member(Kind.MEAN_SHIFT)], Severity.LOW, "M"),
        ([member(Kind.MEAN_SHIFT, 2.0)], Severity.MEDIUM, "M"),
        ([member(Kind.RATE, 9.0)], Severity.LOW, "S"),
        ([member(Kind.OUT_OF_RANGE)], Severity.HIGH, "S"),
        ([member(Kind.MISSING), member(Kind.OUT_OF_RANGE)], Severity.HIGH, "F"),
        ([member(Kind.FLATLINE)], Severity.MEDIUM, "F"),
        ([member(Kind.MEAN_SHIFT, number=i) for i in range(3)], Severity.MEDIUM, "M"),
        ([member(Kind.OUT_OF_RANGE, number=i) for i in range(9)], Severity.CRITICAL, "S"),
        ([member(Kind.OUT_OF_RANGE), member(Kind.RATE), member(Kind.MEAN_SHIFT)], Severity.HIGH, "S"),
    ],
)
def test_severity_and_class_follow_the_table(members, severity, ne107):
    """Severity and NE 107 class are those of the documented table."""
    assert assess(members) == (severity, ne107)
