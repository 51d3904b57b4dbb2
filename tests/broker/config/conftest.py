"""A configuration in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

SOUND = """\
version: 1
site: {path: Acme/Lyon}
sources:
  plc1: {kind: modbus, host: 10.0.0.5, byte_order: CDAB}
"""


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[[str], Path]:
    """Write a text as fairlead.yaml and give its path."""

    def write(text: str = SOUND) -> Path:
        path = tmp_path / "fairlead.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write
