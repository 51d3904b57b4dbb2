"""Shelving over HTTP: what is asked for, what becomes of it, and who may not."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
import pytest

from broker import commands
from broker.journal import JournalWriter
from broker.journal.options import JournalOptions
from broker.store import Transaction
from schemas.documents import rfc3339
from schemas.entries import Tick
from schemas.suppression import Suppression, SuppressionEvent
from tests.broker.api.core import P101, Core, S, bearing_wear, fill

Settle = Callable[..., None]
LATER = "2099-01-01T00:00:00Z"


@pytest.fixture
def engineer(core: Core) -> httpx.Client:
    """Somebody who may shelve, and a map in force."""
    fill(core, 1)
    return core.as_role("engineer", name="a.moreau")


@pytest.fixture
def journal(core: Core, eventually_sync: Settle) -> Callable[[], None]:
    """Do what acquire does with what waits: journal it, and a tick behind; returns when core has read it."""
    data_dir = core.services.config.data_dir

    def take() -> None:
        writer = JournalWriter(data_dir / "journal", JournalOptions())
        writer.open()
        for path in commands.waiting(data_dir):
            writer.append(commands.read(path)).result(120)
            commands.settle(path, bad=False)
        place = writer.append(Tick()).result(120)
        writer.close()
        eventually_sync(lambda: core.services.writer.position >= place)

    return take


def test_shelf_from_asking_to_its_end(core: Core, engineer: httpx.Client, journal: Callable[[], None]) -> None:
    """202 with the id; in force when it has been journalled; ended by whoever ends it."""
    body = {"mode": "shelf", "target": f"{P101}/Flow", "reason": "valve is being changed", "for": "8h"}
    answer = engineer.post("/api/v1/suppressions", json=body)
    assert answer.status_code == 202
    assert answer.json()["acquire_runs"] is False
    shelf = answer.json()["suppression_id"]
    assert engineer.get("/api/v1/suppressions").json() == {"suppressions": []}

    journal()

    (found,) = engineer.get("/api/v1/suppressions?state=active").json()["suppressions"]
    assert (found["suppression_id"], found["actor"], found["reason"]) == (shelf, "a.moreau", body["reason"])
    other = core.as_role("engineer", name="o.berg")
    assert other.post(f"/api/v1/suppressions/{shelf}/end", json={}).status_code == 202
    journal()
    assert engineer.get("/api/v1/suppressions?state=active").json() == {"suppressions": []}
    assert engineer.get("/api/v1/suppressions?state=ended").json()["suppressions"][0]["ended_by"] == "o.berg"
    again = other.post(f"/api/v1/suppressions/{shelf}/end", json={})
    assert again.status_code == 409
    assert "it ended at" in again.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"mode": "shelf", "target": P101, "reason": "x"}, 409, "a shelf needs an end"),
        ({"mode": "shelf", "target": P101, "reason": " ", "for": "1h"}, 409, "a reason is needed"),
        ({"mode": "shelf", "target": P101, "reason": "x", "for": "31d"}, 409, "30 days at the latest"),
        ({"mode": "shelf", "target": P101, "reason": "x", "until_ns": "1"}, 409, "is over already"),
        ({"mode": "shelf", "target": f"{P101}/Flo", "reason": "x", "for": "1h"}, 409, f"did you mean {P101}/Flow?"),
        ({"mode": "shelf", "target": P101, "kind": "flat", "reason": "x", "for": "1h"}, 409, "no finding of the kind"),
        ({"mode": "shelf", "target": P101, "reason": "x", "for": "1h", "until_ns": "9"}, 409, "not both"),
        ({"mode": "maintenance", "target": f"{P101}/Flow", "reason": "x"}, 409, "maintenance is about equipment"),
        ({"mode": "maintenance", "target": P101, "reason": "x", "kind": "rate"}, 409, "every kind"),
        ({"mode": "maintenance", "target": P101, "reason": "x", "for": "120000d"}, 409, "more than ten years ahead"),
        (
            {"mode": "maintenance", "target": P101, "reason": "x", "for": f"{10**400}d"},
            409,
            "more than ten years ahead",
        ),
        ({"mode": "maintenance", "target": P101, "reason": "x", "until_ns": "9" * 19}, 409, "more than ten years"),
        ({"mode": "shelf", "target": P101, "reason": "x", "until": "2020-01-01T00:00:00Z"}, 409, "is over already"),
        ({"mode": "shelf", "target": P101, "reason": "x", "for": "1h", "until": LATER}, 409, "not both"),
        ({"mode": "shelf", "target": P101, "reason": "x", "until_ns": "9", "until": LATER}, 409, "not both"),
        ({"mode": "shelf", "target": P101, "reason": "x", "until": "2099-01-01T00:00:00"}, 422, "until"),
        ({"mode": "shelf", "target": P101, "reason": "x", "for": "soon"}, 422, "quantity"),
        ({"mode": "sleep", "target": P101, "reason": "x"}, 422, "mode"),
    ],
)
def test_what_cannot_be_is_said(
    core: Core, engineer: httpx.Client, body: dict[str, str], status: int, said: str
) -> None:
    """The answer is for the person who asked, and nothing is left for acquire."""
    answer = engineer.post("/api/v1/suppressions", json=body)
    assert answer.status_code == status
    assert said in answer.text
    assert commands.waiting(core.services.config.data_dir) == []


def test_end_is_written_as_the_answer_gives_it(core: Core, engineer: httpx.Client) -> None:
    """The end of a listed suppression can be sent for another."""
    until_ns = (time.time_ns() // 10**9 + 3600) * 10**9 + 123_456_000
    body = {"mode": "shelf", "target": P101, "reason": "x", "until": rfc3339(until_ns)}
    assert engineer.post("/api/v1/suppressions", json=body).status_code == 202
    (path,) = commands.waiting(core.services.config.data_dir)
    assert commands.read(path).until_ns == until_ns


def test_administrator_shelves_on_the_page_too(core: Core, engineer: httpx.Client, journal: Callable[[], None]) -> None:
    """One set of roles for the API and the page."""
    admin = core.as_role("admin")
    anomaly, *_ = bearing_wear(core, (time.time_ns() // S - 250) * S)
    assert "Begin maintenance" in admin.get(f"/ui/anomalies/{anomaly.anomaly_id}").text
    form = {"anomaly_id": anomaly.anomaly_id, "mode": "maintenance", "target": P101, "length": "1h", "reason": "x"}
    assert admin.post("/ui/suppressions", data=form).status_code == 200
    journal()
    assert ">End</button>" in admin.get("/ui/anomalies?show=all").text


def test_refused_end_on_the_list_says_why(core: Core, engineer: httpx.Client) -> None:
    """The list has no place for a fragment: the page shows the text."""
    answer = engineer.post(f"/ui/suppressions/{'0' * 32}/end")
    assert (answer.status_code, answer.headers["content-type"]) == (409, "text/plain; charset=utf-8")
    assert "there is no such suppression" in answer.text


def test_page_counts_every_shelf(core: Core, engineer: httpx.Client) -> None:
    """As many as may be in force."""

    def begin(tx: Transaction) -> None:
        for i in range(101):
            tx.suppression(SuppressionEvent("began", f"{i:032x}", "p", S, suppression(i)))

    def suppression(i: int) -> Suppression:
        return Suppression(f"{i:032x}", "shelf", P101, "", "p", "x", S, None)

    core.write(begin)
    assert "101 shelved" in engineer.get("/ui/anomalies?show=all").text


@pytest.mark.parametrize("role", ["consumer", "integrator", "auditor"])
def test_only_engineers_shelve(core: Core, engineer: httpx.Client, role: str) -> None:
    """Everybody reads what is suppressed."""
    client = core.as_role(role)  # type: ignore[arg-type]
    assert client.post("/api/v1/suppressions", json={}).status_code == 403
    assert client.get("/api/v1/suppressions").status_code == 200


def test_page_shelves_and_shows_what_is_in_force(
    core: Core, engineer: httpx.Client, journal: Callable[[], None]
) -> None:
    """The buttons of an open anomaly; the banner of maintenance; the list of what is shelved; the end."""
    anomaly, *_ = bearing_wear(core, (time.time_ns() // S - 250) * S)
    form = {"anomaly_id": anomaly.anomaly_id, "mode": "shelf", "target": P101, "length": "1h", "reason": "<b>known</b>"}
    answer = engineer.post("/ui/suppressions", data=form)
    assert "Shelved: takes effect when acquire runs again." in answer.text
    assert engineer.post("/ui/suppressions", data={**form, "reason": ""}).status_code == 409
    assert engineer.post("/ui/suppressions", data={**form, "length": "x"}).status_code == 409
    engineer.post("/ui/suppressions", data={**form, "mode": "maintenance", "length": "", "reason": "bearing"})
    journal()

    listed = engineer.get("/ui/anomalies?show=all").text
    assert "P101</strong> in maintenance" in listed
    assert "1 shelved" in listed
    shelved = engineer.get("/ui/anomalies?show=suppressed").text
    assert "&lt;b&gt;known&lt;/b&gt;" in shelved
    detail = engineer.get(f"/ui/anomalies/{anomaly.anomaly_id}").text
    assert detail.count('class="holder"') == 2
    assert "<button>End</button>" in detail
    assert "<button>End</button>" not in core.as_role("auditor").get(f"/ui/anomalies/{anomaly.anomaly_id}").text

    rows = engineer.get("/api/v1/suppressions").json()["suppressions"]
    maintenance = next(row for row in rows if row["mode"] == "maintenance")["suppression_id"]
    assert engineer.post(f"/ui/suppressions/{maintenance}/end").status_code == 204
    journal()
    assert "in maintenance" not in engineer.get("/ui/anomalies?show=all").text
    assert (
        engineer.post(f"/ui/suppressions/{maintenance}/end", data={"anomaly_id": anomaly.anomaly_id}).status_code == 409
    )
