"""
Operating modes of each group: the state of its equipment and its set points, of which nearly equal ones are one mode.

A mode is looked up when its group is looked at next, not when a set point moves: that may pass through many values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.base import finite
from detectors.multivariate_groups import Group
from detectors.multivariate_model import FAR
from detectors.multivariate_saved import Mode
from detectors.parameters import Parameters
from schemas.columns import Index
from schemas.tagmap import TagMap

_SAME_SET_POINT: Final = 0.005


class Modes:
    """
    Which modes a group has had, and which one it is in.

    Args:
        most: modes that are kept of each group.
        drop: told of the group and number of a mode that is forgotten for a newer one.
    """

    def __init__(self, most: int, drop: Callable[[str, int], None]) -> None:
        self._most, self._drop = most, drop
        self.known: dict[str, list[Mode]] = {}
        self.present: dict[str, int] = {}
        self.stale: set[str] = set()  #: groups whose mode has to be looked up
        self._groups: list[Group] = []
        self._context: dict[int, tuple[int, list[int]]] = {}  # state (-1: none) and set-point slots by equipment
        self._watch: Index = np.empty(0, np.intp)
        self._watched: NDArray[np.float64] = np.empty(0)

    def bind(self, tag_map: TagMap, parameters: Parameters, groups: Iterable[Group]) -> None:
        """Follow the states and set points of this map; the mode of every group is looked up."""
        self._groups = list(groups)
        slot_of = {int(number): slot for slot, number in enumerate(parameters.number) if number >= 0}
        by_path = {tag.path: slot_of.get(tag.number) for tag in tag_map.tags}
        self._context = {}
        for number, path in enumerate(parameters.equipments):
            item = tag_map.equipment_by_path.get(path)
            state = by_path.get(item.state) if item is not None and item.state else None
            self._context[number] = (-1 if state is None else state, [])
        for tag in tag_map.tags:
            slot = slot_of.get(tag.number)
            if tag.role == "sp" and slot is not None:
                self._context[int(parameters.equipment[slot])][1].append(slot)
        slots = {slot for state, points in self._context.values() for slot in (state, *points) if slot >= 0}
        self._watch = np.array(sorted(slots), np.intp)
        self._watched = np.full(len(self._watch), np.nan)
        self.stale = {group.key for group in self._groups}

    def keep(self, present: Collection[str]) -> None:
        """Forget what belongs to other groups."""
        self.known = {key: modes for key, modes in self.known.items() if key in present}
        self.present = {key: mode for key, mode in self.present.items() if key in present}

    def follow(self, value: NDArray[np.float64]) -> None:
        """Take note of states and set points that have changed; *value* is by slot."""
        if len(self._watch) == 0:
            return
        now = value[self._watch]
        moved = (now != self._watched) & ~(np.isnan(now) & np.isnan(self._watched))
        if not moved.any():
            return
        self._watched = now
        slots = set(self._watch[moved].tolist())
        touched = {number for number, (state, points) in self._context.items() if slots & {state, *points}}
        self.stale |= {group.key for group in self._groups if group.equipment in touched}

    def look_up(self, group: Group, value: NDArray[np.float64], now_ns: int) -> int | None:
        """Number of the mode that the group is in now; None where it is the one before."""
        if group.key not in self.stale:
            return None
        self.stale.discard(group.key)
        slot, points = self._context[group.equipment]
        state = None if slot < 0 else finite(value[slot])
        set_points = [float(np.nan_to_num(value[point], posinf=FAR, neginf=-FAR)) for point in points]
        modes = self.known.setdefault(group.key, [])
        mode = next((m for m in modes if m.state == state and _same(m.set_points, set_points)), None)
        fresh = mode is None
        if mode is None:
            number = len(modes)
            if number >= self._most:
                oldest = min(modes, key=lambda m: m.used_ns)
                number = oldest.number
                modes.remove(oldest)
                self._drop(group.key, number)
            mode = Mode(number, state, set_points, now_ns)
            modes.append(mode)
        mode.used_ns = now_ns
        if not fresh and self.present.get(group.key) == mode.number:
            return None
        self.present[group.key] = mode.number
        return mode.number

    def watched(self) -> list[float]:
        """Last states and set points, in the order of their slots."""
        values: list[float] = self._watched.tolist()
        return values

    def load(self, known: dict[str, list[Mode]], present: dict[str, int]) -> None:
        """Put saved modes into place, before :meth:`resume`."""
        self.known, self.present = known, present

    def resume(self, watched: list[float], stale: Collection[str]) -> None:
        """Go on from saved values, where the map still watches as many."""
        if len(watched) == len(self._watch):
            self._watched = np.array(watched, np.float64)
            # groups that the state does not know have no mode yet
            keys = {group.key for group in self._groups}
            self.stale = {key for key in keys if key in stale or key not in self.present}


def _same(one: list[float], other: list[float]) -> bool:
    """Whether two lists of set points are one mode."""
    pairs = zip(one, other, strict=True)
    return all(abs(a - b) <= _SAME_SET_POINT * max(abs(a), abs(b)) for a, b in pairs)
