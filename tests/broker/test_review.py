"""Decisions of people on annotations, and the documents that follow."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from broker.review import decide
from schemas.annotation import Annotation, Review
from schemas.anomaly import Anomaly, Severity
from schemas.documents import AnomalyAnnotationV1, Document, MaintenanceRequestV1
from schemas.errors import Refused
from schemas.evidence import Evidence
from schemas.tagmap import Equipment

AT = 1_790_000_100 * 1_000_000_000


@dataclass
class MemoryLedger:
    """Keeps in memory what the store keeps in SQL."""

    anomaly: Anomaly
    evidence: Evidence
    annotations: list[Annotation]
    reviews: list[Review] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)
    actions: list[tuple[str, str, str]] = field(default_factory=list)
    grown: list[Anomaly] = field(default_factory=list)
    sap_object: str | None = "10002345"

    def annotation_by_id(self, annotation_id: str) -> Annotation | None:
        return next((a for a in self.annotations if a.annotation_id == annotation_id), None)

    def anomaly_at(self, anomaly_id: str, revision: int) -> Anomaly | None:
        revisions = (self.anomaly, *self.grown)
        return next((a for a in revisions if (a.anomaly_id, a.revision) == (anomaly_id, revision)), None)

    def evidence_by_id(self, evidence_id: str) -> Evidence | None:
        return self.evidence if evidence_id == self.evidence.evidence_id else None

    def reviews_of(self, anomaly_id: str) -> list[Review]:
        return list(self.reviews)

    def equipment_by_path(self, path: str) -> Equipment | None:
        return Equipment(path=path, equipment_class="centrifugal_pump", sap_object=self.sap_object, sap_plant="1000")

    def document_by_id(self, document_id: str) -> Document | None:
        return next((one for one in self.documents if one.id == document_id), None)

    def review(self, review: Review) -> None:
        self.reviews.append(review)

    def document(self, document: Document) -> int:
        self.documents.append(document)
        return len(self.documents)

    def audit(self, actor: str, action: str, object_id: str, detail: dict[str, object]) -> None:
        self.actions.append((actor, action, object_id))


@pytest.fixture
def ledger(anomaly: Anomaly, evidence: Evidence, annotation: Annotation) -> MemoryLedger:
    return MemoryLedger(anomaly, evidence, [annotation])


def _review(annotation: Annotation, **changes: object) -> Review:
    fields = {"annotation_id": annotation.annotation_id, "verdict": "approved", "person": "a.moreau", "at_ns": AT}
    return Review.model_validate({**fields, **changes})


def test_approval_releases_one_annotation_and_one_request(ledger: MemoryLedger, annotation: Annotation) -> None:
    """An approval makes both documents, carries the person's name and is in the audit."""
    documents = decide(ledger, _review(annotation), "lyon")

    assert [d.type for d in documents] == ["anomaly.annotation.v1", "maintenance.request.v1"]
    body = AnomalyAnnotationV1.model_validate(documents[0].data)
    request = MaintenanceRequestV1.model_validate(documents[1].data)
    assert body.review.by == "a.moreau"
    assert body.annotation_id == annotation.annotation_id
    assert request.requested_by == "a.moreau"
    assert request.sap_object == "10002345"
    assert "74.2 °C" in request.long_text
    assert [action for _, action, _ in ledger.actions] == [
        "annotation_approved",
        "document_released",
        "document_released",
    ]


def test_second_approval_is_refused(ledger: MemoryLedger, annotation: Annotation) -> None:
    """There is one maintenance request an anomaly, whoever asks again."""
    decide(ledger, _review(annotation), "lyon")

    with pytest.raises(Refused, match=r"a\.moreau has approved this annotation already"):
        decide(ledger, _review(annotation, person="b.petit", at_ns=AT + 1), "lyon")
    assert len(ledger.documents) == 2


def test_other_annotation_of_a_released_anomaly_is_refused(ledger: MemoryLedger, annotation: Annotation) -> None:
    """A newer annotation of the same anomaly cannot release a second request."""
    ledger.grown.append(ledger.anomaly.model_copy(update={"revision": 9}))
    newer = annotation.model_copy(update={"anomaly_revision": 9})
    ledger.annotations.append(newer)
    decide(ledger, _review(annotation), "lyon")

    with pytest.raises(Refused, match="one request an anomaly"):
        decide(ledger, _review(newer), "lyon")


def test_approval_binds_to_what_was_seen(ledger: MemoryLedger, annotation: Annotation) -> None:
    """Any change of what a person sees is another annotation; the approval of the old id does not reach it."""
    changed = annotation.model_copy(update={"text": "Something else [E1]."})
    ledger.annotations = [changed]

    assert changed.annotation_id != annotation.annotation_id
    with pytest.raises(Refused, match="does not exist"):
        decide(ledger, _review(annotation), "lyon")


def test_document_states_the_revision_that_was_shown(ledger: MemoryLedger, annotation: Annotation) -> None:
    """What an episode has grown to since never stands in a document that a person approved."""
    worse = {"revision": 9, "severity": Severity.CRITICAL, "ne107": "F", "detector_score": 99.0}
    ledger.grown.append(ledger.anomaly.model_copy(update=worse))

    documents = decide(ledger, _review(annotation), "lyon")

    body = AnomalyAnnotationV1.model_validate(documents[0].data)
    request = MaintenanceRequestV1.model_validate(documents[1].data)
    assert (body.anomaly_revision, body.severity, body.detector_score) == (2, 2, 6.5)
    assert (request.priority, request.breakdown) == ("2", False)


def test_another_annotation_is_not_decided_after_a_release(ledger: MemoryLedger, annotation: Annotation) -> None:
    """Once a request is out, rejecting another annotation of the anomaly would only look like taking it back."""
    ledger.grown.append(ledger.anomaly.model_copy(update={"revision": 9}))
    newer = annotation.model_copy(update={"anomaly_revision": 9})
    ledger.annotations.append(newer)
    decide(ledger, _review(annotation), "lyon")

    with pytest.raises(Refused, match="reject that one to withdraw it"):
        decide(ledger, _review(newer, verdict="rejected", reason="other"), "lyon")


def test_withdrawal_states_the_revision_that_was_released(ledger: MemoryLedger, annotation: Annotation) -> None:
    """It is built of what was approved, however the episode has grown, and whether or not the outbox still has it."""
    released = decide(ledger, _review(annotation), "lyon")
    worse = {"revision": 9, "severity": Severity.CRITICAL, "ne107": "F", "detector_score": 99.0}
    ledger.grown.append(ledger.anomaly.model_copy(update=worse))
    ledger.documents.clear()

    rejected = _review(annotation, verdict="rejected", reason="sensor_fault", at_ns=AT + 1)
    withdrawn = decide(ledger, rejected, "lyon")

    for before, after in zip(released, withdrawn, strict=True):
        assert after.data["supersedes"] == before.id
        same = before.data.keys() - {"revision", "status", "supersedes", "review", "withdrawn"}
        same -= {"short_text", "long_text"}
        assert {name: after.data[name] for name in same} == {name: before.data[name] for name in same}
    assert [action for _, action, _ in ledger.actions[-3:]] == [
        "annotation_rejected",
        "document_withdrawn",
        "document_withdrawn",
    ]


@pytest.mark.parametrize("sap_object", ["20009999", None])
@pytest.mark.parametrize("kept", [True, False])
def test_withdrawal_is_of_the_object_that_was_released(
    ledger: MemoryLedger, annotation: Annotation, sap_object: str | None, kept: bool
) -> None:
    """Map and site may say otherwise by then; they are asked only (control) where retention has taken the release."""
    released = decide(ledger, _review(annotation), "lyon")
    ledger.sap_object = sap_object
    if not kept:
        ledger.documents.clear()

    rejected = _review(annotation, verdict="rejected", reason="sensor_fault", at_ns=AT + 1)
    told, request = decide(ledger, rejected, "lyon2")

    names = ("sap_object", "sap_object_kind", "sap_plant")
    found = tuple(request.data[name] for name in names)
    if kept:
        assert found == tuple(released[1].data[name] for name in names) == ("10002345", "EAMS_EQUI", "1000")
        assert [told.source, request.source] == [one.source for one in released]
    else:
        assert found == (sap_object, "EAMS_EQUI" if sap_object else None, "1000")
        assert told.source == request.source != released[0].source


def test_other_actions_alone_leave_the_origin(ledger: MemoryLedger, annotation: Annotation) -> None:
    """Changed actions do not make cause and text a person's."""
    edit = _review(annotation, verdict="edited", actions=("Change the bearing now",))

    body = AnomalyAnnotationV1.model_validate(decide(ledger, edit, "lyon")[0].data)

    assert (body.origin, body.actions) == (annotation.origin, ("Change the bearing now",))


def test_rejection_needs_a_reason_and_releases_nothing(ledger: MemoryLedger, annotation: Annotation) -> None:
    """A rejection without a reason is refused; with one it is kept and nothing leaves."""
    with pytest.raises(Refused, match="reason"):
        decide(ledger, _review(annotation, verdict="rejected"), "lyon")

    assert decide(ledger, _review(annotation, verdict="rejected", reason="known_work"), "lyon") == []
    assert ledger.documents == []
    assert ledger.reviews[-1].reason == "known_work"


def test_edit_replaces_cause_and_text(ledger: MemoryLedger, annotation: Annotation) -> None:
    """The edited cause and text are in the document, marked as a person's."""
    edit = _review(annotation, verdict="edited", cause_id="cavitation", text="Suction strainer blocked, see [E2].")

    body = AnomalyAnnotationV1.model_validate(decide(ledger, edit, "lyon")[0].data)

    assert body.origin == "person"
    assert [(cause.cause, cause.evidence) for cause in body.causes] == [("cavitation", ("E2",))]
    assert "[E2: Vibration rose to 5.9 mm/s" in body.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "changes the cause"),
        ({"cause_id": "sabotage"}, "not in the catalogue"),
        ({"text": "as [E9] shows"}, "cites E9"),
        ({"cause_id": "cavitation"}, "text of its own"),
    ],
)
def test_edit_that_cannot_be_is_refused(
    ledger: MemoryLedger, annotation: Annotation, changes: dict[str, object], message: str
) -> None:
    """An edit must change something, name a known cause and cite existing evidence."""
    with pytest.raises(Refused, match=message):
        decide(ledger, _review(annotation, verdict="edited", **changes), "lyon")
    assert ledger.reviews == []
