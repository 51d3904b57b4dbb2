"""
Which detector cries wolf: by week of the site, what each one opened, against its budget, and how much people rejected.

Read from SQL, never written; the limit is an option (``detection.rejects``).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from broker.store import Reader
from broker.store.reader.detectors import DetectorCount
from broker.store.reader.values import matcher
from detectors.budget import weekly
from detectors.options import DetectionOptions, RejectOptions
from detectors.parameters import equipment_of
from schemas.documents import rfc3339
from schemas.tagmap import Tag

#: Weeks that can be asked for: a year and the one that runs.
MOST_WEEKS: Final = 53
#: Weeks in which people may still decide on what was found: the one that runs, and the one before.
JUDGED: Final = 2


@dataclass(frozen=True, slots=True)
class Week:
    """An ISO 8601 week of the site's time zone, from Monday to Monday at midnight; ``name`` like ``2026-W48``."""

    name: str
    from_ns: int
    to_ns: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Weeks, the running one first; ``rows`` have its place among them; ``complete`` False: older ones are cut."""

    weeks: tuple[Week, ...]
    rows: tuple[DetectorCount, ...]
    complete: bool

    def of(self, place: int) -> list[DetectorCount]:
        """Rows of one week, the detector that opened most first."""
        found = [row for row in self.rows if row.place == place]
        return sorted(found, key=lambda row: (-row.opened, -row.findings, row.detector))

    def opened(self, place: int, detectors: Collection[str]) -> int:
        """How many anomalies these detectors together opened in one week."""
        return sum(row.opened for row in self.rows if row.place == place and row.detector in detectors)

    def over(self, limits: RejectOptions) -> dict[str, str]:
        """By detector: that too much of what it opened this week, or the week before, was rejected; in words."""
        found: dict[str, str] = {}
        for row in sorted(self.rows):
            if row.place >= JUDGED or not is_over(row, limits):
                continue
            rate = row.rejected / row.reviewed
            told = (
                f"people rejected {row.rejected} of the {row.reviewed} anomalies of {self.weeks[row.place].name} that "
                f"they decided on ({rate:.0%}, {row.not_abnormal} as nothing abnormal); the limit is {limits.rate:.0%}"
            )
            found.setdefault(row.detector, told)
        return found


def reject_rate(row: DetectorCount) -> float | None:
    """Rejected of those that people decided on; None where there are none."""
    return row.rejected / row.reviewed if row.reviewed else None


def is_over(row: DetectorCount, limits: RejectOptions) -> bool:
    """Whether people rejected more than the limit, of as many as it takes to judge."""
    rate = reject_rate(row)
    return rate is not None and row.reviewed >= limits.least and rate > limits.rate


def weeks(now_ns: int, zone: ZoneInfo, count: int) -> tuple[Week, ...]:
    """The week that runs at *now_ns* and those before it, *count* in all."""
    today = datetime.fromtimestamp(now_ns // 1_000_000_000, zone).date()
    monday = today - timedelta(days=today.weekday())
    return tuple(_week(monday - timedelta(weeks=back), zone) for back in range(count))


def _week(monday: date, zone: ZoneInfo) -> Week:
    year, number, _ = monday.isocalendar()
    return Week(f"{year}-W{number:02d}", _midnight_ns(monday, zone), _midnight_ns(monday + timedelta(weeks=1), zone))


def _midnight_ns(day: date, zone: ZoneInfo) -> int:
    return round(datetime.combine(day, time(), zone).timestamp()) * 1_000_000_000


def figures(reader: Reader, zone: ZoneInfo, now_ns: int, count: int = JUDGED, equipment: str | None = None) -> Figures:
    """
    The figures of *count* weeks; *equipment* may hold ``*``.

    Raises:
        Refused, StoreError: the store did not answer in time.
    """
    found = weeks(now_ns, zone, count)
    bounds = [found[-1].from_ns, *(week.to_ns for week in reversed(found))]
    counted = reader.detector_counts(bounds, equipment=equipment)
    # the store counts them from the oldest
    rows = tuple(row._replace(place=count - 1 - row.place) for row in counted.rows)
    return Figures(found, rows, counted.complete)


def budget(reader: Reader, options: DetectionOptions, equipment: str | None = None) -> dict[str, float]:
    """
    False alarms a week that the budget allows the equipment of the map in force (or *equipment*), by detector.

    Raises:
        Refused, StoreError: the store did not answer in time.
    """
    return weekly(options, _tags(reader, equipment))


def fits(reader: Reader, equipment: str) -> bool:
    """
    Whether the map in force has a tag of such equipment; *equipment* may hold ``*``.

    Raises:
        Refused, StoreError: the store did not answer in time.
    """
    return bool(_tags(reader, equipment))


def _tags(reader: Reader, equipment: str | None) -> tuple[Tag, ...]:
    in_force = reader.map()
    tags = () if in_force is None else in_force.tags
    if equipment is None:
        return tags
    wanted = matcher(equipment)
    return tuple(tag for tag in tags if wanted.fullmatch(equipment_of(tag)))


def shown(
    found: Figures, allowed: dict[str, float], options: DetectionOptions, equipment: str | None
) -> dict[str, Any]:
    """Everything in plain values, as the API and the command line give it."""
    return {
        "equipment": equipment,
        "budget": {
            "false_alarms": options.false_alarms,
            "equipment_false_alarms": options.equipment_false_alarms,
            "multivariate_false_alarms": options.multivariate.false_alarms,
            "per_week": round(sum(allowed.values()), 6),
        },
        "limit": {"reject_rate": options.rejects.rate, "least": options.rejects.least},
        "weeks": [
            {
                "week": week.name,
                "from": rfc3339(week.from_ns),
                "to": rfc3339(week.to_ns),
                "budgeted_opened": found.opened(place, allowed),
                "detectors": [_row(row, allowed) for row in found.of(place)],
            }
            for place, week in enumerate(found.weeks)
        ],
        "complete": found.complete,
        "over": found.over(options.rejects),
    }


def _row(row: DetectorCount, allowed: dict[str, float]) -> dict[str, Any]:
    told = {name: value for name, value in row._asdict().items() if name != "place"}
    per_week = allowed.get(row.detector)
    return told | {
        "reject_rate": reject_rate(row),
        "budget_per_week": None if per_week is None else round(per_week, 6),
    }
