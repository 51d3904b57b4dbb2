"""
How the tags of one piece of equipment move together, learned from a clean window: pure arithmetic, no state.

Each tag is predicted from its own last value and, by ridge regression, from the last values and a short mean of all
tags; what is left (the innovation) is rotated to principal components of unit variance. So slow tags do not alarm by
wandering, and relations that hold within a sample, or over some of them, become directions of small variance in which
a broken relation stands out. Memory comes back in the chart: its statistic is an EWMA of the component scores.

The limit is a quantile of the statistic on data that its model has not seen: the window is cut into blocks, and each
block is judged by a model of the others. Beyond what a window can hold the tail is that of a scaled chi-square.

Source: Ku, Storer, Georgakis (1995) for the lagged extension; Lowry et al. (1992) for the multivariate EWMA; Qin (2003)
for T², SPE and their sum; Alcala, Qin (2009) for contributions by reconstruction; Wilson, Hilferty (1931) for the tail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.baseline import correlation, student, winsorised

Matrix = NDArray[np.float64]
Flags = NDArray[np.bool_]

#: Weight of the newest score in the chart.
LAMBDA: Final = 0.1
#: Weight of the newest value in the short mean that predicts.
SHORT: Final = 0.3
#: Size of a score vector, in its own root mean square, at which a lasting and a lone deviation are cut.
LASTING: Final = 6.0
LONE: Final = 3.0
#: Standardised values are cut here.
FAR: Final = 1e3
#: Fewer rows for each tag than this, or fewer at all, say nothing about relations.
ROWS_PER_TAG: Final = 3
FEWEST_ROWS: Final = 64
_RIDGE: Final = 0.02
_FLOOR: Final = 1e-3
_BLOCKS: Final = 8
#: Rows at the start of a stretch whose short mean is not yet one.
_START: Final = 4
#: A tag that was there for less of the window is left out.
_PRESENT: Final = 0.9


@dataclass(frozen=True, slots=True)
class Model:
    """
    What was learned of p tags.

    Attributes:
        used: bool[p], the tags that the model knows; the other columns hold for these only.
        absent: bool[p], tags that were not there to be learned.
        center, scale: float64[p] in the tags' units.
        own: float64[p], coefficient of a tag's own last value.
        spread: float64[p], standard deviation of the innovations, standardised.
        weights: float32[2p, p], of the last values and the short means of all tags (standardised).
        rotation: float32[p, p], innovation to component scores of unit variance, largest variance first.
        limit: largest normal size of the chart's root mean square score.
    """

    used: Flags
    absent: Flags
    center: Matrix
    scale: Matrix
    own: Matrix
    spread: Matrix
    weights: NDArray[np.float32]
    rotation: NDArray[np.float32]
    limit: float


def learn(points: Matrix, starts: Sequence[int], alarm_probability: float) -> Model | None:
    """
    Model of a clean window; None where it says too little: no two moving tags, or too few rows.

    Args:
        points: float64[n, p], snapshots at even distances, NaN where a tag was not there.
        starts: rows before which the distance is another one (the first row is one of them).
        alarm_probability: chance that a snapshot of healthy equipment is outside.
    """
    present = np.isfinite(points)
    used = present.mean(axis=0) >= _PRESENT
    absent = ~used
    filled = _hold(points[:, used])
    if filled.shape[1] >= 2:
        median, deviation = winsorised(np.ascontiguousarray(filled.T))
        sigma = deviation.std(axis=1, ddof=1)
        moving = (sigma > 1e-9 * np.abs(median)) & (sigma > 0)
        used[np.flatnonzero(used)[~moving]] = False
        filled = filled[:, moving]
    p = filled.shape[1]
    if p < 2 or len(filled) < max(FEWEST_ROWS, ROWS_PER_TAG * p):
        return None
    center, scale = median[moving] + deviation[moving].mean(axis=1), sigma[moving]
    standard = (deviation[moving] / scale[:, None]).T
    standard = standard - standard.mean(axis=0)
    own = correlation(np.ascontiguousarray(standard.T), np.ones(p, np.int32))
    regressors, target = _regression(standard, own, starts)
    if len(target) < max(FEWEST_ROWS // 2, 2 * p):
        return None
    weights, rotation = _fit(regressors, target)
    limit = _limit(regressors, target, alarm_probability)
    full = len(used)
    at = np.flatnonzero(used)
    return Model(
        used=used,
        absent=absent,
        center=_spread(center, at, full, 0.0),
        scale=_spread(scale, at, full, 1.0),
        own=_spread(own, at, full, 0.0),
        spread=_spread(np.sqrt(np.diag(np.linalg.inv(rotation @ rotation.T))), at, full, 0.0),
        weights=_embed(weights, np.concatenate([at, at + full]), at, (2 * full, full)),
        rotation=_embed(rotation, at, np.arange(p), (full, full)),
        limit=limit,
    )


def cut(size: Matrix, before: Matrix) -> Matrix:
    """
    Factor by which score vectors of this size (root mean square) are shortened; *before* is the size one sample ago.

    One sample alone moves the chart little, so that a spike is no change of relations.
    """
    most = np.where(before > LONE, LASTING, LONE)
    factor: Matrix = np.minimum(1.0, most / np.maximum(size, 1e-12))
    return factor


def contributions(rotation: Matrix, chart: Matrix) -> tuple[Matrix, Matrix]:
    """
    Share of each tag in the statistic, float64[p] with sum 1, and the smoothed innovation, in standardised units.

    The share is the part of the statistic that goes away when the tag is reconstructed from the others.

    Args:
        rotation: float64[p, p] of the tags in use, rows are tags.
        chart: float64[p], smoothed component scores.
    """
    pull = rotation @ chart
    removed = pull * pull / np.maximum((rotation * rotation).sum(axis=1), 1e-300)
    total = removed.sum()
    share: Matrix = removed / total if total > 0 else np.full(len(removed), 1 / len(removed))
    innovation: Matrix = np.asarray(np.linalg.solve(rotation.T, chart), np.float64)
    return share, innovation


def project(rotation: Matrix, innovation: Matrix, missing: Flags) -> Matrix:
    """
    Innovations with the *missing* ones put in: what is most likely beside the others under the model, float64[p].

    Their part in the statistic is the smallest possible. Source: Nelson, Taylor, MacGregor (1996).
    """
    filled = np.where(missing, 0.0, innovation)
    if missing.all():
        return filled
    inverse = rotation @ rotation.T
    known = ~missing
    pull = inverse[np.ix_(missing, known)] @ innovation[known]
    filled[missing] = -np.linalg.solve(inverse[np.ix_(missing, missing)], pull)
    return filled


def _hold(points: Matrix) -> Matrix:
    """Each hole filled with the value before it; those at the start with the first value."""
    if np.isfinite(points).all():
        return points
    row = np.where(np.isfinite(points), np.arange(len(points))[:, None], 0)
    held: Matrix = np.take_along_axis(points, np.maximum.accumulate(row, axis=0), axis=0)
    first = np.argmax(np.isfinite(points), axis=0)
    return np.where(np.isfinite(held), held, points[first, np.arange(points.shape[1])])


def _spread(values: Matrix, at: NDArray[np.intp], size: int, fill: float) -> Matrix:
    out = np.full(size, fill)
    out[at] = values
    return out


def _embed(
    values: Matrix, rows: NDArray[np.intp], columns: NDArray[np.intp], shape: tuple[int, int]
) -> NDArray[np.float32]:
    out = np.zeros(shape, np.float32)
    out[np.ix_(rows, columns)] = values
    return out


def _regression(standard: Matrix, own: Matrix, starts: Sequence[int]) -> tuple[Matrix, Matrix]:
    """Regressors float64[m, 2p], and what they have to explain, float64[m, p]."""
    n, p = standard.shape
    short = np.zeros((n, p))
    age = np.zeros(n, np.intp)
    begins = np.zeros(n, np.bool_)
    begins[[0, *starts]] = True
    level = standard[0]
    for i in range(n):
        # a stretch begins at its own level, as the chart does after a hole
        level = standard[i] if begins[i] else level + SHORT * (standard[i] - level)
        short[i] = level
        age[i] = 0 if begins[i] else age[i - 1] + 1
    row = np.flatnonzero(age >= _START)
    before = row - 1
    return np.hstack([standard[before], short[before]]), standard[row] - own * standard[before]


def _fit(regressors: Matrix, target: Matrix) -> tuple[Matrix, Matrix]:
    """Weights float64[2p, p], and rotation float64[p, p] to components, largest variance first."""
    gram = regressors.T @ regressors
    return _solve(gram, regressors.T @ target, target.T @ target, len(target))


def _solve(gram: Matrix, cross: Matrix, power: Matrix, n: int) -> tuple[Matrix, Matrix]:
    inverse = np.linalg.inv(gram + _RIDGE * n * np.eye(len(gram)))
    weights = inverse @ cross
    freedom = n - float(np.trace(inverse @ gram))
    explained = weights.T @ cross
    covariance = power - explained - explained.T + weights.T @ gram @ weights
    covariance = (covariance + covariance.T) / 2 / max(freedom, 0.2 * n)
    diagonal = np.maximum(np.diag(covariance), 1e-12)
    covariance += _FLOOR * np.diag(diagonal)
    variance, axes = np.linalg.eigh(covariance)
    variance = np.maximum(variance, _FLOOR * float(diagonal.min()) * 1e-3)
    order = np.arange(len(variance))[::-1]
    rotation: Matrix = axes[:, order] / np.sqrt(variance[order])
    return weights, rotation


def _limit(regressors: Matrix, target: Matrix, alarm_probability: float) -> float:
    """Quantile of the chart's size over blocks that their model has not seen."""
    gram, cross, power = regressors.T @ regressors, regressors.T @ target, target.T @ target
    edges = np.linspace(0, len(target), _BLOCKS + 1).astype(int)
    sizes = []
    for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        x, y = regressors[first:last], target[first:last]
        weights, rotation = _solve(gram - x.T @ x, cross - x.T @ y, power - y.T @ y, len(target) - len(y))
        # the chart has its memory from before the block
        lead = max(0, first - round(2 / LAMBDA))
        score = (target[lead:last] - regressors[lead:last] @ weights) @ rotation
        sizes.append(chart_sizes(score)[first - lead :])
    size = np.concatenate(sizes)[round(1 / LAMBDA) :]
    # the cube root of a scaled chi-square is nearly normal
    root = np.cbrt(size * size)
    # a prediction limit: the chart remembers, so a window holds few points that say something of their own
    independent = max(len(size) * LAMBDA / (2 - LAMBDA), 4.0)
    quantile = np.array([NormalDist().inv_cdf(1 - alarm_probability)])
    far = float(student(quantile, np.array([independent - 1]))[0]) * float(np.sqrt(1 + 1 / independent))
    return float(np.sqrt((root.mean() + far * root.std(ddof=1)) ** 3))


def chart_sizes(score: Matrix) -> Matrix:
    """Root mean square of the chart after each row of scores float64[m, p], in units of its own spread, float64[m]."""
    chart = np.zeros(score.shape[1])
    sizes = np.sqrt((score * score).mean(axis=1))
    out = np.zeros(len(score))
    before = 0.0
    for i, size in enumerate(sizes.tolist()):
        chart += LAMBDA * (score[i] * cut(np.array(size), np.array(before)) - chart)
        before = size
        out[i] = np.sqrt((chart * chart).mean())
    scaled: Matrix = out * float(np.sqrt((2 - LAMBDA) / LAMBDA))
    return scaled
