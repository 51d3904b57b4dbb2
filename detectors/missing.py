"""
Missing: a tag that should send does not, although its source is up, or sends nothing but bad values.

A source that is down is a gap with its cause, not an anomaly of each tag; a source that is up and silent as a whole
gives one finding on each piece of equipment, on its first tag that had none before. Ages are counted in ticks (see
``clock`` in ``detection``), so a jump of the host's clock makes nothing stale.

Bad values count from the first one after the last that was not bad, while the equipment runs steadily; one that had no
usable value yet (a spare input, a text) is not told, nor one whose values are bad now and then as a habit: but what
was so before its first usable value, while it was commissioned, is none, and none keeps a quarter of an hour from being
told. They are told of tags that are reported by exception as well: their last word holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.base import BAD, SILENT, Detector, Judgement
from detectors.parameters import Parameters
from schemas.anomaly import Kind
from schemas.columns import Columns, Index, column, rounds

_NEVER: Final = -1
#: Bad values are told after so many scans, so long at least, and not before the tag's own time.
_BAD_SCANS: Final = 10
_BAD_NS: Final = 30_000_000_000
#: So many values, or so long where fewer come; and so many times what the tag has come back from.
_BAD_ROWS: Final = 10
_LONG_NS: Final = 300_000_000_000
_LONGEST: Final = 8
#: Whatever it has come back from, so long is told.
_LATEST_NS: Final = 900_000_000_000


class SourceLink(msgspec.Struct):
    """What is known of a source; times on the tick clock, ns."""

    up: bool = False
    since_ns: int = 0  #: when it came up
    seen_ns: int = _NEVER  #: last sample of any of its tags


class _Seen(Columns):
    at_ns: NDArray[np.int64] = column(np.int64, _NEVER)
    #: when the silent source was last heard for which the tag's finding speaks; never, where for the tag alone
    silence_ns: NDArray[np.int64] = column(np.int64, _NEVER)
    usable: NDArray[np.bool_] = column(np.bool_)  #: it has had a usable value
    bad_ns: NDArray[np.int64] = column(
        np.int64, _NEVER
    )  #: since when only bad values came; never, where the last is not
    bad_rows: NDArray[np.int32] = column(np.int32)  #: bad values since then
    #: the longest it sent nothing else and came back, in values and in time
    longest_rows: NDArray[np.int32] = column(np.int32)
    longest_ns: NDArray[np.int64] = column(np.int64)
    bad_s: NDArray[np.float64] = column(np.float64, np.nan)  #: for how long, where its finding is about that


@dataclass(frozen=True, slots=True)
class Arrived:
    """
    n rows in the order of arrival, each column of length n.

    ``other`` are those that are not bad, usable or uncertain; a late row is neither: it does not say how the tag is.
    """

    slot: Index
    bad: NDArray[np.bool_]
    other: NDArray[np.bool_]
    usable: NDArray[np.bool_]


class Missing(Detector):
    """No sample of a tag, or none that is not bad, for longer than may be."""

    name = "missing"
    kind = Kind.MISSING

    def __init__(self) -> None:
        self._seen = _Seen()
        super().__init__(self._seen)
        self.links: dict[str, SourceLink] = {}

    def heard(self, source: str, now_ns: int) -> None:
        """Take note that samples (any status) of a source came."""
        link = self.links.setdefault(source, SourceLink())
        if not link.up:
            link.up, link.since_ns = True, now_ns
        link.seen_ns = now_ns

    def arrived(self, rows: Arrived, now_ns: int, wall_ns: int) -> Index:
        """Take note of samples (any status); the rows that end a condition."""
        seen, slot = self._seen, rows.slot
        seen.at_ns[slot] = now_ns
        silent = self.conditions.active[slot] & np.isnan(seen.bad_s[slot])
        ending = [np.flatnonzero(silent)]
        if rows.bad.any() or (seen.bad_ns[slot] != _NEVER).any():
            ending += [self._count_bad(rows, turn, now_ns) for turn in rounds(slot)]
        seen.usable[slot[rows.usable]] = True
        back = np.concatenate(ending)
        if len(back) == 0:
            return back
        back = np.sort(back)[np.unique(slot[np.sort(back)], return_index=True)[1]]
        self.conditions.last_ns[slot[back]] = wall_ns
        self.conditions.end(slot[back])
        return back

    def _count_bad(self, rows: Arrived, turn: Index, now_ns: int) -> Index:
        """Follow the bad values since the last other one of each tag, no tag twice; the rows that end a condition."""
        seen = self._seen
        at = turn[rows.other[turn]]
        other, bad = rows.slot[at], rows.slot[turn[rows.bad[turn]]]
        told = self.conditions.active[other] & ~np.isnan(seen.bad_s[other])
        self.conditions.end(other[told])
        # what was told is no habit, nor what was so before there was a usable value
        back = other[(seen.bad_rows[other] > 0) & ~told & seen.usable[other]]
        seen.longest_rows[back] = np.maximum(seen.longest_rows[back], seen.bad_rows[back])
        seen.longest_ns[back] = np.maximum(seen.longest_ns[back], now_ns - seen.bad_ns[back])
        self._forget_bad(other)
        seen.usable[rows.slot[turn[rows.usable[turn]]]] = True
        seen.bad_rows[bad] += 1
        seen.bad_ns[bad] = np.where(seen.bad_ns[bad] == _NEVER, now_ns, seen.bad_ns[bad])
        return at[told]

    def _forget_bad(self, slots: Index) -> None:
        self._seen.bad_ns[slots], self._seen.bad_rows[slots] = _NEVER, 0

    def bad_s(self, slot: int) -> float:
        """For how long the tag has sent only bad values, where its finding is about that; else NaN."""
        return float(self._seen.bad_s[slot])

    def stop(self, slots: Index) -> Index:
        """The equipment of these tags stopped: bad values are ordinary then. The slots whose condition this ends."""
        return self.conditions.end(slots[~np.isnan(self._seen.bad_s[slots])])

    def cut_off(self, slots: Index) -> Index:
        """The link of these tags went down, and says what is to say; the slots whose condition this ends."""
        self._forget_bad(slots)
        return self.conditions.end(slots)

    def linked(self, source: str, up: bool, now_ns: int) -> None:
        """Take note of a link."""
        link = self.links.setdefault(source, SourceLink())
        if up and not link.up:
            link.since_ns = now_ns
        link.up = up

    def tick(
        self,
        now_ns: int,
        wall_ns: int,
        parameters: Parameters,
        joined_ns: NDArray[np.int64],
        steady: NDArray[np.bool_],
    ) -> Index:
        """
        Look at every tag at a tick; the slots whose condition begins now.

        *joined_ns* is when each slot came into the map, on the tick clock: a tag that never sent is missing as well.
        """
        silent = self._tick_silent(now_ns, wall_ns, parameters, joined_ns)
        return np.union1d(silent, self._tick_bad(now_ns, wall_ns, parameters, steady)).astype(np.intp)

    def _tick_bad(self, now_ns: int, wall_ns: int, parameters: Parameters, steady: NDArray[np.bool_]) -> Index:
        seen = self._seen
        slot = np.flatnonzero((seen.bad_ns != _NEVER) & parameters.fed)
        if len(slot) == 0:
            return slot
        active = self.conditions.active[slot]
        mine = active & ~np.isnan(seen.bad_s[slot])
        waits = ~mine & ~steady[slot]
        seen.bad_ns[slot[waits]], seen.bad_rows[slot[waits]] = now_ns, 0
        age = now_ns - seen.bad_ns[slot]
        allowed = np.maximum(np.maximum(_BAD_SCANS * parameters.scan_ns[slot], _BAD_NS), parameters.stale_ns[slot])
        many = (seen.bad_rows[slot] >= _BAD_ROWS) & (seen.bad_rows[slot] > _LONGEST * seen.longest_rows[slot])
        long = age > np.clip(_LONGEST * seen.longest_ns[slot], _LONG_NS, _LATEST_NS)
        begins = seen.usable[slot] & ~active & (age > allowed) & (many | long)
        look = np.flatnonzero(begins | mine)
        if len(look) == 0:
            return look
        slot, age, begins = slot[look], age[look], begins[look]
        seen.bad_s[slot] = age / 1e9
        return self._update(slot, BAD, begins, age, allowed[look], wall_ns)

    def _update(
        self,
        slot: Index,
        direction: int,
        begins: NDArray[np.bool_],
        age: NDArray[np.int64],
        allowed: NDArray[np.int64],
        wall_ns: int,
    ) -> Index:
        nothing = np.full(len(slot), np.nan)
        said = Judgement(
            outside=begins,
            inside=np.zeros(len(slot), np.bool_),
            onset_ns=wall_ns - age,
            value=nothing,
            score=age / np.maximum(allowed, 1),
            low=nothing,
            high=nothing,
            direction=np.full(len(slot), direction, np.int8),
            samples=np.zeros(len(slot), np.int64),
        )
        return slot[self.conditions.update(slot, np.full(len(slot), wall_ns, np.int64), said).began]

    def _tick_silent(self, now_ns: int, wall_ns: int, parameters: Parameters, joined_ns: NDArray[np.int64]) -> Index:
        links = [self.links.get(name, SourceLink()) for name in parameters.sources]
        if not any(link.up for link in links):
            return np.empty(0, np.intp)
        up = np.array([link.up for link in links], np.bool_)
        since = np.array([link.since_ns for link in links], np.int64)
        heard = np.array([max(link.seen_ns, link.since_ns) for link in links], np.int64)
        watched = np.flatnonzero((parameters.stale_ns >= 0) & up[parameters.source])
        source, allowed = parameters.source[watched], parameters.stale_ns[watched]
        last = np.maximum(np.maximum(self._seen.at_ns[watched], since[source]), joined_ns[watched])
        age = now_ns - last
        active = self.conditions.active[watched]
        stale = age > allowed
        if not stale.any():
            return np.empty(0, np.intp)
        begins = stale & ~active
        # told by its bad values, and these have stopped as well: it speaks for itself, whatever its source does
        stopped = stale & active & ~np.isnan(self._seen.bad_s[watched])
        silent = begins & (now_ns - heard[source] > allowed)
        self._seen.silence_ns[watched[begins | stopped]] = _NEVER
        if silent.any():
            begins &= ~silent
            # A finding from before the silence speaks for its own tag only.
            spoken = active & (self._seen.silence_ns[watched] == heard[source])
            speakers = self._speakers(watched, silent, spoken, parameters)
            begins[speakers] = True
            self._seen.silence_ns[watched[speakers]] = heard[source[speakers]]
        begins |= stopped
        self._seen.bad_s[watched[begins]] = np.nan
        look = np.flatnonzero(begins | (active & np.isnan(self._seen.bad_s[watched])))
        return self._update(watched[look], SILENT, begins[look], age[look], allowed[look], wall_ns)

    def unheard(
        self, slot: Index, now_ns: int, parameters: Parameters, joined_ns: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Which of these slots are not heard: their source is down, or they are silent for longer than they may be."""
        links = [self.links.get(name, SourceLink()) for name in parameters.sources]
        source, allowed = parameters.source[slot], parameters.stale_ns[slot]
        up = np.array([link.up for link in links], np.bool_)[source]
        since = np.array([link.since_ns for link in links], np.int64)[source]
        last = np.maximum(np.maximum(self._seen.at_ns[slot], since), joined_ns[slot])
        return ~up | ((allowed >= 0) & (now_ns - last > allowed))

    def _speakers(
        self, watched: Index, silent: NDArray[np.bool_], spoken: NDArray[np.bool_], parameters: Parameters
    ) -> Index:
        """Of the tags of silent sources, the first of each source and equipment for which none has spoken yet."""
        place = parameters.source[watched] * len(parameters.equipments) + parameters.equipment[watched]
        waiting = np.flatnonzero(silent & ~np.isin(place, place[spoken]))
        waiting = waiting[np.argsort(parameters.number[watched[waiting]], kind="stable")]
        return waiting[np.unique(place[waiting], return_index=True)[1]]
