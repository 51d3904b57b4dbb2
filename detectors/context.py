"""
Context gate: detectors look at equipment that runs and has been left alone for the hold-off.

The equipment's state comes from the tag its map entry names; a change of it, or of a set point (role ``sp``), starts
the hold-off. Equipment without a state tag always runs; with one, it does not before the state is known.

Equipment that is off by the calendar does not run, and equipment in maintenance is not steady: what people do to it is
neither judged against its normal nor learned. The end of both starts the hold-off.
"""

from __future__ import annotations

from collections.abc import Set

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.parameters import Parameters, equipment_of
from schemas.columns import Columns, Index, Slots, column
from schemas.tagmap import TagMap


class EquipmentState(msgspec.Struct):
    """Last known state of one piece of equipment, and the end of its hold-off on the tick clock."""

    state: int | None = None
    steady_from_ns: int = -(2**63)
    off: bool = False
    maintained: bool = False


class _Last(Columns):
    value: NDArray[np.float64] = column(np.float64, np.nan)


class Context:
    """States and set points of the equipment of the map in force."""

    def __init__(self, hold_off_s: float) -> None:
        self._hold_off_s = hold_off_s
        self._last = _Last()
        self.known: dict[str, EquipmentState] = {}
        self._states: dict[int, list[str]] = {}
        self._set_points: dict[int, str] = {}
        self._hold_off_ns: dict[str, int] = {}
        self._running: dict[str, frozenset[int]] = {}
        self.watched: NDArray[np.bool_] = np.zeros(0, np.bool_)

    @property
    def memory(self) -> tuple[Columns, ...]:
        """Last value of each state and set-point tag; the states of equipment are apart."""
        return (self._last,)

    def bind(self, tag_map: TagMap, slots: Slots) -> None:
        """Follow the state and set-point tags of this map."""
        self._states, self._set_points, self._running, self._hold_off_ns = {}, {}, {}, {}
        for item in tag_map.equipment:
            seconds = self._hold_off_s if item.hold_off_s is None else item.hold_off_s
            self._hold_off_ns[item.path] = round(seconds * 1e9)
            tag = tag_map.by_path.get(item.state) if item.state else None
            slot = slots.find(tag.id) if tag else None
            if slot is not None:
                self._states.setdefault(slot, []).append(item.path)
                self._running[item.path] = frozenset(item.running)
        for tag in tag_map.tags:
            slot = slots.find(tag.id)
            if tag.role == "sp" and slot is not None:
                self._set_points[slot] = equipment_of(tag)
        self.watched = np.zeros(len(slots), np.bool_)
        self.watched[[*self._states, *self._set_points]] = True
        present = {equipment_of(tag) for tag in tag_map.tags} | {item.path for item in tag_map.equipment}
        self.known = {path: state for path, state in self.known.items() if path in present}

    def changes(self, slot: Index, value: NDArray[np.float64]) -> list[int]:
        """Row numbers at which a state or set point differs from the one before; nothing is remembered yet."""
        rows = np.flatnonzero(self.watched[slot] & np.isfinite(value))
        if len(rows) == 0 or (value[rows] == self._last.value[slot[rows]]).all():
            return []
        last: dict[int, float] = {}
        found = []
        for row in rows.tolist():
            place = int(slot[row])
            if value[row] != last.get(place, self._last.value[place]):
                found.append(row)
            last[place] = float(value[row])
        return found

    def apply(self, slot: int, value: float, now_ns: int) -> tuple[list[str], list[str]]:
        """
        Take one change; the equipment whose gate this concerns, and of it, that with another set point.

        The first known value is no change and starts no hold-off.
        """
        first = bool(np.isnan(self._last.value[slot]))
        self._last.value[slot] = value
        touched: list[str] = []
        for path in self._states.get(slot, []):
            self.known.setdefault(path, EquipmentState()).state = _state(value)
            touched.append(path)
        moved = [self._set_points[slot]] if slot in self._set_points and not first else []
        touched += [path for path in moved if path not in touched]
        if not first:
            for path in touched:
                hold_off_ns = self._hold_off_ns.get(path, round(self._hold_off_s * 1e9))
                self.known.setdefault(path, EquipmentState()).steady_from_ns = now_ns + hold_off_ns
        return touched, moved

    def hold(self, off: Set[str], maintained: Set[str], now_ns: int) -> list[str]:
        """Say which equipment is off and which in maintenance; the equipment of which that is another than before."""
        touched = [
            path
            for path in sorted({*off, *maintained, *self.known})
            if (path in off, path in maintained) != self._held(path)
        ]
        for path in touched:
            state = self.known.setdefault(path, EquipmentState())
            state.off, state.maintained = path in off, path in maintained
            state.steady_from_ns = now_ns + self._hold_off_ns.get(path, round(self._hold_off_s * 1e9))
        return touched

    def _held(self, path: str) -> tuple[bool, bool]:
        state = self.known.get(path)
        return (False, False) if state is None else (state.off, state.maintained)

    def runs(self, path: str) -> bool:
        """Whether the equipment is in a state in which detectors look."""
        if self._held(path)[0]:
            return False
        running = self._running.get(path)
        if running is None:
            return True
        state = self.known.get(path, EquipmentState()).state
        return state is not None and (not running or state in running)

    def gates(self, parameters: Parameters, now_ns: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """By slot: the equipment runs; it runs and is steady."""
        running = np.array([self.runs(path) for path in parameters.equipments], np.bool_)
        steady = running & np.array(
            [
                now_ns >= self.known[path].steady_from_ns and not self.known[path].maintained
                if path in self.known
                else True
                for path in parameters.equipments
            ],
            np.bool_,
        )
        if len(running) == 0:
            return np.zeros(len(parameters.fed), np.bool_), np.zeros(len(parameters.fed), np.bool_)
        return running[parameters.equipment], steady[parameters.equipment]


def _state(value: float) -> int | None:
    """The state number, None (unknown) where the value is no integer of 64 bits."""
    return int(value) if value.is_integer() and -(2.0**63) <= value < 2.0**63 else None
