"""How often each detector told something, and what people said of it, in spans of time such as weeks."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa

from broker.store import tables
from broker.store.reader.values import matcher
from schemas.annotation import POLICY

_A: Final = tables.anomalies
_B: Final = tables.anomaly_revisions
_W: Final = tables.reviews
#: Anomalies that are looked at, the newest of the time that is asked for.
MOST: Final = 10_000


class DetectorCount(NamedTuple):
    """
    One detector in one span (``place`` counts them from 0).

    An anomaly belongs to the span of its onset, and to the detector of the member that came first in its first
    revision: ``opened`` are those that ask for attention, ``suppressed`` the others. ``findings`` are members of any
    anomaly, each a tag and direction. Of those that ``opened``, people have decided on ``reviewed``; they rejected
    ``rejected`` of these for what was found (``not_abnormal``: as nothing abnormal), and ``wrong_cause`` for the
    explanation alone. What a policy released nobody has looked at.
    """

    place: int
    detector: str
    opened: int
    suppressed: int
    findings: int
    reviewed: int
    rejected: int
    not_abnormal: int
    wrong_cause: int


class DetectorCounts(NamedTuple):
    """In order of place and name; ``complete`` False: there was more than was looked at, the oldest is left out."""

    rows: list[DetectorCount]
    complete: bool


class _Member(msgspec.Struct):
    detector: str


class _Members(msgspec.Struct):
    """What is decoded of an anomaly's body."""

    members: list[_Member]


class _Said(msgspec.Struct):
    """What is decoded of a review's body."""

    reason: str | None = None


def counts(
    connection: sa.Connection, bounds_ns: Sequence[int], equipment: str | None, goes_on: Callable[[], bool]
) -> DetectorCounts:
    """
    Count in the spans between each two of *bounds_ns*, which rise.

    *equipment*: that of this path; ``*`` in it stands for anything. *goes_on* says whether there is time for more.
    """
    told: Counter[tuple[int, str, str]] = Counter()
    wanted = matcher(equipment)
    complete = True
    # in pieces: the bodies of all of them together may be large
    with connection.execute(_query(bounds_ns).execution_options(yield_per=500)) as rows:
        for looked, row in enumerate(rows):
            complete = looked < MOST and goes_on()
            if not complete:
                break
            if wanted.fullmatch(row.equipment) is not None:
                _count(told, bisect_right(bounds_ns, row.onset_ns) - 1, row)
    names = sorted({(place, detector) for place, detector, _ in told})
    fields = DetectorCount._fields[2:]
    return DetectorCounts([DetectorCount(*key, *(told[(*key, field)] for field in fields)) for key in names], complete)


def _query(bounds_ns: Sequence[int]) -> sa.Select[Any]:
    first, newest = _B.alias("first"), _B.alias("newest")
    by_people = sa.and_(_W.c.anomaly_id == _A.c.anomaly_id, ~_W.c.person.startswith(POLICY, autoescape=True))
    last_word = sa.select(sa.func.max(_W.c.ordinal)).where(by_people).correlate(_A).scalar_subquery()
    return (
        sa.select(
            _A.c.equipment,
            _A.c.onset_ns,
            _A.c.suppressed,
            first.c.body.label("first"),
            newest.c.body.label("newest"),
            _W.c.verdict,
            _W.c.body.label("review"),
        )
        .select_from(_A)
        .join(newest, sa.and_(newest.c.anomaly_id == _A.c.anomaly_id, newest.c.revision == _A.c.revision))
        .outerjoin(first, sa.and_(first.c.anomaly_id == _A.c.anomaly_id, first.c.revision == 0))
        .outerjoin(_W, _W.c.ordinal == last_word)
        .where(_A.c.onset_ns >= bounds_ns[0], _A.c.onset_ns < bounds_ns[-1])
        .order_by(_A.c.ordinal.desc())
        .limit(MOST + 1)
    )


def _count(told: Counter[tuple[int, str, str]], place: int, row: sa.Row[Any]) -> None:
    members = msgspec.json.decode(row.newest, type=_Members).members
    for member in members:
        told[place, member.detector, "findings"] += 1
    opener = (msgspec.json.decode(row.first, type=_Members).members if row.first else members)[0].detector
    if row.suppressed is not None:
        told[place, opener, "suppressed"] += 1
        return
    told[place, opener, "opened"] += 1
    if row.verdict is None:
        return
    told[place, opener, "reviewed"] += 1
    if row.verdict != "rejected":
        return
    reason = msgspec.json.decode(row.review, type=_Said).reason
    told[place, opener, "wrong_cause" if reason == "wrong_cause" else "rejected"] += 1
    told[place, opener, "not_abnormal"] += reason == "not_abnormal"
