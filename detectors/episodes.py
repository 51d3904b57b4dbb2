"""
Episodes: findings close in time on one piece of equipment become one anomaly.

* A finding joins the episode whose last beginning or end of a member lies within the group window; a member that
  comes back joins its own episode as long as that is open, so that a flapping condition does not open another.
* What rose and what fell are two members, also of one tag and detector, in one episode: each has its own onset, peak
  and band.
* An episode closes when no member was active for ``close_after``.
* Revisions are made at ticks only: at once for the first one, a graver severity and the closing, every 10 s for new
  members, every 30 s for new peaks and members that ended. So a storm is a handful of revisions.

Grouping and closing count ticks; onset, update and closing times are those of the members.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from detectors.severity import assess
from schemas.anomaly import Anomaly, Direction, Finding, Kind, Member, Severity
from schemas.tagmap import Tag

_GROWTH_EVERY_NS: Final = 10_000_000_000
_PEAK_EVERY_NS: Final = 30_000_000_000
_NEW_PEAK: Final = 1.05
#: A peak is told again when its distance has grown by so much.
_FURTHER: Final = 1.5
#: Above so many active members they are looked at only when a revision may be due.
_FEW: Final = 50
#: The interval of peak revisions doubles with every so many revisions, at most so often.
_SLOWER_EVERY: Final = 16
_SLOWEST: Final = 6
#: More episodes than this on one piece of equipment at once are no help to anyone; the newest takes what comes.
_MOST_OPEN: Final = 8
_OPPOSITE: Final[dict[Direction, Direction]] = {"rose": "fell", "fell": "rose"}


class Seen(NamedTuple):
    """A condition as it stands: its finding, and the value that went furthest."""

    finding: Finding
    peak: float | None


#: The condition of a tag under a detector: ``observe(tag_id, detector)``, None when there is none.
Observe = Callable[[str, str], Seen | None]


#: Equipment, tag id, detector and direction.
_Key = tuple[str, str, str, Direction]


class _Member(msgspec.Struct):
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
        moves = self.direction in _OPPOSITE
        anew = moves and (finding.low, finding.high) != (self.low, self.high)
        worse = finding.score > self.score
        further = self._further(seen.peak)
        told |= anew or further >= _FURTHER or finding.score > self.score * _NEW_PEAK
        if anew or (moves and further > 1) or (worse and not moves) or self.peak is None:
            self.peak = seen.peak
        if anew or worse:
            self.score, self.low, self.high = finding.score, finding.low, finding.high
            self.contribution = finding.contribution
        return told

    def end(self, at_ns: int) -> None:
        """The condition is over at this time, because its opposite has begun."""
        self.active, self.last_ns = False, max(self.last_ns, at_ns)

    def _further(self, peak: float | None) -> float:
        """Distance of a peak from the middle of the band (its only end), in multiples of that of the peak so far."""
        ends = [end for end in (self.low, self.high) if end is not None]
        if peak is None or self.peak is None or not ends:
            return 1.0
        middle = sum(ends) / len(ends)
        far = abs(self.peak - middle)
        return abs(peak - middle) / far if far > 0 else _FURTHER

    def frozen(self) -> Member:
        return Member.model_construct(**{name: getattr(self, name) for name in self.__struct_fields__})


class _Episode(msgspec.Struct):
    anomaly_id: str
    equipment: str
    kind: Kind
    members: list[_Member]
    touched_ns: int  #: last beginning or end of a member, tick clock
    active_ns: int  #: last time a member was active, tick clock
    told_ns: int = 0  #: last revision, tick clock
    revision: int = -1
    severity: int = int(Severity.LOW)
    grown: bool = True
    changed: bool = False


class Episodes:
    """
    Open episodes of all equipment.

    Args:
        group_window_s: findings this close in time on one piece of equipment belong together.
        close_after_s: quiet time after which an episode is over.
    """

    def __init__(self, group_window_s: float, close_after_s: float) -> None:
        self._group_window_ns = round(group_window_s * 1e9)
        self._close_after_ns = round(close_after_s * 1e9)
        self._open: dict[str, list[_Episode]] = {}
        self._places: dict[_Key, tuple[_Episode, _Member]] = {}

    def take(self, seen: Seen, tag: Tag, equipment: str, now_ns: int) -> None:
        """Put a finding that began, or is over, where it belongs. *now_ns* is the tick clock."""
        finding = seen.finding
        key: _Key = (equipment, tag.id, finding.detector, finding.direction)
        place = self._places.get(key)
        other = self._places.get((*key[:3], _OPPOSITE.get(finding.direction, finding.direction)))
        if place is not None:
            episode, member = place
            episode.changed |= member.take(seen)
        elif finding.active:
            episode = self._join(finding, tag, equipment, now_ns) if other is None else other[0]
            member = _new_member(seen, tag)
            episode.members.append(member)
            episode.grown = True
            self._places[key] = (episode, member)
        else:
            return
        if finding.active and other is not None and other[1] is not member and other[1].active:
            other[1].end(finding.onset_ns)
            other[0].changed = True
        episode.touched_ns = episode.active_ns = now_ns

    def tick(self, now_ns: int, observe: Observe) -> list[Anomaly]:
        """Revisions that are due at this tick."""
        episodes = [episode for found in self._open.values() for episode in found]
        looked = [self._look(episode, now_ns, observe) for episode in episodes]
        return [anomaly for anomaly in looked if anomaly is not None]

    def dump(self) -> bytes:
        """All open episodes, msgpack."""
        return msgspec.msgpack.encode(self._open)

    def load(self, saved: bytes) -> None:
        """Inverse of :meth:`dump`. Raises msgspec.MsgspecError."""
        self._open = msgspec.msgpack.decode(saved, type=dict[str, list[_Episode]])
        self._places = {
            (episode.equipment, member.tag_id, member.detector, member.direction): (episode, member)
            for episodes in self._open.values()
            for episode in episodes
            for member in episode.members
        }

    def _join(self, finding: Finding, tag: Tag, equipment: str, now_ns: int) -> _Episode:
        episodes = self._open.setdefault(equipment, [])
        if episodes:
            latest = max(episodes, key=lambda episode: episode.touched_ns)
            if now_ns - latest.touched_ns <= self._group_window_ns or len(episodes) >= _MOST_OPEN:
                return latest
        name = "\0".join((equipment, finding.detector, tag.id, str(finding.onset_ns)))
        anomaly_id = hashlib.sha256(name.encode()).hexdigest()[:32]
        episode = _Episode(anomaly_id, equipment, finding.kind, [], now_ns, now_ns)
        episodes.append(episode)
        return episode

    def _look(self, episode: _Episode, now_ns: int, observe: Observe) -> Anomaly | None:
        since = now_ns - episode.told_ns
        peak_every_ns = _PEAK_EVERY_NS << min(max(episode.revision, 0) // _SLOWER_EVERY, _SLOWEST)
        active = [member for member in episode.members if member.active]
        if active:
            episode.active_ns = now_ns
            if len(active) <= _FEW or since >= peak_every_ns or episode.grown:
                self._observe(episode, active, observe)
        closes = now_ns - episode.active_ns >= self._close_after_ns
        fresh = episode.revision < 0
        if not (closes or fresh or episode.grown or episode.changed):
            return None
        severity, ne107 = assess(episode.members)
        severity = min(severity, Severity(episode.severity))
        due = closes or fresh or severity < episode.severity
        due |= episode.grown and since >= _GROWTH_EVERY_NS
        due |= episode.changed and since >= peak_every_ns
        if not due:
            return None
        episode.revision += 1
        episode.severity, episode.told_ns = int(severity), now_ns
        episode.grown = episode.changed = False
        if closes:
            self._close(episode)
        members = sorted(episode.members, key=lambda member: member.onset_ns)
        last_ns = max(member.last_ns for member in members)
        return Anomaly(
            anomaly_id=episode.anomaly_id,
            revision=episode.revision,
            equipment=episode.equipment,
            state="closed" if closes else "open",
            kind=episode.kind,
            severity=severity,
            ne107=ne107,
            onset_ns=members[0].onset_ns,
            updated_ns=last_ns,
            closed_ns=last_ns if closes else None,
            detector_score=max(member.score for member in members),
            members=tuple(member.frozen() for member in members),
        )

    @staticmethod
    def _observe(episode: _Episode, active: list[_Member], observe: Observe) -> None:
        for member in active:
            seen = observe(member.tag_id, member.detector)
            if seen is None:
                # The tag left the map, or means something else now.
                member.active, episode.changed = False, True
            else:
                episode.changed |= member.take(seen)

    def _close(self, episode: _Episode) -> None:
        episodes = self._open[episode.equipment]
        episodes.remove(episode)
        if not episodes:
            del self._open[episode.equipment]
        for member in episode.members:
            self._places.pop((episode.equipment, member.tag_id, member.detector, member.direction), None)


def _new_member(seen: Seen, tag: Tag) -> _Member:
    finding = seen.finding
    return _Member(
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
    )
