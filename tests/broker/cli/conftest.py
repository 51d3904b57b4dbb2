"""A site with one map, and the command line called in process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.cli.app import run


@dataclass(frozen=True)
class Said:
    """What one command line ended with and printed."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams."""
        return self.out + self.err


@pytest.fixture
def fairlead(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run one command line; fails on any traceback."""

    def call(*arguments: str) -> Said:
        code = run(arguments)
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return Said(code, said.out, said.err)

    return call


@pytest.fixture
def make_site(tmp_path: Path) -> Callable[..., Path]:
    """Write a site with one Modbus source and give the path of its fairlead.yaml."""

    def make(port: int = 502, api_port: int = 8080) -> Path:
        (tmp_path / "maps").mkdir(exist_ok=True)
        (tmp_path / "maps" / "a.yaml").write_text(
            "version: 1\ndefaults: {source: plc1}\ntags:\n"
            "  - {path: Acme/Lyon/A/Speed, address: '40001', type: int16, unit: rpm}\n"
            "  - {path: Acme/Lyon/A/Flow, address: '40002', type: float32, unit: m3/h}\n",
            encoding="utf-8",
        )
        path = tmp_path / "fairlead.yaml"
        path.write_text(
            "version: 1\nsite: {path: Acme/Lyon}\nllm: {backend: none}\n"
            f"sources:\n  plc1: {{kind: modbus, host: 127.0.0.1, port: {port}, byte_order: CDAB, scan: 200ms}}\n"
            f"api: {{listen: '127.0.0.1:{api_port}'}}\n",
            encoding="utf-8",
        )
        return path

    return make
