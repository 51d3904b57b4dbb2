"""
Episodes: findings close in time on one piece of equipment become one anomaly.

* A finding joins the episode whose last beginning or end of a member lies within the group window, or within twenty
  scans of its tag: what is sampled slowly is seen late, and by as much apart.
* A finding that began while its tag, or the other tag of its control loop (process value or output), was an active
  member of an episode that is still open joins that one, however late: two detectors that see one tag's shift are one
  anomaly, and so is what a controller makes of it.
* A member that comes back joins its own episode as long as that is open, so that a flapping condition does not open
  another.
* What rose and what fell are two members, also of one tag and detector, in one episode: each has its own onset, peak
  and band. So are a spread that jumped and one that is all but gone, and a tag that sends nothing and one that sends
  only bad values.
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
from typing import Final

import msgspec

from detectors.episode import Episode, Key, MemberState, Seen, key_of, new_member
from detectors.severity import assess
from schemas.anomaly import Anomaly, Cause, Direction, Kind, Severity
from schemas.tagmap import Tag

_GROWTH_EVERY_NS: Final = 10_000_000_000
_PEAK_EVERY_NS: Final = 30_000_000_000
#: Above so many active members they are looked at only when a revision may be due.
_FEW: Final = 50
#: The interval of peak revisions doubles with every so many revisions, at most so often.
_SLOWER_EVERY: Final = 16
_SLOWEST: Final = 6
#: More episodes than this on one piece of equipment at once are no help to anyone; the newest takes what comes.
_MOST_OPEN: Final = 8
_GROUP_SCANS: Final = 20
_OPPOSITE: Final[dict[Direction, Direction]] = {
    "rose": "fell",
    "fell": "rose",
    "jumped": "flat",
    "flat": "jumped",
    "silent": "bad",
    "bad": "silent",
}

#: The condition of a tag under a detector: ``observe(tag_id, detector)``, None when there is none.
Observe = Callable[[str, str], Seen | None]


#: Why a member is suppressed: ``cause(path, equipment, kind)``, None where it is not.
CauseOf = Callable[[str, str, Kind], Cause | None]


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
        self._open: dict[str, list[Episode]] = {}
        self._places: dict[Key, tuple[Episode, MemberState]] = {}
        self._by_tag: dict[tuple[str, str], list[Key]] = {}  # the keys of the places, by equipment and tag id

    def take(
        self, seen: Seen, tag: Tag, equipment: str, now_ns: int, cause: Cause | None = None, mate: str | None = None
    ) -> None:
        """
        Put a finding that began, or is over, where it belongs.

        *now_ns* is the tick clock; *cause* says why it is suppressed now; *mate* is the other tag of its control loop.
        """
        finding = seen.finding
        key: Key = (equipment, tag.id, finding.detector, finding.direction)
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
                else self._beside(equipment, (tag.id, mate), finding.onset_ns, cause)
                or self._join(finding.kind, name, equipment, now_ns, cause, tag.scan_ms)
            )
            member = new_member(seen, tag)
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

    def _move(self, episode: Episode, member: MemberState, cause: Cause | None, now_ns: int, wall_ns: int) -> None:
        key = key_of(episode.equipment, member)
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

    def _back(self, key: Key, cause: Cause | None) -> tuple[Episode, MemberState] | None:
        """The open episode that a condition left for another cause, and that it comes back to."""
        for home in self._open.get(key[0], []):
            member = home.holds(key) if home.suppressed == cause else None
            if member is not None:
                member.left = False
                self._place(key, home, member)
                return home, member
        return None

    def _place(self, key: Key, episode: Episode, member: MemberState) -> None:
        if key not in self._places:
            self._by_tag.setdefault(key[:2], []).append(key)
        self._places[key] = (episode, member)

    def _beside(
        self, equipment: str, tags: tuple[str, str | None], onset_ns: int, cause: Cause | None
    ) -> Episode | None:
        """The open episode in which another condition of one of these tags was active when this one began."""
        for tag_id in tags:
            for key in self._by_tag.get((equipment, tag_id), ()) if tag_id else ():
                episode, member = self._places[key]
                if episode.suppressed == cause and (member.active or member.last_ns >= onset_ns):
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
        self._open = msgspec.msgpack.decode(saved, type=dict[str, list[Episode]])
        self._places, self._by_tag = {}, {}
        for episode in [episode for found in self._open.values() for episode in found]:
            for member in episode.members:
                if not member.left:
                    self._place(key_of(episode.equipment, member), episode, member)

    def _join(
        self, kind: Kind, name: tuple[str, ...], equipment: str, now_ns: int, cause: Cause | None, scan_ms: int = 0
    ) -> Episode:
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
        episode = Episode(anomaly_id, equipment, kind, [], now_ns, now_ns, suppressed=cause)
        opened.append(episode)
        return episode

    def _look(self, episode: Episode, now_ns: int, observe: Observe) -> Anomaly | None:
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
        episode.told_ns = now_ns
        if closes:
            self._close(episode)
        return episode.told(severity, ne107, closed=closes)

    @staticmethod
    def _observe(episode: Episode, active: list[MemberState], observe: Observe) -> None:
        for member in active:
            seen = observe(member.tag_id, member.detector)
            if seen is None:
                # The tag left the map, or means something else now.
                member.active, episode.changed = False, True
            else:
                episode.changed |= member.take(seen)

    def _close(self, episode: Episode) -> None:
        episodes = self._open[episode.equipment]
        episodes.remove(episode)
        if not episodes:
            del self._open[episode.equipment]
        for member in episode.members:
            key = key_of(episode.equipment, member)
            if self._places.get(key, (None,))[0] is episode:
                del self._places[key]
                keys = self._by_tag[key[:2]]
                keys.remove(key)
                if not keys:
                    del self._by_tag[key[:2]]
