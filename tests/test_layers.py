"""The import contracts of pyproject.toml hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter in *folder*."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_no_package_imports_against_the_direction() -> None:
    """All contracts are kept: broker above adapters, normalizers, detectors and llm, above schemas."""
    done = check(ROOT)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_an_import_against_the_direction_is_found(tmp_path: Path) -> None:
    """Control: the same contracts fail when schemas import the broker."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(text[text.index("[tool.importlinter]") :], encoding="utf-8")
    for name in ("broker", "adapters", "normalizers", "detectors", "llm", "schemas", "simulators"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("import broker\n" if name == "schemas" else "", encoding="utf-8")
    done = check(tmp_path)
    assert done.returncode == 1, done.stdout
    assert "1 broken" in done.stdout
