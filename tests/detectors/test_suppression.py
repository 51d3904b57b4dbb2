"""Shelving, suppression by design, maintenance and calendar: what asks for attention, what is kept, what it costs."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.base import BadState
from detectors.detection import Detection, DetectionOptions
from detectors.suppression import MOST_ACTIVE, Suppressor
from schemas.anomaly import Kind
from schemas.calendar import Window
from schemas.suppression import Command, Rule
from schemas.tagmap import Equipment, TagMap
from tests.detectors.conftest import NOW, UNIT, S, make_records, make_tag

LIMITED = {"range": (0.0, 100.0)}
OTHER = "Acme/Lyon/Utilities/P102"


def told(plant):
    """Of each anomaly: why it is suppressed, its state, and the tags that are active in it."""
    return [(a.suppressed, a.state, [m.tag_id for m in a.members if m.active]) for a in plant.latest().values()]


@pytest.mark.parametrize("target", [f"{UNIT}/T0", UNIT, "Acme/Lyon"])
def test_shelved_finding_is_kept_apart_and_counted(script, tag, target):
    """What is shelved becomes an episode of its own that says so; what is not goes on asking; the shelf counts."""
    plant = script(tag(0, **LIMITED), tag(1, **LIMITED, equipment="Acme/Paris/P1", path="Acme/Paris/P1/T1"), spc=[])
    shelf = plant.ask("shelve", target, until_ns=NOW + 3600 * S)
    plant.tick()
    plant.run({0: [150.0], 1: [150.0]})
    assert told(plant) == [("shelved", "open", ["id0"]), (None, "open", ["id1"])]
    assert plant.detection.suppressor.counts() == {shelf: 1}
    assert plant.events[0].suppression.target == target


def test_shelf_for_one_kind_lets_the_others_through(script, tag):
    """Flatline is shelved, out of range is not."""
    plant = script(tag(0, **LIMITED, flatline_after_ms=3000), spc=[])
    plant.ask("shelve", UNIT, kind="flatline", until_ns=NOW + 3600 * S)
    plant.run({0: [150.0] * 10})
    assert {a.kind: a.suppressed for a in plant.latest().values()} == {
        Kind.OUT_OF_RANGE: None,
        Kind.FLATLINE: "shelved",
    }


def test_active_condition_moves_when_it_is_shelved_and_back_when_the_shelf_is_over(script, tag):
    """Its episode closes at once, a suppressed one goes on, and what still stands afterwards asks again, as new."""
    plant = script(tag(0, **LIMITED), spc=[])
    plant.run({0: [150.0, 150.0]})
    plant.ask("shelve", f"{UNIT}/T0", until_ns=plant.now_ns + 60 * S)
    plant.run({0: [150.0] * 10})
    assert told(plant) == [(None, "closed", []), ("shelved", "open", ["id0"])]

    plant.run({0: [150.0] * 60})

    first, shelved, again = plant.latest().values()
    assert (again.suppressed, again.state, again.members[0].onset_ns) == (None, "open", first.onset_ns)
    assert shelved.state == "closed"
    assert len({first.anomaly_id, shelved.anomaly_id, again.anomaly_id}) == 3
    assert [(e.what, e.actor, e.detail) for e in plant.events] == [
        ("began", "a.moreau", ""),
        ("ended", "", "its time is over"),
    ]


def test_shelf_that_comes_and_goes_does_not_multiply_members(script, tag):
    """Within the open episodes of another tag, a condition goes to and fro between two members."""
    plant = script(tag(0, **LIMITED), tag(1, **LIMITED), spc=[], health=["out_of_range"])
    plant.run({0: [150.0], 1: [150.0]})
    for _ in range(5):
        shelf = plant.ask("shelve", f"{UNIT}/T0", until_ns=plant.now_ns + 3600 * S)
        plant.run({0: [150.0] * 3, 1: [150.0] * 3})
        plant.ask("end", shelf)
        plant.run({0: [150.0] * 3, 1: [150.0] * 3})
    plant.run({0: [50.0] * 40, 1: [50.0] * 40})
    assert [len(a.members) for a in plant.latest().values() if a.suppressed is None] == [2]
    assert not any(m.active for a in plant.latest().values() for m in a.members)


def test_condition_that_begins_with_its_shelf_was_never_told(script, tag):
    """A finding of the same second as the shelf leaves no episode that nobody was told of."""
    plant = script(tag(0, **LIMITED), spc=[])
    plant.send({0: 150.0})
    plant.ask("shelve", UNIT, until_ns=NOW + 3600 * S)
    plant.tick(1, 3)
    assert told(plant) == [("shelved", "open", ["id0"])]


def test_person_ends_a_shelf(script, tag):
    """The end names who; what was ended cannot be ended again, and a command that comes twice is taken once."""
    plant = script(tag(0, **LIMITED), spc=[])
    shelf = plant.ask("shelve", UNIT, until_ns=NOW + 3600 * S)
    plant.tick()
    end = Command("e" * 32, "end", "o.berg", shelf, reason="repaired")
    for _ in range(2):
        plant.detection.suppressor.command(end)
        plant.tick()
    plant.detection.suppressor.command(Command("f" * 32, "end", "o.berg", shelf))
    plant.tick()
    assert [(e.what, e.actor, e.detail) for e in plant.events[1:]] == [
        ("ended", "o.berg", "repaired"),
        ("refused", "o.berg", "it is over already"),
    ]
    plant.run({0: [150.0]})
    assert plant.said[-1].suppressed is None


def test_maintenance_is_check_function_and_learns_nothing(script, tag):
    """NE 107 says C; charts of equipment that people work on neither judge nor learn, and wait for the hold-off."""
    plant = script(tag(0, **LIMITED), tag(1), clean_window="30s", hold_off="20s", close_after="30s")
    work = plant.ask("maintenance", UNIT)
    plant.tick()
    plant.run({0: [150.0] * 60, 1: [float(i % 5) for i in range(60)]})
    (anomaly,) = plant.latest().values()
    assert (anomaly.suppressed, anomaly.ne107) == ("maintenance", "C")
    assert plant.learned() == frozenset()

    plant.ask("end", work)
    column = {0: [50.0 + i % 7 for i in range(48)], 1: [float(i % 5) for i in range(48)]}
    plant.run(column)
    assert plant.learned() == frozenset()
    plant.run(column)
    assert plant.learned() == {"id0", "id1"}


def test_shift_of_the_mean_in_maintenance_is_no_finding(script, tag):
    """A chart that had learned is paused, and what it had found is over."""
    plant = script(tag(0), clean_window="60s", hold_off="1s", close_after="10s")
    values = [float(i % 5) for i in range(100)]
    plant.run({0: values})
    assert plant.learned() == {"id0"}
    plant.run({0: [value + 50 for value in values[:40]]})
    assert plant.said[-1].kind is Kind.MEAN_SHIFT
    plant.ask("maintenance", "Acme")
    plant.run({0: [value + 50 for value in values]})
    assert [a.state for a in plant.latest().values()] == ["closed"]


RULE = Rule(when=f"{UNIT}/T0", values=(2.0,), tags=(f"{UNIT}/T1",), kinds=(Kind.OUT_OF_RANGE,))


def test_rule_suppresses_while_its_tag_says_so(script, tag):
    """The standby pump's flow is out of range by design; its pressure is not; and neither while it runs."""
    equipment = Equipment(path=UNIT, suppress=(RULE,))
    plant = script(tag(0), tag(1, **LIMITED), tag(2, **LIMITED), equipment=[equipment], spc=[])
    plant.run({0: [1.0, 2.0, 2.0], 1: [50.0] * 3, 2: [50.0] * 3})
    plant.run({0: [2.0] * 3, 1: [-9.0] * 3, 2: [-9.0] * 3})
    assert told(plant) == [("by_design", "open", ["id1"]), (None, "open", ["id2"])]
    plant.run({0: [1.0] * 15, 1: [-9.0] * 15, 2: [-9.0] * 15})
    assert told(plant) == [("by_design", "closed", []), (None, "open", ["id2", "id1"])]


@pytest.fixture
def standby(script, tag):
    """T0 says standby, which suppresses all that T1 finds; T1 is on another source, T0 stale after 10 s."""
    state = tag(0, source="state", stale_after_ms=10_000)
    rule = Rule(when=state.path, values=(2.0,))
    plant = script(state, tag(1, **LIMITED), equipment=[Equipment(path=UNIT, suppress=(rule,))], spc=[])
    plant.send({0: 2.0}, source="state")
    plant.tick()
    plant.run({1: [-9.0] * 3})
    assert told(plant) == [("by_design", "open", ["id1"])]
    return plant


@pytest.mark.parametrize("status", [0x80050000, 0x40900000], ids=["bad", "uncertain"])
def test_a_value_that_cannot_be_used_suppresses_nothing(standby, status):
    """And one that can be does again."""
    standby.send({0: 2.0}, source="state", status=[status])
    standby.run({1: [-9.0] * 2})
    assert told(standby)[-1] == (None, "open", ["id1"])
    standby.send({0: 2.0}, source="state")
    standby.run({1: [-9.0] * 2})
    assert told(standby)[-1][0] == "by_design"


def test_a_source_that_is_down_suppresses_nothing(standby):
    """When it is back its last value counts again: a session that was kept tells only what changed."""
    standby.link(up=False, source="state")
    standby.run({1: [-9.0] * 3})
    assert told(standby)[-1] == (None, "open", ["id1"])
    standby.link(up=True, source="state")
    standby.run({1: [-9.0] * 3})
    assert told(standby)[-1][0] == "by_design"


def test_a_silent_tag_suppresses_nothing(standby):
    """Negative control: while it may be silent it does."""
    standby.run({1: [-9.0] * 5})
    assert [cause for cause, _, _ in told(standby)] == ["by_design"]
    standby.run({1: [-9.0] * 6})
    assert told(standby) == [("by_design", "closed", []), (None, "open", ["id0", "id1"])]


def test_what_is_unknown_is_saved(standby):
    """A suppressor that goes on from a saved state decides as the first."""
    standby.link(up=False, source="state")
    standby.tick()
    first, second = standby.detection.suppressor, Suppressor()
    second.use_map(standby.tag_map, [UNIT])
    second.restore(first.state())
    for one in (first, second):
        one.tick(standby.now_ns + S)
    path = standby.tag_map.tags[1].path
    assert (first.cause(path, UNIT, "out_of_range"), second.cause(path, UNIT, "out_of_range")) == (None, None)
    assert second.state() == first.state()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_rule_holds_for_what_its_own_second_brings(script, tag, order):
    """State and flow fall in one second, in whichever order they come: no alarm."""
    plant = script(tag(0), tag(1, **LIMITED), equipment=[Equipment(path=UNIT, suppress=(RULE,))], spc=[])
    plant.run({0: [1.0] * 3, 1: [50.0] * 3})
    for number in order:
        plant.send({number: {0: 2.0, 1: -9.0}[number]})
    plant.tick(1, 3)
    assert told(plant) == [("by_design", "open", ["id1"])]


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        (Rule(when="a", above=5.0), [False, False, True]),
        (Rule(when="a", below=5.0), [True, False, False]),
        (Rule(when="a", values=(5.0,)), [False, True, False]),
    ],
)
def test_conditions_of_rules(rule, holds):
    """Unknown suppresses nothing."""
    assert [rule.holds(value) for value in (4.0, 5.0, 6.0)] == holds
    assert not rule.holds(None)


def moment(text: str) -> int:
    """UTC ns."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * S


NIGHT = Window(
    name="night", kind="shift", days=(0, 1, 2, 3, 4), start_min=22 * 60, minutes=480, timezone="Europe/Paris"
)


@pytest.mark.parametrize(
    ("window", "utc", "is_open"),
    [
        (NIGHT, "2026-03-02T20:59:59", False),  # Monday, winter: 21:59:59
        (NIGHT, "2026-03-02T21:00:00", True),
        (NIGHT, "2026-03-03T04:59:59", True),
        (NIGHT, "2026-03-03T05:00:00", False),
        (NIGHT, "2026-03-07T04:00:00", True),  # Saturday morning belongs to Friday's
        (NIGHT, "2026-03-07T22:00:00", False),
        (NIGHT, "2026-07-06T20:00:00", True),  # summer: 22:00
        (NIGHT.model_copy(update={"first": date(2026, 3, 3)}), "2026-03-02T22:00:00", False),
        (NIGHT.model_copy(update={"last": date(2026, 3, 2)}), "2026-03-03T04:00:00", True),
        (NIGHT.model_copy(update={"last": date(2026, 3, 2)}), "2026-03-03T22:00:00", False),
        (NIGHT.model_copy(update={"without": (date(2026, 3, 2),)}), "2026-03-03T04:00:00", False),
        (NIGHT.model_copy(update={"every": 2, "first": date(2026, 3, 2)}), "2026-03-16T22:00:00", True),
        (NIGHT.model_copy(update={"every": 2, "first": date(2026, 3, 2)}), "2026-03-09T22:00:00", False),
    ],
)
def test_window_opens_by_the_clock_on_the_wall(window, utc, is_open):
    """Across midnight, summer time, first and last day, exceptions, every second week."""
    assert window.open_at(moment(utc)) is is_open


def test_calendar_takes_equipment_out_of_service(script, tag):
    """Off: detectors do not look. Maintenance: findings are suppressed. Shift: a name for the evidence."""
    day = datetime.fromtimestamp(NOW // S, UTC)
    start = day.hour * 60 + day.minute + 1

    def window(kind: str, path: str) -> Window:
        days = tuple(range(7))
        return Window(name=kind, kind=kind, paths=(path,), days=days, start_min=start, minutes=2)

    tags = [tag(0, **LIMITED), tag(1, **LIMITED, equipment=OTHER, path=f"{OTHER}/T1")]
    calendar = [window("off", UNIT), window("maintenance", OTHER), window("shift", "Acme")]
    plant = script(*tags, calendar=calendar, spc=[], close_after="10s")
    to_start = 60 - (NOW // S) % 60
    plant.tick(to_start + 1)
    assert plant.detection.suppressor.shifts(UNIT) == ("shift",)
    plant.run({0: [150.0] * 30, 1: [150.0] * 30})
    assert told(plant) == [("maintenance", "open", ["id1"])]
    plant.run({0: [150.0] * 100, 1: [150.0] * 100})
    assert sorted(told(plant), key=repr) == [
        ("maintenance", "closed", []),
        (None, "open", ["id0"]),
        (None, "open", ["id1"]),
    ]


def test_flood_under_a_shelf_is_one_episode(script, tag):
    """A thousand shelved findings within a minute are one suppressed episode, and the shelf knows their number."""
    plant = script(*(tag(i, **LIMITED) for i in range(1000)), spc=[])
    shelf = plant.ask("shelve", UNIT, until_ns=NOW + 3600 * S)
    plant.tick()
    for second in range(60):
        plant.send(dict.fromkeys(range(17 * second, min(17 * second + 17, 1000)), 150.0))
        plant.tick()
    assert len(plant.latest()) == 1
    assert plant.detection.suppressor.counts() == {shelf: 1000}


def test_end_that_no_table_holds_is_refused():
    """A journal may hold one; core goes on."""
    suppressor = Suppressor()
    for number, until_ns in enumerate((2**63, 2**63 - 1)):
        suppressor.command(Command(f"{number:032x}", "maintenance", "p", "A", until_ns=until_ns))
    refused, began = suppressor.tick(NOW)
    assert refused.detail == "its end is later than any time that can be stored"
    assert began.what == "began"


def test_too_many_and_too_late_are_refused():
    """A suppression whose time is over, and one beyond the most, have no effect and say so."""
    suppressor = Suppressor()
    suppressor.command(Command("0" * 32, "shelve", "p", "A", until_ns=NOW - 1))
    for i in range(MOST_ACTIVE + 1):
        suppressor.command(Command(f"{i + 1:032x}", "shelve", "p", "A", until_ns=NOW + S))
    said = suppressor.tick(NOW)
    assert [e.what for e in said].count("began") == MOST_ACTIVE
    assert [e.detail for e in said if e.what == "refused"] == [
        "its time was over before it came into the stream",
        f"{MOST_ACTIVE} suppressions are in force already",
    ]
    assert len(suppressor.state()) < 200_000
    assert {e.what for e in suppressor.tick(NOW + S)} == {"ended"}


def test_damaged_state_is_said():
    """Neither rubbish nor another version is taken for a state."""
    with pytest.raises(BadState):
        Suppressor().restore(b"\x00")


STEPS = st.lists(
    st.tuples(st.sampled_from(["shelve", "maintenance", "end", "values", "tick"]), st.integers(0, 2), st.booleans()),
    max_size=40,
)


@given(steps=STEPS, cut=st.integers(0, 40))
def test_restored_run_goes_on_bit_for_bit(steps, cut):
    """Wherever a run is saved and loaded, what follows is the same."""
    tags = (make_tag(0), make_tag(1, **LIMITED), make_tag(2, **LIMITED, equipment=OTHER, path=f"{OTHER}/T2"))
    tag_map = TagMap(site="Acme", tags=tags, equipment=(Equipment(path=UNIT, suppress=(RULE,)),))

    def run(cut: int | None) -> list[object]:
        detection = Detection(DetectionOptions(spc=[], close_after="5s", group_window="3s"))
        detection.use_map(tag_map.revision, tag_map)
        said: list[object] = []
        now = NOW
        for i, (what, number, high) in enumerate(steps):
            if i == cut:
                state, kept = detection.state(), detection.suppressor.state()
                detection = Detection(DetectionOptions(spc=[], close_after="5s", group_window="3s"))
                detection.use_map(tag_map.revision, tag_map)
                detection.restore(state)
                detection.suppressor.restore(kept)
            now += S // 3
            if what == "values":
                value = (2.0 if high else 1.0) if number == 0 else (150.0 if high else 50.0)
                detection.records(make_records(tag_map.revision, [number], [now], [value]))
            elif what == "tick":
                said += detection.suppressor.tick(now)
                said += detection.tick(now)
                said.append(detection.suppressor.counts() if cut is None else detection.suppressor.counts() and None)
            else:
                target = f"{number:032x}" if what == "end" else [UNIT, OTHER, "Acme"][number]
                until = now + 5 * S if high else None
                detection.suppressor.command(Command(f"{i:032x}", what, "p", target, until_ns=until))  # type: ignore[arg-type]
        return [item for item in said if item is not None and not isinstance(item, dict)]

    assert run(cut) == run(None)
