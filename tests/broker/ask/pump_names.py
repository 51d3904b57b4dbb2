"""The names and the hour that the tests ask about: pumps of a skid, on a Wednesday afternoon in Paris."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from broker.ask.calendar import Calendar
from broker.ask.names import Names
from broker.ask.parse import parse
from broker.store.rows.records import TagRow
from schemas.question import Query, Span

SKID = "Acme/Lyon/Utilities/Skid1"


def tag_row(
    number: int, path: str, unit: str = "1", role: str | None = None, enum: dict[int, str] | None = None
) -> TagRow:
    owner = path.rsplit("/", 1)[0]
    return TagRow(number, f"t{number}", path, "plc", "a", None, unit, role, owner, None, None, enum, "", True)


NAMES = Names(
    [
        tag_row(1, f"{SKID}/P101/BearingTemp", "Cel"),
        tag_row(2, f"{SKID}/P101/MotorPower", "kW"),
        tag_row(3, f"{SKID}/P102/BearingTemp", "Cel"),
        tag_row(4, f"{SKID}/P101/Flow", "m3/h"),
        tag_row(5, f"{SKID}/P101/State", role="state", enum={1: "Running", 2: "Tripped", 3: "Stopped"}),
        tag_row(6, f"{SKID}/M1/Current", "A"),
        tag_row(7, f"{SKID}/M1/Leak", "mA"),
        tag_row(8, f"{SKID}/M1/Gap", "mm"),
        tag_row(9, f"{SKID}/M1/Lag", "s"),
        tag_row(10, f"{SKID}/M1/Beam", "mW"),
    ]
)
#: Wednesday, 15:30 in Paris.
CALENDAR = Calendar(ZoneInfo("Europe/Paris"), datetime(2026, 11, 25, 14, 30, tzinfo=UTC))


def span(begin: str, end: str) -> tuple[Span, ...]:
    zone = CALENDAR.zone
    return (
        Span(
            begin=datetime.fromisoformat(f"2026-11-{begin}").replace(tzinfo=zone).astimezone(UTC),
            end=datetime.fromisoformat(f"2026-11-{end}").replace(tzinfo=zone).astimezone(UTC),
        ),
    )


def ask(question: str) -> Query:
    return parse(question, NAMES, CALENDAR).query
