"""The detectors that are switched on: what feeds them rows, closes their gates and gathers what they saw."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from detectors.base import Changes, Detector, Fed, Rows, finite
from detectors.charts import Charts, Points
from detectors.clock import Clock
from detectors.deviation import Deviation
from detectors.episode import Seen
from detectors.extreme import Extreme
from detectors.late import Late
from detectors.loops import Loops
from detectors.missing import Missing
from detectors.nelson import Nelson
from detectors.options import DetectionOptions
from detectors.oscillation import Oscillation
from detectors.parameters import Parameters
from detectors.quantization import Quantization
from detectors.range import Range
from detectors.rate import Rate
from detectors.reasons import reason
from detectors.recent import Recent
from detectors.registry import BLOCKS, CHARTS, ROWS, SHAPES, PointDetector, WindowDetector
from detectors.saturation import Saturation
from detectors.settling import Settling
from detectors.slow_trend import SlowTrend
from detectors.spike import Spike
from detectors.stale import Stale
from detectors.stiction import Stiction
from detectors.timing import Timing
from detectors.variance import Variance
from detectors.window import Window
from detectors.windup import Windup
from schemas.anomaly import Finding
from schemas.columns import Columns, Index

#: A step or spike that no further sample follows is over after so long: its condition is a moment.
_MOMENT_NS: Final = 10_000_000_000
_MOMENTS: Final = ("rate", "spike")


class Said(NamedTuple):
    """A condition that began or was over at a row; sorted, they are in the order of the rows."""

    row: int
    order: int
    place: int
    seen: Seen


@dataclass(frozen=True, slots=True)
class LastRows:
    """
    The last row of each tag, by slot, and the gates: what detectors that look at ticks are fed.

    ``learns``: nothing on the equipment keeps the tag from being learned.
    """

    time_ns: NDArray[np.int64]
    value: NDArray[np.float64]
    fed_ns: NDArray[np.int64]
    joined_ns: NDArray[np.int64]
    running: NDArray[np.bool_]
    steady: NDArray[np.bool_]
    learns: NDArray[np.bool_]


class Panel:
    """All detectors with their state, by slot."""

    def __init__(self, options: DetectionOptions) -> None:
        self.parameters: Parameters = Parameters.empty()
        health = options.health
        self.missing = Missing()
        self.stale = Stale() if "stale" in health else None
        self.timings: tuple[Timing, ...] = tuple(
            timing for title, timing in (("late", Late()), ("clock", Clock())) if title in health
        )
        self._ages = "missing" in health
        self._rows = [make() for title, make in ROWS.items() if title in health]
        self._blocks = [make() for title, make in BLOCKS.items() if title in health]
        self._spike = next((item for item in self._rows if isinstance(item, Spike)), None)
        self._saturation = next((item for item in self._rows if isinstance(item, Saturation)), None)
        self._recent = Recent()
        budget = options.chart_budget()
        self.charts = Charts(options.clean_window, budget) if options.charts() else None
        self._settling = Settling(options.relearn_after)
        self._points = [make() for title, make in CHARTS.items() if title in options.spc]
        self._shapes = [make() for title, make in SHAPES.items() if title in options.shape]
        self._window = Window()
        self._extreme = Extreme(options.clean_window, budget) if options.extreme else None
        self._loops = Loops(options.clean_window)
        self._deviation = Deviation(options.settle) if "deviation" in options.loop else None
        self._windup = Windup(options.settle) if "windup" in options.loop else None
        self._stiction = Stiction() if "stiction" in options.loop else None
        self._looks = [item for item in (self._deviation, self._windup, self._stiction) if item is not None]
        self.slow_trend = SlowTrend(options.alarms_per_s()) if options.slow_trend else None
        stale = [self.stale] if self.stale else []
        everything: list[Detector] = [self.missing, *stale, *self.timings, *self._rows, *self._blocks]
        everything += [*self._charted(), *self._looks, *([self.slow_trend] if self.slow_trend else [])]
        self._order = {detector.name: number for number, detector in enumerate(everything)}
        self._all: dict[str, Detector] = {detector.name: detector for detector in everything}
        self._signal: list[Detector] = [self.missing, *stale, *self.timings, *self._rows, *self._blocks]
        # of the signal checks, those that tell of the process and not of the instrument
        self._process: list[Detector] = [item for item in self._rows if isinstance(item, Range | Rate)]
        self._process += [*self._charted(), *self._looks]
        self._meaningless = [item.conditions for item in self._rows if item.invalidates]
        self._meaningless += [item.conditions for item in self._blocks] + [item.conditions for item in stale]

    def memory(self) -> dict[str, Columns]:
        """Every state column group by a name that stays the same over versions."""
        found: dict[str, Columns] = {
            f"{name}.{i}": columns for name, detector in self._all.items() for i, columns in enumerate(detector.memory)
        }
        found |= {"recent.0": self._recent, "window.0": self._window}
        for name, keeper in (("charts", self.charts), ("settling", self._settling), ("loops", self._loops)):
            found |= {f"{name}.{i}": columns for i, columns in enumerate(keeper.memory if keeper else ())}
        return found

    def forget(self, slots: Index) -> None:
        """Begin anew with these tags."""
        if self.charts is not None:
            self.charts.relearn(slots)
        for columns in self.memory().values():
            columns.reset(slots)

    def relearn(self, slots: Index, row: int, time_ns: int) -> list[Said]:
        """
        The process of these tags runs elsewhere now: what was learned of them holds no longer; what is over with it.

        What is usual of a loop's deviation is kept: it counts from the set point, and a loop that does not reach the
        new one must not be learned as it is.
        """
        self._relearn(slots)
        if self.slow_trend is None:
            return []
        ended = self.slow_trend.relearn(slots, time_ns)
        return [Said(row, -1, place, self.seen(self.slow_trend.name, place)) for place in ended.tolist()]

    def _relearn(self, slots: Index) -> None:
        """Level and spread are learned anew; conditions stay, and what is known of the last weeks."""
        if self.charts is not None:
            self.charts.relearn(slots)
        self._settling.forget(slots)
        self._window.reset(slots)
        for detector in self._charted():
            for columns in detector.memory[1:]:
                columns.reset(slots)

    def feed(self, piece: Rows, numbers: Index, learns: NDArray[np.bool_], said: list[Said]) -> None:
        """
        Take a round of rows; *numbers* are their row numbers in the batch. What begins or ends goes to *said*.

        *learns* says by slot that nothing on the equipment keeps the tag from being learned.
        """
        clean = piece.only(np.isfinite(piece.value))
        changed: list[tuple[str, Index]] = []

        def take(detector: Detector, fed: Fed) -> None:
            slot, (began, over) = fed
            if len(began) or len(over):
                changed.append((detector.name, slot[np.concatenate([began, over])]))

        for detector in self._rows:
            take(detector, detector.feed(piece if detector.gate == "running" else clean, self.parameters))
        if self._spike or self._saturation or self._blocks:
            self._look_at_blocks(clean, take)
        meaningful = self._meaningful(clean)
        if self.charts is not None:
            points = self.charts.feed(meaningful, self.parameters, lambda: self.healthy() & learns)
            if points is not None:
                self._look_at_points(points, self.charts, take, changed)
        if self._extreme is not None:
            take(self._extreme, self._extreme.feed(meaningful, self.parameters, self.healthy()))
        if changed:
            row_of = dict(zip(piece.slot.tolist(), numbers.tolist(), strict=True))
            said.extend(
                Said(row_of[place], self._order[name], place, self.seen(name, place))
                for name, places in changed
                for place in places.tolist()
            )

    def _look_at_blocks(self, clean: Rows, take: _Take) -> None:
        blocks = self._recent.push(clean, self.parameters.chart)
        if blocks is None:
            return
        if self._spike is not None:
            self._spike.learn(blocks)
        judges: list[Quantization | Saturation] = [*self._blocks, *([self._saturation] if self._saturation else [])]
        for judge in judges:
            take(judge, judge.judge(blocks))

    def _meaningful(self, clean: Rows) -> Rows:
        """Rows of tags whose numbers are not meaningless, and of which it is known that they are no spike."""
        slot = clean.slot
        doubtful = np.zeros(len(slot), np.bool_)
        for conditions in self._meaningless:
            doubtful |= conditions.active[slot]
        if self._spike is not None:
            doubtful |= self._spike.excursions(slot)
        return clean.only(~doubtful)

    def _look_at_points(self, points: Points, charts: Charts, take: _Take, changed: list[tuple[str, Index]]) -> None:
        before = len(changed)
        for chart in self._points:
            take(chart, chart.feed(points, charts))
        view = self._window.push(points, charts) if self._shapes else None
        if view is not None:
            for shape in self._shapes:
                take(shape, shape.feed(view))
        found = np.zeros(len(points.slot), np.bool_)
        for detector in self._charted():
            found |= detector.conditions.active[points.slot]
        settled = self._settling.feed(points, charts, found)
        if len(settled):
            settled = np.setdiff1d(settled, np.concatenate([np.empty(0, np.intp), *(at for _, at in changed[before:])]))
            self._settle(settled, points, changed)

    def _settle(self, slots: Index, points: Points, changed: list[tuple[str, Index]]) -> None:
        time_of = dict(zip(points.slot.tolist(), points.time_ns.tolist(), strict=True))
        for detector in self._charted():
            ended = detector.conditions.end(slots)
            if len(ended):
                # each at its own tag's time: what else is in the batch must not count
                time_ns = np.array([time_of[place] for place in ended.tolist()], np.int64)
                detector.conditions.last_ns[ended] = np.maximum(detector.conditions.last_ns[ended], time_ns)
                changed.append((detector.name, ended))
        self._relearn(slots)

    def close_gate(self, slots: Index, stopped: bool, row: int, time_ns: int) -> list[Said]:
        """The equipment of these tags stopped, or was changed: what was found behind the gate is over."""
        said = []
        if stopped:
            ended = self.missing.stop(slots)
            self.missing.conditions.last_ns[ended] = time_ns
            said += [Said(row, -1, place, self.seen(self.missing.name, place)) for place in ended.tolist()]
        for detector in (*self._rows, *self._blocks, *self._charted(), *self._looks):
            if detector.gate == "running" and not stopped:
                continue
            ended = detector.conditions.end(slots)
            detector.conditions.last_ns[ended] = time_ns
            said += [Said(row, -1, place, self.seen(detector.name, place)) for place in ended.tolist()]
        if self.charts is not None:
            self.charts.pause(slots)
        for look in self._looks:
            look.pause(slots)
        return said

    def tick(self, now_ns: int, wall_ns: int, last: LastRows) -> list[Said]:
        """What begins or is over because time passed, and what is looked at then."""
        changed: list[tuple[str, Index]] = []
        if self._ages:
            changed.append(
                ("missing", self.missing.tick(now_ns, wall_ns, self.parameters, last.joined_ns, last.steady))
            )
        if self.stale is not None:
            changed.append(("stale", self.stale.tick(now_ns, wall_ns, self.parameters)))
        changed += [(timing.name, timing.tick(now_ns, wall_ns, self.parameters)) for timing in self.timings]
        for name in _MOMENTS:
            if name in self._all:
                moments = self._all[name].conditions
                idle = np.flatnonzero(moments.active & (now_ns - last.fed_ns >= _MOMENT_NS))
                changed.append((name, moments.end(idle)))
        if self._looks and len(self.parameters.loop_pv):
            changed += self._look_at_loops(last)
        if self.slow_trend is not None:
            usable = last.running & self.healthy() & (now_ns - last.fed_ns < _MOMENT_NS + 3 * self.parameters.scan_ns)
            changed.append(("slow_trend", self.slow_trend.tick(wall_ns, self.parameters, last.value, usable)))
        return [
            Said(0, self._order[name], place, self.seen(name, place))
            for name, places in changed
            for place in places.tolist()
        ]

    def _look_at_loops(self, last: LastRows) -> list[tuple[str, Index]]:
        loops = self._loops.take(self.parameters, last.time_ns, last.value, last.steady, self.healthy(), last.learns)
        if loops is None:
            return []
        fed: list[tuple[str, Fed]] = []
        if self._deviation is not None:
            fed.append(("deviation", self._deviation.look(loops)))
        if self._windup is not None:
            fed.append(("windup", self._windup.look(loops, self.parameters)))
        if self._stiction is not None:
            fed.append(("stiction", self._stiction.look(loops)))
        return [(name, slot[np.concatenate(changes)]) for name, (slot, changes) in fed]

    def link_down(self, source: str, now_ns: int, wall_ns: int) -> list[Said]:
        """The tags of this source are no longer missing one by one: the gap says it."""
        if source not in self.parameters.sources:
            return []
        number = self.parameters.sources.index(source)
        slots = np.flatnonzero(self.parameters.known & (self.parameters.source == number))
        if self.stale is not None:
            self.stale.interrupted(slots, now_ns)
        ended = self.missing.cut_off(slots)
        self.missing.conditions.last_ns[ended] = wall_ns
        return [Said(0, 0, place, self.seen("missing", place)) for place in ended.tolist()]

    def seen(self, detector: str, place: int) -> Seen:
        """The condition of one tag under one detector, whether it is active or over."""
        found = self._all[detector]
        number = int(self.parameters.number[place])
        finding = found.conditions.finding(place, detector, found.kind, number)
        unit = self.parameters.tags[number].unit if number >= 0 else "1"
        peak = finite(found.conditions.peak[place])
        return Seen(replace(finding, reason=reason(finding, unit, _details(found, place), peak)), peak)

    def active(self) -> list[Finding]:
        """The conditions that are active now."""
        return [
            self.seen(name, place).finding
            for name, detector in self._all.items()
            for place in np.flatnonzero(detector.conditions.active).tolist()
        ]

    def is_active(self, detector: str, place: int) -> bool:
        """Whether the detector is switched on and sees its condition on this tag."""
        return detector in self._all and bool(self._all[detector].conditions.active[place])

    def healthy(self) -> NDArray[np.bool_]:
        """By slot: no signal check has found anything on the tag."""
        healthy = ~self.missing.conditions.active
        for detector in self._signal[1:]:
            healthy &= ~detector.conditions.active
        return healthy

    def wrong(self) -> NDArray[np.bool_]:
        """By slot: a detector that tells of the process has found something on the tag; trends over weeks apart."""
        found = np.zeros(self.missing.conditions.size, np.bool_)
        for detector in self._process:
            found |= detector.conditions.active
        return found

    def _charted(self) -> list[PointDetector | WindowDetector | Extreme]:
        return [*self._points, *self._shapes, *([self._extreme] if self._extreme else [])]


class _Take(Protocol):
    def __call__(self, detector: Detector, fed: tuple[Index, Changes]) -> None: ...


def _details(detector: Detector, place: int) -> tuple[float, ...]:
    """The numbers that only the detector knows."""
    if isinstance(detector, Quantization):
        return detector.steps(place)
    if isinstance(detector, Nelson):
        return (detector.rule(place),)
    if isinstance(detector, Variance):
        return (detector.ratio(place),)
    if isinstance(detector, Missing):
        return (detector.bad_s(place),)
    if isinstance(detector, Oscillation | Stiction):
        return detector.swing(place)
    return detector.outlook(place) if isinstance(detector, SlowTrend) else ()
