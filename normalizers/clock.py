"""
Source time: which device clock is believed, which row is late, how far each source's clock is off.

A device clock that was set back makes all rows of its source late. When that has lasted for ``STEP_ROWS`` rows and
``STEP_NS`` of received time, the new time base is accepted: last times of the source's tags begin anew, and each tag's
first row on the new base is flagged.

Source of the rules: W8 (1601, 1970, 9999 and the far future are no times), W10, W11.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.columns import Index, occurrence
from schemas.entries import Position
from schemas.samples import SampleBatch
from schemas.status import Flag

#: 2001-01-01T00:00:00Z: a device that has lost its clock starts before this (1601, 1970, 1980, 2000).
EARLIEST_NS: Final = 978_307_200_000_000_000
NEVER_NS: Final = np.iinfo(np.int64).min
#: A source's rows, all late: so many in a row over so much received time are a clock set back, not a redelivery.
STEP_ROWS: Final = 5
STEP_NS: Final = 60_000_000_000
#: Last time of a tag whose source's clock was set back, until its first row on the new time base.
RESTARTED_NS: Final = NEVER_NS + 1
#: Our own clock was set back where a batch came so much before a time of arrival that was given.
BACK_NS: Final = 1_000_000_000
_SKEW_WINDOW_NS: Final = 60_000_000_000


@dataclass(frozen=True, slots=True)
class Skew:
    """
    How far a source's clock is ahead of ours (negative: behind, or slow to deliver).

    ``minute_ns``: begin of the minute of reception that the estimate is of; it takes in the minute before.
    """

    ahead_ns: int
    beyond_limit: bool
    minute_ns: int


@dataclass(frozen=True, slots=True)
class Times:
    """
    Source times of a batch, all of length n.

    ``suspect``: at the time of arrival, see :meth:`SourceClock.believe`. ``live``: neither history nor retained, so
    that a late one says something about the clock.
    """

    slot: Index
    source_ns: NDArray[np.int64]
    suspect: NDArray[np.bool_]
    live: NDArray[np.bool_]

    def part(self, rows: slice) -> Times:
        """Some of the rows."""
        return Times(self.slot[rows], self.source_ns[rows], self.suspect[rows], self.live[rows])


class SourceClock(msgspec.Struct):
    """What is remembered of one source's clock; all times in ns."""

    arrival_ns: int = -(2**63)  #: last time of arrival given to a row
    window: int = -1  #: number of the current minute of reception
    ahead_ns: int | None = None  #: largest source minus received within it
    before_ns: int | None = None  #: the same of the window before
    late_rows: int = 0  #: rows since the last that was not late
    late_since_ns: int = 0  #: reception of the first of them
    arrived_ns: int = -(2**63)  #: last source time that was one of arrival
    base: int = 0  #: names the time base of arrival: another one each time that our own clock was set back

    def believe(self, batch: SampleBatch, future_limit_ns: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """
        Source times of a batch and the rows whose device clock is not believed.

        Such a row gets the time of arrival, strictly increasing over the source, however the stream is cut; where our
        own clock was set back by more than ``BACK_NS``, from its new time on.
        """
        own = (batch.flags & np.uint32(Flag.ARRIVAL_TIME)) == 0
        self._estimate(batch, own)
        source_ns = batch.source_ns
        suspect = (source_ns > batch.received_ns + future_limit_ns) | (source_ns < EARLIEST_NS)
        suspect &= own
        count = int(np.count_nonzero(suspect))
        if count:
            first = max(batch.received_ns, self.arrival_ns + 1)
            if batch.received_ns < self.arrival_ns - BACK_NS:
                first = batch.received_ns
            source_ns = source_ns.copy()
            source_ns[suspect] = first + np.arange(count)
            self.arrival_ns = first + count - 1
        return source_ns, suspect

    def is_calm(self, batch: SampleBatch, future_limit_ns: int) -> bool:
        """Whether no row is late so far, and every device time of *batch* is believed."""
        if self.late_rows or int(batch.source_ns.min()) < EARLIEST_NS:
            return False
        if int(batch.source_ns.max()) <= batch.received_ns + future_limit_ns:
            return True
        own = (batch.flags & np.uint32(Flag.ARRIVAL_TIME)) == 0
        return not ((batch.source_ns > batch.received_ns + future_limit_ns) & own).any()

    def take_calm(self, batch: SampleBatch) -> None:
        """What :meth:`believe` and :meth:`judge` remember of a batch that :meth:`is_calm` and has no late row."""
        self._estimate(batch, (batch.flags & np.uint32(Flag.ARRIVAL_TIME)) == 0)
        self.late_since_ns = batch.received_ns

    def bases(
        self, batch: SampleBatch, source_ns: NDArray[np.int64], suspect: NDArray[np.bool_] | None, position: Position
    ) -> NDArray[np.int64] | None:
        """
        What tells apart rows of equal times of arrival, int64[n]: 0 for rows with a time of the device; None for 0 all.

        Times of arrival rise over a source, until our own clock is set back: then a time may come twice, and what came
        at it is no redelivery. The step's place in the journal names what follows. Call it for each batch, in order.
        """
        marks = (batch.flags & np.uint32(Flag.ARRIVAL_TIME)) != 0
        if suspect is not None:
            marks |= suspect
        if not marks.any():
            return None
        times = source_ns if marks.all() else source_ns[marks]
        before, self.arrived_ns = self.arrived_ns, int(times[-1])
        if not self.base and int(times[0]) >= before and not (times[1:] < times[:-1]).any():
            return None
        arrived = np.flatnonzero(marks)
        steps = np.flatnonzero(times < np.concatenate(([before], times[:-1])))
        found = np.zeros(len(batch), np.int64)
        found[arrived] = self.base
        for step in steps.tolist():
            self.base = _named(position, step)
            found[arrived[step:]] = self.base
        return found

    def judge(
        self, times: Times, received_ns: int, last_ns: NDArray[np.int64], of_source: Callable[[], Index]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """
        Late rows, and first rows on a time base that was set back; *last_ns* (per slot) is moved on in place.

        *of_source* gives the slots of all tags of this source.
        """
        self.late_since_ns = min(self.late_since_ns, received_ns)
        if self.late_rows == 0 or received_ns - self.late_since_ns < STEP_NS:
            late, first = late_rows(times, last_ns)
            self._count(late[times.live & ~times.suspect], received_ns)
            return late, first
        tried = last_ns.copy()
        late, first = late_rows(times, tried)
        step = self._step(late, np.flatnonzero(times.live & ~times.suspect))
        if step is None:
            last_ns[:] = tried
            self._count(late[times.live & ~times.suspect], received_ns)
            return late, first
        late_rows(times.part(slice(step)), last_ns)
        last_ns[of_source()] = RESTARTED_NS
        self.late_rows = 0
        rest = times.part(slice(step, None))
        late[step:], first[step:] = late_rows(rest, last_ns)
        self._count(late[step:][rest.live & ~rest.suspect], received_ns)
        return late, first

    def _step(self, late: NDArray[np.bool_], told: Index) -> int | None:
        """Row that completes a run of late rows; *told* are the rows that say something about the clock."""
        need = max(STEP_ROWS - self.late_rows, 1)
        return int(told[need - 1]) if len(told) >= need and late[told[:need]].all() else None

    def _count(self, late: NDArray[np.bool_], received_ns: int) -> None:
        run = len(late) if late.all() else int(np.argmin(late[::-1]))
        if run < len(late):
            self.late_rows = 0
        if self.late_rows == 0:
            self.late_since_ns = received_ns
        self.late_rows += run

    def _estimate(self, batch: SampleBatch, own: NDArray[np.bool_]) -> None:
        # The largest difference of a window has the least transport delay in it, as in NTP's clock filter.
        if not own.any():
            return
        window = batch.received_ns // _SKEW_WINDOW_NS
        if window != self.window:
            self.before_ns = self.ahead_ns
            self.ahead_ns, self.window = None, window
        ahead = int(batch.source_ns[own].max()) - batch.received_ns
        self.ahead_ns = ahead if self.ahead_ns is None else max(self.ahead_ns, ahead)

    def skew(self, limit_ns: int) -> Skew | None:
        """Estimate over the last one to two minutes of reception; None before the first device time."""
        known = [value for value in (self.ahead_ns, self.before_ns) if value is not None]
        if not known:
            return None
        ahead = max(known)
        return Skew(ahead, abs(ahead) > limit_ns, self.window * _SKEW_WINDOW_NS)


def _named(position: Position, row: int) -> int:
    """A number of 63 bits, not 0, that belongs to a row of an entry."""
    text = f"{position.epoch}/{position.seq}/{row}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1 or 1


def late_rows(times: Times, last_ns: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """
    Rows older than a row of the same tag before them, and first rows of a tag whose source's clock was set back.

    *last_ns* (per slot) is moved on in place. Rows at the time of arrival neither are late nor move the tag's time:
    the next believed time may lie behind.
    """
    slot, suspect = times.slot, times.suspect
    time_ns = np.where(suspect, NEVER_NS, times.source_ns) if suspect.any() else times.source_ns
    before = last_ns[slot]
    first = occurrence(slot) == 0
    if not first.all():
        before = np.maximum(before, _highest_before(slot, time_ns, first))
    np.maximum.at(last_ns, slot, time_ns)
    late: NDArray[np.bool_] = (times.source_ns < before) & ~suspect
    restarts: NDArray[np.bool_] = (before == RESTARTED_NS) & ~suspect
    return late, restarts


def _highest_before(slot: Index, time_ns: NDArray[np.int64], first: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Highest time of the same slot in the rows before each row; NEVER_NS for the first."""
    order = np.argsort(slot, kind="stable")
    starts = first[order]
    group = np.cumsum(starts)
    # Ranks instead of times, so that group and time fit into one int64 whose running maximum is the group's own.
    by_rank = np.sort(time_ns)
    rank = np.searchsorted(by_rank, time_ns[order])
    running = np.maximum.accumulate(group * len(slot) + rank)
    highest = by_rank[running - group * len(slot)]
    before = np.full(len(slot), NEVER_NS, np.int64)
    before[order[1:]] = np.where(starts[1:], NEVER_NS, highest[:-1])
    return before
