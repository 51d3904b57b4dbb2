"""
What each entry of the journal does: the stages in their order, and what they say into one transaction.

Without a transaction the stages only take their state to where they were, and what they say is thrown away: so a
restart reads on from a saved state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import normalizers.base
from broker import events
from broker.core.grouping import groups
from broker.core.invariants import Invariants
from broker.evidence import build_evidence, reach, signature
from broker.map_changes import compare, counts
from broker.store import Transaction
from detectors.detection import Detection
from llm.rules import annotate_by_rules
from normalizers.clock import Skew
from normalizers.normalizer import Normalizer
from schemas.alarms import Event
from schemas.anomaly import Anomaly
from schemas.documents import rfc3339
from schemas.entries import Entry, Link, MapInForce, Notice, Position, Tick
from schemas.samples import Gap, GapCause, Reject, SampleBatch
from schemas.suppression import Command, SuppressionEvent
from schemas.tagmap import TagMap

#: Maps that stages keep, so that the saved state can be read again.
KEPT_MAPS: Final = 4
#: Changes of a map that its row of the audit names; all can be told from the maps, which are kept.
NAMED_CHANGES: Final = 100


class Stages:
    """
    Normalizer, detection, evidence and rules over entries, and what they remember between them.

    ``at`` is the entry at work, ``read_to`` the last one done, ``bundle_end`` the last of those that were given;
    entries up to ``careful_to`` are taken one by one, so that ``at`` is the one at which a stage fails; ``refused`` are
    never processed, with the reason; ``rows`` counts what was stored; ``maps`` are the last in force, oldest first.
    """

    def __init__(self, normalizer: Normalizer, detection: Detection) -> None:
        self.normalizer = normalizer
        self.detection = detection
        self.invariants = Invariants()
        self.refused: dict[Position, str] = {}
        self.at: Entry | None = None
        self.read_to = self.careful_to = self.bundle_end = Position(0, 0)
        self.rows = 0
        self.maps: list[TagMap] = [TagMap(site="", tags=())]
        self._explained: dict[str, tuple[str, ...]] = {}
        self._open_paths: dict[str, tuple[str, ...]] = {}
        self._unmapped: dict[str, Gap] = {}
        self._clock_of: dict[str, Skew] = {}  # as noted last; not kept, a minute told twice is one row

    def remembered(self) -> dict[str, Any]:
        """What stands beside the stages' own states, for msgpack; of maps the revisions, the bodies are in SQL."""
        return {
            "explained": {key: list(value) for key, value in self._explained.items()},
            "open_paths": {key: list(value) for key, value in self._open_paths.items()},
            "unmapped": [[gap.source, gap.from_ns, gap.detail] for gap in self._unmapped.values()],
            "map_revisions": [tag_map.revision for tag_map in self.maps if tag_map.tags],
        }

    def remember(self, head: Mapping[str, Any], maps: Sequence[TagMap]) -> None:
        """Take up what :meth:`remembered` gave; *maps* are those of its revisions, oldest first."""
        self._explained = {key: tuple(value) for key, value in head["explained"].items()}
        self._open_paths = {key: tuple(value) for key, value in head["open_paths"].items()}
        self._unmapped = {
            source: Gap(source, (), from_ns, None, GapCause.UNKNOWN_MAP, detail=detail)
            for source, from_ns, detail in head["unmapped"]
        }
        for tag_map in maps:
            self.use_map(tag_map, None)

    def run(self, entries: Sequence[Entry], tx: Transaction | None) -> None:
        """Process entries in order; *tx* takes what comes of them, and None throws it away."""
        self.bundle_end = entries[-1].position
        for group in groups(entries):
            if tx is not None:
                for entry in group:
                    self.invariants.entry(entry)
            if len(group) == 1 or group[-1].position <= self.careful_to or not self._together(group, tx):
                for entry in group:
                    self._step(entry, tx)
                    if tx is not None and entry.position <= self.careful_to:
                        tx.insert()
            self.read_to = group[-1].position

    def use_map(self, tag_map: TagMap, tx: Transaction | None) -> None:
        """From now on this map is in force; *tx* stores it."""
        self.normalizer.use_map(tag_map.revision, tag_map)
        self.detection.use_map(tag_map.revision, tag_map)
        # batches of the maps before may still follow: a source is read while a new map comes into force
        self.maps = [*(m for m in self.maps if m.revision != tag_map.revision), tag_map][-KEPT_MAPS:]
        self.invariants.use_map(tag_map)
        if tx is not None:
            tx.use_map(tag_map.revision, tag_map)

    def _together(self, group: Sequence[Entry], tx: Transaction | None) -> bool:
        """Process neighbouring batches at once; False, with nothing done, where they have to go one by one."""
        if self._unmapped or any(entry.position in self.refused for entry in group):
            return False
        self.at = group[-1]
        batches = [entry.body for entry in group if isinstance(entry.body, SampleBatch)]
        records = self.normalizer.join(batches, [entry.position for entry in group])
        if records is not None:
            if tx is not None:
                tx.records(records)
                self.rows += len(records)
            self._anomalies(self.detection.records(records), tx, group[-1])
        return records is not None

    def _step(self, entry: Entry, tx: Transaction | None) -> None:
        body = entry.body
        self.at = entry
        if entry.position in self.refused:
            if tx is not None:
                tx.reject(rejected(entry, self.refused[entry.position]), entry.position)
        elif isinstance(body, SampleBatch):
            self._samples(entry, body, tx)
        elif isinstance(body, Tick):
            if tx is not None:
                tx.roll_up()
                self._clocks(tx)
            self._suppressions(self.detection.suppressor.tick(entry.wall_ns), tx)
            self._anomalies(self.detection.tick(entry.wall_ns), tx, entry)
            held = self.detection.suppressor.counts()
            if tx is not None and held:
                tx.suppressed_findings(held)
        elif isinstance(body, Command):
            self.detection.suppressor.command(body)
        elif isinstance(body, MapInForce):
            if body.revision != self.maps[-1].revision:
                self._new_map(body, tx, entry)
        elif isinstance(body, Link):
            if tx is not None:
                tx.link(body, entry.wall_ns)
            self._anomalies(self.detection.link(body, entry.wall_ns), tx, entry)
        elif tx is not None:
            if isinstance(body, Gap):
                tx.gap(body, entry.position)
            elif isinstance(body, Reject):
                tx.reject(body, entry.position)
            elif isinstance(body, Event):
                tx.event(body, entry.position)
            elif isinstance(body, Notice):
                tx.audit("acquire", body.action, "", {"text": body.text}, at_ns=entry.wall_ns)

    def _new_map(self, body: MapInForce, tx: Transaction | None, entry: Entry) -> None:
        before, tag_map = self.maps[-1], TagMap.from_body(body.body)
        self.use_map(tag_map, tx)
        if tx is None:
            return
        changes = compare(before, tag_map)
        told = [f"{one.kind} {one.path}: {one.text}".rstrip(": ") for one in changes if before.tags]
        detail: dict[str, object] = {
            "before": before.revision.hex() if before.tags else None,
            "tags": len(tag_map.tags),
            **counts(changes),
            "changes": told[:NAMED_CHANGES],
            "not_named": max(0, len(told) - NAMED_CHANGES),
        }
        tx.audit(body.actor or "acquire", "map_in_force", body.revision.hex(), detail, at_ns=entry.wall_ns)

    def _clocks(self, tx: Transaction) -> None:
        """What became known of the clocks of the sources since the last tick; within a minute it only grows."""
        for source, skew in self.normalizer.skews().items():
            if self._clock_of.get(source) != skew:
                self._clock_of[source] = skew
                tx.clock(source, skew.minute_ns, skew.ahead_ns, skew.beyond_limit)

    def _samples(self, entry: Entry, batch: SampleBatch, tx: Transaction | None) -> None:
        try:
            records = self.normalizer.step(batch, entry.position)
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
            self.rows += len(records)
        self._anomalies(self.detection.records(records), tx, entry)

    def _anomalies(self, anomalies: Sequence[Anomaly], tx: Transaction | None, entry: Entry) -> None:
        for anomaly in anomalies:
            if tx is not None:
                tx.anomaly(anomaly)
                if anomaly.revision == 0 and anomaly.suppressed is None:
                    events.anomaly_opened(anomaly.members[0].detector)
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
        paths, from_ns, onset_ns, to_ns = reach(self.maps[-1], anomaly)
        tx.read_ahead(paths, from_ns, onset_ns, to_ns, upto=upto)
        shifts = self.detection.suppressor.shifts(anomaly.equipment)
        evidence = build_evidence(tx, self.maps[-1], anomaly, upto, others, shifts)
        tx.evidence(evidence)
        tx.annotation(annotate_by_rules(evidence, detector_score=anomaly.detector_score, created_ns=entry.wall_ns))


def rejected(entry: Entry, reason: str) -> Reject:
    """The quarantine row of an entry that is never processed."""
    place = f"journal entry {entry.epoch}/{entry.seq}"
    return Reject(getattr(entry.body, "source", ""), place, reason, repr(entry.body)[:4096].encode(), entry.wall_ns)
