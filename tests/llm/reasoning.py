"""Asking a reasoner, and what its annotations must keep."""

from __future__ import annotations

import pytest

from schemas.annotation import UNKNOWN, Annotation, citations, uncited_digits
from schemas.evidence import Evidence


def check_valid(evidence: Evidence, done: Annotation) -> None:
    """An annotation of the model: typed, bound to its evidence, cited, no digit of its own."""
    known = {fact.id for fact in evidence.facts}
    assert done.origin == "model", done.provenance.fallback_reason
    assert Annotation.model_validate_json(done.model_dump_json()) == done
    assert done.evidence_id == evidence.evidence_id
    assert {c.id for c in done.causes} <= {o.id for o in evidence.causes} | {UNKNOWN}
    assert all(set(c.cites) <= known and bool(c.cites) is bool(known) for c in done.causes)
    assert set(citations(done.text)) <= known
    assert bool(citations(done.text)) is bool(known)
    assert not uncited_digits(done.text)
    assert 1 <= len(done.actions) <= 3
    assert all(done.provenance.checks.values())


def without_signs(evidence: Evidence) -> Evidence:
    """The same facts with causes that nothing speaks against: random weights choose blindly."""
    causes = tuple(cause.model_copy(update={"signs": ()}) for cause in evidence.causes)
    return evidence.model_copy(update={"causes": causes})


@pytest.fixture
def bearing(bearing: Evidence) -> Evidence:
    """A clear case of bearing wear, of which random weights may say anything."""
    return without_signs(bearing)


async def ask(reasoner, evidence: Evidence) -> Annotation:
    return await reasoner.annotate(evidence, detector_score=2.5, created_ns=7)
