"""
Missing: a tag that should send does not, although its source is up.

A source that is down is a gap with its cause, not an anomaly of each tag; a source that is up and silent as a whole
gives one finding on each piece of equipment, on its first tag that had none before. Ages are counted in ticks (see
``clock`` in ``detection``), so a jump of the host's clock makes nothing stale.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.base import SILENT, Conditions, Judgement
from detectors.parameters import Parameters
from schemas.anomaly import Kind
from schemas.columns import Columns, Index, column

_NEVER: Final = -1


class SourceLink(msgspec.Struct):
    """What is known of a source; times on the tick clock, ns."""

    up: bool = False
    since_ns: int = 0  #: when it came up
    seen_ns: int = _NEVER  #: last sample of any of its tags


class _Seen(Columns):
    at_ns: NDArray[np.int64] = column(np.int64, _NEVER)
    #: when the silent source was last heard for which the tag's finding speaks; never, where for the tag alone
    silence_ns: NDArray[np.int64] = column(np.int64, _NEVER)


class Missing:
    """No sample of a tag for longer than its map allows."""

    name = "missing"
    kind = Kind.MISSING

    def __init__(self) -> None:
        self.conditions = Conditions()
        self._seen = _Seen()
        self.links: dict[str, SourceLink] = {}

    @property
    def memory(self) -> tuple[Columns, ...]:
        """Conditions and the time of the last sample; the links are apart."""
        return (self.conditions, self._seen)

    def heard(self, source: str, now_ns: int) -> None:
        """Take note that samples (any status) of a source came."""
        link = self.links.setdefault(source, SourceLink())
        if not link.up:
            link.up, link.since_ns = True, now_ns
        link.seen_ns = now_ns

    def arrived(self, slot: Index, now_ns: int, wall_ns: int) -> Index:
        """Take note of samples (any status) of these slots; those whose condition this ends."""
        self._seen.at_ns[slot] = now_ns
        back = np.unique(slot[self.conditions.active[slot]])
        self.conditions.last_ns[back] = wall_ns
        return self.conditions.end(back)

    def linked(self, source: str, up: bool, now_ns: int) -> None:
        """Take note of a link."""
        link = self.links.setdefault(source, SourceLink())
        if up and not link.up:
            link.since_ns = now_ns
        link.up = up

    def tick(self, now_ns: int, wall_ns: int, parameters: Parameters, joined_ns: NDArray[np.int64]) -> Index:
        """
        Look at every tag at a tick; the slots whose condition begins now.

        *joined_ns* is when each slot came into the map, on the tick clock: a tag that never sent is missing as well.
        """
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
        silent = begins & (now_ns - heard[source] > allowed)
        self._seen.silence_ns[watched[begins]] = _NEVER
        if silent.any():
            begins &= ~silent
            # A finding from before the silence speaks for its own tag only.
            spoken = active & (self._seen.silence_ns[watched] == heard[source])
            speakers = self._speakers(watched, silent, spoken, parameters)
            begins[speakers] = True
            self._seen.silence_ns[watched[speakers]] = heard[source[speakers]]
        look = np.flatnonzero(begins | active)
        said = Judgement(
            outside=begins[look],
            inside=np.zeros(len(look), np.bool_),
            onset_ns=wall_ns - age[look],
            value=np.full(len(look), np.nan),
            score=age[look] / np.maximum(allowed[look], 1),
            low=np.full(len(look), np.nan),
            high=np.full(len(look), np.nan),
            direction=np.full(len(look), SILENT, np.int8),
            samples=np.zeros(len(look), np.int64),
        )
        slot = watched[look]
        return slot[self.conditions.update(slot, np.full(len(look), wall_ns, np.int64), said).began]

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
