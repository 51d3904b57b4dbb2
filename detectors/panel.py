"""The detectors that are switched on: what feeds them rows, closes their gates and gathers what they saw."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.base import Conditions, Rows, finite
from detectors.episodes import Seen
from detectors.ewma import Ewma
from detectors.health import Flatline, Range, Rate, RowDetector
from detectors.missing import Missing
from detectors.options import DetectionOptions
from detectors.parameters import Parameters
from schemas.anomaly import Finding, Kind
from schemas.columns import Columns, Index

#: A step that no further sample follows is over after so long: its condition is a moment.
_MOMENT_NS = 10_000_000_000


class Said(NamedTuple):
    """A condition that began or was over at a row; sorted, they are in the order of the rows."""

    row: int
    order: int
    place: int
    seen: Seen


class Panel:
    """All detectors with their state, by slot."""

    def __init__(self, options: DetectionOptions) -> None:
        self.parameters: Parameters = Parameters.empty()
        self.missing = Missing()
        self._ages = "missing" in options.health
        health: dict[str, RowDetector] = {"out_of_range": Range(), "rate": Rate(), "flatline": Flatline()}
        self._health = [detector for title, detector in health.items() if title in options.health]
        self.ewma = None
        if "ewma" in options.spc:
            self.ewma = Ewma(options.clean_window, options.alarms_per_s(), options.relearn_after)
        self._gated: list[RowDetector | Ewma] = [*self._health, *([self.ewma] if self.ewma else [])]
        self._kinds: dict[str, tuple[Kind, Conditions]] = {
            detector.name: (detector.kind, detector.conditions) for detector in (self.missing, *self._gated)
        }

    def memory(self) -> dict[str, Columns]:
        """Every state column group by a name that stays the same over versions."""
        found = {}
        for detector in (self.missing, *self._gated):
            for i, columns in enumerate(detector.memory):
                found[f"{detector.name}.{i}"] = columns
        return found

    def forget(self, slots: Index) -> None:
        """Begin anew with these tags."""
        if self.ewma is not None:
            self.ewma.relearn(slots)
        for columns in self.memory().values():
            columns.reset(slots)

    def feed(self, piece: Rows, numbers: Index, said: list[Said]) -> None:
        """Take a round of rows; *numbers* are their row numbers in the batch. What begins or ends goes to *said*."""
        clean = piece.only(np.isfinite(piece.value))
        for order, detector in enumerate(self._gated):
            if isinstance(detector, Ewma):
                fed, changed = detector.feed(clean, self.parameters, self.healthy())
            else:
                fed, changed = detector.feed(piece if detector.gate == "running" else clean, self.parameters)
            if len(changed.began) == 0 and len(changed.over) == 0:
                continue
            row_of = dict(zip(piece.slot.tolist(), numbers.tolist(), strict=True))
            places = np.concatenate([fed[changed.began], fed[changed.over]]).tolist()
            said.extend(Said(row_of[place], order, place, self.seen(detector.name, place)) for place in places)

    def close_gate(self, slots: Index, stopped: bool, row: int, time_ns: int) -> list[Said]:
        """The equipment of these tags stopped, or was changed: what was found behind the gate is over."""
        said = []
        for detector in self._gated:
            if detector.gate == "running" and not stopped:
                continue
            ended = detector.conditions.end(slots)
            detector.conditions.last_ns[ended] = time_ns
            said += [Said(row, -1, place, self.seen(detector.name, place)) for place in ended.tolist()]
        if self.ewma is not None:
            self.ewma.pause(slots)
        return said

    def tick(self, now_ns: int, wall_ns: int, joined_ns: NDArray[np.int64], fed_ns: NDArray[np.int64]) -> list[Said]:
        """What begins or is over because time passed."""
        said = []
        if self._ages:
            begun = self.missing.tick(now_ns, wall_ns, self.parameters, joined_ns)
            said += [Said(0, 0, place, self.seen("missing", place)) for place in begun.tolist()]
        if "rate" in self._kinds:
            moments = self._kinds["rate"][1]
            idle = np.flatnonzero(moments.active & (now_ns - fed_ns >= _MOMENT_NS))
            said += [Said(0, 1, place, self.seen("rate", place)) for place in moments.end(idle).tolist()]
        return said

    def link_down(self, source: str, wall_ns: int) -> list[Said]:
        """The tags of this source are no longer missing one by one: the gap says it."""
        if source not in self.parameters.sources:
            return []
        number = self.parameters.sources.index(source)
        slots = np.flatnonzero(self.parameters.known & (self.parameters.source == number))
        ended = self.missing.conditions.end(slots)
        self.missing.conditions.last_ns[ended] = wall_ns
        return [Said(0, 0, place, self.seen("missing", place)) for place in ended.tolist()]

    def seen(self, detector: str, place: int) -> Seen:
        """The condition of one tag under one detector, whether it is active or over."""
        kind, conditions = self._kinds[detector]
        finding = conditions.finding(place, detector, kind, int(self.parameters.number[place]))
        return Seen(finding, finite(conditions.peak[place]))

    def active(self) -> list[Finding]:
        """The conditions that are active now."""
        return [
            self.seen(detector, place).finding
            for detector, (_, conditions) in self._kinds.items()
            for place in np.flatnonzero(conditions.active).tolist()
        ]

    def is_active(self, detector: str, place: int) -> bool:
        """Whether the detector is switched on and sees its condition on this tag."""
        return detector in self._kinds and bool(self._kinds[detector][1].active[place])

    def disturbed(self) -> NDArray[np.bool_]:
        """By slot: a detector has found something on the tag."""
        found = np.zeros(self.missing.conditions.size, np.bool_)
        for _, conditions in self._kinds.values():
            found |= conditions.active
        return found

    def healthy(self) -> NDArray[np.bool_]:
        """By slot: no signal check has found anything on the tag."""
        healthy = ~self.missing.conditions.active
        for detector in self._health:
            healthy &= ~detector.conditions.active
        return healthy
