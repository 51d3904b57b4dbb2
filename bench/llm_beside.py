"""
The data path beside the model: end-to-end latency while the built-in model annotates, and without it.

Each turn is three runs of ``python -m bench e2e``: without, with, without. In the middle one the real worker (one
niced thread) decodes a hundred annotations evenly over the measured time (and as many a second before it), or with
``--pause none`` one after another without end. Printed: latency from source time to the committed row, how many
annotations were made and how long each took, and whether the p99 with the model lies within the spread of the two
without. Offer half of what the machine can take (``--tags`` over ``--period``).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bench.e2e import FAST, PROTOCOLS, Figures, Load, measure
from bench.llm import evidences
from llm.client import Reasoner
from llm.options import ReasonerOptions

LEAST = 100


@dataclass
class Annotator:
    """The reasoner in a thread of its own; begins an annotation every ``every_s``, 0 for one after another."""

    every_s: float
    taken_ms: list[float] = field(default_factory=list)
    by_rules: int = 0

    def __enter__(self) -> Annotator:
        self._stop, self._ready = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._annotate()), name="annotator")
        self._thread.start()
        if not self._ready.wait(120):
            raise SystemExit("the model did not get ready")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _annotate(self) -> None:
        reasoner = Reasoner(ReasonerOptions(), base_dir=Path.cwd(), now_ns=time.time_ns)
        await reasoner.start()
        asked = evidences(LEAST)
        try:
            while not self._stop.is_set():
                for evidence in asked:
                    begun = time.perf_counter()
                    done = await reasoner.annotate(evidence, detector_score=1.0, created_ns=1)
                    self._ready.set()
                    self.taken_ms.append(1e3 * (time.perf_counter() - begun))
                    self.by_rules += done.origin == "rules"
                    await asyncio.to_thread(self._stop.wait, max(0.0, self.every_s - (time.perf_counter() - begun)))
                    if self._stop.is_set():
                        break
        finally:
            await reasoner.close()


def main(argv: Sequence[str]) -> int:
    """``python -m bench llm-beside``."""
    parser = argparse.ArgumentParser(prog="python -m bench llm-beside", description=__doc__)
    parser.add_argument("--protocol", choices=PROTOCOLS, default="modbus")
    parser.add_argument("--tags", type=int, default=12_500)
    parser.add_argument("--period", type=float, default=0.1, help="seconds between two values of a tag (default 0.1)")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--pause", choices=("even", "none"), default="even", help="between annotations (default even)")
    told = parser.parse_args(argv)
    load = Load(told.protocol, told.tags, told.period, find_spec(FAST[told.protocol]) is not None)
    print(
        f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; {told.protocol}, "
        f"{told.tags / told.period:,.0f} values/s offered, {told.seconds:g} s a run"
    )
    print("| turn | run | stored values/s | p50 ms | p99 | p99.9 | annotations (p50 ms) | wrong of checked |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    inside = 0
    for turn in range(1, told.turns + 1):
        before = _show(turn, "without", measure(load, told.seconds))
        with Annotator(told.seconds / LEAST if told.pause == "even" else 0.0) as annotator:
            beside = measure(load, told.seconds)
        _show(turn, "with", beside, annotator)
        after = _show(turn, "without", measure(load, told.seconds))
        low, high = sorted((before.p99, after.p99))
        inside += beside.p99 <= high
        print(f"p99 {beside.p99:.1f} ms with, {low:.1f} to {high:.1f} ms without", flush=True)
    print(f"with the model not above the larger of the two without: {inside} of {told.turns}")
    return 0


def _show(turn: int, name: str, found: Figures, annotator: Annotator | None = None) -> Figures:
    notes = ""
    if annotator is not None:
        made = len(annotator.taken_ms)
        notes = f"{made} ({np.percentile(annotator.taken_ms, 50):.0f})"
        notes += f", {annotator.by_rules} by rules" if annotator.by_rules else ""
        notes += f", fewer than {LEAST}" if made < LEAST else ""
    print(
        f"| {turn} | {name} | {found.stored:,.0f} | {found.p50:.1f} | {found.p99:.1f} | {found.p999:.1f} | {notes} "
        f"| {found.wrong} of {found.checked} |",
        flush=True,
    )
    return found
