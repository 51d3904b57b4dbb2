"""Documents in the shapes of B2MML and SAP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from broker.documents.build import annotation_document, maintenance_request
from broker.documents.sendings import Sending, sendings
from broker.documents.shapes import shaped
from schemas.annotation import Annotation, Review
from schemas.anomaly import Anomaly
from schemas.documents import Document
from schemas.errors import Refused
from schemas.evidence import Evidence
from schemas.tagmap import Equipment

AT = 1_790_000_100 * 1_000_000_000 + 5


@pytest.fixture
def documents(anomaly: Anomaly, evidence: Evidence, annotation: Annotation) -> tuple[Document, Document]:
    return _documents(anomaly, evidence, annotation, _sent(annotation)[0])


@pytest.fixture
def withdrawn(anomaly: Anomaly, evidence: Evidence, annotation: Annotation) -> tuple[Document, Document]:
    """The same two, rejected since."""
    return _documents(anomaly, evidence, annotation, _sent(annotation)[1])


def _sent(annotation: Annotation) -> list[Sending]:
    approved = Review(annotation_id=annotation.annotation_id, verdict="approved", person="a.moreau", at_ns=AT)
    changed = {"verdict": "rejected", "person": "b.petit", "at_ns": AT + 9, "reason": "known_work", "comment": "ours"}
    return sendings([approved, approved.model_copy(update=changed)])


def _documents(
    anomaly: Anomaly, evidence: Evidence, annotation: Annotation, sending: Sending
) -> tuple[Document, Document]:
    equipment = Equipment(path=anomaly.equipment, sap_object="10002345", sap_plant="1000")
    return (
        annotation_document("lyon", anomaly, evidence, annotation, sending),
        maintenance_request("lyon", anomaly, evidence, annotation, sending, equipment),
    )


def test_documents_are_cloud_events_with_stable_ids(
    documents: tuple[Document, Document], anomaly: Anomaly, evidence: Evidence, annotation: Annotation
) -> None:
    """Building twice gives the same id; the plain shape is the envelope, JSON all through."""
    again = annotation_document("lyon", anomaly, evidence, annotation, _sent(annotation)[0])

    plain = json.loads(json.dumps(shaped(documents[0], "plain")))

    assert again.id == documents[0].id
    assert plain["specversion"] == "1.0"
    assert plain["time"].endswith(".000000005Z")
    assert plain["type"] == "anomaly.annotation.v1"


def test_work_request_has_the_keys_of_the_validated_example(documents: tuple[Document, Document], shared: Path) -> None:
    """Every key stands in the example that validates against the B2MML schema, or is named here as optional."""
    example = json.loads((shared / "fixtures" / "b2mml_work_request.json").read_text("utf-8"))
    ours = shaped(documents[1], "b2mml")

    assert set(ours) <= set(example) | {"PublishedDate"}
    assert set(ours["JobOrder"][0]) <= set(example["JobOrder"][0])
    assert ours["HierarchyScope"]["EquipmentLevel"] == "Enterprise"
    assert ours["HierarchyScope"]["HierarchyScopeChild"]["EquipmentID"] == "Lyon"


def test_operations_event_has_the_keys_of_the_validated_example(
    documents: tuple[Document, Document], shared: Path
) -> None:
    """An annotation is an Alert event, never an alarm."""
    example = json.loads((shared / "fixtures" / "b2mml_operations_event.json").read_text("utf-8"))
    ours = shaped(documents[0], "b2mml")

    assert set(ours) <= set(example)
    assert ours["OperationsEventType"] == "Alert"


def test_sap_notification(documents: tuple[Document, Document]) -> None:
    """Texts keep SAP's lengths, dates and times its OData V2 form, and our id is the external reference."""
    body = shaped(documents[1], "sap")

    assert len(body["NotificationText"]) <= 40
    assert len(body["ReportedByUser"]) <= 12
    assert body["MalfunctionStartDate"].startswith("/Date(")
    assert body["MalfunctionStartTime"].startswith("PT")
    assert body["TechnicalObject"] == "10002345"
    assert body["MaintNotifExtReferenceNumber"] == documents[1].data["annotation_id"]


def test_withdrawal_is_the_next_revision_of_the_same_thing(
    documents: tuple[Document, Document], withdrawn: tuple[Document, Document]
) -> None:
    """What was released stands in it unchanged; revision, status, who took it back, and the texts say the rest."""
    for before, after in zip(documents, withdrawn, strict=True):
        assert (before.data["revision"], before.data["status"], before.data["supersedes"]) == (0, "released", None)
        assert (after.data["revision"], after.data["status"], after.data["supersedes"]) == (1, "withdrawn", before.id)
        assert after.id != before.id
        assert after.time.endswith(".000000014Z")
    changed = {"revision", "status", "supersedes"}
    released, (told, request) = documents[0].data, (one.data for one in withdrawn)
    assert {name for name in told if told[name] != released[name]} == {*changed, "review"}
    mark = {"state": "rejected", "by": "b.petit", "at": withdrawn[0].time, "comment": "ours", "reason": "known_work"}
    assert told["review"] == request["withdrawn"] == mark
    assert request["request_id"] == documents[1].data["request_id"] == documents[1].id
    assert request["requested_by"] == "a.moreau"
    assert request["short_text"] == f"Withdrawn: {documents[1].data['short_text']}"[:40]
    first, _, rest = request["long_text"].partition("\n")
    assert first == f"Withdrawn: rejected by b.petit at {withdrawn[1].time} (known work): ours"
    assert rest == documents[1].data["long_text"]


def test_withdrawal_in_b2mml_and_sap(
    documents: tuple[Document, Document], withdrawn: tuple[Document, Document]
) -> None:
    """The same IDs, cancelled; SAP gets an update of the notification, which no creation would take."""
    before, after = (shaped(one, "b2mml") for one in (documents[1], withdrawn[1]))
    assert (before["RequestState"], after["RequestState"]) == ("Forecast", "Cancelled")
    assert before["ID"] == after["ID"]
    before, after = (shaped(one, "b2mml") for one in (documents[0], withdrawn[0]))
    assert before["ID"] == after["ID"] == documents[0].id
    assert (before["Category"], after["Category"][1:]) == (after["Category"][:1], ["withdrawn"])
    assert after["Description"][0] == withdrawn[1].data["long_text"].partition("\n")[0]
    assert after["Description"][0].endswith("(known work): ours")
    assert after["Description"][1:] == before["Description"]
    update = shaped(withdrawn[1], "sap")
    assert set(update) == {"NotificationText", "MaintNotifLongTextForEdit", "MaintNotifExtReferenceNumber"}
    assert update["MaintNotifExtReferenceNumber"] == shaped(documents[1], "sap")["MaintNotifExtReferenceNumber"]


def test_sap_knows_a_request_by_its_first_annotation(
    anomaly: Anomaly, evidence: Evidence, annotation: Annotation
) -> None:
    """Another explanation that is released after the withdrawal is no second notification."""
    other = Annotation.model_validate({**annotation.model_dump(), "detector_score": 99.0})
    approved = Review(annotation_id=annotation.annotation_id, verdict="approved", person="a.moreau", at_ns=AT)
    rejected = approved.model_copy(update={"verdict": "rejected", "at_ns": AT + 1, "reason": "other"})
    again = approved.model_copy(update={"annotation_id": other.annotation_id, "at_ns": AT + 2})
    sent = sendings([approved, rejected, again])

    requests = [
        _documents(anomaly, evidence, note, sending)[1]
        for note, sending in zip((annotation, annotation, other), sent, strict=True)
    ]

    references = [shaped(one, "sap")["MaintNotifExtReferenceNumber"] for one in requests]
    assert [one.data["annotation_id"] for one in requests] == [annotation.annotation_id] * 2 + [other.annotation_id]
    assert other.annotation_id != annotation.annotation_id
    assert references == [annotation.annotation_id] * 3
    assert [one.data["revision"] for one in requests] == [0, 1, 2]


def test_sap_reference_of_a_document_from_before_revisions(documents: tuple[Document, Document]) -> None:
    """It is the annotation that the document names."""
    data = {name: item for name, item in documents[1].data.items() if name != "external_reference"}

    body = shaped(documents[1].model_copy(update={"data": data}), "sap")

    assert body["MaintNotifExtReferenceNumber"] == data["annotation_id"]


def test_shape_that_does_not_exist_is_refused(documents: tuple[Document, Document]) -> None:
    """SAP has no shape for an annotation."""
    with pytest.raises(Refused, match="no shape"):
        shaped(documents[0], "sap")
