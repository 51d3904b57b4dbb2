"""
Multivariate: the tags of one piece of equipment no longer move together as they did on a clean window.

At ticks, each group of tags is looked at as one aligned snapshot of last values, each held for a limited time. The
snapshot's innovations go into a chart of principal component scores (:mod:`detectors.multivariate_model`); its size,
T² and SPE in one, is judged by one limit. What began names the tags that contribute most.

* A tag that is unhealthy, silent or absent is projected: the others are judged without it.
* There is a model for each operating mode: the state of the equipment and its set points, of which equal ones within
  half a per cent are one. A mode that comes back finds its model again.
* Learning takes snapshots only while the equipment is steady and nothing is found on the group's tags, of a bounded
  number of groups at a time (:mod:`detectors.multivariate_windows`). A condition that lasts for ``relearn_after`` is
  the new normal.
* A condition is over when the chart is well inside again, or has fallen to a part of its recent peak (``returned``): a
  fault that ended often leaves its mark. It begins again when that remainder has doubled.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import multivariate_model
from detectors.base import FELL, ROSE, BadState, Conditions, Judgement, finite
from detectors.episodes import Seen
from detectors.multivariate_groups import Bank, Group, banks_of, groups_of
from detectors.multivariate_model import FAR, LAMBDA, LONE, SHORT, Model
from detectors.multivariate_saved import Mode, Saved, SavedModel, Window, pack, place_of, unpack
from detectors.multivariate_windows import MOST_LEARNING, MOST_ROWS, Windows
from detectors.options import DetectionOptions
from detectors.parameters import Parameters
from detectors.reasons import reason
from schemas.anomaly import Kind
from schemas.columns import Columns, Index, column
from schemas.tagmap import Tag, TagMap

#: A snapshot is due this much before its time, because ticks are not in step with scans.
_EARLY: Final = 0.75
#: Longer holes, in snapshots, begin the chart anew.
_HOLE: Final = 20
_SHORTEST_HOLE_NS: Final = 60_000_000_000
_HUGE: Final = 1e30
#: Below this part of the limit a condition is over, and below the other one all is quiet.
_BACK: Final = 0.8
_QUIET: Final = 0.5
#: After a return the remainder has to grow by this factor to be a condition.
_AGAIN: Final = 2.0
#: Tags that a finding names: the one that contributes most, and others down to this share.
_NAMED: Final = 3
_SHARE: Final = 0.2
_SAME_SET_POINT: Final = 0.005
#: After so many snapshots with a tag that was not there to be learned, the group learns again beside its model.
_LATE: Final = 60


class Change(NamedTuple):
    """A condition of a tag that began or was over at this tick."""

    place: int
    seen: Seen


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Last values by slot, all of length m; ``disturbed`` says that another detector has found something on the tag."""

    value: NDArray[np.float64]
    time_ns: NDArray[np.int64]
    fed_ns: NDArray[np.int64]
    steady: NDArray[np.bool_]
    healthy: NDArray[np.bool_]
    disturbed: NDArray[np.bool_]


class _Share(Columns):
    share: NDArray[np.float64] = column(np.float64, np.nan)


class Multivariate:
    """State and models of all groups; conditions are kept per tag."""

    name = "pca"
    kind = Kind.PATTERN

    def __init__(self, options: DetectionOptions) -> None:
        own = options.multivariate
        self._tags, self._modes_most, self._returned = own.tags, own.modes, own.returned
        self._alarms_per_s = own.alarms_per_s()
        self._window_ns = round(options.clean_window * 1e9)
        self._relearn_ns = round(options.relearn_after * 1e9)
        self._hold_ns = round(own.hold * 1e9)
        self.conditions = Conditions()
        self._share = _Share()
        self._banks: list[Bank] = []
        self._place: dict[str, tuple[int, int]] = {}  # bank and row of each group key
        self._models: dict[tuple[str, int], Model] = {}
        self._windows = Windows(self._idle_ns)
        self._modes: dict[str, list[Mode]] = {}
        self._mode: dict[str, int] = {}
        self._context: dict[int, tuple[int, list[int]]] = {}  # state (-1: none) and set-point slots by equipment
        self._watch: Index = np.empty(0, np.intp)
        self._watched: NDArray[np.float64] = np.empty(0)
        self._stale: set[str] = set()  # groups whose mode has to be looked up
        self._generation = 0
        self._packed: tuple[int, bytes] | None = None
        self._numbers: NDArray[np.int32] = np.empty(0, np.int32)
        self._tags_of_map: tuple[Tag, ...] = ()

    @property
    def memory(self) -> tuple[Columns, ...]:
        """Conditions and shares by slot; charts and models are apart, see :meth:`dump` and :meth:`models`."""
        return (self.conditions, self._share)

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
        self._numbers, self._tags_of_map = parameters.number, tag_map.tags
        groups = list(groups_of(parameters, self._tags))
        self._banks = banks_of(groups, self._hold_ns, parameters.scan_ns)
        self._place = {g.key: (b, row) for b, bank in enumerate(self._banks) for row, g in enumerate(bank.groups)}
        self._keep(groups)
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
        self._stale = {group.key for group in groups}
        self._resume(charts)

    def _charts(self) -> dict[str, dict[str, bytes]]:
        return {key: saved for bank in self._banks for key, saved in bank.dump().items()}

    def _resume(self, charts: dict[str, dict[str, bytes]]) -> None:
        for key, saved in charts.items():
            if key in self._place:
                number, row = self._place[key]
                self._banks[number].load(row, saved)
        for key, mode in self._mode.items():
            self._put(key, mode)

    def _keep(self, groups: Iterable[Group]) -> None:
        """Forget what belongs to groups that are gone."""
        present = {group.key for group in groups}
        if any(key not in present for key, _ in self._models):
            self._generation += 1
        self._models = {place: model for place, model in self._models.items() if place[0] in present}
        self._windows.keep(present)
        self._modes = {key: modes for key, modes in self._modes.items() if key in present}
        self._mode = {key: mode for key, mode in self._mode.items() if key in present}

    def forget(self, slots: Index) -> None:
        """Begin anew with these tags; their groups have other keys then."""
        for columns in self.memory:
            columns.reset(slots)

    def close_gate(self, slots: Index, time_ns: int) -> list[Change]:
        """The equipment of these tags stopped, or was changed: what was found is over, and charts begin anew."""
        ended = self.conditions.end(slots)
        self.conditions.last_ns[ended] = time_ns
        for bank in self._banks:
            for row in np.flatnonzero(np.isin(bank.slot[:, 0], slots)).tolist():
                bank.begin(row)
                key = bank.groups[row].key
                self._stale.add(key)
                self._windows.break_off(key)
        return [Change(place, self.seen(place)) for place in ended.tolist()]

    def tick(self, now_ns: int, snapshot: Snapshot) -> list[Change]:
        """Look at every group that is due; the conditions that began or were over. *now_ns* is the tick clock."""
        self._follow(snapshot.value)
        changes: list[Change] = []
        learned = False
        for bank in self._banks:
            rows, values, there = self._due(bank, now_ns, snapshot)
            if len(rows) == 0:
                continue
            if self._stale:
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
                disturbed = (snapshot.disturbed[bank.slot[rows[at]]] & bank.member[rows[at]]).any(axis=1)
                quiet = ~np.asarray(disturbed, np.bool_) & ~bank.active[rows[at]]
                learned |= self._learn(bank, rows[at], values[at], there[at], anew[at], quiet, now_ns, not learned)
        return changes

    def _follow(self, value: NDArray[np.float64]) -> None:
        """Take note of states and set points that have changed."""
        if len(self._watch) == 0:
            return
        now = value[self._watch]
        moved = (now != self._watched) & ~(np.isnan(now) & np.isnan(self._watched))
        if not moved.any():
            return
        self._watched = now
        slots = set(self._watch[moved].tolist())
        touched = {number for number, (state, points) in self._context.items() if slots & {state, *points}}
        self._stale |= {g.key for bank in self._banks for g in bank.groups if g.equipment in touched}

    def _due(self, bank: Bank, now_ns: int, snapshot: Snapshot) -> tuple[Index, NDArray[np.float64], NDArray[np.bool_]]:
        """Rows of groups with something new, their values, and which of these count."""
        due = (now_ns - bank.seen_ns >= _EARLY * bank.step_ns) | (bank.seen_ns < 0)
        rows = np.flatnonzero(due & snapshot.steady[bank.slot[:, 0]])
        slot, fed = bank.slot[rows], snapshot.fed_ns[bank.slot[rows]]
        values = snapshot.value[slot]
        there = bank.member[rows] & np.isfinite(values) & (np.abs(values) < _HUGE) & snapshot.healthy[slot]
        there &= now_ns - fed <= bank.hold_ns[rows]
        wanted = np.where(bank.known[rows], bank.used[rows].sum(axis=1), bank.member[rows].sum(axis=1))
        enough = (there & (bank.used[rows] | ~bank.known[rows, None])).sum(axis=1) * 2 >= np.maximum(wanted, 4)
        enough &= (there & (fed >= bank.seen_ns[rows, None])).any(axis=1)
        return rows[enough], values[enough], there[enough]

    def _look_up(self, bank: Bank, rows: Index, value: NDArray[np.float64], now_ns: int) -> list[Change]:
        """
        Put the models of the present modes into force; the conditions that are over with the mode before.

        Only now, since a set point may pass through many values.
        """
        changes: list[Change] = []
        for row in rows.tolist():
            group = bank.groups[row]
            if group.key not in self._stale:
                continue
            self._stale.discard(group.key)
            slot, points = self._context[group.equipment]
            state = None if slot < 0 else finite(value[slot])
            set_points = [float(np.nan_to_num(value[point], posinf=FAR, neginf=-FAR)) for point in points]
            modes = self._modes.setdefault(group.key, [])
            mode = next((m for m in modes if m.state == state and _same(m.set_points, set_points)), None)
            fresh = mode is None
            if mode is None:
                number = len(modes)
                if number >= self._modes_most:
                    oldest = min(modes, key=lambda m: m.used_ns)
                    number = oldest.number
                    modes.remove(oldest)
                    self._drop(group.key, number)
                mode = Mode(number, state, set_points, now_ns)
                modes.append(mode)
            mode.used_ns = now_ns
            if fresh or self._mode.get(group.key) != mode.number:
                self._mode[group.key] = mode.number
                ended = self.conditions.end(np.array(group.slots, np.intp))
                changes += [Change(place, self.seen(place)) for place in ended.tolist()]
                bank.begin(row)
                self._put(group.key, mode.number)
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
        used = bank.used[rows]
        known = there & used
        with np.errstate(over="ignore", invalid="ignore"):
            z = np.clip((values - bank.center[rows]) / bank.scale[rows], -FAR, FAR)
        z = np.where(known, z, 0.0)
        expected = bank.own[rows] * bank.previous[rows]
        whole = len(rows) == len(bank.groups)
        lags = np.concatenate([bank.previous[rows], bank.short[rows]], axis=1).astype(np.float32)
        weights, rotation = (bank.weights, bank.rotation) if whole else (bank.weights[rows], bank.rotation[rows])
        expected = expected + np.einsum("gk,gkp->gp", lags, weights)
        innovation = np.where(known, z - expected, 0.0)
        for i in np.flatnonzero((used & ~there).any(axis=1) & ~anew).tolist():
            at = np.flatnonzero(used[i])
            own = rotation[i][np.ix_(at, np.arange(len(at)))].astype(np.float64)
            innovation[i, at] = multivariate_model.project(own, innovation[i, at], ~there[i, at])
        score = np.einsum("gp,gpq->gq", innovation.astype(np.float32), rotation).astype(np.float64)
        count, present = used.sum(axis=1), known.sum(axis=1)
        score *= np.sqrt(count / np.maximum(present, 1))[:, None]
        size = np.sqrt((score * score).sum(axis=1) / count)
        lone = (size > LONE) & (bank.size[rows] <= LONE)
        score *= multivariate_model.cut(size, bank.size[rows])[:, None]
        # what one sample alone says is not believed before the next one
        bound = np.where(lone, LONE, np.inf)[:, None] * np.maximum(bank.spread[rows], 1e-12)
        follow = expected + np.clip(innovation, -bound, bound)
        follow[anew] = z[anew]
        follow = np.clip(np.where(used, follow, 0.0), -FAR, FAR)
        bank.previous[rows] = follow
        short = bank.short[rows] + SHORT * (follow - bank.short[rows])
        bank.short[rows] = np.where(anew[:, None], follow, short)
        chart = bank.chart[rows] + LAMBDA * (score - bank.chart[rows])
        chart[anew & ~bank.active[rows]] = 0.0
        chart[anew & bank.active[rows]] = bank.chart[rows][anew & bank.active[rows]]
        bank.chart[rows] = chart
        bank.size[rows] = np.where(anew, 0.0, size)
        bank.samples[rows] += 1
        late = (there & bank.absent[rows]).any(axis=1)
        bank.late[rows] = np.where(late, bank.late[rows] + 1, 0)
        level = np.sqrt((chart * chart).sum(axis=1) / count * (2 - LAMBDA) / LAMBDA) / bank.limit[rows]
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
        active, floor = bank.active[rows], bank.floor[rows]
        floor = np.where(active, floor, np.maximum(1.0, np.minimum(floor, _AGAIN * level)))
        begins = ~active & (level > floor)
        peak = np.where(begins, level, np.maximum(bank.peak[rows], level))
        on = active | begins
        inside = on & (level < _BACK)
        fallen = on & ~inside & (level < self._returned * peak)
        over = inside | fallen
        bank.since_ns[rows[begins]] = now_ns
        lasting = on & ~over & (now_ns - bank.since_ns[rows] >= self._relearn_ns)
        over |= lasting
        bank.floor[rows] = np.where(inside, 1.0, np.where(fallen, np.maximum(1.0, _AGAIN * level), floor))
        bank.peak[rows] = np.where(over, 0.0, peak)
        bank.active[rows] = on & ~over
        changes: list[Change] = []
        for i in np.flatnonzero(on).tolist():
            row = int(rows[i])
            changes += self._tell(bank, row, float(level[i]), values[i], times[i], bool(over[i]))
            if lasting[i]:
                key = bank.groups[row].key
                self._drop(key, self._mode[key])
                self._put(key, self._mode[key])
                bank.begin(row)
        return changes

    def _tell(
        self, bank: Bank, row: int, level: float, values: NDArray[np.float64], times: NDArray[np.int64], over: bool
    ) -> list[Change]:
        """Bring the conditions of a group's tags up to date."""
        at = np.flatnonzero(bank.used[row])
        slot = bank.slot[row, at]
        if over:
            ended = self.conditions.end(slot)
            where = np.isin(slot, ended)
            self.conditions.last_ns[slot[where]] = np.maximum(self.conditions.onset_ns[slot[where]], times[at][where])
            return [Change(place, self.seen(place)) for place in ended.tolist()]
        rotation = bank.rotation[row][np.ix_(at, np.arange(len(at)))].astype(np.float64)
        share, innovation = multivariate_model.contributions(rotation, bank.chart[row, : len(at)])
        order = np.argsort(-share, kind="stable")[:_NAMED]
        named = self.conditions.active[slot].copy()
        for rank, tag in enumerate(order.tolist()):
            if named.sum() < _NAMED and (rank == 0 or share[tag] >= _SHARE):
                named[tag] = True
        pick = np.flatnonzero(named)
        self._share.share[slot] = share
        value, scale = values[at][pick], bank.scale[row, at][pick]
        spread = bank.spread[row, at][pick] * math.sqrt(LAMBDA / (2 - LAMBDA)) * bank.limit[row]
        with np.errstate(over="ignore", invalid="ignore"):
            normal = value - innovation[pick] * scale
            said = Judgement(
                outside=np.ones(len(pick), np.bool_),
                inside=np.zeros(len(pick), np.bool_),
                onset_ns=bank.quiet_ns[row, at][pick],
                value=value,
                score=np.full(len(pick), level),
                low=normal - spread * scale,
                high=normal + spread * scale,
                direction=np.where(innovation[pick] > 0, ROSE, FELL).astype(np.int8),
                samples=np.full(len(pick), min(int(bank.samples[row]), 1 << 31), np.int64),
            )
        # one condition goes on whichever way the tag points later
        going = self.conditions.active[slot[pick]]
        said.direction[going] = self.conditions.direction[slot[pick][going]]
        began, _ = self.conditions.update(slot[pick], times[at][pick], said)
        return [Change(int(place), self.seen(int(place))) for place in slot[pick][began]]

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

        *quiet* says that no detector finds anything on the group's tags.
        """
        concluded = False
        for i, row in enumerate(rows.tolist()):
            group = bank.groups[row]
            place = (group.key, self._mode[group.key])
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
        finding = self.conditions.finding(place, self.name, self.kind, int(self._numbers[place]))
        share = float(self._share.share[place])
        unit = self._tags_of_map[finding.tag].unit if finding.tag >= 0 else "1"
        finding = replace(finding, contribution=finite(share), reason=reason(finding, unit, (100 * share,)))
        return Seen(finding, finite(self.conditions.peak[place]))

    def end_strays(self) -> None:
        """End the conditions of tags whose group sees none: groups change with the map, and with the options."""
        going = [bank.slot[bank.active][bank.member[bank.active]] for bank in self._banks]
        active = np.flatnonzero(self.conditions.active)
        self.conditions.end(np.setdiff1d(active, np.concatenate([np.empty(0, np.intp), *going])))

    def dump(self) -> bytes:
        """Charts, modes and windows, msgpack; the models are apart."""
        windows, not_before = self._windows.dump()
        return msgspec.msgpack.encode(
            Saved(
                charts=self._charts(),
                modes=self._modes,
                mode=self._mode,
                windows=windows,
                watched=self._watched.tolist(),
                stale=sorted(self._stale),
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
            self._modes, self._mode = state.modes, state.mode
            self._generation, self._packed = generation, (generation, models)
            self._keep(group for bank in self._banks for group in bank.groups)
            self._resume(state.charts)
        except (msgspec.MsgspecError, ValueError, KeyError) as e:
            raise BadState(f"multivariate state cannot be read: {e}") from e
        if len(state.watched) == len(self._watch):
            self._watched = np.array(state.watched, np.float64)
            # groups that the state does not know have no mode yet
            self._stale = {key for key in self._place if key in state.stale or key not in self._mode}
        self.end_strays()


def _same(one: list[float], other: list[float]) -> bool:
    """Whether two lists of set points are one mode."""
    pairs = zip(one, other, strict=True)
    return all(abs(a - b) <= _SAME_SET_POINT * max(abs(a), abs(b)) for a, b in pairs)
