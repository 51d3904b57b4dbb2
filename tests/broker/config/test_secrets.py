"""References to secrets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from broker.config import resolve_secret
from schemas.errors import ConfigError

CANARY = "hunter2-canary"


def test_an_environment_variable_gives_its_value(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """env: reads the process's environment."""
    monkeypatch.setenv("PLANT_PASSWORD", CANARY)
    assert resolve_secret("env:PLANT_PASSWORD", tmp_path) == CANARY


def test_a_private_file_gives_its_text_without_the_line_end(tmp_path: Path) -> None:
    """file: is relative to the configuration."""
    path = tmp_path / "p"
    path.write_text(CANARY + "\n", encoding="utf-8")
    path.chmod(0o600)
    assert resolve_secret("file:p", tmp_path) == CANARY


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    """The mode is said, the secret is not."""
    path = tmp_path / "p"
    path.write_text(CANARY, encoding="utf-8")
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"{mode:04o}") as error:
        resolve_secret("file:p", tmp_path)
    assert CANARY not in str(error.value)


def test_a_systemd_credential_is_read_from_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """cred: works only where systemd gives the folder, and never leaves it."""
    (tmp_path / "db").write_text(CANARY, encoding="utf-8")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ConfigError, match="LoadCredential"):
        resolve_secret("cred:db", tmp_path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert resolve_secret("cred:db", tmp_path) == CANARY
    with pytest.raises(ConfigError):
        resolve_secret("cred:../db", tmp_path)


@pytest.mark.parametrize("ref", [CANARY, "", "env:", "env:NOT_SET_ANYWHERE", "file:nowhere", "file:", "vault:x"])
def test_a_wrong_reference_is_an_error_without_the_value(tmp_path: Path, ref: str) -> None:
    """A secret written where a reference belongs is not repeated."""
    with pytest.raises(ConfigError) as error:
        resolve_secret(ref, tmp_path)
    assert CANARY not in str(error.value)


def test_an_empty_secret_is_refused(tmp_path: Path) -> None:
    """An empty file is a mistake, not a password."""
    (tmp_path / "p").touch(mode=0o600)
    with pytest.raises(ConfigError, match="empty"):
        resolve_secret("file:p", tmp_path)
