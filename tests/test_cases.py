"""
Every folder of tests/cases holds a configuration and what ``fairlead check`` says about it.

Where it has a folder ``in_force``, the tag maps in it are in force in the store of the site.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from broker.cli.app import run
from broker.config import load_config
from broker.config.codes import CODES
from broker.store import Store
from broker.tagmap import load

CASES = sorted(path.parent for path in (Path(__file__).parent / "cases").glob("*/fairlead.yaml"))


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_check_says_what_is_expected(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole output is as written down; the exit code is 78 exactly when something blocks."""
    if (folder / "in_force").is_dir():
        folder = _with_store(folder, tmp_path)
    monkeypatch.chdir(folder)
    code = run(["check"])
    said = capsys.readouterr()
    assert said.out == (folder / "expected.txt").read_text(encoding="utf-8")
    assert said.err == ""
    assert code == (0 if ": ok, " in said.out else 78)


def _with_store(folder: Path, tmp_path: Path) -> Path:
    """A copy of *folder* with the store that a broker has made of the maps in ``in_force``."""
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    config = load_config(copy / "fairlead.yaml")
    before = load(config.model_copy(update={"tag_maps": ("in_force/*.yaml",)}))
    with closing(Store.open(config.store, config.data_dir, write=True)) as store:
        store.upgrade()
        with store.transaction() as tx:
            tx.use_map(before.revision, before)
    return copy


def test_every_error_code_has_a_case() -> None:
    """No code exists that no case shows, and no case shows a code that is not documented."""
    texts = "".join((folder / "expected.txt").read_text(encoding="utf-8") for folder in CASES)
    shown = {line.rsplit("[", 1)[1].rstrip("]") for line in texts.splitlines() if line.endswith("]")}
    assert shown == set(CODES)


def test_no_case_shows_a_secret() -> None:
    """A literal secret is reported without being repeated."""
    texts = "".join((folder / "expected.txt").read_text(encoding="utf-8") for folder in CASES)
    assert "hunter2" not in texts
    assert "12345" not in texts
