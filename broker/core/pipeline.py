"""
From the journal into SQL: the deterministic half of Fairlead, and its only writer.

One bundle of entries is one transaction: records, gaps, rejects, anomalies, evidence, rules' annotations and the
position commit together. Stage state is saved at least every ten seconds of journal time (``snapshot.py``); after a
restart the stages are loaded, run on from there, and their outputs up to the committed position are thrown away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import msgspec

import detectors.base
import normalizers.base
from broker import events
from broker.core import snapshot
from broker.core.snapshot import Snapshot
from broker.core.stages import Stages, rejected
from broker.store import Store
from detectors.detection import Detection
from detectors.suppression import MOST_ACTIVE
from normalizers.clock import Skew
from normalizers.normalizer import Normalizer
from schemas.entries import Entry, JournalReader, MapInForce, Position
from schemas.samples import SampleBatch
from schemas.suppression import Suppression
from schemas.tagmap import TagMap

#: The next state of the stages is taken when so much journal time has passed; written, it is at most ten seconds old.
SAVE_EVERY_NS: Final = 8_000_000_000
#: What the detection has learned of equipment, saved where it changed.
MODELS: Final = "detection.models"
#: Refused entries that are remembered; their journal segments are gone long before there are so many.
MAX_REFUSED: Final = 1000
#: Entries in one transaction at most.
BUNDLE: Final = 512
#: Rows after which a transaction ends: what a backlog holds is committed, and can be read, piece by piece.
BUNDLE_ROWS: Final = 30_000


class StageUnreadable(Exception):
    """The saved state of ``stage`` cannot be restored, for a reason that the stage does not know of."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(reason)
        self.stage = stage


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
        self.stages = Stages(normalizer, detection)
        #: evidence snapshots that the last bundle stored
        self.new_evidence = 0
        self._saved_to = Position(0, 0)
        self._saved_ns = 0
        self._place: str | None = None
        self._saving: Snapshot | None = None
        #: what the detection has learned, as each place has it; it gives the same object until that changes
        self._models_at: dict[str, bytes] = {}
        self._saving_models = b""
        self._ahead: list[Entry] = []
        self._begun = False

    @property
    def position(self) -> Position:
        """Last entry that the stages have seen."""
        return self.stages.read_to

    def skews(self) -> Mapping[str, Skew]:
        """How far each source's clock is ahead of ours."""
        return self.stages.normalizer.skews()

    @property
    def wall_ns(self) -> int:
        """Wall time of the last entry that the stages have seen; 0 before the first."""
        return self.stages.at.wall_ns if self.stages.at is not None else 0

    def restore(self, anew: Collection[str] = ()) -> None:
        """
        Load the stages as they were saved and bring them up to the committed position without writing.

        Raises:
            StoreError: the store cannot be read.
            StageUnreadable: restore a fresh pipeline with this stage *anew*; this one may be half restored.
        """
        committed = self._store.position()
        self._load_refused()
        saved = snapshot.saved(self._store)
        if saved is not None:
            state, stages = saved
            self._place = state["place"]
            self.stages.read_to = self._saved_to = Position(*state["position"])
            self._saved_ns = state["saved_ns"]
            stages = {name: body for name, body in stages.items() if name not in anew}
            self.stages.remember(state, self._saved_maps(state))
            self._restore_stage("normalizer", self.stages.normalizer.restore, stages)
            self._restore_detection(stages)
            if not self._restore_stage("suppression", self.stages.detection.suppressor.restore, stages):
                self._adopt_suppressions()
            self._on_maps()
        # said at once: acquire must not take the position of another store, or of an older copy, for ours
        self._publish()
        while self.stages.read_to < committed:
            entries = [e for e in self._journal.read(self.stages.read_to, BUNDLE) if e.position <= committed]
            if not entries:
                # what was between is gone from the journal; its outputs are in SQL already
                self.stages.read_to = committed
                break
            self.stages.run(entries, None)

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
            self.stages.refused = {Position(epoch, seq): why for epoch, seq, why in msgspec.msgpack.decode(refused)}

    def _adopt_suppressions(self) -> None:
        """What people suppressed stays in force, as SQL has it, where the suppressor's own state cannot be read."""
        rows = self._store.reader().suppressions(active=True, limit=MOST_ACTIVE)
        self.stages.detection.suppressor.adopt(
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
        except Exception as error:
            raise StageUnreadable(name, repr(error)) from error
        return True

    def _restore_detection(self, saved: Mapping[str, bytes]) -> None:
        models = saved.get(MODELS, b"")
        self._restore_stage("detection", lambda state: self.stages.detection.restore(state, models), saved)
        # what could not be restored is not what the place has
        found = self.stages.detection.models()
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
        known = entry.position in self.stages.refused
        self.stages.refused[entry.position] = reason
        with self._store.transaction() as tx:
            kept = sorted(self.stages.refused.items())[-MAX_REFUSED:]
            tx.save_stage("refused", msgspec.msgpack.encode([[*place, why] for place, why in kept]))
            if entry.position <= self._store.position() and not known:
                why = f"{reason}, when read again after a restart; what became of it before stays"
                tx.reject(rejected(entry, why), entry.position)

    def run_once(self) -> int:
        """
        Process the next bundle in one transaction and return its number of entries.

        Raises:
            StoreError: nothing of the bundle was committed. This pipeline is ahead of SQL then: restore a fresh one.
        """
        entries = self._next_bundle()
        if not entries:
            return 0
        self.stages.rows = 0
        with self._store.transaction(later=True) as tx:
            if not self._begun:
                # a map in force already is not put into force again
                tx.complete_meanings(self.stages.maps[-1])
            self.stages.run(entries, tx)
            became, told = tx.tally, tx.event_tally
            tx.set_position(self.stages.read_to)
            if self._saving is not None:
                self._saving.write(tx, entries[-1].wall_ns)
        self._begun = True
        self.new_evidence = tx.new_evidence
        self.stages.invariants.rows(entries[-1], self.stages.rows, became)
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
        waiting = self._ahead or list(self._journal.read(self.stages.read_to, BUNDLE))
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
        head = {"saved_ns": self._saved_ns, **self.stages.remembered()}
        models = self.stages.detection.models()
        stages = {
            "normalizer": self.stages.normalizer.state(),
            "detection": self.stages.detection.state(models=False),
            MODELS: models,
            "suppression": self.stages.detection.suppressor.state(),
        }
        place = snapshot.other(self._place)
        # half written, a place has neither the old models nor the new
        unchanged = (MODELS,) if self._models_at.pop(place, None) is models else ()
        self._saving_models = models
        return Snapshot(place, self.stages.read_to, now_ns, head, stages, unchanged)
