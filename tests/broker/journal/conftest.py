"""Clocks and bodies for the journal's tests."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest

from broker.journal import JournalOptions
from schemas.samples import SampleBatch

REVISION = b"0123456789abcdef"


@pytest.fixture
def clock() -> Callable[[], int]:
    """Nanoseconds that go on by one millisecond at each look."""
    steps = count(1_800_000_000_000_000_000, 1_000_000)
    return lambda: next(steps)


@pytest.fixture
def small() -> JournalOptions:
    """Segments of 2 KiB, a commit each millisecond."""
    return JournalOptions.model_validate(
        {"commit": {"bytes": "1KiB", "every": "1ms"}, "segment": "2KiB", "max_size": "64KiB"}
    )


@pytest.fixture
def batch() -> Callable[[int, int], SampleBatch]:
    """A batch whose one exact value is its number, of so many rows."""

    def make(number: int, rows: int = 3) -> SampleBatch:
        return SampleBatch.build(
            "plc",
            REVISION,
            number,
            tag=list(range(rows)),
            source_ns=[number] * rows,
            value=[float(number)] * rows,
            exact={0: f"n{number}"},
        )

    return make
