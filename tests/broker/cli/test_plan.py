"""``fairlead plan``: the map on disk against the one in force."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from broker.config import load_config
from broker.store import Store
from broker.tagmap import load
from tests.broker.store.plant import T0, batch

Fairlead = Callable[..., Any]
MakeSite = Callable[..., Path]
HEAD = "version: 1\ndefaults: {source: plc1}\ntags:\n"


@pytest.fixture
def site(make_site: MakeSite) -> Path:
    """A site whose map is in force, with a last value of each tag: Flow 5, Speed 1000."""
    path = make_site()
    config = load_config(path)
    tag_map = load(config)
    with closing(Store.open(config.store, config.data_dir, write=True)) as store:
        store.upgrade()
        with store.transaction() as tx:
            tx.use_map(tag_map.revision, tag_map)
            tx.records(batch(tag_map, [0, 1], [T0, T0], [5.0, 1000.0]))
    return path


def write(site: Path, *tags: str) -> None:
    text = HEAD + "".join(f"  - {{path: Acme/Lyon/A/{tag}}}\n" for tag in tags)
    (site.parent / "maps" / "a.yaml").write_text(text, encoding="utf-8")


def test_nothing_changes(fairlead: Fairlead, site: Path) -> None:
    """The map on disk is the one in force: exit 0 and one line."""
    said = fairlead("plan", "--config", str(site))
    assert (said.code, said.out.count("\n"), said.err) == (0, 1, "")
    assert said.out.startswith("nothing changes: the map on disk is the one in force, ")
    assert json.loads(fairlead("plan", "--config", str(site), "-o", "json").out)["equal"] is True


def test_a_change_shows_the_last_value_both_ways(fairlead: Fairlead, site: Path) -> None:
    """Scaled anew, another unit, renamed without an id: each is a line; nothing is written."""
    write(
        site,
        "Flow, address: '40002', type: float32, unit: L/s, source_unit: m3/h",
        "Drive, address: '40001', type: int16, unit: rpm",
    )
    before = sorted((file, file.stat().st_size) for file in (site.parent / "var").rglob("store.db"))
    said = fairlead("plan", "--config", str(site))
    assert (said.code, said.err) == (0, "")
    (unit,) = [line for line in said.out.splitlines() if line.startswith("unit ")]
    assert "m3/h -> L/s; what is stored keeps m3/h" in unit
    assert "5 m³/h" in unit
    assert "1.39 L/s" in unit or "1.389 L/s" in unit
    assert "renamed?" in said.out
    assert "give the tag id: t-" in said.out
    assert said.out.rstrip().endswith("a restart of fairlead run puts the map on disk into force")
    assert sorted((file, file.stat().st_size) for file in (site.parent / "var").rglob("store.db")) == before

    rows = json.loads(fairlead("plan", "--config", str(site), "-o", "json").out)
    assert (rows["equal"], rows["added"], rows["removed"], rows["changed"]) == (False, 1, 1, 1)
    (row,) = [row for row in rows["changes"] if row["change"] == "re-scaled"]
    assert row["last"] == {"value": 5.0, "unit": "m3/h", "source_ns": T0}
    assert row["becomes"] == {"value": pytest.approx(5 / 3.6), "unit": "L/s"}


def test_a_map_with_an_error_is_exit_78(fairlead: Fairlead, site: Path) -> None:
    """As for check, with the place."""
    write(site, "Flow, address: '40002', type: float32")
    said = fairlead("plan", "--config", str(site))
    assert said.code == 78
    assert "missing_unit" in said.err


def test_without_a_store_there_is_nothing_to_compare(fairlead: Fairlead, make_site: MakeSite) -> None:
    """Before the first start that is told, exit 0, and no store is made."""
    path = make_site()
    said = fairlead("plan", "--config", str(path))
    assert (said.code, said.err) == (0, "")
    assert said.out == f"no map was in force yet; {load(load_config(path)).revision.hex()[:12]} on disk has 2 tags\n"
    told = json.loads(fairlead("plan", "--config", str(path), "-o", "json").out)
    assert (told["in_force"], told["equal"], told["changes"]) == (None, False, [])
    assert not list(path.parent.rglob("store.db"))


def test_a_store_of_another_version_is_not_a_first_start(fairlead: Fairlead, site: Path) -> None:
    """There a map may be in force: exit 1, and what to do."""
    config = load_config(site)
    with closing(Store.open(config.store, config.data_dir, write=True)) as store, store.transaction() as tx:
        tx._connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'other'")
    said = fairlead("plan", "--config", str(site))
    assert (said.code, said.out) == (1, "")
    assert "fairlead db upgrade" in said.err
