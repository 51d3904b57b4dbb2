"""Liveness, readiness, metrics."""

from __future__ import annotations

import json
import time
from collections import Counter

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from broker import events
from schemas.documents import rfc3339
from tests.broker.api.core import P101, TOKEN, Core, S, bearing_wear


def _write_status(core: Core, age_s: float = 0.0, steps: tuple[str, ...] = ()) -> None:
    """``acquire.json`` as acquire writes it."""
    source = {
        "state": "failing",
        "since": rfc3339(time.time_ns()),
        "error": "connection refused",
        "last_batch": None,
        "samples": 1200,
        "rejects": 3,
        "reconnects": 2,
        "in_flight": 0,
        "counters": {"overflow": 5},
        "facts": {"interval": "1 s"},
    }
    journal = {
        "epoch": 1,
        "seq": 9,
        "bytes": 4096,
        "budget_bytes": 1 << 30,
        "refusing": "",
        "bytes_per_s": 10.0,
        "capacity_h": 71.5,
        "steps": list(steps),
    }
    at = rfc3339(time.time_ns() - int(age_s * 1e9))
    body = {"pid": 1, "at": at, "started": at, "journal": journal, "sources": {"pumps": source}}
    (core.services.config.data_dir / "acquire.json").write_text(json.dumps(body))


def test_alive_while_the_writer_goes_round(core: Core) -> None:
    """The process is alive as long as its writer thread is, and not afterwards."""
    answer = core.client.get("/healthz")
    assert (answer.status_code, answer.json()["alive"]) == (200, True)

    core.services.writer.stop()

    answer = core.client.get("/healthz")
    assert (answer.status_code, answer.json()["alive"]) == (503, False)
    assert answer.json()["detail"].startswith("core is not alive: its writer thread")


def test_ready_without_any_source(core: Core) -> None:
    """A dead PLC or a missing acquire does not make the core unready; that rules explain is a note."""
    answer = core.client.get("/readyz")
    assert (answer.status_code, answer.json()["problems"]) == (200, [])
    assert "reasoning is off (not started): rules explain" in answer.json()["notes"]
    assert core.client.get("/readyz").json()["notes"].count("reasoning is off (not started): rules explain") == 1


def test_unready_while_the_store_refuses(core: Core) -> None:
    """A store that cannot be written, or is of another version, makes the core unready with its reason."""
    core.services.writer.error = "disk is full"
    core.write(lambda tx: tx._connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'other'"))

    answer = core.client.get("/readyz")

    assert answer.status_code == 503
    assert answer.json()["problems"] == [
        "store: disk is full",
        "the store's migrations are not current; run fairlead db upgrade",
    ]


def test_degraded_while_the_disk_fills(core: Core) -> None:
    """Each step that costs somebody something is said; the core stays ready, derived work waits."""
    _write_status(core)
    assert core.client.get("/readyz").json()["degraded"] == []
    assert not core.services.derived_work_waits()

    _write_status(core, steps=("derived", "expire", "stop_ack", "reserve"))
    answer = core.client.get("/readyz")

    assert answer.status_code == 200
    assert [text.split(":")[1].split(",")[0] for text in answer.json()["degraded"]] == [
        " core is far behind",
        " samples are not accepted",
        " the disk is full",
    ]
    assert any("journal.keep" in note for note in answer.json()["notes"])
    assert core.services.derived_work_waits()
    refused = core.as_role("integrator").post("/api/v1/replays", json={"from_ns": "1"})
    assert (refused.status_code, "core is behind" in refused.text) == (409, True)
    _write_status(core, age_s=60, steps=("derived",))
    assert not core.services.derived_work_waits()


def test_metrics_parse_and_name_no_tag(core: Core) -> None:
    """The text is valid, each family stands there once, and no label carries a tag path."""
    bearing_wear(core, 1_790_000_000 * S)
    _write_status(core)
    answer = core.client.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain")
    families = list(text_string_to_metric_families(answer.text))
    assert [name for name, n in Counter(family.name for family in families).items() if n > 1] == []
    samples = {(s.name, tuple(sorted(s.labels.values()))): s.value for family in families for s in family.samples}
    assert samples["fairlead_anomalies_open", ()] == 1
    assert samples["fairlead_reviews_pending", ()] == 1
    assert samples["fairlead_store_up", ()] == 1
    assert samples["fairlead_source_up", ("pumps",)] == 0
    assert samples["fairlead_samples_total", ("pumps",)] == 1200
    assert samples["fairlead_adapter_total", ("overflow", "pumps")] == 5
    assert samples["fairlead_journal_capacity_hours", ()] == 71.5
    assert samples["fairlead_llm_requests_total", ("model",)] == 0
    assert P101 not in answer.text
    assert "BearingTemp" not in answer.text


def test_core_shows_no_counter_of_acquire(core: Core) -> None:
    """What acquire counts is not shown at zero beside the real figure."""
    events.SAMPLES.labels("pumps").inc(0)
    _write_status(core)
    text = core.client.get("/metrics").text

    assert text.count("# TYPE fairlead_samples_total counter") == 1
    assert "fairlead_journal_commit_seconds" not in text


def test_what_acquire_measured_is_shown_once(core: Core) -> None:
    """Commit times and gaps by cause come from acquire's own file; no family stands there twice."""
    _write_status(core)
    events.SAMPLES.labels("pumps").inc(3)
    events.GAPS.labels("pumps", "link_down").inc()
    (core.services.config.data_dir / "acquire.prom").write_bytes(generate_latest(events.ACQUIRE))
    families = list(text_string_to_metric_families(core.client.get("/metrics").text))

    assert [name for name, n in Counter(family.name for family in families).items() if n > 1] == []
    assert {"fairlead_gaps", "fairlead_journal_commit_seconds"} <= {family.name for family in families}


def test_metrics_without_acquire(core: Core) -> None:
    """A status file that is missing, old or damaged means that acquire is down; the rest is still there."""
    path = core.services.config.data_dir / "acquire.json"

    def up() -> str:
        text = core.client.get("/metrics").text
        assert "fairlead_store_up 1.0" in text
        return next(line for line in text.splitlines() if line.startswith("fairlead_acquire_up"))

    assert up() == "fairlead_acquire_up 0.0"
    _write_status(core)
    assert up() == "fairlead_acquire_up 1.0"
    _write_status(core, age_s=30)
    assert up() == "fairlead_acquire_up 0.0"
    path.write_text('{"at": ')
    assert up() == "fairlead_acquire_up 0.0"


def test_sources_show_what_acquire_says(core: Core) -> None:
    """State, counters, facts and the journal's capacity come from acquire."""
    _write_status(core)
    local = {"Authorization": f"Bearer {TOKEN}"}
    body = core.client.get("/api/v1/sources", headers=local).json()

    source = body["sources"][0]
    assert (source["state"], source["error"], source["counters"]) == (
        "failing",
        "connection refused",
        {"overflow": 5},
    )
    assert body["journal"]["capacity_h"] == 71.5


def test_failure_of_a_handler_is_logged_and_not_told(core: Core) -> None:
    """A 500 names the route in the log, and tells the client nothing of the inside."""
    core.app.state.reader = None
    with capture_logs() as logs:
        answer = core.as_role("consumer").get("/api/v1/anomalies/some-id")

    assert answer.status_code == 500
    assert answer.json() == {"detail": "something failed here; the log of core says what"}
    told = [log for log in logs if log["event"] == "request_failed"]
    assert [(log["method"], log["path"]) for log in told] == [("GET", "/api/v1/anomalies/{anomaly_id}")]
