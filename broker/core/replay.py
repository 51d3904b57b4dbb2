"""
Make records anew from the raw samples of the journal, after a mistake in the tag map.

What the devices said is in the journal, so a wrong factor, unit, range, clamp or deadband can be put right: the samples
of a span are normalized again and stored under a revision of their own. ``v_records`` shows the corrected rows at
once, the old ones stay in ``v_record_history``. What was read wrongly (address, type, byte order) cannot be put right:
the right raw value was never read. Detectors are not run again: their state belongs to the live stream.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from broker import events
from broker.core.corrections import Corrections, Repaired
from broker.core.replay_outcome import Outcome, ReplayRequest, some
from broker.journal import JournalFiles
from broker.journal.survey import Survey
from broker.store import Reader, Transaction
from normalizers.base import UnknownMap
from normalizers.normalizer import Normalizer
from normalizers.options import NormalizerOptions
from schemas.documents import rfc3339
from schemas.entries import Entry, MapInForce, Position
from schemas.errors import Refused
from schemas.records import RecordBatch
from schemas.samples import Gap, SampleBatch
from schemas.tagmap import TagMap

T = TypeVar("T")
#: Runs a command in a transaction of its own and gives its result.
Write = Callable[[Callable[[Transaction], T]], T]
#: The normalizer sees so much of the journal before the span, so that deadband and clocks stand as they did.
WARM_UP_NS: Final = 600 * 1_000_000_000
#: Of counters: the row before may be as old as a night in which nothing ran.
COUNTER_WARM_UP_NS: Final = 86_400 * 1_000_000_000
MINUTE_NS: Final = 60_000_000_000
HOUR_NS: Final = 3_600_000_000_000
ENTRIES: Final = 512
#: Rows in one transaction at most; one ends with each minute of the journal, and then its roll-ups are made anew.
ROWS: Final = 20_000


class Replay:
    """
    One replay: :meth:`check`, :meth:`begin`, :meth:`run`. One thread at a time.

    *write* runs commands where the store is written: core's writer thread, between two bundles of the live stream, or
    the caller's own store. *committed* is the position in SQL; the replay goes no further, what follows will be
    normalized by the live stream.
    """

    def __init__(
        self,
        directory: Path,
        reader: Reader,
        options: NormalizerOptions,
        request: ReplayRequest,
        *,
        committed: Position,
        keep_s: float,
        write: Write[Any],
        stop: threading.Event | None = None,
    ) -> None:
        self._directory = directory
        self._reader = reader
        self._normalizer = Normalizer(options)
        self._request = request
        self._committed = committed
        self._keep_ns = round(keep_s * 1e9)
        self._write = write
        self._stop = stop or threading.Event()
        self._maps: dict[bytes, Repaired] = {}
        self._corrections = Corrections(TagMap(site="", tags=()), ())
        self._from = Position(0, 0)
        self._until = committed
        self.tag_map = TagMap(site="", tags=())
        self.outcome = Outcome()

    def check(self) -> None:
        """
        Find the place in the journal and the corrected map.

        Raises:
            Refused: the span is not in the journal any more, is older than the store keeps, or nothing would change;
                the text says which span is there.
        """
        request = self._request
        if request.to_ns <= request.from_ns:
            raise Refused("the end of the span must be later than its begin")
        survey = Survey(self._directory)
        self._find(survey)
        tag_map = request.tag_map or self._reader.map()
        if tag_map is None:
            raise Refused("no tag map was ever in force")
        self.tag_map = tag_map
        self._units(tag_map)
        earlier = self._reader.replay_maps(request.from_ns, request.to_ns)
        self._corrections = Corrections(tag_map, map(TagMap.from_body, earlier))

    def _find(self, survey: Survey) -> None:
        request = self._request
        oldest_ns, newest_ns = survey.oldest_ns(), survey.newest_ns()
        if oldest_ns is None or newest_ns is None:
            raise Refused("the journal is empty")
        available = f"the journal holds {rfc3339(oldest_ns)} to {rfc3339(newest_ns)}"
        if request.from_ns < oldest_ns:
            raise Refused(f"{rfc3339(request.from_ns)} is no longer in the journal; {available}")
        if request.from_ns > newest_ns:
            raise Refused(f"nothing was journalled at {rfc3339(request.from_ns)} or later; {available}")
        if newest_ns - request.from_ns > self._keep_ns:
            raise Refused(
                f"the store keeps records and minutes for {self._keep_ns / 8.64e13:g} days: what is older would be "
                f"removed again; begin later than {rfc3339(newest_ns - self._keep_ns)}"
            )
        held = [s for s in survey.segments if s.may_hold(request.from_ns - self._warm_up_ns(), request.to_ns)]
        if not held:
            raise Refused(f"no segment of the journal can be read in the span; {available}")
        first, last = held[0], held[-1]
        assert first.header is not None
        assert last.header is not None
        self._from = Position(first.header.epoch, first.first - 1)
        if last.next_first is not None:
            self._until = min(self._committed, Position(last.header.epoch, last.next_first - 1))

    def _warm_up_ns(self) -> int:
        request = self._request
        tag_map = request.tag_map or self._reader.map()
        tags = () if tag_map is None else tag_map.tags
        counters = (tag for tag in tags if tag.counter and (not request.sources or tag.source in request.sources))
        return COUNTER_WARM_UP_NS if any(counters) else WARM_UP_NS

    def _units(self, tag_map: TagMap) -> None:
        """What is written must be in the unit that the tag has in the map in force."""
        in_force = self._reader.map()
        if in_force is None or in_force.revision == tag_map.revision:
            return
        units = {tag.id: tag.unit for tag in in_force.tags}
        wrong = {tag.path for tag in tag_map.tags if units.get(tag.id, tag.unit) != tag.unit}
        if wrong:
            raise Refused(
                f"the unit differs from that of the map in force: {some(wrong)}; put the corrected map in force "
                "first (restart with it), then replay"
            )

    def begin(self) -> int:
        """Enter the replay in the ledger and the audit, and return its revision. After :meth:`check`."""
        self.outcome.revision = self._write(self._begin)
        events.replay_started(self.outcome.revision, self._request.actor)
        return self.outcome.revision

    def run(self) -> Outcome:
        """
        Write the corrected records; the outcome, also kept in the ledger of replays and the audit. After :meth:`begin`.

        Raises:
            Refused: the core is stopping, or nothing in the span would change.
            StoreError: SQL failed; what was written before stays and is valid.
        """
        try:
            self._work()
            if self.outcome.rows == 0:
                raise Refused(self._nothing())
        except Exception as error:
            self._end("failed", str(error) or repr(error))
            raise
        self._end("done", self.outcome.text())
        return self.outcome

    def _begin(self, tx: Transaction) -> int:
        request = self._request
        revision = tx.begin_replay(
            request.actor,
            request.reason,
            sources=request.sources,
            span_ns=(request.from_ns, request.to_ns),
            tag_map=self.tag_map,
        )
        detail = {
            "from": rfc3339(request.from_ns),
            "to": rfc3339(request.to_ns),
            "sources": list(request.sources),
            "map_revision": self.tag_map.revision.hex(),
            "reason": request.reason,
        }
        tx.audit(request.actor, "replay_started", str(revision), detail)
        return revision

    def _end(self, state: str, text: str) -> None:
        outcome = self.outcome
        events.replay_ended(outcome.revision, state, outcome.rows, text)

        def command(tx: Transaction) -> None:
            tx.end_replay(outcome.revision, state, text)
            detail = {"state": state, "records": outcome.rows, "detail": text}
            tx.audit(self._request.actor, "replay_ended", str(outcome.revision), detail)

        self._write(command)

    def _work(self) -> None:
        files = JournalFiles(self._directory)
        waiting: list[RecordBatch] = []
        rows, minute, hour = 0, -1, -1
        try:
            after = self._from
            while after < self._until:
                self._go_on()
                entries = files.read(after, ENTRIES)
                if not entries:
                    break
                for entry in entries:
                    after = entry.position
                    if after > self._until:
                        break
                    record = self._step(entry)
                    if record is None:
                        continue
                    now = entry.wall_ns // MINUTE_NS
                    if waiting and (now != minute or rows + len(record) > ROWS):
                        self._flush(waiting)
                        waiting, rows = [], 0
                    if now != minute and minute >= 0:
                        hour, before = entry.wall_ns // HOUR_NS, hour
                        self._roll_up(hours=before not in (hour, -1))
                    waiting.append(record)
                    rows, minute = rows + len(record), now
            self._flush(waiting)
            self._roll_up(hours=True)
        finally:
            files.close()

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Refused("the core is stopping")

    def _step(self, entry: Entry) -> RecordBatch | None:
        """The corrected rows of an entry within the span; None where there are none."""
        body = entry.body
        inside = self._request.from_ns <= entry.wall_ns < self._request.to_ns
        if isinstance(body, MapInForce):
            self._meet(TagMap.from_body(body.body))
        elif isinstance(body, Gap) and not body.source and inside:
            self.outcome.holes.append(body.detail)
        if not isinstance(body, SampleBatch) or (self._request.sources and body.source not in self._request.sources):
            return None
        self.outcome.entries += inside
        self.outcome.at_ns = entry.wall_ns
        repaired = self._maps.get(body.map_revision) or self._look_up(body.map_revision)
        if repaired is None:
            self.outcome.unknown_rows += len(body) * inside
            return None
        try:
            record = self._normalizer.step(replace(body, map_revision=repaired.tag_map.revision), entry.position)
        except UnknownMap:
            self.outcome.unknown_rows += len(body) * inside
            return None
        except Exception as error:  # noqa: BLE001 - the live stream put it into quarantine for the same reason
            self.outcome.holes.append(f"entry {entry.seq} cannot be normalized: {error!r}")
            return None
        if not inside:
            return None
        self.outcome.missing.update(path for source, path in repaired.missing if source == body.source)
        self.outcome.unreachable.update(path for source, path in repaired.unreachable if source == body.source)
        record.map_revision = body.map_revision
        return repaired.taken(record)

    def _look_up(self, revision: bytes) -> Repaired | None:
        found = self._reader.map(revision)
        return None if found is None else self._meet(found)

    def _meet(self, old: TagMap) -> Repaired:
        """Take note of a map of the journal."""
        repaired = self._maps.get(old.revision) or self._corrections.repair(old)
        self._maps[old.revision] = repaired
        self._normalizer.use_map(repaired.tag_map.revision, repaired.tag_map)
        return repaired

    def _flush(self, batches: Sequence[RecordBatch]) -> None:
        """Write, and note the progress, in one transaction."""
        self._go_on()
        outcome = self.outcome

        def command(tx: Transaction) -> tuple[int, int]:
            rows, withdrawn = outcome.rows, outcome.withdrawn
            for batch in batches:
                repaired = self._maps[batch.map_revision]
                for other in repaired.withdrawn(batch):
                    withdrawn += self._store(tx, other, *repaired.former)
                if repaired.former:
                    batch = replace(batch, map_revision=repaired.tag_map.revision)
                rows += self._store(tx, batch, repaired.tag_map)
            tx.note_replay(outcome.revision, at_ns=outcome.at_ns, entries=outcome.entries, rows=rows)
            return rows, withdrawn

        for batch in batches:
            paths = self._maps[batch.map_revision].tag_map.tags
            outcome.corrected.update(paths[number].path for number in np.unique(batch.tag).tolist())
        try:
            outcome.rows, outcome.withdrawn = self._write(command)
        except ValueError as error:
            raise Refused(f"{error}: this store never read that map from the journal") from error

    def _store(self, tx: Transaction, batch: RecordBatch, *maps: TagMap) -> int:
        """Write a batch of the stream, or of one of *maps*; how many rows were stored."""
        for one in maps:
            if one.revision == batch.map_revision:
                tx.number(one)
        before = tx.next_seq
        tx.records(batch, revision=self.outcome.revision)
        return tx.next_seq - before

    def _roll_up(self, *, hours: bool) -> None:
        """Make the roll-ups anew that were touched so far, step by step, each in a transaction of its own."""
        more = True
        while more:
            self._go_on()
            more, left = self._write(lambda tx: tx.rebuild(hours=hours))
            self.outcome.left += left

    def _nothing(self) -> str:
        outcome = self.outcome
        if not outcome.entries:
            return "no sample of these sources was journalled in the span"
        if outcome.unreachable:
            return (
                f"address, type or byte order changed: {some(outcome.unreachable)}; the journal holds what was read "
                "then, and nothing else differs"
            )
        return (
            "nothing would change: the records of the span were made with this very map; put the corrected map in "
            "force first (restart with it), or name it with --map"
        )
