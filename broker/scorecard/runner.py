"""
A score card from beginning to end: the model's worker is asked every scenario, some of them again in other words, and
the baselines are put beside it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.scorecard import baselines, variants
from broker.scorecard.asker import Asked, Asker
from broker.scorecard.figures import Pair, confusions, figures, share, span
from broker.scorecard.judge import BOOSTED, BOUND, MAJORITY, RULES, judge
from broker.scorecard.said import Said, nothing, of_reply
from broker.scorecard.scenarios import Scenario, held_out
from llm.backends import DECODER
from llm.messages import Reply
from llm.model_file import ModelFile
from llm.options import ReasonerOptions
from llm.prompt import PROMPT_VERSION
from schemas.annotation import model_key
from schemas.documents import rfc3339
from schemas.evidence import Evidence
from schemas.scorecard import Latency, Robustness, Row, ScoreCard, Thresholds

#: Name and version of the scenarios; another version makes cards that cannot be compared.
SUITE: Final = "plant/1"
SCENARIOS: Final = 400
SEED: Final = 20
#: Scenarios that are asked again in each other way.
AGAIN: Final = 80
#: Of those, how many a fresh process is asked.
FRESH: Final = 16
MOST_FAULTS: Final = 10

#: (questions answered, questions in all, what is being done).
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is asked, and from which seed."""

    scenarios: int = SCENARIOS
    seed: int = SEED
    again: int = AGAIN


async def run(file: ModelFile, options: ReasonerOptions, size: Size, progress: Progress) -> ScoreCard:
    """
    Score a model.

    Raises:
        Refused: the model cannot be loaded, or keeps ending its worker.
    """
    cases = held_out(size.scenarios, size.seed)
    repeated = spread(cases, size.again)
    fresh = repeated[:FRESH]
    asker = _Counting(Asker(file, options), len(cases) + 5 * len(repeated) + len(fresh), progress)
    await asker.asker.start()
    try:
        asked = [await asker.ask(one.evidence, "scenarios") for one in cases]
        robustness = await _robustness(asker, cases, asked, repeated, options, file)
        ready = asker.asker.ready
    finally:
        await asker.asker.close()
    said = [_said(one.evidence, what) for one, what in zip(cases, asked, strict=True)]
    pairs = list(zip(cases, said, strict=True))
    progress(asker.total, asker.total, "baselines")
    model = row(file.name, pairs)
    beside = _beside(cases, size.seed)
    need = Thresholds()
    reasons = judge(model, beside, robustness, need)
    return ScoreCard(
        model_sha256=model_key(
            ready.sha256, ready.adapter_sha256, file.adapter.scale if file.adapter is not None else None
        ),
        model_name=file.name,
        suite=SUITE,
        scenarios_sha256=_digest(cases),
        scenarios=len(cases),
        seed=size.seed,
        engine=f"{DECODER} {ready.engine}",
        prompt_version=PROMPT_VERSION,
        family=ready.family,
        style=file.style,
        calibration=file.calibration,
        threads=options.threads,
        machine=_machine(),
        made_at=rfc3339(time.time_ns()),
        model=model,
        beside=beside,
        chance=baselines.chance(cases),
        robustness=robustness,
        latency=_latency(asked),
        confusions=confusions(pairs),
        faults=tuple(dict.fromkeys(one.fault for one in said if one.fault))[:MOST_FAULTS],
        thresholds=need,
        passed=not reasons,
        reasons=reasons,
    )


def row(name: str, pairs: Sequence[Pair]) -> Row:
    """One annotator's figures, over all and by stratum."""
    strata: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        strata[pair[0].stratum].append(pair)
    return Row(
        name=name, overall=figures(pairs), strata={stratum: figures(some) for stratum, some in sorted(strata.items())}
    )


def spread(cases: Sequence[Scenario], count: int) -> list[int]:
    """Places of *count* scenarios, the strata in turn."""
    strata: dict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(cases):
        strata[one.stratum].append(place)
    turns = sorted((turn, stratum, place) for stratum, places in strata.items() for turn, place in enumerate(places))
    return [place for _, _, place in turns[:count]]


class _Counting:
    """Asks, and tells how far it has come."""

    def __init__(self, asker: Asker, total: int, progress: Progress) -> None:
        self.asker = asker
        self.total = total
        self._done = 0
        self._progress = progress

    async def ask(self, evidence: Evidence, what: str) -> Asked:
        asked = await self.asker.ask(evidence)
        self._done += 1
        self._progress(self._done, self.total, what)
        return asked


def _said(evidence: Evidence, asked: Asked) -> Said:
    return of_reply(evidence, asked.reply) if asked.reply is not None else nothing(asked.fault)


async def _robustness(
    asker: _Counting,
    cases: Sequence[Scenario],
    asked: Sequence[Asked],
    repeated: Sequence[int],
    options: ReasonerOptions,
    file: ModelFile,
) -> Robustness:
    kept: dict[str, list[bool]] = defaultdict(list)
    for place in repeated:
        one, was = cases[place], asked[place]
        said = _said(one.evidence, was)
        rng = random.Random(one.evidence.evidence_id)
        told, demanded = variants.injected(one.evidence, rng, (*one.causes, said.first))
        others = {
            "order": variants.reordered(one.evidence, rng),
            "names": variants.renamed(one.evidence, rng),
            "units": variants.converted(one.evidence),
            "injection": told,
        }
        for what, evidence in others.items():
            now = _said(evidence, await asker.ask(evidence, f"robustness to {what}"))
            kept[what].append(bool(said.first) and now.first == said.first)
            if what == "injection":
                kept["obeyed"].append(now.first == demanded)
        kept["replay"].append(equal(was, await asker.ask(one.evidence, "replay")))
    await asker.asker.close()
    asker.asker = Asker(file, options)
    await asker.asker.start()
    for place in repeated[:FRESH]:
        fresh = await asker.ask(cases[place].evidence, "replay by a fresh process")
        kept["replay"].append(equal(asked[place], fresh))
    return Robustness(scenarios=len(repeated), **{name: share(held) for name, held in kept.items()})


def equal(was: Asked, now: Asked) -> bool:
    """Whether two answers to one question have the same tokens and the same probabilities."""
    if was.reply is None or now.reply is None:
        return False

    def seen(reply: Reply) -> tuple[object, ...]:
        return reply.tokens, reply.shares, reply.choices, reply.answer, reply.prompt_sha256, reply.plan_sha256

    return seen(was.reply) == seen(now.reply)


def _beside(cases: Sequence[Scenario], seed: int) -> tuple[Row, ...]:
    count = min(baselines.MOST, max(baselines.FEWEST, baselines.EXAMPLES * len(cases)))
    learned = baselines.examples(count, seed)
    rows = [
        row(RULES, list(zip(cases, baselines.by_rules(cases), strict=True))),
        row(MAJORITY, list(zip(cases, baselines.by_majority(cases, learned), strict=True))),
    ]
    trees = baselines.by_trees(cases, learned)
    if trees is None:
        rows.append(Row(name=BOOSTED, note=baselines.NOT_INSTALLED))
    else:
        rows.append(row(BOOSTED, list(zip(cases, trees, strict=True))))
    return (*rows, row(BOUND, baselines.by_bound(cases)))


def _latency(asked: Sequence[Asked]) -> Latency:
    replies = [(one.reply, one.total_ms) for one in asked if one.reply is not None]
    return Latency(
        first_token=span([reply.prefill_ms for reply, _ in replies]),
        decision=span([reply.decision_ms for reply, _ in replies]),
        total=span([total for _, total in replies]),
    )


def _digest(cases: Sequence[Scenario]) -> str:
    seen = hashlib.sha256()
    for one in cases:
        seen.update(f"{one.stratum} {one.evidence.evidence_id} {' '.join(one.causes)}\n".encode())
    return seen.hexdigest()


def _machine() -> str:
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{os.cpu_count() or 1} cores, {name}"
