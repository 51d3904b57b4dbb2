"""Normalized records: what the detectors see and what SQL keeps."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.entries import Position
from schemas.samples import Exact, Origin


class Piece(NamedTuple):
    """Rows of one entry of the journal within a batch: from row ``first`` to the next piece."""

    first: int
    source: str
    position: Position
    received_ns: int


@dataclass(slots=True)
class RecordBatch:
    """
    SampleBatch's columns after normalizing, n rows in journal order.

    Values are in the tag's ``unit``; NaN where there is no number. Rows with ``Flag.DEADBAND`` are for detectors
    only, rows with ``Flag.CORNER`` for SQL only. ``fingerprint`` is a 64-bit hash of value and status (int64, so that
    SQL can hold it); with source time, tag and revision it removes what a source redelivers.

    ``increase`` is how far a counter went since its last usable row, in ``unit``; NaN for other tags and where it is
    not known. None: no row of the batch is of a counter.

    Where the rows of several entries were normalized together, ``pieces`` says which are whose, and ``source``,
    ``position`` and ``received_ns`` are those of the last one.
    """

    source: str
    origin: Origin
    map_revision: bytes
    position: Position
    received_ns: int
    tag: NDArray[np.int32]
    source_ns: NDArray[np.int64]
    server_ns: NDArray[np.int64] | None
    value: NDArray[np.float64]
    status: NDArray[np.uint32]
    flags: NDArray[np.uint32]
    fingerprint: NDArray[np.int64]
    exact: dict[int, Exact] = field(default_factory=dict)
    pieces: tuple[Piece, ...] = ()
    increase: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.tag)

    def parts(self) -> tuple[Piece, ...]:
        """The pieces; of a batch from one entry, the one that is all of it."""
        return self.pieces or (Piece(0, self.source, self.position, self.received_ns),)

    def received(self) -> NDArray[np.int64]:
        """Time of reception of each row, int64[n]."""
        if not self.pieces:
            return np.full(len(self), self.received_ns, np.int64)
        ends = [piece.first for piece in self.pieces[1:]] + [len(self)]
        counts = [end - piece.first for piece, end in zip(self.pieces, ends, strict=True)]
        return np.repeat(np.array([piece.received_ns for piece in self.pieces], np.int64), counts)


_MIX = np.uint64(0x9E3779B97F4A7C15)


def fingerprints(value: NDArray[np.float64], status: NDArray[np.uint32], exact: dict[int, Exact]) -> NDArray[np.int64]:
    """
    64-bit hash of each row's value bits and status, int64[n].

    All NaN are one value. Rows in *exact* are hashed from their canonical JSON, so that equal texts are equal.
    """
    bits = np.where(np.isnan(value), np.float64(np.nan), value).view(np.uint64).copy()
    for row, item in exact.items():
        text = item if isinstance(item, bytes) else msgspec.json.encode(item, order="sorted")
        bits[row] = np.frombuffer(hashlib.blake2b(text, digest_size=8).digest(), np.uint64)[0]
    with np.errstate(over="ignore"):
        mixed = (bits ^ (status.astype(np.uint64) << np.uint64(17))) * _MIX
        mixed ^= mixed >> np.uint64(29)
        mixed *= _MIX
        mixed ^= mixed >> np.uint64(32)
    return mixed.view(np.int64)
