"""From a score card to what a person sees: without a passing one a model explains beside the rules, not before."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from broker.core.reasoning import ReasoningService
from broker.review import decide
from broker.scorecard.cards import save
from broker.scorecard.standing import Standings, stamped
from llm.model_file import find
from schemas.annotation import Annotation, Provenance, Review
from schemas.errors import Refused
from schemas.scorecard import ScoreCard
from tests.broker.api.core import TOKEN, Core, S, bearing_wear, running_core
from tests.broker.cli.conftest import Said, fairlead
from tests.broker.scorecard.conftest import SHA, make_card

__all__ = ["fairlead", "make_card"]
Make = Callable[..., ScoreCard]
Run = Callable[..., Said]
FAILED = "cause top-1 0.400, needed 0.900 (rules)"


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    """A core that is configured for the built-in model."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    with running_core(tmp_path, llm="{model: 'builtin:plant-tiny'}") as core:
        yield core


@pytest.fixture
def builtin() -> str:
    """Hash of the built-in model."""
    return find("builtin:plant-tiny", None, Path()).sha256


@asynccontextmanager
async def _explaining(core: Core) -> AsyncIterator[None]:
    """The reasoning service of this core, with the real worker."""
    services = core.services
    service = ReasoningService(
        core.store.reader(), services.writer, services.reasoner, time.time_ns, services.standing_of
    )
    task = asyncio.create_task(service.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        await services.reasoner.close()


def _by_model(core: Core, anomaly_id: str) -> list[Annotation]:
    found = core.store.reader().anomaly(anomaly_id)
    assert found is not None
    return [one.annotation for one in found.annotations if one.annotation.origin != "rules"]


@pytest.mark.model
async def test_a_model_that_did_not_pass_stands_beside_the_rules(
    core: Core, builtin: str, make_card: Make, eventually: Any, fairlead: Run
) -> None:
    """In SQL, API, page, status and audit; it cannot be approved, and the document is of the rules."""
    card = make_card(model_sha256=builtin, passed=False, reasons=(FAILED,))
    save(core.services.config.data_dir, card)
    anomaly, _, rules = bearing_wear(core, (time.time_ns() // S - 250) * S)
    reader = core.store.reader()
    async with _explaining(core):
        await eventually(lambda: _by_model(core, anomaly.anomaly_id), 60)
        (told,) = _by_model(core, anomaly.anomaly_id)
        assert told.origin == "advisory"
        assert told.provenance.model_sha256 == builtin
        assert told.provenance.card_id == card.card_id
        assert told.provenance.advisory_reason == f"its score card did not pass: {FAILED}"
        assert told.provenance.shares, "every cause that was weighed is kept with its probability"
        assert reader.annotations_pending(10) == [], "it was asked, and is not asked again"

        # lists and details keep the rules in front
        (row,) = reader.anomalies(state=None, review=None, limit=10, before=None)
        assert (row.annotation_id, row.origin) == (rules.annotation_id, "rules")
        assert row.advisory_id == told.annotation_id
        client = core.as_role("engineer", name="a.moreau")
        detail = (await asyncio.to_thread(client.get, f"/api/v1/anomalies/{anomaly.anomaly_id}")).json()
        assert [one["origin"] for one in detail["annotations"]] == ["rules", "advisory"]
        assert [one["superseded"] for one in detail["annotations"]] == [False, False]

        # model, readiness and status say it, with the reason and what helps
        model = (await asyncio.to_thread(client.get, "/api/v1/model")).json()
        assert (model["mode"], model["help"]) == ("advisory", "fairlead llm card")
        assert model["card"]["reasons"] == [FAILED]
        ready = (await asyncio.to_thread(client.get, "/readyz")).json()
        assert any("plant-tiny is advisory" in note and FAILED in note for note in ready["notes"])
        assert "fairlead_llm_advisory 1.0" in (await asyncio.to_thread(client.get, "/metrics")).text
        access = core.services.config.data_dir / "core.json"
        access.write_text(json.dumps({"url": core.url, "token": TOKEN}))
        said = await asyncio.to_thread(fairlead, "status", "-c", str(core.services.config.path))
        assert said.code == 0
        assert f"model plant-tiny is advisory (its score card did not pass: {FAILED})" in said.out
        assert "what helps: fairlead llm card" in said.out

        # the page shows the rules' words first, and the model's labelled
        page = (
            await asyncio.to_thread(client.get, f"/?anomaly={anomaly.anomaly_id}", headers={"Accept": "text/html"})
        ).text
        assert "Model plant-tiny is advisory, rules explain" in page
        assert page.index("origin: rules") < page.index("advisory: it counts for nothing")
        assert f"/ui/annotations/{told.annotation_id}/review" not in page
        assert f"/ui/annotations/{rules.annotation_id}/review" in page

    refused = client.post(f"/api/v1/annotations/{told.annotation_id}/review", json={"verdict": "approved"})
    assert refused.status_code == 409
    assert "this text is advisory" in refused.json()["detail"]
    done = client.post(f"/api/v1/annotations/{rules.annotation_id}/review", json={"verdict": "approved"})
    assert done.status_code == 200
    assert {one["data"].get("origin", "rules") for one in done.json()["documents"]} == {"rules"}

    shown = fairlead("audit", "show", told.annotation_id, "-c", str(core.services.config.path))
    assert f"score card {card.card_id} in force" in shown.out
    assert "advisory, rules stood in front" in shown.out
    config = str(core.services.config.path)
    again = await asyncio.to_thread(fairlead, "audit", "replay", told.annotation_id, "-c", config)
    assert again.code == 0, again.text


@pytest.mark.model
async def test_a_model_that_passed_supersedes_the_rules(
    core: Core, builtin: str, make_card: Make, eventually: Any
) -> None:
    """The control: the same model and evidence with a card that passed is the current explanation."""
    card = make_card(model_sha256=builtin)
    save(core.services.config.data_dir, card)
    anomaly, _, _ = bearing_wear(core, (time.time_ns() // S - 250) * S)
    async with _explaining(core):
        await eventually(lambda: _by_model(core, anomaly.anomaly_id), 60)
        (told,) = _by_model(core, anomaly.anomaly_id)
        assert (told.origin, told.provenance.card_id, told.provenance.advisory_reason) == ("model", card.card_id, "")
        client = core.as_role("engineer")
        model = (await asyncio.to_thread(client.get, "/api/v1/model")).json()
        assert (model["mode"], model["reason"], model["card"]["passed"]) == ("annotate", "", True)
        ready = (await asyncio.to_thread(client.get, "/readyz")).json()
        assert not any("advisory" in note for note in ready["notes"])
    (row,) = core.store.reader().anomalies(state=None, review=None, limit=10, before=None)
    assert (row.annotation_id, row.origin, row.advisory_id) == (told.annotation_id, "model", None)


def test_a_card_counts_from_the_next_answer_on(tmp_path: Path, make_card: Make) -> None:
    """No restart: none, then one that passed, then one that did not."""
    standing_of = Standings(tmp_path, "annotate")
    assert (standing_of(SHA).mode, standing_of(SHA).reason) == ("advisory", "this model has no score card")
    save(tmp_path, make_card())
    assert standing_of(SHA).mode == "annotate"
    save(tmp_path, make_card(passed=False, reasons=("worse",)))
    assert standing_of(SHA).reason == "its score card did not pass: worse"
    assert Standings(tmp_path, "advisory")(SHA).mode == "advisory"
    assert standing_of("").mode == "advisory"


def _model_note(rules: Annotation) -> Annotation:
    made = Provenance(engine="e", model_name="m", model_sha256=SHA)
    return rules.counted_as("model", made)


def test_a_newer_evidence_leaves_an_advisory_text_behind(tmp_path: Path, make_card: Make) -> None:
    """The text stays with its evidence; of the newer one the rules alone speak, until the model is asked."""
    with running_core(tmp_path) as core:
        anomaly, evidence, rules = bearing_wear(core, 1_790_000_000 * S)
        told = stamped(_model_note(rules), Standings(tmp_path, "annotate")(SHA))
        core.write(lambda tx: tx.annotation(told))
        later = evidence.with_facts(evidence.facts[:2])
        newer = Annotation.model_validate(
            rules.model_dump() | {"evidence_id": later.evidence_id, "text": "[E1] deviates."}
        )
        core.write(lambda tx: tx.evidence(later))
        core.write(lambda tx: tx.annotation(newer))
        found = core.store.reader().anomaly(anomaly.anomaly_id)
        assert found is not None
        assert [(one.annotation.origin, one.superseded) for one in found.annotations] == [
            ("rules", False),
            ("rules", True),
            ("advisory", True),
        ]
        assert found.advisory_to(newer) is None
        beside = found.advisory_to(rules)
        assert beside is not None
        assert beside.annotation == told


def test_nobody_can_decide_on_an_advisory_text(tmp_path: Path) -> None:
    """Whatever the verdict, and nothing is stored of it."""
    with running_core(tmp_path) as core:
        anomaly, _, rules = bearing_wear(core, 1_790_000_000 * S)
        told = stamped(_model_note(rules), Standings(tmp_path, "annotate")(SHA))
        core.write(lambda tx: tx.annotation(told))
        for verdict in ("approved", "rejected", "edited"):
            review = Review(
                annotation_id=told.annotation_id,
                verdict=verdict,  # type: ignore[arg-type]
                person="a.moreau",
                at_ns=1,
                reason="other",
                text="[E1] it is.",
            )
            with pytest.raises(Refused, match="this text is advisory"):
                core.write(lambda tx, review=review: decide(tx, review, "Acme/Lyon"))
        found = core.store.reader().anomaly(anomaly.anomaly_id)
        assert found is not None
        assert found.reviews == []


def test_a_card_speaks_for_the_way_it_asked(core: Core, tmp_path: Path, make_card: Make) -> None:
    """The same weights asked in another style or family are advisory; asked as the card did they count."""
    card = make_card()
    save(tmp_path, card)
    standing = Standings(tmp_path, "annotate")(SHA)
    _, _, rules = bearing_wear(core, 1_790_000_000 * S)
    for style, family, origin in (
        (card.style, card.family, "model"),
        ("instruct" if card.style == "rows" else "rows", card.family, "advisory"),
        (card.style, "another", "advisory"),
    ):
        made = Provenance(engine="e", model_name="m", model_sha256=SHA, style=style, family=family)
        told = stamped(rules.counted_as("model", made), standing)
        assert (told.origin, bool(told.provenance.advisory_reason)) == (origin, origin == "advisory")
