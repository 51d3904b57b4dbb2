"""Pulls of a span of time, and pulls of gaps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from broker.store import retention
from schemas.entries import Position
from schemas.samples import Gap, GapCause
from tests.broker.api.core import P101, TAGS, Core, S, batch, fill, plant, running_core

T0 = 1_790_000_000 * S  # 2026-09-21T14:13:20Z
ROWS = 30


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Core]:
    """A core with 30 records, a second apart, that no test changes."""
    with running_core(tmp_path_factory.mktemp("spans")) as core:
        fill(core, ROWS, T0)
        yield core


@pytest.fixture
def client(filled: Core) -> httpx.Client:
    return filled.as_role("consumer")


def follow(client: httpx.Client, address: str, name: str, **query: Any) -> list[dict[str, Any]]:
    """Rows of all pages."""
    rows: list[dict[str, Any]] = []
    after = None
    while True:
        told = client.get(address, params={**query, **({"after": after} if after else {})})
        assert told.status_code == 200, told.text
        answer = told.json()
        assert told.headers["x-next-cursor"] == answer["next"]
        rows += answer[name]
        if not answer["has_more"]:
            return rows
        after = answer["next"]


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ({"from": "2026-09-21T14:13:25Z", "to": "2026-09-21T14:13:28Z"}, [6, 7, 8]),
        ({"from": "2026-09-21T16:13:25+02:00", "to": "2026-09-21T14:13:27.000000001Z"}, [6, 7, 8]),
        ({"from": "2026-09-21T14:13:25.000000001Z", "to": "2026-09-21 14:13:27z"}, [7]),
        ({"to": "2026-09-21T14:13:21Z"}, [1]),
        ({"from": "2026-09-21T14:13:48Z"}, [29, 30]),
        ({"from": "2027-01-01T00:00Z"}, []),
    ],
    ids=str,
)
@pytest.mark.parametrize("limit", [1, 1000])
def test_a_span_is_half_open(client: httpx.Client, span: dict[str, str], expected: list[int], limit: int) -> None:
    """Times with any offset, to the nanosecond; the end is not part of it; pages follow as without a span."""
    rows = follow(client, "/api/v1/records", "records", limit=limit, **span)
    assert [int(row["seq"]) for row in rows] == expected


def test_a_span_and_a_path_go_together(client: httpx.Client) -> None:
    """Both hold."""
    rows = follow(client, "/api/v1/records", "records", path="*/Flow", **{"from": "2026-09-21T14:13:30Z"})
    flow = [name for name, *_ in TAGS].index("Flow")
    assert [int(row["seq"]) for row in rows] == [seq for seq in range(11, ROWS + 1) if (seq - 1) % len(TAGS) == flow]


@pytest.mark.parametrize("address", ["/api/v1/records", "/api/v1/gaps"])
@pytest.mark.parametrize(
    ("query", "where", "message"),
    [
        ("from=yesterday", "query.from", "'yesterday' is no time with its offset, such as 2026-03-01T08:00:00Z"),
        ("from=", "query.from", "'' is no time with its offset"),
        ("to=2026-09-21T14:13:25", "query.to", "is no time with its offset"),
        ("to=1790000000", "query.to", "is no time with its offset"),
        ("from=2026-13-01T00:00:00Z", "query.from", "month must be in 1..12"),
        ("from=2026-09-21T14:13:25+02:00", "query.from", "write + as %2B"),
        ("from=2026-09-21T14:13:25Z&to=2026-09-21T14:13:25Z", "query.to", "to must be later than from"),
    ],
)
def test_what_is_no_time_is_refused(client: httpx.Client, address: str, query: str, where: str, message: str) -> None:
    """422 says which parameter, what is wrong and how it is written."""
    answer = client.get(f"{address}?{query}")
    assert answer.status_code == 422
    (problem,) = answer.json()["detail"]
    assert problem["where"] == where
    assert message in problem["message"]


def put(core: Core, *gaps: Gap) -> None:
    core.write(lambda tx: [tx.gap(one, Position(1, 2)) for one in gaps])


def hole(
    n: int, end: int | None = None, source: str = "pumps", tags: tuple[int, ...] = (), map_revision: bytes = b""
) -> Gap:
    to_ns = None if end is None else T0 + end * S
    return Gap(source, tags, T0 + n * S, to_ns, GapCause.LINK_DOWN, map_revision=map_revision)


@pytest.fixture
def holes(core: Core) -> Core:
    """A core with gaps of two sources, of which one names tags."""
    tag_map = fill(core, 0)
    put(core, hole(0), hole(5, 9, tags=(0, 1), map_revision=tag_map.revision), hole(6, source="other"))
    return core


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_gaps_are_pulled_in_order(holes: Core, limit: int) -> None:
    """Every gap once, whole; behind the last cursor nothing until something changes, and then that alone."""
    client = holes.as_role("consumer")
    rows = follow(client, "/api/v1/gaps", "gaps", limit=limit)
    assert [(row["gap_id"], row["tag_id"], row["path"]) for row in rows] == [
        ("1", None, None),
        ("2", "t0", f"{P101}/BearingTemp"),
        ("2", "t1", f"{P101}/Vibration"),
        ("3", None, None),
    ]
    cursor = client.get("/api/v1/gaps").json()["next"]
    empty = client.get("/api/v1/gaps", params={"after": cursor}).json()
    assert empty == {"gaps": [], "next": cursor, "has_more": False}

    put(holes, hole(0, 7))
    (row,) = client.get("/api/v1/gaps", params={"after": cursor}).json()["gaps"]
    assert (row["gap_id"], row["to"]) == ("1", "2026-09-21T14:13:27.000000000Z")


def test_what_retention_left_is_pulled_to_the_end(core: Core) -> None:
    """Gaps that are open, or ended later, stand before those removed: no cursor that was given out is refused."""
    tag_map = fill(core, 0)
    early = hole(1, source="early")
    put(core, early, hole(2, tags=(0,), map_revision=tag_map.revision), hole(3, 4), hole(5, source="other"), hole(6, 7))
    core.store.maintain(T0 + 1000 * retention.DAY_NS)
    client = core.as_role("consumer")
    assert [row["gap_id"] for row in follow(client, "/api/v1/gaps", "gaps", limit=1)] == ["1", "2", "4"]

    start = client.get("/api/v1/gaps?limit=1").json()["next"]
    put(core, replace(early, to_ns=T0 + 2000 * retention.DAY_NS))
    rows = follow(client, "/api/v1/gaps", "gaps", limit=1, after=start)
    assert [row["gap_id"] for row in rows] == ["2", "4", "1"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"source": "other"}, ["3"]),
        ({"path": "*/Vibration"}, ["1", "2"]),
        ({"state": "open"}, ["1", "3"]),
        ({"state": "closed"}, ["2"]),
        ({"to": "2026-09-21T14:13:25Z"}, ["1"]),
        ({"from": "2026-09-21T14:13:29Z", "source": "pumps"}, ["1"]),
    ],
    ids=str,
)
def test_gaps_are_filtered(holes: Core, query: dict[str, str], expected: list[str]) -> None:
    """Source, path, state and an overlapping span."""
    rows = follow(holes.as_role("consumer"), "/api/v1/gaps", "gaps", **query)
    assert list(dict.fromkeys(row["gap_id"] for row in rows)) == expected


def test_cursors_of_gaps_are_theirs(holes: Core) -> None:
    """A cursor of records, a damaged one and another state are refused; what retention passed is 410."""
    client = holes.as_role("consumer")
    gaps, records = (client.get(f"/api/v1/{name}").json()["next"] for name in ("gaps", "records"))
    for name, cursor in (("gaps", records), ("records", gaps), ("gaps", gaps[:-1])):
        assert client.get(f"/api/v1/{name}", params={"after": cursor}).status_code == 400
    assert client.get("/api/v1/gaps?state=shut").status_code == 422

    first = client.get("/api/v1/gaps", params={"limit": 1}).json()["next"]
    put(holes, hole(0, 7))
    later = T0 + 1000 * retention.DAY_NS
    holes.store.maintain(later)
    answer = client.get("/api/v1/gaps", params={"after": first})
    assert answer.status_code == 410
    assert "retention has removed gaps behind this cursor" in answer.json()["detail"]
    kept = client.get("/api/v1/gaps", params={"after": answer.json()["earliest"]}).json()
    assert [row["gap_id"] for row in kept["gaps"]] == ["3"]
    assert [row["gap_id"] for row in client.get("/api/v1/gaps").json()["gaps"]] == ["3"]


def test_texts_of_an_enumeration_stand_beside_their_numbers(core: Core) -> None:
    """What the map called the number when it was stored, in all forms, and in the current value."""
    told: list[list[str | None]] = []
    for n, texts in enumerate(({1: "Running"}, {1: "Execute"})):
        made = plant()
        first = made.tags[0].model_copy(update={"enum": texts})
        tag_map = made.model_copy(update={"tags": (first, *made.tags[1:])})
        core.write(lambda tx, m=tag_map: tx.use_map(m.revision, m))
        core.write(lambda tx, m=tag_map, n=n: tx.records(batch(m, [0, 0], [T0 + 2 * n, T0 + 2 * n + 1], [1.0, 2.0])))
        rows = core.as_role("consumer").get("/api/v1/records").json()["records"]
        told.append([row["enum_text"] for row in rows])
    assert told == [["Running", None], ["Running", None, "Execute", None]]
    lines = core.as_role("consumer").get("/api/v1/records", params={"format": "csv"}).text.splitlines()
    assert [line.rsplit(",", 1)[1] for line in lines] == ["enum_text", "Running", "", "Execute", ""]
