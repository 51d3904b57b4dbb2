"""Models in both databases: imports, decisions, incidents, and what each has answered."""

from __future__ import annotations

from broker.store import Store
from schemas.annotation import Annotation, Provenance, Review
from schemas.ladder import Axes, Decision
from schemas.manifest import Manifest, MediumFile
from tests.broker.store.plant import T0, S, annotation, anomaly, evidence

AXES = Axes(data_residency="d", regulation="r", latency="l", capability="c", cost="c", lock_in="l")


def manifest(version: int, sha: str = "a") -> Manifest:
    files = (
        MediumFile(path="LICENSE", role="licence", size=3, sha256="1" * 64),
        MediumFile(path="m.gguf", role="weights", size=9, sha256=sha * 64),
    )
    told = {"name": "plant-7b", "what": "w", "licence": "MIT", "origin": "o", "rung": "mistral", "files": files}
    return Manifest.model_validate({**told, "version": version})


def test_imports_stay_in_their_order(store: Store) -> None:
    """Newest first, with everything the manifest says; an older version that was allowed says why."""
    with store.transaction() as tx:
        tx.model_import(manifest(3), ("re\x00lease", "f" * 64), "a.moreau", "")
        tx.model_import(manifest(2, "b"), ("release", "f" * 64), "a.moreau", "three hangs")
        assert [row.version for row in tx.model_imports("plant-7b")] == [2, 3]
    rows = store.reader().model_imports()
    assert [(row.version, row.rollback, row.main_sha256[:1]) for row in rows] == [(2, "three hangs", "b"), (3, "", "a")]
    assert rows[1].manifest == manifest(3)
    assert rows[1].signer == "re\ufffdlease"
    assert store.reader().model_imports("another") == []


def test_decisions_and_incidents(store: Store) -> None:
    """The newest decision comes first; a lasting incident is open until it is over."""
    decision = Decision(use="annotation", model="registry:plant-7b", rung="mistral", axes=AXES, reason="fits")
    with store.transaction() as tx:
        tx.model_decision(decision, "a.moreau")
        tx.model_decision(decision.model_copy(update={"model": "builtin:plant-tiny", "rung": "builtin"}), "b")
        tx.model_incident("k1", "plant-7b", "crash", "SIGABRT", lasting=False)
        tx.model_incident("k1", "plant-7b", "drift", "moved", lasting=True)
    reader = store.reader()
    assert [row.decision.model for row in reader.model_decisions()] == ["builtin:plant-tiny", "registry:plant-7b"]
    assert reader.model_decisions()[1].decision == decision
    assert [row.kind for row in reader.model_incidents(open_only=True)] == ["drift"]
    assert reader.model_crashes() == {"k1": 1}
    with store.transaction() as tx:
        tx.model_incident_over("k1", "drift")
    assert reader.model_incidents(open_only=True) == []
    assert [row.ended_ns is None for row in reader.model_incidents()] == [False, False]


def answer(store: Store, number: int, cause: str, **made: object) -> Annotation:
    """Store answer *number* of a model, with its evidence."""
    of = anomaly(f"a{number}", onset_ns=T0 + number * S)
    seen = evidence(of)
    note = annotation(seen, "model")
    first = note.causes[0].model_copy(update={"id": cause})
    provenance = Provenance(engine="e", **made)  # type: ignore[arg-type]
    note = note.model_copy(update={"causes": (first,), "created_ns": T0 + number * S, "provenance": provenance})
    with store.transaction() as tx:
        tx.anomaly(of)
        tx.evidence(seen)
        tx.annotation(note)
        tx.annotation_attempt(seen.evidence_id, note.created_ns, "", model_key=note.provenance.model_key)
    return note


def test_a_rejected_correction_is_no_rejected_answer(store: Store) -> None:
    """Cause or text were the person's; where only actions were, or nothing (controls), the answer was rejected."""
    key = "1" * 64
    edits = ({"cause_id": "seal", "text": "It leaks [E1]."}, {"text": "Worn [E1]."}, {"actions": ("Look.",)}, None)
    notes = [answer(store, number, "bearing", model_sha256=key) for number in range(len(edits))]
    with store.transaction() as tx:
        for note, edit in zip(notes, edits, strict=True):
            first = Review(annotation_id=note.annotation_id, verdict="approved", person="Ada", at_ns=T0 + 1)
            tx.review(first if edit is None else first.model_copy(update={"verdict": "edited", **edit}))
    reader = store.reader()
    assert reader.model_counts(key, T0, "unknown") == (4, 0, 0)
    with store.transaction() as tx:
        for note in notes:
            tx.review(
                Review(
                    annotation_id=note.annotation_id,
                    verdict="rejected",
                    person="Bo",
                    at_ns=T0 + 2,
                    reason="wrong_cause",
                )
            )
    assert reader.model_counts(key, T0, "unknown") == (4, 0, 2)


def test_answers_of_each_model(store: Store) -> None:
    """Counted by what answered: the same weights with an adapter are another model; the newest verdict counts."""
    one, two = "1" * 64, "2" * 64
    notes = [answer(store, number, "unknown" if number % 2 else "bearing", model_sha256=one) for number in range(6)]
    adapted = answer(store, 10, "bearing", model_sha256=one, adapter_sha256=two, adapter_scale=0.5)
    rules = answer(store, 11, "bearing")
    with store.transaction() as tx:
        for note, verdict, at in ((notes[0], "rejected", 1), (notes[2], "rejected", 1), (notes[2], "approved", 2)):
            tx.review(
                Review(
                    annotation_id=note.annotation_id,
                    verdict=verdict,  # type: ignore[arg-type]
                    person="a.moreau",
                    at_ns=T0 + at,
                    reason="other" if verdict == "rejected" else None,
                )
            )
        for number, reason in ((20, "answer refused: the text cites nothing"), (21, "no answer within"), (22, "")):
            tx.annotation_attempt(f"e{number}", T0 + number * S, reason, model_key=one)
    reader = store.reader()

    assert rules.provenance.model_key == ""
    assert [(use.model_key, use.model_sha256, use.answers) for use in reader.model_uses()] == sorted(
        [(one, one, 6), (adapted.provenance.model_key, one, 1)]
    )
    assert reader.model_counts(one, T0, "unknown") == (6, 3, 1)
    assert reader.model_counts(one, T0 + 3 * S, "unknown") == (3, 2, 0)
    assert reader.model_attempts(one, T0, "answer refused") == (1, 1)
    assert reader.model_attempts(one, T0 + 21 * S, "answer refused") == (0, 1)
    first = reader.model_answers(one, 0, limit=2, order="first")
    newest = reader.model_answers(one, 0, limit=2, order="newest")
    assert [row.created_ns for row in first] == [T0, T0 + S]
    assert [(row.created_ns, row.cause_id) for row in newest] == [(T0 + 5 * S, "unknown"), (T0 + 4 * S, "bearing")]
    assert '"equipment_class":"PU"' in first[0].evidence
