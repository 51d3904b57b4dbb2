"""What the charts of groups say of their tags: which tag is named, with which numbers, and until when."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors import multivariate_model
from detectors.base import FELL, ROSE, Conditions, Judgement, finite
from detectors.episode import Seen
from detectors.multivariate_groups import Bank
from detectors.multivariate_model import LAMBDA
from detectors.reasons import reason
from schemas.anomaly import Kind
from schemas.columns import Columns, Index, column
from schemas.tagmap import Tag

#: Tags that a finding names: the one that contributes most, and others down to this share.
_NAMED: Final = 3
_SHARE: Final = 0.2


class Change(NamedTuple):
    """A condition of a tag that began or was over at this tick."""

    place: int
    seen: Seen


class _Share(Columns):
    share: NDArray[np.float64] = column(np.float64, np.nan)


class Told:
    """The conditions of tags, and the share that each has in what its group does."""

    name = "pca"
    kind = Kind.PATTERN

    def __init__(self) -> None:
        self.conditions = Conditions()
        self._share = _Share()
        self._numbers: NDArray[np.int32] = np.empty(0, np.int32)
        self._tags: tuple[Tag, ...] = ()

    @property
    def memory(self) -> tuple[Columns, ...]:
        """Conditions and shares by slot."""
        return (self.conditions, self._share)

    def bind(self, tags: tuple[Tag, ...], numbers: NDArray[np.int32]) -> None:
        """Speak of the tags of this map; *numbers* are theirs by slot."""
        self._tags, self._numbers = tags, numbers

    def begin(
        self, bank: Bank, row: int, level: float, values: NDArray[np.float64], times: NDArray[np.int64]
    ) -> list[Change]:
        """The chart of a group is outside, *level* times its limit: the conditions of its tags that began with it."""
        at = np.flatnonzero(bank.used[row])
        slot = bank.slot[row, at]
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
        return self._changes(slot[pick][began])

    def over(self, bank: Bank, row: int, times: NDArray[np.int64]) -> list[Change]:
        """The chart of a group is inside again: the conditions of its tags that are over with it."""
        at = np.flatnonzero(bank.used[row])
        slot = bank.slot[row, at]
        ended = self.conditions.end(slot)
        where = np.isin(slot, ended)
        self.conditions.last_ns[slot[where]] = np.maximum(self.conditions.onset_ns[slot[where]], times[at][where])
        return self._changes(ended)

    def end(self, slots: Index, time_ns: int | None = None) -> list[Change]:
        """Whatever was found of these tags is over, at *time_ns* or when it was last seen."""
        ended = self.conditions.end(slots)
        if time_ns is not None:
            self.conditions.last_ns[ended] = time_ns
        return self._changes(ended)

    def end_strays(self, banks: Iterable[Bank]) -> None:
        """End the conditions of tags whose group sees none: groups change with the map, and with the options."""
        going = [bank.slot[bank.active][bank.member[bank.active]] for bank in banks]
        active = np.flatnonzero(self.conditions.active)
        self.conditions.end(np.setdiff1d(active, np.concatenate([np.empty(0, np.intp), *going])))

    def seen(self, place: int) -> Seen:
        """The condition of one tag, whether it is active or over."""
        finding = self.conditions.finding(place, self.name, self.kind, int(self._numbers[place]))
        share = float(self._share.share[place])
        unit = self._tags[finding.tag].unit if finding.tag >= 0 else "1"
        finding = replace(finding, contribution=finite(share), reason=reason(finding, unit, (100 * share,)))
        return Seen(finding, finite(self.conditions.peak[place]))

    def _changes(self, places: Index) -> list[Change]:
        return [Change(place, self.seen(place)) for place in places.tolist()]
