"""
Groups of tags that are judged together, and their charts: one row per group, a bank of arrays per width.

A group is the measured tags of one piece of equipment, cut into equal parts where there are more than a model may
have. Banks have widths of powers of two, so that a step is arithmetic on few arrays and little of it is padding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detectors.multivariate_model import Model
from detectors.parameters import Parameters, equipment_of
from schemas.columns import Index

_NARROWEST: Final = 8
_TICK_NS: Final = 1_000_000_000
#: A value counts for this many scans at least.
_HELD_SCANS: Final = 3


@dataclass(frozen=True, slots=True)
class Group:
    """Slots of the tags of one group; ``key`` names equipment and tags, and changes with them."""

    key: str
    equipment: int
    slots: tuple[int, ...]
    step_ns: int


def groups_of(parameters: Parameters, most: int) -> Iterator[Group]:
    """Groups of at least two tags of the map in force, of at most *most*."""
    members: dict[int, list[int]] = {}
    slot_of = {int(number): slot for slot, number in enumerate(parameters.number) if number >= 0}
    for tag in parameters.tags:
        slot = slot_of.get(tag.number)
        if slot is not None and parameters.chart[slot]:
            members.setdefault(int(parameters.equipment[slot]), []).append(slot)
    for equipment, slots in members.items():
        parts = -(-len(slots) // most)
        for part in np.array_split(np.array(slots, np.intp), parts):
            if len(part) < 2:
                continue
            first = parameters.tags[int(parameters.number[part[0]])]
            tags = [(parameters.tags[int(parameters.number[s])].id, int(parameters.form[s])) for s in part.tolist()]
            step_ns = max(_TICK_NS, int(np.median(parameters.scan_ns[part])))
            name = repr((equipment_of(first), tags)).encode()
            key = hashlib.blake2b(name, digest_size=16).hexdigest()
            yield Group(key, equipment, tuple(part.tolist()), step_ns)


#: Arrays that a chart's future depends on: name, dtype, fill, and whether there is one value per tag.
_CHART: Final[tuple[tuple[str, Any, Any, bool], ...]] = (
    ("seen_ns", np.int64, -1, False),
    ("size", np.float64, 0.0, False),
    ("active", np.bool_, False, False),
    ("since_ns", np.int64, 0, False),
    ("floor", np.float64, 1.0, False),
    ("peak", np.float64, 0.0, False),
    ("late", np.int64, 0, False),
    ("samples", np.int64, 0, False),
    ("previous", np.float64, 0.0, True),
    ("short", np.float64, 0.0, True),
    ("chart", np.float64, 0.0, True),
    ("quiet_ns", np.int64, 0, True),
)


class Bank:
    """
    Groups of one width P as arrays: G rows, tags beyond a group's own are padding (``member`` false, slot 0).

    ``chart`` is in the coordinates of the model's components, ``previous`` and ``short`` are standardised values.
    """

    def __init__(self, width: int, groups: list[Group], hold_ns: int, scan_ns: NDArray[np.int64]) -> None:
        self.width = width
        self.groups = groups
        count = len(groups)
        self.slot: Index = np.zeros((count, width), np.intp)
        self.member: NDArray[np.bool_] = np.zeros((count, width), np.bool_)
        for row, group in enumerate(groups):
            self.slot[row, : len(group.slots)] = group.slots
            self.member[row, : len(group.slots)] = True
        self.step_ns: NDArray[np.int64] = np.array([group.step_ns for group in groups], np.int64)
        self.hold_ns: NDArray[np.int64] = np.maximum(scan_ns[self.slot] * _HELD_SCANS, hold_ns)

        self.seen_ns: NDArray[np.int64]
        self.size: NDArray[np.float64]
        self.active: NDArray[np.bool_]
        self.since_ns: NDArray[np.int64]
        self.floor: NDArray[np.float64]
        self.peak: NDArray[np.float64]
        self.late: NDArray[np.int64]
        self.samples: NDArray[np.int64]
        self.previous: NDArray[np.float64]
        self.short: NDArray[np.float64]
        self.chart: NDArray[np.float64]
        self.quiet_ns: NDArray[np.int64]
        for name, dtype, fill, wide in _CHART:
            setattr(self, name, np.full((count, width) if wide else count, fill, dtype))

        self.known: NDArray[np.bool_] = np.zeros(count, np.bool_)
        self.used: NDArray[np.bool_] = np.zeros((count, width), np.bool_)
        self.absent: NDArray[np.bool_] = np.zeros((count, width), np.bool_)
        self.center = np.zeros((count, width))
        self.scale = np.ones((count, width))
        self.own = np.zeros((count, width))
        self.spread = np.zeros((count, width))
        self.limit = np.full(count, np.inf)
        self.weights = np.zeros((count, 2 * width, width), np.float32)
        self.rotation = np.zeros((count, width, width), np.float32)

    def begin(self, row: int) -> None:
        """The chart of this group begins anew; the model stays."""
        for name, _, fill, _ in _CHART:
            getattr(self, name)[row] = fill

    def put(self, row: int, model: Model | None) -> None:
        """Judge this group by a model, or not at all."""
        self.known[row] = model is not None
        self.used[row], self.absent[row] = False, False
        if model is None:
            return
        n = len(model.used)
        self.used[row, :n] = model.used
        self.absent[row, :n] = model.absent
        self.center[row, :n], self.scale[row, :n], self.own[row, :n] = model.center, model.scale, model.own
        self.spread[row, :n] = model.spread
        self.limit[row] = model.limit
        self.weights[row] = 0.0
        self.weights[row, :n, :n] = model.weights[:n]
        self.weights[row, self.width : self.width + n, :n] = model.weights[n:]
        self.rotation[row] = 0.0
        self.rotation[row, :n, :n] = model.rotation

    def dump(self) -> dict[str, dict[str, bytes]]:
        """Charts by group key."""
        found = {}
        for row, group in enumerate(self.groups):
            n = len(group.slots)
            saved = {}
            for name, dtype, _, wide in _CHART:
                values = getattr(self, name)[row]
                part = values[:n] if wide else np.array([values])
                saved[name] = part.astype(np.dtype(dtype).newbyteorder("<"), copy=False).tobytes()
            found[group.key] = saved
        return found

    def load(self, row: int, saved: dict[str, bytes]) -> None:
        """Inverse of :meth:`dump` for one group. Raises ValueError or KeyError where it does not fit."""
        n = len(self.groups[row].slots)
        for name, dtype, _, wide in _CHART:
            values = np.frombuffer(saved[name], np.dtype(dtype).newbyteorder("<"))
            if len(values) != (n if wide else 1):
                raise ValueError(f"chart {name}: want {n if wide else 1} values, got {len(values)}")
            if wide:
                getattr(self, name)[row, :n] = values
            else:
                getattr(self, name)[row] = values[0]

    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(item.nbytes for item in vars(self).values() if isinstance(item, np.ndarray))


def banks_of(groups: list[Group], hold_ns: int, scan_ns: NDArray[np.int64]) -> list[Bank]:
    """The groups in banks, narrowest first; a group keeps its order within its bank."""
    by_width: dict[int, list[Group]] = {}
    for group in groups:
        width = max(_NARROWEST, 1 << (len(group.slots) - 1).bit_length())
        by_width.setdefault(width, []).append(group)
    return [Bank(width, by_width[width], hold_ns, scan_ns) for width in sorted(by_width)]
