"""Documents in the shapes of B2MML and SAP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from broker.documents.build import annotation_document, maintenance_request
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
    review = Review(annotation_id=annotation.annotation_id, verdict="approved", person="a.moreau", at_ns=AT)
    equipment = Equipment(path=anomaly.equipment, sap_object="10002345", sap_plant="1000")
    return (
        annotation_document("lyon", anomaly, evidence, annotation, review),
        maintenance_request("lyon", anomaly, evidence, annotation, review, equipment),
    )


def test_documents_are_cloud_events_with_stable_ids(
    documents: tuple[Document, Document], anomaly: Anomaly, evidence: Evidence, annotation: Annotation
) -> None:
    """Building twice gives the same id; the plain shape is the envelope, JSON all through."""
    review = Review(annotation_id=annotation.annotation_id, verdict="approved", person="a.moreau", at_ns=AT)
    again = annotation_document("lyon", anomaly, evidence, annotation, review)

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


def test_shape_that_does_not_exist_is_refused(documents: tuple[Document, Document]) -> None:
    """SAP has no shape for an annotation."""
    with pytest.raises(Refused, match="no shape"):
        shaped(documents[0], "sap")
