"""
The temperature at which a model's probabilities say how often it is right: fitted on one half of some scenarios,
reported on the other.

Source: Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks" (2017), temperature scaling.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.scorecard.figures import calibration_error
from broker.scorecard.scenarios import Scenario
from llm.decoding import Decoder, tempered
from llm.engine import Model
from llm.plan import Choose, Chosen, Plan, annotation_plan, chosen_of
from llm.prompt import build, prefix
from schemas.evidence import Evidence

_LOW: Final = 0.4
_HIGH: Final = 4.0
_TURNS: Final = 30


@dataclass(frozen=True, slots=True)
class Calibration:
    """A temperature, and the expected calibration error on the other half without it and with it."""

    temperature: float
    fitted_on: int
    error_before: float
    error_after: float


def _decision(evidence: Evidence, lead: str) -> Plan:
    """The annotation's plan up to its first choice; returns the probability of every cause."""
    plan = annotation_plan(evidence, lead)
    outcome: Chosen | None = None
    while True:
        step = plan.send(outcome)
        outcome = yield step
        if isinstance(step, Choose):
            return chosen_of(outcome).probabilities


def decisions(path: Path, cases: Sequence[Scenario]) -> list[dict[str, float]]:
    """Probability of every cause, as the model itself gives it, for each scenario."""
    model = Model(path)
    try:
        decoder = Decoder(model, prefix("v3-tekken", "rows"))
        said = []
        for one in cases:
            prompt = build(one.evidence, "v3-tekken", "rows")
            shares = decoder.run(prompt.body, _decision(one.evidence, prompt.lead)).probabilities
            names = [*(option.id for option in one.evidence.causes), "unknown"]
            said.append(dict(zip(names, shares, strict=True)))
        return said
    finally:
        model.close()


def _loss(temperature: float, cases: Sequence[Scenario], said: Sequence[Mapping[str, float]]) -> float:
    """Mean of minus the log of what a right cause was given."""
    total = 0.0
    for one, shares in zip(cases, said, strict=True):
        warm = dict(zip(shares, tempered(list(shares.values()), temperature), strict=True))
        total -= math.log(max(1e-9, sum(warm[cause] for cause in one.causes)))
    return total / len(cases)


def _error(temperature: float, cases: Sequence[Scenario], said: Sequence[Mapping[str, float]]) -> float:
    pairs = []
    for one, shares in zip(cases, said, strict=True):
        first = max(shares, key=lambda cause: shares[cause])
        pairs.append((max(tempered(list(shares.values()), temperature)), first in one.causes))
    return calibration_error(pairs) or 0.0


def halves(cases: Sequence[Scenario]) -> tuple[list[int], list[int]]:
    """Places of the scenarios to fit on, and of those to report on: of each stratum every other one."""
    seen: Counter[str] = Counter()
    fit: list[int] = []
    rest: list[int] = []
    for place, one in enumerate(cases):
        (rest if seen[one.stratum] % 2 else fit).append(place)
        seen[one.stratum] += 1
    return fit, rest


def calibrate(path: Path, cases: Sequence[Scenario]) -> Calibration:
    """Fit on one half of each stratum by golden section, report on the other."""
    told = decisions(path, cases)
    (fit, said_fit), (rest, said_rest) = (
        ([cases[place] for place in half], [told[place] for place in half]) for half in halves(cases)
    )
    low, high = _LOW, _HIGH
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(_TURNS):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if _loss(left, fit, said_fit) < _loss(right, fit, said_fit):
            high = right
        else:
            low = left
    temperature = round((low + high) / 2, 3)
    return Calibration(
        temperature=temperature,
        fitted_on=len(fit),
        error_before=round(_error(1.0, rest, said_rest), 4),
        error_after=round(_error(temperature, rest, said_rest), 4),
    )
