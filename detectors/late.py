"""Late: a tenth or more of a source's rows in a minute are older than what their tags have shown before."""

from __future__ import annotations

from detectors.timing import Timing
from schemas.anomaly import Kind
from schemas.status import Flag


class Late(Timing):
    """Rows flagged ``late`` by the normalizer; they are stored, and no detector is fed with them."""

    def __init__(self) -> None:
        super().__init__("late", Kind.LATE, Flag.LATE)
