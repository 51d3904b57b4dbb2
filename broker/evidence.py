"""
Evidence of an anomaly revision: numbered facts computed from records, and the causes that may be chosen.

Everything is read inside the writer's transaction up to the record seq at which the revision arose, so that the same
journal gives the same evidence, however the commits fell.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from broker.catalogue import catalogue
from broker.store.rows import GapRow, RecordRow, Window
from schemas.annotation import number
from schemas.anomaly import Anomaly, Direction, Kind, Member
from schemas.evidence import Evidence, Fact
from schemas.status import Quality, quality, quality_of
from schemas.tagmap import Tag, TagMap

#: What was normal is taken from this stretch before the onset.
BASELINE_NS: Final = 120_000_000_000
#: A slower tag needs longer for enough samples: so many scans, but not beyond an hour.
BASELINE_SCANS: Final = 20
LONGEST_BASELINE_NS: Final = 3_600_000_000_000
#: The last moments before the onset already belong to it.
GUARD_NS: Final = 2_000_000_000
MAX_DEVIATIONS: Final = 8
MAX_NEIGHBOURS: Final = 5
MAX_OTHERS: Final = 3
MAX_GAPS: Final = 1
MAX_HISTORY: Final = 2
#: Past episodes of the equipment among which similar ones are looked for.
PAST: Final = 20
#: An episode is similar when it shares this part of what either saw (tag and direction).
ALIKE: Final = 0.5
#: Beyond so many sigmas a distance says no more about a tag's share: a signal without noise would drown every other.
MOST_SIGMAS: Final = 1000.0
#: A tag of the same equipment that moved by so many sigmas is a deviation although no detector has spoken yet.
MOVED_SIGMAS: Final = 5.0
#: Kinds that do not say where a tag went from its normal: to what compares with the last minutes, the way back from a
#: long deviation looks like another one, and what left its normal often spreads as well.
SECONDARY: Final = frozenset({Kind.LEVEL_SHIFT, Kind.TREND, Kind.VARIANCE})
#: Fewer good samples than this say nothing about what is normal.
MIN_BASELINE: Final = 8


class Records(Protocol):
    """The reads that evidence needs from the writer's transaction."""

    def window(self, path: str, from_ns: int, to_ns: int, *, upto: int, limit: int = 5000) -> Window:
        """Samples of a tag with ``from_ns <= source_ts < to_ns`` and ``seq <= upto``; the latest *limit* of them."""
        ...

    def last_value(self, path: str, before_ns: int, *, upto: int) -> RecordRow | None:
        """The newest record of a tag before a time with ``seq <= upto``, or None."""
        ...

    def gaps_between(
        self, paths: Sequence[str], from_ns: int, to_ns: int, *, source: str | None = None
    ) -> Sequence[GapRow]:
        """Holes of these tags (and of everything) that touch a span."""
        ...

    def past_episodes(self, equipment: str, before_ns: int, limit: int) -> list[tuple[Anomaly, str | None, str | None]]:
        """Closed episodes, latest first: (anomaly, named cause, verdict of a person)."""
        ...


@dataclass(frozen=True, slots=True)
class _Level:
    mean: float
    sigma: float
    low: float
    high: float

    def left(self, level: float) -> bool:
        """
        Whether *level* is far from what was normal: many sigmas away, and beyond twice the span of the baseline.

        The span guards against slow wander, which a short baseline's sigma does not know.
        """
        span = self.high - self.low
        far = abs(level - self.mean) >= MOVED_SIGMAS * self.sigma
        return far and not self.low - span < level < self.high + span


def _level(window: Window) -> _Level | None:
    good = window.value[(quality_of(window.status) == Quality.GOOD) & np.isfinite(window.value)]
    if len(good) < MIN_BASELINE:
        return None
    middle = float(np.median(good))
    # 1.4826 makes the median absolute deviation a sigma for normal noise; a stuck or coarse signal has none
    sigma = 1.4826 * float(np.median(np.abs(good - middle)))
    sigma = max(sigma, float(np.std(good)) * 0.5, abs(middle) * 1e-6, 1e-9)
    return _Level(middle, sigma, float(good.min()), float(good.max()))


def signature(anomaly: Anomaly) -> tuple[str, ...]:
    """
    What makes a revision worth new evidence: members, severity, and a peak that has grown fourfold.

    That an episode closes does not: by then the tags are back, and nothing they say explains what happened.
    """
    members = sorted({f"{m.tag_id}/{m.detector}/{m.direction}/{_reach(m)}" for m in anomaly.members})
    return (str(int(anomaly.severity)), *members)


def _reach(member: Member) -> int:
    """How far the peak lies outside the band, in powers of four of the band's half width; 0 where there is no band."""
    if member.peak is None or member.low is None or member.high is None or not member.high > member.low:
        return 0
    half = (member.high - member.low) / 2
    distance = abs(member.peak - (member.low + half)) / half
    return round(math.log(distance, 4)) if math.isfinite(distance) and distance > 1 else 0


def reach(tag_map: TagMap, anomaly: Anomaly) -> tuple[list[str], int, int, int]:
    """Tags that the evidence reads, from when, the onset of what happened, and to when."""
    paths = {tag.path for tag in tag_map.tags if tag.equipment == anomaly.equipment}
    paths.update(member.path for member in anomaly.members)
    onset_ns = min([anomaly.onset_ns, *(member.onset_ns for member in anomaly.members)])
    longest_ns = max((_baseline_ns(tag_map.by_path.get(path)) for path in paths), default=BASELINE_NS)
    return sorted(paths), onset_ns - longest_ns, onset_ns, anomaly.updated_ns + 1


def _baseline_ns(tag: Tag | None) -> int:
    """How long before the onset a tag's normal is looked for."""
    scans_ns = 0 if tag is None else BASELINE_SCANS * tag.scan_ms * 1_000_000
    return min(max(BASELINE_NS, scans_ns), LONGEST_BASELINE_NS)


def build_evidence(
    records: Records,
    tag_map: TagMap,
    anomaly: Anomaly,
    record_seq: int,
    elsewhere: Collection[str] = (),
    shifts: Sequence[str] = (),
) -> Evidence:
    """
    Compute the numbered facts of one anomaly revision.

    *elsewhere* are paths that belong to other open episodes; nothing is said of them here. *shifts* work now. At most
    20 facts: deviations in order of onset, then gaps, equipment state and set-point changes, shift, similar past
    episodes, and neighbours that stayed normal.
    """
    tags = [tag for tag in tag_map.tags if tag.equipment == anomaly.equipment]
    by_path = {tag.path: tag for tag in tags}
    equipment = tag_map.equipment_by_path.get(anomaly.equipment)
    now_ns = anomaly.updated_ns + 1
    deviations = _member_facts(records, anomaly, by_path, record_seq, now_ns)
    others = [tag for tag in tags if tag.path not in elsewhere]
    moved, neighbours = _other_tags(records, anomaly, others, record_seq, now_ns)
    context = _context(records, anomaly, tags, equipment.state if equipment else None, record_seq, now_ns)
    ordered = sorted(deviations + moved, key=lambda fact: (fact.from_ns or 0, fact.path or ""))[:MAX_DEVIATIONS]
    ranked = [
        fact.model_copy(update={"rank": rank, "contribution": share})
        for rank, (fact, share) in enumerate(zip(ordered, _shares(ordered), strict=True), 1)
    ]
    history = _history(records, anomaly)
    gaps = _gaps(records, anomaly, tags, now_ns)
    working = [Fact(id="E1", kind="state", path="shift", text=", ".join(shifts))] if shifts else []
    facts = [*ranked, *gaps, *context[:MAX_OTHERS], *working, *history, *neighbours[:MAX_NEIGHBOURS]]
    options = catalogue(equipment.equipment_class if equipment else None)
    return Evidence(
        anomaly_id=anomaly.anomaly_id,
        anomaly_revision=anomaly.revision,
        equipment=anomaly.equipment,
        equipment_class=equipment.equipment_class if equipment else None,
        kind=anomaly.kind,
        severity=anomaly.severity,
        ne107=anomaly.ne107,
        at_ns=anomaly.updated_ns,
        record_seq=record_seq,
        facts=tuple(fact.model_copy(update={"id": f"E{i}"}) for i, fact in enumerate(facts, 1)),
        causes=options.causes,
        actions=options.actions,
    )


def _shares(facts: Sequence[Fact]) -> list[float | None]:
    """
    Share of each deviation in all of them: as a detector of several tags told it, else by their sigmas.

    None where neither is known; a single deviation has the whole.
    """
    told = [fact.contribution for fact in facts]
    if any(share is not None for share in told):
        return told
    parts = [None if fact.sigmas is None else min(fact.sigmas, MOST_SIGMAS) for fact in facts]
    total = sum(part for part in parts if part is not None)
    return [None if part is None or total <= 0 else round(part / total, 3) for part in parts]


def strongest(members: Sequence[Member]) -> list[Member]:
    """
    One member a tag: of those that are active now the one with the highest score, else of all.

    What does not say where the tag went from its normal counts only where nothing else was found. Its onset is the
    earliest of the members that say the same direction: a tag that rose first and fell later is told as fallen, since
    then.
    """
    by_path: dict[str, list[Member]] = {}
    for member in members:
        by_path.setdefault(member.path, []).append(member)
    chosen = []
    for same in by_path.values():
        first = [m for m in same if m.kind not in SECONDARY] or same
        best = max([m for m in first if m.active] or first, key=lambda m: m.score)
        onset_ns = min(m.onset_ns for m in same if m.direction == best.direction)
        chosen.append(best.model_copy(update={"onset_ns": onset_ns}))
    return chosen


def _member_facts(records: Records, anomaly: Anomaly, by_path: dict[str, Tag], upto: int, now_ns: int) -> list[Fact]:
    facts = []
    for member in strongest(anomaly.members):
        tag = by_path.get(member.path)
        same = [other for other in anomaly.members if other.path == member.path]
        before = _baseline(records, member.path, tag, member.onset_ns, upto)
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
                direction=member.direction,
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


def _extreme(during: Window, member: Member, before: _Level | None) -> float | None:
    """The stored value that went furthest; the detector's own where no stored value carries a number."""
    told = member.peak if member.peak is not None else member.value
    numbers = during.value[np.isfinite(during.value)]
    if not len(numbers) or member.direction in {"flat", "silent"}:
        return told
    # the window is cut to its latest rows; the detector has seen all of them
    if member.direction == "rose":
        return max(float(numbers.max()), told if told is not None else -math.inf)
    if member.direction == "fell":
        return min(float(numbers.min()), told if told is not None else math.inf)
    middle = before.mean if before is not None else float(np.median(numbers))
    return float(numbers[np.argmax(np.abs(numbers - middle))])


def _baseline(records: Records, path: str, tag: Tag | None, onset_ns: int, upto: int) -> _Level | None:
    """What was normal before the onset; of a tag that reports changes only, the last value it reported."""
    deadband = 0.0 if tag is None else tag.deadband
    found = _level(records.window(path, onset_ns - _baseline_ns(tag), onset_ns - GUARD_NS, upto=upto))
    if found is not None or deadband <= 0:
        return found
    last = records.last_value(path, onset_ns - GUARD_NS, upto=upto)
    if last is None or last.value is None or quality(last.status) != Quality.GOOD:
        return None
    return _Level(last.value, deadband, last.value - deadband, last.value + deadband)


def _other_tags(
    records: Records, anomaly: Anomaly, tags: list[Tag], upto: int, now_ns: int
) -> tuple[list[Fact], list[Fact]]:
    """Tags of the equipment no detector named: those that moved all the same, and those that stayed normal."""
    named = {member.path for member in anomaly.members}
    moved: list[Fact] = []
    neighbours: list[Fact] = []
    for tag in tags:
        if tag.path in named or tag.role in {"state", "sp", "good_count", "reject_count", "order", "lot"} or tag.enum:
            continue
        before = _baseline(records, tag.path, tag, anomaly.onset_ns, upto)
        since = records.window(tag.path, anomaly.onset_ns, now_ns, upto=upto)
        ok = (quality_of(since.status) == Quality.GOOD) & np.isfinite(since.value)
        # without a good sample in the later half of the episode nothing can be said of the tag
        half_ns = anomaly.onset_ns + (now_ns - anomaly.onset_ns) // 2
        if before is None or not ok.any() or since.source_ns[ok][-1] < half_ns:
            continue
        recent, when = since.value[ok][-3:], since.source_ns[ok]
        level = float(np.median(recent))
        distance = (level - before.mean) / before.sigma
        fact = Fact(
            id="E1",
            kind="neighbour",
            path=tag.path,
            role=tag.role,
            unit=tag.unit,
            value=level,
            baseline=before.mean,
            sigmas=round(abs(distance), 2),
            samples=int(ok.sum()),
        )
        if before.left(level) and abs(level - before.mean) > tag.deadband:
            direction: Direction = "rose" if distance > 0 else "fell"
            far = np.abs(since.value[ok] - before.mean) >= MOVED_SIGMAS * before.sigma
            first = int(when[int(np.argmax(far))]) if far.any() else int(when[-1])
            change = {"kind": "deviation", "direction": direction, "from_ns": first, "to_ns": int(when[-1])}
            moved.append(fact.model_copy(update=change))
        else:
            neighbours.append(fact)
    return moved, neighbours


def _context(
    records: Records, anomaly: Anomaly, tags: list[Tag], state_path: str | None, upto: int, now_ns: int
) -> list[Fact]:
    """State of the equipment, and set points that were changed shortly before."""
    facts: list[Fact] = []
    for tag in tags:
        now = _number(records.last_value(tag.path, now_ns, upto=upto)) if tag.role in {"state", "sp"} else None
        if now is None:
            continue
        if tag.path == state_path or tag.role == "state":
            text = (tag.enum or {}).get(int(now), number(now))
            facts.append(Fact(id="E1", kind="state", path=tag.path, role="state", value=now, text=text))
            continue
        before = _number(records.last_value(tag.path, anomaly.onset_ns - BASELINE_NS, upto=upto))
        since = records.window(tag.path, anomaly.onset_ns - BASELINE_NS, now_ns, upto=upto)
        if before is None:
            before = float(since.value[0]) if len(since.value) and np.isfinite(since.value[0]) else None
        if before is not None and before != now:
            change = Fact(id="E1", kind="setpoint", path=tag.path, role="sp", unit=tag.unit, baseline=before, value=now)
            facts.append(change.model_copy(update={"from_ns": _last_change(since, now)}))
    return facts


def _last_change(window: Window, now: float) -> int | None:
    """When the value became what it is; None where the window does not show it."""
    other = np.flatnonzero(window.value != now)
    first = int(other[-1]) + 1 if len(other) else 0
    return int(window.source_ns[first]) if first < len(window.source_ns) else None


def _number(row: RecordRow | None) -> float | None:
    return None if row is None or row.value is None or not math.isfinite(row.value) else row.value


def _gaps(records: Records, anomaly: Anomaly, tags: list[Tag], now_ns: int) -> list[Fact]:
    """Holes in the data of this equipment around the episode, the latest first."""
    found = records.gaps_between([tag.path for tag in tags], anomaly.onset_ns - GUARD_NS, now_ns)
    latest = sorted(found, key=lambda gap: (-gap.from_ns, gap.path or "", gap.cause))[:MAX_GAPS]
    return [
        Fact(
            id="E1",
            kind="gap",
            path=gap.path,
            from_ns=gap.from_ns,
            to_ns=gap.to_ns,
            text=gap.cause.replace("_", " "),
        )
        for gap in latest
    ]


def _history(records: Records, anomaly: Anomaly) -> list[Fact]:
    """
    The latest similar episodes on this equipment and what a person said of them, those with a verdict first.

    Of several that say the same the latest is told; ``samples`` counts them.
    """
    past = records.past_episodes(anomaly.equipment, anomaly.onset_ns, PAST)
    alike = [row for row in past if row[0].anomaly_id != anomaly.anomaly_id and _similar(row[0], anomaly)]
    told: dict[str, list[Anomaly]] = {}
    for episode, cause, verdict in sorted(alike, key=lambda row: row[2] is None):
        text = "a similar episode was not reviewed"
        if verdict == "rejected":
            text = f"a similar episode: {cause or 'the explanation'} was proposed, and rejected"
        elif verdict is not None:
            text = f"a similar episode was {cause or 'unknown'}, {verdict} by a person"
        told.setdefault(text, []).append(episode)
    return [
        Fact(id="E1", kind="history", from_ns=same[0].onset_ns, text=text, samples=len(same))
        for text, same in list(told.items())[:MAX_HISTORY]
    ]


def _similar(past: Anomaly, anomaly: Anomaly) -> bool:
    """The same kind of thing on the same first tag, or mostly the same tags in the same directions."""
    if past.kind == anomaly.kind and past.members[0].path == anomaly.members[0].path:
        return True
    one, other = ({(m.path, m.direction) for m in a.members} for a in (past, anomaly))
    return len(one & other) >= ALIKE * len(one | other)
