"""
Episodes: findings close in time on one piece of equipment become one anomaly.

* A finding joins the episode whose last beginning or end of a member lies within the group window, or within twenty
  scans of its tag: what is sampled slowly is seen late, and by as much apart.
* A finding on a tag that is an active member of an open episode joins that one, however late: two detectors that see
  one tag's shift are one anomaly.
* A member that comes back joins its own episode as long as that is open, so that a flapping condition does not open
  another.
* What rose and what fell are two members, also of one tag and detector, in one episode: each has its own onset, peak
  and band. So are a spread that jumped and one that is all but gone.
* An episode closes when no member was active for ``close_after``.
* What is suppressed (:mod:`detectors.suppression`) becomes episodes of its own, apart by the cause. A condition that
  comes under a suppression, or out of it, leaves one episode and goes on in another; an episode that all have left
  closes at once.
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
from schemas.anomaly import Anomaly, Cause, Direction, Finding, Kind, Member, Severity
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
_GROUP_SCANS: Final = 20
_OPPOSITE: Final[dict[Direction, Direction]] = {"rose": "fell", "fell": "rose", "jumped": "flat", "flat": "jumped"}
#: Directions in which a value goes further and further.
_WAYS: Final[frozenset[Direction]] = frozenset(("rose", "fell"))


class Seen(NamedTuple):
    """A condition as it stands: its finding, and the value that went furthest."""

    finding: Finding
    peak: float | None


#: The condition of a tag under a detector: ``observe(tag_id, detector)``, None when there is none.
Observe = Callable[[str, str], Seen | None]


#: Why a member is suppressed: ``cause(path, equipment, kind)``, None where it is not.
CauseOf = Callable[[str, str, Kind], Cause | None]

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
        return Member.model_construct(**{name: getattr(self, name) for name in Member.model_fields})


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
    suppressed: Cause | None = None

    def holds(self, key: _Key) -> _Member | None:
        """The member of a condition, if it was ever in this episode."""
        return next((member for member in self.members if _key(self.equipment, member) == key), None)


def _key(equipment: str, member: _Member) -> _Key:
    return equipment, member.tag_id, member.detector, member.direction


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
        self._by_tag: dict[tuple[str, str], list[_Key]] = {}  # the keys of the places, by equipment and tag id

    def take(self, seen: Seen, tag: Tag, equipment: str, now_ns: int, cause: Cause | None = None) -> None:
        """
        Put a finding that began, or is over, where it belongs.

        *now_ns* is the tick clock; *cause* says why it is suppressed now.
        """
        finding = seen.finding
        key: _Key = (equipment, tag.id, finding.detector, finding.direction)
        place = self._places.get(key)
        other = self._places.get((*key[:3], _OPPOSITE.get(finding.direction, finding.direction)))
        if place is not None and finding.active and place[0].suppressed != cause:
            # it ended before the suppression began, or was over: what comes back belongs elsewhere
            place[1].left = True
            place = self._back(key, cause)
        if place is not None:
            episode, member = place
            episode.changed |= member.take(seen)
        elif finding.active:
            together = other is not None and other[0].suppressed == cause
            name = (finding.detector, tag.id, str(finding.onset_ns))
            episode = (
                other[0]
                if other and together
                else self._beside(equipment, tag.id, cause)
                or self._join(finding.kind, name, equipment, now_ns, cause, tag.scan_ms)
            )
            member = _new_member(seen, tag)
            episode.members.append(member)
            episode.grown = True
            self._place(key, episode, member)
        else:
            return
        if finding.active and other is not None and other[1] is not member and other[1].active:
            other[1].end(finding.onset_ns)
            other[0].changed = True
        episode.touched_ns = episode.active_ns = now_ns

    def reroute(self, cause: CauseOf, now_ns: int, wall_ns: int) -> None:
        """
        Let active members, and those of which nothing was told yet, go where they belong now.

        Call it before :meth:`tick` when what is suppressed has changed.
        """
        for episode in [episode for found in self._open.values() for episode in found]:
            movable = [member for member in episode.members if member.active or episode.revision < 0]
            leaving = [
                (member, now)
                for member in movable
                if (now := cause(member.path, episode.equipment, member.kind)) != episode.suppressed
            ]
            for member, now in leaving:
                self._move(episode, member, now, now_ns, wall_ns)
            if leaving and episode.revision < 0 and not episode.members:
                self._close(episode)
            elif leaving and not any(member.active for member in episode.members):
                episode.active_ns = now_ns - self._close_after_ns

    def _move(self, episode: _Episode, member: _Member, cause: Cause | None, now_ns: int, wall_ns: int) -> None:
        key = _key(episode.equipment, member)
        moved = msgspec.structs.replace(member)
        if episode.revision < 0:
            episode.members.remove(member)
        else:
            member.end(wall_ns)
            episode.changed = True
        member.left = True
        home, back = self._back(key, cause) or (None, None)
        if home is not None and back is not None:
            back.active, back.value, back.last_ns = moved.active, moved.value, max(back.last_ns, moved.last_ns)
        else:
            name = (member.detector, member.tag_id, str(member.onset_ns), str(now_ns))
            home = self._join(member.kind, name, episode.equipment, now_ns, cause)
            home.members.append(moved)
            home.grown = True
            self._place(key, home, moved)
        home.changed = True
        home.touched_ns = home.active_ns = now_ns

    def _back(self, key: _Key, cause: Cause | None) -> tuple[_Episode, _Member] | None:
        """The open episode that a condition left for another cause, and that it comes back to."""
        for home in self._open.get(key[0], []):
            member = home.holds(key) if home.suppressed == cause else None
            if member is not None:
                member.left = False
                self._place(key, home, member)
                return home, member
        return None

    def _place(self, key: _Key, episode: _Episode, member: _Member) -> None:
        if key not in self._places:
            self._by_tag.setdefault(key[:2], []).append(key)
        self._places[key] = (episode, member)

    def _beside(self, equipment: str, tag_id: str, cause: Cause | None) -> _Episode | None:
        """The open episode in which another condition of this tag is active."""
        for key in self._by_tag.get((equipment, tag_id), ()):
            episode, member = self._places[key]
            if member.active and episode.suppressed == cause:
                return episode
        return None

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
        self._places, self._by_tag = {}, {}
        for episode in [episode for found in self._open.values() for episode in found]:
            for member in episode.members:
                if not member.left:
                    self._place(_key(episode.equipment, member), episode, member)

    def _join(
        self, kind: Kind, name: tuple[str, ...], equipment: str, now_ns: int, cause: Cause | None, scan_ms: int = 0
    ) -> _Episode:
        """The episode to which a condition belongs; *name* tells a new one from every other of the equipment."""
        opened = self._open.setdefault(equipment, [])
        episodes = [episode for episode in opened if episode.suppressed == cause]
        if episodes:
            latest = max(episodes, key=lambda episode: episode.touched_ns)
            window_ns = max(self._group_window_ns, _GROUP_SCANS * scan_ms * 1_000_000)
            if now_ns - latest.touched_ns <= window_ns or len(episodes) >= _MOST_OPEN:
                return latest
        parts = (equipment, *name, *([cause] if cause else []))
        anomaly_id = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
        episode = _Episode(anomaly_id, equipment, kind, [], now_ns, now_ns, suppressed=cause)
        opened.append(episode)
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
        severity, ne107 = assess(episode.members, worked_on=episode.suppressed == "maintenance")
        severity = min(severity, Severity(episode.severity))
        due = closes or fresh or severity < episode.severity
        due |= episode.grown and since >= _GROWTH_EVERY_NS
        due |= episode.changed and since >= peak_every_ns
        if not due:
            return None
        episode.revision += 1
        episode.severity, episode.told_ns = int(severity), now_ns
        episode.grown = episode.changed = False
        for member in episode.members:
            member.told_peak = member.peak
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
            suppressed=episode.suppressed,
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
            key = _key(episode.equipment, member)
            if self._places.get(key, (None,))[0] is episode:
                del self._places[key]
                keys = self._by_tag[key[:2]]
                keys.remove(key)
                if not keys:
                    del self._by_tag[key[:2]]


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
        reason=finding.reason,
    )
