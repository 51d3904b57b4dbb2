"""
Pictures of docs/detectors.md: for each detector a true case and one that must stay quiet, from seeded synthetic data.

``python -m bench detector-pictures`` runs both through the detection stage and writes one SVG each into
``docs/images/detectors``. Shaded is the time in which the detector's condition was active; below stands its sentence.
"""

from __future__ import annotations

import argparse
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detectors.detection import Detection, DetectionOptions
from schemas.entries import Link, Position
from schemas.records import RecordBatch
from schemas.samples import Origin
from schemas.status import Flag
from schemas.tagmap import Tag, TagMap

SECOND = 1_000_000_000
T0 = 1_790_000_000 * SECOND
WIDTH, HEIGHT, GAP, TOP, FOOT = 400, 150, 24, 26, 40
#: The healthy part in front that is shown.
LEAD = 120
Rows = np.ndarray[Any, np.dtype[np.float64]]


@dataclass
class Case:
    """A tag's values a second, and what is odd about them; ``shown`` is where the picture begins."""

    title: str
    values: Rows
    shown: int
    tag: dict[str, Any] = field(default_factory=dict)
    others: dict[str, Rows] = field(default_factory=dict)  #: set point and output of a loop
    absent: slice | None = None  #: no sample in this part
    down: bool = False  #: the source says that it is down meanwhile
    frozen: slice | None = None  #: device time stands still in this part
    flagged: slice | None = None  #: rows with a flag, each third
    flag: int = 0
    about: int = 0  #: number of the tag that the finding is about
    step_s: int = 1
    options: dict[str, Any] = field(default_factory=dict)


def noise(n: int, sigma: float = 1.0, seed: int = 3) -> Rows:
    return np.random.default_rng(seed).normal(0, sigma, n)


def after(n: int, trouble: Rows) -> Rows:
    """600 healthy seconds about 50, then the trouble added to the same noise."""
    return 50 + noise(n) + np.concatenate([np.zeros(n - len(trouble)), trouble])


N, LATER = 1000, 300
RAMP = np.arange(LATER, dtype=np.float64)
HEALTHY = after(N, np.zeros(LATER))
STEP = np.full(LATER, 1.0)


def wander(n: int, phi: float = 0.97) -> Rows:
    """A signal that follows itself."""
    chance, out = np.random.default_rng(5), np.zeros(n)
    for i in range(1, n):
        out[i] = phi * out[i - 1] + chance.normal() * np.sqrt(1 - phi * phi)
    return 50 + out


def pulses(at: Sequence[int], size: float) -> Rows:
    out = np.zeros(LATER)
    out[list(at)] = size
    return out


def loop(error: Rows, out: Rows, set_point: Rows | None = None) -> dict[str, Any]:
    wanted = np.full(N, 50.0) if set_point is None else set_point
    return {"values": wanted - error, "others": {"sp": wanted, "out": out}, "tag": {"role": "pv"}}


def cases() -> dict[str, tuple[Case, Case]]:
    """True and false case of every detector, by its name."""
    n, shown = N, N - LATER - LEAD
    plain = {"shown": shown}
    phase = np.concatenate([np.zeros(n - 600), np.arange(600) / 60 * 2 * np.pi])
    swing = 4 * np.sin(phase) * (np.arange(n) >= n - 600)
    triangle = 40 - 8 * 2 / np.pi * np.arcsin(np.cos(phase)) * (np.arange(n) >= n - 600)
    sine = 40 - 8 * np.cos(phase) * (np.arange(n) >= n - 600)
    calm = noise(n, 0.4, 8)
    away = np.concatenate([np.zeros(n - LATER), np.full(LATER, 5.0)])
    moved = np.concatenate([np.full(n - LATER, 50.0), np.full(LATER, 60.0)])
    settling = np.concatenate([np.zeros(n - LATER), 10 * np.exp(-RAMP / 20)])
    days = np.arange(20 * 144) / 144
    slow = {"shown": 0, "step_s": 600, "tag": {"range": (0.0, 80.0), "scan_ms": 600_000}}
    burst = 50 + 10 * np.sin(np.arange(n) / 30) + np.random.default_rng(12).exponential(2, n)
    wide: dict[str, Any] = {**plain, "options": {"extreme": True}}
    part = slice(n - LATER, n - LATER + 120)
    return {
        "missing": (
            Case(
                "one tag of a living source falls silent", HEALTHY, **plain, tag={"stale_after_ms": 5000}, absent=part
            ),
            Case(
                "the source is down: a gap with its cause",
                HEALTHY,
                **plain,
                tag={"stale_after_ms": 5000},
                absent=part,
                down=True,
            ),
        ),
        "late": (
            Case(
                "a third of the rows is older than those before",
                HEALTHY,
                **plain,
                flagged=slice(n - LATER, n),
                flag=Flag.LATE,
            ),
            Case("one late row", HEALTHY, **plain, flagged=slice(n - LATER, n - LATER + 1), flag=Flag.LATE),
        ),
        "clock": (
            Case(
                "a third of the rows comes from 1970",
                HEALTHY,
                **plain,
                flagged=slice(n - LATER, n),
                flag=Flag.CLOCK_SUSPECT,
            ),
            Case(
                "one row comes from 1970",
                HEALTHY,
                **plain,
                flagged=slice(n - LATER, n - LATER + 1),
                flag=Flag.CLOCK_SUSPECT,
            ),
        ),
        "stale": (
            Case("values change, the device time does not", HEALTHY, **plain, frozen=part),
            Case("ten seconds under one device time", HEALTHY, **plain, frozen=slice(n - LATER, n - LATER + 10)),
        ),
        "range": (
            Case(
                "beyond the range of the map",
                after(n, pulses(range(100, 180), 12)),
                **plain,
                tag={"range": (40.0, 60.0)},
            ),
            Case("close to its end", after(n, pulses(range(100, 180), 5)), **plain, tag={"range": (40.0, 60.0)}),
        ),
        "rate": (
            Case(
                "jumps faster than the map believes",
                after(n, pulses([100, 200], 25)),
                **plain,
                tag={"rate_limit": 10.0},
            ),
            Case("a fast, but believable ramp", after(n, np.minimum(RAMP / 3, 30)), **plain, tag={"rate_limit": 10.0}),
        ),
        "flatline": (
            Case("stuck at its last value", np.where(np.arange(n) < n - LATER, HEALTHY, HEALTHY[n - LATER]), **plain),
            Case("at rest: exactly 0", np.where(np.arange(n) < n - LATER, HEALTHY, 0.0), **plain),
        ),
        "spike": (
            Case("two samples far out, and back", after(n, pulses([150, 151], 30)), **plain),
            Case("a step does not come back", after(n, STEP * 30), **plain),
        ),
        "saturation": (
            Case("cut off at 50.3", np.minimum(HEALTHY, np.where(np.arange(n) < n - LATER, np.inf, 50.3)), **plain),
            Case("cut to whole numbers from the start", np.round(HEALTHY), **plain),
        ),
        "quantization": (
            Case(
                "from float to steps of 1",
                np.where(np.arange(n) < n - LATER, HEALTHY * 2, np.round(HEALTHY * 2)),
                **plain,
            ),
            Case("steps of 1 from the start", np.round(HEALTHY * 2), **plain),
        ),
        "shewhart": (
            Case("a large step", after(n, STEP * 8), **plain),
            Case("one wild sample", after(n, pulses([150], 30)), **plain),
        ),
        "ewma": (
            Case("three sigmas higher", after(n, STEP * 3), **plain),
            Case("a signal that wanders by itself", wander(n), **plain),
        ),
        "cusum": (
            Case("one and a half sigmas higher, for long", after(n, STEP * 1.5), **plain),
            Case("a healthy signal", HEALTHY, **plain),
        ),
        "nelson": (
            Case("nine points on one side", after(n, STEP * 2), **plain, options={"spc": ("nelson",)}),
            Case("a healthy signal breaks a rule as well", HEALTHY, **plain, options={"spc": ("nelson",)}),
        ),
        "level_shift": (
            Case("a step within the window", after(n, STEP * 5 * (RAMP > 60)), **plain),
            Case("a signal that wanders by itself", wander(n), **plain),
        ),
        "trend": (
            Case("rises steadily", after(n, RAMP / 15), **plain),
            Case("a signal that wanders by itself", wander(n), **plain),
        ),
        "variance": (
            Case("five times noisier", after(n, noise(LATER, 5, 9)), **plain),
            Case("a step changes the mean alone", after(n, STEP * 4), **plain),
        ),
        "oscillation": (
            Case("begins to swing", after(n, 6 * np.sin(RAMP / 2.5)), **plain),
            Case("has always swung", HEALTHY + 6 * np.sin(np.arange(n) / 2.5), **plain),
        ),
        "deviation": (
            Case("stays below its set point", **loop(calm + away, 45 + noise(n, 1, 9)), **plain),
            Case("a new set point is reached in time", **loop(calm + settling, 45 + noise(n, 1, 9), moved), **plain),
        ),
        "windup": (
            Case(
                "output at 100 %, set point not reached",
                **loop(calm + away, np.where(away > 0, 100.0, 45.0)),
                **plain,
                about=2,
            ),
            Case("output at 100 %, set point held", **loop(calm, np.full(n, 100.0)), **plain, about=2),
        ),
        "stiction": (
            Case("the output is a triangle", **loop(calm / 4 + swing, triangle), shown=n - 700),
            Case("the output is a sine: tuning", **loop(calm / 4 + swing, sine), shown=n - 700),
        ),
        "extreme": (
            Case("bursts, and one like no other", burst + 120 * (np.arange(n) // 4 == (n - 150) // 4), **wide),
            Case("bursts, as ever", burst, **wide),
        ),
        "slow_trend": (
            Case("half a degree a day, range ends at 80", 60 + 0.5 * days + noise(len(days), 0.5), **slow),
            Case("day and night", 60 + 3 * np.sin(days * 2 * np.pi) + noise(len(days), 0.5), **slow),
        ),
    }


def run(name: str, case: Case) -> tuple[list[bool], str]:
    """Whether the detector's condition is active after each sample, and what it says."""
    tags = [Tag(number=0, id="v", path="A/B/U/v", source="plc", address="0", unit="Cel", equipment="A/B/U", **case.tag)]
    for number, role in enumerate(case.others, 1):
        unit = "%" if role == "out" else "Cel"
        path, about = f"A/B/U/{role}", {"role": role, "unit": unit, "detect": "all"}
        tags.append(Tag(number=number, id=role, path=path, source="plc", address=role, equipment="A/B/U", **about))
    tags.append(
        Tag(number=len(tags), id="w", path="A/B/W/w", source="plc", address="w", equipment="A/B/W", detect="health")
    )
    tag_map = TagMap(site="A/B", tags=tuple(tags))
    options = {"clean_window": "200s", "settle": "60s", "hold_off": "60s", **case.options}
    detection = Detection(DetectionOptions(**options))
    detection.use_map(tag_map.revision, tag_map)
    active, said = [], ""
    for i, value in enumerate(case.values.tolist()):
        now = T0 + i * case.step_s * SECOND
        there = case.absent is None or not case.absent.start <= i < case.absent.stop
        if case.down and case.absent is not None and i in (case.absent.start, case.absent.stop):
            detection.link(Link("plc", i == case.absent.stop), now)
        own = ([0] if there else []) + [*range(1, len(tags) - 1)] + ([] if case.down and not there else [len(tags) - 1])
        values = [value, *(column[i] for column in case.others.values()), float(i)]
        device = now
        if case.frozen is not None and case.frozen.start <= i < case.frozen.stop:
            device = T0 + case.frozen.start * case.step_s * SECOND
        odd = (
            case.flagged is not None and case.flagged.start <= i < case.flagged.stop and i % 3 == case.flagged.start % 3
        )
        if own:
            detection.records(
                RecordBatch(
                    "plc",
                    Origin.LIVE,
                    tag_map.revision,
                    Position(1, i + 1),
                    now,
                    np.array(own, np.int32),
                    np.array([device if number == 0 else now for number in own], np.int64),
                    None,
                    np.array([values[number] for number in own]),
                    np.zeros(len(own), np.uint32),
                    np.array([case.flag if odd else 0 for _ in own], np.uint32),
                    np.zeros(len(own), np.int64),
                )
            )
        if case.step_s > 60 and detection._parts.panel.slow_trend is not None:
            detection._parts.panel.slow_trend.sampled_ns = 0  # a sample each tick: the ticks between are left out
        detection.tick(now)
        place = detection._parts.slots.find(tags[case.about].id)
        on = place is not None and detection._parts.panel.is_active(name, place)
        if on and place is not None:
            said = detection._parts.panel.seen(name, place).finding.reason
        active.append(on)
    return active, said


def panel(left: int, case: Case, active: list[bool], said: str) -> list[str]:
    """One half of a picture."""
    values, marks = case.values[case.shown :], active[case.shown :]
    columns = [values, *(column[case.shown :] for role, column in case.others.items() if role == "sp")]
    outs = [column[case.shown :] for role, column in case.others.items() if role == "out"]
    low, high = min(c.min() for c in columns), max(c.max() for c in columns)
    pad = 0.08 * (high - low) or 1.0
    low, high = low - pad, high + pad

    def line(column: Rows, bottom: float, top: float, colour: str, width: float) -> list[str]:
        every = max(1, len(column) // 600)
        drawn: list[str] = []
        points: list[str] = []
        for i in range(0, len(column), every):
            gone = case.absent is not None and case.absent.start <= i + case.shown < case.absent.stop
            if gone and points:
                drawn.append(" ".join(points))
                points = []
            if not gone:
                x = left + i / max(len(column) - 1, 1) * WIDTH
                y = TOP + HEIGHT - (column[i] - bottom) / (top - bottom) * HEIGHT
                points.append(f"{x:.1f},{y:.1f}")
        drawn.append(" ".join(points))
        return [f'<polyline points="{p}" fill="none" stroke="{colour}" stroke-width="{width}"/>' for p in drawn]

    out = [f'<text x="{left}" y="16" class="t">{html.escape(case.title)}</text>']
    out.append(f'<rect x="{left}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" class="f"/>')
    start = None
    for i, on in enumerate([*marks, False]):
        if on and start is None:
            start = i
        if not on and start is not None:
            x, width = left + start / len(marks) * WIDTH, max((i - start) / len(marks) * WIDTH, 3)
            out.append(f'<rect x="{x:.1f}" y="{TOP}" width="{width:.1f}" height="{HEIGHT}" class="a"/>')
            start = None
    for column in outs:
        out += line(column, min(0.0, column.min()), max(100.0, column.max()) * 1.02, "#b58900", 1)
    for column in columns[1:]:
        out += line(column, low, high, "#444", 1)
    out += line(values, low, high, "#1f5fa8", 1.1)
    text = said or "nothing is found"
    cut = text if len(text) <= 68 else text[: text.rfind(" ", 0, 68)]
    out.append(f'<text x="{left}" y="{TOP + HEIGHT + 16}" class="s">{html.escape(cut)}</text>')
    if cut != text:
        out.append(f'<text x="{left}" y="{TOP + HEIGHT + 31}" class="s">{html.escape(text[len(cut) :].strip())}</text>')
    return out


STYLE = (
    ".t{font:600 13px sans-serif;fill:#222}.s{font:12px sans-serif;fill:#555}"
    ".f{fill:#fff;stroke:#ccc}.a{fill:#d1495b;fill-opacity:.22}"
)


def picture(name: str, pair: tuple[Case, Case], tell: Callable[[str], None]) -> str:
    """Both halves as SVG."""
    body: list[str] = []
    for number, case in enumerate(pair):
        active, said = run(name, case)
        found = any(active[case.shown :])
        tell(f"| {name} | {'false' if number else 'true'} case | {'found' if found else 'quiet'} | {said} |")
        body += panel(GAP // 2 + number * (WIDTH + GAP), case, active, said)
    size = f"0 0 {2 * WIDTH + 2 * GAP} {TOP + HEIGHT + FOOT}"
    inner = "\n".join(body)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" role="img" aria-label="{name}: true and false case">'
        f'<style>{STYLE}</style><rect width="100%" height="100%" fill="#fafafa"/>\n{inner}\n</svg>\n'
    )


def main(argv: Sequence[str]) -> int:
    """``python -m bench detector-pictures``."""
    parser = argparse.ArgumentParser(prog="python -m bench detector-pictures", description=__doc__)
    parser.add_argument("names", nargs="*", help="detectors (default: all)")
    parser.add_argument("--folder", type=Path, default=Path("docs/images/detectors"), help="where they are written")
    arguments = parser.parse_args(argv)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print("| detector | case | result | reason |\n|---|---|---|---|")
    for name, pair in cases().items():
        if not arguments.names or name in arguments.names:
            text = picture(name, pair, lambda row: print(row, flush=True))
            (arguments.folder / f"{name}.svg").write_text(text, encoding="utf-8")
    return 0
