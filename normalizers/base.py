"""
What every normalizer step shares: the errors, and the per-tag parameters of one map revision as columns.

A step takes columns and gives columns; what it remembers of a tag follows the stable ``Tag.id`` over revisions.
"""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np
from numpy.typing import NDArray

from normalizers.counter import CounterColumns
from schemas.columns import Index
from schemas.tagmap import Tag, TagMap


class UnknownMap(LookupError):
    """A batch names a map revision that was never read, or a tag number that its map does not have."""


class BadState(ValueError):
    """Saved state of another version, or damaged."""


def form(tag: Tag) -> int:
    """
    64-bit hash of everything that gives a normalized value its meaning.

    Values made under different forms are never compared: a changed scale, unit or deadband starts a tag anew.
    """
    parts = (
        tag.source,
        tag.address,
        tag.type,
        tag.scale_mode,
        tag.raw_low,
        tag.raw_high,
        tag.factor,
        tag.offset,
        tag.clamp,
        tag.clamp_low,
        tag.clamp_high,
        tag.unit,
        tag.deadband,
        tag.sentinels,
    )
    return int.from_bytes(hashlib.blake2b(msgspec.json.encode(parts), digest_size=8).digest(), "little", signed=True)


class TagColumns:
    """
    Parameters of one map revision, each of length n = number of tags, indexed by tag number.

    ``slot`` is the tag's place in the state. Raises ValueError where a tag's number is not its position in the map.
    """

    def __init__(self, tag_map: TagMap) -> None:
        tags = tag_map.tags
        if any(tag.number != i for i, tag in enumerate(tags)):
            raise ValueError("tag numbers are not the positions in the map")
        self.ids = [tag.id for tag in tags]
        self.source: NDArray[np.object_] = np.array([tag.source for tag in tags], np.object_)
        self.slot: Index = np.zeros(len(tags), np.intp)
        self.form = np.array([form(tag) for tag in tags], np.int64)
        self.factor = _floats(tag.factor for tag in tags)
        self.offset = _floats(tag.offset for tag in tags)
        self.scaled: NDArray[np.bool_] = (self.factor != 1.0) | (self.offset != 0.0)
        self.root: NDArray[np.bool_] = np.array([tag.scale_mode == "sqrt" for tag in tags], np.bool_)
        self.scaled |= self.root
        self.raw_low = _floats(tag.raw_low for tag in tags)
        self.raw_span = _floats((tag.raw_high - tag.raw_low) or 1.0 for tag in tags)
        self.clamp_low = _floats(
            tag.clamp_low if tag.clamp in ("low", "both") and tag.clamp_low is not None else -np.inf for tag in tags
        )
        self.clamp_high = _floats(
            tag.clamp_high if tag.clamp in ("high", "both") and tag.clamp_high is not None else np.inf for tag in tags
        )
        self.low = _floats(tag.range[0] if tag.range else -np.inf for tag in tags)
        self.high = _floats(tag.range[1] if tag.range else np.inf for tag in tags)
        self.band = _floats(tag.deadband for tag in tags)
        self.beat_ns = np.array(
            [_NEVER_BEATS if t.heartbeat_ms is None else t.heartbeat_ms * 1_000_000 for t in tags], np.int64
        )
        self.sentinels = _sentinels(tags)
        self.has_sentinels: NDArray[np.bool_] = np.array([bool(tag.sentinels) for tag in tags], np.bool_)
        self.counters = CounterColumns(tags)
        self.any_scaled = bool(self.scaled.any())
        self.any_root = bool(self.root.any())
        self.any_clamp = bool(np.isfinite(self.clamp_low).any() or np.isfinite(self.clamp_high).any())
        self.any_range = bool(np.isfinite(self.low).any() or np.isfinite(self.high).any())
        self.any_beat = bool((self.beat_ns < _NEVER_BEATS).any())
        self.any_band = bool((self.band > 0).any())

    def __len__(self) -> int:
        return len(self.ids)


#: Longer than any time that a value may have stood.
_NEVER_BEATS = np.iinfo(np.int64).max


def _floats(values: object) -> NDArray[np.float64]:
    return np.fromiter(values, np.float64)  # type: ignore[call-overload,no-any-return]


def _sentinels(tags: tuple[Tag, ...]) -> NDArray[np.float64]:
    """
    Declared marks, float64[tags, k], NaN where a tag has fewer.

    A float32 device sends the nearest float32 of the mark (W4, W16), so that is a mark as well.
    """
    rows = []
    with np.errstate(over="ignore"):
        for tag in tags:
            marks = list(tag.sentinels)
            if tag.type == "float32":
                marks += [float(np.float32(mark)) for mark in tag.sentinels]
            rows.append(marks)
    width = max((len(marks) for marks in rows), default=0)
    table = np.full((len(tags), width), np.nan)
    for i, marks in enumerate(rows):
        table[i, : len(marks)] = marks
    return table
