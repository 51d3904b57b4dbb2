"""``fairlead journal``: figures, check and export of real files, also while a writer holds them."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.cli import store_access
from broker.config import load_config
from broker.journal import JournalOptions, JournalWriter
from schemas.entries import Link, MapInForce, Position, Tick
from schemas.samples import Gap, GapCause, Reject, SampleBatch
from schemas.status import Flag
from schemas.tagmap import Tag, TagMap

Fairlead = Callable[..., Any]
MakeSite = Callable[..., Path]
T0 = 1_790_000_000_000_000_000
S = 1_000_000_000
MAP = TagMap(
    site="Acme/Lyon",
    tags=(
        Tag(number=0, id="t0", path="Acme/Lyon/A/Speed", source="plc1", address="40001"),
        Tag(number=1, id="t1", path="Acme/Lyon/A/Text", source="plc1", address="40002"),
    ),
)


@pytest.fixture
def site(make_site: MakeSite, capsys: pytest.CaptureFixture[str]) -> Iterator[Path]:
    """A site whose journal is held open by a writer: 11:33:20 and one second later, two samples each."""
    path = make_site()
    now = [T0]
    options = JournalOptions.model_validate({"commit": {"every": "1ms"}})
    writer = JournalWriter(path.parent / "var" / "journal", options, now_ns=lambda: now[0], mono_ns=lambda: now[0])
    writer.open()
    writer.append(MapInForce(MAP.revision, MAP.body)).result(120)
    for step in range(2):
        now[0] = T0 + step * S
        batch = SampleBatch.build(
            "plc1",
            MAP.revision,
            now[0],
            tag=[0, 1],
            source_ns=[now[0], now[0] + 1],
            value=[1.5 + step, float("nan")],
            status=[0, 0x80000000],
            flags=[int(Flag.ARRIVAL_TIME), int(Flag.RETAINED | Flag.DUP_POSSIBLE)],
            exact={1: "=1+1" if step else 2**60},
        )
        writer.append(batch).result(120)
    writer.append(Gap("plc1", (0,), T0, T0 + S, GapCause.LINK_DOWN, map_revision=MAP.revision)).result(120)
    writer.append(Reject("plc2", "40009", "cannot be decoded", b"\x00\xff", T0)).result(120)
    writer.append(Link("plc1", False, "gone")).result(120)
    writer.append(Tick()).result(120)
    capsys.readouterr()  # what the writer said
    yield path
    writer.close()


def test_stats(fairlead: Fairlead, site: Path) -> None:
    """Both forms; every entry is pending, because no core has read it."""
    body = json.loads(fairlead("journal", "stats", "-c", str(site), "-o", "json").out)

    assert body["kinds"] == {"gap": 1, "link": 1, "map": 1, "reject": 1, "samples": 2, "tick": 1}
    assert body["sources"]["plc1"]["rows"] == body["rows"] == 4
    assert (body["seq"], body["core_seq"], body["backlog_entries"]) == (7, 0, 7)
    assert body["newest"] == "2026-09-21T14:13:21.000000000Z"
    said = fairlead("journal", "stats", "-c", str(site))
    assert said.code == 0
    assert "plc2" in said.out
    assert json.loads(fairlead("journal", "stats", "--quick", "-c", str(site), "-o", "json").out)["sources"] == {}


def test_stats_wait_for_the_store_as_other_commands(
    fairlead: Fairlead, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query that takes longer than a page waits is patiently waited for; one beyond that is told, not hidden."""
    config = load_config(site)
    assert config.store.query_limit < store_access.PATIENCE_S == store_access.patient(config).query_limit
    with store_access.writing(config) as store, store.transaction() as tx:
        tx.set_position(Position(1, 3))
    stats = ("journal", "stats", "-c", str(site), "-o", "json")
    said = fairlead(*stats)
    assert (json.loads(said.out)["core_seq"], "the store does not say" in said.err) == (3, False)

    monkeypatch.setattr(store_access, "patient", lambda _: config.store.model_copy(update={"query_limit": 0.1}))
    stray = sqlite3.connect(config.data_dir / "store.db", isolation_level=None)
    stray.execute("PRAGMA locking_mode=EXCLUSIVE")
    stray.execute("BEGIN EXCLUSIVE")
    said = fairlead(*stats)
    stray.close()
    assert (said.code, json.loads(said.out)["core_seq"]) == (0, 0)
    assert "fairlead: the store does not say how far core is, what it published counts: " in said.err


def test_verify(fairlead: Fairlead, site: Path) -> None:
    """Whole is exit 0; one changed byte is exit 1, with segment and offset."""
    assert fairlead("journal", "verify", "-c", str(site)).code == 0
    (segment,) = (site.parent / "var" / "journal").glob("*.seg")
    data = bytearray(segment.read_bytes())
    at = data.index(b"40009")
    data[at] ^= 1
    segment.write_bytes(data)

    said = fairlead("journal", "verify", "-c", str(site), "-o", "json")

    assert said.code == 1
    body = json.loads(said.out)
    assert body["whole"] is False
    damage = next(fault for fault in body["faults"] if fault["size"])
    assert damage["segment"] == segment.name
    assert damage["offset"] < at < damage["offset"] + damage["size"]
    assert segment.name in fairlead("journal", "verify", "-c", str(site)).out


def test_export_as_json_lines(fairlead: Fairlead, site: Path) -> None:
    """Values, status, flags and exact values as they were journalled; the other kinds beside them."""
    said = fairlead("journal", "export", "-c", str(site))
    rows = [json.loads(line) for line in said.out.splitlines()]

    assert said.code == 0
    assert [row["kind"] for row in rows] == ["sample"] * 4 + ["gap", "reject", "link"]
    assert (rows[0]["path"], rows[0]["value"], rows[0]["flags"]) == ("Acme/Lyon/A/Speed", 1.5, ["arrival_time"])
    assert (rows[1]["value"], rows[1]["exact"], rows[1]["status"]) == (None, str(2**60), "Bad")
    assert rows[1]["source_time"] == "2026-09-21T14:13:20.000000001Z"
    assert rows[3]["exact"] == "=1+1"
    assert rows[4]["detail"]["cause"] == "link_down"
    assert rows[5]["detail"]["raw"] == {"base64": "AP8="}


def test_export_of_a_span_as_csv(fairlead: Fairlead, site: Path, tmp_path: Path) -> None:
    """From is included, to is not; a text that a spreadsheet would run is defused; the file is named on request."""
    out = tmp_path / "a.csv"
    arguments = ["--from", "2026-09-21T14:13:21Z", "--to", "2026-09-21T16:13:22+02:00", "--kind", "samples"]
    said = fairlead("journal", "export", "-c", str(site), *arguments, "--format", "csv", "--out", str(out))
    rows = list(csv.DictReader(io.StringIO(out.read_text("utf-8"))))

    assert (said.code, said.out) == (0, "")
    assert [(row["path"], row["value"], row["exact"]) for row in rows] == [
        ("Acme/Lyon/A/Speed", "2.5", ""),
        ("Acme/Lyon/A/Text", "", "'=1+1"),
    ]
    assert rows[1]["flags"] == "dup_possible|retained" or rows[1]["flags"] == "retained|dup_possible"
    nothing = fairlead("journal", "export", "-c", str(site), "--to", "2026-09-21T14:13:20Z")
    assert nothing.out == ""


def test_export_of_one_source(fairlead: Fairlead, site: Path) -> None:
    """Only its entries; damage of the span is told on stderr and by the exit code, the rest is written."""
    said = fairlead("journal", "export", "-c", str(site), "--source", "plc2")
    assert [json.loads(line)["source"] for line in said.out.splitlines()] == ["plc2"]
    (segment,) = (site.parent / "var" / "journal").glob("*.seg")
    data = segment.read_bytes()
    segment.write_bytes(data.replace(b"40009", b"40008"))
    said = fairlead("journal", "export", "-c", str(site))
    assert said.code == 1
    assert len(said.out.splitlines()) == 6
    assert segment.name in said.err


@pytest.mark.parametrize("text", ["yesterday", "2026-09-21", "2026-09-21T14:13:21", "2026-13-01T00:00:00Z", "5m"])
def test_a_time_that_is_none(fairlead: Fairlead, site: Path, text: str) -> None:
    """A moment needs its offset; the message says how to write one."""
    said = fairlead("journal", "export", "-c", str(site), "--from", text)
    assert said.code == 2
    assert "--from" in said.err


def test_no_journal_yet(fairlead: Fairlead, make_site: MakeSite) -> None:
    """A sentence, exit 1, and nothing is made."""
    path = make_site()
    for command in ("stats", "verify", "export"):
        said = fairlead("journal", command, "-c", str(path))
        assert said.code == 1
        assert "no journal" in said.err
    assert not (path.parent / "var").exists()
