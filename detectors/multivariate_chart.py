"""
One step of the charts of a bank of groups, and what it decides: arithmetic on the bank's rows.

The snapshot's innovations are rotated to component scores; their EWMA over its limit is the level of a group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors import multivariate_model
from detectors.multivariate_groups import Bank
from detectors.multivariate_model import FAR, LAMBDA, LONE, SHORT
from schemas.columns import Index

#: A snapshot is due this much before its time, because ticks are not in step with scans.
_EARLY: Final = 0.75
_HUGE: Final = 1e30
#: Below this part of the limit a condition is over.
_BACK: Final = 0.8
#: After a return the remainder has to grow by this factor to be a condition.
_AGAIN: Final = 2.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Last values by slot, all of length m; ``learns``: nothing on the equipment keeps the tag from being learned."""

    value: NDArray[np.float64]
    time_ns: NDArray[np.int64]
    fed_ns: NDArray[np.int64]
    steady: NDArray[np.bool_]
    healthy: NDArray[np.bool_]
    learns: NDArray[np.bool_]


def due(bank: Bank, now_ns: int, snapshot: Snapshot) -> tuple[Index, NDArray[np.float64], NDArray[np.bool_]]:
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


def step(
    bank: Bank, rows: Index, values: NDArray[np.float64], there: NDArray[np.bool_], anew: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """
    Move the charts of k groups by a snapshot; their size over the limit, float64[k].

    Args:
        bank: of which *rows* are due, all of them with a model.
        rows: intp[k].
        values: float64[k, P] by the bank's places.
        there: bool[k, P], which of them count.
        anew: bool[k], the snapshot does not follow the one before.
    """
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
    level: NDArray[np.float64] = np.sqrt((chart * chart).sum(axis=1) / count * (2 - LAMBDA) / LAMBDA) / bank.limit[rows]
    return level


def decide(
    bank: Bank, rows: Index, level: NDArray[np.float64], now_ns: int, returned: float, relearn_ns: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """
    Begin and end the conditions of groups at these levels; bool[k] each: there is a condition, it is over, it has
    lasted for *relearn_ns* and is over with that.

    *returned* is the part of its peak at which a condition counts as over.
    """
    active, floor = bank.active[rows], bank.floor[rows]
    floor = np.where(active, floor, np.maximum(1.0, np.minimum(floor, _AGAIN * level)))
    begins = ~active & (level > floor)
    peak = np.where(begins, level, np.maximum(bank.peak[rows], level))
    on = active | begins
    inside = on & (level < _BACK)
    fallen = on & ~inside & (level < returned * peak)
    over = inside | fallen
    bank.since_ns[rows[begins]] = now_ns
    lasting = on & ~over & (now_ns - bank.since_ns[rows] >= relearn_ns)
    over |= lasting
    bank.floor[rows] = np.where(inside, 1.0, np.where(fallen, np.maximum(1.0, _AGAIN * level), floor))
    bank.peak[rows] = np.where(over, 0.0, peak)
    bank.active[rows] = on & ~over
    return on, over, lasting
