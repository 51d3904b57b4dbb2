"""Configuration and maps in a folder of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from broker import tagmap
from broker.config import Config, load_config
from schemas.tagmap import Tag, TagMap

CONFIG = """\
version: 1
site: {path: Acme/Lyon}
sources:
  plc1: {kind: modbus, host: 10.0.0.5, byte_order: CDAB, scan: 500ms}
  ua: {kind: opcua, endpoint: "opc.tcp://localhost:4840", security: None}
"""


@pytest.fixture
def site(tmp_path: Path) -> Callable[..., Config]:
    """Write maps by file name and load the configuration around them."""

    def make(**maps: str) -> Config:
        (tmp_path / "maps").mkdir(exist_ok=True)
        for old in (tmp_path / "maps").iterdir():
            old.unlink()
        for name, text in maps.items():
            (tmp_path / "maps" / name.replace("__", ".")).write_text(text, encoding="utf-8")
        path = tmp_path / "fairlead.yaml"
        path.write_text(CONFIG, encoding="utf-8")
        return load_config(path, {})

    return make


@pytest.fixture
def load_tags(site: Callable[..., Config]) -> Callable[..., TagMap]:
    """The map of YAML tags, written as lines of a list, with the given defaults."""

    def load(lines: str, head: str = "") -> TagMap:
        return tagmap.load(site(tags__yaml=f"version: 1\ndefaults: {{source: plc1}}\n{head}tags:\n{lines}"))

    return load


@pytest.fixture
def load_one(load_tags: Callable[..., TagMap]) -> Callable[[str], Tag]:
    """The tag with the given options, on a holding register of plc1."""

    def load(options: str) -> Tag:
        (tag,) = load_tags(f"  - {{path: Acme/Lyon/A/T, address: '40001', {options}}}\n").tags
        return tag

    return load
