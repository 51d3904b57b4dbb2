"""
Score cards side by side: random weights, the built-in model, the rules and the other baselines, on the same scenarios.

Makes the file of random weights itself, of the built-in's shape and vocabulary. Prints Markdown for docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from broker.scorecard import table
from broker.scorecard.runner import AGAIN, SCENARIOS, SEED, Size, run
from llm.model_file import ModelFile, find
from llm.options import ReasonerOptions
from schemas.scorecard import ScoreCard
from training.shape import Shape
from training.untrained import untrained


def main(argv: Sequence[str]) -> int:
    """``python -m bench scorecards``."""
    parser = argparse.ArgumentParser(prog="python -m bench scorecards", description=__doc__)
    parser.add_argument("--scenarios", type=int, default=SCENARIOS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--again", type=int, default=AGAIN)
    arguments = parser.parse_args(argv)
    size = Size(arguments.scenarios, arguments.seed, arguments.again)
    builtin = find("builtin:plant-tiny", None, Path())
    shape = Shape(**json.loads(builtin.path.with_suffix(".json").read_text())["training"]["shape"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "untrained.gguf"
        untrained(path, shape, 1)
        blank = ModelFile(path, "random weights", "builtin", "rows", "", builtin.knows)
        cards = [_card(file, size) for file in (blank, replace(builtin, name="plant-tiny"))]
    for line in _lines(cards):
        print(line)
    return 0


def _card(file: ModelFile, size: Size) -> ScoreCard:
    def tell(done: int, total: int, what: str) -> None:
        if done % 100 == 0:
            print(f"{file.name}: {done} of {total}, {what}", file=sys.stderr)

    return asyncio.run(run(file, ReasonerOptions(), size, tell))


def _lines(cards: Sequence[ScoreCard]) -> list[str]:
    blank, builtin = cards
    rows = (blank.model, builtin.model, *builtin.beside)
    notes = [f"{row.name}: {row.note}" for row in rows if row.note]
    lines = [
        f"Suite {builtin.suite} ({builtin.scenarios_sha256[:16]}), {builtin.scenarios} scenarios, seed {builtin.seed}, "
        f"on {builtin.machine}, {builtin.threads} thread; plant-tiny is sha256 {builtin.model_sha256[:16]}, prompt "
        f"{builtin.prompt_version}. Chance: {100 * builtin.chance:.1f} %.",
        *notes,
        "",
        *table.overall(rows),
        "",
        *table.strata(rows),
        "",
        *table.robustness(cards),
        "",
        *table.latency(cards),
        "",
    ]
    for card in cards:
        lines += [f"{card.model_name}: {table.verdict(card)}", *(f"- {reason}" for reason in card.reasons)]
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
