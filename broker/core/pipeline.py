"""
From the journal into SQL: the deterministic half of Fairlead, and its only writer.

One bundle of entries is one transaction: records, gaps, rejects, anomalies, evidence, rules' annotations and the
position commit together. Stage state is saved at least every ten seconds of journal time; after a restart the stages
are loaded, run on from there, and their outputs up to the committed position are thrown away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from broker import events
from broker.evidence import build_evidence, signature
from broker.store import Store, Transaction
from detectors.detection import Detection
from llm.rules import annotate_by_rules
from normalizers.base import UnknownMap
from normalizers.normalizer import Normalizer
from schemas.anomaly import Anomaly
from schemas.entries import Entry, JournalReader, Link, MapInForce, Position, Tick
from schemas.samples import Gap, GapCause, Reject, SampleBatch
from schemas.tagmap import TagMap

#: Stage state is saved when so much journal time has passed since the last save.
SAVE_EVERY_NS: Final = 5_000_000_000
#: Maps that stages keep, so that the saved state can be read again.
KEPT_MAPS: Final = 4
#: Entries in one transaction at most.
BUNDLE: Final = 512


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
    ) -> None:
        self._store = store
        self._now_ns = now_ns  # for the lag metric alone; stages take time from entries
        self._journal = journal
        self._normalizer = normalizer
        self._detection = detection
        self._maps: list[TagMap] = [TagMap(site="", tags=())]
        self._explained: dict[str, tuple[str, ...]] = {}
        self._read_to = Position(0, 0)
        self._saved_ns = 0

    @property
    def position(self) -> Position:
        """Last entry that the stages have seen."""
        return self._read_to

    def restore(self) -> None:
        """
        Load the stages as they were saved and bring them up to the committed position without writing.

        Raises:
            StoreError: the store cannot be read.
        """
        committed = self._store.position()
        saved = self._store.stage("pipeline")
        if saved is not None:
            state = msgspec.msgpack.decode(saved)
            self._read_to = Position(*state["position"])
            self._saved_ns = state["saved_ns"]
            self._explained = {key: tuple(value) for key, value in state["explained"].items()}
            for body in state["maps"]:
                self._use_map(body, None)
            self._restore_stage("normalizer", self._normalizer)
            self._restore_stage("detection", self._detection)
        # said at once: acquire must not take the position of another store, or of an older copy, for ours
        self._journal.done(self._read_to)
        while self._read_to < committed:
            entries = [e for e in self._journal.read(self._read_to, BUNDLE) if e.position <= committed]
            if not entries:
                # what was between is gone from the journal; its outputs are in SQL already
                self._read_to = committed
                break
            for entry in entries:
                self._step(entry, None)
                self._read_to = entry.position

    def _restore_stage(self, name: str, stage: Normalizer | Detection) -> None:
        state = self._store.stage(name)
        if state is not None:
            stage.restore(state)

    def run_once(self) -> int:
        """
        Process the next bundle in one transaction and return its number of entries.

        Raises:
            StoreError: nothing of the bundle was committed; the stages were rolled back by a restore.
        """
        entries = self._journal.read(self._read_to, BUNDLE)
        if not entries:
            return 0
        restart: Position | None = None
        with self._store.transaction() as tx:
            for entry in entries:
                self._step(entry, tx)
                self._read_to = entry.position
            tx.set_position(self._read_to)
            if entries[-1].wall_ns - self._saved_ns >= SAVE_EVERY_NS or entries[-1].wall_ns < self._saved_ns:
                self._saved_ns = entries[-1].wall_ns
                self._save(tx)
                restart = self._read_to
        if restart is not None:
            self._journal.done(restart)
        events.bundle_committed(len(entries), (self._now_ns() - entries[-1].wall_ns) / 1e9)
        return len(entries)

    def save(self) -> None:
        """Save the stages where they stand; called at a clean stop, so that a restart has nothing to repeat."""
        with self._store.transaction() as tx:
            self._save(tx)
        self._journal.done(self._read_to)

    def _save(self, tx: Transaction) -> None:
        state = {
            "position": list(self._read_to),
            "saved_ns": self._saved_ns,
            "explained": {key: list(value) for key, value in self._explained.items()},
            "maps": [tag_map.body for tag_map in self._maps if tag_map.tags],
        }
        tx.save_stage("pipeline", msgspec.msgpack.encode(state))
        tx.save_stage("normalizer", self._normalizer.state())
        tx.save_stage("detection", self._detection.state())

    def _use_map(self, body: bytes, tx: Transaction | None) -> None:
        tag_map = TagMap.from_body(body)
        self._normalizer.use_map(tag_map.revision, tag_map)
        self._detection.use_map(tag_map.revision, tag_map)
        # batches of the maps before may still follow: a source is read while a new map comes into force
        self._maps = [*(m for m in self._maps if m.revision != tag_map.revision), tag_map][-KEPT_MAPS:]
        if tx is not None:
            tx.use_map(tag_map.revision, tag_map)

    def _step(self, entry: Entry, tx: Transaction | None) -> None:
        body = entry.body
        if isinstance(body, SampleBatch):
            self._samples(entry, body, tx)
        elif isinstance(body, Tick):
            self._anomalies(self._detection.tick(entry.wall_ns), tx, entry)
        elif isinstance(body, MapInForce):
            if body.revision != self._maps[-1].revision:
                self._use_map(body.body, tx)
        elif isinstance(body, Link):
            if tx is not None:
                tx.link(body, entry.wall_ns)
            self._anomalies(self._detection.link(body, entry.wall_ns), tx, entry)
        elif tx is not None:
            if isinstance(body, Gap):
                tx.gap(body, entry.position)
            elif isinstance(body, Reject):
                tx.reject(body, entry.position)

    def _samples(self, entry: Entry, batch: SampleBatch, tx: Transaction | None) -> None:
        try:
            records = self._normalizer.step(batch, entry.position)
        except UnknownMap:
            # halting the source without a word would hide the loss: the hole is a gap row
            if tx is not None:
                times = batch.source_ns
                start = int(times.min()) if len(times) else entry.wall_ns
                end = int(times.max()) if len(times) else entry.wall_ns
                gap = Gap(batch.source, (), start, end, GapCause.UNKNOWN_MAP, map_revision=batch.map_revision)
                tx.gap(gap, entry.position)
            return
        if tx is not None:
            tx.records(records)
        self._anomalies(self._detection.records(records), tx, entry)

    def _anomalies(self, anomalies: Sequence[Anomaly], tx: Transaction | None, entry: Entry) -> None:
        for anomaly in anomalies:
            if tx is not None:
                tx.anomaly(anomaly)
            seen = signature(anomaly)
            if self._explained.get(anomaly.anomaly_id) != seen:
                self._explained[anomaly.anomaly_id] = seen
                if tx is not None:
                    self._explain(tx, anomaly, entry)
            if anomaly.state == "closed":
                self._explained.pop(anomaly.anomaly_id, None)

    def _explain(self, tx: Transaction, anomaly: Anomaly, entry: Entry) -> None:
        evidence = build_evidence(tx, self._maps[-1], anomaly, tx.next_seq - 1)
        tx.evidence(evidence)
        tx.annotation(annotate_by_rules(evidence, detector_score=anomaly.detector_score, created_ns=entry.wall_ns))
