"""Is the process alive, can it serve, and its metrics."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from broker import events
from broker.acquire.files import METRICS_FILE
from broker.api.insecure import insecure_sources
from broker.api.model import model_notes, model_now, standing_now
from broker.api.services import ReaderOf, Services, ServicesOf
from broker.api.status import AcquireStatus
from broker.store import Reader
from broker.store.rows.operation import Counts
from broker.version import VERSION
from schemas.errors import FairleadError

#: Steps of a filling disk that cost somebody something, as people read them.
_STEPS: Final = {
    "derived": "journal: core is far behind, so the model explains nothing and replays wait",
    "stop_ack": "journal: samples are not accepted, their sources have to keep them",
    "reserve": "journal: the disk is full, gaps and notices use the reserve",
}


def add_routes(app: FastAPI) -> None:
    """Register the routes of this module."""
    app.get("/healthz")(healthz)
    app.get("/readyz")(readyz)
    app.get("/metrics")(metrics)
    app.get("/api/v1/status")(status)


async def healthz(services: ServicesOf) -> Response:
    """200 while the writer thread goes round, else 503 with ``detail``; a dead PLC does not change it."""
    told: dict[str, Any] = {"alive": services.writer.alive(), "version": VERSION}
    if not told["alive"]:
        silent_s = time.monotonic() - services.writer.beat_s
        told["detail"] = f"core is not alive: its writer thread gave its last sign of life {silent_s:.0f} s ago"
    return JSONResponse(told, 200 if told["alive"] else 503)


def readyz(services: ServicesOf) -> Response:
    """
    200 while the store takes writes and its migrations are current; a dead PLC does not make it unready.

    ``degraded`` says what gives way because the journal's disk fills.
    """
    body = readiness(services)
    return JSONResponse(body, 200 if body["ready"] else 503)


def readiness(services: Services) -> dict[str, Any]:
    """``ready``, what stands against it (``problems``), what gives way (``degraded``), and what is worth knowing."""
    problems = []
    if services.writer.error:
        problems.append(f"store: {services.writer.error}")
    try:
        if not services.store.is_current():
            problems.append("the store's migrations are not current; run fairlead db upgrade")
    except FairleadError as error:
        problems.append(f"store: {error}")
    notes = list(services.store.warnings)
    notes += model_notes(services)
    if services.watch is not None:
        notes += services.watch.notices
    if services.detectors is not None:
        notes += services.detectors.notices
    notes += insecure_sources(services.config)
    status = services.acquire_status()
    degraded = [] if status is None else [_STEPS[step] for step in status.journal.steps if step in _STEPS]
    if status is not None and "expire" in status.journal.steps:
        notes.append("the journal has no room for all of journal.keep: what core has read goes earlier")
    return {"ready": not problems, "degraded": degraded, "problems": problems, "notes": notes}


def status(services: ServicesOf) -> dict[str, Any]:
    """What /readyz tells, always with 200, and the model that explains; ``acquire`` is whether that process reports."""
    told = {"version": VERSION, "acquire": services.acquire_status() is not None}
    return told | readiness(services) | {"model": model_now(services)}


def metrics(services: ServicesOf, reader: ReaderOf) -> Response:
    """Prometheus text: figures of acquire (as it last wrote them), of core, and of the store at this moment."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(services, reader))
    lines = [generate_latest(events.CORE), generate_latest(registry)]
    return Response(b"".join(lines), media_type=CONTENT_TYPE_LATEST)


class _Snapshot(Collector):
    """What stands in the store and in acquire's status file at this moment."""

    def __init__(self, services: Services, reader: Reader) -> None:
        self._services = services
        self._reader = reader

    def collect(self) -> Iterator[Metric]:
        """The metric families."""
        build = GaugeMetricFamily("fairlead_build_info", "Version.", labels=["version"])
        build.add_metric([VERSION], 1)
        yield build
        yield from self._store()
        status = self._services.acquire_status()
        told = list(_acquire(status))
        yield from told
        if status is not None:
            yield from _measured(self._services.config.data_dir / METRICS_FILE, {family.name for family in told})
        if status is not None and status.journal.epoch == self._services.writer.position.epoch:
            pending = max(0, status.journal.seq - self._services.writer.position.seq)
            yield GaugeMetricFamily("fairlead_pending_entries", "Journal entries that are not in SQL.", pending)
        ahead = GaugeMetricFamily(
            "fairlead_source_clock_ahead_seconds", "A device clock against ours; negative: behind.", labels=["source"]
        )
        suspect = GaugeMetricFamily(
            "fairlead_source_clock_suspect", "1 while it is off by more than normalize.skew_warn.", labels=["source"]
        )
        for source, skew in self._services.writer.skews.items():
            ahead.add_metric([source], skew.ahead_ns / 1e9)
            suspect.add_metric([source], float(skew.beyond_limit))
        yield from (ahead, suspect)
        state = self._services.reasoner.state
        llm = CounterMetricFamily("fairlead_llm_requests", "Annotations by outcome.", labels=["outcome"])
        llm.add_metric(["model"], float(state.answered))
        llm.add_metric(["rules"], float(state.fallbacks))
        yield llm
        standing = standing_now(self._services)
        advisory = float(standing is not None and standing.mode == "advisory")
        yield GaugeMetricFamily(
            "fairlead_llm_advisory", "1 while no score card lets the model's answers count.", advisory
        )
        yield from self._model()
        yield from self._detectors()

    def _model(self) -> Iterator[Metric]:
        watch = self._services.watch
        found = None if watch is None else watch.last
        if watch is None or found is None:
            return
        yield GaugeMetricFamily("fairlead_model_over_limit", "Figures of the model over.", float(len(watch.notices)))
        if found.reject_rate is not None:
            text = "Answers that checks or people refused, of the window."
            yield GaugeMetricFamily("fairlead_model_reject_rate", text, found.reject_rate)
        if found.unknown_rate is not None:
            yield GaugeMetricFamily("fairlead_model_unknown_rate", "Answers that name no cause.", found.unknown_rate)
        drift = GaugeMetricFamily("fairlead_model_drift", "Population stability index.", labels=["dimension"])
        for one in found.shifts:
            drift.add_metric([one.dimension], one.psi)
        yield drift

    def _detectors(self) -> Iterator[Metric]:
        watch = self._services.detectors
        if watch is None or watch.last is None:
            return
        yield GaugeMetricFamily("fairlead_detectors_over_limit", "Detectors over.", float(len(watch.notices)))
        texts = {
            "opened": "Anomalies that it opened in the week that runs.",
            "reviewed": "Of these: that people decided on.",
            "rejected": "Of these: that they rejected, for any reason but a wrong cause.",
        }
        families = {
            name: GaugeMetricFamily(f"fairlead_detector_week_{name}", text, labels=["detector"])
            for name, text in texts.items()
        }
        for row in watch.last.of(0):
            for name, family in families.items():
                family.add_metric([row.detector], getattr(row, name))
        yield from families.values()

    def _store(self) -> Iterator[Metric]:
        try:
            counts: Counts | None = self._reader.counts()
        except FairleadError:
            counts = None
        yield GaugeMetricFamily("fairlead_store_up", "1 while the store can be read.", float(counts is not None))
        if counts is None:
            return
        gauges = {
            "fairlead_records_stored": (counts.records, "Records ever stored."),
            "fairlead_gaps_open": (counts.gaps_open, "Gaps that are not closed."),
            "fairlead_quarantine_rows": (counts.quarantine, "Rows in quarantine."),
            "fairlead_anomalies_open": (counts.anomalies_open, "Episodes that go on."),
            "fairlead_anomalies_suppressed": (counts.anomalies_suppressed, "Of those that go on: ask nobody."),
            "fairlead_suppressions": (counts.suppressions, "Shelves and maintenance of people in force."),
            "fairlead_reviews_pending": (counts.pending_review, "Anomalies that wait for a person."),
            "fairlead_documents": (counts.documents, "Documents in the outbox."),
            "fairlead_store_bytes": (counts.bytes, "Size of the store."),
            "fairlead_wal_bytes": (counts.wal_bytes, "Size of SQLite's write-ahead log."),
        }
        for name, (value, text) in gauges.items():
            yield GaugeMetricFamily(name, text, value)


def _measured(path: Path, told: Collection[str]) -> Iterator[Metric]:
    """What acquire itself measured (commits, gaps by cause), a few seconds old; not what the status says already."""
    try:
        families = list(text_string_to_metric_families(path.read_text("utf-8")))
    except (OSError, ValueError):
        return
    for family in families:
        if family.name not in told and not family.name.endswith("_created"):
            yield family


def _acquire(status: AcquireStatus | None) -> Iterator[Metric]:
    yield GaugeMetricFamily("fairlead_acquire_up", "1 while acquire reports.", float(status is not None))
    if status is None:
        return
    up = GaugeMetricFamily("fairlead_source_up", "1 while data comes.", labels=["source"])
    samples = CounterMetricFamily("fairlead_samples", "Samples received.", labels=["source"])
    rejected = CounterMetricFamily("fairlead_rejected", "Payloads that nobody could use.", labels=["source"])
    reconnects = CounterMetricFamily("fairlead_source_reconnects", "Connections lost.", labels=["source"])
    adapter = CounterMetricFamily("fairlead_adapter", "The adapters' counters.", labels=["source", "counter"])
    for source, live in status.sources.items():
        up.add_metric([source], float(live.state == "active"))
        samples.add_metric([source], live.samples)
        rejected.add_metric([source], live.rejects)
        reconnects.add_metric([source], live.reconnects)
        for counter, value in live.counters.items():
            adapter.add_metric([source, counter], value)
    yield from (up, samples, rejected, reconnects, adapter)
    journal = status.journal
    yield GaugeMetricFamily("fairlead_journal_bytes", "Size of the journal.", float(journal.bytes))
    yield GaugeMetricFamily("fairlead_journal_budget_bytes", "Most bytes it may have.", float(journal.budget_bytes))
    refusing = float(bool(journal.refusing))
    yield GaugeMetricFamily("fairlead_journal_refusing", "1 while samples are not accepted.", refusing)
    if journal.capacity_h is not None:
        hours = "Hours of samples that fit if core reads nothing from now on."
        yield GaugeMetricFamily("fairlead_journal_capacity_hours", hours, journal.capacity_h)
