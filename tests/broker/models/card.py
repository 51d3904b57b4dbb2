"""A score card as small as one can be."""

from __future__ import annotations

from llm.prompt import PROMPT_VERSION
from schemas.scorecard import Figures, Latency, Robustness, Row, ScoreCard, Span, Thresholds


def card(key: str, *, passed: bool) -> ScoreCard:
    """The card of what answers under *key*."""
    span = Span(p50=10.0, p95=20.0)
    return ScoreCard(
        model_sha256=key,
        model_name="m",
        suite="plant/1",
        scenarios_sha256="0" * 64,
        scenarios=400,
        seed=7,
        engine="e",
        prompt_version=PROMPT_VERSION,
        family="v3",
        style="rows",
        threads=1,
        made_at="2026-01-01T00:00:00Z",
        model=Row(name="model", overall=Figures(scenarios=400, top1=0.9 if passed else 0.2, ece=0.02)),
        beside=(),
        chance=0.2,
        robustness=Robustness(scenarios=10),
        latency=Latency(first_token=span, decision=span, total=span),
        thresholds=Thresholds(),
        passed=passed,
        reasons=() if passed else ("top-1 0.200 is below the rules' 0.900",),
    )
