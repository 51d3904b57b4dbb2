"""The two pictures of docs/detectors/multivariate.md, from seeded signals through the product's stages."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.detect_stream import SECOND, Stream
from detectors.detection import DetectionOptions
from detectors.multivariate_model import LAMBDA

_T0: Final = 1_790_000_000 * SECOND
_WINDOW: Final = 300
_WIDTH, _LEFT, _TOP, _HIGH, _GAP = 780, 92, 24, 70, 14
_COLORS: Final = ("#2f6f9f", "#4f8a3c", "#a2682a")


def signals(steps: int) -> NDArray[np.float64]:
    """Flow, power and pressure of a pump that follow one wandering load, float64[steps, 3]."""
    rng = np.random.default_rng(4)
    load = np.zeros(steps)
    for i in range(1, steps):
        load[i] = 0.97 * load[i - 1] + rng.normal(0, 0.24)
    return np.column_stack(
        [
            40 + 2.0 * load + rng.normal(0, 0.25, steps),
            7.5 + 0.5 * load + rng.normal(0, 0.06, steps),
            4.2 - 0.3 * load + rng.normal(0, 0.04, steps),
        ]
    )


def judged(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The chart's size over its limit (NaN while learning), and where the detector has a finding."""
    options = DetectionOptions(clean_window=f"{_WINDOW}s", spc=(), health=())
    stream = Stream(["Flow", "Power", "Pressure"], 1000, options)
    detector = stream.detection._parts.multivariate
    assert detector is not None
    level, found = np.full(len(values), np.nan), np.zeros(len(values), np.bool_)
    for i, row in enumerate(values):
        found[i] = any(finding.detector == "pca" for finding in stream.row(_T0 + i * SECOND, row))
        (bank,) = detector._banks
        if bank.known[0]:
            power = float((bank.chart[0] ** 2).sum()) / int(bank.used[0].sum())
            level[i] = np.sqrt(power * (2 - LAMBDA) / LAMBDA) / bank.limit[0]
    return level, found


def _line(values: NDArray[np.float64], top: float, color: str, low: float, high: float) -> str:
    x = _LEFT + np.arange(len(values)) * (_WIDTH - _LEFT - 10) / len(values)
    y = top + _HIGH * (1 - (values - low) / (high - low))
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True) if np.isfinite(b))
    return f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1"/>'


def picture(values: NDArray[np.float64], marks: Sequence[tuple[int, str]]) -> str:
    """SVG: a panel for each tag, and one for the chart with its limit; findings are shaded."""
    level, found = judged(values)
    panels = [*zip(("Flow", "Power", "Pressure"), values.T, _COLORS, strict=True), ("chart / limit", level, "#333")]
    height = _TOP + len(panels) * (_HIGH + _GAP) + 16
    scale = (_WIDTH - _LEFT - 10) / len(values)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for begin, end in _runs(found):
        parts.append(
            f'<rect x="{_LEFT + begin * scale:.1f}" y="{_TOP}" width="{(end - begin) * scale:.1f}" '
            f'height="{height - _TOP - 20}" fill="#f6d5cf"/>'
        )
    for number, (title, column, color) in enumerate(panels):
        top = _TOP + number * (_HIGH + _GAP)
        chart = title == "chart / limit"
        low, high = (0.0, max(2.0, float(np.nanmax(column)))) if chart else (float(column.min()), float(column.max()))
        parts.append(f'<text x="4" y="{top + _HIGH / 2 + 4:.0f}" fill="#222">{title}</text>')
        parts.append(_line(column, top, color, low, high))
        if chart:
            y = top + _HIGH * (1 - 1 / high)
            parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - 10}" stroke="#b3261e" stroke-dasharray="4 3"/>')
            parts.append(f'<text x="{_LEFT + 4}" y="{y - 3:.1f}" fill="#b3261e">limit</text>')
    for at, text in ((_WINDOW, "learned until here"), *marks):
        x = _LEFT + at * scale
        parts.append(f'<path d="M{x:.1f} {_TOP - 6}V{height - 20}" stroke="#777" stroke-dasharray="2 3"/>')
        parts.append(f'<text x="{x + 3:.1f}" y="{_TOP - 8}" fill="#444">{text}</text>')
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _runs(found: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], found.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def main(argv: Sequence[str]) -> int:
    """``python -m bench multivariate-pictures``."""
    parser = argparse.ArgumentParser(prog="python -m bench multivariate-pictures", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args(argv)
    values = signals(900)
    broken = values.copy()
    # the pressure gauge leaks: it keeps its range, and follows the load a third as much
    broken[550:750, 2] = 4.2 + (values[550:750, 2] - 4.2) / 3 + 0.25
    (arguments.folder / "multivariate-true.svg").write_text(
        picture(broken, [(550, "pressure stops following"), (750, "repaired")]), encoding="utf-8"
    )
    healthy = values.copy()
    healthy[450, 0] += 20
    shift = np.clip((np.arange(900) - 550) / 120, 0, 1) * 2.5
    healthy += np.column_stack([2.0 * shift, 0.5 * shift, -0.3 * shift])
    (arguments.folder / "multivariate-false.svg").write_text(
        picture(healthy, [(450, "one spike"), (550, "the load rises")]), encoding="utf-8"
    )
    return 0
