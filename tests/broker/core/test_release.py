"""Releases by a written policy: only what fits, only after a person had the time, and with its hash in the audit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from broker.core.release import ReleaseService
from broker.release import ReleasePolicy, ReviewOptions
from broker.review import decide
from llm.rules import annotate_by_rules
from schemas.annotation import Annotation, Review
from schemas.anomaly import Anomaly, Severity
from schemas.errors import Refused
from schemas.evidence import Evidence
from tests.broker.api.core import Core, running_core

S = 1_000_000_000
RULE = {"severity": ["high", "medium"], "kind": ["mean_shift", "out_of_range"]}
WRITTEN = {
    "name": "utilities",
    "approved_by": "J. Keller, head of maintenance",
    "approved_on": "2026-11-01",
    "reason": "Requests for greasing cost nothing and are wanted at night.",
    "wait": "10min",
    "rules": [RULE],
}


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    """A core over an empty journal."""
    with running_core(tmp_path) as core:
        yield core


def explain(core: Core, anomaly: Anomaly, evidence: Evidence, created_ns: int) -> Annotation:
    """The anomaly with evidence and the rules' annotation."""
    note = annotate_by_rules(evidence, detector_score=1.0, created_ns=created_ns)

    def command(tx) -> None:
        tx.anomaly(anomaly)
        tx.evidence(evidence)
        tx.annotation(note)

    core.write(command)
    return note


def service(core: Core, now_ns: int, *, asked: bool = False, **changed: object) -> ReleaseService:
    policy = ReleasePolicy.model_validate(WRITTEN | changed)
    return ReleaseService(core.store.reader(), core.services.writer, policy, "lyon", lambda: now_ns, lambda: asked)


def rule(anomaly: Anomaly, **changed: object) -> dict[str, object]:
    """A rule that fits the anomaly, with other lines."""
    return {"severity": [anomaly.severity.name.lower()], "kind": [anomaly.kind]} | changed


async def test_what_fits_is_released_once_the_time_is_over(core: Core, anomaly, evidence) -> None:
    """One review by the policy, two documents, its hash in the audit; before the time is over nothing happens."""
    note = explain(core, anomaly, evidence, 100 * S)
    rules = [rule(anomaly)]
    assert await service(core, 100 * S + 599 * S, rules=rules).look() == 0
    made = service(core, 100 * S + 600 * S, rules=rules)
    assert await made.look() == 1
    assert await made.look() == 0
    [review] = core.store.reader().reviews_of(anomaly.anomaly_id)
    assert (review.verdict, review.person, review.annotation_id) == ("approved", "policy:utilities", note.annotation_id)
    assert "J. Keller" in review.comment
    assert len(core.store.reader().documents()) == 2
    audit = {row.action: row for row in core.store.reader().audit(limit=20)}
    assert ReleasePolicy.model_validate(WRITTEN | {"rules": rules}).sha256 in audit["released_by_policy"].detail


@pytest.mark.parametrize(
    "changed",
    [
        {"severity": ["low"]},
        {"kind": ["stale"]},
        {"equipment": "Acme/Elsewhere/*"},
        {"causes": ["cavitation"]},
        {"origin": ["model"]},
        {"probability": "100%"},
    ],
)
async def test_what_does_not_fit_waits_for_a_person(core: Core, anomaly, evidence, changed) -> None:
    """Each line of the rule has to fit (control: the test above)."""
    explain(core, anomaly, evidence, 0)
    assert await service(core, time.time_ns(), rules=[rule(anomaly, **changed)]).look() == 0
    assert core.store.reader().documents() == []


async def test_what_a_person_decided_or_the_model_may_still_explain_is_left_alone(
    core: Core, anomaly, evidence
) -> None:
    """An answer of the model that may come is waited for; a rejection stands."""
    note = explain(core, anomaly, evidence, 0)
    rules = [rule(anomaly)]
    assert await service(core, time.time_ns(), asked=True, rules=rules).look() == 0
    rejected = Review(annotation_id=note.annotation_id, verdict="rejected", person="a", at_ns=1, reason="known_work")
    core.write(lambda tx: decide(tx, rejected, "lyon"))
    assert await service(core, time.time_ns(), rules=rules).look() == 0
    assert core.store.reader().documents() == []


async def test_one_that_has_become_worse_waits_for_a_person(core: Core, anomaly, evidence) -> None:
    """The rule must fit what was explained and what it is now."""
    explain(core, anomaly, evidence, 0)
    worse = anomaly.model_copy(update={"revision": anomaly.revision + 1, "severity": Severity.CRITICAL})
    core.write(lambda tx: tx.anomaly(worse))
    assert await service(core, time.time_ns(), rules=[rule(anomaly)]).look() == 0


async def test_a_release_is_no_verdict(core: Core, anomaly, evidence) -> None:
    """Later evidence does not tell of an approval that nobody gave."""
    explain(core, anomaly, evidence, 0)
    assert await service(core, time.time_ns(), rules=[rule(anomaly)]).look() == 1
    closed = anomaly.model_copy(
        update={"revision": anomaly.revision + 1, "state": "closed", "closed_ns": anomaly.updated_ns}
    )
    core.write(lambda tx: tx.anomaly(closed))
    [past] = core.write(lambda tx: tx.past_episodes(anomaly.equipment, anomaly.onset_ns + 1, 5))
    assert past.verdict is None


@pytest.mark.parametrize(
    "broken",
    [{"rules": []}, {"reason": "short"}, {"approved_by": ""}, {"name": "A B"}, {"rules": [{"kind": ["rate"]}]}],
)
def test_a_policy_says_who_why_and_for_what(broken: dict[str, object]) -> None:
    """Without one of them it is none."""
    with pytest.raises(ValidationError):
        ReviewOptions.model_validate({"policy": WRITTEN | broken})


async def test_a_policy_that_is_refused_is_told_once(core: Core, anomaly, evidence) -> None:
    """What a person decided while it looked is refused by the review itself, and not tried again."""
    note = explain(core, anomaly, evidence, 0)
    made = service(core, time.time_ns(), rules=[rule(anomaly)])
    approved = Review(annotation_id=note.annotation_id, verdict="approved", person="a", at_ns=1)
    core.write(lambda tx: decide(tx, approved, "lyon"))
    assert not await made._submit(lambda tx: made._release(note.annotation_id, 0, tx), note.annotation_id)
    with pytest.raises(Refused):
        core.write(lambda tx: decide(tx, approved, "lyon"))
    assert len(core.store.reader().documents()) == 2
