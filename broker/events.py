"""
Every log event and every counter has one function here; nothing else knows structlog or Prometheus.

Events are named ``<noun>_<past verb>``; drops always carry ``count`` and ``reason``. A source says "lost" once and
"back" once. No tag path is a label.
"""

from __future__ import annotations

import logging
import sys

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

REGISTRY = CollectorRegistry()
_log = structlog.get_logger()

SAMPLES = Counter("fairlead_samples", "Samples received.", ["source"], registry=REGISTRY)
REJECTED = Counter("fairlead_rejected", "Payloads that became quarantine rows.", ["source"], registry=REGISTRY)
JOURNALLED = Counter("fairlead_journalled", "Samples fsynced in the journal.", ["source"], registry=REGISTRY)
RECONNECTS = Counter("fairlead_source_reconnects", "Connections lost.", ["source"], registry=REGISTRY)
GAPS = Counter("fairlead_gaps", "Gap rows opened.", ["source", "cause"], registry=REGISTRY)
SOURCE_UP = Gauge("fairlead_source_up", "1 while data comes.", ["source"], registry=REGISTRY)
ADAPTER = Gauge("fairlead_adapter_counter", "The adapter's own counters.", ["source", "name"], registry=REGISTRY)


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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def process_started(process: str, version: str) -> None:
    """One of acquire, core or supervisor begins."""
    _log.info("process_started", process=process, version=version)


def process_stopped(process: str, reason: str) -> None:
    """One of acquire, core or supervisor ends in order."""
    _log.info("process_stopped", process=process, reason=reason)


def source_connected(source: str) -> None:
    """The first batch after a connect has come: the source is back."""
    SOURCE_UP.labels(source).set(1)
    _log.info("source_connected", source=source)


def source_lost(source: str, reason: str, retry_s: float) -> None:
    """Say once that a source is lost; further attempts are silent."""
    SOURCE_UP.labels(source).set(0)
    RECONNECTS.labels(source).inc()
    _log.warning("source_lost", source=source, reason=reason, retry_s=round(retry_s, 3))

IN_SQL = Counter("fairlead_in_sql_entries", "Journal entries committed to SQL.", registry=REGISTRY)
INGEST_LAG = Gauge("fairlead_ingest_lag_seconds", "Age of the newest committed entry at its commit.", registry=REGISTRY)


def bundle_committed(count: int, lag_s: float) -> None:
    """*count* journal entries are in SQL; the newest was *lag_s* old then."""
    IN_SQL.inc(count)
    INGEST_LAG.set(lag_s)


def store_refused(reason: str, retry_s: float) -> None:
    """SQL cannot be written; the same entries are tried again."""
    _log.error("store_refused", reason=reason, retry_s=retry_s)


def annotation_not_stored(anomaly_id: str, reason: str) -> None:
    """An answer of the model could not be written; the evidence is still pending."""
    _log.warning("annotation_not_stored", anomaly_id=anomaly_id, reason=reason)


def core_part_failed(part: str, reason: str) -> None:
    """A part of the core ended by itself; the process stops and is started again."""
    _log.error("core_part_failed", part=part, reason=reason)
