"""What of the multivariate detector is saved: operating modes, windows that are being filled, and models."""

from __future__ import annotations

import msgspec
import numpy as np

from detectors.multivariate_model import Model


class Mode(msgspec.Struct):
    """An operating mode of one group: equipment state and set points; ``used_ns`` is the tick clock."""

    number: int
    state: float | None
    set_points: list[float]
    used_ns: int


class Window(msgspec.Struct):
    """A clean window that is being filled: float32 rows relative to the first values."""

    reference: list[float]
    rows: list[bytes] = []
    starts: list[int] = []
    broken: bool = True  #: the next row does not follow the last one
    took_ns: int = 0  #: when it took the last one, tick clock


class Saved(msgspec.Struct):
    """
    Charts, modes and windows of all groups, by group key, windows by key and mode.

    ``not_before``: when groups may begin a window again that gave no model, tick clock.
    """

    charts: dict[str, dict[str, bytes]]
    modes: dict[str, list[Mode]]
    mode: dict[str, int]
    windows: dict[str, Window]
    watched: list[float]
    stale: list[str]
    generation: int
    not_before: dict[str, int] = {}


class SavedModel(msgspec.Struct, array_like=True):
    """Columns of a model, little endian."""

    tags: int
    unused: int  #: older states hold a count here that nothing reads
    limit: float
    flags: bytes
    columns: bytes
    weights: bytes
    rotation: bytes


def place_of(name: str) -> tuple[str, int]:
    """Group key and number of the mode, of a saved name."""
    key, _, mode = name.partition(" ")
    return key, int(mode)


def pack(model: Model) -> SavedModel:
    """A model as it is saved."""
    columns = np.stack([model.center, model.scale, model.own, model.spread])
    return SavedModel(
        tags=len(model.used),
        unused=0,
        limit=model.limit,
        flags=np.stack([model.used, model.absent]).tobytes(),
        columns=columns.astype("<f8").tobytes(),
        weights=model.weights.astype("<f4").tobytes(),
        rotation=model.rotation.astype("<f4").tobytes(),
    )


def unpack(saved: SavedModel) -> Model:
    """Inverse of :func:`pack`. Raises ValueError where the lengths do not fit."""
    n = saved.tags
    used, absent = np.frombuffer(saved.flags, np.bool_).reshape(2, n)
    center, scale, own, spread = np.frombuffer(saved.columns, "<f8").astype(np.float64).reshape(4, n)
    return Model(
        used=used,
        absent=absent,
        center=center,
        scale=scale,
        own=own,
        spread=spread,
        weights=np.frombuffer(saved.weights, "<f4").astype(np.float32).reshape(2 * n, n),
        rotation=np.frombuffer(saved.rotation, "<f4").astype(np.float32).reshape(n, n),
        limit=saved.limit,
    )
