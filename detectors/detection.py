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

from detectors.base import BadState, Rows, UnknownMap
from detectors.context import Context, EquipmentState
from detectors.episodes import Episodes, Seen
from detectors.missing import SourceLink
from detectors.multivariate import Change, Multivariate, Snapshot
from detectors.options import DetectionOptions
from detectors.panel import LastRows, Panel, Said
from detectors.parameters import MapView, Parameters, equipment_of
from detectors.suppression import Suppressor
from detectors.timing import SourceRows
from schemas.anomaly import Anomaly, Finding
from schemas.columns import Columns, Index, Slots, column, rounds
from schemas.entries import Link
from schemas.records import RecordBatch
from schemas.samples import Origin
from schemas.status import UNCERTAIN_EU_EXCEEDED, Flag
from schemas.tagmap import TagMap

__all__ = ["Detection", "DetectionOptions"]

_MAPS_KEPT: Final = 4
_VERSION: Final = 2
_LONGEST_TICK_NS: Final = 10_000_000_000
_NOT_FED: Final = np.uint32(Flag.LATE | Flag.CORNER | Flag.RETAINED)
_CUT: Final = np.uint32(Flag.CLAMPED | Flag.OUT_OF_RANGE)
_NOT_ARRIVED: Final = np.uint32(Flag.CORNER | Flag.RETAINED | Flag.BACKFILL)


class _Common(Columns):
    form: NDArray[np.int64] = column(np.int64)
    joined_ns: NDArray[np.int64] = column(np.int64)
    fed_ns: NDArray[np.int64] = column(np.int64)
    row_ns: NDArray[np.int64] = column(np.int64, np.iinfo(np.int64).min)  #: device time of the last row fed
    row_value: NDArray[np.float64] = column(np.float64, np.nan)


class _Saved(msgspec.Struct):
    version: int
    revision: bytes
    ids: list[str]
    now_ns: int
    wall_ns: int
    columns: dict[str, dict[str, bytes]]
    points: bytes
    links: dict[str, SourceLink]
    equipment: dict[str, EquipmentState]
    episodes: bytes
    timings: dict[str, tuple[int, dict[str, SourceRows]]]
    slow_trend: tuple[int, int]
    multivariate: bytes = b""
    models: bytes = b""


def _sources(batch: RecordBatch, fresh: NDArray[np.bool_]) -> list[str]:
    """Sources of which a *fresh* row came, in the order of the rows."""
    parts = batch.parts()
    if len(parts) == 1:
        return [batch.source]
    ends = [*(piece.first for piece in parts[1:]), len(batch)]
    heard = (p.source for p, end in zip(parts, ends, strict=True) if fresh[p.first : end].any())
    return list(dict.fromkeys(heard))


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
        self._pending: _Saved | None = None
        self._pending_models = b""
        self._begin()

    def _begin(self) -> None:
        self._slots = Slots()
        self._revision = b""
        self._now_ns = 0
        self._wall_ns = 0
        self._common = _Common()
        self._panel = Panel(self._options)
        self._multivariate = Multivariate(self._options) if self._options.multivariate.enabled else None
        self._context = Context(self._options.hold_off)
        self._episodes = Episodes(self._options.group_window, self._options.close_after)
        self._gates: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None
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
        form = self._panel.parameters.form
        other = np.flatnonzero(form != self._common.form)
        self._panel.forget(other)
        if self._multivariate is not None:
            self._multivariate.forget(other)
            self._multivariate.end_strays()
        for columns in (self._common, *self._context.memory):
            columns.reset(other)
        self._common.joined_ns[other] = self._now_ns
        self._common.form[:] = form

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
        same = view.form[batch.tag] == self._common.form[slot]
        known = same & self._panel.parameters.fed[slot]
        said = self._arrivals(batch, slot, known)
        status = batch.status & np.uint32(0xFFFF0000)
        usable = ((status >> np.uint32(30)) == 0) | (status == np.uint32(UNCERTAIN_EU_EXCEEDED))
        usable &= ((batch.flags & _NOT_FED) == 0) & ~np.isnan(batch.value)
        if self._conditional:
            self._note(batch, slot, usable, same & ((batch.flags & _NOT_FED) == 0))
        watched = np.flatnonzero(usable & same & self._context.watched[slot])
        changes = watched[self._context.changes(slot[watched], batch.value[watched])].tolist()
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
        unheard = self._panel.missing.unheard(places, self._now_ns, self._panel.parameters, self._common.joined_ns)
        self.suppressor.silent(self._conditional[place] for place in places[unheard].tolist())

    def tick(self, wall_ns: int) -> list[Anomaly]:
        """
        Let time pass up to *wall_ns* (UTC); the revisions that are due now.

        The suppressor's own tick comes before, with the same time.
        """
        if not self._options.enabled:
            return []
        self._ready()
        if self._wall_ns:
            self._now_ns += min(max(wall_ns - self._wall_ns, 0), _LONGEST_TICK_NS)
        self._wall_ns = wall_ns
        self._gates = None
        decided, self._suppressed = self._suppressed != self.suppressor.version, self.suppressor.version
        said = self._shut(wall_ns) if decided else []
        said += self._panel.tick(self._now_ns, wall_ns, self._last_rows())
        if self._conditional:
            self._note_silent()
        self._take(said)
        self._take_changes(self._together())
        if decided:
            self._episodes.reroute(self.suppressor.cause, self._now_ns, wall_ns)
        return self._episodes.tick(self._now_ns, self._observe)

    def _shut(self, wall_ns: int) -> list[Said]:
        """Close or open the gate of equipment that the calendar or people took out of service, or gave back."""
        said: list[Said] = []
        for path in self._context.hold(self.suppressor.off, self.suppressor.maintained, self._now_ns):
            if path in self._panel.parameters.equipments:
                said += self._close_gate(path, 0, wall_ns)
        return said

    def _close_gate(self, path: str, row: int, time_ns: int) -> list[Said]:
        """What was found behind the gate of this equipment is over."""
        slots = self._slots_of(path)
        said = self._panel.close_gate(slots, not self._context.runs(path), row, time_ns)
        if self._multivariate is not None:
            said += [Said(row, -1, at.place, at.seen) for at in self._multivariate.close_gate(slots, time_ns)]
        return said

    def _slots_of(self, path: str) -> Index:
        parameters = self._panel.parameters
        return np.flatnonzero(parameters.known & (parameters.equipment == parameters.equipments.index(path)))

    def _together(self) -> list[Change]:
        """What the multivariate detector says of the last values."""
        if self._multivariate is None or len(self._slots) == 0:
            return []
        common = self._common
        snapshot = Snapshot(
            value=common.row_value,
            time_ns=common.row_ns,
            fed_ns=common.fed_ns,
            steady=self._gated()[1],
            healthy=self._panel.healthy(),
            disturbed=self._panel.disturbed(),
        )
        return self._multivariate.tick(self._now_ns, snapshot)

    def active(self) -> list[Finding]:
        """The conditions that detectors see now, by slot and detector; the episodes hold what was told of them."""
        found = self._panel.active()
        if self._multivariate is not None:
            places = np.flatnonzero(self._multivariate.conditions.active)
            found += [self._multivariate.seen(place).finding for place in places.tolist()]
        return found

    def _last_rows(self) -> LastRows:
        common = self._common
        return LastRows(common.row_ns, common.row_value, common.fed_ns, common.joined_ns, *self._gated())

    def link(self, link: Link, wall_ns: int) -> list[Anomaly]:
        """
        Take note that a source came up or went down; no time passes, and the list is empty.

        A source that is down is a gap with its cause: its tags are not missing one by one, and those that were are
        no longer.
        """
        if not self._options.enabled:
            return []
        self._ready()
        self._panel.missing.linked(link.source, link.up, self._now_ns)
        if not link.up:
            self._take(self._panel.link_down(link.source, wall_ns))
        return []

    def state(self, *, models: bool = True) -> bytes:
        """
        Everything that the next output depends on, but the maps: msgpack, up to 2 KiB a tag while it learns.

        Without *models* what :meth:`models` gives is left out, and has to be saved beside it.
        """
        if self._pending is not None:
            return msgspec.msgpack.encode(self._pending)
        slow = self._panel.slow_trend
        saved = _Saved(
            version=_VERSION,
            revision=self._revision,
            ids=self._slots.ids,
            now_ns=self._now_ns,
            wall_ns=self._wall_ns,
            columns={title: columns.dump() for title, columns in self._memory().items()},
            points=b"" if self._panel.charts is None else self._panel.charts.points(),
            links=self._panel.missing.links,
            equipment=self._context.known,
            episodes=self._episodes.dump(),
            multivariate=b"" if self._multivariate is None else self._multivariate.dump(),
            models=self.models() if models else b"",
            timings={timing.name: (timing.since_ns, timing.sources) for timing in self._panel.timings},
            slow_trend=(0, 0) if slow is None else (slow.sampled_ns, slow.hour),
        )
        return msgspec.msgpack.encode(saved)

    def models(self) -> bytes:
        """
        What the multivariate detector has learned, msgpack; belongs to :meth:`state`, apart because it seldom changes.

        The same object until something was learned or dropped: up to 1 KiB a tag, which need not be saved each time.
        """
        if self._pending is not None:
            return self._pending.models or self._pending_models
        return b"" if self._multivariate is None else self._multivariate.models()

    def restore(self, state: bytes, models: bytes = b"") -> None:
        """
        Go on from a saved state; what follows is bit-identical. Detectors switched on since then begin anew.
        *models* are those that the state was saved without.

        Where the state's map is not known yet, the state takes effect with the :meth:`use_map` that names it; where
        newer maps are known, or it was saved without one, the newest is in force. While detection is switched off the
        state is kept as it is, until another map than its own comes into force.

        Raises BadState when the state is of another version or damaged; the stage then begins anew, or goes on.
        """
        try:
            saved = msgspec.msgpack.decode(state, type=_Saved)
        except (msgspec.MsgspecError, ValueError) as e:
            raise BadState(f"detection state cannot be read: {e}") from e
        if saved.version != _VERSION:
            raise BadState(f"detection state version {saved.version}, want {_VERSION}")
        self._pending = None
        if saved.revision and saved.revision not in self._maps:
            self._pending, self._pending_models = saved, models
        else:
            self._load(saved, models)

    def _load(self, saved: _Saved, models: bytes) -> None:
        self._begin()
        self._slots = Slots(saved.ids)
        memory = self._memory()
        try:
            for columns in memory.values():
                columns.resize(len(saved.ids))
            for title in memory.keys() & saved.columns.keys():
                memory[title].load(saved.columns[title], len(saved.ids))
            if self._panel.charts is not None and "charts.0" in saved.columns:
                self._panel.charts.load_points(saved.points)
            self._episodes.load(saved.episodes)
        except (msgspec.MsgspecError, ValueError) as e:
            self._begin()
            self._enforce_newest(b"")
            raise BadState(f"detection state cannot be read: {e}") from e
        self._now_ns, self._wall_ns = saved.now_ns, saved.wall_ns
        self._panel.missing.links, self._context.known = saved.links, saved.equipment
        for timing in self._panel.timings:
            timing.since_ns, timing.sources = saved.timings.get(timing.name, (0, {}))
        if self._panel.slow_trend is not None:
            self._panel.slow_trend.sampled_ns, self._panel.slow_trend.hour = saved.slow_trend
        if saved.revision:
            self._bind(saved.revision)
        if self._multivariate is not None and saved.multivariate:
            try:
                self._multivariate.load(saved.multivariate, saved.models or models)
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

    def _memory(self) -> dict[str, Columns]:
        context = {f"context.{i}": columns for i, columns in enumerate(self._context.memory)}
        own = () if self._multivariate is None else self._multivariate.memory
        together = {f"pca.{i}": columns for i, columns in enumerate(own)}
        return {"common.0": self._common, **context, **self._panel.memory(), **together}

    def _bind(self, revision: bytes) -> None:
        self._revision = revision
        for view in self._maps.values():
            view.slot = self._slots.of(view.ids)
        for columns in self._memory().values():
            columns.resize(len(self._slots))
        view = self._maps[revision]
        self._panel.parameters = Parameters(view, self._slots)
        self._context.bind(view.tag_map, self._slots)
        if self._multivariate is not None:
            self._multivariate.bind(view.tag_map, self._panel.parameters)
        self.suppressor.use_map(view.tag_map, self._panel.parameters.equipments)
        places = ((self._slots.find(tag.id), tag.path) for tag in view.tag_map.tags)
        self._conditional = {at: path for at, path in places if at is not None and path in self.suppressor.watched}
        self._gates = None

    def _forget(self, revision: bytes) -> None:
        gone = set(self._maps.pop(revision).ids)
        gone.difference_update(*(view.ids for view in self._maps.values()))
        self._panel.forget(np.array([place for place, i in enumerate(self._slots.ids) if i in gone], np.intp))
        places = self._slots.keep(set(self._slots.ids) - gone)
        for columns in self._memory().values():
            columns.take(places)

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

    def _arrivals(self, batch: RecordBatch, slot: Index, known: NDArray[np.bool_]) -> list[Said]:
        """A sample of any status says that its tag is there; history and retained values do not."""
        fresh = (batch.flags & _NOT_ARRIVED) == 0
        if batch.origin not in (Origin.LIVE, Origin.REPLAY) or not fresh.any():
            return []
        rows = np.flatnonzero(fresh & known)
        for source in _sources(batch, fresh):
            self._panel.missing.heard(source, self._now_ns)
        if self._panel.timings:
            self._count(batch, slot, fresh & known)
        back = self._panel.missing.arrived(slot[rows], self._now_ns, self._wall_ns)
        first = [int(rows[np.argmax(slot[rows] == place)]) for place in back.tolist()]
        seen = [self._panel.seen("missing", place) for place in back.tolist()]
        return [Said(row, -2, place, s) for row, place, s in zip(first, back.tolist(), seen, strict=True)]

    def _count(self, batch: RecordBatch, slot: Index, fresh: NDArray[np.bool_]) -> None:
        """Count late rows, and those whose device time is not believed, by source."""
        odd = bool((batch.flags & (Flag.LATE | Flag.CLOCK_SUSPECT)).any())
        parts = batch.parts()
        ends = [*(piece.first for piece in parts[1:]), len(batch)]
        for piece, end in zip(parts, ends, strict=True):
            rows = slice(piece.first, end)
            arrived = int(np.count_nonzero(fresh[rows]))
            for timing in self._panel.timings:
                flagged = np.empty(0, np.intp)
                if odd:
                    flagged = slot[rows][fresh[rows] & ((batch.flags[rows] & np.uint32(timing.flag)) != 0)]
                timing.arrived(piece.source, arrived, flagged)

    def _feed(self, batch: RecordBatch, slot: Index, at: Index, said: list[Said]) -> None:
        """Feed the rows between two changes of context."""
        if len(at) == 0:
            return
        running, steady = self._gated()
        common = self._common
        suspect = (batch.flags & np.uint32(Flag.CLOCK_SUSPECT)) != 0
        cut = (batch.flags & _CUT) == _CUT
        for turn in rounds(slot[at]):
            rows = at[turn]
            place = slot[rows]
            # The same value at the same time is the same row, delivered twice: it says nothing new.
            moved = batch.source_ns[rows] > common.row_ns[place]
            again = ~moved & (batch.source_ns[rows] == common.row_ns[place])
            again &= batch.value[rows] == common.row_value[place]
            if self._panel.stale is not None:
                back = self._panel.stale.arrived(place, batch.value[rows], moved, self._now_ns)
                self._over("stale", back, rows, place, said)
            if again.any():
                rows, place = rows[~again], place[~again]
            time_ns, value = batch.source_ns[rows], batch.value[rows]
            common.fed_ns[place], common.row_ns[place], common.row_value[place] = self._now_ns, time_ns, value
            piece = Rows(place, time_ns, value, suspect[rows], cut[rows], running[place], steady[place])
            self._panel.feed(piece, rows, said)

    def _gated(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """By slot: the equipment runs; it runs and is steady."""
        if self._gates is None:
            self._gates = self._context.gates(self._panel.parameters, self._now_ns)
        return self._gates

    def _over(self, name: str, ended: Index, rows: Index, place: Index, said: list[Said]) -> None:
        """Tell that conditions of these slots are over at their rows."""
        if len(ended):
            row_of = dict(zip(place.tolist(), rows.tolist(), strict=True))
            said += [Said(row_of[at], -2, at, self._panel.seen(name, at)) for at in ended.tolist()]

    def _change(self, slot: int, value: float, row: int, time_ns: int, said: list[Said]) -> None:
        """Take a change of equipment state or set point."""
        touched, moved = self._context.apply(slot, value, self._now_ns)
        self._gates = None
        parameters = self._panel.parameters
        for path in touched:
            if path not in parameters.equipments:
                continue
            said += self._close_gate(path, row, time_ns)
            if path in moved:
                # What was learned holds for the old set point.
                said += self._panel.relearn(self._slots_of(path), row, time_ns)

    def _take_changes(self, changes: Iterable[Change]) -> None:
        self._take(Said(0, 0, change.place, change.seen) for change in changes)

    def _take(self, said: Iterable[Said]) -> None:
        for item in said:
            number = item.seen.finding.tag
            if number >= 0:
                tag = self._panel.parameters.tags[number]
                equipment, finding = equipment_of(tag), item.seen.finding
                cause = self.suppressor.cause(tag.path, equipment, finding.kind, count=finding.active)
                self._episodes.take(item.seen, tag, equipment, self._now_ns, cause)

    def _observe(self, tag_id: str, detector: str) -> Seen | None:
        place = self._slots.find(tag_id)
        if place is not None and self._multivariate is not None and detector == self._multivariate.name:
            return self._multivariate.seen(place) if self._multivariate.conditions.active[place] else None
        if place is None or not self._panel.is_active(detector, place):
            return None
        return self._panel.seen(detector, place)
