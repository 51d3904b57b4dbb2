"""Events over HTTP and on the command line: pages by cursor, filters, both forms of output."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker.cli.app import run
from broker.store.tables import events as table
from schemas.alarms import Condition, Event
from schemas.entries import Position
from schemas.samples import Gap, GapCause
from tests.broker.api.core import P101, Core, S, fill, running_core

T0 = 1_790_000_000 * S
ROWS = 23
HIGH = Condition("nsu=urn:a;s=High", "High", "", True, True, False, None, True, "Active", 700, 0x80000000, "", "")


def event(n: int) -> Event:
    """Every other one is an alarm of the pump."""
    alarm = n % 2 == 0
    return Event(
        source="cell",
        notifier="i=2253",
        equipment=P101 if alarm else "Acme/Lyon/Utilities",
        event_id=b"%d" % n,
        event_type="i=9341" if alarm else "nsu=urn:a;s=Batch",
        type_name="ExclusiveLimitAlarmType" if alarm else "",
        source_node="",
        source_name="Level",
        time_ns=T0 + n * S,
        server_ns=None,
        received_ns=T0 + n * S + 1,
        severity=100 + n,
        message=f"event {n}",
        condition=HIGH if alarm else None,
        fields={"HighLimit": 80.0, "Count": 2**60},
    )


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Core]:
    """A core with events and records."""
    with running_core(tmp_path_factory.mktemp("events")) as core:
        fill(core, 3, T0)

        def put(tx: Any) -> None:
            for n in range(ROWS):
                tx.event(event(n), Position(1, 1))
            tx.gap(Gap("cell", (), T0, T0 + S, GapCause.QUEUE_OVERFLOW, events=True), Position(1, 2))

        core.write(put)
        yield core


@pytest.fixture
def client(filled: Core) -> httpx.Client:
    """A historian's client."""
    return filled.as_role("consumer")


@pytest.mark.parametrize("limit", [1, 7, ROWS, 1000])
def test_pages_hold_every_event_once(client: httpx.Client, limit: int) -> None:
    """In order of arrival, to the end; then the cursor repeats."""
    seen, place, more = [], None, True
    while more:
        answer = client.get("/api/v1/events", params={"limit": limit, **({"after": place} if place else {})}).json()
        seen += [int(one["seq"]) for one in answer["events"]]
        place, more = answer["next"], answer["has_more"]
    assert seen == list(range(1, ROWS + 1))
    again = client.get("/api/v1/events", params={"after": place}).json()
    assert (again["events"], again["next"], again["has_more"]) == ([], place, False)


def test_an_event_carries_all_it_has(client: httpx.Client) -> None:
    """States are true, false or null; integers beyond 2**53 are text."""
    alarm, plain = client.get("/api/v1/events", params={"limit": 2}).json()["events"]
    assert alarm["condition"] == {
        "id": "nsu=urn:a;s=High",
        "name": "High",
        "branch": "",
        "active": True,
        "acked": False,
        "confirmed": None,
        "enabled": True,
        "retain": True,
        "state": "Active",
        "last_severity": 700,
        "quality": "Bad",
        "comment": "",
        "user": "",
    }
    assert (alarm["type"], alarm["time"], alarm["server_time"]) == (
        "ExclusiveLimitAlarmType", "2026-09-21T14:13:20.000000000Z", None,
    )  # fmt: skip
    assert alarm["fields"] == {"HighLimit": 80.0, "Count": str(2**60)}
    assert (plain["condition"], plain["type"]) == (None, "nsu=urn:a;s=Batch")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"equipment": "*/P101"}, range(0, ROWS, 2)),
        ({"severity": 120}, range(20, ROWS)),
        ({"source": "nobody"}, []),
        ({"equipment": P101, "severity": 121}, [22]),
    ],
)
def test_filters(client: httpx.Client, wanted: dict[str, Any], found: Any) -> None:
    """Each alone and together."""
    rows = client.get("/api/v1/events", params=wanted).json()["events"]
    assert [row["message"] for row in rows] == [f"event {n}" for n in found]


def test_a_cursor_of_records_is_none_of_events(client: httpx.Client) -> None:
    """Nor the other way round: the places mean something else."""
    of_records = client.get("/api/v1/records", params={"limit": 1}).json()["next"]
    of_events = client.get("/api/v1/events", params={"limit": 1}).json()["next"]
    assert client.get("/api/v1/events", params={"after": of_records}).status_code == 400
    assert client.get("/api/v1/records", params={"after": of_events}).status_code == 400
    assert client.get("/api/v1/events", params={"severity": 1001}).status_code == 422


def test_gaps_have_a_scope(client: httpx.Client) -> None:
    """A loss of events is none of samples."""
    assert [gap["scope"] for gap in client.get("/api/v1/gaps").json()["gaps"]] == ["events"]


def test_the_command(filled: Core, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest by default; filters, a table and JSON."""
    path = str(filled.services.config.path)

    def say(*arguments: str) -> str:
        assert run(["events", "-c", path, *arguments]) == 0
        return capsys.readouterr().out

    rows = json.loads(say("--limit", "2", "-o", "json"))
    assert [row["message"] for row in rows] == ["event 21", "event 22"]
    assert rows[1]["state"] == "active, unacknowledged"
    assert len(json.loads(say("--equipment", "*/P101", "--severity", "110", "-o", "json"))) == 7
    assert [row["seq"] for row in json.loads(say("--after", "3", "--limit", "2", "-o", "json"))] == ["4", "5"]
    assert json.loads(say("--since", "2026-09-21T14:13:42Z", "-o", "json"))[0]["message"] == "event 22"
    assert run(["events", "-c", path, "--after", "3", "--limit", "2", "--source", "cell"]) == 0
    assert "go on with --after 5" in capsys.readouterr().err
    assert "active, unacknowledged" in say("--limit", "1")
    assert run(["events", "-c", path, "--since", "yesterday"]) == 2


def test_a_cursor_before_what_is_kept_is_gone(tmp_path: Path) -> None:
    """410 with the cursor to go on with."""
    with running_core(tmp_path) as core:
        core.write(lambda tx: [tx.event(event(n), Position(1, 1)) for n in range(5)])
        client = core.as_role("consumer")
        place = client.get("/api/v1/events", params={"limit": 1}).json()["next"]
        core.write(lambda tx: tx._connection.execute(table.delete().where(table.c.seq <= 3)))
        answer = client.get("/api/v1/events", params={"after": place})
        assert answer.status_code == 410
        rows = client.get("/api/v1/events", params={"after": answer.json()["earliest"]}).json()["events"]
        assert [row["seq"] for row in rows] == ["4", "5"]


def test_a_puller_meets_the_correction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An event that was pulled without an equipment comes again with it: same key, higher revision, once."""
    with running_core(tmp_path) as core:
        client = core.as_role("consumer")
        mine: dict[str, tuple[int, str]] = {}

        def pull(after: str | None, **wanted: str) -> tuple[str, int]:
            answer = client.get("/api/v1/events", params={**wanted, **({"after": after} if after else {})}).json()
            for one in answer["events"]:
                if one["revision"] >= mine.get(one["key"], (0, ""))[0]:
                    mine[one["key"]] = (one["revision"], one["equipment"])
            return answer["next"], len(answer["events"])

        told = replace(event(0), equipment="")
        core.write(lambda tx: [tx.event(one, Position(1, 1)) for one in (told, event(1))])
        place, _ = pull(None)
        filtered, none = pull(None, equipment=P101)
        assert (sorted(mine.values()), none) == ([(0, ""), (0, "Acme/Lyon/Utilities")], 0)

        for _ in range(2):
            core.write(lambda tx: tx.event(event(0), Position(1, 2)))

        after, count = pull(place)
        assert (sorted(mine.values()), count) == ([(0, "Acme/Lyon/Utilities"), (1, P101)], 1)
        assert pull(after) == (after, 0)
        assert pull(filtered, equipment=P101)[1] == 1
        pull(None)
        assert len(mine) == 2, "a puller that begins anew ends with the same"
        capsys.readouterr()
        path = str(core.services.config.path)
        assert run(["events", "-c", path, "-o", "json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert [(row["message"], row["revision"], row["equipment"]) for row in shown] == [
            ("event 1", 0, "Acme/Lyon/Utilities"), ("event 0", 1, P101),
        ]  # fmt: skip
