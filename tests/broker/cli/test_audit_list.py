"""The rows of the audit that ``fairlead audit list`` shows, and those of the configuration in force."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from broker.cli.audit_detail import in_short, short_ids
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
    _, second, oldest = fairlead("audit", "list", "--config", str(site)).out.splitlines()
    assert second.rstrip().endswith("1 changed: journal.keep")
    assert oldest.rstrip().endswith(f"{len(options)} options")
    assert f" {first['object_id'][:12]} " in oldest


@pytest.mark.parametrize(
    ("detail", "line"),
    [
        ({"version": "1", "before": "b" * 64, "changed": {name: [1, 2] for name in "abcd"}}, "4 changed: a, b, c, …"),
        ({"tags": 7, "before": None, "added": 0, "changes": [], "not_named": 0}, "7 tags"),
        (
            {"tags": 7, "before": "b" * 64, "added": 1, "removed": 2, "renamed": 0, "changes": ["x"], "not_named": 2},
            "1 added, 2 removed",
        ),
        ({"tags": 7, "before": "b" * 64, "changes": ["calendar"], "not_named": 0}, "1 other changes: calendar"),
        ({"sha256": "0123456789abcdef" * 4, "passages": 3, "classes": []}, "sha256 0123456789ab; passages 3"),
        ({"policy": {"name": "x", "rules": [{}]}, "approved_by": "A. M."}, "policy (2); approved by A. M."),
        ({"from": "f", "sources": ["a", "b"], "reason": ""}, "from f; sources a, b"),
        ({}, ""),
    ],
)
def test_a_table_has_one_short_line_of_each_detail(detail: dict[str, Any], line: str) -> None:
    """What is long is counted, hashes are shortened."""
    assert in_short(detail) == line


def test_a_long_detail_is_cut() -> None:
    """80 characters; an id stays recognizable, a name whole."""
    assert in_short({"text": "x" * 200}) == "text " + "x" * 74 + "…"
    uuid = "5e2b1c1e-7d1f-5a86-9b59-0c2f0f7f3c11"
    assert (short_ids(uuid), short_ids("registry:plant-tiny@1.2.0")) == (uuid[:12], "registry:plant-tiny@1.2.0")


def test_a_configuration_is_told_by_its_options(site: Path) -> None:
    """Not by comments or the order of the file, but by the environment as well."""
    config = load_config(site)
    site.write_text("# a word\n" + site.read_text(encoding="utf-8"), encoding="utf-8")
    assert digest(applied(load_config(site))) == digest(applied(config))
    other = applied(load_config(site, {"FAIRLEAD_LOG__LEVEL": "debug"}))
    assert changed(applied(config), other) == {"log.level": ["info", "debug"]}
    assert changed(other, {})["log.level"] == ["debug", None]
