"""
The size of a fault scenario, short in CI and long under ``make faults``, and the table of what it measured.

``scale(short, long)`` picks the size of a run; ``figures(...)`` notes what it measured, a row of docs/faults.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

LONG = os.environ.get("FAIRLEAD_FAULTS") == "long"


@dataclass(frozen=True)
class Figures:
    """
    One row of the table.

    ``scenario`` is the number and name of the fault (``F1 kill -9, MQTT QoS 1``), ``load`` what was done how often;
    ``None`` is a figure that the scenario does not have. ``control`` says what the negative control showed.
    """

    scenario: str
    load: str
    lost: int | None = None
    doubled: int | None = None
    wrong: int | None = None
    recovery_s: float | None = None
    control: str = ""


@pytest.fixture
def scale() -> Callable[[T, T], T]:
    """``scale(short, long)``: the first in CI, the second under ``make faults``."""
    return lambda short, long: long if LONG else short


@pytest.fixture
def figures() -> Callable[..., None]:
    """``figures(scenario, load, lost=0, ...)``: print a row, and keep it where ``make faults`` collects the table."""

    def note(scenario: str, load: str, **numbers: object) -> None:
        row = asdict(Figures(scenario, load, **numbers))  # type: ignore[arg-type]
        print(row)
        if table := os.environ.get("FAIRLEAD_FAULT_ROWS"):
            with Path(table).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    return note
