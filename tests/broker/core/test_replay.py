"""A mistake in the tag map, put right by a replay: both databases, refusals, revisions, live data beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker.core.pipeline import Pipeline
from broker.core.replay import Replay
from broker.core.replay_outcome import Outcome, ReplayRequest
from broker.core.writer import Writer
from broker.journal import JournalFiles, JournalOptions, JournalWriter
from broker.store import Store
from detectors.detection import Detection, DetectionOptions
from normalizers.normalizer import Normalizer
from normalizers.options import NormalizerOptions
from schemas.entries import MapInForce, Position, Tick
from schemas.errors import Refused
from schemas.samples import SampleBatch
from schemas.status import Flag
from schemas.tagmap import Tag, TagMap
from tests.broker.store.plant import rows_of

S = 1_000_000_000
T0 = 1_790_000_000 * S
SECONDS = 150
Opener = Callable[..., Store]


def tag_map(**changes: dict[str, Any]) -> TagMap:
    """Flow is 0.1 m3/h a count, Level has a deadband, Temp is plain; *changes* by name replace fields."""
    base: dict[str, dict[str, Any]] = {
        "Flow": {"factor": 0.1, "unit": "m3/h", "range": (0.0, 50.0)},
        "Level": {"factor": 1.0, "unit": "%", "deadband": 5.0},
        "Temp": {"unit": "Cel"},
    }
    tags = tuple(
        Tag(
            number=number,
            id=f"t-{name.lower()}",
            path=f"Acme/Lyon/A/{name}",
            source="plc2" if name == "Temp" else "plc",
            **{"address": f"4000{number}", **fields, **changes.get(name, {})},
        )
        for number, (name, fields) in enumerate(base.items())
    )
    return TagMap(site="Acme/Lyon", tags=tags)


WRONG = tag_map()
RIGHT = tag_map(Flow={"factor": 0.01}, Level={"factor": 2.0})


class Plant:
    """Writes a journal: per second one batch of Flow and Level and one of Temp."""

    def __init__(self, folder: Path) -> None:
        self.now_ns = T0
        options = JournalOptions.model_validate({"commit": {"every": "1ms"}})
        self.writer = JournalWriter(folder, options, now_ns=lambda: self.now_ns, mono_ns=lambda: self.now_ns)
        self.writer.open()
        self.step = 0

    def use(self, site: TagMap) -> None:
        self.writer.append(MapInForce(site.revision, site.body)).result(60)

    def run(self, site: TagMap, seconds: int) -> None:
        futures = []
        for _ in range(seconds):
            self.now_ns = T0 + self.step * S
            at = self.now_ns
            # one clock in fifty is not believed: the record bears the time of arrival
            own = [at - 3 * S, at - 2 * S] if self.step % 50 else [0, at - 2 * S]
            values = [1000.0 + self.step, float(self.step % 40)]
            futures.append(self.writer.append(batch("plc", site, at, [0, 1], own, values)))
            futures.append(self.writer.append(batch("plc2", site, at, [2], [at], [20.0])))
            futures.append(self.writer.append(Tick()))
            self.step += 1
        for future in futures:
            future.result(60)


def batch(source: str, site: TagMap, at: int, tag: list[int], source_ns: list[int], value: list[float]) -> SampleBatch:
    flags = np.zeros(len(tag), np.uint32) if source == "plc" else np.full(len(tag), int(Flag.ARRIVAL_TIME), np.uint32)
    return SampleBatch.build(source, site.revision, at, tag=tag, source_ns=source_ns, value=value, flags=flags)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def plant(folder: Path) -> Iterator[Plant]:
    """Five minutes under the wrong map."""
    made = Plant(folder)
    made.use(WRONG)
    made.run(WRONG, SECONDS)
    yield made
    made.writer.close()


@pytest.fixture
def store(open_store: Opener) -> Store:
    return open_store(None)


@pytest.fixture
def each_store(open_store: Opener, url: str | None) -> Store:
    """On SQLite and on PostgreSQL."""
    return open_store(url)


def pipeline(store: Store, files: JournalFiles) -> Pipeline:
    return Pipeline(store, files, Normalizer(NormalizerOptions()), Detection(DetectionOptions(enabled=False)))


def catch_up(store: Store, folder: Path) -> None:
    with closing(JournalFiles(folder)) as files:
        made = pipeline(store, files)
        made.restore()
        while made.run_once():
            pass
        made.save()


def request(**changes: Any) -> ReplayRequest:
    fields = {"from_ns": T0, "to_ns": T0 + 10 * SECONDS * S, "tag_map": RIGHT, "actor": "i.kaya", "reason": "factor"}
    return ReplayRequest(**{**fields, **changes})


def replay(store: Store, folder: Path, wanted: ReplayRequest, **changes: Any) -> Outcome:
    def write(command: Any) -> Any:
        with store.transaction() as tx:
            return command(tx)

    fields: dict[str, Any] = {"committed": store.position(), "keep_s": 90 * 86400.0, "write": write}
    job = Replay(folder, store.reader(), NormalizerOptions(), wanted, **{**fields, **changes})
    job.check()
    job.begin()
    return job.run()


COLUMNS = "tag, source_ns, value, status, flags, received_ns"


def shown(store: Store, view: str = "v_records", where: str = "") -> list[tuple[Any, ...]]:
    return rows_of(store, f"SELECT {COLUMNS} FROM {view} {where} ORDER BY tag, source_ns, value")


def rollups(store: Store) -> list[tuple[Any, ...]]:
    found = []
    for view in ("v_rollup_1m", "v_rollup_1h"):
        rows = rows_of(store, f"SELECT tag, bucket_ns, n, n_good, n_bad, min, max, mean, last FROM {view}")
        found += [(view, *row[:7], round(row[7], 9), row[8]) for row in rows]
    return sorted(found)


def as_if_right(open_store: Opener, tmp_path: Path) -> Store:
    """A store of the same plant whose map was right from the beginning."""
    made = Plant(tmp_path / "right")
    made.use(RIGHT)
    made.run(RIGHT, SECONDS)
    made.writer.close()
    store = open_store(None, "right-store")
    catch_up(store, tmp_path / "right")
    return store


def test_a_wrong_factor_is_put_right(
    each_store: Store, plant: Plant, folder: Path, open_store: Opener, tmp_path: Path
) -> None:
    """
    Views and roll-ups show what the right map would have shown; the history keeps what was.

    Flow has no deadband, so its rows are the same ones; Level's rows that replace a stored one are all there.
    """
    store = each_store
    catch_up(store, folder)
    before = shown(store, "v_records")
    right = as_if_right(open_store, tmp_path)

    outcome = replay(store, folder, request())

    assert outcome.corrected == {"Acme/Lyon/A/Flow", "Acme/Lyon/A/Level"}
    flow = "WHERE tag = 't-flow'"
    assert shown(store, where=flow) == shown(right, where=flow)
    assert {row[2] for row in shown(store, where="WHERE tag = 't-temp'")} == {20.0}
    assert rows_of(store, "SELECT count(*) FROM v_record_history WHERE revision = 0 AND tag = 't-flow'") == [(SECONDS,)]
    level = {row[1]: row[2] for row in shown(store, where="WHERE tag = 't-level'")}
    wanted = {row[1]: row[2] for row in shown(right, where="WHERE tag = 't-level'")}
    assert wanted.items() <= level.items()
    assert all(value == 2.0 * ((at - T0) // S + 2) % 80 for at, value in level.items())
    assert [r for r in rollups(store) if r[1] != "t-level"] == [r for r in rollups(right) if r[1] != "t-level"]
    assert shown(store, "v_record_history", "WHERE revision = 0") == before
    current = {row.record.path: row.record.value for row in store.reader().current()}
    assert current["Acme/Lyon/A/Flow"] == pytest.approx((1000 + SECONDS - 1) * 0.01)


def test_control_without_the_replay_the_views_are_wrong(
    store: Store, plant: Plant, folder: Path, open_store: Opener, tmp_path: Path
) -> None:
    """The negative control: the comparison finds the mistake."""
    catch_up(store, folder)
    right = as_if_right(open_store, tmp_path)
    assert shown(store, where="WHERE tag = 't-flow'") != shown(right, where="WHERE tag = 't-flow'")


def test_only_the_span_and_the_source(store: Store, plant: Plant, folder: Path) -> None:
    """Half-open in time of journalling; other sources and times stay as they are."""
    catch_up(store, folder)
    wanted = request(from_ns=T0 + 100 * S, to_ns=T0 + 110 * S, sources=("plc",))
    replay(store, folder, wanted)
    times = rows_of(
        store,
        "SELECT min(received_ns), max(received_ns), count(*) FROM v_records WHERE revision = 1 AND tag = 't-flow'",
    )
    assert times == [(T0 + 100 * S, T0 + 109 * S, 10)]
    with pytest.raises(Refused, match="nothing would change"):
        replay(store, folder, request(sources=("plc2",)))


def test_each_replay_has_the_next_revision(store: Store, plant: Plant, folder: Path) -> None:
    """A second correction wins over the first; going back to the first map is a correction, too."""
    catch_up(store, folder)
    flow = "SELECT DISTINCT value / (1000 + (received_ns - {t0}) / 1000000000) AS f FROM v_records WHERE tag = 't-flow'"
    factor = flow.format(t0=T0)
    assert replay(store, folder, request()).revision == 1
    assert {round(row[0], 9) for row in rows_of(store, factor)} == {0.01}
    assert replay(store, folder, request(tag_map=tag_map(Flow={"factor": 0.5}))).revision == 2
    assert {round(row[0], 9) for row in rows_of(store, factor)} == {0.5}
    assert replay(store, folder, request(tag_map=WRONG)).revision == 3
    assert {round(row[0], 9) for row in rows_of(store, factor)} == {0.1}
    assert [row.state for row in store.reader().replays()] == ["done"] * 3


def test_live_data_goes_on_beside_it(each_store: Store, plant: Plant, folder: Path, eventually_sync: Any) -> None:
    """Through the writer thread, while the plant runs under the corrected map: nothing lost, nothing doubled."""
    store = each_store
    files = JournalFiles(folder)
    writer = Writer(store, lambda: pipeline(store, files))
    writer.start()
    eventually_sync(lambda: store.position() >= plant.writer.status().position, 30)
    stop = threading.Event()
    plant.use(RIGHT)
    eventually_sync(lambda: store.reader().map() == RIGHT, 30)

    def live() -> None:
        for _ in range(30):
            if not stop.is_set():
                plant.run(RIGHT, 5)

    thread = threading.Thread(target=live)
    committed = store.position()
    thread.start()
    try:
        outcome = replay(
            store, folder, request(tag_map=None), committed=committed, write=lambda c: writer.submit(c).result(120)
        )
    finally:
        stop.set()
        thread.join()
    eventually_sync(lambda: store.position() >= plant.writer.status().position, 30)
    writer.stop()
    files.close()

    assert outcome.entries >= 2 * SECONDS
    values = [row[2] for row in shown(store, where="WHERE tag = 't-flow'")]
    assert len(values) == plant.step > SECONDS
    assert sorted(values) == pytest.approx([(1000 + n) * 0.01 for n in range(plant.step)])
    assert rows_of(store, "SELECT sum(n) FROM v_rollup_1h WHERE tag = 't-flow'") == [(plant.step,)]


def test_what_is_not_there_is_refused_with_what_is(store: Store, plant: Plant, folder: Path) -> None:
    """Before the journal, after it, an empty span, older than the store keeps: each says what to do."""
    catch_up(store, folder)
    for wanted, text in (
        (request(from_ns=T0 - S), "no longer in the journal; the journal holds 2026-09-21T14:13:20.0"),
        (request(from_ns=T0 + 9 * SECONDS * S), "nothing was journalled"),
        (request(to_ns=T0), "later than its begin"),
        (request(tag_map=tag_map(Flow={"unit": "l/s"})), "put the corrected map in force first"),
    ):
        with pytest.raises(Refused, match=text):
            replay(store, folder, wanted)
    with pytest.raises(Refused, match="would be removed again"):
        replay(store, folder, request(), keep_s=60.0)
    with pytest.raises(Refused, match="with this very map"):
        replay(store, folder, request(tag_map=None))
    assert rows_of(store, "SELECT count(*) FROM v_records WHERE revision > 0") == [(0,)]


def test_what_was_read_in_another_way_cannot_be_put_right(store: Store, plant: Plant, folder: Path) -> None:
    """A wrong address read another register: its rows stay, the outcome names the tag; others are corrected."""
    catch_up(store, folder)
    outcome = replay(
        store, folder, request(tag_map=tag_map(Flow={"factor": 1.0, "address": "40009"}, Level={"factor": 2.0}))
    )
    assert outcome.unreachable == {"Acme/Lyon/A/Flow"}
    assert outcome.corrected == {"Acme/Lyon/A/Level"}
    assert rows_of(store, "SELECT count(*) FROM v_records WHERE revision > 0 AND tag = 't-flow'") == [(0,)]
    with pytest.raises(Refused, match="address, type or byte order changed"):
        replay(store, folder, request(tag_map=tag_map(Flow={"address": "40009"}, Level={"address": "40008"})))


def test_it_goes_no_further_than_sql(store: Store, plant: Plant, folder: Path) -> None:
    """What core has not normalized yet will come under the map of its own time."""
    with closing(JournalFiles(folder)) as files:
        made = pipeline(store, files)
        made.restore()
        made.run_once()
    at = store.position()
    replay(store, folder, request())
    rows = rows_of(store, "SELECT count(*) FROM v_record_history WHERE tag = 't-flow' AND revision = 1")
    live = rows_of(store, "SELECT count(*) FROM v_record_history WHERE tag = 't-flow' AND revision = 0")
    assert rows == live
    assert store.position() == at


def test_audit_and_ledger(store: Store, plant: Plant, folder: Path) -> None:
    """Who, why, which span and what came of it; a failed one is there as well."""
    catch_up(store, folder)
    replay(store, folder, request())
    with pytest.raises(Refused):
        replay(store, folder, request(sources=("nobody",)))
    rows = store.reader().audit()
    assert [(row.action, row.object_id, row.actor) for row in reversed(rows)] == [
        ("map_in_force", WRONG.revision.hex(), "acquire"),
        ("replay_started", "1", "i.kaya"),
        ("replay_ended", "1", "i.kaya"),
        ("replay_started", "2", "i.kaya"),
        ("replay_ended", "2", "i.kaya"),
    ]
    failed, done = store.reader().replays()
    assert (failed.state, failed.detail) == ("failed", "no sample of these sources was journalled in the span")
    assert (done.state, done.rows, done.reason) == ("done", done.rows, "factor")
    assert done.map_revision == RIGHT.revision


def test_stopped_in_the_middle_and_run_again(store: Store, plant: Plant, folder: Path) -> None:
    """A replay that the end of the core cuts off leaves valid rows and roll-ups; the next one corrects the rest."""
    catch_up(store, folder)
    stop = threading.Event()
    writes = 0

    def write(command: Any) -> Any:
        nonlocal writes
        writes += 1
        if writes == 2:
            stop.set()
        with store.transaction() as tx:
            return command(tx)

    with pytest.raises(Refused, match="stopping"):
        replay(store, folder, request(), write=write, stop=stop)
    part = rows_of(store, "SELECT count(*) FROM v_records WHERE revision = 1 AND tag = 't-flow'")[0][0]
    assert 0 < part < SECONDS
    assert replay(store, folder, request()).revision == 2
    assert rows_of(store, "SELECT count(*) FROM v_records WHERE revision = 2 AND tag = 't-flow'") == [(SECONDS,)]
    assert rows_of(store, "SELECT sum(n) FROM v_rollup_1h WHERE tag = 't-flow'") == [(SECONDS,)]


def test_roll_ups_of_a_replay_that_was_cut_off(
    store: Store, plant: Plant, folder: Path, eventually_sync: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next core makes them when it has nothing else to do; until then they differ from the records."""
    monkeypatch.setattr("broker.core.writer.SETTLE_S", 0.05)
    catch_up(store, folder)
    stop = threading.Event()

    def write(command: Any) -> Any:
        with store.transaction() as tx:
            result = command(tx)
        if rows_of(store, "SELECT count(*) FROM stale_buckets")[0][0]:
            stop.set()  # the process ends right behind the first rows
        return result

    def minutes(view: str) -> list[tuple[Any, ...]]:
        bucket = "bucket_ns" if view == "v_rollup_1m" else "source_ns / 60000000000 * 60000000000"
        figures = "n, min" if view == "v_rollup_1m" else "count(*), min(value)"
        grouped = "" if view == "v_rollup_1m" else "GROUP BY 1"
        return sorted(rows_of(store, f"SELECT {bucket}, {figures} FROM {view} WHERE tag = 't-flow' {grouped}"))

    with pytest.raises(Refused, match="stopping"):
        replay(store, folder, request(), write=write, stop=stop)
    assert minutes("v_rollup_1m") != minutes("v_records")

    with closing(JournalFiles(folder)) as files:
        writer = Writer(store, lambda: pipeline(store, files))
        writer.submit(lambda tx: tx.interrupt_replays())
        writer.start()
        eventually_sync(lambda: not rows_of(store, "SELECT count(*) FROM stale_buckets")[0][0])
        writer.stop()
    assert minutes("v_rollup_1m") == minutes("v_records")
    assert rows_of(store, "SELECT n FROM v_rollup_1h WHERE tag = 't-flow'") == [(SECONDS,)]


def test_a_hole_in_the_journal_is_told(store: Store, plant: Plant, folder: Path, tmp_path: Path) -> None:
    """Damaged entries keep their old rows, and the outcome says so."""
    catch_up(store, folder)
    plant.writer.close()
    segment = next(iter(sorted(folder.glob("*.seg"))))
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    outcome = replay(store, folder, request(), committed=Position(2**40, 0))
    assert len(outcome.holes) == 1
    assert "missing" in outcome.text()


def numbers_by_unit(store: Store, view: str = "v_records") -> dict[str, tuple[int, int]]:
    """Rows of Flow by unit, and how many of them are a number."""
    found = rows_of(store, f"SELECT unit, count(*), count(value) FROM {view} WHERE tag = 't-flow' GROUP BY unit")
    return {unit: (rows, numbers) for unit, rows, numbers in found}


def test_a_wrong_unit_is_put_right(each_store: Store, plant: Plant, folder: Path) -> None:
    """
    The counts were litres a second all along: what was stored as m3/h is withdrawn, row by row, in views and roll-ups.

    Without a replay it stays what it was called; a second correction withdraws that of the first. One row withdraws all
    of its time: a device time that is not believed is that of arrival, which a later row has as its own.
    """
    store = each_store
    times = SECONDS - 3
    right = tag_map(Flow={"unit": "L/s"})
    plant.use(right)
    plant.run(right, 10)
    catch_up(store, folder)
    assert numbers_by_unit(store) == {"m3/h": (SECONDS, SECONDS), "L/s": (10, 10)}

    outcome = replay(store, folder, request(tag_map=None))

    assert (outcome.rows, outcome.withdrawn) == (SECONDS, times)
    assert f"{times} that were stored in another unit are withdrawn" in outcome.text()
    assert numbers_by_unit(store) == {"m3/h": (times, 0), "L/s": (SECONDS + 10, SECONDS + 10)}
    names = rows_of(store, "SELECT DISTINCT status_name FROM v_records WHERE tag = 't-flow' AND unit = 'm3/h'")
    assert names == [("BadConfigurationError",)]
    for table in ("v_rollup_1m", "v_rollup_1h"):
        counted = rows_of(store, f"SELECT unit, sum(n), sum(n_value) FROM {table} WHERE tag = 't-flow' GROUP BY unit")
        assert sorted(counted) == [("L/s", SECONDS + 10, SECONDS + 10), ("m3/h", times, 0)]
    assert numbers_by_unit(store, "v_record_history")["m3/h"] == (SECONDS + times, SECONDS)
    current = {row.record.path: (row.record.value, row.record.unit) for row in store.reader().current()}
    assert current["Acme/Lyon/A/Flow"] == (pytest.approx((1000 + SECONDS + 9) * 0.1), "L/s")

    once_more = tag_map(Flow={"unit": "L/min"})
    plant.use(once_more)
    plant.run(once_more, 5)
    catch_up(store, folder)
    replay(store, folder, request(tag_map=None))
    assert numbers_by_unit(store) == {
        "m3/h": (times, 0),
        "L/s": (times + 9, 0),
        "L/min": (SECONDS + 15, SECONDS + 15),
    }
