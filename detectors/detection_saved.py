"""What of detection is saved: one msgpack structure, of which older states may lack what came later."""

from __future__ import annotations

from typing import Final

import msgspec

from detectors.base import BadState
from detectors.context import EquipmentState
from detectors.missing import SourceLink
from detectors.timing import SourceRows

VERSION: Final = 2


class Saved(msgspec.Struct):
    """
    State of the stage, but the maps; *columns* by the name of their group, by slot.

    ``timings`` and ``slow_trend`` are where the detectors of that name stand in their minute and hour. A state may be
    saved without ``models``, which then are kept beside it.
    """

    version: int
    revision: bytes
    ids: list[str]
    now_ns: int
    wall_ns: int
    columns: dict[str, dict[str, bytes]]
    points: bytes
    links: dict[str, SourceLink]
    equipment: dict[str, EquipmentState]
    episodes: bytes
    timings: dict[str, tuple[int, dict[str, SourceRows]]]
    slow_trend: tuple[int, int]
    multivariate: bytes = b""
    models: bytes = b""


def read(state: bytes) -> Saved:
    """A saved state. Raises BadState where it is of another version or damaged."""
    try:
        saved = msgspec.msgpack.decode(state, type=Saved)
    except (msgspec.MsgspecError, ValueError) as e:
        raise BadState(f"detection state cannot be read: {e}") from e
    if saved.version != VERSION:
        raise BadState(f"detection state version {saved.version}, want {VERSION}")
    return saved
