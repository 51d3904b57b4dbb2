"""What is left of a batch or event that cannot be encoded: the rows that can, and rejects for the others (C8)."""

from __future__ import annotations

import reprlib
from dataclasses import replace
from typing import Final

import numpy as np

from broker.journal import codec
from schemas.alarms import Event
from schemas.samples import Reject, SampleBatch

RAW_BYTES: Final = 4096
#: Bounded in depth, too: the interpreter's own repr fails on what is nested too deeply.
_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = RAW_BYTES


def divide(batch: SampleBatch, error: ValueError) -> tuple[SampleBatch | None, list[Reject]]:
    """
    The rows of *batch* that can be journalled, or None where none can, and a reject for each other row.

    *error* is why the batch was refused. Where it is not the fault of single rows, the whole batch is one reject.
    """
    try:
        batch.check()
        refused = codec.refused_rows(batch)
        rest = _without(batch, refused)
        codec.encode(rest)
    except ValueError:
        return None, [_reject(batch, "batch", str(error), batch)]
    if not refused:
        return None, [_reject(batch, "batch", str(error), batch)]
    rejects = [
        _reject(batch, f"tag number {batch.tag[row]}", reason, batch.exact[row]) for row, reason in refused.items()
    ]
    return (rest if len(rest) else None), rejects


def refused_event(event: Event, error: ValueError) -> Reject:
    """What stands for an event that cannot be journalled."""
    raw = _SHORT.repr(event.fields).encode(errors="backslashreplace")[:RAW_BYTES]
    return Reject(event.source, event.notifier, str(error), raw, event.received_ns)


def _without(batch: SampleBatch, refused: dict[int, str]) -> SampleBatch:
    kept = np.setdiff1d(np.arange(len(batch)), np.fromiter(refused, np.int64, len(refused)))
    place = {int(old): new for new, old in enumerate(kept)}
    return replace(
        batch,
        tag=batch.tag[kept],
        source_ns=batch.source_ns[kept],
        server_ns=None if batch.server_ns is None else batch.server_ns[kept],
        value=batch.value[kept],
        status=batch.status[kept],
        flags=batch.flags[kept],
        exact={place[row]: value for row, value in batch.exact.items() if row in place},
    )


def _reject(batch: SampleBatch, place: str, reason: str, content: object) -> Reject:
    raw = _SHORT.repr(content).encode(errors="backslashreplace")[:RAW_BYTES]
    return Reject(batch.source, place, reason, raw, batch.received_ns)
