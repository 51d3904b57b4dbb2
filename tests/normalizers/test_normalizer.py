"""The normalizer against a slow per-sample reference, over any cut of the stream and over restarts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normalizers.base import BadState, UnknownMap
from normalizers.clock import STEP_NS, STEP_ROWS
from normalizers.normalizer import Normalizer
from normalizers.options import NormalizerOptions
from schemas.entries import Position
from schemas.records import RecordBatch, fingerprints
from schemas.samples import Origin, SampleBatch
from schemas.status import (
    BAD_DEVICE_FAILURE,
    GOOD,
    GOOD_CLAMPED,
    UNCERTAIN_EU_EXCEEDED,
    UNCERTAIN_LAST_USABLE,
    Flag,
    Quality,
    quality,
)
from schemas.tagmap import Tag, TagMap

NOW = 1_790_000_000_000_000_000
S = 1_000_000_000
WHERE = Position(1, 1)


def tag(number: int, **more: Any) -> Tag:
    return Tag(number=number, id=f"id{number}", path=f"Acme/Lyon/T{number}", source="plc", address=str(number), **more)


PLANT = TagMap(
    site="Acme/Lyon",
    tags=(
        tag(0, deadband=1.0),
        tag(1, factor=0.5, offset=-10.0, deadband=0.5, range=(0.0, 50.0), sentinels=(-9999.0, 32767.0)),
        tag(
            2,
            scale_mode="sqrt",
            raw_low=4.0,
            raw_high=20.0,
            factor=100.0,
            clamp="both",
            clamp_low=0.0,
            clamp_high=100.0,
            deadband=2.0,
        ),
        tag(3),
        tag(4, type="float32", sentinels=(-999.9,), range=(-5.0, 5.0), deadband=0.25),
        tag(5, range=(0.0, 100.0), clamp="both", clamp_low=0.0, clamp_high=100.0),
    ),
)


def test_a_scaled_float32_is_one_no_more() -> None:
    """Nor is one that was cut, or that is no number; what the device sent as it is keeps the mark, bit for bit."""
    value, single = float(np.float32(21.1)), int(Flag.FLOAT32)
    tags, values, codes = [3, 1, 2, 5, 5, 3, 3, 1, 3], [value] * 4 + [150.0, math.nan, value, -9999.0, value], [0] * 9
    codes[6] = BAD_DEVICE_FAILURE
    batch = SampleBatch.build(
        "plc",
        PLANT.revision,
        NOW,
        tag=tags,
        source_ns=[NOW + i for i in range(9)],
        value=values,
        status=codes,
        flags=[single] * 8 + [0],
    )
    normalizer = Normalizer(NormalizerOptions())
    normalizer.use_map(PLANT.revision, PLANT)
    record = normalizer.step(batch, WHERE)
    assert [bool(flags & single) for flags in record.flags.tolist()] == [
        *(True, False, False, True, False),
        *(False, False, False, False),
    ]
    assert record.value[0] == value


@dataclass
class Slow:
    """One sample after the other, in plain Python: what the arrays must agree with."""

    tags: tuple[Tag, ...]
    last: dict[int, int] = field(default_factory=dict)
    sent: dict[int, tuple[int, float, int]] = field(default_factory=dict)
    before: dict[int, tuple[int, float, int]] = field(default_factory=dict)
    held: dict[int, tuple[int, float, int, int]] = field(default_factory=dict)
    arrival: int = -(2**63)
    late_rows: int = 0
    late_since: int = 0
    restarted: set[int] = field(default_factory=set)

    def step(self, batch: SampleBatch) -> list[tuple[int, int, str, int, int]]:
        out: list[tuple[int, int, str, int, int]] = []
        for i in range(len(batch)):
            out += self.one(batch, i)
        return out

    def one(self, batch: SampleBatch, i: int) -> list[tuple[int, int, str, int, int]]:
        t = self.tags[int(batch.tag[i])]
        time, raw = int(batch.source_ns[i]), float(batch.value[i])
        status, flags = int(batch.status[i]), int(batch.flags[i])
        suspect = not flags & Flag.ARRIVAL_TIME and (time > batch.received_ns + 300 * S or time < 978_307_200 * S)
        if suspect:
            time = self.arrival = max(batch.received_ns, self.arrival + 1)
            flags |= Flag.CLOCK_SUSPECT
            flags |= Flag.DUP_POSSIBLE
        value, status, flags = convert(t, raw, status, flags)
        same = status & 0xFFFF if status & 0xFFFF0000 == GOOD_CLAMPED else status
        if self.late(t, time, suspect, batch.received_ns):
            ns, stored, stored_same = self.sent.get(t.number, (NOW * 2, math.nan, 0))
            if time < ns:
                ns, stored, stored_same = self.before.get(t.number, (NOW * 2, math.nan, 0))
            if t.deadband > 0 and time >= ns and abs(value - stored) <= t.deadband and same == stored_same:
                flags |= Flag.DEADBAND
            return [(t.number, time, repr(value), status, flags | Flag.LATE)]
        if not suspect:
            flags |= Flag.CLOCK_SUSPECT if t.number in self.restarted else 0
            self.restarted.discard(t.number)
            self.last[t.number] = time
        _, stored, stored_same = self.sent.get(t.number, (0, math.nan, GOOD))
        if t.deadband > 0 and abs(value - stored) <= t.deadband and same == stored_same:
            self.held[t.number] = (time, value, status, flags)
            return [(t.number, time, repr(value), status, flags | Flag.DEADBAND)]
        out = []
        if t.number in self.held:
            time_h, value_h, status_h, flags_h = self.held.pop(t.number)
            out.append((t.number, time_h, repr(value_h), status_h, flags_h | Flag.CORNER))
        self.before[t.number] = self.sent.get(t.number, (NOW * 2, math.nan, 0))
        self.sent[t.number] = (time, value, same)
        return [*out, (t.number, time, repr(value), status, flags)]

    def late(self, t: Tag, time: int, suspect: bool, received: int) -> bool:
        if suspect:
            return False
        if time >= self.last.get(t.number, -(2**63)):
            self.late_rows = 0
            return False
        if self.late_rows == 0:
            self.late_since = received
        self.late_rows += 1
        self.late_since = min(self.late_since, received)
        if self.late_rows < STEP_ROWS or received - self.late_since < STEP_NS:
            return True
        self.late_rows = 0
        self.last = {}
        self.restarted = {tag.number for tag in self.tags}
        return False


def convert(t: Tag, raw: float, status: int, flags: int) -> tuple[float, int, int]:
    if status & 0x480 == 0x480:
        flags |= Flag.OVERFLOW
    if quality(status) is Quality.BAD:
        return math.nan, status, flags
    marks = {float(np.float32(m)) for m in t.sentinels} if t.type == "float32" else set()
    if raw in marks | set(t.sentinels):
        return math.nan, status, flags | Flag.SENTINEL
    if math.isnan(raw):
        flags |= Flag.NAN
    if math.isinf(raw):
        flags |= Flag.INF
    value = raw
    if t.scale_mode == "sqrt":
        share = (raw - t.raw_low) / (t.raw_high - t.raw_low)
        flags |= Flag.CLAMPED if share < 0 else 0
        value = 0.0 if share < 0 else math.sqrt(share)
    value = value * t.factor + t.offset
    came = status
    if t.range and (value < t.range[0] or value > t.range[1]):
        flags |= Flag.OUT_OF_RANGE
        if quality(status) is Quality.GOOD:
            status = UNCERTAIN_EU_EXCEEDED | status & 0xFFFF
    for limit, beyond in ((t.clamp_low, value < (t.clamp_low or 0)), (t.clamp_high, value > (t.clamp_high or 0))):
        if limit is not None and beyond and math.isfinite(value):
            value, flags = limit, flags | Flag.CLAMPED
    if flags & Flag.CLAMPED and came & 0xFFFF0000 == GOOD:
        status = GOOD_CLAMPED | came & 0xFFFF
    return value, status, flags


def rows_of(batch: RecordBatch) -> list[tuple[int, int, str, int, int]]:
    return [
        (int(batch.tag[i]), int(batch.source_ns[i]), repr(float(batch.value[i])), int(batch.status[i]), int(f))
        for i, f in enumerate(batch.flags)
    ]


def normalizer(tag_map: TagMap = PLANT) -> Normalizer:
    made = Normalizer(NormalizerOptions())
    made.use_map(tag_map.revision, tag_map)
    return made


def part(batch: SampleBatch, start: int, stop: int) -> SampleBatch:
    cut = slice(start, stop)
    server = None if batch.server_ns is None else batch.server_ns[cut]
    return SampleBatch(
        batch.source,
        batch.origin,
        batch.map_revision,
        batch.received_ns,
        batch.tag[cut],
        batch.source_ns[cut],
        server,
        batch.value[cut],
        batch.status[cut],
        batch.flags[cut],
        {row - start: item for row, item in batch.exact.items() if start <= row < stop},
    )


def one(value: float, *, number: int = 3, tag_map: TagMap = PLANT, time: int = NOW, **more: Any) -> SampleBatch:
    return SampleBatch.build("plc", tag_map.revision, NOW, tag=[number], source_ns=[time], value=[value], **more)


VALUES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 1.5, 2.5, 20.0, 4.0, -9999.0, 32767.0, -999.9, float(np.float32(-999.9))]),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e300, -1e300]),
    st.floats(-200, 200, width=32),
)
TIMES = st.one_of(
    st.integers(NOW - 10 * S, NOW + 10 * S),
    st.sampled_from([0, 946_684_800 * S, NOW + 299 * S, NOW + 301 * S, 2**63 - 1, -(2**62)]),
)
STATUS = st.sampled_from([GOOD, GOOD, GOOD, GOOD | 0x480, UNCERTAIN_LAST_USABLE, BAD_DEVICE_FAILURE, 0xC0000000])


@st.composite
def streams(draw: st.DrawFn, tags: int = len(PLANT.tags), longest: int = 60) -> SampleBatch:
    n = draw(st.integers(1, longest))
    numbers = draw(st.lists(st.integers(0, tags - 1), min_size=n, max_size=n))
    return SampleBatch.build(
        "plc",
        PLANT.revision,
        NOW,
        tag=numbers,
        source_ns=draw(st.lists(TIMES, min_size=n, max_size=n)),
        value=draw(st.lists(VALUES, min_size=n, max_size=n)),
        status=draw(st.lists(STATUS, min_size=n, max_size=n)),
        flags=draw(st.lists(st.sampled_from([0, 0, int(Flag.ARRIVAL_TIME)]), min_size=n, max_size=n)),
    )


@settings(max_examples=200, deadline=None)
@given(streams(), st.lists(st.integers(0, 60), max_size=4))
def test_equals_the_slow_reference_for_any_cut(batch: SampleBatch, cuts: list[int]) -> None:
    """The arrays give exactly the rows of the per-sample reference, wherever the stream is cut into batches."""
    edges = sorted({0, len(batch), *(cut for cut in cuts if cut < len(batch))})
    fast = normalizer()
    rows = [row for a, b in pairwise(edges) for row in rows_of(fast.step(part(batch, a, b), WHERE))]
    assert rows == Slow(PLANT.tags).step(batch)


@settings(max_examples=100, deadline=None)
@given(streams(tags=1))
def test_equals_the_slow_reference_when_one_tag_comes_often(batch: SampleBatch) -> None:
    """Many rows of one tag in a batch take the row-by-row path and give the same rows."""
    assert rows_of(normalizer().step(batch, WHERE)) == Slow(PLANT.tags).step(batch)


@st.composite
def stepping(draw: st.DrawFn) -> list[SampleBatch]:
    """Batches over some minutes whose device clock may step back by minutes, with some history and redelivery."""
    received, behind, out = NOW, 0, []
    for _ in range(draw(st.integers(1, 12))):
        received += draw(st.sampled_from([S, 20 * S, 61 * S, -S]))
        behind = draw(st.sampled_from([behind, behind, behind, 0, 500 * S, 250 * S]))
        n = draw(st.integers(1, 7))
        jitter = draw(st.lists(st.integers(-2 * S, 2 * S), min_size=n, max_size=n))
        some = st.lists(st.integers(0, 4), min_size=n, max_size=n)
        flags = draw(st.lists(st.sampled_from([0, 0, 0, int(Flag.ARRIVAL_TIME)]), min_size=n, max_size=n))
        values = [float(v) for v in draw(some)]
        times = [received - behind + more for more in jitter]
        out.append(
            SampleBatch.build(
                "plc", PLANT.revision, received, tag=draw(some), source_ns=times, value=values, flags=flags
            )
        )
        if draw(st.booleans()):
            out.append(out[-1])
    return out


@settings(max_examples=150, deadline=None)
@given(stepping(), st.lists(st.integers(0, 6), min_size=24, max_size=24))
def test_steps_back_equal_the_slow_reference_for_any_cut(batches: list[SampleBatch], cuts: list[int]) -> None:
    """Where a new time base is accepted does not depend on how the stream is cut, nor on a restart there."""
    stage, slow = normalizer(), Slow(PLANT.tags)
    for batch, cut in zip(batches, cuts, strict=False):
        rows = []
        for piece in (part(batch, 0, cut), part(batch, cut, len(batch))):
            rows += rows_of(stage.step(piece, WHERE))
            saved, stage = stage.state(), normalizer()
            stage.restore(saved)
        assert rows == slow.step(batch)


@settings(max_examples=100, deadline=None)
@given(streams(), st.integers(0, 60), st.booleans())
def test_restored_state_goes_on_bit_for_bit(batch: SampleBatch, cut: int, maps_first: bool) -> None:
    """A fresh instance with the saved state gives the same bytes as the one that never stopped."""
    through = normalizer()
    before, after = part(batch, 0, min(cut, len(batch))), part(batch, min(cut, len(batch)), len(batch))
    through.step(before, WHERE)
    saved = through.state()
    again = Normalizer(NormalizerOptions())
    if maps_first:
        again.use_map(PLANT.revision, PLANT)
        again.restore(saved)
    else:
        again.restore(saved)
        again.use_map(PLANT.revision, PLANT)
    assert again.state() == saved
    one_way, other = through.step(after, WHERE), again.step(after, WHERE)
    for column in ("tag", "source_ns", "value", "status", "flags", "fingerprint"):
        assert getattr(one_way, column).tobytes() == getattr(other, column).tobytes()
    assert through.state() == again.state()


def test_bad_status_never_carries_a_number() -> None:
    """A bad row is NaN whatever the device sent, and keeps its status (W7)."""
    row = normalizer().step(one(21.5, status=[BAD_DEVICE_FAILURE]), WHERE)
    assert math.isnan(row.value[0])
    assert row.status[0] == BAD_DEVICE_FAILURE
    assert row.flags[0] == 0


@pytest.mark.parametrize("time", [0, -(2**63), 946_684_800 * S, 253_402_300_799 * S // 100, NOW + 301 * S])
def test_clock_that_cannot_be_is_not_believed(time: int) -> None:
    """
    1970, 2000 and the future give the time of arrival, and do not move the tag's time (W8).

    A redelivery arrives at another time and cannot be recognised: the row says so.
    """
    made = normalizer()
    row = made.step(one(1.0, time=time), WHERE)
    assert row.source_ns[0] == NOW
    assert row.flags[0] == Flag.CLOCK_SUSPECT | Flag.DUP_POSSIBLE
    again = made.step(one(2.0, time=NOW - S), WHERE)
    assert again.flags[0] == 0


def test_rows_at_the_time_of_arrival_are_strictly_increasing() -> None:
    """Rows whose clock is not believed get one nanosecond each, also over two batches received at once."""
    made = normalizer()
    batch = SampleBatch.build("plc", PLANT.revision, NOW, tag=[3, 3, 3], source_ns=[0, 0, 0], value=[1, 2, 3])
    times = [*made.step(batch, WHERE).source_ns, *made.step(batch, WHERE).source_ns]
    assert times == [NOW + i for i in range(6)]


def test_deadband_stores_the_corner() -> None:
    """The last value held back is stored, flagged, before the one that leaves the band."""
    made = normalizer()
    batch = SampleBatch.build(
        "plc",
        PLANT.revision,
        NOW,
        tag=[0, 0, 0, 0],
        source_ns=[NOW + i for i in range(4)],
        server_ns=[NOW + 10 + i for i in range(4)],
        value=[10.0, 10.5, 10.9, 15.0],
    )
    row = made.step(batch, WHERE)
    assert row.value.tolist() == [10.0, 10.5, 10.9, 10.9, 15.0]
    assert row.flags.tolist() == [0, Flag.DEADBAND, Flag.DEADBAND, Flag.CORNER, 0]
    assert row.server_ns is not None
    assert row.server_ns.tolist() == [NOW + 10, NOW + 11, NOW + 12, NOW + 12, NOW + 13]


def test_corner_of_an_earlier_batch_moves_exact_rows() -> None:
    """A corner put before a row shifts the row numbers of exact values after it."""
    made = normalizer()
    made.step(one(10.0, number=0), WHERE)
    made.step(one(10.2, number=0, time=NOW + 1), WHERE)
    batch = SampleBatch.build(
        "plc",
        PLANT.revision,
        NOW,
        tag=[3, 0, 3],
        source_ns=[NOW + 2] * 3,
        value=[math.nan, 20.0, math.nan],
        exact={0: "before", 2: "after"},
    )
    row = made.step(batch, WHERE)
    assert row.value[1:3].tolist() == [10.2, 20.0]
    assert row.exact == {0: "before", 3: "after"}
    assert row.fingerprint.tolist() == fingerprints(row.value, row.status, row.exact).tolist()


def test_new_scale_begins_the_tag_anew() -> None:
    """After a map with another scale no value of the old one is compared, held or stored; other tags go on."""
    made = normalizer()
    for number in (0, 4):
        made.step(one(1.0, number=number), WHERE)
        made.step(one(1.1, number=number, time=NOW + 1), WHERE)
    rescaled = TagMap(site=PLANT.site, tags=(tag(0, deadband=1.0, factor=10.0), *PLANT.tags[1:]))
    made.use_map(rescaled.revision, rescaled)
    first = made.step(one(1.1, number=0, tag_map=rescaled, time=NOW + 2), WHERE)
    other = made.step(one(1.1, number=4, tag_map=rescaled, time=NOW + 2), WHERE)
    assert (first.value.tolist(), first.flags.tolist()) == ([11.0], [0])
    assert other.flags.tolist() == [Flag.DEADBAND]


def test_state_follows_the_id_over_renumbered_maps() -> None:
    """A tag that has another number and path in the next map keeps its last time."""
    made = normalizer()
    made.step(one(1.0, number=3), WHERE)
    moved = TagMap(site="Acme/Lyon", tags=(PLANT.tags[3].model_copy(update={"number": 0, "path": "Acme/Lyon/New"}),))
    made.use_map(moved.revision, moved)
    assert made.step(one(2.0, number=0, tag_map=moved, time=NOW - 1), WHERE).flags[0] == Flag.LATE


def test_old_maps_and_their_tags_are_forgotten() -> None:
    """Four revisions are kept; a tag of none of them leaves the state, and its map is unknown."""
    made = normalizer()
    made.step(one(1.0), WHERE)
    full = len(made.state())
    for i in range(4):
        later = TagMap(site=f"Acme/S{i}", tags=(tag(0),))
        made.use_map(later.revision, later)
    assert len(made.state()) < full
    with pytest.raises(UnknownMap):
        made.step(one(1.0), WHERE)


@pytest.mark.parametrize("number", [-1, 6, 2**31 - 1])
def test_number_outside_the_map_is_refused(number: int) -> None:
    """A tag number that the map does not have is no index from the end."""
    with pytest.raises(UnknownMap):
        normalizer().step(one(1.0, number=number), WHERE)


@pytest.mark.parametrize(
    ("item", "want"),
    [
        ("plain °C µ", "plain °C µ"),
        ("LOT-7\0\0", "LOT-7"),
        ("a\0b", "a�b"),
        ("x\ud800y", "x�y"),
        ({"k\0ey": ["\udfff", 1, None]}, {"k�ey": ["�", 1, None]}),
    ],
)
def test_text_is_made_storable(item: Any, want: Any) -> None:
    """NUL and lone surrogates are repaired, and every repair is flagged (W17)."""
    row = normalizer().step(one(math.nan, exact={0: item}), WHERE)
    assert row.exact == {0: want}
    assert bool(row.flags[0] & Flag.DECODE_LOSS) == (item != want)


def test_structure_that_nobody_can_read_loses_nothing_else() -> None:
    """A structure nested too deep becomes an empty row with a flag; its neighbour is untouched."""
    deep: list[Any] = []
    for _ in range(500):
        deep = [deep]
    batch = SampleBatch.build(
        "plc", PLANT.revision, NOW, tag=[3, 3], source_ns=[NOW, NOW + 1], value=[math.nan, 7.0], exact={0: deep}
    )
    row = normalizer().step(batch, WHERE)
    assert row.exact == {}
    assert row.flags.tolist() == [Flag.DECODE_LOSS, 0]
    assert row.value[1] == 7.0


def test_wide_integers_stay_exact_unless_scaled() -> None:
    """2**53+1 and 2**64-1 pass untouched; on a scaled tag the scaled double stands instead (W15)."""
    made = normalizer()
    for wide in (2**53 + 1, 2**64 - 1, 2**70):
        assert made.step(one(math.nan, exact={0: wide}), WHERE).exact == {0: wide}
    scaled = made.step(one(math.nan, number=1, exact={0: 2**60}), WHERE)
    assert scaled.exact == {}
    assert scaled.value[0] == 2.0**60 * 0.5 - 10


def test_retained_origin_is_flagged() -> None:
    """What an MQTT broker kept is marked on every row."""
    assert normalizer().step(one(1.0, origin=Origin.RETAINED), WHERE).flags[0] == Flag.RETAINED


def test_skew_of_a_source_is_estimated_from_its_freshest_rows() -> None:
    """The largest device time ahead of ours counts, so that slow delivery is no skew; beyond the limit it is named."""
    made = normalizer()
    for delay in (5 * S, 1 * S, 3 * S):
        made.step(one(1.0, time=NOW + 20 * S - delay), WHERE)
    skew = made.skews()["plc"]
    assert (skew.ahead_ns, skew.beyond_limit) == (19 * S, True)


@pytest.mark.parametrize("state", [b"", b"\x80", b"not msgpack"])
def test_damaged_state_is_refused(state: bytes) -> None:
    """State that cannot be read raises and leaves the instance as it was."""
    made = normalizer()
    made.step(one(1.0), WHERE)
    before = made.state()
    with pytest.raises(BadState):
        made.restore(state)
    assert made.state() == before


def test_unknown_map_is_an_error() -> None:
    """A batch of a map that was never read is refused, not guessed."""
    with pytest.raises(UnknownMap):
        Normalizer(NormalizerOptions()).step(one(1.0), WHERE)
