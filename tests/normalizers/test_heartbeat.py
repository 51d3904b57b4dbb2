"""Rows that say that nothing changed: what is held back for long is stored, and the source's own word moves nothing."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.records import RecordBatch
from schemas.status import Flag
from tests.normalizers.test_redelivery import Stage, stored, tag

BEAT = Flag.CORNER | Flag.NO_CHANGE_CONFIRMED
WORD = Flag.NO_CHANGE_CONFIRMED | Flag.ARRIVAL_TIME


def _kept(batches: list[RecordBatch]) -> list[tuple[float, int]]:
    return [
        (value, flags)
        for batch in batches
        for value, flags in zip(batch.value.tolist(), batch.flags.tolist(), strict=True)
        if not flags & Flag.DEADBAND
    ]


@pytest.mark.parametrize("whole", [True, False])
def test_a_value_inside_the_deadband_is_stored_now_and_then(whole: bool) -> None:
    """Ten seconds after the last stored row the one held back is stored, in one batch or in many."""
    stage = Stage(tag(0, deadband=1.0, heartbeat_ms=10_000))
    times = [4.0 * i for i in range(12)]
    values = [50.0 + i % 2 / 10 for i in range(11)] + [70.0]
    batches = (
        [stage.step(times, values)] if whole else [stage.step([t], [v]) for t, v in zip(times, values, strict=True)]
    )
    assert _kept(batches) == [(50.0, 0), (50.1, BEAT), (50.0, BEAT), (50.1, BEAT), (50.0, Flag.CORNER), (70.0, 0)]
    again = stage.step(times, values)  # what the source delivers again stores nothing that was not stored before
    assert stored(again) <= set().union(*map(stored, batches))


def test_without_a_heartbeat_nothing_is_stored_inside_the_deadband() -> None:
    """The same values without the option (negative control)."""
    stage = Stage(tag(0, deadband=1.0))
    assert _kept([stage.step([4.0 * i for i in range(12)], [50.0] * 12)]) == [(50.0, 0)]


def test_state_of_a_version_without_heartbeats_begins_now() -> None:
    """An upgrade does not store every value that is held back at once."""
    stage = Stage(tag(0, deadband=1.0, heartbeat_ms=10_000))
    stage.step([0.0, 1.0], [50.0, 50.1])
    stage.stage._band.kept_ns[:] = np.iinfo(np.int64).max
    assert not _kept([stage.step([20.0, 25.0], [50.0, 50.1])])
    assert _kept([stage.step([30.0], [50.2])]) == [(50.2, BEAT)]


@pytest.mark.parametrize(("flags", "late"), [(WORD, 0), (Flag.ARRIVAL_TIME, Flag.LATE)])
def test_the_source_s_word_moves_no_time(flags: int, late: int) -> None:
    """A device whose clock is behind ours sends a change after it: not late, as it is behind any other row."""
    stage = Stage(tag(0))
    stage.step([0.0], [50.0])
    stage.step([100.0], [50.0], flags=[flags], received=100.0)
    assert stage.step([95.0], [60.0], received=101.0).flags.tolist() == [late]


def test_the_source_s_word_is_stored_and_moves_no_band() -> None:
    """It passes the deadband, and what was held back stays so."""
    stage = Stage(tag(0, deadband=1.0))
    batches = [
        stage.step([0.0, 1.0], [50.0, 50.9]),
        stage.step([60.0], [50.9], flags=[WORD], received=60.0),
        stage.step([61.0, 62.0], [50.5, 70.0], received=62.0),
    ]
    assert _kept(batches) == [(50.0, 0), (50.9, WORD), (50.5, Flag.CORNER), (70.0, 0)]
    assert len(stored(batches[1])) == 1
