"""One episode and its members as they are kept and saved: the state behind an anomaly."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from schemas.anomaly import Anomaly, Cause, Direction, Finding, Kind, Member, Ne107, Severity
from schemas.tagmap import Tag

_NEW_PEAK: Final = 1.05
#: A peak is told again when its distance has grown by so much.
_FURTHER: Final = 1.5
#: Directions in which a value goes further and further.
_WAYS: Final[frozenset[Direction]] = frozenset(("rose", "fell"))


class Seen(NamedTuple):
    """A condition as it stands: its finding, and the value that went furthest."""

    finding: Finding
    peak: float | None


#: Equipment, tag id, detector and direction.
Key = tuple[str, str, str, Direction]


class MemberState(msgspec.Struct):
    """The conditions of one tag under one detector, in one direction: of several, the worst."""

    tag_id: str
    path: str
    unit: str
    detector: str
    kind: Kind
    direction: Direction
    onset_ns: int
    last_ns: int
    active: bool
    value: float | None
    peak: float | None
    low: float | None
    high: float | None
    score: float
    contribution: float | None = None
    reason: str = ""
    told_peak: float | None = None  #: the peak of the last revision: growth is counted from there
    left: bool = False  #: the condition goes on in another episode

    def take(self, seen: Seen) -> bool:
        """
        Bring up to date; whether the condition came, went or reached a new peak.

        Score, band and peak stay those of the worst of several conditions. Another band is another normal, to which
        nothing before is compared.
        """
        finding = seen.finding
        told = self.active is not finding.active
        self.active = finding.active
        self.last_ns = max(self.last_ns, finding.at_ns)
        self.value = finding.value
        moves = self.direction in _WAYS
        anew = moves and (finding.low, finding.high) != (self.low, self.high)
        worse = finding.score > self.score
        further = self._further(seen.peak, self.peak)
        told |= anew or self._further(seen.peak, self.told_peak) >= _FURTHER or finding.score > self.score * _NEW_PEAK
        if anew or (moves and further > 1) or (worse and not moves) or self.peak is None:
            self.peak = seen.peak
        if anew or worse:
            self.score, self.low, self.high, self.reason = finding.score, finding.low, finding.high, finding.reason
            self.contribution = finding.contribution
        return told

    def end(self, at_ns: int) -> None:
        """The condition is over at this time, because its opposite has begun."""
        self.active, self.last_ns = False, max(self.last_ns, at_ns)

    def _further(self, peak: float | None, before: float | None) -> float:
        """Distance of a peak from the middle of the band (its only end), in multiples of that of the one before."""
        ends = [end for end in (self.low, self.high) if end is not None]
        if peak is None or before is None or not ends:
            return 1.0
        middle = sum(ends) / len(ends)
        far = abs(before - middle)
        return abs(peak - middle) / far if far > 0 else _FURTHER

    def frozen(self) -> Member:
        """The member as a revision tells it."""
        return Member.model_construct(**{name: getattr(self, name) for name in Member.model_fields})


class Episode(msgspec.Struct):
    """An open episode."""

    anomaly_id: str
    equipment: str
    kind: Kind
    members: list[MemberState]
    touched_ns: int  #: last beginning or end of a member, tick clock
    active_ns: int  #: last time a member was active, tick clock
    told_ns: int = 0  #: last revision, tick clock
    revision: int = -1
    severity: int = int(Severity.LOW)
    grown: bool = True
    changed: bool = False
    suppressed: Cause | None = None

    def holds(self, key: Key) -> MemberState | None:
        """The member of a condition, if it was ever in this episode."""
        return next((member for member in self.members if key_of(self.equipment, member) == key), None)

    def told(self, severity: Severity, ne107: Ne107, *, closed: bool) -> Anomaly:
        """The next revision."""
        self.revision += 1
        self.severity = int(severity)
        self.grown = self.changed = False
        for member in self.members:
            member.told_peak = member.peak
        members = sorted(self.members, key=lambda member: member.onset_ns)
        last_ns = max(member.last_ns for member in members)
        return Anomaly(
            anomaly_id=self.anomaly_id,
            revision=self.revision,
            equipment=self.equipment,
            state="closed" if closed else "open",
            kind=self.kind,
            severity=severity,
            ne107=ne107,
            onset_ns=members[0].onset_ns,
            updated_ns=last_ns,
            closed_ns=last_ns if closed else None,
            detector_score=max(member.score for member in members),
            members=tuple(member.frozen() for member in members),
            suppressed=self.suppressed,
        )


def key_of(equipment: str, member: MemberState) -> Key:
    """What tells this member from all others that are open."""
    return equipment, member.tag_id, member.detector, member.direction


def new_member(seen: Seen, tag: Tag) -> MemberState:
    """A member that begins with this condition."""
    finding = seen.finding
    return MemberState(
        tag_id=tag.id,
        path=tag.path,
        unit=tag.unit,
        detector=finding.detector,
        kind=finding.kind,
        direction=finding.direction,
        onset_ns=finding.onset_ns,
        last_ns=finding.at_ns,
        active=finding.active,
        value=finding.value,
        peak=seen.peak,
        low=finding.low,
        high=finding.high,
        score=finding.score,
        contribution=finding.contribution,
        reason=finding.reason,
    )
