"""The rows of the audit that ``fairlead audit list`` shows, and those of the configuration in force."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from broker.config import load_config
from broker.config.applied import applied, changed, digest
from broker.core.configured import note_configuration
from broker.store import Store

Fairlead = Callable[..., Any]
MakeSite = Callable[..., Path]


@pytest.fixture
def site(make_site: MakeSite) -> Path:
    """A site with an empty store."""
    path = make_site()
    config = load_config(path)
    with closing(Store.open(config.store, config.data_dir, write=True)) as store:
        store.upgrade()
    return path


def test_the_audit_tells_of_a_configuration_that_changed(fairlead: Fairlead, site: Path) -> None:
    """The first whole, the next by what differs, and no row where nothing differs; no secret is in it."""
    config = load_config(site)
    text = site.read_text(encoding="utf-8")
    with closing(Store.open(config.store, config.data_dir, write=True)) as store:
        for more in ("", "", "journal: {keep: 12h}\n"):
            site.write_text(text + more, encoding="utf-8")
            with store.transaction() as tx:
                note_configuration(tx, applied(load_config(site)), "account lyon")
    said = fairlead("audit", "list", "--action", "configuration_in_force", "--config", str(site), "-o", "json")
    later, first = json.loads(said.out)
    options = first["detail"]["options"]
    assert (options["sources.plc1.host"], options["site.path"]) == ("127.0.0.1", "Acme/Lyon")
    assert first["object_id"] == digest(options)
    assert later["detail"]["changed"] == {"journal.keep": [options["journal.keep"], 43200.0]}
    assert (later["detail"]["before"], later["actor"]) == (first["object_id"], "account lyon")
    table = fairlead("audit", "list", "--limit", "1", "--config", str(site)).out
    assert "journal.keep" in table
    assert len(table.splitlines()) < 8


def test_a_configuration_is_told_by_its_options(site: Path) -> None:
    """Not by comments or the order of the file, but by the environment as well."""
    config = load_config(site)
    site.write_text("# a word\n" + site.read_text(encoding="utf-8"), encoding="utf-8")
    assert digest(applied(load_config(site))) == digest(applied(config))
    other = applied(load_config(site, {"FAIRLEAD_LOG__LEVEL": "debug"}))
    assert changed(applied(config), other) == {"log.level": ["info", "debug"]}
    assert changed(other, {})["log.level"] == ["debug", None]
