"""``data_dir`` that there cannot be: told by check and by run, with the option."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.cli.app import run
from broker.config import check_config, load_config
from broker.config.data_folder import data_dir_problems, make_data_dir
from schemas.errors import ConfigError, FairleadError
from tests.broker.config.conftest import SOUND

WriteConfig = Callable[[str], Path]
PROC = Path("/proc/nope")


def problems(path: Path) -> list[str]:
    """What check finds, as text."""
    checked = check_config(path)
    assert checked.draft is not None
    assert checked.tree is not None
    return [str(one) for one in data_dir_problems(checked.draft, checked.tree.at(("data_dir",)))]


@pytest.mark.parametrize(
    ("folder", "why", "code"),
    [
        ("file/var", "a part of it is a file", 78),
        ("file", "is a file, not a folder", 78),
        pytest.param(
            str(PROC), "cannot be made", 1, marks=pytest.mark.skipif(not PROC.parent.is_dir(), reason="Linux only")
        ),
    ],
)
def test_folder_that_cannot_be(
    write_config: WriteConfig, capsys: pytest.CaptureFixture[str], folder: str, why: str, code: int
) -> None:
    """Check names line and option; so do run and the other commands that write, with 1 where a mount may come late."""
    path = write_config(f"data_dir: {folder}\n{SOUND}")
    (path.parent / "file").write_text("")
    [found] = problems(path)
    assert why in found
    assert "fairlead.yaml:1:11: data_dir: " in found
    with pytest.raises(ConfigError if code == 78 else FairleadError, match=r"data_dir:? .*" + why):
        make_data_dir(load_config(path))
    (path.parent / "maps").mkdir()
    (path.parent / "maps" / "a.yaml").write_text(
        "version: 1\ntags: [{path: Acme/Lyon/N, source: plc1, address: '40001', type: uint16, unit: '1'}]\n"
    )
    for command in ("check", "run", "core", "acquire", "db upgrade"):
        assert run([*command.split(), "--config", str(path)]) == (78 if command == "check" else code)
        said = capsys.readouterr()
        assert "data_dir" in said.out + said.err


def test_looking_leaves_nothing(write_config: WriteConfig) -> None:
    """A folder that can be made is not made, nor is anything else left beside the configuration."""
    path = write_config(f"data_dir: deep/er/var\n{SOUND}")
    assert problems(path) == []
    assert [item.name for item in path.parent.iterdir()] == ["fairlead.yaml"]
    make_data_dir(load_config(path))
    assert problems(path) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_of_another_user_is_a_warning(write_config: WriteConfig) -> None:
    """Whoever checks need not be the user of the service."""
    path = write_config(f"data_dir: closed/var\n{SOUND}")
    closed = path.parent / "closed"
    closed.mkdir(mode=0o500)
    assert "may not write" in problems(path)[0]
    checked = check_config(path)
    assert checked.draft is not None
    assert checked.tree is not None
    assert data_dir_problems(checked.draft, checked.tree)[0].warning
