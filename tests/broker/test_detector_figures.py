"""Weeks of the site, who is over the limit, and what the budget allows."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from broker.detector_figures import Figures, weeks
from broker.store.reader.detectors import DetectorCount
from detectors.options import RejectOptions
from tests.broker.store.plant import S

PARIS = ZoneInfo("Europe/Paris")


def ns(*at: int) -> int:
    return round(datetime(*at, tzinfo=UTC).timestamp()) * S  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("now", "names"),
    [
        ((2026, 11, 29, 22, 59, 59), ("2026-W48", "2026-W47")),
        ((2026, 11, 29, 23), ("2026-W49", "2026-W48")),  # Monday in Paris
        ((2027, 1, 3, 12), ("2026-W53", "2026-W52")),
        ((2025, 12, 29, 12), ("2026-W01", "2025-W52")),
    ],
)
def test_a_week_is_an_iso_week_of_the_site(now: tuple[int, ...], names: tuple[str, ...]) -> None:
    """Monday to Monday by the site's clock; the name is of the year that has most of it."""
    assert tuple(week.name for week in weeks(ns(*now), PARIS, 2)) == names


def test_the_week_of_a_clock_change_is_an_hour_longer() -> None:
    """Weeks lie side by side, whatever the clocks do."""
    found = weeks(ns(2026, 10, 28), PARIS, 3)
    assert [(week.to_ns - week.from_ns) / S / 3600 for week in found] == [168, 169, 168]
    assert [week.from_ns for week in found[:-1]] == [week.to_ns for week in found[1:]]
    assert found[1].to_ns == ns(2026, 10, 25, 23)


def row(place: int, reviewed: int, rejected: int, detector: str = "ewma") -> DetectorCount:
    return DetectorCount(place, detector, reviewed, 0, reviewed, reviewed, rejected, rejected, 0)


def test_who_is_over_the_limit() -> None:
    """Of this week or the one before, with enough decisions; exactly the limit is within it."""
    limits = RejectOptions.model_validate({"least": 5, "rate": "40%"})
    found = Figures(
        weeks(ns(2026, 11, 26), PARIS, 3),
        (
            row(0, 5, 2, "at"),
            row(0, 5, 3, "over"),
            row(1, 10, 10, "over"),
            row(0, 4, 4, "few"),
            row(1, 6, 6, "before"),
            row(2, 9, 9, "long ago"),
        ),
        complete=True,
    )
    told = "people rejected {} anomalies of {} that they decided on ({}, {} as nothing abnormal); the limit is 40%"
    assert found.over(limits) == {
        "over": told.format("3 of the 5", "2026-W48", "60%", 3),
        "before": told.format("6 of the 6", "2026-W47", "100%", 6),
    }
