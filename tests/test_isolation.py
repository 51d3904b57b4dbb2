"""The command refuses an environment in which somebody else installs a package of ours."""

from __future__ import annotations

from importlib.metadata import distributions
from pathlib import Path

import pytest

from broker import __main__ as entry
from broker.isolation import DISTRIBUTION, PACKAGES, _elsewhere, conflicts, top_level_names


def test_none_of_our_dependencies_installs_one_of_our_names() -> None:
    """The environment in which the tests run is clean, and was really looked at."""
    assert conflicts() == []
    names = {name for dist in distributions() for name in top_level_names(dist)}
    assert {"numpy", "pydantic", "typer"} <= names


@pytest.mark.parametrize("package", PACKAGES)
def test_a_foreign_distribution_is_named(package: str) -> None:
    """Each of our names is guarded, ours is not its own conflict."""
    found = conflicts([("some-llm-tool", {package, "other"}), (DISTRIBUTION, set(PACKAGES)), ("clean", {"clean"})])
    assert found == [f"the distribution 'some-llm-tool' installs the package {package!r}, which belongs to Fairlead"]


def test_a_package_from_another_folder_is_named(tmp_path: Path) -> None:
    """A folder that comes first on the path would put foreign code into the program."""
    assert len(_elsewhere({"llm": tmp_path, "schemas": None})) == 1


def test_the_command_ends_with_78(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing of the program runs in a mixed environment."""
    monkeypatch.setattr(entry, "conflicts", lambda: ["the distribution 'x' installs the package 'llm'"])
    with pytest.raises(SystemExit) as end:
        entry.main()
    assert end.value.code == 78
    assert "environment of its own" in capsys.readouterr().err
