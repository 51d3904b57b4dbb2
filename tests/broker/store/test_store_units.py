"""A tag whose unit changes in the map: every number keeps the unit that it was made with, everywhere it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from broker.store import Store, StoreOptions, migrate
from schemas.tagmap import TagMap
from tests.broker.store.plant import PUMP, T0, S, batch, plant, rows_of
from tests.waiting import PATIENT_STORE

Opener = Callable[..., Store]
HOUR_NS = 3600 * S
PATH = f"{PUMP}/Tag0"
OTHER = f"{PUMP}/Tag1"


def in_unit(unit: str, **changes: Any) -> TagMap:
    """The plant with the first tag in another unit."""
    site = plant(2)
    first = site.tags[0].model_copy(update={"unit": unit, **changes})
    return site.model_copy(update={"tags": (first, *site.tags[1:])})


BAR, KPA = in_unit("bar"), in_unit("kPa")


def put(store: Store, site: TagMap, at_s: int, value: float) -> None:
    """Both tags say *value*."""
    with store.transaction() as tx:
        tx.use_map(site.revision, site)
        tx.records(batch(site, [0, 1], [T0 + at_s * S] * 2, [value] * 2))


@pytest.fixture
def changed(store: Store) -> Store:
    """5 bar, then 500 kPa, within one hour."""
    put(store, BAR, 0, 5.0)
    put(store, KPA, 30, 500.0)
    return store


def test_a_record_keeps_its_unit(changed: Store) -> None:
    """In the views, the pull and the current values."""
    said = [(PATH, "bar", 5.0), (PATH, "kPa", 500.0)]
    for view in ("v_records", "v_record_history"):
        assert rows_of(changed, f"SELECT path, unit, value FROM {view} WHERE tag = 't0' ORDER BY seq") == said
    reader = changed.reader()
    assert [(row.path, row.unit, row.value) for row in reader.records(after=0, limit=10, path=PATH)] == said
    assert [(row.record.unit, row.record.value) for row in reader.current(PATH)] == [("kPa", 500.0)]
    assert rows_of(changed, "SELECT unit, value FROM v_current WHERE tag = 't0'") == [("kPa", 500.0)]
    assert [(tag.id, tag.unit) for tag in reader.tags()] == [("t0", "kPa"), ("t1", "Cel")]


def test_a_rollup_belongs_to_one_unit(changed: Store) -> None:
    """The hour of the change has a row for each unit; of a tag that stayed the same it has one."""
    for table in ("v_rollup_1m", "v_rollup_1h"):
        found = rows_of(changed, f"SELECT tag, unit, n, mean FROM {table} ORDER BY tag, unit")
        assert found == [("t0", "bar", 1, 5.0), ("t0", "kPa", 1, 500.0), ("t1", "Cel", 2, 252.5)]


def test_a_trend_and_a_summary_never_mix_units(changed: Store) -> None:
    """The present unit, with a word of the other; the former one where it is asked for."""
    reader = changed.reader()
    span = (T0 - S, T0 + 60 * S)
    for unit, value, other in ((None, 500.0, "bar"), ("kPa", 500.0, "bar"), ("bar", 5.0, "kPa"), ("Pa", 500.0, "bar")):
        trend = reader.trend(PATH, *span, 10, unit)
        assert trend is not None
        assert [(point.min, point.max) for point in trend.points] == [(value, value)]
        assert (trend.unit, trend.other_units) == ("bar" if unit == "bar" else "kPa", (other,))
        summary = reader.summary(PATH, *span, unit)
        assert summary is not None
        assert (summary.mean, summary.n, summary.unit, summary.other_units) == (value, 1, trend.unit, (other,))
        last = reader.last_before(PATH, T0 + 60 * S, unit)
        assert last is not None
        assert (last.value, last.unit) == (value, trend.unit)
    with changed.transaction() as tx:
        window = tx.window(PATH, *span, upto=tx.next_seq)
        assert window.value.tolist() == [500.0]
    later = reader.trend(PATH, T0 + HOUR_NS, T0 + 2 * HOUR_NS, 10)
    assert later is not None
    assert later.other_units == ()
    same = reader.summary(OTHER, *span)
    assert same is not None
    assert (same.mean, same.n, same.other_units) == (252.5, 2, ())


def test_late_batches_of_the_former_map_keep_their_unit(changed: Store) -> None:
    """What was read under the old map and comes behind the new one, also after a restart."""
    with changed.transaction() as tx:
        tx.records(batch(BAR, [0], [T0 + 10 * S], [5.1]))
    assert rows_of(changed, "SELECT unit, value FROM v_records WHERE tag = 't0' ORDER BY source_ns") == [
        ("bar", 5.0),
        ("bar", 5.1),
        ("kPa", 500.0),
    ]


def test_a_unit_that_comes_back_goes_on(open_store: Opener, url: str | None) -> None:
    """bar, kPa, bar: two series, the present one is that of the map, also for a new process."""
    store = open_store(url)
    for turn, (site, value) in enumerate([(BAR, 5.0), (KPA, 500.0), (BAR, 5.2)]):
        put(store, site, 10 * turn, value)
    store.close()
    again = open_store(url)
    put(again, BAR, 30, 5.3)
    assert [(row.record.unit, row.record.value) for row in again.reader().current(PATH)] == [("bar", 5.3)]
    assert rows_of(again, "SELECT unit, n, max FROM v_rollup_1h WHERE tag = 't0' ORDER BY unit") == [
        ("bar", 3, 5.3),
        ("kPa", 1, 500.0),
    ]
    assert rows_of(again, "SELECT unit FROM v_current WHERE tag = 't0'") == [("bar",)]


def test_a_unit_that_comes_back_has_no_value_until_one_comes(changed: Store) -> None:
    """What was said before the other unit is not the present value; the other tag has its own."""
    with changed.transaction() as tx:
        tx.use_map(BAR.revision, BAR)
        tx.records(batch(BAR, [0], [T0 + 20 * S], [5.1]))  # late, from before
    assert [(row.record.unit, row.record.value) for row in changed.reader().current()] == [("Cel", 500.0)]
    assert rows_of(changed, "SELECT unit, value FROM v_current") == [("Cel", 500.0)]
    put(changed, BAR, 40, 5.2)
    assert [(row.record.unit, row.record.value) for row in changed.reader().current(PATH)] == [("bar", 5.2)]
    assert rows_of(changed, "SELECT unit, value FROM v_current WHERE tag = 't0'") == [("bar", 5.2)]


def test_a_map_that_comes_back_is_the_one_in_force(store: Store) -> None:
    """Whoever goes back to a former map has that one, not the mistake that came last."""
    for site in (BAR, KPA, BAR):
        with store.transaction() as tx:
            tx.use_map(site.revision, site)
    assert store.reader().map() == BAR


def test_what_it_had_in_another_unit_follows_a_rename(changed: Store) -> None:
    """History goes by the id, not by the path."""
    moved = in_unit("kPa", path=f"{PUMP}/Pressure")
    put(changed, moved, 40, 501.0)
    assert rows_of(changed, "SELECT DISTINCT path FROM v_records WHERE tag = 't0'") == [(f"{PUMP}/Pressure",)]
    assert [row.value for row in changed.reader().records(after=0, limit=9, path="*/Pressure")] == [5.0, 500.0, 501.0]


def test_a_tag_that_is_gone_keeps_one_current_value(changed: Store) -> None:
    """That of its last unit."""
    gone = plant(2).model_copy(update={"tags": (plant(2).tags[1].model_copy(update={"number": 0}),)})
    with changed.transaction() as tx:
        tx.use_map(gone.revision, gone)
    assert rows_of(changed, "SELECT unit FROM v_current WHERE tag = 't0'") == [("kPa",)]
    last = changed.reader().last_before(PATH, T0 + 60 * S)
    assert last is not None
    assert last.unit == "kPa"


@pytest.fixture(params=["sqlite", "postgresql"])
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store with the layout of before, with a map in bar and one in kPa, and one row of the tag."""
    url = None
    if request.param == "postgresql":
        import psycopg

        cluster = request.getfixturevalue("cluster")
        with psycopg.connect(cluster.format(name="postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE before_units")
        url = cluster.format(name="before_units")
    store = Store.open(StoreOptions.model_validate({"url": url, **PATIENT_STORE}), tmp_path, write=True)
    with store._writing() as connection:
        migrate.command.upgrade(migrate.config(connection), "0011")
        metadata = sa.MetaData()
        metadata.reflect(connection)
        table = metadata.tables
        for ordinal, site in enumerate((BAR, KPA), 1):
            row = {"revision": site.revision, "ordinal": ordinal, "body": site.body}
            connection.execute(table["maps"].insert().values(row))
        for tag in KPA.tags:
            named = {"id": tag.id, "path": tag.path, "source": tag.source, "address": tag.address, "unit": tag.unit}
            row = {**named, "tag_id": tag.number + 1, "equipment": tag.equipment, "description": "", "in_map": 1}
            connection.execute(table["tags"].insert().values(row))
        numbers = {"tag_id": 2, "map": 2, "record_seq": 1}
        for name, number in numbers.items():
            connection.execute(table["counters"].insert().values(name=name, value=number))
        row = {"seq": 1, "source_ts": T0, "tag_id": 1, "value": 500.0, "status": 0, "flags": 0, "received_ts": T0}
        connection.execute(table["records"].insert().values(**row, fingerprint=1))
    yield store
    store.close()


def test_a_store_of_before_is_taken_over(older: Store) -> None:
    """Its rows keep the unit that they were shown in; what an older map brings behind the upgrade has its own."""
    older.upgrade()
    with older.transaction() as tx:
        tx.records(batch(BAR, [0], [T0 + S], [5.1]))
        tx.records(batch(KPA, [0, 1], [T0 + 2 * S] * 2, [501.0, 20.0]))
    found = rows_of(older, "SELECT tag, unit, value FROM v_records ORDER BY source_ns, tag")
    assert found == [("t0", "kPa", 500.0), ("t0", "bar", 5.1), ("t0", "kPa", 501.0), ("t1", "Cel", 20.0)]
    assert rows_of(older, "SELECT unit, value FROM v_current ORDER BY unit") == [("Cel", 20.0), ("kPa", 501.0)]
    put(older, KPA, 3, 502.0)
    assert [(row.record.unit, row.record.value) for row in older.reader().current(PATH)] == [("kPa", 502.0)]


def test_control_one_number_a_tag_would_mix_units(changed: Store) -> None:
    """The negative control: what the views said while a tag had one row and the map overwrote its unit."""
    with changed._read.connect() as connection:
        mean = connection.execute(
            sa.text("SELECT avg(r.value) FROM records r JOIN tags t USING (tag_id) WHERE id='t0'")
        )
        assert mean.scalar() == 252.5
