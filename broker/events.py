"""
Every log event and every counter has one function here; nothing else knows structlog or Prometheus.

They stand in the order of who tells: processes, sources, the journal, core, the model. Events are named
``<noun>_<past verb>``; drops always carry ``count`` and ``reason``. A source says "lost" once and "back" once. No tag
path is a label.
"""

from __future__ import annotations

import logging
import sys

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

#: One registry a process: core must not show acquire's counters at zero beside the real ones.
ACQUIRE = CollectorRegistry()
CORE = CollectorRegistry()
_log = structlog.get_logger()


class _Stderr:
    """Writes a line to what standard error is at that moment, so that a redirection in between holds nothing open."""

    def msg(self, message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    log = debug = info = warning = error = critical = msg


def set_up(level: str = "info") -> None:
    """Write events as JSON lines to stderr from *level* on."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *_: _Stderr(),
        cache_logger_on_first_use=False,
    )


def process_started(process: str, version: str) -> None:
    """One of acquire, core or supervisor begins."""
    _log.info("process_started", process=process, version=version)


def process_stopped(process: str, reason: str) -> None:
    """One of acquire, core or supervisor ends in order."""
    _log.info("process_stopped", process=process, reason=reason)


def child_started(process: str, pid: int) -> None:
    """The supervisor has started a process."""
    _log.info("child_started", process=process, pid=pid)


def child_ended(process: str, code: int, retry_s: float | None) -> None:
    """A process ended by itself; None when it is not started again."""
    _log.error("child_ended", process=process, code=code, retry_s=retry_s)


def child_not_started(process: str, reason: str, retry_s: float) -> None:
    """The operating system made no process."""
    _log.error("child_not_started", process=process, reason=reason, retry_s=retry_s)


def child_hangs(process: str, silent_s: float) -> None:
    """A process runs and gives no sign of life; if that lasts it is killed and started again."""
    _log.critical("child_hangs", process=process, silent_s=round(silent_s, 1))


def child_goes_on(process: str) -> None:
    """A process that hung gives signs of life again."""
    _log.warning("child_goes_on", process=process)


def child_killed(process: str) -> None:
    """A process did not end within the grace time, or hung for too long."""
    _log.error("child_killed", process=process)


def supervision_failed(process: str, reason: str) -> None:
    """What keeps a process alive has ended unasked: everything is stopped, and whoever started us starts again."""
    _log.critical("supervision_failed", process=process, reason=reason)


def core_part_failed(part: str, reason: str) -> None:
    """A part of the core ended by itself: without the API the process stops, without reasoning it goes on."""
    _log.error("core_part_failed", part=part, reason=reason)


SOURCE_UP = Gauge("fairlead_source_up", "1 while data comes.", ["source"], registry=ACQUIRE)
RECONNECTS = Counter("fairlead_source_reconnects", "Connections lost.", ["source"], registry=ACQUIRE)


def source_connected(source: str) -> None:
    """The first batch after a connect has come, or the word that there is nothing new: the source is back."""
    SOURCE_UP.labels(source).set(1)
    _log.info("source_connected", source=source)


def source_ended(source: str, reason: str) -> None:
    """A source has nothing more to give: a recording was played to its end."""
    _log.info("source_ended", source=source, reason=reason)


def source_lost(source: str, reason: str, retry_s: float) -> None:
    """Say once that a source is lost; further attempts are silent."""
    SOURCE_UP.labels(source).set(0)
    RECONNECTS.labels(source).inc()
    _log.warning("source_lost", source=source, reason=reason, retry_s=round(retry_s, 3))


ADAPTER = Gauge("fairlead_adapter_counter", "The adapter's own counters.", ["source", "name"], registry=ACQUIRE)


def adapter_failed(source: str, error: BaseException) -> None:
    """An adapter raised what it must not; it is built anew."""
    _log.error("adapter_failed", source=source, exc_info=error)


SAMPLES = Counter("fairlead_samples", "Samples received.", ["source"], registry=ACQUIRE)


def samples_received(source: str, rows: int) -> None:
    """One delivery has come."""
    SAMPLES.labels(source).inc(rows)


JOURNALLED = Counter("fairlead_journalled", "Samples fsynced in the journal.", ["source"], registry=ACQUIRE)
REJECTED = Counter("fairlead_rejected", "Payloads that became quarantine rows.", ["source"], registry=ACQUIRE)


def samples_journalled(source: str, rows: int, rejects: int) -> None:
    """One delivery is durable."""
    JOURNALLED.labels(source).inc(rows)
    if rejects:
        REJECTED.labels(source).inc(rejects)


EVENTS = Counter("fairlead_source_events", "Events and alarms fsynced in the journal.", ["source"], registry=ACQUIRE)


def events_journalled(source: str, count: int) -> None:
    """So many events and alarms of a source are durable."""
    EVENTS.labels(source).inc(count)


GAPS = Counter("fairlead_gaps", "Gap rows opened.", ["source", "cause"], registry=ACQUIRE)


def gap_opened(source: str, cause: str) -> None:
    """A hole in a source's samples has begun, or was reported whole."""
    GAPS.labels(source, cause).inc()
    _log.warning("gap_opened", source=source, cause=cause)


def clock_jumped(seconds: float) -> None:
    """The wall clock moved against the monotonic one."""
    _log.warning("clock_jumped", seconds=round(seconds, 3))


ACQUIRE_VIOLATIONS = Counter(
    "fairlead_acquire_invariant_violations", "What must hold and did not.", ["name"], registry=ACQUIRE
)
for _name in ("received", "acknowledged"):
    ACQUIRE_VIOLATIONS.labels(_name)


def acquire_invariant_violated(name: str, detail: str) -> None:
    """Acquire found that something does not hold that must: a fault of this program."""
    ACQUIRE_VIOLATIONS.labels(name).inc()
    _log.critical("invariant_violated", name=name, detail=detail)


def journal_opened(epoch: int, next_seq: int, cut_bytes: int) -> None:
    """The journal can be written; *cut_bytes* of a torn tail were removed."""
    _log.info("journal_opened", epoch=epoch, next_seq=next_seq, cut_bytes=cut_bytes)


JOURNAL_COMMIT = Histogram(
    "fairlead_journal_commit_seconds",
    "Time of one group commit, fdatasync included.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
    registry=ACQUIRE,
)
JOURNAL_BYTES = Gauge("fairlead_journal_bytes", "Size of all segments.", registry=ACQUIRE)


def journal_committed(seconds: float, used_bytes: int) -> None:
    """One group is durable, or refused."""
    JOURNAL_COMMIT.observe(seconds)
    JOURNAL_BYTES.set(used_bytes)


JOURNAL_REFUSING = Gauge("fairlead_journal_refusing", "1 while samples are not accepted.", registry=ACQUIRE)


def journal_refusing(reason: str, *, full: bool) -> None:
    """Say once that samples are not accepted, so nothing is acknowledged."""
    JOURNAL_REFUSING.set(1)
    _log.error("journal_refusing", reason=reason, kind="full" if full else "failed")


def journal_accepting() -> None:
    """Samples are accepted again."""
    JOURNAL_REFUSING.set(0)
    _log.info("journal_accepting")


def journal_disk_failed(reason: str) -> None:
    """A write or fdatasync failed; the file was given up and a new one begun."""
    _log.critical("journal_disk_failed", reason=reason)


def journal_damaged(what: str) -> None:
    """A file of the journal cannot be read, wholly or in part."""
    _log.error("journal_damaged", what=what)


def journal_damage_trimmed(count: int, size: int) -> None:
    """*count* old damaged files beyond their share of the budget were removed, *size* bytes together."""
    _log.warning("journal_damage_trimmed", count=count, bytes=size, reason="budget")


def journal_trimmed(count: int, size: int) -> None:
    """*count* segments that core has read were removed, *size* bytes together."""
    _log.info("journal_trimmed", count=count, bytes=size, reason="retention")


PRESSURE = Gauge("fairlead_journal_pressure", "1 while a step is in force.", ["step"], registry=ACQUIRE)
PRESSURES = Counter("fairlead_journal_pressure_entered", "Times a step was entered.", ["step"], registry=ACQUIRE)


def journal_pressure(step: str, reason: str, *, entered: bool) -> None:
    """A step of what gives way on a filling disk is in force, or no longer."""
    PRESSURE.labels(step).set(entered)
    if entered:
        PRESSURES.labels(step).inc()
    (_log.warning if entered else _log.info)("journal_pressure", step=step, entered=entered, reason=reason)


JOURNAL_RESERVE = Gauge("fairlead_journal_reserve_bytes", "Space kept for what must not be lost.", registry=ACQUIRE)


def journal_reserve(size: int) -> None:
    """So much is kept for what must not be lost."""
    JOURNAL_RESERVE.set(size)


IN_SQL = Counter("fairlead_in_sql_entries", "Journal entries committed to SQL.", registry=CORE)
INGEST_LAG = Gauge("fairlead_ingest_lag_seconds", "Age of the newest committed entry at its commit.", registry=CORE)


def bundle_committed(count: int, lag_s: float) -> None:
    """*count* journal entries are in SQL; the newest was *lag_s* old then."""
    IN_SQL.inc(count)
    INGEST_LAG.set(lag_s)


ROWS = Counter("fairlead_rows", "Rows of batches by what became of them.", ["outcome"], registry=CORE)


def rows_became(outcome: str, count: int) -> None:
    """So many rows of a batch were stored, redelivered, held back by the deadband, or put into quarantine."""
    ROWS.labels(outcome).inc(count)


EVENT_ROWS = Counter("fairlead_event_rows", "Events by what became of them.", ["outcome"], registry=CORE)


def event_rows_became(outcome: str, count: int) -> None:
    """So many events of sources were stored, corrected (a revision), redelivered, or put into quarantine."""
    EVENT_ROWS.labels(outcome).inc(count)


VIOLATIONS = Counter("fairlead_invariant_violations", "What must hold and did not.", ["name"], registry=CORE)
for _name in ("seq", "rows", "gaps"):
    VIOLATIONS.labels(_name)


def invariant_violated(name: str, detail: str) -> None:
    """Core found that something does not hold that must: a fault of this program."""
    VIOLATIONS.labels(name).inc()
    _log.critical("invariant_violated", name=name, detail=detail)


def entry_refused(epoch: int, seq: int, reason: str) -> None:
    """A stage failed at a journal entry; the entry goes to quarantine."""
    _log.error("entry_refused", epoch=epoch, seq=seq, reason=reason)


def stage_began_anew(stage: str, reason: str) -> None:
    """The saved state of a stage could not be read; it starts from nothing."""
    _log.error("stage_began_anew", stage=stage, reason=reason)


ANOMALIES = Counter(
    "fairlead_anomalies",
    "Episodes that ask for attention, by the detector that saw them first.",
    ["detector"],
    registry=CORE,
)


def anomaly_opened(detector: str) -> None:
    """The first revision of an episode that is not suppressed; *detector* is that of its first member."""
    ANOMALIES.labels(detector).inc()


DETECTOR_NOTICES = Counter(
    "fairlead_detector_notices", "Times a detector's reject rate went over.", ["detector"], registry=CORE
)


def detector_notice_raised(detector: str, detail: str) -> None:
    """People reject more of what a detector finds than the limit allows; it goes on."""
    DETECTOR_NOTICES.labels(detector).inc()
    _log.warning("detector_notice_raised", detector=detector, detail=detail)


def detector_notice_ended(detector: str) -> None:
    """It is within the limit again, or the week is past."""
    _log.info("detector_notice_ended", detector=detector)


def detectors_not_watched(reason: str) -> None:
    """What people rejected could not be read; the next look may."""
    _log.warning("detectors_not_watched", reason=reason)


def store_refused(reason: str, retry_s: float) -> None:
    """SQL cannot be written; the same entries are tried again."""
    _log.error("store_refused", reason=reason, retry_s=retry_s)


def rollups_left(buckets: int) -> None:
    """Roll-ups that a replay has touched stay as they are: retention has removed what they are made of."""
    _log.warning("rollups_left", buckets=buckets)


POSITION_UNPUBLISHED = Counter(
    "fairlead_position_unpublished", "Failures to tell acquire how far core has read.", registry=CORE
)


def position_unpublished(reason: str) -> None:
    """Core's place in the journal could not be written; acquire keeps segments that it might remove."""
    POSITION_UNPUBLISHED.inc()
    _log.warning("position_unpublished", reason=reason)


REPLAYED = Counter("fairlead_replayed_records", "Records written by replays.", registry=CORE)


def replay_started(revision: int, actor: str) -> None:
    """Samples of the journal are normalized again."""
    _log.info("replay_started", revision=revision, actor=actor)


def replay_ended(revision: int, state: str, rows: int, detail: str) -> None:
    """It is done, or failed; *rows* records have its revision."""
    REPLAYED.inc(rows)
    (_log.info if state == "done" else _log.error)("replay_ended", revision=revision, state=state, detail=detail)


SUPPRESSED = Counter(
    "fairlead_anomalies_suppressed_by_cause", "Episodes that ask nobody for attention.", ["cause"], registry=CORE
)
for _cause in ("shelved", "by_design", "maintenance"):
    SUPPRESSED.labels(_cause)


def anomaly_suppressed(cause: str, revision: int) -> None:
    """A revision of an episode that is stored and shown to nobody who did not ask; its first one counts."""
    if revision == 0:
        SUPPRESSED.labels(cause).inc()


PASSAGES_FAILED = Counter(
    "fairlead_passage_searches_failed", "Searches in manuals that the database could not make.", registry=CORE
)


def passages_not_searched(reason: str) -> None:
    """Evidence was made without passages of the site's manuals."""
    PASSAGES_FAILED.inc()
    _log.error("passages_not_searched", reason=reason)


def policy_failed(policy: str, annotation_id: str, reason: str) -> None:
    """The written policy could not release an annotation, or could not look; a person decides as ever."""
    _log.warning("policy_failed", policy=policy, annotation_id=annotation_id, reason=reason)


def request_failed(method: str, path: str, error: BaseException) -> None:
    """A handler raised what it must not; the person got a 500 without details."""
    _log.error("request_failed", method=method, path=path, exc_info=error)


LLM_QUEUE = Gauge("fairlead_llm_queue", "Evidence that waits for the model.", registry=CORE)


def llm_queue(waiting: int) -> None:
    """So many explanations wait for the model."""
    LLM_QUEUE.set(waiting)


LLM_SKIPPED = Counter("fairlead_llm_skipped", "Evidence for which the model would have been too late.", registry=CORE)


def llm_skipped(count: int) -> None:
    """For so many the model is not asked: its answer would come too late. Rules stand, the page says why."""
    LLM_SKIPPED.inc(count)
    _log.warning("llm_skipped", count=count)


LLM_SHARED = Counter("fairlead_llm_shared", "Annotations that share the answer to an alike question.", registry=CORE)


def llm_shared() -> None:
    """An anomaly got the answer to an alike one's question."""
    LLM_SHARED.inc()


def annotation_not_stored(anomaly_id: str, reason: str) -> None:
    """An answer of the model could not be written; the evidence is still pending."""
    _log.warning("annotation_not_stored", anomaly_id=anomaly_id, reason=reason)


def model_refused(model: str, reason: str) -> None:
    """The configured model may not be loaded, or is not there; rules explain."""
    _log.error("model_refused", model=model, reason=reason)


MODEL_CRASHES = Counter("fairlead_model_crashes", "Times the model's worker ended unasked.", registry=CORE)


def model_crashed(model: str, reason: str) -> None:
    """The model's worker ended unasked, or could not be loaded; it is started again."""
    MODEL_CRASHES.inc()
    _log.error("model_crashed", model=model, reason=reason)


def model_given_up(model: str, reason: str) -> None:
    """The model crashed too often and is not started again before core is; rules explain."""
    _log.error("model_given_up", model=model, reason=reason)


MODEL_NOTICES = Counter("fairlead_model_notices", "Times a figure of the model went over.", ["kind"], registry=CORE)
for _kind in ("reject_rate", "unknown_rate", "drift"):
    MODEL_NOTICES.labels(_kind)


def model_notice_raised(model: str, kind: str, detail: str) -> None:
    """A figure of the model in service is over its limit; it goes on answering."""
    MODEL_NOTICES.labels(kind).inc()
    _log.warning("model_notice_raised", model=model, kind=kind, detail=detail)


def model_notice_ended(model: str, kind: str) -> None:
    """It is within its limit again."""
    _log.info("model_notice_ended", model=model, kind=kind)


def model_not_watched(reason: str) -> None:
    """Figures of the model could not be read or written; the next look may."""
    _log.warning("model_not_watched", reason=reason)
