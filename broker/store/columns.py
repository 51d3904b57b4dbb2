"""A batch of normalized records as the columns that SQL stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from broker.store.text import canonical, clean, text_of_bytes
from schemas.records import RecordBatch
from schemas.samples import Exact
from schemas.status import Flag

_INT64 = range(-(2**63), 2**63)


@dataclass(slots=True)
class Columns:
    """
    n rows to be stored, in journal order; rows inside the deadband are already left out.

    ``row`` is each row's place in the batch, of several joined batches in all of them. ``value_int`` and
    ``value_text`` are by place in these columns; ``unfit`` are rows that have no form in SQL, with the reason.
    ``increase`` is NaN for rows without one; None: no row has one.
    """

    row: NDArray[np.int64]
    source_ns: NDArray[np.int64]
    tag_id: NDArray[np.int64]
    value: NDArray[np.float64]
    status: NDArray[np.uint32]
    flags: NDArray[np.int64]
    server_ns: NDArray[np.int64] | None
    fingerprint: NDArray[np.int64]
    received_ns: NDArray[np.int64]
    value_int: dict[int, int] = field(default_factory=dict)
    value_text: dict[int, str] = field(default_factory=dict)
    unfit: dict[int, str] = field(default_factory=dict)
    increase: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.row)

    def take(self, keep: NDArray[np.bool_]) -> Columns:
        """Only the rows where *keep* is true."""
        if keep.all():
            return self
        place = np.cumsum(keep) - 1
        chosen = Columns(
            self.row[keep],
            self.source_ns[keep],
            self.tag_id[keep],
            self.value[keep],
            self.status[keep],
            self.flags[keep],
            None if self.server_ns is None else self.server_ns[keep],
            self.fingerprint[keep],
            self.received_ns[keep],
            increase=None if self.increase is None else self.increase[keep],
        )
        for name in ("value_int", "value_text", "unfit"):
            old = getattr(self, name)
            setattr(chosen, name, {int(place[i]): item for i, item in old.items() if keep[i]})
        return chosen

    @classmethod
    def joined(cls, parts: Sequence[Columns], first_rows: Sequence[int]) -> Columns:
        """All *parts* one after another; *first_rows* is what each part's ``row`` counts from."""
        if len(parts) == 1 and first_rows[0] == 0:
            return parts[0]
        server_ns = None
        if any(part.server_ns is not None for part in parts):
            # 0 is what the columns say for no server time
            none = (np.zeros(len(part), np.int64) if part.server_ns is None else part.server_ns for part in parts)
            server_ns = np.concatenate(list(none))
        increase = None
        if any(part.increase is not None for part in parts):
            unknown = (np.full(len(part), np.nan) if part.increase is None else part.increase for part in parts)
            increase = np.concatenate(list(unknown))
        whole = cls(
            np.concatenate([part.row + first for part, first in zip(parts, first_rows, strict=True)]),
            np.concatenate([part.source_ns for part in parts]),
            np.concatenate([part.tag_id for part in parts]),
            np.concatenate([part.value for part in parts]),
            np.concatenate([part.status for part in parts]),
            np.concatenate([part.flags for part in parts]),
            server_ns,
            np.concatenate([part.fingerprint for part in parts]),
            np.concatenate([part.received_ns for part in parts]),
            increase=increase,
        )
        start = 0
        for part in parts:
            for name in ("value_int", "value_text", "unfit"):
                getattr(whole, name).update({start + place: item for place, item in getattr(part, name).items()})
            start += len(part)
        return whole


def columns_of(batch: RecordBatch, numbering: NDArray[np.int64]) -> Columns:
    """
    The rows of *batch* that SQL keeps.

    Raises:
        ValueError: a tag number is not in the batch's map.
    """
    keep = (batch.flags & np.uint32(Flag.DEADBAND)) == 0
    row = np.flatnonzero(keep)
    tag = batch.tag[row]
    if len(tag) and (int(tag.min()) < 0 or int(tag.max()) >= len(numbering)):
        raise ValueError(f"{batch.source}: a tag number is outside the map {batch.map_revision.hex()}")
    tag_id = numbering[tag]
    if len(tag) and int(tag_id.min()) < 0:
        raise ValueError(f"{batch.source}: a tag number is not in the map {batch.map_revision.hex()}")
    columns = Columns(
        row,
        batch.source_ns[row],
        tag_id,
        batch.value[row] + 0.0,
        batch.status[row],
        batch.flags[row].astype(np.int64),
        None if batch.server_ns is None else batch.server_ns[row],
        batch.fingerprint[row],
        batch.received()[row],
        increase=None if batch.increase is None else batch.increase[row],
    )
    if batch.exact:
        place = {int(r): i for i, r in enumerate(row)}
        for source_row, item in batch.exact.items():
            if source_row in place:
                _exact(columns, place[source_row], item)
    return columns


def _exact(columns: Columns, place: int, item: Exact) -> None:
    if isinstance(item, int) and item in _INT64:
        columns.value_int[place] = int(item)
        return
    try:
        if isinstance(item, str):
            text = clean(item)
            if text != item:
                columns.flags[place] |= int(Flag.DECODE_LOSS)
        elif isinstance(item, bytes):
            text = text_of_bytes(item)
        elif isinstance(item, int):
            text = str(item)
        else:
            text = canonical(item)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        columns.unfit[place] = f"no form in SQL: {error}"
        return
    columns.value_text[place] = text
