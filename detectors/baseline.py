"""
What is normal for a tag, from the points of a clean window: centre, spread, correlation and the chart's limit.

The limit is a prediction limit. It is wider the more a signal follows itself (an AR(1) process with coefficient phi
has an EWMA of larger variance) and the fewer independent points the window holds (Student's t, and the error of the
centre itself). So a slow signal that was seen for a few of its own time constants only gets a wide limit, or none.

Source: Montgomery, *Introduction to Statistical Quality Control*, 9.2; Schmid (1997) for the EWMA of an AR(1)
process; Wallace (1959) for the normal approximation of t; Kendall (1954) for the bias of a short correlation.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.base import TINY

#: Weight of the newest point.
LAMBDA: Final = 0.2
#: Fewer independent points than this say nothing about a false-alarm budget.
_FEWEST_INDEPENDENT: Final = 8.0
_LAGS: Final = (1, 2, 4, 8)
_WINSOR: Final = 3.0
#: Standard errors by which a coefficient may be larger than it looks.
_DOUBT: Final = 1.5
_MAD_TO_SIGMA: Final = 1.4826


@dataclass(frozen=True, slots=True)
class Baselines:
    """
    k tags: ``varies`` says whether they vary at all, ``usable`` where a chart can be drawn; the other columns hold
    there only. All of length k.

    ``limit`` is that of the EWMA, ``wide`` that of a single point. ``independent`` points would say as much as the
    window's; ``freedom`` is that of the spread, smaller for tails heavier than normal.
    """

    usable: NDArray[np.bool_]
    varies: NDArray[np.bool_]
    center: NDArray[np.float64]
    sigma: NDArray[np.float64]
    phi: NDArray[np.float64]
    limit: NDArray[np.float64]
    wide: NDArray[np.float64]
    independent: NDArray[np.float64]
    freedom: NDArray[np.float64]


def winsorised(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Median float64[k] of each row of float64[k, n], and the deviations from it, far ones cut.

    Cut at three robust sigmas (MAD), but never below twice the ninth decile: on a coarsely quantised signal most
    points are equal or nearly so, and the MAD says nothing about the rest. Where even the ninth decile is 0, nothing
    is cut.
    """
    median = np.median(points, axis=1)
    deviation = points - median[:, None]
    size = np.abs(deviation)
    decile = np.quantile(size, 0.9, axis=1)
    bound = np.maximum(_WINSOR * _MAD_TO_SIGMA * np.median(size, axis=1), 2 * decile)
    bound = np.where(decile > 0, bound, np.inf)[:, None]
    return median, np.clip(deviation, -bound, bound)


def correlation(deviation: NDArray[np.float64], stride: NDArray[np.int32]) -> NDArray[np.float64]:
    """
    AR(1) coefficient per point, float64[k], of float64[k, n] kept with every *stride*-th point.

    The slowest decay over several lags counts: noise on a slow signal hides its memory from lag 1. A longer lag
    counts where it is significant.
    """
    n = deviation.shape[1]
    centred = deviation - deviation.mean(axis=1, keepdims=True)
    power = np.maximum((centred * centred).sum(axis=1), TINY)
    phi = np.zeros(len(deviation))
    for lag in _LAGS:
        if lag > n // 4:
            break
        r = (centred[:, lag:] * centred[:, :-lag]).sum(axis=1) / power
        counts = (r > 0) if lag == 1 else (r > 3.0 / np.sqrt(n))
        # the upper end of what it may be: too small a coefficient makes every limit too tight
        r = np.clip(r, 0.0, 1.0)
        r = np.clip(r + (1 + 3 * r) / n + _DOUBT * np.sqrt((1 - r * r) / n), 0.0, 0.9999)
        phi = np.maximum(phi, np.where(counts, r ** (1.0 / (lag * stride)), 0.0))
    return np.minimum(phi, 0.9999)


def learn(
    points: NDArray[np.float64],
    stride: NDArray[np.int32],
    phi: NDArray[np.float64],
    alarm_probability: NDArray[np.float64],
) -> Baselines:
    """
    Baselines of k tags with n points each, float64[k, n].

    Args:
        points: subgroup means in time order, every *stride*-th one.
        stride: int32[k].
        phi: float64[k], coefficient already known from denser points; the larger one holds.
        alarm_probability: float64[k], chance that one point of a healthy signal alarms.
    """
    n = points.shape[1]
    median, deviation = winsorised(points)
    sigma = deviation.std(axis=1, ddof=1)
    phi = np.maximum(phi, correlation(deviation, stride))
    independent = n * stride * (1 - phi) / (1 + phi)
    varies = (sigma > 1e-12 * np.abs(median)) & (sigma > 0)
    usable = varies & (independent >= _FEWEST_INDEPENDENT)
    freedom = np.maximum(independent - 1, 1.0)
    t = student(two_sided(alarm_probability), freedom)
    share = 1 / np.maximum(independent, 1.0)
    limit = t * sigma * np.sqrt(variance_ratio(phi) + share)
    return Baselines(
        usable,
        varies,
        median + deviation.mean(axis=1),
        sigma,
        phi,
        limit,
        t * sigma * np.sqrt(1 + share),
        independent,
        2 * independent / np.maximum(kurtosis(points - median[:, None]) - 1, 2.0),
    )


def two_sided(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normal quantile that this share lies beyond, on both sides together."""
    values, place = np.unique(probability, return_inverse=True)
    return np.array([NormalDist().inv_cdf(1 - p / 2) for p in values.tolist()])[place]


def kurtosis(deviation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fourth moment over the squared second one, float64[k] of float64[k, n]; 3 for a normal signal."""
    size = np.maximum(np.abs(deviation).max(axis=1, keepdims=True), TINY)
    square = (deviation / size) ** 2
    second = np.maximum(square.mean(axis=1), 1e-30)
    ratio: NDArray[np.float64] = (square * square).mean(axis=1) / (second * second)
    return ratio


def variance_ratio(phi: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variance of the EWMA over the variance of the points, for AR(1) points."""
    ratio: NDArray[np.float64] = LAMBDA / (2 - LAMBDA) * (1 + phi * (1 - LAMBDA)) / (1 - phi * (1 - LAMBDA))
    return ratio


def student(quantile: NDArray[np.float64], freedom: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantile of Student's t with the same tail as this normal quantile (Wallace's approximation, inverted)."""
    scaled = quantile * (8 * freedom + 3) / (8 * freedom + 1)
    t: NDArray[np.float64] = np.sqrt(freedom * np.expm1(np.minimum(scaled * scaled / freedom, 600.0)))
    return t
