"""
The normalizer: SampleBatch in, RecordBatch out, in journal order.

Order of the steps: clock, sentinels and NaN, scale, range, clamp, late, counters, deadband. The output is a function
of the entries alone: the same rows come out however the stream is cut into batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from normalizers import quality
from normalizers.base import BadState, TagColumns, UnknownMap
from normalizers.clock import NEVER_NS, RESTARTED_NS, Skew, SourceClock, Times
from normalizers.counter import Arrived, CounterState, count
from normalizers.deadband import BandState, Rows, hold_back, insert, numbers
from normalizers.options import NormalizerOptions
from normalizers.values import normalize_values
from schemas.columns import Columns, Index, Slots, column, occurrence
from schemas.entries import Position
from schemas.records import Piece, RecordBatch, fingerprints
from schemas.samples import Origin, SampleBatch
from schemas.status import Flag
from schemas.tagmap import TagMap

#: Batches of an older map may still be in the journal behind a newer one; beyond these it is forgotten.
_MAPS_KEPT: Final = 4
_VERSION: Final = 1
_LIVE: Final = (Origin.LIVE, Origin.REPLAY)
_CONFIRMED: Final = np.uint32(Flag.NO_CHANGE_CONFIRMED)
_NOT_LIVE: Final = np.uint32(Flag.RETAINED | Flag.BACKFILL)


class _TimeState(Columns):
    last_ns: NDArray[np.int64] = column(np.int64, NEVER_NS)


class _Saved(msgspec.Struct):
    version: int
    ids: list[str]
    time: dict[str, bytes]
    band: dict[str, bytes]
    clocks: dict[str, SourceClock]
    counter: dict[str, bytes] = {}


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known of the times of a batch, all of length n; ``live``: neither history nor retained."""

    slot: Index
    source_ns: NDArray[np.int64]
    suspect: NDArray[np.bool_]
    live: NDArray[np.bool_]
    late: NDArray[np.bool_]
    restarts: NDArray[np.bool_]
    bases: NDArray[np.int64] | None  #: see :meth:`SourceClock.bases`


def _live(batch: SampleBatch) -> NDArray[np.bool_]:
    if batch.origin not in _LIVE:
        return np.zeros(len(batch), np.bool_)
    live: NDArray[np.bool_] = (batch.flags & _NOT_LIVE) == 0
    return live


class Normalizer:
    """
    Turns what devices said into records; state per tag follows the stable ``Tag.id`` over map revisions.

    The maps themselves are not part of the state: :meth:`use_map` is called for those in force, before or after
    :meth:`restore`.
    """

    def __init__(self, options: NormalizerOptions) -> None:
        self._options = options
        self._future_limit_ns = round(options.future_limit * 1e9)
        self._maps: dict[bytes, TagColumns] = {}
        self._slots = Slots()
        self._time = _TimeState()
        self._band = BandState()
        self._counter = CounterState()
        self._clocks: dict[str, SourceClock] = {}

    def use_map(self, revision: bytes, tag_map: TagMap) -> None:
        """
        Take note of a map that was read from the journal. The last four revisions are kept.

        Raises ValueError where a tag's number is not its position in the map.
        """
        columns = self._maps.pop(revision, None) or TagColumns(tag_map)
        self._maps[revision] = columns
        if len(self._maps) > _MAPS_KEPT:
            self._forget(next(iter(self._maps)))
        self._bind()

    def step(self, batch: SampleBatch, position: Position) -> RecordBatch:
        """
        Normalize one batch that was read at *position*.

        The result has a row for each sample, in order, and before some of them a ``Flag.CORNER`` row.

        Raises:
            UnknownMap: the batch's map revision or one of its tag numbers is not known.
        """
        columns = self._maps.get(batch.map_revision)
        if columns is None:
            raise UnknownMap(f"map revision {batch.map_revision.hex()} of source {batch.source!r} was never read")
        tag = batch.tag
        if len(tag) and not 0 <= int(tag.min()) <= int(tag.max()) < len(columns):
            raise UnknownMap(f"source {batch.source!r} names a tag outside 0..{len(columns) - 1} of its map")
        slot = columns.slot[tag]
        clock = self._clocks.setdefault(batch.source, SourceClock())
        source_ns, suspect = clock.believe(batch, self._future_limit_ns)
        bases = clock.bases(batch, source_ns, suspect, position)
        live = _live(batch)
        # a row of the source's word that nothing changed has no device time, and moves none
        told = (batch.flags & _CONFIRMED) == 0
        late, restarts = np.zeros(len(batch), np.bool_), np.zeros(len(batch), np.bool_)
        if told.any():
            late[told], restarts[told] = clock.judge(
                Times(slot[told], source_ns[told], suspect[told], live[told]),
                batch.received_ns,
                self._time.last_ns,
                lambda: columns.slot[columns.source == batch.source],
            )
        return self._record(batch, position, columns, Judged(slot, source_ns, suspect, live, late, restarts, bases))

    def join(self, batches: Sequence[SampleBatch], positions: Sequence[Position]) -> RecordBatch | None:
        """
        Normalize several batches of one map and origin at once: the rows that :meth:`step` gives for one after another.

        None, and nothing is changed, where rows depend on each other or on a clock that is in doubt: a tag comes
        twice, a row is late, a device time is not believed, a row confirms that nothing changed, or only some batches
        have a server time. Take them one by one then.
        """
        columns = self._maps.get(batches[0].map_revision)
        kinds = {(batch.origin, batch.map_revision, batch.server_ns is None) for batch in batches}
        if columns is None or len(kinds) > 1 or not all(map(len, batches)):
            return None
        whole = SampleBatch.joined(batches)
        if (whole.flags & _CONFIRMED).any():
            return None
        tag = whole.tag
        if not 0 <= int(tag.min()) <= int(tag.max()) < len(columns):
            return None
        slot = columns.slot[tag]
        if occurrence(slot).any():
            return None
        clocks = [self._clocks.get(batch.source, SourceClock()) for batch in batches]
        if not all(clock.is_calm(batch, self._future_limit_ns) for clock, batch in zip(clocks, batches, strict=True)):
            return None
        # a tag of a clock that was set back has the lowest time but one: its first row is flagged by step
        before = self._time.last_ns[slot]
        if (whole.source_ns < before).any() or (before == RESTARTED_NS).any():
            return None
        bases = []
        for batch, position in zip(batches, positions, strict=True):
            clock = self._clocks.setdefault(batch.source, SourceClock())
            clock.take_calm(batch)
            bases.append(clock.bases(batch, batch.source_ns, None, position))
        self._time.last_ns[slot] = whole.source_ns
        none = np.zeros(len(tag), np.bool_)
        judged = Judged(slot, whole.source_ns, none, _live(whole), none, none, _joined(bases, batches))
        firsts = accumulate((len(batch) for batch in batches), initial=0)
        pieces = tuple(
            Piece(first, batch.source, position, batch.received_ns)
            for first, batch, position in zip(firsts, batches, positions, strict=False)
        )
        return self._record(whole, positions[-1], columns, judged, pieces)

    def _record(
        self,
        batch: SampleBatch,
        position: Position,
        columns: TagColumns,
        judged: Judged,
        pieces: tuple[Piece, ...] = (),
    ) -> RecordBatch:
        value, status, flags, exact = normalize_values(batch, columns)
        # The time of arrival is another one at each delivery: the key cannot tell that it is the same row.
        flags[judged.suspect] |= np.uint32(Flag.CLOCK_SUSPECT | Flag.DUP_POSSIBLE)
        flags[judged.late] |= np.uint32(Flag.LATE)
        flags[judged.restarts] |= np.uint32(Flag.CLOCK_SUSPECT)
        increase = self._count(batch, columns, judged, pieces, flags) if columns.counters.any else None
        # A text row has no number: it passes like NaN, and so does the number after it.
        number, same = numbers(value, exact), quality.uncut(status)
        rows = Rows(
            batch.tag,
            judged.slot,
            judged.source_ns,
            batch.server_ns,
            number,
            status,
            same,
            flags,
            judged.late,
            judged.late & ~judged.live | ((flags & _CONFIRMED) != 0),
        )
        corners = hold_back(rows, columns, self._band)
        record = RecordBatch(
            source=batch.source,
            origin=batch.origin,
            map_revision=batch.map_revision,
            position=position,
            received_ns=batch.received_ns,
            tag=batch.tag,
            source_ns=judged.source_ns,
            server_ns=batch.server_ns,
            value=value,
            status=status,
            flags=flags,
            fingerprint=np.empty(0, np.int64),
            exact=exact,
            pieces=pieces,
            increase=increase,
        )
        bases = judged.bases
        if corners is not None:
            insert(record, corners)
            if bases is not None:
                arrived = (corners.flags & np.uint32(Flag.ARRIVAL_TIME)) != 0
                bases = np.insert(bases, corners.at, np.where(arrived, bases[corners.at], 0))
        record.fingerprint = fingerprints(record.value, record.status, record.exact)
        if bases is not None:
            record.fingerprint ^= bases
        return record

    def _count(
        self,
        batch: SampleBatch,
        columns: TagColumns,
        judged: Judged,
        pieces: tuple[Piece, ...],
        flags: NDArray[np.uint32],
    ) -> NDArray[np.float64] | None:
        """The increase of each row, float64[n]; None where no row is of a counter. Sets the counters' flags."""
        rows = np.flatnonzero(columns.counters.counts[batch.tag])
        if not len(rows):
            return None
        received_ns = np.full(len(batch), batch.received_ns, np.int64)
        for piece in pieces:
            received_ns[piece.first :] = piece.received_ns
        arrived = Arrived(judged.slot, judged.source_ns, received_ns, judged.suspect | judged.restarts)
        return count(batch, rows, arrived, flags, columns.factor, columns.counters, self._counter)

    def skews(self) -> dict[str, Skew]:
        """
        How far each source's clock is ahead of ours, by source name; sources without device time are left out.

        A few numbers a source, read without touching any tag; another thread than that of :meth:`step` may ask.
        """
        limit_ns = round(self._options.skew_warn * 1e9)
        found = {source: clock.skew(limit_ns) for source, clock in list(self._clocks.items())}
        return {source: skew for source, skew in found.items() if skew is not None}

    def state(self) -> bytes:
        """Everything that the next step depends on, but the maps: msgpack, about 60 bytes and the id a tag."""
        columns = (self._time.dump(), self._band.dump())
        saved = _Saved(_VERSION, self._slots.ids, *columns, self._clocks, self._counter.dump())
        return msgspec.msgpack.encode(saved)

    def restore(self, state: bytes) -> None:
        """
        Go on from a saved state; the next step gives bit-identical rows.

        Raises BadState, and changes nothing, when the state is of another version or damaged.
        """
        try:
            saved = msgspec.msgpack.decode(state, type=_Saved)
            if saved.version != _VERSION:
                raise BadState(f"state version {saved.version}, want {_VERSION}")
            time, band, counter = _TimeState(), BandState(), CounterState()
            time.load(saved.time, len(saved.ids))
            band.load(saved.band, len(saved.ids))
            counter.load(saved.counter, len(saved.ids))
        except (msgspec.MsgspecError, ValueError) as e:
            raise BadState(f"normalizer state cannot be read: {e}") from e
        self._slots, self._time, self._band, self._clocks = Slots(saved.ids), time, band, saved.clocks
        self._counter = counter
        self._bind()

    def _bind(self) -> None:
        for columns in self._maps.values():
            columns.slot = self._slots.of(columns.ids)
        self._time.resize(len(self._slots))
        self._band.resize(len(self._slots))
        self._counter.resize(len(self._slots))

    def _forget(self, revision: bytes) -> None:
        gone = set(self._maps.pop(revision).ids)
        wanted = set(self._slots.ids) - gone
        for columns in self._maps.values():
            wanted.update(columns.ids)
        places = self._slots.keep(wanted)
        self._time.take(places)
        self._band.take(places)
        self._counter.take(places)


def _joined(bases: Sequence[NDArray[np.int64] | None], batches: Sequence[SampleBatch]) -> NDArray[np.int64] | None:
    if all(base is None for base in bases):
        return None
    parts = [
        np.zeros(len(batch), np.int64) if base is None else base for base, batch in zip(bases, batches, strict=True)
    ]
    return np.concatenate(parts)
