"""Shelving and maintenance through the journal: rows, audit, and the same again from the same journal."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from broker.journal import JournalFiles, JournalOptions, JournalWriter
from broker.store import Store
from schemas.entries import Link, MapInForce, Tick
from schemas.samples import SampleBatch
from schemas.suppression import Command
from schemas.tagmap import Equipment, Tag, TagMap
from tests.broker.core import stream
from tests.broker.core.stream import SECOND, T0

LINE = "Demo/Site/Line1"
#: What comes at each second: commands, and values of tags by number.
Script = dict[int, list[Command | dict[int, float]]]


def site(pumps: int, tags: int) -> TagMap:
    made = [
        Tag(
            number=p * tags + t,
            id=f"p{p}t{t}",
            path=f"{LINE}/P{p}/T{t}",
            source="plc",
            address="x",
            unit="1",
            range=(0.0, 100.0),
            equipment=f"{LINE}/P{p}",
        )
        for p in range(pumps)
        for t in range(tags)
    ]
    return TagMap(
        site="Demo/Site", tags=tuple(made), equipment=tuple(Equipment(path=f"{LINE}/P{p}") for p in range(pumps))
    )


def write(folder: Path, tag_map: TagMap, seconds: int, at: Script) -> None:
    """A journal of ticks; at the seconds of *at* come commands, and values of tags by number."""
    clock = stream.Clock()
    writer = JournalWriter(folder, JournalOptions(), now_ns=clock, mono_ns=clock)
    writer.open()
    futures = [writer.append(Link("plc", True)), writer.append(MapInForce(tag_map.revision, tag_map.body))]
    for second in range(seconds):
        clock.now_ns = T0 + second * SECOND
        for body in at.get(second, []):
            if isinstance(body, Command):
                futures.append(writer.append(body))
                continue
            times = [clock.now_ns] * len(body)
            batch = SampleBatch.build(
                "plc", tag_map.revision, clock.now_ns, tag=list(body), source_ns=times, value=list(body.values())
            )
            futures.append(writer.append(batch))
        futures.append(writer.append(Tick()))
    for future in futures:
        future.result(120)
    writer.close()


def process(folder: Path, store: Store, sizes: list[int], restart_after: int | None = None) -> None:
    with closing(JournalFiles(folder)) as files:
        journal = stream.Bundled(files, sizes)
        pipeline = stream.make_pipeline(store, journal)
        pipeline.restore()
        turns = 0
        while pipeline.run_once():
            turns += 1
            if restart_after is not None and turns % restart_after == 0:
                pipeline = stream.make_pipeline(store, journal)
                pipeline.restore()


def shelf(
    number: int, second: int, action: str = "shelve", target: str = f"{LINE}/P0", until: int | None = 60
) -> Command:
    until_ns = None if until is None else T0 + until * SECOND
    return Command(f"{number:032x}", action, "a.moreau", target, "", until_ns, "known", T0 + second * SECOND)  # type: ignore[arg-type]


DAY: Script = {
    5: [{0: 150.0, 2: 50.0}],
    20: [shelf(1, 20), shelf(1, 20)],
    25: [{1: 150.0}],
    30: [shelf(2, 29, "maintenance", f"{LINE}/P1", None)],
    40: [{2: 150.0}],
    70: [shelf(3, 70, "end", f"{2:032x}", None)],
    80: [shelf(4, 80, "end", f"{2:032x}", None)],
    90: [{0: 50.0, 1: 50.0, 2: 50.0}],
}


@pytest.fixture(scope="module")
def journal_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("journal")
    write(folder, site(2, 2), 130, DAY)
    return folder


def test_commands_take_effect_where_they_stand(
    journal_dir: Path, url: str | None, open_store: Callable[..., Store]
) -> None:
    """Episodes say why they are quiet, suppressions who and how many, the audit what happened when."""
    store = open_store(url)
    process(journal_dir, store, [512])
    reader = store.reader()

    told = [(a.anomaly.suppressed, a.anomaly.equipment[-2:], a.anomaly.ne107) for a in reader.anomalies()]
    assert told == [
        (None, "P1", "S"),
        (None, "P0", "S"),
        ("maintenance", "P1", "C"),
        ("shelved", "P0", "S"),
        (None, "P0", "S"),
    ]
    assert all(row.anomaly.state == "closed" for row in reader.anomalies())
    explained = {row.anomaly.suppressed for row in reader.anomalies() if row.annotation_id}
    assert explained == {None}
    maintenance, shelved = reader.suppressions()
    assert (maintenance.ended_by, maintenance.findings) == ("a.moreau", 1)
    assert (shelved.ended_by, shelved.ended_ns, shelved.findings) == ("", T0 + 60 * SECOND, 1)
    rows = [row for row in reversed(reader.audit()) if row.action != "map_in_force"]
    audit = [(row.actor, row.action, json.loads(row.detail)["detail"], row.at_ns) for row in rows]
    assert audit == [
        ("a.moreau", "shelf_began", "", T0 + 20 * SECOND),
        ("a.moreau", "maintenance_began", "", T0 + 30 * SECOND),
        ("fairlead", "shelf_ended", "its time is over", T0 + 60 * SECOND),
        ("a.moreau", "maintenance_ended", "known", T0 + 70 * SECOND),
        ("a.moreau", "suppression_refused", "it is over already", T0 + 80 * SECOND),
    ]
    assert reader.verify_audit() is None


@pytest.mark.parametrize(("sizes", "restart_after"), [([1], None), ([7, 64, 3], 3), ([13], 1)])
def test_same_journal_same_rows(journal_dir: Path, tmp_path: Path, sizes: list[int], restart_after: int | None) -> None:
    """However it is read, and wherever core begins again: episodes, suppressions and audit are the same."""

    def rows(name: str, sizes: list[int], restart_after: int | None = None) -> list[object]:
        with closing(stream.open_store(tmp_path / name)) as store:
            process(journal_dir, store, sizes, restart_after)
            reader = store.reader()
            audit = [(row.at_ns, row.action, row.detail) for row in reader.audit()]
            return [stream.dump(tmp_path / name), reader.suppressions(), audit]

    assert rows("b", sizes, restart_after) == rows("a", [512])


def test_flood_becomes_a_handful_of_anomalies(tmp_path: Path, open_store: Callable[..., Store]) -> None:
    """1,200 findings within a minute on six pumps are six anomalies in few revisions, each explained a few times."""
    tag_map = site(6, 200)
    order = np.random.default_rng(7).permutation(1200).reshape(60, 20).tolist()
    flood: dict[int, list[Command | dict[int, float]]] = {
        5 + i: [dict.fromkeys(tags, 150.0)] for i, tags in enumerate(order)
    }
    write(tmp_path / "journal", tag_map, 90, flood)
    store = open_store()
    process(tmp_path / "journal", store, [512])
    rows = store.reader().anomalies()
    assert sorted(row.anomaly.equipment[-2:] for row in rows) == [f"P{i}" for i in range(6)]
    assert sum(len(row.anomaly.members) for row in rows) == 1200
    assert max(row.anomaly.revision for row in rows) <= 12
    detail = store.reader().anomaly(rows[0].anomaly.anomaly_id)
    assert detail is not None
    assert len(detail.evidence) <= 12
    assert all(len(one.facts) <= 20 for one in detail.evidence)


def test_suppressions_outlive_a_state_that_cannot_be_read(tmp_path: Path) -> None:
    """They are in force in SQL, so they are in force: what falls under them asks nobody, and they end in their time."""
    tag_map = site(1, 2)
    until_ns = T0 + 40 * SECOND
    shelve = Command("a" * 32, "shelve", "a.moreau", f"{LINE}/P0/T0", "", until_ns, "known", T0)
    script: Script = {2: [shelve], 5: [{0: 150.0}], 10: [{0: 50.0}], 30: [{0: 150.0}]}
    write(tmp_path / "journal", tag_map, 60, script)
    with closing(stream.open_store(tmp_path)) as store, closing(JournalFiles(tmp_path / "journal")) as files:
        pipeline = stream.make_pipeline(store, stream.Bundled(files, [25]))
        pipeline.restore()
        pipeline.run_once()
        pipeline.save()
        with store.transaction() as tx:
            tx.save_stage("suppression.a.0", b"\xc1")
        fresh = stream.make_pipeline(store, files)
        fresh.restore()
        while fresh.run_once():
            pass
        [row] = store.reader().suppressions()
    assert (row.ended_ns, row.ended_by, row.findings) == (until_ns, "", 2)
