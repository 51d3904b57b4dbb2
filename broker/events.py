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
