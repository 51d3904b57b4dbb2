"""
Multivariate: the tags of one piece of equipment no longer move together as they did on a clean window.

At ticks, each group of tags is looked at as one aligned snapshot of last values, each held for a limited time. The
snapshot's innovations go into a chart of principal component scores (:mod:`detectors.multivariate_model`); its size,
T² and SPE in one, is judged by one limit. What began names the tags that contribute most.

* A tag that is unhealthy, silent or absent is projected: the others are judged without it.
* There is a model for each operating mode: the state of the equipment and its set points, of which equal ones within
  half a per cent are one. A mode that comes back finds its model again.
* Learning takes snapshots only while the equipment is steady and nothing is wrong with it (:mod:`detectors.pausing`),
  of a bounded number of groups at a time (:mod:`detectors.multivariate_windows`). A condition that lasts for
  ``relearn_after`` is the new normal.
* A condition is over when the chart is well inside again, or has fallen to a part of its recent peak (``returned``): a
  fault that ended often leaves its mark. It begins again when that remainder has doubled.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import multivariate_chart as chart
from detectors import multivariate_model
from detectors.base import BadState, Conditions
from detectors.episode import Seen
from detectors.multivariate_chart import Snapshot
from detectors.multivariate_groups import Bank, Group, banks_of, groups_of
from detectors.multivariate_model import Model
from detectors.multivariate_modes import Modes
from detectors.multivariate_saved import Saved, SavedModel, Window, pack, place_of, unpack
from detectors.multivariate_told import Change, Told
from detectors.multivariate_windows import MOST_LEARNING, MOST_ROWS, Windows
from detectors.options import DetectionOptions
from detectors.parameters import Parameters
from schemas.columns import Columns, Index
from schemas.tagmap import TagMap

#: Longer holes, in snapshots, begin the chart anew.
_HOLE: Final = 20
_SHORTEST_HOLE_NS: Final = 60_000_000_000
#: Below this part of the limit all is quiet.
_QUIET: Final = 0.5
#: After so many snapshots with a tag that was not there to be learned, the group learns again beside its model.
_LATE: Final = 60


class Multivariate:
    """State and models of all groups; conditions are kept per tag."""

    name = Told.name

    def __init__(self, options: DetectionOptions) -> None:
        own = options.multivariate
        self._tags, self._returned = own.tags, own.returned
        self._alarms_per_s = own.alarms_per_s()
        self._window_ns = round(options.clean_window * 1e9)
        self._relearn_ns = round(options.relearn_after * 1e9)
        self._hold_ns = round(own.hold * 1e9)
        self._told = Told()
        self._banks: list[Bank] = []
        self._place: dict[str, tuple[int, int]] = {}  # bank and row of each group key
        self._models: dict[tuple[str, int], Model] = {}
        self._windows = Windows(self._idle_ns)
        self._modes = Modes(own.modes, self._drop)
        self._generation = 0
        self._packed: tuple[int, bytes] | None = None

    @property
    def memory(self) -> tuple[Columns, ...]:
        """Conditions and shares by slot; charts and models are apart, see :meth:`dump` and :meth:`models`."""
        return self._told.memory

    @property
    def conditions(self) -> Conditions:
        """Conditions by slot."""
        return self._told.conditions

    def nbytes(self) -> int:
        """Bytes of charts, models and windows."""
        windows = sum(len(row) for window in self._windows for row in window.rows)
        parked = sum(m.weights.nbytes + m.rotation.nbytes for m in self._models.values())
        return windows + parked + sum(bank.nbytes() for bank in self._banks)

    def known(self) -> int:
        """How many groups have a model for the mode they are in."""
        return sum(int(bank.known.sum()) for bank in self._banks)

    def bind(self, tag_map: TagMap, parameters: Parameters) -> None:
        """Group the tags of this map; groups that stayed the same keep charts and models."""
        charts = self._charts()
        self._told.bind(tag_map.tags, parameters.number)
        groups = list(groups_of(parameters, self._tags))
        self._banks = banks_of(groups, self._hold_ns, parameters.scan_ns)
        self._place = {g.key: (b, row) for b, bank in enumerate(self._banks) for row, g in enumerate(bank.groups)}
        self._keep(groups)
        self._modes.bind(tag_map, parameters, groups)
        self._resume(charts)

    def _charts(self) -> dict[str, dict[str, bytes]]:
        return {key: saved for bank in self._banks for key, saved in bank.dump().items()}

    def _resume(self, charts: dict[str, dict[str, bytes]]) -> None:
        for key, saved in charts.items():
            if key in self._place:
                number, row = self._place[key]
                self._banks[number].load(row, saved)
        for key, mode in self._modes.present.items():
            self._put(key, mode)

    def _keep(self, groups: Iterable[Group]) -> None:
        """Forget what belongs to groups that are gone."""
        present = {group.key for group in groups}
        if any(key not in present for key, _ in self._models):
            self._generation += 1
        self._models = {place: model for place, model in self._models.items() if place[0] in present}
        self._windows.keep(present)
        self._modes.keep(present)

    def forget(self, slots: Index) -> None:
        """Begin anew with these tags; their groups have other keys then."""
        for columns in self.memory:
            columns.reset(slots)

    def close_gate(self, slots: Index, time_ns: int) -> list[Change]:
        """The equipment of these tags stopped, or was changed: what was found is over, and charts begin anew."""
        over = self._told.end(slots, time_ns)
        for bank in self._banks:
            for row in np.flatnonzero(np.isin(bank.slot[:, 0], slots)).tolist():
                bank.begin(row)
                key = bank.groups[row].key
                self._modes.stale.add(key)
                self._windows.break_off(key)
        return over

    def tick(self, now_ns: int, snapshot: Snapshot) -> list[Change]:
        """Look at every group that is due; the conditions that began or were over. *now_ns* is the tick clock."""
        self._modes.follow(snapshot.value)
        changes: list[Change] = []
        learned = False
        for bank in self._banks:
            rows, values, there = chart.due(bank, now_ns, snapshot)
            if len(rows) == 0:
                continue
            if self._modes.stale:
                changes += self._look_up(bank, rows, snapshot.value, now_ns)
            hole = np.maximum(bank.step_ns[rows] * _HOLE, _SHORTEST_HOLE_NS)
            anew = (bank.seen_ns[rows] < 0) | (now_ns - bank.seen_ns[rows] > hole)
            bank.seen_ns[rows] = now_ns
            judged = bank.known[rows]
            if judged.any():
                times = snapshot.time_ns[bank.slot[rows[judged]]]
                changes += self._judge(bank, rows[judged], values[judged], there[judged], anew[judged], times, now_ns)
            wanting = ~bank.known[rows] | (bank.late[rows] >= _LATE)
            if wanting.any():
                at = np.flatnonzero(wanting)
                quiet = snapshot.learns[bank.slot[rows[at], 0]] & ~bank.active[rows[at]]
                learned |= self._learn(bank, rows[at], values[at], there[at], anew[at], quiet, now_ns, not learned)
        return changes

    def _look_up(self, bank: Bank, rows: Index, value: NDArray[np.float64], now_ns: int) -> list[Change]:
        """Put the models of the present modes into force; the conditions that are over with the mode before."""
        changes: list[Change] = []
        for row in rows.tolist():
            group = bank.groups[row]
            mode = self._modes.look_up(group, value, now_ns)
            if mode is not None:
                changes += self._told.end(np.array(group.slots, np.intp))
                bank.begin(row)
                self._put(group.key, mode)
        return changes

    def _put(self, key: str, mode: int) -> None:
        if key in self._place:
            number, row = self._place[key]
            self._banks[number].put(row, self._models.get((key, mode)))

    def _drop(self, key: str, mode: int) -> None:
        self._windows.drop((key, mode))
        if self._models.pop((key, mode), None) is not None:
            self._generation += 1

    def _judge(
        self,
        bank: Bank,
        rows: Index,
        values: NDArray[np.float64],
        there: NDArray[np.bool_],
        anew: NDArray[np.bool_],
        times: NDArray[np.int64],
        now_ns: int,
    ) -> list[Change]:
        """One step of the charts of these groups."""
        level = chart.step(bank, rows, values, there, anew)
        quiet = level < _QUIET
        bank.quiet_ns[rows[quiet]] = times[quiet]
        return self._decide(bank, rows, level, values, times, now_ns)

    def _decide(
        self,
        bank: Bank,
        rows: Index,
        level: NDArray[np.float64],
        values: NDArray[np.float64],
        times: NDArray[np.int64],
        now_ns: int,
    ) -> list[Change]:
        """Begin and end conditions; *level* is the chart's size over its limit."""
        on, over, lasting = chart.decide(bank, rows, level, now_ns, self._returned, self._relearn_ns)
        changes: list[Change] = []
        for i in np.flatnonzero(on).tolist():
            row = int(rows[i])
            if over[i]:
                changes += self._told.over(bank, row, times[i])
            else:
                changes += self._told.begin(bank, row, float(level[i]), values[i], times[i])
            if lasting[i]:
                key = bank.groups[row].key
                self._drop(key, self._modes.present[key])
                self._put(key, self._modes.present[key])
                bank.begin(row)
        return changes

    def _learn(
        self,
        bank: Bank,
        rows: Index,
        values: NDArray[np.float64],
        there: NDArray[np.bool_],
        anew: NDArray[np.bool_],
        quiet: NDArray[np.bool_],
        now_ns: int,
        may_conclude: bool,
    ) -> bool:
        """
        Take snapshots of groups without a model; whether a window was concluded, of which there is one a tick.

        *quiet* says that nothing is wrong with the group's equipment.
        """
        concluded = False
        for i, row in enumerate(rows.tolist()):
            group = bank.groups[row]
            place = (group.key, self._modes.present[group.key])
            window = self._windows.get(place)
            if window is None and quiet[i]:
                first = np.where(there[i], values[i], 0.0)[: len(group.slots)]
                window = self._windows.begin(place, first, now_ns)
            if window is None:
                continue
            if not quiet[i]:
                window.broken = True
                continue
            self._windows.take(window, values[i], there[i], bool(anew[i]), now_ns)
            if may_conclude and not concluded and len(window.rows) >= self._rows(bank, row):
                concluded = True
                self._conclude(bank, row, place, window, now_ns)
        return concluded

    def _rows(self, bank: Bank, row: int) -> int:
        tags = int(bank.member[row].sum())
        least = max(multivariate_model.FEWEST_ROWS, multivariate_model.ROWS_PER_TAG * tags)
        return int(min(MOST_ROWS, max(least, -(-self._window_ns // int(bank.step_ns[row])))))

    def _idle_ns(self, key: str) -> int:
        number, row = self._place[key]
        return max(self._window_ns, _HOLE * int(self._banks[number].step_ns[row]))

    def _conclude(self, bank: Bank, row: int, place: tuple[str, int], window: Window, now_ns: int) -> None:
        points = np.frombuffer(b"".join(window.rows), "<f4").reshape(len(window.rows), -1).astype(np.float64)
        step_s = float(bank.step_ns[row]) / 1e9
        probability = min(max(self._alarms_per_s * step_s, 1e-9), 0.2)
        model = multivariate_model.learn(points + np.array(window.reference), window.starts, probability)
        if model is None:
            # others first: as many turns as it takes to give each group that has no model one
            turns = sum(int((~b.known).sum()) for b in self._banks) // MOST_LEARNING
            self._windows.put_off(place, now_ns + turns * self._rows(bank, row) * int(bank.step_ns[row]))
            return
        self._windows.drop(place)
        self._models[place] = model
        self._generation += 1
        bank.begin(row)
        self._put(*place)

    def seen(self, place: int) -> Seen:
        """The condition of one tag, whether it is active or over."""
        return self._told.seen(place)

    def end_strays(self) -> None:
        """End the conditions of tags whose group sees none."""
        self._told.end_strays(self._banks)

    def dump(self) -> bytes:
        """Charts, modes and windows, msgpack; the models are apart."""
        windows, not_before = self._windows.dump()
        return msgspec.msgpack.encode(
            Saved(
                charts=self._charts(),
                modes=self._modes.known,
                mode=self._modes.present,
                windows=windows,
                watched=self._modes.watched(),
                stale=sorted(self._modes.stale),
                generation=self._generation,
                not_before=not_before,
            )
        )

    def models(self) -> bytes:
        """All models, msgpack; the same object until one was learned or dropped."""
        if self._packed is None or self._packed[0] != self._generation:
            packed = {f"{key} {mode}": pack(model) for (key, mode), model in self._models.items()}
            self._packed = (self._generation, msgspec.msgpack.encode([self._generation, packed]))
        return self._packed[1]

    def load(self, saved: bytes, models: bytes) -> None:
        """
        Inverse of :meth:`dump` and :meth:`models`, after :meth:`bind` to the same map.

        Raises BadState where they do not fit each other, or are damaged.
        """
        try:
            state = msgspec.msgpack.decode(saved, type=Saved)
            generation, packed = msgspec.msgpack.decode(models, type=tuple[int, dict[str, SavedModel]])
            if generation != state.generation:
                raise ValueError(f"models of generation {generation}, want {state.generation}")
            self._models = {place_of(name): unpack(item) for name, item in packed.items()}
            self._windows.load(state.windows, state.not_before)
            self._modes.load(state.modes, state.mode)
            self._generation, self._packed = generation, (generation, models)
            self._keep(group for bank in self._banks for group in bank.groups)
            self._resume(state.charts)
        except (msgspec.MsgspecError, ValueError, KeyError) as e:
            raise BadState(f"multivariate state cannot be read: {e}") from e
        self._modes.resume(state.watched, state.stale)
        self.end_strays()
