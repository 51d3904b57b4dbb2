"""All that detection's next output depends on: the detectors with their state, and where each tag stands."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.base import BadState
from detectors.context import Context
from detectors.detection_saved import VERSION, Saved
from detectors.episodes import Episodes
from detectors.multivariate import Multivariate
from detectors.multivariate_chart import Snapshot
from detectors.options import DetectionOptions
from detectors.panel import LastRows, Panel
from detectors.parameters import MapView, Parameters
from detectors.pausing import Pausing
from schemas.columns import Columns, Slots, column

_LONGEST_TICK_NS: Final = 10_000_000_000


class Common(Columns):
    """Where each tag stands, by slot."""

    form: NDArray[np.int64] = column(np.int64)
    joined_ns: NDArray[np.int64] = column(np.int64)
    fed_ns: NDArray[np.int64] = column(np.int64)
    row_ns: NDArray[np.int64] = column(np.int64, np.iinfo(np.int64).min)  #: device time of the last row fed
    row_value: NDArray[np.float64] = column(np.float64, np.nan)


class Parts:
    """
    The parts of detection, under one map; ``now_ns`` is the tick clock, ``wall_ns`` the last tick's time.

    ``gates`` is what is known of the gates until the next tick, None where it has to be looked up.
    """

    def __init__(self, options: DetectionOptions) -> None:
        self.slots = Slots()
        self.revision = b""
        self.now_ns = 0
        self.wall_ns = 0
        self.common = Common()
        self.panel = Panel(options)
        self.multivariate = Multivariate(options) if options.multivariate.enabled else None
        self.context = Context(options.hold_off)
        self.pausing = Pausing(options.relearn_after)
        self.episodes = Episodes(options.group_window, options.close_after)
        self.gates: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None
        self._learns: NDArray[np.bool_] | None = None

    def memory(self) -> dict[str, Columns]:
        """Every state column group by a name that stays the same over versions."""
        context = {f"context.{i}": columns for i, columns in enumerate(self.context.memory)}
        own = () if self.multivariate is None else self.multivariate.memory
        together = {f"pca.{i}": columns for i, columns in enumerate(own)}
        pausing = {f"pausing.{i}": columns for i, columns in enumerate(self.pausing.memory)}
        return {"common.0": self.common, **context, **pausing, **self.panel.memory(), **together}

    def bind(self, revision: bytes, view: MapView, views: Iterable[MapView]) -> None:
        """Put a map into force, of all *views* that are known."""
        self.revision = revision
        for known in views:
            known.slot = self.slots.of(known.ids)
        for columns in self.memory().values():
            columns.resize(len(self.slots))
        self.panel.parameters = Parameters(view, self.slots)
        self.context.bind(view.tag_map, self.slots)
        if self.multivariate is not None:
            self.multivariate.bind(view.tag_map, self.panel.parameters)
        self.gates = self._learns = None

    def begin_anew(self) -> None:
        """Forget what was learned of tags that mean something else in the bound map than they did."""
        form = self.panel.parameters.form
        other = np.flatnonzero(form != self.common.form)
        self.panel.forget(other)
        if self.multivariate is not None:
            self.multivariate.forget(other)
            self.multivariate.end_strays()
        for columns in (self.common, *self.context.memory, *self.pausing.memory):
            columns.reset(other)
        self.common.joined_ns[other] = self.now_ns
        self.common.form[:] = form

    def drop(self, gone: Collection[str]) -> None:
        """Forget the tags with these ids; the map has to be bound again."""
        self.panel.forget(np.array([place for place, i in enumerate(self.slots.ids) if i in gone], np.intp))
        places = self.slots.keep(set(self.slots.ids) - set(gone))
        for columns in self.memory().values():
            columns.take(places)

    def pass_time(self, wall_ns: int) -> None:
        """A tick: the tick clock counts the time since the last one, for 10 s at most."""
        if self.wall_ns:
            self.now_ns += min(max(wall_ns - self.wall_ns, 0), _LONGEST_TICK_NS)
        self.wall_ns = wall_ns
        self.gates = self._learns = None

    def gated(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """By slot: the equipment runs; it runs and is steady."""
        if self.gates is None:
            self.gates = self.context.gates(self.panel.parameters, self.now_ns)
        return self.gates

    def learning(self) -> NDArray[np.bool_]:
        """By slot: nothing on the equipment keeps the tag from being learned."""
        if self._learns is None:
            self._learns = self.pausing.learns(self.now_ns)
        return self._learns

    def wrong(self) -> NDArray[np.bool_]:
        """By slot: the process is not as it should be."""
        wrong = self.panel.wrong()
        if self.multivariate is not None:
            wrong |= self.multivariate.conditions.active
        return wrong

    def last_rows(self) -> LastRows:
        """What detectors that look at ticks are fed."""
        common = self.common
        gates = (*self.gated(), self.learning())
        return LastRows(common.row_ns, common.row_value, common.fed_ns, common.joined_ns, *gates)

    def snapshot(self) -> Snapshot:
        """What the multivariate detector is fed."""
        common = self.common
        return Snapshot(
            value=common.row_value,
            time_ns=common.row_ns,
            fed_ns=common.fed_ns,
            steady=self.gated()[1],
            healthy=self.panel.healthy(),
            learns=self.learning(),
        )

    def models(self) -> bytes:
        """What the multivariate detector has learned; the same object until that changes."""
        return b"" if self.multivariate is None else self.multivariate.models()

    def dump(self, *, models: bool) -> Saved:
        """The state, with what :meth:`models` gives or without."""
        slow = self.panel.slow_trend
        return Saved(
            version=VERSION,
            revision=self.revision,
            ids=self.slots.ids,
            now_ns=self.now_ns,
            wall_ns=self.wall_ns,
            columns={title: columns.dump() for title, columns in self.memory().items()},
            points=b"" if self.panel.charts is None else self.panel.charts.points(),
            links=self.panel.missing.links,
            equipment=self.context.known,
            episodes=self.episodes.dump(),
            multivariate=b"" if self.multivariate is None else self.multivariate.dump(),
            models=self.models() if models else b"",
            timings={timing.name: (timing.since_ns, timing.sources) for timing in self.panel.timings},
            slow_trend=(0, 0) if slow is None else (slow.sampled_ns, slow.hour),
        )

    def load(self, saved: Saved) -> None:
        """
        Inverse of :meth:`dump` for new parts, but for the multivariate detector, which needs its map bound.

        Raises BadState where the columns do not fit, or are damaged.
        """
        self.slots = Slots(saved.ids)
        memory = self.memory()
        try:
            for columns in memory.values():
                columns.resize(len(saved.ids))
            for title in memory.keys() & saved.columns.keys():
                memory[title].load(saved.columns[title], len(saved.ids))
            if self.panel.charts is not None and "charts.0" in saved.columns:
                self.panel.charts.load_points(saved.points)
            self.episodes.load(saved.episodes)
        except (msgspec.MsgspecError, ValueError) as e:
            raise BadState(f"detection state cannot be read: {e}") from e
        self.now_ns, self.wall_ns = saved.now_ns, saved.wall_ns
        self.panel.missing.links, self.context.known = saved.links, saved.equipment
        for timing in self.panel.timings:
            timing.since_ns, timing.sources = saved.timings.get(timing.name, (0, {}))
        if self.panel.slow_trend is not None:
            self.panel.slow_trend.sampled_ns, self.panel.slow_trend.hour = saved.slow_trend

    def load_models(self, saved: Saved, models: bytes) -> None:
        """Charts and models of the multivariate detector, after :meth:`bind`. Raises BadState where they do not fit."""
        if self.multivariate is not None and saved.multivariate:
            self.multivariate.load(saved.multivariate, saved.models or models)
