"""
Report by exception with the corner kept: a value inside the band around the last stored one is held back, and the
last held one is stored before the next that is not.

First values, status changes, NaN, bad and text rows always pass. Source of the rule: AVEVA's adapters, which send
both the current and the last suppressed value when the band is exceeded.

Where the tag has a ``heartbeat``, a value that is held back so long after the last stored row is stored, too: as a
corner before itself, flagged ``NO_CHANGE_CONFIRMED``. The band stays around the value that it stood around.

A late row is held back as well where it lies inside the band of the value that was the stored one at its time (the
last two are remembered): most such rows are redeliveries of what was held back before, and the stored value speaks for
the others. Other late rows pass and change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from normalizers.base import TagColumns
from schemas.columns import Columns, Index, column, occurrence
from schemas.records import RecordBatch
from schemas.samples import Exact
from schemas.status import Flag

#: Tags that come more often in one batch are followed row by row: a round for a handful of rows costs more.
_MOST_ROUNDS: Final = 8
_NEVER_SENT_NS: Final = np.iinfo(np.int64).max


class BandState(Columns):
    """Per tag: the last stored value (NaN: none that a band could stand around) and the row held back after it."""

    form: NDArray[np.int64] = column(np.int64)
    sent_value: NDArray[np.float64] = column(np.float64, np.nan)
    sent_status: NDArray[np.uint32] = column(np.uint32)
    sent_ns: NDArray[np.int64] = column(np.int64, _NEVER_SENT_NS)
    before_value: NDArray[np.float64] = column(np.float64, np.nan)  #: the stored value before that one
    before_status: NDArray[np.uint32] = column(np.uint32)
    before_ns: NDArray[np.int64] = column(np.int64, _NEVER_SENT_NS)
    kept_ns: NDArray[np.int64] = column(np.int64, _NEVER_SENT_NS)  #: of the last stored row, a confirming one as well
    held: NDArray[np.bool_] = column(np.bool_)
    held_ns: NDArray[np.int64] = column(np.int64)
    held_server_ns: NDArray[np.int64] = column(np.int64)
    held_value: NDArray[np.float64] = column(np.float64)
    held_status: NDArray[np.uint32] = column(np.uint32)
    held_flags: NDArray[np.uint32] = column(np.uint32)


@dataclass(slots=True)
class Rows:
    """
    The normalized columns a band looks at, all of length n.

    ``same`` is the status by which a change is judged. ``late`` rows never move the band; ``exempt`` ones (late from
    history) are not held back either.
    """

    tag: NDArray[np.int32]
    slot: Index
    source_ns: NDArray[np.int64]
    server_ns: NDArray[np.int64] | None
    value: NDArray[np.float64]
    status: NDArray[np.uint32]
    same: NDArray[np.uint32]
    flags: NDArray[np.uint32]
    late: NDArray[np.bool_]
    exempt: NDArray[np.bool_]


@dataclass(slots=True)
class Corners:
    """Rows to store again, each just before row ``at``; all of length k, ``at`` ascending."""

    at: Index
    source_ns: NDArray[np.int64]
    server_ns: NDArray[np.int64]
    value: NDArray[np.float64]
    status: NDArray[np.uint32]
    flags: NDArray[np.uint32]


def hold_back(rows: Rows, columns: TagColumns, state: BandState) -> Corners | None:
    """
    Set ``Flag.DEADBAND`` in ``rows.flags`` on what is held back; give the held rows that must be stored now.

    The result is the same as taking the rows one after the other.
    """
    _begin_anew(rows, columns, state)
    if not columns.any_band:
        return None
    banded = np.flatnonzero((columns.band[rows.tag] > 0) & ~rows.exempt)
    if len(banded) == 0:
        return None
    nth = occurrence(rows.slot[banded])
    deepest = int(nth.max())
    found: list[tuple[int, _Held]] = []
    if deepest >= _MOST_ROUNDS:
        slots = rows.slot[banded]
        often = np.isin(slots, slots[nth >= _MOST_ROUNDS])
        for slot in np.unique(slots[often]).tolist():
            _follow(banded[slots == slot], slot, rows, columns, state, found)
        banded, nth = banded[~often], nth[~often]
    for turn in range(int(nth.max()) + 1 if len(nth) else 0):
        _round(banded[nth == turn], rows, columns, state, found)
    return _corners(found)


def _begin_anew(rows: Rows, columns: TagColumns, state: BandState) -> None:
    other = state.form[rows.slot] != columns.form[rows.tag]
    if other.any():
        slots, first = np.unique(rows.slot[other], return_index=True)
        state.reset(slots)
        state.form[slots] = columns.form[rows.tag[other][first]]


_Held = tuple[int, int, float, int, int]


def _round(at: Index, rows: Rows, columns: TagColumns, state: BandState, found: list[tuple[int, _Held]]) -> None:
    """Take one row of each tag."""
    late = rows.late[at]
    if late.any():
        _hold_again(at[late], rows, columns, state)
        at = at[~late]
    slot, value, status = rows.slot[at], rows.value[at], rows.same[at]
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs(value - state.sent_value[slot])
    # NaN on either side compares false, so that it passes.
    inside = (distance <= columns.band[rows.tag[at]]) & (status == state.sent_status[slot])
    wait, wait_at = slot[inside], at[inside]
    if len(wait):
        state.held[wait] = True
        state.held_ns[wait] = rows.source_ns[wait_at]
        state.held_server_ns[wait] = 0 if rows.server_ns is None else rows.server_ns[wait_at]
        state.held_value[wait] = rows.value[wait_at]
        state.held_status[wait] = rows.status[wait_at]
        state.held_flags[wait] = rows.flags[wait_at]
        rows.flags[wait_at] |= np.uint32(Flag.DEADBAND)
        if columns.any_beat:
            _confirm(wait, wait_at, rows, columns, state, found)
    pass_, pass_at = slot[~inside], at[~inside]
    if len(pass_) == 0:
        return
    release = np.flatnonzero(state.held[pass_])
    found.extend((int(pass_at[k]), _held(state, int(pass_[k]))) for k in release)
    state.held[pass_] = False
    state.before_value[pass_] = state.sent_value[pass_]
    state.before_status[pass_] = state.sent_status[pass_]
    state.before_ns[pass_] = state.sent_ns[pass_]
    state.sent_value[pass_] = rows.value[pass_at]
    state.sent_status[pass_] = rows.same[pass_at]
    state.sent_ns[pass_] = state.kept_ns[pass_] = rows.source_ns[pass_at]


def _confirm(
    slot: Index, at: Index, rows: Rows, columns: TagColumns, state: BandState, found: list[tuple[int, _Held]]
) -> None:
    """Let those rows that were just held back be stored of which nothing was for a heartbeat."""
    time_ns, kept_ns = rows.source_ns[at], state.kept_ns[slot]
    unknown = kept_ns == _NEVER_SENT_NS  # state from before there were heartbeats
    state.kept_ns[slot[unknown]] = time_ns[unknown]
    # either way: a device's clock may be set back
    due = np.flatnonzero(np.abs(time_ns - np.where(unknown, time_ns, kept_ns)) >= columns.beat_ns[rows.tag[at]])
    for place in due.tolist():
        one = int(slot[place])
        found.append((int(at[place]), _confirmed(_held(state, one))))
        state.held[one] = False
        state.kept_ns[one] = time_ns[place]


def _confirmed(held: _Held) -> _Held:
    return (*held[:4], held[4] | int(Flag.NO_CHANGE_CONFIRMED))


def _hold_again(at: Index, rows: Rows, columns: TagColumns, state: BandState) -> None:
    """Hold back late rows inside the band of the value that was the stored one at their time."""
    slot, time_ns = rows.slot[at], rows.source_ns[at]
    earlier = time_ns < state.sent_ns[slot]
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs(rows.value[at] - np.where(earlier, state.before_value[slot], state.sent_value[slot]))
    inside = distance <= columns.band[rows.tag[at]]
    inside &= ~earlier | (time_ns >= state.before_ns[slot])
    inside &= rows.same[at] == np.where(earlier, state.before_status[slot], state.sent_status[slot])
    rows.flags[at[inside]] |= np.uint32(Flag.DEADBAND)


def _held(state: BandState, slot: int) -> _Held:
    return (
        int(state.held_ns[slot]),
        int(state.held_server_ns[slot]),
        float(state.held_value[slot]),
        int(state.held_status[slot]),
        int(state.held_flags[slot]),
    )


def _follow(
    at: Index, slot: int, rows: Rows, columns: TagColumns, state: BandState, found: list[tuple[int, _Held]]
) -> None:
    """Take all rows of one tag, one after the other."""
    band, beat_ns = float(columns.band[rows.tag[at[0]]]), int(columns.beat_ns[rows.tag[at[0]]])
    kept_ns = int(state.kept_ns[slot])
    sent = (int(state.sent_ns[slot]), float(state.sent_value[slot]), int(state.sent_status[slot]))
    before = (int(state.before_ns[slot]), float(state.before_value[slot]), int(state.before_status[slot]))
    held = _held(state, slot) if state.held[slot] else None
    server = [0] * len(at) if rows.server_ns is None else rows.server_ns[at].tolist()
    columns_of = zip(
        at.tolist(),
        rows.late[at].tolist(),
        rows.same[at].tolist(),
        rows.source_ns[at].tolist(),
        server,
        rows.value[at].tolist(),
        rows.status[at].tolist(),
        rows.flags[at].tolist(),
        strict=True,
    )
    waiting = []
    for row, late, same, source_ns, server_ns, value, status, flags in columns_of:
        if late:
            then = before if source_ns < sent[0] else sent
            if source_ns >= then[0] and abs(value - then[1]) <= band and same == then[2]:
                waiting.append(row)
            continue
        if abs(value - sent[1]) <= band and same == sent[2]:
            held = (source_ns, server_ns, value, status, flags)
            waiting.append(row)
            kept_ns = source_ns if kept_ns == _NEVER_SENT_NS else kept_ns
            if abs(source_ns - kept_ns) >= beat_ns:
                found.append((row, _confirmed(held)))
                held, kept_ns = None, source_ns
            continue
        if held is not None:
            found.append((row, held))
            held = None
        before, sent, kept_ns = sent, (source_ns, value, same), source_ns
    rows.flags[waiting] |= np.uint32(Flag.DEADBAND)
    state.sent_ns[slot], state.sent_value[slot], state.sent_status[slot] = sent
    state.before_ns[slot], state.before_value[slot], state.before_status[slot] = before
    state.kept_ns[slot] = kept_ns
    state.held[slot] = held is not None
    if held is not None:
        state.held_ns[slot], state.held_server_ns[slot], state.held_value[slot] = held[:3]
        state.held_status[slot], state.held_flags[slot] = held[3:]


def _corners(found: list[tuple[int, _Held]]) -> Corners | None:
    if not found:
        return None
    found.sort(key=lambda pair: pair[0])
    held = [pair[1] for pair in found]
    return Corners(
        at=np.array([pair[0] for pair in found], np.intp),
        source_ns=np.array([row[0] for row in held], np.int64),
        server_ns=np.array([row[1] for row in held], np.int64),
        value=np.array([row[2] for row in held], np.float64),
        status=np.array([row[3] for row in held], np.uint32),
        flags=np.array([row[4] for row in held], np.uint32) | np.uint32(Flag.CORNER),
    )


def numbers(value: NDArray[np.float64], exact: dict[int, Exact]) -> NDArray[np.float64]:
    """The values as the deadband sees them: NaN where an exact value stands."""
    if not exact:
        return value
    seen = value.copy()
    seen[list(exact)] = np.nan
    return seen


def insert(record: RecordBatch, corners: Corners) -> None:
    """Put each corner just before the row it belongs to, in place; fingerprints are made after it."""
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
    if record.increase is not None:
        record.increase = np.insert(record.increase, at, np.nan)
