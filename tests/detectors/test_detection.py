"""Detection as a stage: any cut of the stream, any restart and any map change give the same anomalies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from detectors.base import BadState, UnknownMap
from detectors.detection import Detection, DetectionOptions
from schemas.anomaly import Anomaly
from schemas.entries import Link, Position
from schemas.records import RecordBatch
from schemas.samples import Origin
from schemas.tagmap import Equipment, Tag, TagMap

S = 1_000_000_000
NOW = 1_790_000_000 * S
PUMP = "Acme/Lyon/P101"


def tag(number: int, **more: Any) -> Tag:
    given = {
        "id": f"id{number}",
        "path": f"{PUMP}/T{number}",
        "source": "plc",
        "address": str(number),
        "equipment": PUMP,
    }
    return Tag(number=number, **(given | more))


PLANT = TagMap(
    site="Acme/Lyon",
    tags=(
        tag(0, range=(-3.0, 3.0), stale_after_ms=4000, role="pv"),
        tag(1, rate_limit=4.0, flatline_after_ms=6000),
        tag(2, role="state"),
        tag(3, role="sp"),
        tag(4, equipment="Acme/Lyon/P102", stale_after_ms=4000, range=(-2.0, 2.0), rate_limit=3.0),
        tag(5, source="other", stale_after_ms=3000, equipment="Acme/Lyon/P102"),
    ),
    equipment=(Equipment(path=PUMP, state=f"{PUMP}/T2", running=(1, 2), hold_off_s=5.0),),
)
OPTIONS = DetectionOptions(
    clean_window="40s",
    relearn_after="60s",
    group_window="10s",
    close_after="20s",
    hold_off="3s",
    settle="5s",
    spc=("shewhart", "ewma", "cusum", "nelson"),
)


@dataclass
class Ticked:
    wall_ns: int


Stream = list[RecordBatch | Ticked | Link]
SEEDS = st.integers(0, 2**32)


def stream_of(seed: int, length: int) -> Stream:
    """Minutes of a small plant with odd values, state and set-point changes, links and irregular ticks."""
    rng = np.random.default_rng(seed)
    wall = NOW
    out: Stream = [Ticked(wall)]
    for _ in range(length):
        wall += int(rng.choice([S, S, S, S, 3 * S, 20 * S]))
        n = int(rng.integers(0, 24))
        tags = rng.choice(6, n, p=[0.3, 0.3, 0.05, 0.05, 0.2, 0.1]).astype(np.int32)
        value = rng.normal(0, 1, n) * rng.choice([1, 1, 1, 8], n)
        value[tags == 1] = np.round(value[tags == 1])
        value[tags == 2] = rng.choice([0, 1, 1, 2], int((tags == 2).sum()))
        value[tags == 3] = rng.choice([5, 5, 5, 6], int((tags == 3).sum()))
        value[rng.random(n) < 0.02] = np.nan
        value[rng.random(n) < 0.01] = np.inf
        out.append(
            RecordBatch(
                source="other" if rng.random() < 0.1 else "plc",
                origin=Origin.LIVE,
                map_revision=PLANT.revision,
                position=Position(1, 1),
                received_ns=wall,
                tag=tags,
                source_ns=wall - np.sort(rng.integers(0, S, n))[::-1].astype(np.int64),
                server_ns=None,
                value=value,
                status=np.where(rng.random(n) < 0.03, 0x80000000, 0).astype(np.uint32),
                flags=rng.choice([0, 0, 0, 0, 1 << 5, 1 << 6, 1 << 12, 1 << 13], n).astype(np.uint32),
                fingerprint=np.zeros(n, np.int64),
            )
        )
        if rng.random() < 0.05:
            out.append(Link("plc", bool(rng.random() < 0.6)))
        out.append(Ticked(wall))
    return out


def start() -> Detection:
    made = Detection(OPTIONS)
    made.use_map(PLANT.revision, PLANT)
    return made


def take(stage: Detection, entry: RecordBatch | Ticked | Link) -> list[Anomaly]:
    if isinstance(entry, Ticked):
        return stage.tick(entry.wall_ns)
    if isinstance(entry, Link):
        return stage.link(entry, NOW)
    return stage.records(entry)


def cut(batch: RecordBatch, at: int) -> list[RecordBatch]:
    return [
        RecordBatch(
            batch.source,
            batch.origin,
            batch.map_revision,
            batch.position,
            batch.received_ns,
            batch.tag[rows],
            batch.source_ns[rows],
            None,
            batch.value[rows],
            batch.status[rows],
            batch.flags[rows],
            batch.fingerprint[rows],
        )
        for rows in (slice(0, at), slice(at, None))
    ]


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(20, 120))
def test_any_cut_of_the_stream_gives_the_same_anomalies(seed: int, length: int) -> None:
    """Batches cut anywhere give the same revisions and the same state, bit for bit."""
    whole, parted = start(), start()
    rng = np.random.default_rng(seed)
    for entry in stream_of(seed, length):
        one = take(whole, entry)
        pieces = [entry]
        if isinstance(entry, RecordBatch) and len(entry):
            pieces = cut(entry, int(rng.integers(len(entry) + 1)))
        other = [anomaly for piece in pieces for anomaly in take(parted, piece)]
        assert one == other
    assert whole.state() == parted.state()


def settling_of(seed: int, clocks: dict[int, int]) -> Stream:
    """Tags that change their level together and stay there; each second's rows in any order, by their clocks."""
    rng = np.random.default_rng(seed)
    out: Stream = []
    for second in range(150):
        tags = rng.permutation(list(clocks)).astype(np.int32)
        n = len(tags)
        out.append(
            RecordBatch(
                source="plc",
                origin=Origin.LIVE,
                map_revision=SETTLING.revision,
                position=Position(1, 1),
                received_ns=NOW + second * S,
                tag=tags,
                source_ns=np.array([NOW + (second + clocks[int(t)]) * S for t in tags], np.int64),
                server_ns=None,
                value=rng.normal(0, 0.1, n) + (5.0 if second >= 70 else 0.0),
                status=np.zeros(n, np.uint32),
                flags=np.zeros(n, np.uint32),
                fingerprint=np.zeros(n, np.int64),
            )
        )
        out.append(Ticked(NOW + second * S))
    return out


SETTLING = TagMap(site="Acme/Lyon", tags=tuple(tag(i, source=("plc", "other")[i % 2]) for i in range(6)))


@pytest.mark.parametrize("seed", range(3))
def test_any_cut_gives_the_same_end_of_what_became_normal(seed: int) -> None:
    """Tags of two sources whose clocks are apart settle in one batch: each condition ends at its own tag's time."""
    clocks = {0: 0, 1: 900, 2: 3, 3: 897, 4: 0, 5: 905}
    options = OPTIONS.model_copy(update={"spc": ("ewma",), "relearn_after": 20.0})
    stages = [Detection(options) for _ in range(2)]
    for stage in stages:
        stage.use_map(SETTLING.revision, SETTLING)
    rng = np.random.default_rng(seed)
    said: list[Anomaly] = []
    for entry in settling_of(seed, clocks):
        one = take(stages[0], entry)
        pieces = cut(entry, int(rng.integers(len(entry) + 1))) if isinstance(entry, RecordBatch) else [entry]
        other = [anomaly for piece in pieces for anomaly in take(stages[1], piece)]
        assert one == other
        said += one
    assert stages[0].state() == stages[1].state()
    members = [m for anomaly in {a.anomaly_id: a for a in said}.values() for m in anomaly.members]
    ended = [m for m in members if not m.active]
    assert {m.tag_id for m in ended} == {f"id{i}" for i in clocks}
    for member in ended:
        ahead = clocks[int(member.tag_id[2:])]
        assert NOW + ahead * S < member.last_ns < NOW + (ahead + 150) * S


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(20, 120))
def test_restart_at_any_entry_goes_on_bit_for_bit(seed: int, length: int) -> None:
    """A fresh instance with the saved state gives the same revisions, whichever comes first, map or state."""
    through, stage = start(), start()
    rng = np.random.default_rng(seed)
    for i, entry in enumerate(stream_of(seed, length)):
        if rng.random() < 0.05:
            saved = stage.state()
            stage = Detection(OPTIONS)
            if i % 2:
                stage.use_map(PLANT.revision, PLANT)
                stage.restore(saved)
            else:
                stage.restore(saved)
                stage.use_map(PLANT.revision, PLANT)
        assert take(through, entry) == take(stage, entry)
    assert through.state() == stage.state()


def test_streams_of_the_property_tests_hold_every_kind() -> None:
    """Negative control: the generated streams do give anomalies of each kind, gates and closings."""
    kinds, states = set(), set()
    for seed in range(12):
        stage = start()
        rng = np.random.default_rng(seed)
        for second in range(300):
            # A shift on the free-running tag, a silent one, and steps on the others.
            values = [rng.normal(), np.round(rng.normal()) if second % 50 < 30 else 0.0, 1.0, 5.0]
            values += [rng.normal(0, 0.3) + (1.5 if second > 200 else 0)]
            values[0] += 9 * (second % 61 == 60)
            values[1] += 9 * (second % 71 == 70)
            rows = 5 if second % 100 < 80 else 4
            batch = RecordBatch(
                "plc",
                Origin.LIVE,
                PLANT.revision,
                Position(1, 1),
                NOW,
                np.arange(rows, dtype=np.int32),
                np.full(rows, NOW + second * S, np.int64),
                None,
                np.array(values[:rows]),
                np.zeros(rows, np.uint32),
                np.zeros(rows, np.uint32),
                np.zeros(rows, np.int64),
            )
            stage.records(batch)
            for anomaly in stage.tick(NOW + second * S):
                kinds |= {m.kind for m in anomaly.members}
                states.add(anomaly.state)
    assert kinds >= {"missing", "flatline", "out_of_range", "rate", "mean_shift", "level_shift", "run"}
    assert states == {"open", "closed"}


def test_restored_state_waits_for_its_map(tag, script) -> None:
    """Rows and ticks are refused until the map of the state is in force; another map does not wake it."""
    saved = start().state()
    stage = Detection(OPTIONS)
    stage.restore(saved)
    with pytest.raises(UnknownMap):
        stage.tick(NOW)
    assert stage.state() == saved
    other = TagMap(site="Acme", tags=(tag(0),))
    stage.use_map(other.revision, other)
    with pytest.raises(UnknownMap):
        stage.tick(NOW)
    stage.use_map(PLANT.revision, PLANT)
    assert stage.tick(NOW) == []


def test_what_was_learned_survives_a_map_that_means_the_same(script, tag) -> None:
    """Another path, range or number keeps a baseline; another scale or address does not."""
    rng = np.random.default_rng(1)
    plant = script(tag(0), tag(1), tag(2), clean_window="60s")
    plant.run({i: rng.normal(size=120) for i in range(3)})
    assert plant.learned() == {"id0", "id1", "id2"}
    later = TagMap(
        site="Acme/Lyon",
        tags=(
            tag(0, id="id1", path="Acme/New", address="1", range=(0, 1)),
            tag(1, id="id0", address="0", factor=2.0),
            tag(2, address="7"),
        ),
    )
    plant.detection.use_map(later.revision, later)
    assert plant.learned() == {"id1"}


def test_rows_of_an_older_map_are_understood_while_it_is_kept(script, tag, records) -> None:
    """A batch read before the new map arrived names other numbers; it feeds the tags that mean the same."""
    plant = script(tag(0, range=(0.0, 1.0)), tag(1))
    later = TagMap(
        site="Acme/Lyon", tags=(tag(0, id="id1", address="1"), tag(1, id="id0", address="0", range=(0.0, 1.0)))
    )
    plant.detection.use_map(later.revision, later)
    plant.detection.records(records(plant.tag_map.revision, [0], [NOW], [5.0]))
    (found,) = plant.tick()
    assert [m.tag_id for m in found.members] == ["id0"]


def test_state_is_bounded_over_many_maps(tag) -> None:
    """A hundred maps with new tags leave the tags of the last four."""
    stage = Detection(OPTIONS)
    sizes = []
    for i in range(100):
        tag_map = TagMap(site="Acme", tags=tuple(tag(k, id=f"id{i:03}-{k}") for k in range(5)))
        stage.use_map(tag_map.revision, tag_map)
        sizes.append(len(stage.state()))
    assert sizes[-1] == sizes[10]


def test_batch_of_an_unknown_map_or_number_is_refused(script, tag, records) -> None:
    """Nothing is guessed about rows that no map explains."""
    plant = script(tag(0))
    with pytest.raises(UnknownMap):
        plant.detection.records(records(b"?" * 16, [0], [NOW], [1.0]))
    with pytest.raises(UnknownMap):
        plant.detection.records(records(plant.tag_map.revision, [1], [NOW], [1.0]))


@pytest.mark.parametrize("maps_first", [True, False])
def test_state_saved_while_switched_off_begins_with_the_newest_map(script, tag, records, maps_first) -> None:
    """Off, saved, on again: the newest known map is in force, and the first batch is looked at."""
    plant = script(tag(0, range=(0.0, 1.0)), enabled=False)
    saved = plant.detection.state()
    other = TagMap(site="Acme", tags=(tag(0, address="7"),))
    stage = Detection(OPTIONS)
    if maps_first:
        stage.use_map(other.revision, other)
        stage.use_map(plant.tag_map.revision, plant.tag_map)
    stage.restore(saved)
    if not maps_first:
        stage.use_map(other.revision, other)
        stage.use_map(plant.tag_map.revision, plant.tag_map)
    stage.records(records(plant.tag_map.revision, [0], [NOW], [5.0]))
    assert [a.kind for a in stage.tick(NOW)] == ["out_of_range"]


def test_state_outlives_being_switched_off_under_the_same_map(script, tag, records) -> None:
    """What was open is closed after detection was off for a while; a map applied meanwhile begins it anew."""
    plant = script(tag(0, range=(0.0, 1.0)))
    plant.send({0: 5.0})
    (opened,) = plant.tick()
    saved = plant.detection.state()
    off = Detection(DetectionOptions(enabled=False))
    off.use_map(plant.tag_map.revision, plant.tag_map)
    off.restore(saved)
    assert off.tick(NOW) == []
    assert off.state() == saved
    on = Detection(OPTIONS)
    on.use_map(plant.tag_map.revision, plant.tag_map)
    on.restore(off.state())
    on.records(records(plant.tag_map.revision, [0], [NOW + 9 * S], [0.5]))
    found = [anomaly for second in range(10, 40) for anomaly in on.tick(NOW + second * S)]
    assert (found[-1].anomaly_id, found[-1].state) == (opened.anomaly_id, "closed")
    other = TagMap(site="Acme", tags=(tag(0, address="7"),))
    off.use_map(other.revision, other)
    anew = Detection(OPTIONS)
    anew.use_map(other.revision, other)
    anew.restore(off.state())
    assert anew.tick(NOW) == []


def test_state_of_a_version_with_fewer_columns_is_read(script, tag) -> None:
    """A column that the saved state does not have begins with its default; an episode stays open."""
    plant = script(tag(0, range=(0.0, 1.0)), tag(1, stale_after_ms=3000))
    plant.send({0: 5.0, 1: 1.0})
    plant.tick()
    saved = msgspec.msgpack.decode(plant.detection.state())
    for title in ("anchor", "anchored", "wander", "steady_ns"):
        saved["columns"]["settling.0"].pop(title, None)
    for title in ("row_ns", "row_value"):
        saved["columns"]["common.0"].pop(title, None)
    saved["columns"]["missing.1"].pop("silence_ns", None)
    plant.detection.restore(msgspec.msgpack.encode(saved))
    assert plant.run({0: [5.0] * 5, 1: [1.0] * 5}) == []
    assert plant.run({0: [0.5] * 31, 1: [1.0] * 31})[-1].members[0].active is False


def test_damaged_columns_leave_a_stage_that_works(script, tag) -> None:
    """After BadState the stage begins anew with the map in force."""
    plant = script(tag(0, range=(0.0, 1.0)))
    saved = msgspec.msgpack.decode(plant.detection.state())
    saved["columns"]["common.0"]["form"] = b"123"
    with pytest.raises(BadState):
        plant.detection.restore(msgspec.msgpack.encode(saved))
    plant.send({0: 5.0})
    assert [a.kind for a in plant.tick()] == ["out_of_range"]


@pytest.mark.parametrize("state", [b"", b"\x80", b"not msgpack"])
def test_damaged_state_is_refused(state: bytes) -> None:
    """State that cannot be read raises BadState."""
    with pytest.raises(BadState):
        start().restore(state)


@pytest.mark.parametrize("text", ["", "1", "0 per tag per week", "1 per tag per hour", "-1 per tag per day"])
def test_budget_that_is_none_is_refused(text: str) -> None:
    """The false-alarm budget is a number per tag and day or week; the message shows how to write it."""
    with pytest.raises(ValidationError, match="1 per tag per week"):
        DetectionOptions(false_alarms=text)


def test_budget_is_a_rate() -> None:
    """One per week is one in 604,800 seconds."""
    assert DetectionOptions().alarms_per_s() == pytest.approx(1 / 604_800)
    assert DetectionOptions(false_alarms="2 per tag per day").alarms_per_s() == pytest.approx(2 / 86_400)
