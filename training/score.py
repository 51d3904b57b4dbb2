"""
The score card: a model file against the rules on scenarios it never saw, spelled with tag names it never saw.

    python -m training.score MODEL.gguf [--scenarios 400] [--seed 20]
"""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from llm.checks import check_model
from llm.decoding import Decoder
from llm.engine import Model
from llm.plan import Answer, annotation_plan
from llm.prompt import build, prefix
from llm.rules import annotate_by_rules
from schemas.annotation import Annotation, Cause
from training.scenarios import STRATA, Scenario, scenario

_BINS: Final = 10


def held_out(count: int, seed: int) -> list[Scenario]:
    """Scenarios for scoring, the same share of each stratum as in training."""
    rng = random.Random(f"score-{seed}")
    return [scenario(rng, held_out="yes") for _ in range(count)]


def calibration_error(pairs: Sequence[tuple[float, bool]]) -> float:
    """Expected calibration error of (probability, right), ten bins."""
    total = 0.0
    for i in range(_BINS):
        part = [(p, ok) for p, ok in pairs if i / _BINS < p <= (i + 1) / _BINS]
        if part:
            total += abs(sum(p for p, _ in part) - sum(ok for _, ok in part)) / len(pairs)
    return total


class Card:
    """Counts of one annotator over all scenarios."""

    def __init__(self) -> None:
        self._right: dict[str, list[bool]] = defaultdict(list)
        self._certain: list[tuple[float, bool]] = []
        self._cited = self._cited_right = self._causal = self._valid = self._usable = self._count = 0

    def add(
        self, one: Scenario, named: str, probability: float, cites: Sequence[str], checks: Mapping[str, bool]
    ) -> None:
        """One answer: the first cause, its probability and citations, and what the checks said."""
        right = named in one.causes
        self._count += 1
        self._usable += all(checks.values())
        self._valid += all(passed for name, passed in checks.items() if name != "no_direction_claim")
        self._right[one.stratum].append(right)
        self._certain.append((probability, right))
        if right:
            truth = set(one.cites[named])
            moved = {f.id for f in one.evidence.facts if f.kind == "deviation"}
            self._cited += len(set(cites) & moved)
            self._cited_right += len(set(cites) & truth)
            self._causal += len(truth)

    def summary(self) -> dict[str, Any]:
        """
        Shares: answers in form (``valid``) and free of any claim (``usable``), right first causes, citations.

        Citations are judged where the cause was right, against the facts that the fault moved.
        """
        everything = [ok for part in self._right.values() for ok in part]
        return {
            "valid": round(self._valid / self._count, 4),
            "usable": round(self._usable / self._count, 4),
            "cause": round(sum(everything) / self._count, 4),
            "cause_by_stratum": {
                name: round(sum(self._right[name]) / len(self._right[name]), 4) for name in STRATA if self._right[name]
            },
            "citation_precision": round(self._cited_right / max(1, self._cited), 4),
            "citation_recall": round(self._cited_right / max(1, self._causal), 4),
            "calibration_error": round(calibration_error(self._certain), 4),
        }


def _by_model(decoder: Decoder, one: Scenario) -> tuple[Answer, float, dict[str, bool]]:
    prompt = build(one.evidence, "v3-tekken", "rows")
    done = decoder.run(prompt.body, annotation_plan(one.evidence, prompt.lead))
    answer = msgspec.json.decode(done.text, type=Answer)
    causes = [
        Cause(id=c.id, text="", mechanism="", probability=min(1.0, p), cites=tuple(c.cites))
        for c, p in zip(answer.causes, done.probabilities, strict=True)
    ]
    checks = check_model(one.evidence, causes, answer.actions, answer.text)
    return answer, min(1.0, done.probabilities[0]), checks


def score(path: Path, cases: Sequence[Scenario]) -> dict[str, Any]:
    """Score card of a model in the ``rows`` style, with the rules and the commonest cause beside it."""
    model = Model(path)
    try:
        decoder = Decoder(model, prefix("v3-tekken", "rows"))
        tiny, rules = Card(), Card()
        for one in cases:
            answer, probability, checks = _by_model(decoder, one)
            tiny.add(one, answer.causes[0].id, probability, answer.causes[0].cites, checks)
            said: Annotation = annotate_by_rules(one.evidence, detector_score=1.0, created_ns=0)
            first = said.causes[0]
            rules.add(one, first.id, first.probability, first.cites, said.provenance.checks)
    finally:
        model.close()
    counts: dict[str, int] = defaultdict(int)
    for one in cases:
        for cause in one.causes:
            counts[cause] += 1
    return {
        "scenarios": len(cases),
        "model": tiny.summary(),
        "rules": rules.summary(),
        "commonest_cause": round(max(counts.values()) / len(cases), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--scenarios", type=int, default=400)
    parser.add_argument("--seed", type=int, default=20)
    args = parser.parse_args()
    print(json.dumps(score(args.model, held_out(args.scenarios, args.seed)), indent=2))


if __name__ == "__main__":
    main()
