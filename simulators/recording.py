"""
What the demo site's sources said before its servers were up: a plant has run before somebody watches it.

The recording is a wide CSV file as the replay adapter reads it: ``time`` (epoch ms), then a column for each address of
the tag maps with the value as its source gives it: Modbus counts, floats of four bytes. An OPC UA cell is empty where
nothing changed, since such a server tells changes only.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from simulators import SignalValue
from simulators.plant import Plant
from simulators.site import NAMESPACE, NODES, PERIOD_S, REGISTERS, TOPICS

_TABLES: Final = {"holding": "4", "input": "3"}


def record(plant: Plant, seconds: float, path: Path) -> None:
    """
    Let *plant* run for *seconds*, which end at its time 0 and now, and write *path*.

    Raises OSError where the file cannot be written.
    """
    ends_ms = time.time_ns() // 1_000_000
    plant.now_s = -seconds
    last: dict[str, SignalValue] = {}
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        for left in range(round(seconds / PERIOD_S), 0, -1):
            now_s = -left * PERIOD_S
            plant.advance(now_s)
            values = served(plant.signals())
            if not last:
                rows.writerow(["time", *values])
            same = {name for name in values if name.startswith("nsu=") and last.get(name) == values[name]}
            cells = ("" if name in same else value for name, value in values.items())
            rows.writerow([ends_ms + round(now_s * 1000), *cells])
            last = values
    plant.advance(0.0)
    plant.now_s = 0.0


def served(signals: Mapping[str, SignalValue]) -> dict[str, SignalValue]:
    """Address to value as the site's servers give it."""
    values: dict[str, SignalValue] = {}
    for point in REGISTERS:
        number = float(signals[point.name] or 0) * point.scale
        whole = point.type != "float32"
        values[f"{_TABLES[point.table]}{point.address + 1:04d}"] = round(number) if whole else float(np.float32(number))
    for name, spec in NODES.items():
        value = signals[name]
        narrow = spec.type == "Float" and isinstance(value, float)
        values[f"nsu={NAMESPACE};s={name}"] = float(np.float32(value)) if narrow else value
    for topic, fields in TOPICS.items():
        values |= {f"{topic}#{field}": signals[signal] for field, signal in fields.fields.items()}
    return values
