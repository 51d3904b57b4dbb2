"""
The read side of the store: thread-safe, cannot write, every query bounded in time and rows.

No cursor stays open between two calls, so a slow client cannot hold back a checkpoint (trap S3).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Concatenate, Literal, ParamSpec, TypeVar

import sqlalchemy as sa

from broker.store import manuals, models, replays, suppressions
from broker.store.engines import bounded
from broker.store.people import GENESIS
from broker.store.reader import (
    alarms,
    begins,
    detectors,
    episodes,
    gap_pages,
    maps,
    operation,
    outbox,
    people,
    series,
    trend,
    values,
)
from broker.store.reader.alarms import EventFilter
from broker.store.reader.begins import Begins, Threshold
from broker.store.reader.detectors import DetectorCounts
from broker.store.reader.gap_pages import GapFilter
from broker.store.reader.lookups import Lookups
from broker.store.reader.series import Summary
from broker.store.rows.alarms import EventPage, EventRow, EventTail
from broker.store.rows.episodes import AnomalyDetail, AnomalyRow, PendingRow, SuppressionRow
from broker.store.rows.manuals import ManualRow, PassageRow
from broker.store.rows.operation import Counts, GapPage, GapRow, QuarantineRow, ReplayRow, SourceRow
from broker.store.rows.people import AuditFault, AuditRow, UserRow
from broker.store.rows.records import CurrentRow, RecordPage, RecordRow, TagRow, Trend
from schemas.anomaly import Anomaly
from schemas.calendar import Window
from schemas.documents import Document
from schemas.errors import Refused
from schemas.tagmap import TagMap

P = ParamSpec("P")
T = TypeVar("T")
_AUDIT_PAGE = 5000


class Reader(Lookups):
    """
    Queries of people, pages and other programs.

    Every method raises Refused when the query takes longer than the limit, StoreError when the database cannot be
    read. ``limit`` is cut to the page limit.
    """

    def __init__(self, engine: sa.Engine, query_limit_s: float, page_limit: int) -> None:
        self._engine = engine
        self._limit_s = query_limit_s
        self._page_limit = page_limit

    def _bounded(self) -> AbstractContextManager[sa.Connection]:
        return bounded(self._engine, self._limit_s)

    def _ask(self, query: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self._bounded() as connection:
            return query(connection, *args, **kwargs)

    def _rows(self, limit: int) -> int:
        return max(1, min(limit, self._page_limit))

    def _half_time(self) -> Callable[[], bool]:
        """Whether half of the limit is left from now on; what has begun then is finished within the other half."""
        until = time.monotonic() + self._limit_s / 2
        return lambda: time.monotonic() < until

    @cached_property
    def store_id(self) -> str:
        """Short random name of this store, made with it; a cursor of another store is told by it."""
        return self._ask(operation.store_id)

    # records

    def record_page(
        self, *, after: int, limit: int, path: str | None = None, from_ns: int | None = None, to_ns: int | None = None
    ) -> RecordPage:
        """Records behind *after* in order of ``seq``, of ``from_ns <= time < to_ns``; *path* may hold ``*``."""
        return self._ask(values.page, after, self._rows(limit), path, from_ns, to_ns)

    def records(self, *, after: int, limit: int, path: str | None = None) -> list[RecordRow]:
        """Like :meth:`record_page`, going on until rows are found, the end is reached or the time is up."""
        deadline = time.monotonic() + self._limit_s
        page = self.record_page(after=after, limit=limit, path=path)
        while not page.rows and page.has_more:
            if time.monotonic() > deadline:
                raise Refused("no matching record was found in time; follow the cursor of a page instead")
            page = self.record_page(after=page.next_after, limit=limit, path=path)
        return page.rows

    def span(self) -> tuple[int | None, int]:
        """(lowest ``seq`` still kept or None, highest ever given)."""
        return self._ask(values.span)

    def current(self, path: str | None = None, *, limit: int = 10_000) -> list[CurrentRow]:
        """The newest row by device time of each tag in the map, in order of path, and what is missing since."""
        return self._ask(values.current, path, self._rows(limit))

    def tags(self, path: str | None = None) -> list[TagRow]:
        """Tags of the map in force, in order of path."""
        return self._ask(values.list_tags, path)

    def trend(self, path: str, from_ns: int, to_ns: int, buckets: int, unit: str | None = None) -> Trend | None:
        """
        Extremes, first and last of a tag per bucket; None for an unknown path. *unit*: one that the tag had before.

        Up to an hour comes from the records (from roll-ups where those take too long), more from roll-ups.
        """
        if to_ns <= from_ns or buckets < 1:
            raise Refused("a trend needs an end after its begin and at least one bucket")
        buckets = min(buckets, self._page_limit)
        resolution = trend.resolution_for(from_ns, to_ns, buckets)
        try:
            return self._ask(trend.trend, path, from_ns, to_ns, buckets, resolution, unit)
        except Refused:
            if resolution != "raw":
                raise
        return self._ask(trend.trend, path, from_ns, to_ns, buckets, "1m", unit)

    def summary(self, path: str, from_ns: int, to_ns: int, unit: str | None = None) -> Summary | None:
        """
        Exact min, max and mean of a tag over a window with the records of the extremes; None for an unknown path.

        ``complete`` False where retention has removed a part of it. *unit*: one that the tag had before.
        """
        return self._ask(series.summary, path, from_ns, to_ns, unit)

    def begins(
        self, path: str, from_ns: int, to_ns: int, test: Threshold, *, most: int, raw_minutes: int
    ) -> Begins | None:
        """Records at which a condition began to hold, oldest first, *most* at most; None for an unknown path."""
        limits = (most, raw_minutes, self._half_time())
        return self._ask(begins.begins, path, from_ns, to_ns, test, *limits)

    def last_before(self, path: str, before_ns: int, unit: str | None = None) -> RecordRow | None:
        """The newest record of a tag before a time, good or bad; *unit*: in one that the tag had before."""
        return self._ask(series.last_before, path, before_ns, unit)

    def map(self, revision: bytes | None = None) -> TagMap | None:
        """A registered map, by default the one that came last."""
        return self._ask(maps.map_by_revision, revision)

    def shifts(self) -> tuple[Window, ...]:
        """Shifts of the map that came last."""
        return self._ask(maps.shifts)

    # events of servers

    def event_page(self, *, after: int, limit: int, wanted: EventFilter | None = None) -> EventPage:
        """Events with ``seq > after`` in order of ``seq``."""
        return self._ask(alarms.page, after, self._rows(limit), wanted or EventFilter())

    def newest_events(self, *, limit: int, wanted: EventFilter | None = None) -> EventTail:
        """The last events by arrival, oldest first; as many as half of the time limit finds, where few fit."""
        return self._ask(alarms.newest, self._rows(limit), wanted or EventFilter(), self._half_time())

    def events_between(self, equipment: str, from_ns: int, to_ns: int, *, limit: int = 100) -> list[EventRow]:
        """Events of one piece of equipment with ``from_ns <= time < to_ns``: the last *limit*, oldest first."""
        return self._ask(alarms.between, equipment, from_ns, to_ns, self._rows(limit))

    def event_span(self) -> tuple[int | None, int]:
        """(lowest ``seq`` of an event still kept or None, highest ever given)."""
        return self._ask(alarms.span)

    # anomalies and documents

    def anomalies(
        self,
        *,
        state: str | None = None,
        review: str | None = None,
        limit: int = 100,
        before: int | None = None,
        suppressed: bool | None = None,
    ) -> list[AnomalyRow]:
        """
        Episodes, newest first; *review* is a verdict, ``pending`` or ``policy``; *before* the cursor of the last row.

        *suppressed*: only those that ask nobody for attention, or only the others.
        """
        return self._ask(episodes.list_anomalies, state, review, self._rows(limit), before, suppressed)

    def suppressions(self, *, active: bool | None = None, limit: int = 100) -> list[SuppressionRow]:
        """What people suppressed, newest first; *active*: what is in force, or what is over."""
        return self._ask(suppressions.list_suppressions, active, self._rows(limit))

    def suppression(self, suppression_id: str) -> SuppressionRow | None:
        """One shelf or maintenance."""
        return self._ask(suppressions.suppression_by_id, suppression_id)

    def episodes_between(
        self, equipment: Sequence[str], from_ns: int, to_ns: int, *, paths: Sequence[str] = (), limit: int
    ) -> list[Anomaly]:
        """
        Newest revisions of episodes on this equipment that touch a window, oldest first; the latest *limit*.

        *paths*: only those in which one of these tags takes part.
        """
        return self._ask(episodes.episodes_between, equipment, paths, from_ns, to_ns, self._rows(limit))

    def episodes_begun(
        self, equipment: Sequence[str], from_ns: int, to_ns: int, *, paths: Sequence[str] = (), limit: int
    ) -> tuple[int, list[Anomaly]]:
        """How many episodes began in a window, and the first *limit* of them; *paths* as above."""
        return self._ask(episodes.episodes_begun, equipment, paths, from_ns, to_ns, self._rows(limit))

    def detector_counts(self, bounds_ns: Sequence[int], *, equipment: str | None = None) -> DetectorCounts:
        """
        What each detector told in the spans between each two of *bounds_ns*, and what people said of it.

        *equipment* may hold ``*``. As many of the newest anomalies are looked at as half of the time limit allows.
        """
        return self._ask(detectors.counts, bounds_ns, equipment, self._half_time())

    def anomaly(self, anomaly_id: str) -> AnomalyDetail | None:
        """Everything that is known of one episode."""
        return self._ask(episodes.anomaly_detail, anomaly_id)

    def annotation_ids(self, beginning: str) -> list[str]:
        """Ids that begin with a text, two at most."""
        return self._ask(episodes.annotation_ids, beginning)

    def annotations_pending(self, limit: int) -> list[PendingRow]:
        """What the model shall be asked about, for the first time or again; the most severe first, then the oldest."""
        return self._ask(episodes.annotations_pending, self._rows(limit))

    def annotations_passed_over(self, limit: int) -> list[str]:
        """Evidence that the model never will be asked about, since too many newer anomalies came; ids."""
        return self._ask(episodes.annotations_passed_over, self._rows(limit))

    def documents(self, *, after: int = 0, limit: int = 100, type: str | None = None) -> list[tuple[int, Document]]:  # noqa: A002
        """(place in the outbox, document) behind *after*, in order."""
        return self._ask(outbox.list_documents, after, self._rows(limit), type)

    def document_span(self) -> tuple[int | None, int]:
        """(lowest place in the outbox still kept or None, highest ever given)."""
        return self._ask(outbox.document_span)

    def document(self, document_id: str) -> Document | None:
        """One document."""
        return self._ask(outbox.document_by_id, document_id)

    # operation

    def gaps(self, *, limit: int = 100, source: str | None = None, state: str | None = None) -> list[GapRow]:
        """Gaps, newest first, one row a gap and tag, with those of every source; *state* ``open`` or ``closed``."""
        return self._ask(operation.list_gaps, self._rows(limit), source, state)

    def gap_page(self, *, after: int, limit: int, wanted: GapFilter | None = None) -> GapPage:
        """Gaps that began, ended or were repaired behind *after*, in that order; a changed gap comes again."""
        return self._ask(gap_pages.page, after, self._rows(limit), wanted or GapFilter())

    def gap_span(self) -> tuple[int, int]:
        """(first place that retention has not passed, highest ever given)."""
        return self._ask(gap_pages.span)

    def corrected_between(self, paths: Sequence[str], from_ns: int, to_ns: int) -> bool:
        """Whether a replay has corrected records of *paths* in the span whose roll-ups are not made anew yet."""
        return self._ask(operation.corrected_between, paths, from_ns, to_ns)

    def quarantine(self, *, limit: int = 100, before: int | None = None) -> list[QuarantineRow]:
        """Refused rows and payloads, newest first."""
        return self._ask(operation.list_quarantine, self._rows(limit), before)

    def sources(self) -> list[SourceRow]:
        """Sources that the stream has named."""
        return self._ask(operation.list_sources)

    def replays(self, *, limit: int = 100) -> list[ReplayRow]:
        """Replays of the journal, newest first."""
        return self._ask(replays.list_replays, self._rows(limit))

    def manuals(self) -> list[ManualRow]:
        """Imported manuals and maintenance logs, in order of their names."""
        return self._ask(manuals.list_manuals)

    def passages(self, words: Collection[str], *, limit: int, equipment: str = "") -> list[PassageRow]:
        """Passages that hold at least one of the words, best first; *equipment*: those about it."""

        def ask(connection: sa.Connection) -> list[PassageRow]:
            found = manuals.list_manuals(connection)
            if equipment:
                known = maps.equipment_by_path(connection, equipment)
                class_ = None if known is None else known.equipment_class
                found = [row for row in found if manuals.concerns(row, equipment, class_)]
            return manuals.search(connection, found, words, equipment, self._rows(limit))

        return self._ask(ask)

    def counts(self) -> Counts:
        """Figures of the whole store, for metrics and readiness."""
        return self._ask(operation.counts)

    # models

    def model_decisions(self, *, limit: int = 1000) -> list[models.DecisionRow]:
        """Why models were chosen, newest first."""
        return self._ask(models.list_decisions, self._rows(limit))

    def model_incidents(self, *, limit: int = 100, open_only: bool = False) -> list[models.IncidentRow]:
        """What happened to models in service, newest first."""
        return self._ask(models.list_incidents, self._rows(limit), open_only=open_only)

    def model_crashes(self) -> dict[str, int]:
        """By model key: how often its worker ended unasked."""
        return self._ask(models.crashes)

    def model_uses(self) -> list[models.UseRow]:
        """Every model that has answered, and how often."""
        return self._ask(models.uses)

    def model_answers(
        self, key: str, from_ns: int, *, limit: int, order: Literal["first", "newest"]
    ) -> list[models.AnswerRow]:
        """Answers of a model since a time, the first or the newest ones, in the order of that word."""
        return self._ask(models.answers, key, from_ns, self._rows(limit), order)

    def model_counts(self, key: str, from_ns: int, unknown: str) -> tuple[int, int, int]:
        """(answers, those of cause *unknown*, those that people rejected) of a model since a time."""
        return self._ask(models.counts, key, from_ns, unknown)

    def model_attempts(self, key: str, from_ns: int, refused: str) -> tuple[int, int]:
        """(answers whose reason begins with *refused*, attempts that brought none) of a model since a time."""
        return self._ask(models.attempts, key, from_ns, refused)

    # people

    def users(self) -> list[UserRow]:
        """All people."""
        return self._ask(people.list_users)

    def user(self, name: str) -> UserRow | None:
        """One person, also a disabled one."""
        return self._ask(people.user, name)

    def audit(self, *, limit: int = 100, before: int | None = None, action: str | None = None) -> list[AuditRow]:
        """Audit rows, newest first, with ``audit_id < before``; *action*: those of one kind."""
        return self._ask(people.list_audit, self._rows(limit), before, action)

    def audit_of(self, object_ids: Sequence[str]) -> list[AuditRow]:
        """Audit rows about one of these things, oldest first."""
        return self._ask(people.audit_of, object_ids)

    def verify_audit(self) -> AuditFault | None:
        """Walk the whole audit chain in pages; None when every row holds and none is missing at the end."""
        after, prev_hash = 0, GENESIS
        last = self._ask(people.last_audit_id)
        while True:
            rows, fault = self._ask(people.verify_audit, after, prev_hash, _AUDIT_PAGE)
            if fault is not None:
                return fault
            if not rows:
                return None if after >= last else AuditFault(after + 1, "the row is missing")
            after, prev_hash = rows[-1].audit_id, rows[-1].hash
