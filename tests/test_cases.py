"""Every folder of tests/cases holds a configuration and what ``fairlead check`` says about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.cli.app import run
from broker.config.codes import CODES

CASES = sorted(path.parent for path in (Path(__file__).parent / "cases").glob("*/fairlead.yaml"))


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_check_says_what_is_expected(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole output is as written down; the exit code is 78 exactly when something blocks."""
    monkeypatch.chdir(folder)
    code = run(["check"])
    said = capsys.readouterr()
    assert said.out == (folder / "expected.txt").read_text(encoding="utf-8")
    assert said.err == ""
    assert code == (0 if ": ok, " in said.out else 78)


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
