"""
Pictures of docs/detectors.md: the two cases of each detector (:mod:`bench.detector_cases`), and what it finds in them.

``python -m bench detector-pictures`` runs both through the detection stage and writes one SVG each into
``docs/images/detectors``. Shaded is the time in which the detector's condition was active; below stands its sentence.
"""

from __future__ import annotations

import argparse
import html
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bench.detector_cases import Case, Rows, cases
from detectors.detection import Detection, DetectionOptions
from schemas.entries import Link, Position
from schemas.records import RecordBatch
from schemas.samples import Origin
from schemas.tagmap import Tag, TagMap

SECOND = 1_000_000_000
T0 = 1_790_000_000 * SECOND
WIDTH, HEIGHT, GAP, TOP, FOOT = 400, 150, 24, 26, 40


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
