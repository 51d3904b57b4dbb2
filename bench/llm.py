"""
The reasoning engine by itself: annotations through llama.cpp, with 1, 4 and 16 sequences in one context.

Printed for each number of sequences: time from the start of an answer to its first token, to the cause with its
probability, and to its end (p50 and p95 in ms, the prefix being cached); tokens of answers a second, forced ones
included; CPU time an answer (of one sequence p50 and p95, of several the mean), which other load on the machine moves
less than it moves the times; and tokens a second of plain decoding: one token a sequence and step, no prompt, no
grammar, hardly any Python.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from broker.scorecard.scenarios import scenario
from llm import engine
from llm.base import Chunk
from llm.batching import HOMES, Batcher
from llm.decoding import Decoded, Decoder, Forward
from llm.model_file import find
from llm.plan import Choose, Plan, annotation_plan
from llm.prompt import Family, Style, build, citable_facts, prefix
from llm.worker import family_of
from schemas.errors import WorkerError
from schemas.evidence import Evidence

SEQUENCES = (1, 4, 16)
PLAIN_STEPS = 48
HEAD = (
    "| sequences | first token p50 / p95 ms | cause p50 / p95 ms | whole p50 / p95 ms | CPU ms an answer "
    "| answer tokens/s | plain tokens/s |"
)


@dataclass(frozen=True)
class Row:
    """One line of the table; times in ms of each answer."""

    sequences: int
    first: list[float]
    cause: list[float]
    whole: list[float]
    cpu: list[float]
    answer_rate: float
    plain_rate: float

    def __str__(self) -> str:
        def two(values: Sequence[float]) -> str:
            return f"{np.percentile(values, 50):.1f} / {np.percentile(values, 95):.1f}"

        times = f"{two(self.first)} | {two(self.cause)} | {two(self.whole)}"
        cpu = two(self.cpu) if self.sequences == 1 else f"{np.mean(self.cpu):.1f}"
        return f"| {self.sequences} | {times} | {cpu} | {self.answer_rate:,.0f} | {self.plain_rate:,.0f} |"


class _Watch:
    """When an answer began, had its cause, and ended."""

    def __init__(self) -> None:
        self.begun = self.cause = self.end = self.cpu = 0.0

    def plan(self, evidence: Evidence, lead: str, style: Style) -> Plan:
        """The plan of an annotation, which notes when its cause is known."""
        inner = annotation_plan(evidence, lead, citable=citable_facts(evidence, style), own_action=style == "instruct")
        outcome = None
        try:
            while True:
                step = inner.send(outcome)
                outcome = yield step
                if isinstance(step, Choose) and not self.cause:
                    self.cause = time.perf_counter()
        except StopIteration as stop:
            return cast("tuple[float, ...]", stop.value)

    def answer(
        self, decoder: Decoder, evidence: Evidence, style: Style, family: Family, sequence: int
    ) -> Forward[Decoded]:
        """The answer, timed."""
        self.begun, cpu = time.perf_counter(), time.process_time()
        prompt = build(evidence, family, style)
        done = yield from decoder.answer(prompt.body, self.plan(evidence, prompt.lead, style), sequence)
        self.end, self.cpu = time.perf_counter(), time.process_time() - cpu
        return done


def evidences(count: int) -> list[Evidence]:
    """Evidence of the training scenarios, the same for every run."""
    dice = random.Random(4711)
    return [scenario(dice).evidence for _ in range(count)]


def measure(path: Path, style: Style, *, sequences: int, answers: int, threads: int, gpu_layers: int) -> Row:
    """Annotate, then decode plainly, with so many sequences side by side."""
    model = engine.Model(path, threads=threads, gpu_layers=gpu_layers, sequences=sequences + HOMES)
    try:
        family = family_of(model, "v3-tekken" if style == "rows" else "auto")
        decoder = Decoder(model, prefix(family, style))
        decoder.warm()
        _annotate(model, decoder, style, family, evidences(sequences + 2), sequences)  # warm caches and kernels
        begun, cpu = time.perf_counter(), time.process_time()
        watches, done = _annotate(model, decoder, style, family, evidences(answers), sequences)
        taken_s, cpu_s = time.perf_counter() - begun, time.process_time() - cpu
        return Row(
            sequences=sequences,
            first=[one.prefill_ms for one in done],
            cause=[1e3 * (watch.cause - watch.begun) for watch in watches],
            whole=[1e3 * (watch.end - watch.begun) for watch in watches],
            cpu=[1e3 * (watch.cpu if sequences == 1 else cpu_s / answers) for watch in watches],
            answer_rate=sum(len(one.tokens) for one in done) / taken_s,
            plain_rate=_plain(model, decoder, sequences),
        )
    finally:
        model.close()


def _annotate(
    model: engine.Model, decoder: Decoder, style: Style, family: Family, asked: Iterable[Evidence], sequences: int
) -> tuple[list[_Watch], list[Decoded]]:
    batcher: Batcher[int] = Batcher(model, sequences)
    watches: list[_Watch] = []
    for number, evidence in enumerate(asked):
        watch = _Watch()
        watches.append(watch)
        batcher.add(
            number,
            partial(watch.answer, decoder, evidence, style, family),
            decoder.home,
            float("inf"),
        )
    done: dict[int, Decoded] = {}
    while batcher.busy:
        for number, found in batcher.step():
            if isinstance(found, WorkerError):
                raise found
            done[number] = found
    return watches, [done[number] for number in range(len(watches))]


def _plain(model: engine.Model, decoder: Decoder, sequences: int) -> float:
    """Tokens a second of bare forward passes behind the prefix."""
    start = len(decoder.prefix_tokens)
    places = range(HOMES, HOMES + sequences)
    for place in places:
        model.copy(decoder.home, place)
    token = decoder.prefix_tokens[-1]
    begun = time.perf_counter()
    for step in range(PLAIN_STEPS):
        model.forward([Chunk(place, (token,), start + step) for place in places])
    taken_s = time.perf_counter() - begun
    for place in places:
        model.rewind(0, place)
    return sequences * PLAIN_STEPS / taken_s


def table(path: Path, style: Style, *, answers: int, threads: int, gpu_layers: int, sequences: Sequence[int]) -> None:
    """Measure and print."""
    print(HEAD)
    print("|---|---|---|---|---|---|---|")
    for count in sequences:
        row = measure(path, style, sequences=count, answers=answers, threads=threads, gpu_layers=gpu_layers)
        print(row, flush=True)


def machine() -> str:
    """Processor and library, in words."""
    name = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return f"{os.cpu_count()} cores {name}, {engine.VERSION}, load {load:.1f}"


def main(arguments: Sequence[str]) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench llm", description=__doc__)
    parser.add_argument("--model", default="builtin:plant-tiny", help="as llm.model; default: the built-in one")
    parser.add_argument("--answers", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gpu-layers", type=int, default=0, help="-1 is all")
    parser.add_argument("--sequences", type=int, nargs="+", default=SEQUENCES)
    told = parser.parse_args(arguments)
    file = find(told.model, None, Path.cwd())
    print(f"{file.name}, {told.threads} thread(s), {told.answers} answers; {machine()}")
    table(
        file.path,
        file.style,
        answers=told.answers,
        threads=told.threads,
        gpu_layers=told.gpu_layers,
        sequences=told.sequences,
    )
    return 0
