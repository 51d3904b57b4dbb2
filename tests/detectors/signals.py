"""Signals and what is read of a plant, for the tests of single detectors."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

S = 1_000_000_000
NOW = 1_790_000_000 * S
Signal = Callable[[np.random.Generator, int], np.ndarray]


def normal(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.normal(50, 1, n)


def told(plant) -> dict[str, str]:
    """Reason of each detector that spoke."""
    return {m.detector: m.reason for anomaly in plant.latest().values() for m in anomaly.members}


ODD: dict[str, Signal] = {
    "constant": lambda rng, n: np.full(n, 7.25),
    "all nan": lambda rng, n: np.full(n, math.nan),
    "half nan": lambda rng, n: np.where(rng.random(n) < 0.5, np.nan, rng.normal(size=n)),
    "two states": lambda rng, n: (np.arange(n) // 90 % 2).astype(float),
    "huge": lambda rng, n: rng.choice([1e300, -1e300], n),
    "largest": lambda rng, n: rng.choice([1.7e308, -1.7e308], n),
    "noise at 1e300": lambda rng, n: 1e300 * (1 + 0.01 * rng.normal(size=n)),
    "tiny": lambda rng, n: rng.normal(0, 1e-310, n),
    "quantised": lambda rng, n: np.round(rng.normal(32, 0.4, n)),
    "heavy tails": lambda rng, n: rng.standard_t(3, n),
    "random walk": lambda rng, n: np.cumsum(rng.normal(size=n)),
    "counter": lambda rng, n: np.cumsum(rng.integers(0, 3, n)).astype(float),
    "white": lambda rng, n: rng.normal(50, 1, n),
}
