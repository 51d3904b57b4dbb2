"""Tags that follow common drivers, and what the multivariate detector says of them."""

from __future__ import annotations

import numpy as np

from schemas.anomaly import Kind

S = 1_000_000_000
NOW = 1_790_000_000 * S
ALONE = {"spc": (), "health": ()}
WINDOW = 120
#: Enough for a limit that a break of some sigmas passes.
LONG = 300


def related(rng: np.random.Generator, steps: int, tags: int = 4) -> np.ndarray:
    """Tags that follow two slow drivers, with noise, float64[steps, tags]."""
    drivers = np.zeros((steps, 2))
    for i in range(1, steps):
        drivers[i] = 0.9 * drivers[i - 1] + rng.normal(0, 1, 2)
    mix = np.array([[1.0, 0.2], [0.8, -0.5], [-0.4, 1.0], [0.6, 0.6], [0.1, 0.9], [1.2, 0.0]])[:tags]
    return 50 + drivers @ mix.T + rng.normal(0, 0.2, (steps, tags))


def feed(plant, values: np.ndarray) -> list:
    return plant.run({i: values[:, i] for i in range(values.shape[1])})


def patterns(plant) -> list:
    return [a for a in plant.latest().values() if any(m.kind is Kind.PATTERN for m in a.members)]
