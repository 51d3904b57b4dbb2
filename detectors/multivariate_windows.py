"""
Clean windows that are being filled: a bounded number of places, which groups take in turn.

* A window that gave no model leaves its place, and its group stays behind for about as long as all others that want to
  learn need for one turn each. So quiet groups, which have nothing to learn, do not keep live ones from learning.
* A window that took no snapshot for some time (its mode was left, its group fell silent or is disturbed) keeps what it
  has until another group needs the place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.multivariate_saved import Window, place_of

#: Groups that learn at a time; the others wait. It bounds memory, the saved state and the time of a tick.
MOST_LEARNING: Final = 16
#: Snapshots a window holds at most.
MOST_ROWS: Final = 1024

#: Group key and number of the mode.
Place = tuple[str, int]


class Windows:
    """Windows by group and mode; ``idle_ns`` is how long a window of this group may take nothing and keep its place."""

    def __init__(self, idle_ns: Callable[[str], int]) -> None:
        self._idle_ns = idle_ns
        self._open: dict[Place, Window] = {}
        self._not_before: dict[Place, int] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Window]:
        return iter(self._open.values())

    def get(self, place: Place) -> Window | None:
        """The window that this group fills in this mode."""
        return self._open.get(place)

    def begin(self, place: Place, reference: NDArray[np.float64], now_ns: int) -> Window | None:
        """A new window, whose rows count from *reference*; None while it is not this group's turn."""
        if now_ns < self._not_before.get(place, now_ns) or not self._room(now_ns):
            return None
        self._not_before.pop(place, None)
        window = self._open[place] = Window(reference.tolist(), took_ns=now_ns)
        return window

    def _room(self, now_ns: int) -> bool:
        """Whether there is a free place; the window that has been idle for longest leaves its own for it."""
        if len(self._open) < MOST_LEARNING:
            return True
        place = min(self._open, key=lambda place: self._open[place].took_ns)
        if now_ns - self._open[place].took_ns <= self._idle_ns(place[0]):
            return False
        del self._open[place]
        return True

    @staticmethod
    def take(window: Window, values: NDArray[np.float64], there: NDArray[np.bool_], anew: bool, now_ns: int) -> None:
        """Add a snapshot; *anew*: it does not follow the one before."""
        if window.broken or anew:
            window.starts.append(len(window.rows))
            window.broken = False
        n = len(window.reference)
        shown = np.where(there, values, np.nan)[:n] - np.array(window.reference)
        window.rows.append(shown.astype("<f4").tobytes())
        window.took_ns = now_ns
        more = len(window.rows) - MOST_ROWS
        if more > 0:
            del window.rows[:more]
            window.starts = [0, *(start - more for start in window.starts if start > more)]

    def break_off(self, key: str) -> None:
        """What follows in the windows of this group does not follow what they have."""
        for place, window in self._open.items():
            window.broken |= place[0] == key

    def drop(self, place: Place) -> None:
        """Forget the window, and whose turn it is."""
        self._open.pop(place, None)
        self._not_before.pop(place, None)

    def put_off(self, place: Place, until_ns: int) -> None:
        """Forget the window; the group does not begin another one before *until_ns*."""
        self.drop(place)
        self._not_before[place] = until_ns

    def keep(self, present: Collection[str]) -> None:
        """Forget what belongs to other groups."""
        self._open = {place: window for place, window in self._open.items() if place[0] in present}
        self._not_before = {place: at_ns for place, at_ns in self._not_before.items() if place[0] in present}

    def dump(self) -> tuple[dict[str, Window], dict[str, int]]:
        """Windows and turns as they are saved."""
        return {_name(p): window for p, window in self._open.items()}, {
            _name(p): n for p, n in self._not_before.items()
        }

    def load(self, windows: dict[str, Window], not_before: dict[str, int]) -> None:
        """Inverse of :meth:`dump`. Raises ValueError where a name is none."""
        self._open = {place_of(name): window for name, window in windows.items()}
        self._not_before = {place_of(name): at_ns for name, at_ns in not_before.items()}


def _name(place: Place) -> str:
    return f"{place[0]} {place[1]}"
