"""Counters: the increase of each row through roll-over, reset and doubt (W5), over any cut of the stream."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normalizers.normalizer import Normalizer
from normalizers.options import NormalizerOptions
from schemas.entries import Position
from schemas.records import RecordBatch
from schemas.samples import Exact, Origin, SampleBatch
from schemas.status import BAD_DEVICE_FAILURE, GOOD, UNCERTAIN_LAST_USABLE, Flag
from schemas.tagmap import Counter, Tag, TagMap

NOW = 1_790_000_000_000_000_000
S = 1_000_000_000
HOUR = 3600.0
ROLLED, RESET, UNSURE = Flag.COUNTER_ROLLOVER, Flag.COUNTER_RESET, Flag.COUNTER_UNCERTAIN
MARKS = int(ROLLED | RESET | UNSURE)


def tag(number: int, modulus: int = 2**16, max_rate: float = 200.0, **more: Any) -> Tag:
    more = {"type": "uint16", "counter": Counter(modulus=modulus, max_rate=max_rate), **more}
    return Tag(number=number, id=f"id{number}", path=f"Acme/Lyon/T{number}", source="plc", address=str(number), **more)


def site(*tags: Tag) -> TagMap:
    return TagMap(site="Acme/Lyon", tags=tags)


class Shown(NamedTuple):
    """A row: seconds after the beginning, what the device shows, and what else is unusual of it."""

    at_s: float
    value: float | Exact
    status: int = GOOD
    flags: Flag = Flag.ASSUMED_GOOD
    tag: int = 0
    received_s: float | None = None


def batch(of: TagMap, rows: list[Shown], origin: Origin = Origin.LIVE) -> SampleBatch:
    plain = [row.value if isinstance(row.value, float) else math.nan for row in rows]
    received = max(row.at_s if row.received_s is None else row.received_s for row in rows)
    return SampleBatch.build(
        "plc",
        of.revision,
        NOW + round(received * S),
        tag=[row.tag for row in rows],
        source_ns=[NOW + round(row.at_s * S) for row in rows],
        value=plain,
        status=[row.status for row in rows],
        flags=[int(row.flags) for row in rows],
        exact={at: row.value for at, row in enumerate(rows) if not isinstance(row.value, float)},
        origin=origin,
    )


def normalizer(of: TagMap) -> Normalizer:
    made = Normalizer(NormalizerOptions())
    made.use_map(of.revision, of)
    return made


def told(record: RecordBatch) -> list[tuple[float | None, Flag]]:
    """Increase (None: none) and counter flags of each row."""
    assert record.increase is not None
    marks = [Flag(flags & MARKS) for flags in record.flags.tolist()]
    return [(None if math.isnan(one) else one, mark) for one, mark in zip(record.increase.tolist(), marks, strict=True)]


def run(of: TagMap, rows: list[Shown]) -> list[tuple[float | None, Flag]]:
    """Each row as a batch of its own."""
    one = normalizer(of)
    return [told(one.step(batch(of, [row]), Position(1, at + 1)))[0] for at, row in enumerate(rows)]


PLAIN = site(tag(0))
NO_MARK = Flag(0)


def test_a_row_that_confirms_takes_no_increase_from_the_roll_ups() -> None:
    """What a late row could not count stands in the next measured one, and not in a row that no sum has."""
    word = Flag.NO_CHANGE_CONFIRMED | Flag.ARRIVAL_TIME
    rows = [Shown(0, 100.0), Shown(1, 105.0, flags=Flag.LATE), Shown(30, 105.0, flags=word), Shown(31, 106.0)]
    assert run(PLAIN, rows) == [(None, NO_MARK), (None, NO_MARK), (None, NO_MARK), (6.0, NO_MARK)]


@pytest.mark.parametrize(
    ("rows", "last"),
    [
        pytest.param([(0, 10.0)], (None, NO_MARK), id="the first row has no row before it"),
        pytest.param([(0, 10.0), (1, 17.0)], (7.0, NO_MARK), id="it rose"),
        pytest.param([(0, 10.0), (1, 10.0)], (0.0, NO_MARK), id="it stood still"),
        pytest.param([(0, 65530.0), (1, 5.0)], (11.0, ROLLED), id="W5: 65,530 to 5 is 11"),
        pytest.param([(0, 65535.0), (1, 0.0)], (1.0, ROLLED), id="by one, to 0"),
        pytest.param([(0, 30000.0), (1, 0.0)], (0.0, RESET), id="W5: reset to 0"),
        pytest.param([(0, 30000.0), (1, 40.0)], (40.0, RESET), id="reset, and counted since"),
        pytest.param([(0, 30000.0), (1, 9000.0)], (None, RESET | UNSURE), id="set to what it cannot have counted"),
        pytest.param([(0, 10.0), (1, 9000.0)], (None, UNSURE), id="it rose faster than it can"),
        pytest.param([(0, 65000.0), (160, 30000.0)], (30536.0, ROLLED), id="rolled over in less than half a round"),
        pytest.param([(0, 40000.0), (170, 30.0)], (None, UNSURE), id="it fell, and may have gone half round"),
        pytest.param([(0, 10.0), (300, 50000.0)], (49990.0, NO_MARK), id="it rose in less than a round"),
        pytest.param([(0, 10.0), (3 * HOUR, 20.0)], (None, UNSURE), id="it may have gone round more than once"),
    ],
)
def test_two_rows(rows: list[tuple[float, float]], last: tuple[float | None, Flag]) -> None:
    """What the second row says of the time between."""
    assert run(PLAIN, [Shown(*row) for row in rows])[-1] == last


@pytest.mark.parametrize(
    ("between", "mark"),
    [
        pytest.param(Shown(1, 700.0, status=BAD_DEVICE_FAILURE), NO_MARK, id="bad"),
        pytest.param(Shown(1, 700.0, status=UNCERTAIN_LAST_USABLE), NO_MARK, id="uncertain"),
        pytest.param(Shown(1, math.nan), NO_MARK, id="not a number"),
        pytest.param(Shown(1, math.inf), NO_MARK, id="infinite"),
        pytest.param(Shown(1, 65535.0), NO_MARK, id="a declared mark for not available"),
        pytest.param(Shown(-5, 90.0), NO_MARK, id="late"),
        pytest.param(Shown(1, 90.0, flags=Flag.RETAINED), NO_MARK, id="retained"),
        pytest.param(Shown(1, 90.0, flags=Flag.DUP_POSSIBLE | Flag.ARRIVAL_TIME), NO_MARK, id="may have come before"),
        pytest.param(Shown(1, 100.5), UNSURE, id="not a whole number"),
        pytest.param(Shown(1, -3.0), UNSURE, id="negative"),
        pytest.param(Shown(1, 70000.0), UNSURE, id="beyond its modulus"),
        pytest.param(Shown(1, "104"), UNSURE, id="text"),
        pytest.param(Shown(1, [104]), UNSURE, id="an array"),
        pytest.param(Shown(1, 2**63), UNSURE, id="a wide integer beyond its modulus"),
    ],
)
def test_a_row_that_is_not_counted(between: Shown, mark: Flag) -> None:
    """It has no increase, and the next usable row tells what both rows lack: no count is lost or doubled."""
    of = site(tag(0, sentinels=(65535.0,)))
    found = run(of, [Shown(0, 100.0), between, Shown(2, 110.0)])
    assert found[1:] == [(None, mark), (10.0, NO_MARK)]


def test_a_redelivery_adds_nothing() -> None:
    """What comes again is late, or equal to the last row: the sum is that of one delivery."""
    of, rows = PLAIN, [Shown(0, 65530.0), Shown(1, 65535.0), Shown(2, 3.0)]
    one = normalizer(of)
    first = told(one.step(batch(of, rows), Position(1, 1)))
    again = told(one.step(batch(of, rows), Position(1, 2)))
    after = told(one.step(batch(of, [Shown(3, 4.0)]), Position(1, 3)))
    assert [increase for increase, _ in first] == [None, 5.0, 4.0]
    assert [increase for increase, _ in again] == [None, None, 0.0]
    assert after == [(1.0, NO_MARK)]


def test_history_in_a_gap_is_not_counted_twice() -> None:
    """The live row behind a gap has all of it; what history brings later is late."""
    of = PLAIN
    one = normalizer(of)
    live = told(one.step(batch(of, [Shown(0, 100.0), Shown(60, 160.0)]), Position(1, 1)))
    history = told(one.step(batch(of, [Shown(20, 120.0), Shown(40, 140.0)], Origin.HISTORY), Position(1, 2)))
    assert live[1] == (60.0, NO_MARK)
    assert [increase for increase, _ in history] == [None, None]


def test_units() -> None:
    """The modulus counts raw, the increase and the rate are in the tag's unit; an offset has no part in it."""
    of = site(tag(0, modulus=10**4, max_rate=2.0, type="bcd16", factor=0.1, offset=1000.0, unit="m3"))
    found = run(of, [Shown(0, 9995.0), Shown(1, 5.0), Shown(2, 15.0), Shown(3, 95.0), Shown(4, 2.0)])
    assert [increase for increase, _ in found] == [None, 1.0, 1.0, None, pytest.approx(0.2)]
    assert [mark for _, mark in found] == [NO_MARK, ROLLED, NO_MARK, UNSURE, RESET]


def test_64_bits_are_exact() -> None:
    """Differences are of integers: neighbours that are one double differ by one."""
    of = site(tag(0, modulus=2**64, type="uint64", max_rate=1e6))
    found = run(of, [Shown(0, 2**63), Shown(1, 2**63 + 1)])
    assert found[1] == (1.0, NO_MARK)
    found = run(of, [Shown(0, 2**64 - 1), Shown(1, 4.0)])
    assert found[1] == (5.0, ROLLED)
    of = site(tag(0, modulus=2**64, type="uint64", max_rate=1e6, factor=0.001))
    assert run(of, [Shown(0, 2**62), Shown(1, 2**62 + 500)])[1] == (0.5, NO_MARK)


def test_a_slow_counter_may_count_one() -> None:
    """A step of one count is believed at any time, and so is what a late reply saw a scan before."""
    of = site(tag(0, max_rate=0.001))
    assert run(of, [Shown(0, 5.0), Shown(0.1, 6.0)])[1] == (1.0, NO_MARK)
    of = site(tag(0, max_rate=10.0, scan_ms=5000))
    assert run(of, [Shown(0, 5.0), Shown(0.2, 55.0)])[1] == (50.0, NO_MARK)


def test_a_device_clock_that_is_set_back() -> None:
    """The time between rows of two time bases is that of arrival; late rows until then are caught up with."""
    of = PLAIN
    rows = [Shown(0, 100.0), Shown(-7200, 200.0, received_s=1)]
    rows += [Shown(-7200 + at, 200.0 + at, received_s=1.0 + at) for at in range(1, 70)]
    found = run(of, rows)
    assert sum(increase or 0.0 for increase, _ in found) == 169.0
    assert not any(mark for _, mark in found)


def test_arrival_in_the_place_of_a_device_time() -> None:
    """A lost device clock makes no elapsed time of thirty years."""
    found = run(PLAIN, [Shown(0, 100.0), Shown(-1e9, 104.0, received_s=1), Shown(2, 110.0)])
    assert found == [(None, NO_MARK), (4.0, NO_MARK), (6.0, NO_MARK)]


def test_another_meaning_begins_anew() -> None:
    """A reading at another address is no successor; a corrected factor or rate is only another reading of it."""
    of = PLAIN
    one = normalizer(of)
    one.step(batch(of, [Shown(0, 100.0)]), Position(1, 1))
    scaled = site(tag(0, factor=0.5, max_rate=100.0))
    one.use_map(scaled.revision, scaled)
    assert told(one.step(batch(scaled, [Shown(1, 110.0)]), Position(1, 2))) == [(5.0, NO_MARK)]
    moved = site(tag(0).model_copy(update={"address": "7"}))
    one.use_map(moved.revision, moved)
    assert told(one.step(batch(moved, [Shown(2, 120.0)]), Position(1, 3))) == [(None, NO_MARK)]
    assert told(one.step(batch(moved, [Shown(3, 121.0)]), Position(1, 4))) == [(1.0, NO_MARK)]


def test_a_batch_without_counters_has_no_column() -> None:
    """Other tags cost nothing behind the normalizer, also where the map has a counter."""
    of = site(tag(0), Tag(number=1, id="x", path="Acme/Lyon/X", source="plc", address="9"))
    record = normalizer(of).step(batch(of, [Shown(0, 1.5, tag=1)]), Position(1, 1))
    assert record.increase is None


def test_a_corner_has_no_increase() -> None:
    """A row that a deadband lets go before a counter's row moves nothing but its place."""
    of = site(tag(0), Tag(number=1, id="x", path="Acme/Lyon/X", source="plc", address="9", deadband=5.0))
    one = normalizer(of)
    one.step(batch(of, [Shown(0, 10.0), Shown(0, 1.0, tag=1), Shown(1, 2.0, tag=1)]), Position(1, 1))
    record = one.step(batch(of, [Shown(2, 50.0, tag=1), Shown(2, 12.0)]), Position(1, 2))
    assert [increase for increase, _ in told(record)] == [None, None, 2.0]


MANY = site(tag(0), tag(1, modulus=500, max_rate=20.0), tag(2, modulus=2**64, type="uint64", max_rate=3.0, factor=0.5))
ROW = st.builds(
    Shown,
    st.integers(0, 90).map(float),
    st.one_of(st.integers(0, 600).map(float), st.sampled_from([65530.0, 2**64 - 1, 2**63 + 1, -1.0, math.nan, "x"])),
    st.sampled_from([GOOD, GOOD, GOOD, BAD_DEVICE_FAILURE]),
    st.sampled_from([Flag.ASSUMED_GOOD, Flag.ASSUMED_GOOD, Flag.RETAINED, Flag.DUP_POSSIBLE]),
    st.integers(0, 2),
    st.just(100.0),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=40), st.data())
def test_any_cut_and_a_restart_give_the_same(rows: list[Shown], data: st.DataObject) -> None:
    """One batch, row by row, and from a saved state in the middle: the same increases and flags."""
    whole = told(normalizer(MANY).step(batch(MANY, rows), Position(1, 1)))
    assert run(MANY, rows) == whole
    cut = data.draw(st.integers(0, len(rows)))
    before = normalizer(MANY)
    found = told(before.step(batch(MANY, rows[:cut]), Position(1, 1))) if cut else []
    after = normalizer(MANY)
    after.restore(before.state())
    assert found + (told(after.step(batch(MANY, rows[cut:]), Position(1, 2))) if cut < len(rows) else []) == whole


def test_joined_batches_bear_their_own_arrival() -> None:
    """Batches that are normalized together count as they do one after another."""
    of = site(*(tag(place) for place in range(3)))
    start = [Shown(0, 100.0, tag=place, received_s=0) for place in range(3)]
    later = [Shown(5.0 + place, 104.0, tag=place, received_s=5.0 + place) for place in range(3)]
    one, other = normalizer(of), normalizer(of)
    for each in (one, other):
        each.step(batch(of, start), Position(1, 1))
    batches = [batch(of, [row]) for row in later]
    joined = one.join(batches, [Position(1, 2 + place) for place in range(3)])
    assert joined is not None
    assert told(joined) == [told(other.step(each, Position(1, 2)))[0] for each in batches]
    assert one.state() == other.state()
    assert np.array_equal(joined.received(), [each.received_ns for each in batches])


def test_a_state_from_before_counters_is_read() -> None:
    """An upgrade does not make the normalizer begin anew."""
    plain = site(Tag(number=0, id="id0", path="Acme/Lyon/T0", source="plc", address="0"))
    old = normalizer(plain)
    old.step(batch(plain, [Shown(0, 100.0)]), Position(1, 1))
    saved = msgspec.msgpack.decode(old.state())
    del saved["counter"]
    one = normalizer(PLAIN)
    one.restore(msgspec.msgpack.encode(saved))
    assert told(one.step(batch(PLAIN, [Shown(1, 100.0)]), Position(1, 2))) == [(None, NO_MARK)]
    assert told(one.step(batch(PLAIN, [Shown(2, 101.0)]), Position(1, 3))) == [(1.0, NO_MARK)]
