"""
The saved state of the stages on its way into SQL: some of it with each bundle, in force when all of it is there.

Ten thousand tags that learn are 6 MB; written at once they held the records up by 0.1 s on a quiet disk and 0.7 s on a
busy one. There are two places for a state, so that the complete one stays as it is while the next is written. The row
``pipeline`` names the place in force and comes last; what a crash leaves half written is never read. That row is
written whole, so nothing large belongs in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import msgspec

from broker.store import Store, Transaction
from schemas.entries import Position

#: Bytes of one row.
PART: Final = 256 * 1024
#: Journal time within which a state is written, however many bundles that are.
WITHIN_NS: Final = 1_500_000_000
PLACES: Final = ("a", "b")
#: The row that says what is in force.
HEAD: Final = "pipeline"
#: Rows of stages from before there were places.
_PLACELESS: Final = ("normalizer", "detection")


class Snapshot:
    """
    What the stages were at *position*; ``head`` is what the pipeline itself remembers beside them.

    Stages named in *unchanged* are in this place already, as they are, and are not written again. ``complete`` once
    :meth:`write` has written everything: the transaction's commit puts it in force.
    """

    def __init__(
        self,
        place: str,
        position: Position,
        begun_ns: int,
        head: Mapping[str, Any],
        stages: Mapping[str, bytes],
        unchanged: Collection[str] = (),
    ) -> None:
        self.place = place
        self.position = position
        self.complete = False
        self._begun_ns = begun_ns
        parts = {name: list(_cut(state)) for name, state in stages.items()}
        self._rows = [
            (_row(name, place, number), part)
            for name, cut in parts.items()
            if name not in unchanged
            for number, part in enumerate(cut)
        ]
        self._names = {_row(name, place, number) for name, cut in parts.items() for number in range(len(cut))}
        counts = {name: len(cut) for name, cut in parts.items()}
        self._head = msgspec.msgpack.encode({**head, "position": list(position), "place": place, "parts": counts})
        self._written = 0

    def write(self, tx: Transaction, wall_ns: int | None = None) -> None:
        """Write as much as is due at *wall_ns* of the journal, at least one part; None: all."""
        due = len(self._rows)
        if wall_ns is not None and 0 <= wall_ns - self._begun_ns < WITHIN_NS:
            due = min(due, 1 + max(self._written, due * (wall_ns - self._begun_ns) // WITHIN_NS))
        for name, part in self._rows[self._written : due]:
            tx.save_stage(name, part)
        self._written = due
        if due == len(self._rows):
            tx.save_stage(HEAD, self._head)
            tx.drop_stages([name for name in tx.stages() if self._is_left_over(name)])
            self.complete = True

    def _is_left_over(self, name: str) -> bool:
        """Whether a row is of a larger state that was in this place, or of the time before there were places."""
        _, *where = name.rsplit(".", 2)
        return name in _PLACELESS or (len(where) == 2 and where[0] == self.place and name not in self._names)


def other(place: str | None) -> str:
    """The place that is not in force."""
    return PLACES[1] if place == PLACES[0] else PLACES[0]


def saved(store: Store) -> tuple[dict[str, Any], dict[str, bytes]] | None:
    """
    Head and stages in force; None where nothing was saved. A part that is not there is left out of its stage.

    Raises:
        StoreError: the store cannot be read.
    """
    raw = store.stage(HEAD)
    if raw is None:
        return None
    head = msgspec.msgpack.decode(raw)
    if "place" not in head:  # from before there were places: a row a stage
        whole = {name: store.stage(name) for name in _PLACELESS}
        return {**head, "place": None}, {name: state for name, state in whole.items() if state is not None}
    stages = {}
    for name, count in head["parts"].items():
        rows = (store.stage(_row(name, head["place"], number)) for number in range(count))
        stages[name] = b"".join(part for part in rows if part is not None)
    return head, stages


def _row(stage: str, place: str, number: int) -> str:
    """Name of the row with a part of a stage's state."""
    return f"{stage}.{place}.{number}"


def _cut(state: bytes) -> Iterator[bytes]:
    for start in range(0, len(state), PART):
        yield state[start : start + PART]
