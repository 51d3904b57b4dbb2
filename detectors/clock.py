"""Clock: a tenth or more of a source's rows in a minute carry a device time that cannot be believed."""

from __future__ import annotations

from detectors.timing import Timing
from schemas.anomaly import Kind
from schemas.status import Flag


class Clock(Timing):
    """Rows flagged ``clock suspect`` by the normalizer; they go by the time of their arrival."""

    def __init__(self) -> None:
        super().__init__("clock", Kind.CLOCK, Flag.CLOCK_SUSPECT)
