"""
Reading what anybody on the wire can read or change: only where a named person accepts it, and until a day.

One text for every protocol, ``insecure_ack: "<who> <why> <until YYYY-MM-DD>"``; behind the day the source is not
read any more.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from schemas.errors import NotConnected

_ACK: Final = re.compile(r"^(\S+) (.*\S) ([0-9]{4}-[0-9]{2}-[0-9]{2})$")
FORM: Final = '"<who> <why> <until>", the last as YYYY-MM-DD'


def _stated(text: str | None) -> str | None:
    if text is not None:
        _parts(text)
    return text


def _parts(text: str) -> tuple[str, str, date]:
    match = _ACK.match(text)
    if match is None:
        raise ValueError(f"write {FORM}")
    who, why, until = match.groups()
    try:
        return who, why, date.fromisoformat(until)
    except ValueError:
        raise ValueError(f"{until} is no day; write {FORM}") from None


#: The option ``insecure_ack``; its field gives the description.
InsecureAck = Annotated[str | None, Field(max_length=200), AfterValidator(_stated)]


@dataclass(frozen=True, slots=True)
class Insecure:
    """A connection without protection: what is open (``mqtt://10.0.0.1``), who accepts it, why, and its last day."""

    what: str
    who: str
    why: str
    until: date

    @classmethod
    def accepted(cls, what: str, text: str) -> Insecure:
        """*what*, as the text of an ``insecure_ack`` accepts it. Raises ValueError where it has another form."""
        return cls(what, *_parts(text))

    def over(self, now_ns: int) -> bool:
        """Whether the day has passed, in UTC."""
        return datetime.fromtimestamp(now_ns / 1e9, UTC).date() > self.until

    def text(self, now_ns: int) -> str:
        """One line for people."""
        if self.over(now_ns):
            return f"{self.what} is not read any more: insecure_ack of {self.who} ended on {self.until}"
        return f"{self.what} is open to anybody on the wire; {self.who} accepts it until {self.until}: {self.why}"


def refuse_when_over(insecure: Insecure | None, now_ns: Callable[[], int], remedy: str) -> None:
    """Raise NotConnected behind the last day of an acknowledgement; *remedy* says what to use in its place."""
    if insecure is not None and insecure.over(now_ns()):
        raise NotConnected(f"insecure_ack ended on {insecure.until}; {remedy} or state it anew")
