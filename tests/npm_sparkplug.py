"""The Sparkplug publisher of the shared folder (npm sparkplug-payload), installed once."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest


def install(source: Path, npm: str, cache: Path) -> Path:
    """A copy of *source* with its packages, kept in *cache* between runs; skips the test without an npm registry."""
    digest = hashlib.sha256(b"".join((source / n).read_bytes() for n in ("package.json", "sparkplug.js"))).hexdigest()
    folder = cache / f"mqtt-{digest[:12]}"
    if (folder / "installed").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "sparkplug.js"):
        shutil.copyfile(source / name, folder / name)
    command = [npm, "install", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500, check=False)
    if done.returncode:
        if os.environ.get("CI") == "true":
            pytest.fail(f"npm install of sparkplug-payload failed: {done.stderr[-500:]}")
        pytest.skip("sparkplug-payload cannot be installed here (no npm registry)")
    (folder / "installed").touch()
    return folder
