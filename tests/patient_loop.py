"""
The event loop of the tests: its clock stands still while the machine does.

Tests set the product's limits short: a time-out of 100 ms, half a second of silence. A machine that stops for seconds,
or gives this process a fifth of the time it needs, would let them pass although nobody was silent. So the time in which
this process could not run is no time for the loop. A peer that says nothing and a loop that is blocked cost what they
cost, also where the block computes and lets no other thread run: processor time of this process is time. The clock
never runs ahead of the real one, so lower bounds of real time hold.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_BEAT_S = 0.01
#: Two beats that are further apart than this: the process did not run in between.
_STOOD_S = 0.03


class _Clock:
    """Monotonic seconds without those in which its thread, and so the whole process, could not run."""

    def __init__(self) -> None:
        begun = time.monotonic()
        self._beat = (begun, begun, time.process_time())
        self._most_s = _STOOD_S
        self._beating = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="patient-clock", daemon=True)
        self._thread.start()

    def time(self) -> float:
        real, own, busy = self._beat
        return own + min(time.monotonic() - real, max(self._most_s, time.process_time() - busy))

    @property
    def stood_s(self) -> float:
        return time.monotonic() - self.time()

    def bear(self, most_s: float) -> None:
        """Count so much between two beats at the most from now on."""
        self._tick()
        self._most_s = most_s

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_BEAT_S):
            self._tick()

    def _tick(self) -> None:
        with self._beating:
            real, own, busy = self._beat
            now, worked = time.monotonic(), time.process_time()
            self._beat = (now, own + min(now - real, max(self._most_s, worked - busy)), worked)


class PatientLoop(asyncio.SelectorEventLoop):
    """The standard loop with that clock."""

    def __init__(self) -> None:
        self._clock = _Clock()
        super().__init__()

    def time(self) -> float:
        """Seconds, as `asyncio.AbstractEventLoop.time`."""
        return self._clock.time()

    @property
    def stood_s(self) -> float:
        """Seconds in which this process could not run, since the loop was made."""
        return self._clock.stood_s

    @contextmanager
    def in_real_time(self) -> Iterator[None]:
        """Count every second, for what a server in another process measures by its own clock."""
        self._clock.bear(math.inf)
        try:
            yield
        finally:
            self._clock.bear(_STOOD_S)

    def close(self) -> None:
        """Close the loop and end the clock's thread."""
        super().close()
        self._clock.end()


class PatientPolicy(asyncio.DefaultEventLoopPolicy):
    """Every loop of the tests' own process is a patient one (``tests/conftest.py``)."""

    def new_event_loop(self) -> PatientLoop:
        """A loop that is not running yet."""
        return PatientLoop()
