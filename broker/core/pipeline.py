"""
From the journal into SQL: the deterministic half of Fairlead, and its only writer.

One bundle of entries is one transaction: records, gaps, rejects, anomalies, evidence, rules' annotations and the
position commit together. Stage state is saved at least every ten seconds of journal time (``snapshot.py``); after a
restart the stages are loaded, run on from there, and their outputs up to the committed position are thrown away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

import detectors.base
import normalizers.base
from broker import events
from broker.core import snapshot
from broker.core.grouping import groups
from broker.core.invariants import Invariants
from broker.core.snapshot import Snapshot
from broker.evidence import build_evidence, reach, signature
from broker.store import Store, Transaction
from detectors.detection import Detection
from detectors.suppression import MOST_ACTIVE
from llm.rules import annotate_by_rules
from normalizers.clock import Skew
from normalizers.normalizer import Normalizer
from schemas.alarms import Event
from schemas.anomaly import Anomaly
from schemas.documents import rfc3339
from schemas.entries import Entry, JournalReader, Link, MapInForce, Notice, Position, Tick
from schemas.samples import Gap, GapCause, Reject, SampleBatch
from schemas.suppression import Command, Suppression, SuppressionEvent
from schemas.tagmap import TagMap

#: The next state of the stages is taken when so much journal time has passed; written, it is at most ten seconds old.
SAVE_EVERY_NS: Final = 8_000_000_000
#: What the detection has learned of equipment, saved where it changed.
MODELS: Final = "detection.models"
#: Refused entries that are remembered; their journal segments are gone long before there are so many.
MAX_REFUSED: Final = 1000
#: Maps that stages keep, so that the saved state can be read again.
KEPT_MAPS: Final = 4
#: Entries in one transaction at most.
BUNDLE: Final = 512
#: Rows after which a transaction ends: what a backlog holds is committed, and can be read, piece by piece.
BUNDLE_ROWS: Final = 30_000


class Pipeline:
    """
    Normalizer, detectors and evidence over journal entries, in order.

    ``restore`` first; then ``run_once`` until it returns 0. Not thread-safe: the writer thread owns it.
    """

    def __init__(
        self,
        store: Store,
        journal: JournalReader,
        normalizer: Normalizer,
        detection: Detection,
        now_ns: Callable[[], int] = time.time_ns,
        on_maps: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._on_maps = on_maps  # maps were read, which leaves much behind
        self._now_ns = now_ns  # for the lag metric alone; stages take time from entries
        self._journal = journal
        self._normalizer = normalizer
        self._detection = detection
        self._maps: list[TagMap] = [TagMap(site="", tags=())]
        self._explained: dict[str, tuple[str, ...]] = {}
        self._open_paths: dict[str, tuple[str, ...]] = {}
        self._unmapped: dict[str, Gap] = {}
        self._refused: dict[Position, str] = {}
        self._invariants = Invariants()
        self._rows = 0  # of the current bundle
        self.at: Entry | None = None
        #: entries up to here are processed one by one, so that ``at`` is the one at which a stage fails
        self.careful_to = Position(0, 0)
        #: last entry of the bundle at work
        self.bundle_end = Position(0, 0)
        self._read_to = Position(0, 0)
        self._saved_to = Position(0, 0)
        self._saved_ns = 0
        self._place: str | None = None
        self._saving: Snapshot | None = None
        #: what the detection has learned, as each place has it; it gives the same object until that changes
        self._models_at: dict[str, bytes] = {}
        self._saving_models = b""
        self._ahead: list[Entry] = []

    @property
    def position(self) -> Position:
        """Last entry that the stages have seen."""
        return self._read_to

    def skews(self) -> Mapping[str, Skew]:
        """How far each source's clock is ahead of ours."""
        return self._normalizer.skews()

    @property
    def wall_ns(self) -> int:
        """Wall time of the last entry that the stages have seen; 0 before the first."""
        return self.at.wall_ns if self.at is not None else 0

    def restore(self) -> None:
        """
        Load the stages as they were saved and bring them up to the committed position without writing.

        Raises:
            StoreError: the store cannot be read.
        """
        committed = self._store.position()
        self._load_refused()
        saved = snapshot.saved(self._store)
        if saved is not None:
            state, stages = saved
            self._place = state["place"]
            self._read_to = self._saved_to = Position(*state["position"])
            self._saved_ns = state["saved_ns"]
            self._explained = {key: tuple(value) for key, value in state["explained"].items()}
            self._open_paths = {key: tuple(value) for key, value in state["open_paths"].items()}
            self._unmapped = {
                source: Gap(source, (), from_ns, None, GapCause.UNKNOWN_MAP, detail=detail)
                for source, from_ns, detail in state["unmapped"]
            }
            for tag_map in self._saved_maps(state):
                self._use_map(tag_map, None)
            self._restore_stage("normalizer", self._normalizer.restore, stages)
            self._restore_detection(stages)
            if not self._restore_stage("suppression", self._detection.suppressor.restore, stages):
                self._adopt_suppressions()
            self._on_maps()
        # said at once: acquire must not take the position of another store, or of an older copy, for ours
        self._publish()
        while self._read_to < committed:
            entries = [e for e in self._journal.read(self._read_to, BUNDLE) if e.position <= committed]
            if not entries:
                # what was between is gone from the journal; its outputs are in SQL already
                self._read_to = committed
                break
            self._steps(entries, None)

    def _saved_maps(self, head: Mapping[str, Any]) -> list[TagMap]:
        """The maps that the stages kept, oldest first; their bodies are in SQL since they came into force."""
        if "map_revisions" not in head:  # from before: the bodies themselves
            return [TagMap.from_body(body) for body in head["maps"]]
        reader = self._store.reader()
        found = [reader.map(revision) for revision in head["map_revisions"]]
        return [tag_map for tag_map in found if tag_map is not None]

    def _load_refused(self) -> None:
        refused = self._store.stage("refused")
        if refused is not None:
            self._refused = {Position(epoch, seq): why for epoch, seq, why in msgspec.msgpack.decode(refused)}

    def _adopt_suppressions(self) -> None:
        """What people suppressed stays in force, as SQL has it, where the suppressor's own state cannot be read."""
        rows = self._store.reader().suppressions(active=True, limit=MOST_ACTIVE)
        self._detection.suppressor.adopt(
            (
                Suppression(
                    suppression_id=row.suppression_id,
                    mode="shelf" if row.mode == "shelf" else "maintenance",
                    target=row.target,
                    kind=row.kind,
                    actor=row.actor,
                    reason=row.reason,
                    from_ns=row.from_ns,
                    until_ns=row.until_ns,
                ),
                row.findings,
            )
            for row in reversed(rows)
        )

    def _restore_stage(self, name: str, restore: Callable[[bytes], None], saved: Mapping[str, bytes]) -> bool:
        """Whether the stage goes on: it is not new to the saved state, and can read it."""
        if name not in saved:
            return False
        try:
            restore(saved[name])
        except (normalizers.base.BadState, detectors.base.BadState) as error:
            # an older or damaged state: the stage learns anew, the records go on
            events.stage_began_anew(name, str(error))
            return False
        return True

    def _restore_detection(self, saved: Mapping[str, bytes]) -> None:
        models = saved.get(MODELS, b"")
        self._restore_stage("detection", lambda state: self._detection.restore(state, models), saved)
        # what could not be restored is not what the place has
        found = self._detection.models()
        if self._place is not None and found == models:
            self._models_at[self._place] = found

    def refuse(self, entry: Entry, reason: str) -> None:
        """
        Never process this entry: it becomes a quarantine row, and everything behind it goes on.

        For an entry at which a stage failed and that was taken alone; call on a fresh pipeline, before :meth:`restore`.
        Where the entry was in SQL before the restart, what became of it stays, and the quarantine row says so.

        Raises:
            StoreError: nothing was written.
        """
        self._load_refused()
        known = entry.position in self._refused
        self._refused[entry.position] = reason
        with self._store.transaction() as tx:
            kept = sorted(self._refused.items())[-MAX_REFUSED:]
            tx.save_stage("refused", msgspec.msgpack.encode([[*place, why] for place, why in kept]))
            if entry.position <= self._store.position() and not known:
                why = f"{reason}, when read again after a restart; what became of it before stays"
                tx.reject(_reject(entry, why), entry.position)

    def run_once(self) -> int:
        """
        Process the next bundle in one transaction and return its number of entries.

        Raises:
            StoreError: nothing of the bundle was committed. This pipeline is ahead of SQL then: restore a fresh one.
        """
        entries = self._next_bundle()
        if not entries:
            return 0
        self._rows = 0
        with self._store.transaction(later=True) as tx:
            self._steps(entries, tx)
            became, told = tx.tally, tx.event_tally
            tx.set_position(self._read_to)
            if self._saving is not None:
                self._saving.write(tx, entries[-1].wall_ns)
        self._invariants.rows(entries[-1], self._rows, became)
        for outcome, count in told.items():
            events.event_rows_became(outcome, count)
        self._note_saved()
        if any(isinstance(entry.body, MapInForce) for entry in entries):
            self._on_maps()
        if self._saving is None and not 0 <= entries[-1].wall_ns - self._saved_ns < SAVE_EVERY_NS:
            self._saving = self._snapshot(entries[-1].wall_ns)
        events.bundle_committed(len(entries), (self._now_ns() - entries[-1].wall_ns) / 1e9)
        return len(entries)

    def _next_bundle(self) -> list[Entry]:
        """What follows the last entry processed, up to ``BUNDLE_ROWS`` rows; the rest of what was read is kept."""
        waiting = self._ahead or list(self._journal.read(self._read_to, BUNDLE))
        rows = 0
        for count, entry in enumerate(waiting, 1):
            rows += len(entry.body) if isinstance(entry.body, SampleBatch) else 0
            if rows >= BUNDLE_ROWS:
                self._ahead = waiting[count:]
                return waiting[:count]
        self._ahead = []
        return waiting

    def settle(self) -> None:
        """Bring the roll-ups up to the records; ticks do it by and by, and this where none comes for a while."""
        with self._store.transaction() as tx:
            tx.roll_up(everything=True)
            if self._saving is not None:
                self._saving.write(tx)
        self._note_saved()

    def save(self) -> None:
        """Save the stages where they stand; called at a clean stop, so that a restart has nothing to repeat."""
        self._saving = self._snapshot(self._saved_ns)
        with self._store.transaction() as tx:
            tx.roll_up(everything=True)
            self._saving.write(tx)
        self._note_saved()

    def _note_saved(self) -> None:
        """Once the transaction with the last part of a state has committed, a restart begins there."""
        if self._saving is not None and self._saving.complete:
            self._place, self._saved_to = self._saving.place, self._saving.position
            self._models_at[self._place] = self._saving_models
            self._saving = None
            self._publish()

    def _publish(self) -> None:
        """
        Tell acquire from where a restart would read.

        A disk too full for it costs nothing but space: acquire keeps what it might remove, and the next save tells.
        """
        try:
            self._journal.done(self._saved_to)
        except OSError as error:
            events.position_unpublished(error.strerror or str(error))

    def _snapshot(self, now_ns: int) -> Snapshot:
        """The stages as they stand, for the place that is not in force."""
        self._saved_ns = now_ns
        head = {
            "saved_ns": self._saved_ns,
            "explained": {key: list(value) for key, value in self._explained.items()},
            "open_paths": {key: list(value) for key, value in self._open_paths.items()},
            "unmapped": [[gap.source, gap.from_ns, gap.detail] for gap in self._unmapped.values()],
            "map_revisions": [tag_map.revision for tag_map in self._maps if tag_map.tags],
        }
        models = self._detection.models()
        stages = {
            "normalizer": self._normalizer.state(),
            "detection": self._detection.state(models=False),
            MODELS: models,
            "suppression": self._detection.suppressor.state(),
        }
        place = snapshot.other(self._place)
        # half written, a place has neither the old models nor the new
        unchanged = (MODELS,) if self._models_at.pop(place, None) is models else ()
        self._saving_models = models
        return Snapshot(place, self._read_to, now_ns, head, stages, unchanged)

    def _use_map(self, tag_map: TagMap, tx: Transaction | None) -> None:
        self._normalizer.use_map(tag_map.revision, tag_map)
        self._detection.use_map(tag_map.revision, tag_map)
        # batches of the maps before may still follow: a source is read while a new map comes into force
        self._maps = [*(m for m in self._maps if m.revision != tag_map.revision), tag_map][-KEPT_MAPS:]
        self._invariants.use_map(tag_map)
        if tx is not None:
            tx.use_map(tag_map.revision, tag_map)

    def _steps(self, entries: Sequence[Entry], tx: Transaction | None) -> None:
        self.bundle_end = entries[-1].position
        for group in groups(entries):
            if tx is not None:
                for entry in group:
                    self._invariants.entry(entry)
            if len(group) == 1 or group[-1].position <= self.careful_to or not self._together(group, tx):
                for entry in group:
                    self._step(entry, tx)
                    if tx is not None and entry.position <= self.careful_to:
                        tx.insert()
            self._read_to = group[-1].position

    def _together(self, group: Sequence[Entry], tx: Transaction | None) -> bool:
        """Process neighbouring batches at once; False, with nothing done, where they have to go one by one."""
        if self._unmapped or any(entry.position in self._refused for entry in group):
            return False
        self.at = group[-1]
        batches = [entry.body for entry in group if isinstance(entry.body, SampleBatch)]
        records = self._normalizer.join(batches, [entry.position for entry in group])
        if records is not None:
            if tx is not None:
                tx.records(records)
                self._rows += len(records)
            self._anomalies(self._detection.records(records), tx, group[-1])
        return records is not None

    def _step(self, entry: Entry, tx: Transaction | None) -> None:
        body = entry.body
        self.at = entry
        if entry.position in self._refused:
            if tx is not None:
                tx.reject(_reject(entry, self._refused[entry.position]), entry.position)
        elif isinstance(body, SampleBatch):
            self._samples(entry, body, tx)
        elif isinstance(body, Tick):
            if tx is not None:
                tx.roll_up()
            self._suppressions(self._detection.suppressor.tick(entry.wall_ns), tx)
            self._anomalies(self._detection.tick(entry.wall_ns), tx, entry)
            held = self._detection.suppressor.counts()
            if tx is not None and held:
                tx.suppressed_findings(held)
        elif isinstance(body, Command):
            self._detection.suppressor.command(body)
        elif isinstance(body, MapInForce):
            if body.revision != self._maps[-1].revision:
                self._use_map(TagMap.from_body(body.body), tx)
        elif isinstance(body, Link):
            if tx is not None:
                tx.link(body, entry.wall_ns)
            self._anomalies(self._detection.link(body, entry.wall_ns), tx, entry)
        elif tx is not None:
            if isinstance(body, Gap):
                tx.gap(body, entry.position)
            elif isinstance(body, Reject):
                tx.reject(body, entry.position)
            elif isinstance(body, Event):
                tx.event(body, entry.position)
            elif isinstance(body, Notice):
                tx.audit("acquire", body.action, "", {"text": body.text}, at_ns=entry.wall_ns)

    def _samples(self, entry: Entry, batch: SampleBatch, tx: Transaction | None) -> None:
        try:
            records = self._normalizer.step(batch, entry.position)
        except normalizers.base.UnknownMap:
            # the source is halted until its map comes: one open gap says so
            if batch.source not in self._unmapped:
                detail = f"map {batch.map_revision.hex()}"
                gap = Gap(batch.source, (), batch.received_ns, None, GapCause.UNKNOWN_MAP, detail=detail)
                self._unmapped[batch.source] = gap
                if tx is not None:
                    tx.gap(gap, entry.position)
            return
        halted = self._unmapped.pop(batch.source, None)
        if tx is not None:
            if halted is not None:
                tx.gap(replace(halted, to_ns=batch.received_ns), entry.position)
            tx.records(records)
            self._rows += len(records)
        self._anomalies(self._detection.records(records), tx, entry)

    def _anomalies(self, anomalies: Sequence[Anomaly], tx: Transaction | None, entry: Entry) -> None:
        for anomaly in anomalies:
            if tx is not None:
                tx.anomaly(anomaly)
            self._open_paths[anomaly.anomaly_id] = tuple(member.path for member in anomaly.members)
            seen = signature(anomaly)
            if anomaly.suppressed is not None:
                if tx is not None:
                    events.anomaly_suppressed(anomaly.suppressed, anomaly.revision)
            elif anomaly.state == "open" and self._explained.get(anomaly.anomaly_id) != seen:
                self._explained[anomaly.anomaly_id] = seen
                if tx is not None:
                    self._explain(tx, anomaly, entry)
            if anomaly.state == "closed":
                self._explained.pop(anomaly.anomaly_id, None)
                self._open_paths.pop(anomaly.anomaly_id, None)

    def _suppressions(self, said: Sequence[SuppressionEvent], tx: Transaction | None) -> None:
        """Store what people and time did to suppressions, each with its row of the audit."""
        for event in said:
            if tx is None:
                continue
            tx.suppression(event)
            found = event.suppression
            detail: dict[str, object] = {"detail": event.detail}
            action = "suppression_refused"
            if found is not None:
                action = f"{found.mode}_{event.what}"
                detail |= {"target": found.target, "kind": found.kind, "reason": found.reason}
                detail |= {"until": None if found.until_ns is None else rfc3339(found.until_ns)}
            tx.audit(event.actor or "fairlead", action, event.suppression_id, detail, at_ns=event.at_ns)

    def _explain(self, tx: Transaction, anomaly: Anomaly, entry: Entry) -> None:
        others = {path for key, paths in self._open_paths.items() if key != anomaly.anomaly_id for path in paths}
        upto = tx.next_seq - 1
        paths, from_ns, onset_ns, to_ns = reach(self._maps[-1], anomaly)
        tx.read_ahead(paths, from_ns, onset_ns, to_ns, upto=upto)
        shifts = self._detection.suppressor.shifts(anomaly.equipment)
        evidence = build_evidence(tx, self._maps[-1], anomaly, upto, others, shifts)
        tx.evidence(evidence)
        tx.annotation(annotate_by_rules(evidence, detector_score=anomaly.detector_score, created_ns=entry.wall_ns))


def _reject(entry: Entry, reason: str) -> Reject:
    """The quarantine row of an entry that is never processed."""
    place = f"journal entry {entry.epoch}/{entry.seq}"
    return Reject(getattr(entry.body, "source", ""), place, reason, repr(entry.body)[:4096].encode(), entry.wall_ns)
