"""
What must hold of every stream, checked while it runs (docs/delivery-contract.md, "Invariants").

A violation is a fault of this program, not of the plant: it is an event and a counter, and nothing is held up by it.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from broker import events
from schemas.entries import Entry
from schemas.samples import Gap, GapCause, Origin, Reject, SampleBatch
from schemas.tagmap import TagMap

#: Beside what the slowest tag of a polled source allows: reception and commit take their time.
SLACK_NS: Final = 2_000_000_000
#: A wall clock that moved by more against the monotonic one was set (C7).
JUMP_NS: Final = 1_000_000_000
#: Causes of the gaps that a reader puts in the place of entries that are gone.
_HOLES: Final = (GapCause.JOURNAL_DAMAGED, GapCause.DISK_BUDGET)


class Invariants:
    """
    Follows the entries of one run of the pipeline, in order.

    ``seq``: sequence numbers of an epoch rise by one, or a gap of every source stands for those that are gone.
    ``rows``: of each bundle, every row is stored, known already, held back by the deadband, or in quarantine.
    ``gaps``: a polled source that said nothing for longer than its tags allow has a gap row for it. How long that was
    is told by the monotonic time of the entries: the wall clock may be set while a source is silent.
    """

    def __init__(self) -> None:
        self._last: Entry | None = None
        self._allowed_ns: dict[str, int] = {}
        self._heard_ns: dict[str, int] = {}
        self._gap_until_ns: dict[str, int] = {}
        # (wall minus monotonic time, it became so between these monotonic times): as it is, and as it was before
        self._clocks: list[tuple[int, int, int]] = []
        self._open: dict[tuple[str, tuple[int, ...], GapCause, int], Gap] = {}

    def use_map(self, tag_map: TagMap) -> None:
        """Sources all of whose tags are polled have an expected sampling; of others nothing is expected."""
        self._allowed_ns = {}
        for source in {tag.source for tag in tag_map.tags}:
            limits = [tag.stale_after_ms for tag in tag_map.of_source(source)]
            if limits and None not in limits:
                self._allowed_ns[source] = max(limit or 0 for limit in limits) * 1_000_000 + SLACK_NS
        self._heard_ns.clear()

    def entry(self, entry: Entry) -> None:
        """The next entry."""
        last, body = self._last, entry.body
        stands_for_missing = isinstance(body, Gap) and not body.source and body.cause in _HOLES
        if last is not None and entry.epoch == last.epoch and entry.seq != last.seq + 1 and not stands_for_missing:
            events.invariant_violated("seq", f"entry {entry.seq} of epoch {entry.epoch} follows {last.seq}")
        if last is not None and entry.boot_id != last.boot_id:
            # another boot counts from another begin; the time between is the gap of the start
            self._heard_ns.clear()
            self._gap_until_ns.clear()
            self._clocks.clear()
        ahead = entry.wall_ns - entry.mono_ns
        if not self._clocks or abs(ahead - self._clocks[0][0]) > JUMP_NS:
            since = entry.mono_ns if last is None else last.mono_ns
            self._clocks = [(ahead, since, entry.mono_ns), *self._clocks[:1]]
        self._last = entry
        if isinstance(body, Gap):
            self._gap(body, entry.mono_ns)
        elif (isinstance(body, SampleBatch) and body.origin is Origin.LIVE) or isinstance(body, Reject):
            self._heard(body.source, entry.mono_ns)

    def rows(self, last: Entry, received: int, became: Counter[str]) -> None:
        """What became of the *received* rows of a committed bundle whose last entry is *last*."""
        for outcome, count in became.items():
            if count:
                events.rows_became(outcome, count)
        if received != became.total():
            text = f"up to entry {last.seq} came {received} rows, {became.total()} are accounted for: {dict(became)}"
            events.invariant_violated("rows", text)

    def _gap(self, gap: Gap, now_ns: int) -> None:
        key = (gap.source, gap.tags, gap.cause, gap.from_ns)
        if gap.to_ns is None:
            self._open[key] = gap
            return
        self._open.pop(key, None)
        until = self._monotonic(gap.to_ns, now_ns)
        self._gap_until_ns[gap.source] = max(self._gap_until_ns.get(gap.source, until), until)

    def _monotonic(self, wall_ns: int, now_ns: int) -> int:
        """The monotonic time at which the wall clock, as it is or as it was before it was set, said *wall_ns*."""
        at_ns, until = wall_ns, now_ns
        for ahead, since, seen in self._clocks:
            at_ns = min(wall_ns - ahead, until)
            if at_ns >= since:
                break
            until = seen
        return at_ns

    def _heard(self, source: str, now_ns: int) -> None:
        allowed, before = self._allowed_ns.get(source), self._heard_ns.get(source)
        self._heard_ns[source] = now_ns
        if allowed is None or before is None or now_ns - before <= allowed:
            return
        covered = any(gap.source in (source, "") for gap in self._open.values()) or any(
            self._gap_until_ns.get(name, before) > before for name in (source, "")
        )
        if not covered:
            silent_s = (now_ns - before) / 1e9
            events.invariant_violated("gaps", f"{source} was silent for {silent_s:.1f} s and no gap row says why")
