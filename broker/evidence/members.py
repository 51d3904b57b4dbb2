"""Tags that a detector has named: which of what is said of each is told, and the facts of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from broker.evidence.normal import Level, baseline
from broker.evidence.records import Records
from broker.store.rows.records import RecordRow, Window
from schemas.anomaly import Anomaly, Kind, Member
from schemas.evidence import Fact
from schemas.status import Quality, quality
from schemas.status import name as status_name
from schemas.tagmap import Tag

MAX_BAD: Final = 1
#: Kinds that do not say where a tag went from its normal: to what compares with the last minutes, the way back from a
#: long deviation looks like another one, and what left its normal often spreads as well.
SECONDARY: Final = frozenset({Kind.LEVEL_SHIFT, Kind.TREND, Kind.VARIANCE})
#: Who was away for so long and then goes the other way comes back; for less it may swing.
LASTED_NS: Final = 60_000_000_000
#: The way back of a tag went by far further than it had gone first: its score is so many times as high.
FURTHER: Final = 3.0


def strongest(members: Sequence[Member]) -> list[Member]:
    """
    One member a tag: of those that are active now the one with the highest score, else of all.

    What does not say where the tag went from its normal counts only where nothing else was found. Of a tag that rose
    and fell the way is told that it went first, since the other is the way back; unless it went by far further there.
    Its onset is the earliest of the members that say the same direction and are no way back.
    """
    by_path: dict[str, list[Member]] = {}
    for member in members:
        by_path.setdefault(member.path, []).append(member)
    chosen = []
    for same in by_path.values():
        first = _first_way([m for m in same if m.kind not in SECONDARY] or same)
        best = max([m for m in first if m.active] or first, key=lambda m: m.score)
        alike = [m for m in same if m.direction == best.direction and (m in first or not _turns(m, same))]
        onset_ns = min(m.onset_ns for m in alike)
        chosen.append(best.model_copy(update={"onset_ns": onset_ns}))
    return chosen


def _turns(member: Member, same: Sequence[Member]) -> bool:
    """Whether the tag had gone the other way before."""
    return any({m.direction, member.direction} == {"rose", "fell"} and m.onset_ns < member.onset_ns for m in same)


def _first_way(members: list[Member]) -> list[Member]:
    """These members without those of a tag's way back, where it both rose and fell, and does not swing."""
    ways = {way: [m for m in members if m.direction == way] for way in ("rose", "fell")}
    if not all(ways.values()):
        return members
    out, back = sorted(ways, key=lambda way: min(m.onset_ns for m in ways[way]))
    lasted = max(m.last_ns - m.onset_ns for m in ways[out]) >= LASTED_NS
    if not lasted or max(m.score for m in ways[back]) > FURTHER * max(m.score for m in ways[out]):
        return members
    return [m for m in members if m.direction != back]


def member_facts(records: Records, anomaly: Anomaly, by_path: dict[str, Tag], upto: int, now_ns: int) -> list[Fact]:
    """A deviation for each tag that a detector named, with what was normal before it."""
    facts = []
    for member in strongest(anomaly.members):
        tag = by_path.get(member.path)
        same = [other for other in anomaly.members if other.path == member.path]
        before = baseline(records, member.path, tag, member.onset_ns, upto)
        during = records.window(member.path, member.onset_ns, now_ns, upto=upto)
        value = _extreme(during, member, before)
        sigmas = None
        if before is not None and value is not None:
            sigmas = round(abs(value - before.mean) / before.sigma, 2)
        facts.append(
            Fact(
                id="E1",
                kind="deviation",
                path=member.path,
                role=tag.role if tag else None,
                unit=member.unit,
                detected=member.kind,
                # it is not silent: it sends values, and none that says where it is
                direction=None if member.direction == "bad" else member.direction,
                value=value,
                baseline=None if before is None or member.kind is Kind.MISSING else before.mean,
                low=member.low,
                high=member.high,
                sigmas=sigmas,
                contribution=max((m.contribution for m in same if m.contribution is not None), default=None),
                from_ns=member.onset_ns,
                to_ns=member.last_ns,
                samples=len(during.value),
            )
        )
    return facts


def bad_values(records: Records, deviations: Sequence[Fact], upto: int, now_ns: int) -> list[Fact]:
    """What tags that send nothing but bad values say of themselves: their status."""
    facts = []
    for fact in deviations:
        if fact.detected is not Kind.MISSING or fact.direction is not None or fact.path is None:
            continue
        # where the tag is back its last row is good: the one before that tells
        for before_ns in (now_ns, fact.to_ns):
            last = None if before_ns is None else records.last_value(fact.path, before_ns, upto=upto)
            if last is not None and (text := _bad(last)):
                facts.append(Fact(id="E1", kind="state", path=fact.path, role=fact.role, text=text))
                break
    return facts[:MAX_BAD]


def _bad(row: RecordRow) -> str:
    """What is wrong with a value; empty where nothing is."""
    if quality(row.status) == Quality.BAD:
        return status_name(row.status)
    number = row.value is not None and not math.isnan(row.value)
    return "" if number or row.value_int is not None or row.value_text is not None else "not a number"


def _extreme(during: Window, member: Member, before: Level | None) -> float | None:
    """The stored value that went furthest; the detector's own where no stored value carries a number."""
    told = member.peak if member.peak is not None else member.value
    numbers = during.value[np.isfinite(during.value)]
    if not len(numbers) or member.direction in {"flat", "silent", "bad"}:
        return told
    # the window is cut to its latest rows; the detector has seen all of them
    if member.direction == "rose":
        return max(float(numbers.max()), told if told is not None else -math.inf)
    if member.direction == "fell":
        return min(float(numbers.min()), told if told is not None else math.inf)
    middle = before.mean if before is not None else float(np.median(numbers))
    return float(numbers[np.argmax(np.abs(numbers - middle))])
