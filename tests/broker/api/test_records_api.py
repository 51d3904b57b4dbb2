"""The pull interface: records, tags, trends, gaps, quarantine, sources."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.api import cursor
from broker.store import tables
from schemas.documents import rfc3339
from schemas.entries import Position
from schemas.samples import Gap, GapCause, Reject
from schemas.status import BAD_SENSOR_FAILURE, UNCERTAIN_LAST_USABLE
from tests.broker.api.core import P101, TAGS, Core, S, batch, fill, running_core

T0 = 1_790_000_000 * S
ROWS = 57


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Core]:
    """A core with 57 records that no test changes."""
    with running_core(tmp_path_factory.mktemp("filled")) as core:
        fill(core, ROWS, T0)
        yield core


@pytest.fixture
def reader(filled: Core) -> httpx.Client:
    """A historian's client."""
    return filled.as_role("consumer")


def _refused(client: httpx.Client, address: str, status: int = 400) -> str:
    answer = client.get(address)
    assert answer.status_code == status, answer.text
    return str(answer.json()["detail"])


@pytest.fixture(scope="module")
def client(filled: Core) -> httpx.Client:
    """The same client for every example of a property."""
    return filled.as_role("consumer")


@settings(max_examples=15, deadline=None)
@given(limit=st.integers(1, ROWS + 3))
def test_cursor_gives_every_row_once(client: httpx.Client, limit: int) -> None:
    """Pages of any size, followed to the end, hold every record once and in order."""
    seen: list[int] = []
    place: str | None = None
    for _ in range(ROWS + 2):
        query = {"limit": limit} | ({"after": place} if place else {})
        body = client.get("/api/v1/records", params=query).json()
        seen += [int(row["seq"]) for row in body["records"]]
        place = body["next"]
        if not body["has_more"]:
            break
    assert seen == list(range(1, ROWS + 1))


def test_empty_page_repeats_the_cursor(reader: httpx.Client, filled: Core) -> None:
    """At the end a reader asks again with the same cursor, and gets what came since."""
    end = reader.get("/api/v1/records").json()["next"]

    again = reader.get("/api/v1/records", params={"after": end})

    assert again.json() == {"records": [], "next": end, "has_more": False}
    assert again.headers["x-next-cursor"] == end
    assert again.headers["x-has-more"] == "false"


def test_filtered_pages_end_too(reader: httpx.Client) -> None:
    """A path filter keeps the order and moves the cursor behind rows it skips."""
    answer = reader.get("/api/v1/records", params={"path": "*/Vibration"}).json()

    assert {row["path"] for row in answer["records"]} == {f"{P101}/Vibration"}
    assert [int(row["seq"]) for row in answer["records"]] == list(range(2, ROWS + 1, len(TAGS)))
    assert reader.get("/api/v1/records", params={"after": answer["next"]}).json()["records"] == []
    nothing = reader.get("/api/v1/records", params={"path": "Acme/Paris/*"}).json()
    assert (nothing["records"], nothing["has_more"]) == ([], False)


def test_record_carries_all_it_has(reader: httpx.Client) -> None:
    """Times are RFC 3339 with nine digits, seq is text, quality and status go together."""
    first = reader.get("/api/v1/records", params={"limit": 1}).json()["records"][0]

    assert first == {
        "seq": "1",
        "tag_id": "t0",
        "path": f"{P101}/BearingTemp",
        "source_time": "2026-09-21T14:13:20.000000000Z",
        "server_time": None,
        "received_time": "2026-09-21T14:14:16.000000000Z",
        "value": 0.0,
        "type": "float64",
        "enum_text": None,
        "unit": "Cel",
        "quality": "good",
        "status": "Good",
        "status_code": 0,
        "flags": [],
        "revision": 0,
        "increase": None,
    }


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_damaged_cursor_is_refused(client: httpx.Client, data: st.DataObject) -> None:
    """A cursor with one other character is refused, also where it would decode to the same place."""
    whole = client.get("/api/v1/records", params={"limit": 9}).json()["next"]
    place = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.sampled_from("ABCxyz019-_é "))
    changed = whole[:place] + other + whole[place + 1 :]
    if changed == whole:
        return
    answer = client.get("/api/v1/records", params={"after": changed})
    assert answer.status_code == 400
    assert "begin without one" in answer.json()["detail"]


@pytest.mark.parametrize("text", ["x", "0", "=", "AAAA", "%00", "é", "5" * 200])
def test_nonsense_is_no_cursor(reader: httpx.Client, text: str) -> None:
    """Any other text is refused with a reason."""
    assert _refused(reader, f"/api/v1/records?after={text}") == "this cursor is damaged; begin without one"


def test_forged_place_is_refused(reader: httpx.Client, filled: Core) -> None:
    """A place that SQL cannot hold is no internal error."""
    store_id = filled.store.reader().store_id
    for place in (-1, 2**63, 10**30):
        assert "damaged" in _refused(reader, f"/api/v1/records?after={cursor.encode(store_id, place)}")


def test_cursor_of_another_store_is_refused(filled: Core, tmp_path: Path) -> None:
    """A store that was made anew does not silently continue the old count."""
    place = filled.as_role("consumer").get("/api/v1/records").json()["next"]
    with running_core(tmp_path) as other:
        fill(other, 3)
        assert "another store" in _refused(other.as_role("consumer"), f"/api/v1/records?after={place}")
        assert "another store" in _refused(other.as_role("consumer"), f"/api/v1/documents?after={place}")


def test_cursor_ahead_of_a_restored_store(filled: Core) -> None:
    """After a restore from an older copy the rows come again: the reader is told where to go on, and loses nothing."""
    store_id = filled.store.reader().store_id
    ahead = cursor.encode(store_id, ROWS + 100)
    answer = filled.as_role("consumer").get("/api/v1/records", params={"after": ahead})

    assert answer.status_code == 410
    assert "older copy" in answer.json()["detail"]
    assert answer.json()["earliest"] == cursor.encode(store_id, ROWS)


def test_store_keeps_its_name(filled: Core) -> None:
    """Every reader of one store gives the same name, so that cursors outlive a restart."""
    name = filled.store.reader().store_id
    assert name
    assert filled.store.reader().store_id == name


@pytest.mark.parametrize(
    "address",
    [
        "/api/v1/records?limit=0",
        "/api/v1/records?limit=10001",
        "/api/v1/records?format=xml",
        "/api/v1/records?after=" + "x" * 201,
        "/api/v1/trend?path=x",
        "/api/v1/trend?path=x&from_ms=0&to_ms=99999999999999",
        "/api/v1/anomalies?before=99999999999999999999",
        "/api/v1/audit?before=99999999999999999999",
        "/api/v1/documents?type=invoice",
    ],
)
def test_parameters_out_of_range_say_which(filled: Core, address: str) -> None:
    """422 names the parameter and what is wrong with it."""
    detail = filled.as_role("admin").get(address)
    assert detail.status_code == 422
    assert detail.json()["detail"][0]["where"].startswith("query.")


def test_retention_gives_410_with_the_earliest_cursor(core: Core) -> None:
    """A reader that stayed away too long is told where the data begins, and can go on there."""
    fill(core, 20)
    client = core.as_role("consumer")
    early = client.get("/api/v1/records", params={"limit": 5}).json()["next"]
    core.write(lambda tx: tx._connection.execute(sa.delete(tables.records).where(tables.records.c.seq <= 12)))

    gone = client.get("/api/v1/records", params={"after": early})

    assert gone.status_code == 410
    assert "retention" in gone.json()["detail"]
    rest = client.get("/api/v1/records", params={"after": gone.json()["earliest"]}).json()
    assert [int(row["seq"]) for row in rest["records"]] == list(range(13, 21))
    assert client.get("/api/v1/records").json()["records"][0]["seq"] == "13"
    assert client.get("/api/v1/records", params={"after": ""}).status_code == 200

    core.write(lambda tx: tx._connection.execute(sa.delete(tables.records)))
    nothing_left = client.get("/api/v1/records", params={"after": early})
    assert nothing_left.status_code == 410
    end = nothing_left.json()["earliest"]
    assert client.get("/api/v1/records", params={"after": end}).json() == {
        "records": [],
        "next": end,
        "has_more": False,
    }


@pytest.fixture
def odd(core: Core) -> Core:
    """One record of each kind that a format can spoil."""
    tag_map = fill(core, 0)
    values = [math.nan, math.inf, 1.5, math.nan, math.nan, math.nan, math.nan]
    exact = {
        3: 2**63 + 5,
        4: "=SUM(A1:A9)",
        5: -(2**60),
        6: "-1+cmd|' /C calc'!A0",
    }
    status = [BAD_SENSOR_FAILURE, 0, UNCERTAIN_LAST_USABLE, 0, 0, 0, 0]
    times = [T0 + i * S for i in range(7)]
    core.write(lambda tx: tx.records(batch(tag_map, [5] * 7, times, values, status=status, exact=exact)))
    return core


def test_odd_values_in_json(odd: Core) -> None:
    """NaN and infinity are null, 64-bit integers and text are strings; nothing is rounded."""
    text = odd.as_role("consumer").get("/api/v1/records").text
    rows = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))["records"]

    assert [row["value"] for row in rows] == [
        None,
        None,
        1.5,
        "9223372036854775813",
        "=SUM(A1:A9)",
        "-1152921504606846976",
        "-1+cmd|' /C calc'!A0",
    ]
    assert [row["quality"] for row in rows[:3]] == ["bad", "good", "uncertain"]
    assert [row["status"] for row in rows[:3]] == ["BadSensorFailure", "Good", "UncertainLastUsableValue"]


def test_odd_values_in_ndjson(odd: Core) -> None:
    """Each line is one record, the same as in JSON; the cursor is in the header."""
    client = odd.as_role("consumer")
    answer = client.get("/api/v1/records", params={"format": "ndjson"})
    whole = client.get("/api/v1/records").json()

    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in answer.text.splitlines()] == whole["records"]
    assert answer.headers["x-next-cursor"] == whole["next"]


def test_odd_values_in_csv(odd: Core) -> None:
    """A spreadsheet runs nothing of what a device sent, and negative numbers stay numbers."""
    answer = odd.as_role("consumer").get("/api/v1/records", params={"format": "csv"})
    rows = list(csv.DictReader(io.StringIO(answer.text)))

    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.text.splitlines()[0] == (
        "seq,path,source_time,value,unit,quality,status,flags,received_time,revision,server_time,status_code,"
        "increase,tag_id,type,enum_text"
    )
    assert (rows[0]["revision"], rows[0]["server_time"]) == ("0", "")
    assert rows[0]["status_code"] == str(BAD_SENSOR_FAILURE)
    assert [row["value"] for row in rows] == [
        "",
        "",
        "1.5",
        "9223372036854775813",
        "'=SUM(A1:A9)",
        "-1152921504606846976",
        "'-1+cmd|' /C calc'!A0",
    ]
    assert rows[0]["path"].endswith("<script>alert(1)</script>")
    for row in rows:
        for cell in row.values():
            assert not cell.startswith(("=", "+", "@"))


def test_current_gives_the_newest_of_each_tag(reader: httpx.Client) -> None:
    """One row a tag, and a cursor from which following goes on without a hole."""
    answer = reader.get("/api/v1/current").json()

    assert [row["path"].rsplit("/", 1)[-1] for row in answer["records"]] == sorted(name for name, *_ in TAGS)
    assert max(int(row["seq"]) for row in answer["records"]) == ROWS
    assert reader.get("/api/v1/records", params={"after": answer["next"]}).json()["records"] == []
    assert len(reader.get("/api/v1/current", params={"path": "*/Flow"}).json()["records"]) == 1


def test_current_says_that_a_value_is_no_present_one(tmp_path: Path) -> None:
    """While a link is down the newest record of its tags is the last one there was; the reader is told."""
    told = []
    with running_core(tmp_path) as core:
        fill(core, 5, T0)
        for end in (None, T0 + 19 * S):
            with core.store.transaction() as tx:
                tx.gap(Gap("pumps", (), T0 + 9 * S, end, GapCause.LINK_DOWN), Position(1, 1))
            rows = core.as_role("consumer").get("/api/v1/current").json()["records"]
            told.append({(row["quality"], row["gap_cause"], row["gap_from"]) for row in rows})

    assert told == [{("good", "link_down", rfc3339(T0 + 9 * S))}, {("good", None, None)}]


def test_tags_come_with_an_etag(reader: httpx.Client) -> None:
    """A client that has the tags already gets 304 and no body."""
    first = reader.get("/api/v1/tags")
    again = reader.get("/api/v1/tags", headers={"If-None-Match": first.headers["etag"]})

    assert [tag["path"] for tag in first.json()["tags"]][1] == f"{P101}/BearingTemp"
    assert "tag_id" not in first.json()["tags"][0]
    assert (again.status_code, again.content) == (304, b"")
    assert reader.get("/api/v1/tags", headers={"If-None-Match": '"x"'}).status_code == 200


def test_trend_breaks_at_gaps_and_bad_values(core: Core) -> None:
    """The points of a trend have nulls where a gap or a bad value lies, so that no line is drawn across."""
    tag_map = fill(core, 0)
    seconds = [s for s in range(60) if not 20 <= s < 40]
    status = [BAD_SENSOR_FAILURE if s == 10 else 0 for s in seconds]
    values = [math.nan if s == 10 else float(s) for s in seconds]
    times = [T0 + s * S for s in seconds]

    def command(tx: object) -> None:
        tx.records(batch(tag_map, [0] * len(seconds), times, values, status=status))  # type: ignore[attr-defined]
        gap = Gap("pumps", (), T0 + 20 * S, T0 + 40 * S, GapCause.LINK_DOWN, detail="cable")
        tx.gap(gap, Position(1, 2))  # type: ignore[attr-defined]

    core.write(command)
    query = {"path": f"{P101}/BearingTemp", "from_ms": T0 // 10**6, "to_ms": T0 // 10**6 + 60_000, "buckets": 60}

    answer = core.as_role("consumer").get("/api/v1/trend", params=query).json()

    points = {(p["at_ms"] - T0 // 10**6) / 1000: p["last"] for p in answer["points"]}
    assert list(points) == sorted(points)
    assert points[9] == 9.0
    assert points[10] is None
    assert points[19] == 19.0
    assert points[20.001] is None
    assert points[40] == 40.0
    assert all(value is None or second in seconds for second, value in points.items())
    assert [(gap["cause"], gap["from"], gap["to"]) for gap in answer["gaps"]] == [
        ("link_down", "2026-09-21T14:13:40.000000000Z", "2026-09-21T14:14:00.000000000Z")
    ]
    listed = core.as_role("consumer").get("/api/v1/gaps").json()["gaps"]
    assert listed[0]["detail"] == "cable"


def test_trend_of_nothing(reader: httpx.Client) -> None:
    """An unknown tag is 404, an empty span says which parameter is wrong."""
    answer = reader.get("/api/v1/trend", params={"path": "Acme/No", "from_ms": 0, "to_ms": 1})
    assert answer.status_code == 404
    assert "later than from_ms" in _refused(reader, "/api/v1/trend?path=x&from_ms=5&to_ms=5")


def test_quarantine_shows_raw_bytes_as_text(core: Core) -> None:
    """What nobody could use is shown repaired to text and cut, for people of the plant only."""
    raw = b'<b>\xff{"v": 1}' + b"x" * 4000
    core.write(lambda tx: tx.reject(Reject("pumps", "topic/a", "not JSON", raw, T0), Position(1, 1)))

    row = core.as_role("integrator").get("/api/v1/quarantine").json()["quarantine"][0]

    assert row["raw"].startswith('<b>\ufffd{"v": 1}')
    assert len(row["raw"]) == 500
    assert (row["place"], row["reason"]) == ("topic/a", "not JSON")


def test_sources_say_that_acquire_does_not_run(core: Core) -> None:
    """Without a fresh status file the state is unknown, and the rows in SQL are shown all the same."""
    fill(core, 7)
    answer = core.as_role("integrator").get("/api/v1/sources").json()

    source = answer["sources"][0]
    assert (source["name"], source["kind"], source["state"]) == ("pumps", "replay", "unknown")
    assert source["error"] == "acquire does not run"
    assert source["records"] == 7
    assert answer["journal"] is None
    assert answer["reasoning"].startswith("off")


def test_busy_store_is_503_and_says_when_to_come_back(core: Core) -> None:
    """A store that cannot be read is not a mistake of the reader."""
    fill(core, 1)
    client = core.as_role("consumer")
    assert client.get("/api/v1/records").status_code == 200
    core.store._read.dispose()
    path = core.services.config.data_dir / "store.db"
    path.rename(path.with_suffix(".moved"))
    path.mkdir()
    try:
        answer = client.get("/api/v1/records")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert "the store cannot answer now" in answer.json()["detail"]
        basic = core.client.get("/api/v1/records", auth=("mes", "x"))
        assert basic.status_code == 503
    finally:
        path.rmdir()
        path.with_suffix(".moved").rename(path)
