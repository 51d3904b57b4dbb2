"""
The normalizer: SampleBatch in, RecordBatch out, in journal order.

Order of the steps: clock, sentinels and NaN, scale, range, clamp, late, deadband. The output is a function of the
entries alone: the same rows come out however the stream is cut into batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from normalizers import quality
from normalizers.base import BadState, TagColumns, UnknownMap
from normalizers.clock import NEVER_NS, RESTARTED_NS, Skew, SourceClock, Times
from normalizers.deadband import BandState, Corners, Rows, hold_back
from normalizers.exact import TooDeep, as_number, encodable, repair
from normalizers.scale import clamp, scale
from schemas.columns import Columns, Index, Slots, column, occurrence
from schemas.entries import Position
from schemas.quantities import Duration
from schemas.records import Piece, RecordBatch, fingerprints
from schemas.samples import Exact, Origin, SampleBatch
from schemas.status import Flag
from schemas.tagmap import TagMap

#: Batches of an older map may still be in the journal behind a newer one; beyond these it is forgotten.
_MAPS_KEPT: Final = 4
_VERSION: Final = 1
_LIVE: Final = (Origin.LIVE, Origin.REPLAY)
_NOT_LIVE: Final = np.uint32(Flag.RETAINED | Flag.BACKFILL)
_FLOAT32: Final = np.uint32(Flag.FLOAT32)


class NormalizerOptions(BaseModel):
    """Options of ``normalize``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    future_limit: Annotated[
        Duration, Field(gt=0, description="A device time further ahead of ours is replaced by the time of arrival.")
    ] = 300.0
    skew_warn: Annotated[Duration, Field(gt=0, description="A source whose clock is off by more is shown as such.")] = (
        10.0
    )


class _TimeState(Columns):
    last_ns: NDArray[np.int64] = column(np.int64, NEVER_NS)


class _Saved(msgspec.Struct):
    version: int
    ids: list[str]
    time: dict[str, bytes]
    band: dict[str, bytes]
    clocks: dict[str, SourceClock]


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
        late, restarts = clock.judge(
            Times(slot, source_ns, suspect, live),
            batch.received_ns,
            self._time.last_ns,
            lambda: columns.slot[columns.source == batch.source],
        )
        return self._record(batch, position, columns, Judged(slot, source_ns, suspect, live, late, restarts, bases))

    def join(self, batches: Sequence[SampleBatch], positions: Sequence[Position]) -> RecordBatch | None:
        """
        Normalize several batches of one map and origin at once: the rows that :meth:`step` gives for one after another.

        None, and nothing is changed, where rows depend on each other or on a clock that is in doubt: a tag comes
        twice, a row is late, a device time is not believed, or only some batches have a server time. Take them one by
        one then.
        """
        columns = self._maps.get(batches[0].map_revision)
        kinds = {(batch.origin, batch.map_revision, batch.server_ns is None) for batch in batches}
        if columns is None or len(kinds) > 1 or not all(map(len, batches)):
            return None
        whole = SampleBatch.joined(batches)
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
        value, status, flags, exact = _values(batch, columns)
        # The time of arrival is another one at each delivery: the key cannot tell that it is the same row.
        flags[judged.suspect] |= np.uint32(Flag.CLOCK_SUSPECT | Flag.DUP_POSSIBLE)
        flags[judged.late] |= np.uint32(Flag.LATE)
        flags[judged.restarts] |= np.uint32(Flag.CLOCK_SUSPECT)
        # A text row has no number: it passes like NaN, and so does the number after it.
        number, same = _without(value, exact), quality.uncut(status)
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
            judged.late & ~judged.live,
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
        )
        bases = judged.bases
        if corners is not None:
            _insert(record, corners)
            if bases is not None:
                arrived = (corners.flags & np.uint32(Flag.ARRIVAL_TIME)) != 0
                bases = np.insert(bases, corners.at, np.where(arrived, bases[corners.at], 0))
        record.fingerprint = fingerprints(record.value, record.status, record.exact)
        if bases is not None:
            record.fingerprint ^= bases
        return record

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
        saved = _Saved(_VERSION, self._slots.ids, self._time.dump(), self._band.dump(), self._clocks)
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
            time, band = _TimeState(), BandState()
            time.load(saved.time, len(saved.ids))
            band.load(saved.band, len(saved.ids))
        except (msgspec.MsgspecError, ValueError) as e:
            raise BadState(f"normalizer state cannot be read: {e}") from e
        self._slots, self._time, self._band, self._clocks = Slots(saved.ids), time, band, saved.clocks
        self._bind()

    def _bind(self) -> None:
        for columns in self._maps.values():
            columns.slot = self._slots.of(columns.ids)
        self._time.resize(len(self._slots))
        self._band.resize(len(self._slots))

    def _forget(self, revision: bytes) -> None:
        gone = set(self._maps.pop(revision).ids)
        wanted = set(self._slots.ids) - gone
        for columns in self._maps.values():
            wanted.update(columns.ids)
        places = self._slots.keep(wanted)
        self._time.take(places)
        self._band.take(places)


def _joined(bases: Sequence[NDArray[np.int64] | None], batches: Sequence[SampleBatch]) -> NDArray[np.int64] | None:
    if all(base is None for base in bases):
        return None
    parts = [
        np.zeros(len(batch), np.int64) if base is None else base for base, batch in zip(bases, batches, strict=True)
    ]
    return np.concatenate(parts)


def _values(
    batch: SampleBatch, columns: TagColumns
) -> tuple[NDArray[np.float64], NDArray[np.uint32], NDArray[np.uint32], dict[int, Exact]]:
    """Value, status, flags and exact values of a batch after everything that needs no memory of earlier rows."""
    flags = batch.flags.copy()
    if batch.origin is Origin.RETAINED:
        flags |= np.uint32(Flag.RETAINED)
    bad = quality.is_bad(batch.status)
    raw, exact, text = _exact(batch, bad, columns, flags)
    mark = quality.sentinels(raw, batch.tag, columns) & ~bad
    if mark.any():
        flags[mark] |= np.uint32(Flag.SENTINEL)
        for row in [row for row in exact if mark[row]]:
            del exact[row]
    flags |= quality.number_flags(raw, ~(bad | mark | text))
    flags[quality.overflowed(batch.status)] |= np.uint32(Flag.OVERFLOW)
    value, cut = scale(raw, batch.tag, columns)
    no_number = bad | mark | text
    value[no_number] = np.nan
    status = batch.status
    if columns.any_range:
        # Before the clamp, which would hide what is outside.
        status, outside = quality.judge_range(value, batch.tag, status, columns)
        flags[outside] |= np.uint32(Flag.OUT_OF_RANGE)
    cut |= clamp(value, batch.tag, columns)
    cut &= ~no_number
    flags[cut] |= np.uint32(Flag.CLAMPED)
    single = flags & _FLOAT32
    if single.any():
        # what was scaled or cut, or is no number, is a double
        flags[(single != 0) & (columns.scaled[batch.tag] | cut | np.isnan(value))] &= ~_FLOAT32
    status = quality.clamped(batch.status, status, cut)
    return value, status, flags, exact


def _exact(
    batch: SampleBatch, bad: NDArray[np.bool_], columns: TagColumns, flags: NDArray[np.uint32]
) -> tuple[NDArray[np.float64], dict[int, Exact], NDArray[np.bool_]]:
    """
    Raw numbers with wide integers as their nearest double, the exact values to keep, and the rows without a number.

    A wide integer of a scaled tag becomes a number: its scaled value has no exact form.
    """
    text = np.zeros(len(batch), np.bool_)
    if not batch.exact:
        return batch.value, {}, text
    raw = batch.value.copy()
    kept: dict[int, Exact] = {}
    for row, item in batch.exact.items():
        if bad[row]:
            continue
        wide = as_number(item)
        if wide is not None:
            raw[row] = wide
            if not columns.scaled[batch.tag[row]]:
                kept[row] = item
            continue
        text[row] = True
        try:
            fixed = repair(item)
        except TooDeep:
            flags[row] |= np.uint32(Flag.DECODE_LOSS)
            continue
        if not encodable(fixed):
            flags[row] |= np.uint32(Flag.DECODE_LOSS)
            continue
        if fixed is not item and fixed != item:
            flags[row] |= np.uint32(Flag.DECODE_LOSS)
        kept[row] = fixed
    return raw, kept, text


def _without(value: NDArray[np.float64], exact: dict[int, Exact]) -> NDArray[np.float64]:
    """The values as the deadband sees them: NaN where an exact value stands."""
    if not exact:
        return value
    seen = value.copy()
    seen[list(exact)] = np.nan
    return seen


def _insert(record: RecordBatch, corners: Corners) -> None:
    """Put each corner just before the row it belongs to."""
    at = corners.at
    if record.pieces:
        before = np.searchsorted(at, [piece.first for piece in record.pieces]).tolist()
        record.pieces = tuple(
            piece._replace(first=piece.first + more) for piece, more in zip(record.pieces, before, strict=True)
        )
    server_ns = record.server_ns
    if server_ns is None and corners.server_ns.any():
        server_ns = np.zeros(len(record), np.int64)
    if record.exact:
        shift = np.searchsorted(at, np.arange(len(record)), side="right")
        record.exact = {row + int(shift[row]): item for row, item in record.exact.items()}
    record.server_ns = None if server_ns is None else np.insert(server_ns, at, corners.server_ns)
    record.tag = np.insert(record.tag, at, record.tag[at])
    record.source_ns = np.insert(record.source_ns, at, corners.source_ns)
    record.value = np.insert(record.value, at, corners.value)
    record.status = np.insert(record.status, at, corners.status)
    record.flags = np.insert(record.flags, at, corners.flags)
