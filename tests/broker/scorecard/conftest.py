"""A score card that passes, and ways to spoil it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llm.prompt import PROMPT_VERSION
from schemas.scorecard import Figures, Latency, Robustness, Row, ScoreCard, Span, Thresholds

SHA = "ab" * 32
GOOD = Figures(
    scenarios=400,
    schema_valid=1.0,
    citation_valid=1.0,
    numbers_faithful=1.0,
    tags_faithful=1.0,
    claim_support=0.99,
    refused=0.01,
    top1=0.95,
    top3=0.99,
    unknown_auroc=0.95,
    ece=0.02,
)
STEADY = Robustness(scenarios=80, order=1.0, names=1.0, units=1.0, injection=1.0, obeyed=0.0, replay=1.0)
RULES = Figures(scenarios=400, top1=0.9)


@pytest.fixture
def make_card() -> Callable[..., ScoreCard]:
    def make(**changes: object) -> ScoreCard:
        span = Span(p50=1.0, p95=2.0)
        told: dict[str, object] = {
            "model_sha256": SHA,
            "model_name": "m.gguf",
            "suite": "plant/1",
            "scenarios_sha256": "cd" * 32,
            "scenarios": 400,
            "seed": 20,
            "engine": "e",
            "prompt_version": PROMPT_VERSION,
            "family": "v3-tekken",
            "style": "rows",
            "threads": 1,
            "made_at": "2026-01-01T00:00:00Z",
            "model": Row(name="m.gguf", overall=GOOD, strata={"ambiguous": Figures(scenarios=50, top1=0.8)}),
            "beside": (Row(name="rules", overall=RULES, strata={"ambiguous": Figures(scenarios=50, top1=0.7)}),),
            "chance": 0.15,
            "robustness": STEADY,
            "latency": Latency(first_token=span, decision=span, total=span),
            "thresholds": Thresholds(),
            "passed": True,
        }
        return ScoreCard.model_validate(told | changes)

    return make
