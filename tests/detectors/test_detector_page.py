"""docs/detectors.md tells of the detectors that there are."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import detectors
from detectors.clock import Clock
from detectors.late import Late


def test_page_of_the_detectors_has_each_of_them():
    """One section for each detector of the package, and for nothing else."""
    modules = [importlib.import_module(f"detectors.{item.name}") for item in pkgutil.iter_modules(detectors.__path__)]
    classes = {item for module in modules for item in vars(module).values() if isinstance(item, type)}
    made = [Late(), Clock(), *(item for item in classes if {"name", "kind"} <= vars(item).keys())]
    page = Path(__file__).parents[2] / "docs" / "detectors.md"
    sections = [line[4:] for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("### ")]
    assert sorted(sections) == sorted({item.name for item in made})
