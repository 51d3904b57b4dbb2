"""Signal health: range, rate, flatline, missing, and what must not be mistaken for them."""

from __future__ import annotations

import math

import pytest

from detectors.parameters import MIN_STALE_NS
from schemas.anomaly import Kind, Severity
from schemas.samples import Origin
from schemas.status import BAD_DEVICE_FAILURE, GOOD_CLAMPED, UNCERTAIN_EU_EXCEEDED, UNCERTAIN_LAST_USABLE, Flag
from schemas.tagmap import Equipment
from tests.detectors.conftest import NOW, S, make_records


def test_out_of_range_opens_at_once_and_ends_with_hysteresis(script, tag):
    """One value outside opens an anomaly; just inside the limit is not yet back, one per cent further is."""
    plant = script(tag(0, range=(0.0, 100.0), unit="bar"), spc=[])
    plant.send({0: 50.0})
    assert plant.tick() == []
    plant.send({0: 150.0}, status=[UNCERTAIN_EU_EXCEEDED], flags=[Flag.OUT_OF_RANGE])
    (first,) = plant.tick()
    (member,) = first.members
    assert (first.kind, first.severity, first.ne107, first.state) == (Kind.OUT_OF_RANGE, Severity.HIGH, "S", "open")
    assert (member.value, member.low, member.high, member.direction) == (150.0, 0.0, 100.0, "rose")
    assert member.score == 2.0
    assert first.title == "out of range on T0"
    plant.send({0: 99.5})
    plant.tick(10, 40)
    assert plant.said[-1].state == "open"
    plant.send({0: 98.5})
    plant.tick(10, 31)
    assert plant.said[-1].state == "closed"
    assert plant.said[-1].closed_ns == plant.said[-1].members[0].last_ns


def test_infinite_value_is_out_of_range_and_stays_storable(script, tag):
    """An infinite value is told without a number that JSON could not hold."""
    plant = script(tag(0, range=(0.0, 100.0), rate_limit=1.0, flatline_after_ms=1000))
    plant.send({0: math.inf})
    (found,) = plant.tick()
    assert found.members[0].value is None
    assert math.isfinite(found.detector_score)
    assert type(found).model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("status", "flags"),
    [
        (BAD_DEVICE_FAILURE, 0),
        (UNCERTAIN_LAST_USABLE, 0),
        (0, Flag.LATE),
        (0, Flag.CORNER),
        (0, Flag.RETAINED),
        (0, Flag.NO_CHANGE_CONFIRMED),
    ],
)
def test_rows_that_prove_nothing_are_not_fed(script, tag, status, flags):
    """Bad, stale, late, retained, corner and confirming rows give no finding."""
    plant = script(tag(0, range=(0.0, 100.0)))
    plant.send({0: 150.0}, status=[status], flags=[flags])
    assert plant.tick() == []


@pytest.mark.parametrize(("flags", "found"), [(Flag.NO_CHANGE_CONFIRMED, False), (0, True)])
def test_a_confirmed_value_is_no_flat_signal(script, tag, flags, found):
    """Ten minutes of the server's word that nothing changed are no samples; as samples they would be a stuck signal."""
    plant = script(tag(0, flatline_after_ms=60_000), spc=[])
    for value in (1.0, 2.0, 3.0):
        plant.send({0: value})
        plant.tick()
    for _ in range(60):
        plant.send({0: 3.0}, flags=[flags])
        plant.tick(10)
    assert any(one.kind is Kind.FLATLINE for one in plant.said) == found


def test_rows_held_back_by_the_deadband_are_fed(script, tag):
    """A row that is not stored is seen all the same."""
    plant = script(tag(0, range=(0.0, 100.0)))
    plant.send({0: 150.0}, flags=[Flag.DEADBAND])
    assert len(plant.tick()) == 1


def test_step_is_one_rate_finding_that_ends(script, tag):
    """A single step beyond the believable rate is one member, over with the next sample."""
    plant = script(tag(0, rate_limit=5.0), spc=[])
    plant.run({0: [10.0, 10.0, 40.0, 40.0, 40.0]})
    (anomaly,) = plant.latest().values()
    (member,) = anomaly.members
    assert (member.kind, member.direction, member.peak, member.score) == (Kind.RATE, "jumped", 40.0, 6.0)
    assert (member.low, member.high) == (5.0, 15.0)
    assert plant.tick(10, 3)[-1].members[0].active is False


def test_step_that_no_sample_follows_is_over_as_well(script, tag):
    """A tag reported by exception steps and then is silent: the moment does not last for hours."""
    plant = script(tag(0, rate_limit=5.0), spc=[])
    plant.run({0: [10.0, 40.0]})
    assert plant.tick(10, 35)[-1].state == "closed"


def test_burst_of_queued_samples_is_no_rate(script, tag, records):
    """Samples a nanosecond apart (times of arrival) are judged by the scan, not by their distance."""
    plant = script(tag(0, rate_limit=5.0), spc=[])
    times = [plant.now_ns + i for i in range(4)]
    plant.detection.records(records(plant.tag_map.revision, [0] * 4, times, [10.0, 11.0, 10.0, 11.0]))
    assert plant.tick() == []


def test_flatline_needs_samples_that_do_not_move(script, tag):
    """A live tag that repeats one value for the allowed time is stuck; any change ends it."""
    plant = script(tag(0, flatline_after_ms=10_000), spc=[])
    assert plant.run({0: [1.0, 2.0, *[3.0] * 10]}) == []
    (found,) = plant.run({0: [3.0]})
    assert (found.kind, found.ne107, found.members[0].direction) == (Kind.FLATLINE, "F", "flat")
    assert found.onset_ns == plant.now_ns - 11 * 1_000_000_000
    plant.run({0: [3.1]})
    assert plant.tick(10, 3)[-1].members[0].active is False


def test_hole_in_the_data_is_no_flatline(script, tag):
    """The same value before and after hours without samples proves nothing."""
    plant = script(tag(0, flatline_after_ms=10_000), spc=[])
    plant.send({0: 3.0})
    plant.second += 7200
    plant.send({0: 3.0})
    assert plant.tick() == []


def test_missing_tag_is_found_by_ticks_and_ends_with_a_sample(script, tag):
    """One tag of a live source stays away: a finding after its own time; a sample of any status ends it."""
    plant = script(tag(0, stale_after_ms=3000), tag(1, stale_after_ms=3000), spc=[])
    plant.run({0: [1.0] * 3, 1: [1.0] * 3})
    found = plant.run({1: [1.0] * 5})
    assert [a.kind for a in found] == [Kind.MISSING]
    (member,) = found[0].members
    assert (member.tag_id, member.direction, member.value, member.active) == ("id0", "silent", None, True)
    plant.run({0: [math.nan], 1: [1.0]}, status=[BAD_DEVICE_FAILURE, 0])
    assert plant.run({0: [1.0] * 330, 1: [1.0] * 330})[-1].state == "closed"


@pytest.mark.parametrize(
    ("value", "status"), [(5.0, BAD_DEVICE_FAILURE), (math.nan, BAD_DEVICE_FAILURE), (math.nan, 0)]
)
@pytest.mark.parametrize("stale_after_ms", [None, 3000])
def test_tag_that_sends_nothing_but_bad_values_is_missing(script, tag, value, status, stale_after_ms):
    """Told after half a minute, in words that are true; over with the first value that is not bad."""
    plant = script(tag(0, stale_after_ms=stale_after_ms), tag(1), health=("missing",), spc=[])
    plant.run({0: [1.0, 2.0, 3.0], 1: [1.0] * 3})
    assert plant.run({0: [value] * 25, 1: [1.0] * 25}, status=[status, 0]) == []
    (found,) = plant.run({0: [value] * 10, 1: [1.0] * 10}, status=[status, 0])
    assert [(m.tag_id, m.kind, m.direction, m.reason) for m in found.members] == [
        ("id0", Kind.MISSING, "bad", "only bad values for 31 s"),
    ]
    assert found.ne107 == "F"
    assert plant.run({0: [1.0, 2.0] * 165, 1: [1.0] * 330})[-1].state == "closed"


def test_last_word_that_was_bad_holds(script, tag):
    """A server tells of a change of status once: no further row comes of a tag that is reported by exception."""
    plant = script(tag(0), tag(1), spc=[])
    plant.run({0: [1.0], 1: [1.0]})
    plant.send({0: math.nan}, status=[BAD_DEVICE_FAILURE])
    assert plant.run({1: [1.0] * 290}) == []
    (found,) = plant.run({1: [1.0] * 20})
    assert found.members[0].tag_id == "id0"


def test_bad_values_that_come_and_go_are_a_habit(script, tag):
    """A tag that is bad for a quarter of a minute time and again is not told for twice as long; for good, it is."""
    plant = script(tag(0), tag(1), health=("missing",), spc=[])
    for bad in (15, 15, 40):
        plant.run({0: [1.0, 2.0], 1: [1.0] * 2})
        assert plant.run({0: [math.nan] * bad, 1: [1.0] * bad}) == []
    plant.run({0: [1.0, 2.0], 1: [1.0] * 2})
    assert len(plant.run({0: [math.nan] * 330, 1: [1.0] * 330})) > 0


def members_of(plant, tag_id="id0"):
    """Direction, reason, onset (in seconds of the script) and activity of the tag's members in the one anomaly."""
    (anomaly,) = plant.latest().values()
    return [(m.direction, m.reason, (m.onset_ns - NOW) / S, m.active) for m in anomaly.members if m.tag_id == tag_id]


def test_bad_values_that_stop_coming_become_a_silence(script, tag):
    """Bad for 40 s, then no row: the tag is silent from its last row on, and says so; bad again, it is bad again."""
    plant = script(tag(0, stale_after_ms=5000), tag(1), health=("missing",), spc=[])
    plant.run({0: [1.0, 2.0] * 10, 1: [1.0] * 20})
    plant.run({0: [math.nan] * 40, 1: [1.0] * 40}, status=[BAD_DEVICE_FAILURE, 0])
    plant.run({1: [1.0] * 100})
    assert members_of(plant) == [
        ("bad", "only bad values for 44 s", 20.0, False),
        ("silent", "no sample for 7.2 times the allowed time", 59.0, True),
    ]
    assert [(f.direction, f.reason) for f in plant.detection.active()] == [
        ("silent", "no sample for 20.2 times the allowed time"),
    ]
    plant.run({0: [math.nan] * 60, 1: [1.0] * 60}, status=[BAD_DEVICE_FAILURE, 0])
    assert [(way, active) for way, _, _, active in members_of(plant)] == [("bad", True), ("silent", False)]
    plant.detection.restore(plant.detection.state())
    assert [f.direction for f in plant.detection.active()] == ["bad"]
    assert plant.run({0: [1.0, 2.0] * 165, 1: [1.0] * 330})[-1].state == "closed"


def test_bad_values_after_a_silence_are_told_in_their_own_words(script, tag):
    """While samples come nobody is told that none do."""
    plant = script(tag(0, stale_after_ms=5000), tag(1), health=("missing",), spc=[])
    plant.run({0: [1.0, 2.0] * 10, 1: [1.0] * 20})
    plant.run({1: [1.0] * 20})
    plant.run({0: [math.nan] * 40, 1: [1.0] * 40}, status=[BAD_DEVICE_FAILURE, 0])
    assert [(way, why, active) for way, why, _, active in members_of(plant)] == [
        ("silent", "no sample for 4.2 times the allowed time", False),
        ("bad", "only bad values for 31 s", True),
    ]


def test_bad_tag_of_a_source_that_falls_silent_speaks_for_itself(script, tag):
    """The source is told by another tag of the equipment, as it is where no tag was bad before."""
    tags = [tag(i, stale_after_ms=5000) for i in range(3)]
    plant = script(*tags, health=("missing",), spc=[])
    plant.run({i: [1.0, 2.0] * 10 for i in range(3)})
    plant.run({0: [math.nan] * 40, 1: [1.0] * 40, 2: [1.0] * 40}, status=[BAD_DEVICE_FAILURE, 0, 0])
    plant.tick(1, 30)
    found = [(f.tag, f.direction) for f in plant.detection.active()]
    assert found == [(0, "silent"), (1, "silent")]


def test_bad_values_before_the_first_usable_one_are_no_habit(script, tag):
    """Bad for an hour while it is commissioned, some of it in one batch with the first good value; then it dies."""
    plant = script(tag(0), tag(1), health=("missing",), spc=[])
    assert plant.run({0: [math.nan] * 3600, 1: [1.0] * 3600}) == []
    times = [plant.now_ns + i for i in range(3)]
    plant.detection.records(make_records(plant.tag_map.revision, [0] * 3, times, [math.nan, 1.0, math.nan]))
    assert plant.run({0: [1.0, 2.0] * 100, 1: [1.0] * 200}) == []
    (found,) = plant.run({0: [math.nan] * 35, 1: [1.0] * 35})
    assert [m.reason for m in found.members] == ["only bad values for 31 s"]


def test_no_habit_keeps_a_death_from_being_told(script, tag):
    """Each outage is shorter than eight times the one before; the last is told after a quarter of an hour."""
    plant = script(tag(0), tag(1), health=("missing",), spc=[])
    for bad in (28, 200, 890):
        plant.run({0: [1.0, 2.0] * 30, 1: [1.0] * 60})
        assert plant.run({0: [math.nan] * bad, 1: [1.0] * bad}) == []
    plant.run({0: [1.0, 2.0] * 30, 1: [1.0] * 60})
    assert plant.run({0: [math.nan] * 900, 1: [1.0] * 900}) == []
    (found,) = plant.run({0: [math.nan] * 10, 1: [1.0] * 10})
    assert [m.reason for m in found.members] == ["only bad values for 901 s"]


@pytest.mark.parametrize("case", ["never usable", "uncertain between", "good between", "late", "text", "link down"])
def test_bad_values_that_are_not_told(script, tag, case):
    """A spare input, one that comes and goes, a text, and what a gap says already."""
    plant = script(tag(0, type="string" if case == "text" else None), tag(1), health=("missing",), spc=[])
    if case != "never usable":
        plant.run({0: [1.0, 2.0], 1: [1.0] * 2})
    for second in range(60):
        status, flags = BAD_DEVICE_FAILURE, 0
        if case == "uncertain between" and second % 20 == 0:
            status = UNCERTAIN_LAST_USABLE
        if case == "good between" and second % 20 == 0:
            plant.send({0: 3.0 + second})
        if case == "late":
            flags = Flag.LATE
        if case == "text":
            status = 0
        if case == "link down" and second == 20:
            plant.link(up=False)
        if case != "link down" or second < 20:
            value = 1.0 if case == "uncertain between" and second % 20 == 0 else math.nan
            exact = {"exact": {0: "off"}} if case == "text" else {}
            plant.send({0: value, 1: 1.0}, status=[status, 0], flags=[flags, 0], **exact)
        plant.tick()
    assert plant.said == []


def test_bad_values_of_stopped_equipment_are_not_told(script, tag):
    """Instruments of equipment at rest may be off; in a hold-off nothing is counted either."""
    equipment = Equipment(path=tag(0).equipment, state=tag(1).path, running=(1,))
    plant = script(tag(0), tag(1, role="state"), equipment=[equipment], spc=[], hold_off="10s")
    plant.run({0: [1.0, 2.0] * 10, 1: [1.0] * 20})
    assert plant.run({0: [math.nan] * 60, 1: [2.0] * 60}, status=[BAD_DEVICE_FAILURE, 0]) == []
    assert plant.run({0: [math.nan] * 35, 1: [1.0] * 35}, status=[BAD_DEVICE_FAILURE, 0]) == []
    (found,) = plant.run({0: [math.nan] * 10, 1: [1.0] * 10}, status=[BAD_DEVICE_FAILURE, 0])
    assert found.members[0].active
    stopped = plant.run({0: [math.nan] * 330, 1: [2.0] * 330}, status=[BAD_DEVICE_FAILURE, 0])
    assert stopped[-1].state == "closed"


def test_silent_source_is_one_finding_on_each_equipment(script, tag):
    """When the whole source is silent its tags are not missing one by one."""
    tags = [tag(i, stale_after_ms=3000 + i, equipment=f"Acme/U{i % 2}") for i in range(20)]
    plant = script(*tags, spc=[])
    plant.run({i: [1.0] * 3 for i in range(20)})
    plant.tick(1, 30)
    latest = plant.latest().values()
    assert sorted((a.equipment, len(a.members)) for a in latest) == [("Acme/U0", 1), ("Acme/U1", 1)]


def test_source_that_is_down_is_a_gap_and_not_missing(script, tag):
    """A link that is known to be down gates its tags; a finding from before it was known is over."""
    plant = script(tag(0, stale_after_ms=3000), tag(1, source="other", stale_after_ms=3000), spc=[])
    plant.run({0: [1.0] * 3})
    plant.link(up=False)
    assert plant.tick(1, 60) == []
    plant.link(up=True)
    assert plant.tick(1, 3) == []
    assert [a.kind for a in plant.tick(1, 2)] == [Kind.MISSING]
    plant.link(up=False)
    assert plant.tick(10, 31)[-1].state == "closed"


def test_tag_reported_by_exception_is_never_missing(script, tag):
    """Without stale_after a tag may be silent for days."""
    plant = script(tag(0), tag(1, stale_after_ms=3000), spc=[])
    plant.send({0: 1.0, 1: 1.0})
    assert plant.run({1: [1.0] * 60}) == []


def test_tag_that_never_sent_is_missing(script, tag):
    """A tag of a live source that has not sent since the map came is missing as well."""
    plant = script(tag(0, stale_after_ms=3000), tag(1, stale_after_ms=3000), spc=[])
    found = plant.run({1: [1.0] * 6})
    assert [m.tag_id for a in found for m in a.members] == ["id0"]


def test_jump_of_the_host_clock_makes_nothing_stale(script, tag):
    """An hour of wall time between two ticks counts for ten seconds, an hour back for none."""
    plant = script(tag(0, stale_after_ms=15_000), spc=[])
    plant.run({0: [1.0] * 3})
    for jump in (3600, -7200, 1):
        assert plant.tick(jump) == []
        plant.send({0: 1.0})
    assert plant.tick() == []


def test_history_does_not_prove_that_a_tag_is_there(script, tag):
    """Rows read from a server's history, or kept by a broker, do not count as fresh samples."""
    plant = script(tag(0, stale_after_ms=3000), tag(1, stale_after_ms=3000), spc=[])
    plant.send({0: 1.0, 1: 1.0})
    found = []
    for _ in range(6):
        plant.send({1: 1.0})
        plant.send({0: 1.0}, origin=Origin.HISTORY)
        plant.send({0: 1.0}, origin=Origin.RETAINED, flags=[Flag.RETAINED])
        found += plant.tick()
    assert [a.kind for a in found] == [Kind.MISSING]


def test_detect_none_and_switched_off_detectors_say_nothing(script, tag):
    """``detect: none`` silences a tag, ``health: []`` a check, ``enabled: false`` everything."""
    wild = {"range": (0.0, 1.0), "rate_limit": 0.1, "flatline_after_ms": 1, "stale_after_ms": 1}
    for plant in (
        script(tag(0, detect="none", **wild)),
        script(tag(0, **wild), health=[]),
        script(tag(0, **wild), enabled=False),
    ):
        plant.run({0: [5.0, 50.0, 50.0, 50.0, 5.0]})
        plant.tick(1, 30)
        assert plant.said == []


def test_stopped_equipment_is_not_judged(script, tag):
    """Outside the running states nothing is judged, and what was found is over; unknown is not running."""
    pump = Equipment(path="Acme/Lyon/Utilities/P101", state="Acme/Lyon/Utilities/P101/T1", running=(6,))
    plant = script(tag(0, range=(10.0, 100.0)), tag(1, role="state"), equipment=[pump], spc=[])
    plant.run({0: [0.0] * 3})
    plant.run({1: [2.0] * 3, 0: [0.0] * 3})
    assert plant.said == []
    plant.run({1: [6.0] * 2, 0: [0.0] * 2})
    assert [a.kind for a in plant.said] == [Kind.OUT_OF_RANGE]
    plant.run({1: [2.0], 0: [0.0]})
    assert plant.run({1: [2.0] * 310, 0: [0.0] * 310})[-1].state == "closed"


def test_hold_off_after_a_set_point_change(script, tag):
    """For the hold-off after a set point moved, a fast change is not judged; afterwards it is."""
    plant = script(tag(0, rate_limit=1.0), tag(1, role="sp"), hold_off="30s", spc=[])
    plant.run({1: [5.0] * 3, 0: [0.0] * 3})
    assert plant.run({1: [9.0] * 20, 0: [40.0 * (i % 2) for i in range(20)]}) == []
    assert len(plant.run({1: [9.0] * 20, 0: [40.0 * (i % 2) for i in range(20)]})) > 0


def test_value_that_a_clamp_has_cut_is_out_of_range(script, tag):
    """The record carries the end of the range and says that the value was outside: a finding until it is not cut."""
    plant = script(tag(0, range=(0.0, 100.0)), spc=[])
    cut = {"status": [GOOD_CLAMPED], "flags": [Flag.CLAMPED | Flag.OUT_OF_RANGE]}
    plant.send({0: 100.0})
    assert plant.tick() == []
    plant.send({0: 100.0}, **cut)
    (found,) = plant.tick()
    assert (found.kind, found.members[0].direction, found.members[0].score) == (Kind.OUT_OF_RANGE, "rose", 1.0)
    plant.send({0: 0.0}, **cut)
    plant.tick(10, 4)
    assert [(m.direction, m.active) for m in plant.said[-1].members] == [("rose", False), ("fell", True)]
    plant.send({0: 50.0})
    assert plant.tick(10, 31)[-1].state == "closed"


def test_row_delivered_twice_is_fed_once(script, tag, records):
    """The same value at the same time says nothing new: one more sample does not make the mean or the flatline."""
    plant, other = (script(tag(0, flatline_after_ms=5000), clean_window="60s", health=["flatline"]) for _ in range(2))
    for second in range(90):
        value = 50.0 + second % 7
        plant.send({0: value})
        other.send({0: value})
        other.send({0: value})
        times = [other.now_ns] * 3
        other.detection.records(records(other.tag_map.revision, [0] * 3, times, [value] * 3))
        plant.tick()
        other.tick()
    assert plant.learned() == {"id0"}
    assert plant.detection.state() == other.detection.state()
    # negative control: another value at that time is fed
    other.send({0: 49.0})
    plant.tick()
    other.tick()
    assert plant.detection.state() != other.detection.state()


def test_dead_tag_does_not_hide_a_silent_source(script, tag):
    """A tag that was missing before the whole source fell silent leaves the silence to another tag of its unit."""
    tags = [tag(i, stale_after_ms=3000, equipment=f"Acme/U{i // 3}") for i in range(6)]
    plant = script(*tags, spc=[])
    plant.run({i: [1.0] * 3 for i in range(6)})
    plant.run({i: [1.0] * 30 for i in range(1, 6)})
    assert [(a.equipment, [m.tag_id for m in a.members]) for a in plant.latest().values()] == [("Acme/U0", ["id0"])]
    plant.tick(1, 60)
    said = {a.equipment: [m.tag_id for m in a.members] for a in plant.latest().values()}
    assert said == {"Acme/U0": ["id0", "id1"], "Acme/U1": ["id3"]}


def test_second_silence_is_told_again(script, tag):
    """A source that is heard again without the tag that spoke, and falls silent again, has another speaker."""
    plant = script(*(tag(i, stale_after_ms=3000) for i in range(3)), spc=[])
    plant.run({i: [1.0] * 3 for i in range(3)})
    plant.tick(1, 30)
    assert [m.tag_id for m in plant.said[-1].members] == ["id0"]
    plant.run({1: [1.0] * 20, 2: [1.0] * 20})
    plant.tick(1, 30)
    assert [(m.tag_id, m.active) for m in plant.said[-1].members] == [("id0", True), ("id1", True)]


def test_fast_tag_is_not_missing_before_three_ticks(script, tag):
    """Ages are counted in ticks: a tag that is stale after 300 ms is missing after three seconds, not before."""
    plant = script(tag(0, scan_ms=100, stale_after_ms=300), tag(1), spc=[])
    plant.send({0: 1.0, 1: 1.0})
    for _ in range(MIN_STALE_NS // 1_000_000_000):
        plant.send({1: 1.0})
        assert plant.tick() == []
    plant.send({1: 1.0})
    assert [a.kind for a in plant.tick()] == [Kind.MISSING]


@pytest.mark.parametrize("state", [1e300, -1e300, 2.0**63, 2.0**64, 6.5])
def test_state_that_is_no_integer_is_unknown(script, tag, state):
    """A state beyond 64 bits, or between two, is no running state, and can be saved and read again."""
    pump = Equipment(path="Acme/Lyon/Utilities/P101", state="Acme/Lyon/Utilities/P101/T1", running=(6,))
    plant = script(tag(0, range=(10.0, 100.0)), tag(1, role="state"), equipment=[pump], spc=[])
    plant.run({1: [6.0, state], 0: [50.0, 0.0]})
    saved = plant.detection.state()
    plant.detection.restore(saved)
    assert plant.detection.state() == saved
    assert plant.said == []
    plant.run({1: [6.0], 0: [0.0]})
    assert [a.kind for a in plant.said] == [Kind.OUT_OF_RANGE]
