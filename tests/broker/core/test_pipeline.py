"""The deterministic half: the same journal gives the same rows, bit for bit, however it is read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from broker.api.record_rows import records_json
from broker.core import snapshot
from broker.journal import JournalFiles, JournalOptions, JournalWriter
from broker.store.rollups import MINUTE_NS
from normalizers.clock import SourceClock
from normalizers.normalizer import Normalizer
from schemas.alarms import Event
from schemas.entries import Link, MapInForce, Notice, Position, Tick
from schemas.records import RecordBatch
from schemas.samples import Exact, SampleBatch
from schemas.status import Flag
from schemas.tagmap import Tag, TagMap
from tests.broker.core import stream


@pytest.fixture(scope="module")
def journal_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("journal")
    stream.write_journal(folder)
    return folder


def _run(
    journal_dir: Path, home: Path, sizes: list[int], restart_after: int | None = None
) -> dict[str, list[tuple[object, ...]]]:
    """Process the whole journal; with *restart_after* the pipeline is thrown away after so many bundles each time."""
    with closing(stream.open_store(home)) as store, closing(JournalFiles(journal_dir)) as files:
        journal = stream.Bundled(files, sizes)
        pipeline = stream.make_pipeline(store, journal)
        pipeline.restore()
        turns = 0
        while pipeline.run_once():
            turns += 1
            if restart_after is not None and turns % restart_after == 0:
                pipeline = stream.make_pipeline(store, journal)
                pipeline.restore()
    return stream.dump(home)


def test_the_stream_becomes_rows(journal_dir: Path, tmp_path: Path) -> None:
    """Every sample is a record; gap, reject and an explained anomaly on the pump are there."""
    rows = _run(journal_dir, tmp_path, [512])

    assert len(rows["records"]) == 120 * 5 * len(stream.SIGNALS)
    assert len(rows["gaps"]) == 1
    assert len(rows["quarantine"]) == 1
    assert len(rows["anomalies"]) >= 1
    assert len(rows["evidence"]) >= 1
    assert any("bearing_wear" in str(row) for row in rows["annotations"])


def test_the_clock_of_a_source_is_kept_minute_by_minute(tmp_path: Path) -> None:
    """Set ahead by 12 s from second 130 to 170: that minute and the next say so; minutes of silence have no row."""
    clock, site = stream.Clock(), stream.tag_map()
    begin = stream.T0 // MINUTE_NS * MINUTE_NS
    with closing(JournalWriter(tmp_path / "journal", JournalOptions(), now_ns=clock, mono_ns=clock)) as writer:
        writer.open()
        futures = [writer.append(MapInForce(site.revision, site.body))]
        for second in range(600):
            clock.now_ns = begin + second * stream.SECOND
            if second < 300:
                ahead = 12 if 130 <= second < 170 else 0
                at = clock.now_ns + ahead * stream.SECOND
                batch = SampleBatch.build("plc", site.revision, clock.now_ns, tag=[0], source_ns=[at], value=[1.0])
                futures.append(writer.append(batch))
            futures.append(writer.append(Tick()))
        for future in futures:
            future.result(120)
    with closing(stream.open_store(tmp_path / "home")) as store, closing(JournalFiles(tmp_path / "journal")) as files:
        pipeline = stream.make_pipeline(store, files)
        pipeline.restore()
        while pipeline.run_once():
            pass
    with closing(sqlite3.connect(tmp_path / "home" / "store.db")) as connection:
        text = "SELECT source, (minute_ns - ?) / ?, ahead_ns, beyond_limit FROM v_source_clocks ORDER BY minute_ns"
        rows = connection.execute(text, (begin, MINUTE_NS)).fetchall()
    off = 12 * stream.SECOND
    assert rows == [("plc", minute, off if minute in (2, 3) else 0, int(minute in (2, 3))) for minute in range(5)]


def test_closing_leaves_the_explanation(journal_dir: Path, tmp_path: Path) -> None:
    """When an episode closes, its tags are normal again: the explanation of what happened stays the newest."""
    rows = _run(journal_dir, tmp_path, [512])
    with sqlite3.connect(tmp_path / "store.db") as connection:
        states = connection.execute("SELECT anomaly_id, state FROM anomalies").fetchall()
        explained = connection.execute(
            "SELECT e.anomaly_id, json_extract(r.body, '$.state') FROM evidence e JOIN anomaly_revisions r "
            "ON r.anomaly_id = e.anomaly_id AND r.revision = e.anomaly_revision"
        ).fetchall()
        newest = connection.execute("SELECT cause_id FROM annotations ORDER BY ordinal DESC LIMIT 1").fetchone()
    connection.close()

    assert rows["anomalies"]
    assert {state for _, state in states} == {"closed"}
    assert {state for _, state in explained} == {"open"}
    assert newest == ("bearing_wear",)


@pytest.mark.parametrize("sizes", [[1], [7, 64, 3], [511, 2]])
def test_other_bundles_same_rows(journal_dir: Path, tmp_path: Path, sizes: list[int]) -> None:
    """A slow and a fast reader of one journal write the same rows, bit for bit."""
    whole = _run(journal_dir, tmp_path / "a", [512])

    assert _run(journal_dir, tmp_path / "b", sizes) == whole


@pytest.mark.parametrize("restart_after", [1, 3])
def test_restarts_same_rows(journal_dir: Path, tmp_path: Path, restart_after: int) -> None:
    """Stages that are thrown away and restored between commits write the same rows: nothing lost, nothing doubled."""
    whole = _run(journal_dir, tmp_path / "a", [512])

    assert _run(journal_dir, tmp_path / "b", [40, 41], restart_after) == whole


def test_restarts_while_a_state_is_being_written_same_rows(
    journal_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state of many parts takes several bundles: what a restart leaves half written is never taken for a state."""
    whole = _run(journal_dir, tmp_path / "a", [512])
    monkeypatch.setattr(snapshot, "PART", 500)

    assert _run(journal_dir, tmp_path / "b", [3, 4], 5) == whole


def test_the_head_of_a_state_holds_no_tag_map(journal_dir: Path, tmp_path: Path) -> None:
    """It is one row, written whole: of a map it has the revision, and a restart finds the body in SQL."""
    with closing(stream.open_store(tmp_path)) as store, closing(JournalFiles(journal_dir)) as files:
        pipeline = stream.make_pipeline(store, stream.Bundled(files, [512]))
        pipeline.restore()
        while pipeline.run_once():
            pass
        pipeline.save()
        head = store.stage(snapshot.HEAD)
        again = stream.make_pipeline(store, stream.Bundled(files, [512]))
        again.restore()

    assert head is not None
    assert stream.tag_map().body not in head
    assert len(head) < len(stream.tag_map().body)
    assert stream.tag_map().revision in head
    assert [tag_map.revision for tag_map in again.stages.maps[-1:]] == [stream.tag_map().revision]


def test_the_head_of_an_older_state_is_read(journal_dir: Path, tmp_path: Path) -> None:
    """It holds the bodies of its maps."""
    with closing(stream.open_store(tmp_path)) as store, closing(JournalFiles(journal_dir)) as files:
        pipeline = stream.make_pipeline(store, stream.Bundled(files, [512]))
        pipeline.restore()
        pipeline.run_once()
        pipeline.save()
        head = msgspec.msgpack.decode(store.stage(snapshot.HEAD) or b"")
        del head["map_revisions"]
        with store.transaction() as tx:
            tx.save_stage(snapshot.HEAD, msgspec.msgpack.encode({**head, "maps": [stream.tag_map().body]}))
        again = stream.make_pipeline(store, stream.Bundled(files, [512]))
        again.restore()

    assert again.stages.maps[-1].revision == stream.tag_map().revision
    assert again.position == pipeline.position


def test_without_restore_rows_differ(journal_dir: Path, tmp_path: Path) -> None:
    """Negative control: stages that start empty in the middle of the stream do not give the same anomalies."""
    whole = _run(journal_dir, tmp_path / "a", [512])
    with closing(stream.open_store(tmp_path / "b")) as store, closing(JournalFiles(journal_dir)) as files:
        journal = stream.Bundled(files, [330])
        pipeline = stream.make_pipeline(store, journal)
        pipeline.restore()
        pipeline.run_once()
        fresh = stream.make_pipeline(store, journal)
        fresh.stages.read_to = pipeline.position
        fresh.stages.use_map(stream.tag_map(), None)
        while fresh.run_once():
            pass

    assert stream.dump(tmp_path / "b")["evidence"] != whole["evidence"]


class Poisoned(stream.Bundled):
    """A journal in which one batch has columns of different lengths."""

    BAD_SEQ = 141

    def read(self, after: Position, limit: int = 1000) -> list[stream.Entry]:
        return [self._poison(entry) if entry.seq == self.BAD_SEQ else entry for entry in super().read(after, limit)]

    def _poison(self, entry: stream.Entry) -> stream.Entry:
        assert isinstance(entry.body, SampleBatch)
        return replace(entry, body=replace(entry.body, value=entry.body.value[:1]))


def test_position_commits_with_the_rows(journal_dir: Path, tmp_path: Path) -> None:
    """A bundle that fails in the middle leaves neither rows nor position behind."""
    with closing(stream.open_store(tmp_path)) as store, closing(JournalFiles(journal_dir)) as files:
        pipeline = stream.make_pipeline(store, stream.Bundled(files, [100, 101]))
        pipeline.restore()
        pipeline.run_once()
        before = store.position()
        poisoned = stream.make_pipeline(store, Poisoned(files, [90]))
        poisoned.restore()
        with pytest.raises((IndexError, ValueError)):
            poisoned.run_once()
        after = store.position()

    assert after == before
    assert before > Position(0, 0)


def test_entry_that_cannot_be_processed_is_quarantined(journal_dir: Path, tmp_path: Path) -> None:
    """One poisoned entry becomes a quarantine row; everything behind it is stored, also after a restart."""
    with closing(stream.open_store(tmp_path)) as store, closing(JournalFiles(journal_dir)) as files:
        journal = Poisoned(files, [50, 200])
        pipeline = stream.make_pipeline(store, journal)
        pipeline.restore()
        failures = 0
        while True:
            try:
                if not pipeline.run_once():
                    break
            except (IndexError, ValueError) as error:
                failures += 1
                failed = pipeline.stages.at
                assert failed is not None
                pipeline = stream.make_pipeline(store, journal)
                pipeline.refuse(failed, repr(error))
                pipeline.restore()
        again = stream.make_pipeline(store, journal)
        again.restore()

        assert again.position == store.position()
    rows = stream.dump(tmp_path)
    samples = 120 * 5 * len(stream.SIGNALS)
    assert failures == 1
    assert len(rows["quarantine"]) == 2
    assert len(rows["records"]) == samples - len(stream.SIGNALS)


def test_unknown_map_is_one_gap(tmp_path: Path) -> None:
    """Batches of a map that the journal does not hold are one open gap of their source, not one each."""
    folder = tmp_path / "journal"
    stream.write_journal(folder, seconds=4, mapped=False)
    with closing(stream.open_store(tmp_path / "s")) as store, closing(JournalFiles(folder)) as files:
        pipeline = stream.make_pipeline(store, files)
        pipeline.restore()
        while pipeline.run_once():
            pass
    rows = stream.dump(tmp_path / "s")
    assert rows["records"] == []
    assert sorted(str(row) for row in rows["gaps"] if "unknown_map" in str(row)) != []
    assert len(rows["gaps"]) == 2


def test_damaged_stage_state_does_not_stop_the_core(journal_dir: Path, tmp_path: Path) -> None:
    """A stage whose saved state cannot be read begins anew; records go on."""
    with closing(stream.open_store(tmp_path)) as store, closing(JournalFiles(journal_dir)) as files:
        pipeline = stream.make_pipeline(store, stream.Bundled(files, [300]))
        pipeline.restore()
        pipeline.run_once()
        pipeline.save()
        with store.transaction() as tx:
            tx.save_stage("detection.a.0", b"\xc1")
        fresh = stream.make_pipeline(store, files)
        fresh.restore()
        while fresh.run_once():
            pass
    assert len(stream.dump(tmp_path)["records"]) == 120 * 5 * len(stream.SIGNALS)


def test_notices_of_acquire_are_in_the_audit_once(tmp_path: Path) -> None:
    """With the time of the journal, however often the stages are restored."""
    writer = JournalWriter(tmp_path / "journal", JournalOptions())
    writer.open()
    writer.append(Notice("clock_jumped", "this host's clock moved by +3600.000 s")).result(120)
    writer.append(Tick()).result(120)
    writer.close()
    with closing(stream.open_store(tmp_path / "s")) as store, closing(JournalFiles(tmp_path / "journal")) as files:
        for _ in range(3):
            pipeline = stream.make_pipeline(store, files)
            pipeline.restore()
            while pipeline.run_once():
                pass
        rows = store.reader().audit()
        (entry, _) = JournalFiles(tmp_path / "journal").read(Position(0, 0))
        fault = store.reader().verify_audit()
    assert [(row.actor, row.action, row.at_ns) for row in rows] == [("acquire", "clock_jumped", entry.wall_ns)]
    assert fault is None


def test_events_are_rows_once(tmp_path: Path) -> None:
    """However often a server told them, and however often the stages are restored."""
    event = Event("plc", "i=2253", stream.P101, b"1", "i=2915", "", "", "P101", stream.T0, None, stream.T0, 500, "hot")
    writer = JournalWriter(tmp_path / "journal", JournalOptions())
    writer.open()
    for body in (event, replace(event, event_id=b"2"), Tick(), event, Tick()):
        writer.append(body).result(120)
    writer.close()
    with closing(stream.open_store(tmp_path / "s")) as store, closing(JournalFiles(tmp_path / "journal")) as files:
        for sizes in ([1], [3], [512]):
            pipeline = stream.make_pipeline(store, stream.Bundled(files, sizes))
            pipeline.restore()
            while pipeline.run_once():
                pass
        rows = store.reader().newest_events(limit=10).rows
        with store.transaction() as tx:
            assert tx.next_seq == 1, "no record"
    assert [(row.seq, row.event_id, row.equipment) for row in rows] == [(1, "31", stream.P101), (2, "32", stream.P101)]


@pytest.mark.parametrize("identity", [True, False])
def test_polls_at_the_same_times_after_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, identity: bool
) -> None:
    """Every one is a row, although time, tag and value are those of before; the control loses the second half."""
    if not identity:
        monkeypatch.setattr(SourceClock, "bases", lambda *_: None)
    site = stream.tag_map()
    clock = stream.Clock()
    writer = JournalWriter(tmp_path / "journal", JournalOptions(), now_ns=clock, mono_ns=clock)
    writer.open()
    futures = [writer.append(MapInForce(site.revision, site.body))]
    tags = len(stream.SIGNALS)
    flags = np.full(tags, int(Flag.ARRIVAL_TIME), np.uint32)
    for _ in range(2):
        for second in range(20):
            at = stream.T0 + second * stream.SECOND
            batch = SampleBatch.build(
                "plc",
                site.revision,
                at,
                tag=range(tags),
                source_ns=range(at, at + tags),
                value=[1.0] * tags,
                flags=flags,
            )
            futures.append(writer.append(batch))
    for future in futures:
        future.result(120)
    writer.close()
    rows = _run(tmp_path / "journal", tmp_path / "s", [7])["records"]
    assert len(rows) == (2 if identity else 1) * 20 * tags


def _many_sources(folder: Path, *, awkward: bool) -> int:
    """
    A journal of three sources with neighbouring batches; the number of its samples.

    Where *awkward*, some rows are late, some device times lie in the future, tags repeat, and one batch is of an
    unknown map.
    """
    tags = tuple(
        Tag(
            number=i,
            id=f"t{i}",
            path=f"Acme/Lyon/Line{i % 3}/Tag{i}",
            source=f"plc{i % 3}",
            address=str(i),
            type="float64",
            scan_ms=1000,
            unit="1",
            range=(-40.0, 40.0) if i % 4 == 0 else None,
            deadband=0.5 if i % 5 == 0 else 0.0,
            role="sp" if i == 7 else None,
            flatline_after_ms=3000 if i == 8 else None,
            rate_limit=30.0 if i == 10 else None,
        )
        for i in range(30)
    )
    site = TagMap(site="Acme/Lyon", tags=tags)
    chance = np.random.default_rng(5)
    clock = stream.Clock()
    writer = JournalWriter(folder, JournalOptions(), now_ns=clock, mono_ns=clock)
    writer.open()
    futures = [writer.append(Link(f"plc{i}", True)) for i in range(3)]
    futures.append(writer.append(MapInForce(site.revision, site.body)))
    samples = 0
    for second in range(60):
        for turn in range(9):
            clock.now_ns = stream.T0 + second * stream.SECOND + turn * 100_000_000
            source = turn % 3
            numbers = np.arange(source, 30, 3, dtype=np.int32)[(turn // 3) * 3 : (turn // 3) * 3 + 4]
            times = clock.now_ns - np.arange(len(numbers)) * 1000
            value = chance.normal(0, 12, len(numbers)).round(1)
            value[numbers == 8] = 1.0
            value[numbers == 7] = second // 20
            exact: dict[int, Exact] = {0: "text"} if turn == 4 and second % 7 == 0 else {}
            revision = site.revision
            if awkward:
                times[chance.random(len(times)) < 0.03] -= 5 * stream.SECOND
                times[chance.random(len(times)) < 0.02] += 900 * stream.SECOND
                if second == 30 and turn == 5:
                    revision = b"\x07" * 16
                if turn == 8 and second % 4 == 0:
                    numbers = np.repeat(numbers[:1], len(numbers))
            batch = SampleBatch.build(
                f"plc{source}",
                revision,
                clock.now_ns,
                tag=numbers,
                source_ns=times,
                server_ns=times + 1 if second % 2 else None,
                value=value,
                status=chance.choice([0, 0, 0, 0, 0x40000000, 0x80000000], len(numbers)),
                exact=exact,
            )
            samples += len(numbers)
            futures.append(writer.append(batch))
        clock.now_ns = stream.T0 + (second + 1) * stream.SECOND - 1
        futures.append(writer.append(Tick()))
    for future in futures:
        future.result(120)
    writer.close()
    return samples


@pytest.mark.parametrize("awkward", [False, True])
def test_batches_taken_together_give_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, awkward: bool
) -> None:
    """Neighbouring batches of several sources through the stages at once, or one by one: the same database."""
    folder = tmp_path / "journal"
    samples = _many_sources(folder, awkward=awkward)
    joined: list[int] = []
    join = Normalizer.join

    def counted(self: Normalizer, batches: Sequence[SampleBatch], positions: Sequence[Position]) -> RecordBatch | None:
        made = join(self, batches, positions)
        joined.append(0 if made is None else len(batches))
        return made

    monkeypatch.setattr(Normalizer, "join", counted)
    together = _run(folder, tmp_path / "together", [512])
    assert sum(joined) > samples / 4 / (4 if awkward else 2)
    assert not awkward or 0 in joined
    monkeypatch.setattr("broker.core.stages.groups", lambda entries: [[entry] for entry in entries])
    alone = _run(folder, tmp_path / "alone", [512])
    assert together == alone
    assert len(together["anomalies"]) >= 1
    assert _run(folder, tmp_path / "alone and cut", [5, 17, 2], restart_after=9) == alone


def test_control_another_order_of_rows_would_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above notices batches that are joined in the wrong order."""
    folder = tmp_path / "journal"
    _many_sources(folder, awkward=False)
    alone = _run(folder, tmp_path / "a", [512])
    joined = SampleBatch.joined
    monkeypatch.setattr(SampleBatch, "joined", lambda parts: joined([*parts[1:], parts[0]]))
    assert _run(folder, tmp_path / "b", [512]) != alone


def test_a_map_in_force_since_an_older_version_gives_types(tmp_path: Path) -> None:
    """From the start on, though nobody changes the map: what was stored before keeps what it had."""
    site = stream.tag_map()
    named = site.tags[0].model_copy(update={"type": "uint16", "enum": {1: "Running"}})
    site = site.model_copy(update={"tags": (named, *site.tags[1:])})
    clock, home = stream.Clock(), tmp_path / "home"
    with closing(JournalWriter(tmp_path / "journal", JournalOptions(), now_ns=clock, mono_ns=clock)) as writer:
        writer.open()

        def written() -> None:
            clock.now_ns += stream.SECOND
            times = [clock.now_ns] * 2
            batch = SampleBatch.build("plc", site.revision, clock.now_ns, tag=[0, 1], source_ns=times, value=[1.0] * 2)
            for entry in (MapInForce(site.revision, site.body), batch):
                writer.append(entry).result(120)

        with closing(stream.open_store(home)) as store, closing(JournalFiles(tmp_path / "journal")) as files:

            def processed() -> None:
                pipeline = stream.make_pipeline(store, files)
                pipeline.restore()
                while pipeline.run_once():
                    pass

            written()
            processed()
            # as the migration leaves them: of the map then, the texts alone
            with closing(sqlite3.connect(home / "store.db")) as connection, connection:
                connection.execute("DELETE FROM tag_meanings")
                connection.execute("""INSERT INTO tag_meanings VALUES (1, 0, 0, '{"enum":{"1":"Running"}}')""")
            for _ in range(2):
                written()
                processed()
            rows = records_json(store.reader().records(after=0, limit=9))
            with closing(sqlite3.connect(home / "store.db")) as connection:
                kept = connection.execute("SELECT count(*) FROM tag_meanings").fetchone()

    types = [(row["type"], row["enum_text"]) for row in rows if row["path"].endswith("BearingTemp")]
    assert types == [("float64", "Running"), ("uint16", "Running"), ("uint16", "Running")]
    assert kept == (1 + len(site.tags),)


def test_a_map_that_takes_effect_is_in_the_audit_once(tmp_path: Path) -> None:
    """With who, when and what; a restart with the same map says nothing."""
    first = stream.tag_map()
    second = first.model_copy(
        update={"tags": (first.tags[0].model_copy(update={"unit": "K", "path": "Acme/X"}), *first.tags[1:-1])}
    )
    with closing(JournalWriter(tmp_path / "journal", JournalOptions())) as writer:
        writer.open()
        for site, actor in ((first, ""), (first, "account lyon"), (second, "account lyon")):
            writer.append(MapInForce(site.revision, site.body, actor)).result(120)
            writer.append(Tick()).result(120)
    with closing(stream.open_store(tmp_path / "s")) as store, closing(JournalFiles(tmp_path / "journal")) as files:
        for _ in range(2):
            pipeline = stream.make_pipeline(store, files)
            pipeline.restore()
            while pipeline.run_once():
                pass
            pipeline.save()
        rows = store.reader().audit(action="map_in_force")
        entries = [entry for entry in files.read(Position(0, 0)) if isinstance(entry.body, MapInForce)]
    assert [(row.actor, row.object_id, row.at_ns) for row in rows] == [
        ("account lyon", second.revision.hex(), entries[2].wall_ns),
        ("acquire", first.revision.hex(), entries[0].wall_ns),
    ]
    later, begin = (json.loads(row.detail) for row in rows)
    tags = len(first.tags)
    assert (begin["before"], begin["tags"], begin["added"], begin["changes"]) == (None, tags, tags, [])
    assert (later["before"], later["tags"]) == (first.revision.hex(), tags - 1)
    assert (later["added"], later["removed"], later["renamed"], later["changed"]) == (0, 1, 1, 1)
    assert any("-> K; what is stored keeps" in text for text in later["changes"])
