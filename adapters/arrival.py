"""Times of arrival as source times, where protocol or payload carries none."""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.status import Flag

#: A clock of ours that is behind the last time given by more was set back (C7); by less it is held, so that rows of
#: one instant, replies out of order and a clock that is slowed down keep their order.
BACK_NS: Final = 1_000_000_000


class Arrival:
    """
    Gives rows without a time of their own that of their arrival: strictly increasing over all batches of a source.

    Where this host's clock was set back, the new clock is believed: times step back once, the rows that come with the
    step are flagged, and it is counted (``clock_steps``). Held at the old time until the clock comes up to it again,
    an hour's values would bear one second. That a time may come twice then is for the normalizer, which tells such rows
    apart by the step.
    """

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._last_ns: int | None = None

    def spread(self, at_ns: NDArray[np.int64], flags: NDArray[np.uint32]) -> NDArray[np.int64]:
        """
        Source times of n rows that arrived at *at_ns*, int64[n].

        In *flags* (uint32[n]) rows behind a step back get ``Flag.CLOCK_SUSPECT``, up to the end of the call.
        """
        found = np.empty(len(at_ns), np.int64)
        start = 0
        while start < len(at_ns):
            at = at_ns[start:]
            before = at[:1] if self._last_ns is None else np.array([self._last_ns], np.int64)
            highest = np.maximum.accumulate(np.concatenate((before, at)))[:-1]
            back = at < highest - BACK_NS
            stop = int(np.argmax(back)) if back.any() else len(at)
            if stop:
                found[start : start + stop] = self._rising(at[:stop])
            if stop < len(at):
                self._last_ns = None
                self._counters["clock_steps"] += 1
                flags[start + stop :] |= np.uint32(Flag.CLOCK_SUSPECT)
            start += stop
        return found

    def _rising(self, at_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        place = np.arange(len(at_ns), dtype=np.int64)
        ahead = at_ns - place
        if self._last_ns is not None:
            ahead[0] = max(int(ahead[0]), self._last_ns + 1)
        found: NDArray[np.int64] = np.maximum.accumulate(ahead) + place
        self._last_ns = int(found[-1])
        return found
