"""Is the process alive, can it serve, and its metrics."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from broker import events
from broker.api.services import ReaderOf, Services, ServicesOf
from broker.store import Reader
from broker.version import VERSION


def add_routes(app: FastAPI) -> None:
    """Register the routes of this module."""
    app.get("/healthz")(healthz)
    app.get("/readyz")(readyz)
    app.get("/metrics")(metrics)


def healthz(services: ServicesOf) -> Response:
    """200 while the writer thread goes round; a dead PLC or a stopped store does not change it."""
    alive = services.writer.alive()
    return JSONResponse({"alive": alive, "version": VERSION}, 200 if alive else 503)


def readyz(services: ServicesOf) -> Response:
    """200 while the store takes writes and its migrations are current; a dead PLC does not make it unready."""
    problems = []
    if services.writer.error:
        problems.append(f"store: {services.writer.error}")
    if not services.store.is_current():
        problems.append("the store's migrations are not current; run fairlead db upgrade")
    notes = services.store.warnings
    if services.reasoner.state.status != "ready":
        notes.append(f"reasoning is {services.reasoner.state.status}: rules explain")
    body: dict[str, Any] = {"ready": not problems, "problems": problems, "notes": notes}
    return JSONResponse(body, 200 if not problems else 503)


def metrics(services: ServicesOf, reader: ReaderOf) -> Response:
    """Prometheus text: counters of acquire (as it last wrote them) and of core, and counts of the store."""
    lines = [generate_latest(events.REGISTRY), generate_latest(_Snapshot(services, reader))]
    return Response(b"".join(lines), media_type=CONTENT_TYPE_LATEST)


class _Snapshot:
    """A registry of what stands in the store and in acquire's status file at this moment."""

    def __init__(self, services: Services, reader: Reader) -> None:
        self._services = services
        self._reader = reader

    def collect(self) -> list[Any]:
        """The metric families."""
        counts = self._reader.counts()
        gauges = {
            "fairlead_records_stored": (counts.records, "Records ever stored."),
            "fairlead_gaps_open": (counts.gaps_open, "Gaps that are not closed."),
            "fairlead_quarantine_rows": (counts.quarantine, "Rows in quarantine."),
            "fairlead_anomalies_open": (counts.anomalies_open, "Episodes that go on."),
            "fairlead_reviews_pending": (counts.pending_review, "Annotations that wait for a person."),
            "fairlead_documents": (counts.documents, "Documents in the outbox."),
            "fairlead_store_bytes": (counts.bytes, "Size of the store."),
            "fairlead_wal_bytes": (counts.wal_bytes, "Size of SQLite's write-ahead log."),
        }
        families: list[Any] = [GaugeMetricFamily(name, text, value) for name, (value, text) in gauges.items()]
        build = GaugeMetricFamily("fairlead_build_info", "Version.", labels=["version"])
        build.add_metric([VERSION], 1)
        up = GaugeMetricFamily("fairlead_source_up", "1 while data comes.", labels=["source"])
        samples = CounterMetricFamily("fairlead_samples", "Samples received.", labels=["source"])
        rejected = CounterMetricFamily("fairlead_rejected", "Payloads that nobody could use.", labels=["source"])
        reconnects = CounterMetricFamily("fairlead_source_reconnects", "Connections lost.", labels=["source"])
        adapter = CounterMetricFamily("fairlead_adapter", "The adapters' counters.", labels=["source", "counter"])
        acquire = self._services.acquire_state()
        for source, live in acquire.sources.items() if acquire else ():
            up.add_metric([source], float(live.condition == "active"))
            samples.add_metric([source], live.samples)
            rejected.add_metric([source], live.rejects)
            reconnects.add_metric([source], live.reconnects)
            for counter, value in live.counters.items():
                adapter.add_metric([source, counter], value)
        state = self._services.reasoner.state
        llm = CounterMetricFamily("fairlead_llm_requests", "Annotations by outcome.", labels=["outcome"])
        llm.add_metric(["model"], float(state.answered))
        llm.add_metric(["rules"], float(state.fallbacks))
        return [*families, build, up, samples, rejected, reconnects, adapter, llm]
