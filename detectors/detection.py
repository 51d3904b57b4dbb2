"""
Detection: records and ticks in, anomalies out.

Rows go to the detectors in journal order, each tag's rows one after the other. Time passes at ticks only, and
revisions of anomalies are made there, so that the output does not depend on how the stream is cut into batches.
The tick clock counts the time between ticks, each interval for 10 s at most: a jump of the host's clock, or hours
in which nothing ran, make nothing stale and close nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.arrivals import arrivals
from detectors.base import BadState, Rows, UnknownMap
from detectors.detection_saved import Saved, read
from detectors.episode import Seen
from detectors.multivariate_told import Change
from detectors.options import DetectionOptions
from detectors.panel import Said
from detectors.parameters import MapView, equipment_of
from detectors.parts import Parts
from detectors.suppression import Suppressor
from schemas.anomaly import Anomaly, Finding
from schemas.columns import Index, rounds
from schemas.entries import Link
from schemas.records import RecordBatch
from schemas.status import UNCERTAIN_EU_EXCEEDED, Flag
from schemas.tagmap import TagMap

__all__ = ["Detection", "DetectionOptions"]

_MAPS_KEPT: Final = 4
_NOT_FED: Final = np.uint32(Flag.LATE | Flag.CORNER | Flag.RETAINED | Flag.NO_CHANGE_CONFIRMED)
_CUT: Final = np.uint32(Flag.CLAMPED | Flag.OUT_OF_RANGE)


class Detection:
    """
    All detectors and the episodes made of their findings; state per tag follows the stable ``Tag.id``.

    The maps are not part of the state: :meth:`use_map` is called for the one in force, before or after
    :meth:`restore`. ``suppressor`` keeps its own state, which outlives one of detection that cannot be read.
    """

    def __init__(self, options: DetectionOptions) -> None:
        self._options = options
        self.suppressor = Suppressor()
        self._suppressed = 0  # version of the suppressor's decisions that episodes follow
        self._maps: dict[bytes, MapView] = {}
        self._pending: Saved | None = None
        self._pending_models = b""
        self._begin()

    def _begin(self) -> None:
        self._parts = Parts(self._options)
        self._conditional: dict[int, str] = {}  # slots of the tags that rules of suppression look at

    def use_map(self, revision: bytes, tag_map: TagMap) -> None:
        """
        Put a map into force that was read from the journal.

        What was learned of a tag is kept where its meaning stayed the same; the findings of tags that are gone, or
        mean something else now, are over at the next tick. Raises ValueError where a tag's number is not its
        position in the map.
        """
        if not self._options.enabled:
            if self._pending is not None and self._pending.revision != revision:
                # Nobody would know the state's map any more when detection is switched on again.
                self._pending = None
            return
        view = self._maps.pop(revision, None) or MapView(tag_map)
        self._maps[revision] = view
        if self._pending is not None:
            if revision == self._pending.revision:
                pending, self._pending = self._pending, None
                self._load(pending, self._pending_models)
            return
        if len(self._maps) > _MAPS_KEPT:
            self._forget(next(iter(self._maps)))
        self._enforce(revision)

    def _enforce(self, revision: bytes) -> None:
        """Bind a known map; tags that mean something else than before begin anew."""
        self._bind(revision)
        self._parts.begin_anew()

    def records(self, batch: RecordBatch) -> list[Anomaly]:
        """
        Feed one batch; the list is empty, since revisions are made at the next tick.

        Raises:
            UnknownMap: the batch's map revision or one of its tag numbers is not known.
        """
        if not self._options.enabled or len(batch) == 0:
            return []
        view = self._view(batch)
        slot = view.slot[batch.tag]
        same = view.form[batch.tag] == self._parts.common.form[slot]
        known = same & self._parts.panel.parameters.fed[slot]
        said = arrivals(batch, slot, known, self._parts.panel, self._parts.now_ns, self._parts.wall_ns)
        status = batch.status & np.uint32(0xFFFF0000)
        usable = ((status >> np.uint32(30)) == 0) | (status == np.uint32(UNCERTAIN_EU_EXCEEDED))
        usable &= ((batch.flags & _NOT_FED) == 0) & ~np.isnan(batch.value)
        if self._conditional:
            self._note(batch, slot, usable, same & ((batch.flags & _NOT_FED) == 0))
        watched = np.flatnonzero(usable & same & self._parts.context.watched[slot])
        changes = watched[self._parts.context.changes(slot[watched], batch.value[watched])].tolist()
        rows = np.flatnonzero(usable & known)
        start = 0
        for change in changes:
            stop = int(np.searchsorted(rows, change))
            self._feed(batch, slot, rows[start:stop], said)
            self._change(int(slot[change]), float(batch.value[change]), change, int(batch.source_ns[change]), said)
            start = stop
        self._feed(batch, slot, rows[start:], said)
        said.sort(key=lambda item: item[:3])
        self._take(said)
        return []

    def _note(self, batch: RecordBatch, slot: Index, usable: NDArray[np.bool_], current: NDArray[np.bool_]) -> None:
        """Tell the suppressor the latest value of each tag that its rules look at; NaN where it cannot be used."""
        places = np.fromiter(self._conditional, np.intp, len(self._conditional))
        rows = np.flatnonzero(current & np.isin(slot, places))
        for place, row in dict(zip(slot[rows].tolist(), rows.tolist(), strict=True)).items():
            self.suppressor.note(self._conditional[place], float(batch.value[row]) if usable[row] else math.nan)

    def _note_silent(self) -> None:
        """Tell the suppressor which of the tags that its rules look at are not heard."""
        places = np.fromiter(self._conditional, np.intp, len(self._conditional))
        parts = self._parts
        unheard = parts.panel.missing.unheard(places, parts.now_ns, parts.panel.parameters, parts.common.joined_ns)
        self.suppressor.silent(self._conditional[place] for place in places[unheard].tolist())

    def tick(self, wall_ns: int) -> list[Anomaly]:
        """
        Let time pass up to *wall_ns* (UTC); the revisions that are due now.

        The suppressor's own tick comes before, with the same time.
        """
        if not self._options.enabled:
            return []
        self._ready()
        self._parts.pass_time(wall_ns)
        decided, self._suppressed = self._suppressed != self.suppressor.version, self.suppressor.version
        said = self._shut(wall_ns) if decided else []
        self._parts.pausing.tick(self._parts.now_ns, self._parts.panel.parameters, self._parts.wrong())
        said += self._parts.panel.tick(self._parts.now_ns, wall_ns, self._parts.last_rows())
        if self._conditional:
            self._note_silent()
        self._take(said)
        self._take_changes(self._together())
        if decided:
            self._parts.episodes.reroute(self.suppressor.cause, self._parts.now_ns, wall_ns)
        return self._parts.episodes.tick(self._parts.now_ns, self._observe)

    def _shut(self, wall_ns: int) -> list[Said]:
        """Close or open the gate of equipment that the calendar or people took out of service, or gave back."""
        said: list[Said] = []
        for path in self._parts.context.hold(self.suppressor.off, self.suppressor.maintained, self._parts.now_ns):
            if path in self._parts.panel.parameters.equipments:
                said += self._close_gate(path, 0, wall_ns)
        return said

    def _close_gate(self, path: str, row: int, time_ns: int) -> list[Said]:
        """What was found behind the gate of this equipment is over."""
        slots = self._slots_of(path)
        said = self._parts.panel.close_gate(slots, not self._parts.context.runs(path), row, time_ns)
        if self._parts.multivariate is not None:
            said += [Said(row, -1, at.place, at.seen) for at in self._parts.multivariate.close_gate(slots, time_ns)]
        return said

    def _slots_of(self, path: str) -> Index:
        parameters = self._parts.panel.parameters
        return np.flatnonzero(parameters.known & (parameters.equipment == parameters.equipments.index(path)))

    def _together(self) -> list[Change]:
        """What the multivariate detector says of the last values."""
        if self._parts.multivariate is None or len(self._parts.slots) == 0:
            return []
        return self._parts.multivariate.tick(self._parts.now_ns, self._parts.snapshot())

    def active(self) -> list[Finding]:
        """The conditions that detectors see now, by slot and detector; the episodes hold what was told of them."""
        found = self._parts.panel.active()
        if self._parts.multivariate is not None:
            places = np.flatnonzero(self._parts.multivariate.conditions.active)
            found += [self._parts.multivariate.seen(place).finding for place in places.tolist()]
        return found

    def link(self, link: Link, wall_ns: int) -> list[Anomaly]:
        """
        Take note that a source came up or went down; no time passes, and the list is empty.

        A source that is down is a gap with its cause: its tags are not missing one by one, and those that were are
        no longer.
        """
        if not self._options.enabled:
            return []
        self._ready()
        self._parts.panel.missing.linked(link.source, link.up, self._parts.now_ns)
        if not link.up:
            self._take(self._parts.panel.link_down(link.source, self._parts.now_ns, wall_ns))
        return []

    def state(self, *, models: bool = True) -> bytes:
        """
        Everything that the next output depends on, but the maps: msgpack, up to 2 KiB a tag while it learns.

        Without *models* what :meth:`models` gives is left out, and has to be saved beside it.
        """
        if self._pending is not None:
            return msgspec.msgpack.encode(self._pending)
        return msgspec.msgpack.encode(self._parts.dump(models=models))

    def models(self) -> bytes:
        """
        What the multivariate detector has learned, msgpack; belongs to :meth:`state`, apart because it seldom changes.

        The same object until something was learned or dropped: up to 1 KiB a tag, which need not be saved each time.
        """
        if self._pending is not None:
            return self._pending.models or self._pending_models
        return self._parts.models()

    def restore(self, state: bytes, models: bytes = b"") -> None:
        """
        Go on from a saved state; what follows is bit-identical. Detectors switched on since then begin anew.
        *models* are those that the state was saved without.

        Where the state's map is not known yet, the state takes effect with the :meth:`use_map` that names it; where
        newer maps are known, or it was saved without one, the newest is in force. While detection is switched off the
        state is kept as it is, until another map than its own comes into force.

        Raises BadState when the state is of another version or damaged; the stage then begins anew, or goes on.
        """
        saved = read(state)
        self._pending = None
        if saved.revision and saved.revision not in self._maps:
            self._pending, self._pending_models = saved, models
        else:
            self._load(saved, models)

    def _load(self, saved: Saved, models: bytes) -> None:
        self._begin()
        try:
            self._parts.load(saved)
            if saved.revision:
                self._bind(saved.revision)
            self._parts.load_models(saved, models)
        except BadState:
            self._begin()
            self._enforce_newest(b"")
            raise
        self._enforce_newest(saved.revision)

    def _enforce_newest(self, bound: bytes) -> None:
        """Bind the newest known map where a state was saved under none, or under an older one."""
        newest = next(reversed(self._maps), bound)
        if newest != bound:
            self._enforce(newest)

    def _bind(self, revision: bytes) -> None:
        view = self._maps[revision]
        self._parts.bind(revision, view, self._maps.values())
        self.suppressor.use_map(view.tag_map, self._parts.panel.parameters.equipments)
        places = ((self._parts.slots.find(tag.id), tag.path) for tag in view.tag_map.tags)
        self._conditional = {at: path for at, path in places if at is not None and path in self.suppressor.watched}

    def _forget(self, revision: bytes) -> None:
        gone = set(self._maps.pop(revision).ids)
        gone.difference_update(*(view.ids for view in self._maps.values()))
        self._parts.drop(gone)

    def _ready(self) -> None:
        if self._pending is not None:
            raise UnknownMap(f"map revision {self._pending.revision.hex()} of the saved state was not put into force")

    def _view(self, batch: RecordBatch) -> MapView:
        self._ready()
        view = self._maps.get(batch.map_revision)
        if view is None:
            raise UnknownMap(f"map revision {batch.map_revision.hex()} of source {batch.source!r} was never read")
        if not 0 <= int(batch.tag.min()) <= int(batch.tag.max()) < len(view.ids):
            raise UnknownMap(f"source {batch.source!r} names a tag outside 0..{len(view.ids) - 1} of its map")
        return view

    def _feed(self, batch: RecordBatch, slot: Index, at: Index, said: list[Said]) -> None:
        """Feed the rows between two changes of context."""
        if len(at) == 0:
            return
        running, steady = self._parts.gated()
        common = self._parts.common
        suspect = (batch.flags & np.uint32(Flag.CLOCK_SUSPECT)) != 0
        cut = (batch.flags & _CUT) == _CUT
        for turn in rounds(slot[at]):
            rows = at[turn]
            place = slot[rows]
            # The same value at the same time is the same row, delivered twice: it says nothing new.
            moved = batch.source_ns[rows] > common.row_ns[place]
            again = ~moved & (batch.source_ns[rows] == common.row_ns[place])
            again &= batch.value[rows] == common.row_value[place]
            if self._parts.panel.stale is not None:
                back = self._parts.panel.stale.arrived(place, batch.value[rows], moved, self._parts.now_ns)
                self._over("stale", back, rows, place, said)
            if again.any():
                rows, place = rows[~again], place[~again]
            time_ns, value = batch.source_ns[rows], batch.value[rows]
            common.fed_ns[place], common.row_ns[place], common.row_value[place] = self._parts.now_ns, time_ns, value
            piece = Rows(place, time_ns, value, suspect[rows], cut[rows], running[place], steady[place])
            self._parts.panel.feed(piece, rows, self._parts.learning(), said)

    def _over(self, name: str, ended: Index, rows: Index, place: Index, said: list[Said]) -> None:
        """Tell that conditions of these slots are over at their rows."""
        if len(ended):
            row_of = dict(zip(place.tolist(), rows.tolist(), strict=True))
            said += [Said(row_of[at], -2, at, self._parts.panel.seen(name, at)) for at in ended.tolist()]

    def _change(self, slot: int, value: float, row: int, time_ns: int, said: list[Said]) -> None:
        """Take a change of equipment state or set point."""
        touched, moved = self._parts.context.apply(slot, value, self._parts.now_ns)
        self._parts.gates = None
        parameters = self._parts.panel.parameters
        for path in touched:
            if path not in parameters.equipments:
                continue
            said += self._close_gate(path, row, time_ns)
            if path in moved:
                # What was learned holds for the old set point.
                said += self._parts.panel.relearn(self._slots_of(path), row, time_ns)

    def _take_changes(self, changes: Iterable[Change]) -> None:
        self._take(Said(0, 0, change.place, change.seen) for change in changes)

    def _take(self, said: Iterable[Said]) -> None:
        for item in said:
            number = item.seen.finding.tag
            if number >= 0:
                tag = self._parts.panel.parameters.tags[number]
                equipment, finding = equipment_of(tag), item.seen.finding
                cause = self.suppressor.cause(tag.path, equipment, finding.kind, count=finding.active)
                mate = self._parts.panel.parameters.mates.get(tag.id)
                self._parts.episodes.take(item.seen, tag, equipment, self._parts.now_ns, cause, mate)

    def _observe(self, tag_id: str, detector: str) -> Seen | None:
        place = self._parts.slots.find(tag_id)
        if place is not None and self._parts.multivariate is not None and detector == self._parts.multivariate.name:
            return self._parts.multivariate.seen(place) if self._parts.multivariate.conditions.active[place] else None
        if place is None or not self._parts.panel.is_active(detector, place):
            return None
        return self._parts.panel.seen(detector, place)
