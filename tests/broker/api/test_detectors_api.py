"""Which detector cries wolf, over HTTP, in the metrics and on the page."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace
from zoneinfo import ZoneInfo

import httpx

from broker.core.detector_watch import DetectorWatch
from tests.broker.api.core import P101, TAGS, Core, S, fill
from tests.broker.store.found import find

HOSTILE = "<script>alert(1)</script>"


def five_false(core: Core) -> None:
    """Five anomalies of this week that an engineer has called normal, and one of another machine that is right."""
    fill(core, 0)
    now_ns = time.time_ns()

    def command(tx: object) -> None:
        for place in range(5):
            find(tx, f"a{place}", "ewma", now_ns - place * S, "not_abnormal", equipment=P101)  # type: ignore[arg-type]
        find(tx, "b", "missing", now_ns, "approved", equipment=HOSTILE)  # type: ignore[arg-type]

    core.write(command)


def this_week(answer: httpx.Response) -> dict[str, dict[str, object]]:
    return {row["detector"]: row for row in answer.json()["weeks"][0]["detectors"]}


def test_detectors_are_counted_by_week(core: Core) -> None:
    """With their budget, by equipment, and with who is over; a consumer has no business with it."""
    five_false(core)
    engineer = core.as_role("engineer")
    told = engineer.get("/api/v1/detectors")
    assert told.status_code == 200, told.text
    rows = this_week(told)
    assert {
        name: (row["opened"], row["reviewed"], row["rejected"], row["reject_rate"]) for name, row in rows.items()
    } == {
        "ewma": (5, 5, 5, 1.0),
        "missing": (1, 1, 0, 0.0),
    }
    # half an alarm a week for the charts of the pump, which are seven
    assert (rows["ewma"]["budget_per_week"], rows["missing"]["budget_per_week"]) == (round(0.5 / 7, 6), None)
    body = told.json()
    assert (len(body["weeks"]), body["complete"], list(body["over"])) == (4, True, ["ewma"])
    assert body["weeks"][0]["budgeted_opened"] == 5
    assert body["budget"]["false_alarms"] == "1 per tag per week"
    assert body["budget"]["per_week"] == round(0.5 + 0.5 + (len(TAGS) + 1) * 7e-4, 6)

    other = engineer.get("/api/v1/detectors", params={"equipment": HOSTILE, "weeks": 1})
    assert (list(this_week(other)), other.json()["budget"]["per_week"], other.json()["over"]) == (["missing"], 0, {})
    assert engineer.get("/api/v1/detectors", params={"weeks": 54}).status_code == 422
    assert core.as_role("consumer").get("/api/v1/detectors").status_code == 403


def test_the_page_shows_budget_and_count(core: Core) -> None:
    """A table a week; who is over is marked and told; what somebody typed is text."""
    five_false(core)
    engineer = core.as_role("engineer")
    page = engineer.get("/detectors").text
    assert "Detector" in engineer.get("/").text
    assert "ewma: people rejected 5 of the 5 anomalies" in page
    assert "above the limit" in page
    assert page.count('class="detectors"') == 1
    assert "1 per tag per week" in page
    assert re.search(r"opened <strong>5</strong>; the budget is <strong>1\.004</strong> a week", page)
    other = engineer.get("/detectors", params={"equipment": HOSTILE}).text
    assert "&lt;script&gt;alert(1)" in other
    assert HOSTILE not in other
    assert "above the limit" not in other


def test_a_notice_stands_where_people_look(core: Core) -> None:
    """/readyz, the list of anomalies and the metrics; control: none of them before the watch has looked."""
    five_false(core)
    config = core.services.config
    limits, zone = config.detection.rejects, ZoneInfo(config.site.timezone)
    watch = DetectorWatch(core.store.reader(), zone, limits, time.time_ns)
    core.app.state.services = replace(core.services, detectors=watch)
    engineer = core.as_role("engineer")

    def told() -> list[bool]:
        metrics = core.client.get("/metrics").text
        return [
            "Detector ewma: people rejected 5" in str(core.client.get("/readyz").json()["notes"]),
            "Detector ewma: people rejected 5" in engineer.get("/ui/anomalies").text,
            "fairlead_detectors_over_limit 1.0" in metrics,
            'fairlead_detector_week_rejected{detector="ewma"} 5.0' in metrics,
            'fairlead_detector_week_opened{detector="missing"} 1.0' in metrics,
        ]

    assert told() == [False] * 5
    asyncio.run(watch.look())
    assert told() == [True] * 5
