"""The one write transaction: everything that a bundle of journal entries causes commits together, or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import sqlalchemy as sa

from broker.store import (
    alarms,
    episodes,
    manuals,
    meanings,
    models,
    people,
    quarantine,
    rebuild,
    registry,
    replays,
    stream,
    suppressions,
    tables,
)
from broker.store.intake import Intake
from broker.store.memory import Memory, upsert
from broker.store.rollups import joined
from broker.store.rows.manuals import ManualRow
from broker.store.text import clean
from broker.store.transaction_reads import TransactionReads
from schemas.alarms import Event
from schemas.annotation import Annotation, Review
from schemas.anomaly import Anomaly
from schemas.documents import Document
from schemas.entries import Link, Position
from schemas.evidence import Evidence
from schemas.ladder import Decision
from schemas.manifest import Manifest
from schemas.manuals import Manual, Passage
from schemas.records import Piece, RecordBatch
from schemas.samples import Gap, Reject
from schemas.suppression import SuppressionEvent
from schemas.tagmap import TagMap

#: Rows that may wait until the roll-ups in memory count them, so that a tick has no whole second of them to count.
MOST_PENDING: Final = 50_000


class Transaction(TransactionReads):
    """
    Writes, and the reads that evidence and reviews need, inside one SQL transaction.

    Made by ``Store.transaction``; used by one thread. Records, roll-ups, counters and source figures are gathered and
    written when the transaction ends or is read from, so that a bundle of many small batches costs one statement for
    many rows and one write a bucket. Where *later*, roll-ups wait for :meth:`roll_up`, in this or another transaction.
    """

    def __init__(
        self, connection: sa.Connection, memory: Memory, now_ns: Callable[[], int], *, later: bool = False
    ) -> None:
        super().__init__(connection, memory, Intake(connection, memory, self._quarantine))
        self._now_ns = now_ns
        self._later = later
        self._rejects: Counter[str] = Counter()
        self._events: Counter[str] = Counter()
        #: what became of events: stored, corrected, redelivered, quarantined
        self.event_tally: Counter[str] = Counter()
        self.new_evidence = 0  #: snapshots stored that nobody has explained yet

    @property
    def tally(self) -> Counter[str]:
        """What became of the rows of batches; complete when the transaction has ended."""
        return self._intake.tally

    @property
    def next_seq(self) -> int:
        """The ``seq`` that the next stored record gets."""
        self._intake.write()
        return self._memory.last("record_seq") + 1

    def finish(self) -> None:
        """Write what was gathered; called once, before the commit."""
        self._intake.write()
        self._revise()
        if self._intake.took and not self._later:
            self._memory.roll_up(self._connection, everything=True)
        elif sum(len(part.seq) for part in self._memory.pending) >= MOST_PENDING:
            self._memory.count(self._connection)
        stream.put_source_rows(self._connection, self._intake.sources)
        for source in sorted(self._rejects):
            stream.put_source_rejects(self._connection, source, self._rejects[source])
        stream.put_source_events(self._connection, self._events)
        self._memory.flush(self._connection)

    def insert(self) -> None:
        """Insert the records that wait, so that what is wrong with them is raised here."""
        self._intake.write()

    def roll_up(self, *, everything: bool = False) -> None:
        """
        Let the roll-ups count the records stored so far, and write the current values.

        Of the buckets those are written that have waited longest; *everything*: all.
        """
        self._intake.write()
        self._memory.roll_up(self._connection, everything=everything)

    def _revise(self) -> None:
        revised, self._intake.revised = self._intake.revised, []
        if revised:
            rebuild.note(self._connection, self._memory, joined(revised))

    def rebuild(self, *, hours: bool = True, budget_s: float = rebuild.BUDGET_S) -> rebuild.Progress:
        """
        Make roll-ups anew that a replay has corrected, for about *budget_s*; call it until nothing more is noted.

        Minutes go first; hours are made from them, and only where *hours* is true.
        """
        self._intake.write()
        self._revise()
        return rebuild.steps(self._connection, self._memory, hours=hours, budget_s=budget_s)

    # the stream

    def use_map(self, revision: bytes, tag_map: TagMap) -> None:
        """Register tags, equipment and the map itself; a tag keeps its ``tag_id`` as long as it keeps id and unit."""
        registry.use_map(self._connection, self._memory, revision, tag_map, self.next_seq)

    def complete_meanings(self, tag_map: TagMap) -> None:
        """Let records from now on have the types and texts of the map in force, of which an older version kept none."""
        meanings.use_map(self._connection, self._memory, tag_map, self.next_seq)

    def number(self, tag_map: TagMap) -> None:
        """Let :meth:`records` take batches of a map that is one of the stream but for the units of some tags."""
        registry.number(self._connection, self._memory, tag_map)

    def records(self, batch: RecordBatch, *, revision: int = 0) -> None:
        """
        Store the rows outside the deadband that are not there yet; :attr:`next_seq` tells how many those were.

        A row that SQL refuses becomes a quarantine row. *revision* is above 0 for a replay that repairs: then rows
        inside the deadband are stored too where they replace a stored one, and :meth:`rebuild` has work to do.

        Raises:
            ValueError: the batch's map was never registered, or a tag number is not in it.
        """
        self._intake.add(batch, revision)

    def _quarantine(self, batch: RecordBatch, piece: Piece, row: int, tag_id: int, reason: str) -> None:
        self._reject(quarantine.refused_row(self._connection, batch, piece, row, tag_id, reason), piece.position)

    def begin_replay(
        self,
        actor: str,
        reason: str,
        *,
        sources: tuple[str, ...],
        span_ns: tuple[int, int],
        tag_map: TagMap,
    ) -> int:
        """Note a replay that begins, and return its revision; what an ended process left running is interrupted."""
        at_ns = self._now_ns()
        self.interrupt_replays()
        revision = replays.begin(
            self._connection,
            self._memory,
            actor=actor,
            reason=reason,
            sources=sources,
            span_ns=span_ns,
            map_revision=tag_map.revision,
            map_body=tag_map.body,
            at_ns=at_ns,
        )
        meanings.use_replay(self._connection, self._memory, tag_map, revision)
        return revision

    def note_replay(self, revision: int, *, at_ns: int | None, entries: int, rows: int) -> None:
        """How far a replay has come: wall time of the journal, entries looked at, rows written."""
        replays.note(self._connection, revision, {"at_ns": at_ns, "entries": entries, "rows": rows})

    def end_replay(self, revision: int, state: str, detail: str) -> None:
        """A replay is ``done`` or ``failed``; *detail* says what a person should know."""
        values = {"state": state, "detail": clean(detail), "ended_ns": self._now_ns()}
        replays.note(self._connection, revision, values)

    def interrupt_replays(self) -> list[int]:
        """Say of replays that an ended process left running that they are interrupted; their revisions."""
        return replays.interrupt(self._connection, self._now_ns())

    def gap(self, gap: Gap, position: Position) -> None:
        """Store a gap, or close the open one that it repeats."""
        stream.put_gap(self._connection, self._memory, gap, position)

    def reject(self, reject: Reject, position: Position) -> None:
        """Store a quarantine row; of each source the newest ``stream.REJECTS`` are kept."""
        self._intake.write()  # rows refused before come before
        self._reject(reject, position)

    def _reject(self, reject: Reject, position: Position) -> None:
        stream.put_reject(self._connection, self._memory, reject, position)
        self._rejects[reject.source] += 1

    def event(self, event: Event, position: Position) -> None:
        """Store an event that is not there yet; one that has no form in SQL becomes a quarantine row."""
        try:
            outcome: str = alarms.put_event(self._connection, self._memory, event)
        except alarms.Unfit as unfit:
            outcome = "quarantined"
            self.reject(quarantine.refused_event(event, unfit), position)
        self.event_tally[outcome] += 1
        self._events[event.source] += outcome == "stored"

    def link(self, link: Link, wall_ns: int) -> None:
        """Remember whether a source is up, and since when."""
        stream.put_link(self._connection, link, wall_ns)

    def clock(self, source: str, minute_ns: int, ahead_ns: int, beyond_limit: bool) -> None:
        """Note how far the clock of a source is ahead of ours in the minute that begins at *minute_ns*."""
        key: dict[str, object] = {"minute_ns": minute_ns, "source": clean(source)}
        upsert(self._connection, tables.source_clocks, key, {"ahead_ns": ahead_ns, "beyond_limit": int(beyond_limit)})

    def save_stage(self, name: str, state: bytes) -> None:
        """Keep a stage's state."""
        upsert(self._connection, tables.stages, {"name": name}, {"state": state})

    def stages(self) -> list[str]:
        """Names under which states are kept."""
        return list(self._connection.execute(sa.select(tables.stages.c.name)).scalars())

    def drop_stages(self, names: Sequence[str]) -> None:
        """Remove states that are read no more."""
        if names:
            self._connection.execute(tables.stages.delete().where(tables.stages.c.name.in_(names)))

    def set_position(self, position: Position) -> None:
        """Everything up to *position* is done once this transaction commits."""
        self._memory.set("epoch", position.epoch)
        self._memory.set("seq", position.seq)

    # what is found and said

    def anomaly(self, anomaly: Anomaly) -> None:
        """Store a revision of an episode."""
        episodes.put_anomaly(self._connection, self._memory, anomaly)

    def suppression(self, event: SuppressionEvent) -> None:
        """Store that a shelf or a maintenance began or ended; what was refused leaves no row here."""
        if event.what == "began" and event.suppression is not None:
            suppressions.begin(self._connection, self._memory, event.suppression)
        elif event.what == "ended":
            suppressions.end(self._connection, event.suppression_id, event.at_ns, event.actor)

    def suppressed_findings(self, findings: Mapping[str, int]) -> None:
        """Note how many findings each suppression has held so far."""
        suppressions.count(self._connection, findings)

    def evidence(self, evidence: Evidence) -> None:
        """Store an evidence snapshot."""
        self.new_evidence += 1
        episodes.put_evidence(self._connection, self._memory, evidence)

    def annotation(self, annotation: Annotation) -> None:
        """Store an annotation."""
        episodes.put_annotation(self._connection, self._memory, annotation)

    def annotation_attempt(
        self, evidence_id: str, at_ns: int, reason: str, *, final: bool = True, model_key: str = ""
    ) -> None:
        """Note that the model was asked about an evidence; *final* False: it may be asked again, three times in all."""
        episodes.put_attempt(self._connection, evidence_id, at_ns, reason, final, model_key)

    def review(self, review: Review) -> None:
        """Store a person's decision. Raises ValueError when the annotation is not in the store."""
        episodes.put_review(self._connection, self._memory, review)

    def document(self, document: Document) -> int:
        """Put a document into the outbox and return its place; the same id keeps the same place."""
        return episodes.put_document(self._connection, self._memory, document)

    # models

    def model_import(self, manifest: Manifest, signer: tuple[str, str], actor: str, rollback: str) -> int:
        """Note an import and return its ordinal; *signer* is name and fingerprint of the key."""
        row = {"actor": actor, "at_ns": self._now_ns(), "rollback": rollback}
        return models.put_import(self._connection, self._memory, manifest, signer, row)

    def model_decision(self, decision: Decision, actor: str) -> None:
        """Note why a model was chosen."""
        models.put_decision(self._connection, self._memory, decision, actor, self._now_ns())

    def model_incident(self, key: str, model: str, kind: models.IncidentKind, detail: str, *, lasting: bool) -> None:
        """Note what happened to a model; *lasting*: it is so until :meth:`model_incident_over`."""
        found = (key, model, kind, detail)
        models.put_incident(self._connection, self._memory, found, self._now_ns(), lasting=lasting)

    def model_incident_over(self, key: str, kind: models.IncidentKind) -> None:
        """Note that it is so no longer."""
        models.end_incidents(self._connection, key, kind, self._now_ns())

    # people

    def put_user(self, name: str, roles: tuple[str, ...], password_hash: str) -> None:
        """Add a person, or replace roles and password."""
        people.put_user(self._connection, name, roles, password_hash)

    def disable_user(self, name: str) -> None:
        """Keep the entry, refuse sign-in."""
        people.disable_user(self._connection, name)

    def audit(
        self, actor: str, action: str, object_id: str, detail: Mapping[str, object], *, at_ns: int | None = None
    ) -> None:
        """Add a link to the audit chain; *at_ns* defaults to the store's clock."""
        moment = self._now_ns() if at_ns is None else at_ns
        people.put_audit(self._connection, self._memory, moment, actor, action, object_id, detail)

    def configuration(self, body: str) -> str | None:
        """Keep the options that this core started with, and return those of the one before; None for the first."""
        facts = tables.facts
        last = sa.select(facts.c.value).where(facts.c.name == tables.CONFIGURATION)
        before: str | None = self._connection.execute(last).scalar()
        if body != before:
            upsert(self._connection, facts, {"name": tables.CONFIGURATION}, {"value": clean(body)})
        return before

    # manuals

    def begin_manual(self, manual: Manual, actor: str, *, replace: bool = False) -> int:
        """Make room for a file and return its number; 0 where the very same is there. Raises Refused."""
        return manuals.begin(self._connection, self._memory, manual, actor, self._now_ns(), replace)

    def add_passages(self, manual_id: int, found: Sequence[Passage]) -> None:
        """Store passages of a file that is being imported. Raises Refused."""
        manuals.add(self._connection, self._memory, manual_id, found)

    def finish_manual(self, manual_id: int) -> tuple[ManualRow, ManualRow | None]:
        """Let a file be found, in the place of the one of the same name: (new, old). Raises Refused."""
        return manuals.finish(self._connection, self._memory, manual_id)

    def remove_manual(self, manual_id: int) -> ManualRow:
        """Let a file be found no more. Raises Refused."""
        return manuals.remove(self._connection, self._memory, manual_id)

    def trim_manuals(self) -> bool:
        """Remove some passages of removed files; call it in transactions of its own until it says False."""
        return manuals.trim(self._connection)
