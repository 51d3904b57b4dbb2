"""A message as it came from the broker."""

from __future__ import annotations

from typing import Final, NamedTuple

#: Bytes of a refused payload that are kept.
RAW_LIMIT: Final = 4096


class Message(NamedTuple):
    """A message as it came; ``payload`` is cut to :data:`RAW_LIMIT` where ``size`` is beyond the limit."""

    topic: bytes
    payload: bytes
    size: int
    qos: int
    retain: bool
    dup: bool
    mid: int
    arrival_ns: int
