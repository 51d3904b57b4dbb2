"""What comes twice, late, or from a clock that was set back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from normalizers.base import BadState
from normalizers.clock import STEP_ROWS
from normalizers.normalizer import Normalizer
from normalizers.options import NormalizerOptions
from schemas.entries import Position
from schemas.records import RecordBatch
from schemas.samples import Origin, SampleBatch
from schemas.status import GOOD, GOOD_CLAMPED, UNCERTAIN_EU_EXCEEDED, Flag
from schemas.tagmap import Tag, TagMap

NOW = 1_790_000_000_000_000_000
S = 1_000_000_000
WHERE = Position(1, 1)


def tag(number: int, **more: Any) -> Tag:
    given = {"id": f"id{number}", "path": f"A/B/T{number}", "source": "plc", "address": str(number)}
    return Tag(number=number, **(given | more))


class Stage:
    """A normalizer with its map; ``step`` takes times in seconds from ``NOW``."""

    def __init__(self, *tags: Tag) -> None:
        self.tag_map = TagMap(site="A/B", tags=tags)
        self.stage = Normalizer(NormalizerOptions())
        self.stage.use_map(self.tag_map.revision, self.tag_map)

    def step(
        self, times: Sequence[float], values: Sequence[float], *, received: float = 0.0, number: int = 0, **more: Any
    ) -> RecordBatch:
        batch = SampleBatch.build(
            "plc",
            self.tag_map.revision,
            NOW + round(received * S),
            tag=[number] * len(times),
            source_ns=[NOW + round(time * S) for time in times],
            value=values,
            **more,
        )
        return self.stage.step(batch, WHERE)


def stored(batch: RecordBatch) -> set[tuple[int, int, int]]:
    """Keys of the rows that SQL would keep."""
    kept = (batch.flags & int(Flag.DEADBAND)) == 0
    return {
        (int(batch.source_ns[i]), int(batch.tag[i]), int(batch.fingerprint[i])) for i in range(len(batch)) if kept[i]
    }


@pytest.mark.parametrize("often", [1, 4])
def test_redelivery_of_rows_held_back_stores_nothing(often: int) -> None:
    """A batch that left the band once, delivered again as a whole: no row that was not stored before."""
    stage = Stage(tag(0, deadband=1.0))
    values = [10.0, *[10.5, 10.9, 10.2] * often, 15.0, *[15.1, 15.2] * often]
    times = [float(i) for i in range(len(values))]
    first = stage.step(times, values)
    again = stage.step(times, values)
    assert len(stored(first)) == 3
    assert stored(again) <= stored(first)
    # the same rows one by one
    single = [stage.step([time], [value]) for time, value in zip(times, values, strict=True)]
    assert set().union(*map(stored, single)) <= stored(first)


def test_late_rows_that_say_something_are_stored() -> None:
    """A late row outside the band, one of another status, one older than what is remembered, and all of history."""
    stage = Stage(tag(0, deadband=1.0))
    stage.step([0, 1, 2, 3, 4], [30.0, 10.0, 20.0, 20.1, 20.2])
    assert stage.step([3.5], [22.0]).flags.tolist() == [Flag.LATE]
    assert stage.step([3.5], [20.3], status=[0x40000000]).flags.tolist() == [Flag.LATE]
    assert stage.step([1.5], [20.3]).flags.tolist() == [Flag.LATE]
    assert stage.step([0.5], [30.3]).flags.tolist() == [Flag.LATE]
    assert stage.step([3.5], [20.3], origin=Origin.HISTORY).flags.tolist() == [Flag.LATE]
    assert stage.step([3.5], [20.3], flags=[int(Flag.BACKFILL)]).flags.tolist() == [Flag.LATE | Flag.BACKFILL]
    assert stage.step([3.5], [20.3]).flags.tolist() == [Flag.LATE | Flag.DEADBAND]
    assert stage.step([1.5], [10.3]).flags.tolist() == [Flag.LATE | Flag.DEADBAND]


def test_clock_set_back_is_accepted_after_a_minute() -> None:
    """An hour back: late for a minute, then each tag's first row is marked and the rest is as usual again."""
    stage = Stage(tag(0), tag(1), tag(2, source="other"))
    for second in range(10):
        for number in (0, 1):
            assert stage.step([second], [1.0], received=second, number=number).flags[0] == 0
    flags = [
        int(stage.step([second - 3600], [1.0], received=second, number=second % 2).flags[0])
        for second in range(10, 250)
    ]
    assert flags[:60] == [Flag.LATE] * 60
    assert flags[60:62] == [Flag.CLOCK_SUSPECT] * 2
    assert flags[62:] == [0] * 178
    assert stage.stage.skews()["plc"].ahead_ns == -3600 * S


def test_late_rows_beside_timely_ones_are_no_step() -> None:
    """One tag's clock is behind, another's is not: the source's time base stays."""
    stage = Stage(tag(0), tag(1))
    stage.step([0], [1.0])
    for second in range(1, 200):
        assert stage.step([second - 3600], [1.0], received=second).flags[0] == Flag.LATE
        assert stage.step([second], [1.0], received=second, number=1).flags[0] == 0


@pytest.mark.parametrize(("rows", "seconds", "last"), [(STEP_ROWS - 2, 3600, Flag.LATE), (STEP_ROWS - 1, 3600, 64)])
def test_few_late_rows_are_no_step(rows: int, seconds: float, last: int) -> None:
    """A handful of late rows proves nothing, however much time has passed; one more does."""
    stage = Stage(tag(0))
    stage.step([0], [1.0])
    stage.step([i - 3600 for i in range(rows)], [1.0] * rows, received=1)
    assert stage.step([rows - 3600], [1.0], received=seconds).flags[0] == last


def test_history_says_nothing_of_the_clock() -> None:
    """Hours of a server's history are late rows, and no new time base."""
    stage = Stage(tag(0))
    stage.step([0], [1.0])
    for second in range(1, 200):
        row = stage.step([second - 3600], [1.0], received=second, origin=Origin.HISTORY)
        assert row.flags[0] == Flag.LATE


LIMITED = {"clamp": "both", "clamp_low": 0.0, "clamp_high": 100.0}


@pytest.mark.parametrize(
    ("more", "raw", "status", "want"),
    [
        (LIMITED, 120.0, GOOD, (100.0, GOOD_CLAMPED, Flag.CLAMPED)),
        (LIMITED | {"range": (0.0, 100.0)}, 120.0, GOOD, (100.0, GOOD_CLAMPED, Flag.CLAMPED | Flag.OUT_OF_RANGE)),
        (LIMITED | {"range": (0.0, 150.0)}, 120.0, GOOD | 0x480, (100.0, GOOD_CLAMPED | 0x480, None)),
        (LIMITED | {"range": (0.0, 100.0)}, 120.0, 0x00960000, (100.0, UNCERTAIN_EU_EXCEEDED, None)),
        (LIMITED, 120.0, 0x40900000, (100.0, 0x40900000, Flag.CLAMPED)),
        ({"range": (0.0, 100.0)}, 120.0, GOOD, (120.0, UNCERTAIN_EU_EXCEEDED, Flag.OUT_OF_RANGE)),
    ],
)
def test_range_is_judged_before_the_clamp(
    more: dict[str, Any], raw: float, status: int, want: tuple[float, int, int | None]
) -> None:
    """A cut value says that it was outside; what came as Good is GoodClamped, another status stays as judged."""
    row = Stage(tag(0, **more)).step([0], [raw], status=[status])
    assert (row.value[0], row.status[0]) == want[:2]
    assert want[2] is None or row.flags[0] == want[2]


def test_noise_around_a_clamp_is_held_back() -> None:
    """Good and GoodClamped in turn are no change of status: the deadband holds."""
    stage = Stage(tag(0, deadband=1.0, **LIMITED))
    row = stage.step([0, 1, 2, 3, 4], [0.2, -0.2, 0.1, -0.3, 50.0])
    assert row.flags.tolist() == [
        0,
        Flag.DEADBAND | Flag.CLAMPED,
        Flag.DEADBAND,
        Flag.DEADBAND | Flag.CLAMPED,
        Flag.CORNER | Flag.CLAMPED,
        0,
    ]
    assert row.status.tolist() == [GOOD, GOOD_CLAMPED, GOOD, GOOD_CLAMPED, GOOD_CLAMPED, GOOD]


def test_state_of_a_version_with_fewer_columns_is_read() -> None:
    """A column that the saved state does not have begins with its default; the others go on."""
    stage = Stage(tag(0, deadband=1.0))
    stage.step([0, 1], [10.0, 10.5])
    saved = msgspec.msgpack.decode(stage.stage.state())
    for title in ("sent_ns", "before_ns", "before_value", "before_status"):
        saved["band"].pop(title, None)  # at its default it is not saved
    for clock in saved["clocks"].values():
        del clock["late_rows"], clock["late_since_ns"]
    stage.stage.restore(msgspec.msgpack.encode(saved))
    assert stage.step([1.5, 2], [10.6, 20.0]).flags.tolist() == [Flag.DEADBAND, Flag.CORNER, 0]


@pytest.mark.parametrize("damage", ["unknown", "short"])
def test_state_of_other_columns_is_refused(damage: str) -> None:
    """A column that nobody knows, or one of another length, is another state."""
    stage = Stage(tag(0, deadband=1.0))
    saved = msgspec.msgpack.decode(stage.stage.state())
    saved["band"]["unheard" if damage == "unknown" else "sent_ns"] = b"1234"
    with pytest.raises(BadState):
        stage.stage.restore(msgspec.msgpack.encode(saved))


def arrived(
    stage: Stage, times: Sequence[float], values: Sequence[float], seq: int, **more: Any
) -> tuple[set[tuple[int, int, int]], RecordBatch]:
    """Keys of rows that bear the time of arrival, of the entry with this number."""
    flags = np.full(len(times), int(Flag.ARRIVAL_TIME), np.uint32)
    batch = SampleBatch.build(
        "plc",
        stage.tag_map.revision,
        NOW + round(times[-1] * S),
        tag=[0] * len(times),
        source_ns=[NOW + round(time * S) for time in times],
        value=values,
        flags=flags,
        **more,
    )
    record = stage.stage.step(batch, Position(1, seq))
    return stored(record), record


def test_times_of_arrival_that_come_twice_are_two_rows() -> None:
    """
    Our own clock was set back, and polls came at the very nanoseconds of an hour before with the same values.

    Their keys differ, also after a restart, however often it is set back; they are the same when the journal is read
    again.
    """
    times, values = [0.0, 1.0, 2.0], [5.0, 5.0, 5.0]

    def keys(stage: Stage) -> list[set[tuple[int, int, int]]]:
        found = []
        for seq in range(1, 5):
            found.append(arrived(stage, times, values, seq)[0])
            saved = stage.stage.state()
            stage = Stage(tag(0))
            stage.stage.restore(saved)
        return found

    first = keys(Stage(tag(0)))
    assert len(set().union(*first)) == 12
    assert keys(Stage(tag(0))) == first
    # a step in the middle of a batch parts it
    both, _ = arrived(Stage(tag(0)), [*times, *times], values * 2, 1)
    assert len(both) == 6


def test_control_rows_of_a_device_time_that_come_twice_are_one() -> None:
    """A redelivery of what has a time of its own keeps its key; so does what comes first after a device's step."""
    stage = Stage(tag(0))
    first = stored(stage.step([0, 1, 2], [5.0] * 3))
    assert stored(stage.step([0, 1, 2], [5.0] * 3, received=10)) == first


def test_a_doubted_time_follows_our_clock_back() -> None:
    """Rows whose device time is not believed get the time of arrival by the clock as it was set, not as it was."""
    stage = Stage(tag(0))
    ahead = stage.step([10_000.0], [1.0])
    back = stage.step([10_000.0], [1.0], received=-3600.0)
    assert (ahead.source_ns.tolist(), back.source_ns.tolist()) == ([NOW], [NOW - 3600 * S])
    again = stage.step([10_000.0], [1.0])
    assert again.source_ns.tolist() == [NOW]
    assert len(stored(ahead) | stored(again)) == 2
