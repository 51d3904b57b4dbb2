"""An annotation followed down to the journal, made once more, and what was changed afterwards is told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from broker.audit.lineage import trace
from broker.review import decide
from broker.store import tables
from llm.client import Reasoner
from llm.model_file import builtins
from llm.options import ReasonerOptions
from schemas.annotation import Annotation, Review
from tests.broker.api.core import Core, S
from tests.broker.audit.conftest import T0, Episode, Run


def test_lineage_goes_down_to_the_raw_value(core: Core, episode: Episode, journalled: Run) -> None:
    """Each cited fact has its record, and the record its journal entry with what the device sent."""
    _, evidence, note = episode
    found = trace(core.store.reader(), journalled(), note.annotation_id[:8])

    assert found.annotation_id == note.annotation_id
    assert found.holds == {"annotation": True, "evidence": True, "reviews": True, "audit_chain": True}
    assert [one.fact for one in found.facts] == list(evidence.facts)
    cited = [one for one in found.facts if one.cited]
    assert {one.fact.id for one in cited} == {i for cause in note.causes for i in cause.cites}
    shown = [one for one in cited if one.fact.kind == "deviation"]
    assert shown
    for one in shown:
        assert one.record is not None
        assert one.record.value is not None
        assert one.record.journal is not None
        assert one.record.journal.value == pytest.approx(10 * one.record.value)
        assert one.record.journal.seq > 0
    # a detector's own peak may lie beyond what is stored
    assert any(one.record is not None and one.record.value == one.fact.value for one in shown)
    assert all(one.record is not None and (one.record.value or 0) <= (one.fact.value or 0) for one in shown)


def test_without_a_journal_the_record_still_stands(core: Core, episode: Episode, run: Run) -> None:
    """Retention may have removed the entry: that is said, the rest is complete."""
    said = run("show", episode[2].annotation_id)
    assert said.code == 0
    assert "journal: the entry is not there" in said.out
    assert "checks causes_listed passed" in said.out
    assert "hashes annotation holds, evidence holds, reviews holds, audit_chain holds" in said.out


def test_review_documents_and_audit_rows(core: Core, episode: Episode, run: Run) -> None:
    """Who approved it, what was released, and the rows of the chain about both."""
    _, _, note = episode
    review = Review(annotation_id=note.annotation_id, verdict="approved", person="a.moreau", at_ns=T0 + 900 * S)
    released = core.write(lambda tx: decide(tx, review, "lyon"))
    text = run("show", note.annotation_id).out
    assert "review: approved by a.moreau" in text
    for document in released:
        assert f"document {document.id}" in text
    assert "annotation_approved" in text
    assert text.count("document_released") == 2


def test_a_withdrawal_is_in_the_lineage(core: Core, episode: Episode, run: Run) -> None:
    """Both decisions, all four documents, and their rows of the chain."""
    note = episode[2]
    review = Review(annotation_id=note.annotation_id, verdict="approved", person="policy:greasing", at_ns=T0)
    rejected = {"verdict": "rejected", "person": "a.moreau", "at_ns": T0 + S, "reason": "known_work"}
    sent = core.write(lambda tx: decide(tx, review, "lyon"))
    sent += core.write(lambda tx: decide(tx, review.model_copy(update=rejected), "lyon"))
    said = run("show", note.annotation_id)
    assert "review: rejected (known_work) by a.moreau" in said.out
    assert [line.split()[1] for line in said.out.splitlines() if line.startswith("document ")] == [
        sent[0].id, sent[1].id, sent[2].id, sent[3].id,
    ]  # fmt: skip
    assert (said.out.count("document_released"), said.out.count("document_withdrawn")) == (2, 2)
    assert "reviews holds" in said.out


@pytest.mark.parametrize("table", ["annotations", "evidence", "audit"])
def test_what_was_changed_afterwards_is_told(core: Core, episode: Episode, run: Run, table: str) -> None:
    """A text, a fact or an audit row that somebody changed in SQL: exit 1, and the hash that does not hold."""
    note = episode[2]
    change = {
        "annotations": sa.text("UPDATE annotations SET body = replace(body, 'earing', 'oaring')"),
        "evidence": sa.text("UPDATE evidence SET body = replace(body, 'mean_shift', 'rate')"),
        "audit": sa.text("UPDATE audit SET actor = 'nobody'"),
    }[table]
    core.write(lambda tx: tx.audit("root", "user_added", "x", {}))
    core.write(lambda tx: tx._connection.execute(change) and None)
    said = run("show", note.annotation_id)
    assert said.code == 1
    name = {"annotations": "annotation", "evidence": "evidence", "audit": "audit_chain"}[table]
    assert f"{name} DOES NOT HOLD" in said.out


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE reviews SET body = replace(body, 'seen by me', 'seen by all')",
        "UPDATE reviews SET body = replace(body, 'a.moreau', 'o.berg')",
        "DELETE FROM reviews",
    ],
)
def test_review_that_was_changed_afterwards_is_told(core: Core, episode: Episode, run: Run, change: str) -> None:
    """The chain has the hash of what a person decided; what is not covered by any is said."""
    note = episode[2]
    review = Review(
        annotation_id=note.annotation_id, verdict="approved", person="a.moreau", at_ns=T0, comment="seen by me\x00"
    )
    core.write(lambda tx: decide(tx, review, "lyon"))
    said = run("show", note.annotation_id)
    assert said.code == 0
    assert "reviews holds" in said.out
    assert "covered by none: the provenance" in said.out
    core.write(lambda tx: tx._connection.execute(sa.text(change)) and None)
    said = run("show", note.annotation_id)
    assert said.code == 1
    assert "reviews DOES NOT HOLD" in said.out


@pytest.mark.parametrize("wanted", ["ffffffff", "", "%"])
def test_no_or_several_annotations(core: Core, episode: Episode, run: Run, wanted: str) -> None:
    """An unknown beginning and one that fits several are refused; wildcards are text."""
    note = episode[2]
    other = note.model_copy(update={"text": f"{note.text} Also."})
    core.write(lambda tx: tx.annotation(Annotation.model_validate(other.model_dump())))
    said = run("show", wanted)
    assert said.code == 1
    assert "annotation has an id that begins with" in said.err


def test_rules_are_the_same_once_more(core: Core, episode: Episode, run: Run) -> None:
    """The rules' annotation comes out of its evidence again; of changed evidence another one does."""
    note = episode[2]
    said = run("replay", note.annotation_id)
    assert (said.code, said.out.split()) == (0, ["annotation", "the", "same"])


@pytest.mark.model
async def test_model_gives_the_same_tokens_once_more(
    core: Core, episode: Episode, run: Run, tmp_path: Path, eventually: Run
) -> None:
    """The built-in model, asked again by another worker, gives the very tokens; card and sandbox are in the lineage."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    anomaly, evidence, _ = episode
    reasoner = Reasoner(ReasonerOptions(), base_dir=tmp_path, now_ns=lambda: T0)
    await reasoner.start()
    try:
        note = await reasoner.annotate(evidence, detector_score=anomaly.detector_score, created_ns=T0 + 300 * S)
    finally:
        await reasoner.close()
    assert note.origin == "model", note.provenance.fallback_reason
    core.write(lambda tx: tx.annotation(note))
    shown = (await asyncio.to_thread(run, "show", note.annotation_id)).out
    assert "trained from scratch on synthetic scenarios" in shown
    assert f"tokens {' '.join(map(str, note.provenance.output_tokens))}" in shown
    assert "sandbox: network" in shown
    applied = builtins()["plant-tiny"].calibration
    assert note.provenance.calibration == applied
    assert f"probabilities of the decoder, calibration temperature {applied:g}" in shown

    said = await asyncio.to_thread(run, "replay", note.annotation_id, "-o", "json")
    found = json.loads(said.out)
    assert said.code == 0
    assert found["equal"]
    assert found["tokens"][0] == found["tokens"][1] == list(note.provenance.output_tokens)
    assert found["calibrations"] == [applied, applied]

    # the site has none configured: the model is found by its hash, or by its name
    said = await asyncio.to_thread(run, "replay", note.annotation_id, "--model", "builtin:plant-tiny", "-o", "json")
    assert (said.code, json.loads(said.out)["equal"]) == (0, True)

    # a stored token that was changed is found, with its place
    tokens = (note.provenance.output_tokens[0] + 1, *note.provenance.output_tokens[1:])
    wrong = note.model_copy(update={"provenance": note.provenance.model_copy(update={"output_tokens": tokens})})
    table = tables.annotations
    change = table.update().where(table.c.annotation_id == note.annotation_id).values(body=wrong.model_dump_json())
    core.write(lambda tx: tx._connection.execute(change) and None)
    said = await asyncio.to_thread(run, "replay", note.annotation_id)
    assert said.code == 1
    assert "the first that differs is number 1" in said.out


@pytest.mark.model
def test_another_model_file_is_refused(core: Core, episode: Episode, run: Run) -> None:
    """The tokens of one model are not compared with those of another."""
    note = episode[2]
    made = note.provenance.model_copy(update={"model_name": "other", "model_sha256": "0" * 64})
    told = note.model_copy(update={"origin": "model", "provenance": made})
    told = Annotation.model_validate(told.model_dump())
    core.write(lambda tx: tx.annotation(told))
    said = run("replay", told.annotation_id)
    assert said.code == 1
    assert "name its file with --model" in said.err


def test_what_a_server_said_is_shown_and_cannot_be_made_again(core: Core, episode: Episode, run: Run) -> None:
    """Weights and tokens of a model server are not known here: show and replay say so."""
    note = episode[2]
    made = note.provenance.model_copy(
        update={
            "engine": "openai-compatible/1 response_format",
            "model_name": "plant-7b",
            "model_rung": "site_server",
            "endpoint": "llm.plant.test:8000 at 10.0.0.5",
            "probabilities": "absent",
        }
    )
    causes = tuple(cause.model_copy(update={"probability": None}) for cause in note.causes)
    told = Annotation.model_validate(
        note.model_copy(update={"origin": "model", "provenance": made, "causes": causes}).model_dump()
    )
    core.write(lambda tx: tx.annotation(told))
    shown = run("show", told.annotation_id).out
    assert "sha256 not known, rung site_server" in shown
    assert "model server llm.plant.test:8000 at 10.0.0.5; probabilities: absent" in shown
    assert "p not known rests on" in shown
    said = run("replay", told.annotation_id)
    assert said.code == 1
    assert "plant-7b on the model server llm.plant.test:8000" in said.err
    assert core.store.reader().anomalies(limit=1)[0].probability is None


def test_audit_chain_is_verified(core: Core, run: Run) -> None:
    """A whole chain is exit 0, a changed row is exit 1 with its number."""
    core.write(lambda tx: tx.audit("root", "user_added", "x", {}))
    assert run("verify").code == 0
    core.write(lambda tx: tx._connection.execute(sa.text("UPDATE audit SET detail = '{}x'")) and None)
    said = run("verify")
    assert said.code == 1
    assert "the row was changed" in said.err
