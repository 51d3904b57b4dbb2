"""Anomalies, reviews and documents over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from broker.api import cursor
from broker.store import tables
from schemas.annotation import Annotation
from schemas.documents import AnomalyAnnotationV1, MaintenanceRequestV1
from tests.broker.api.core import P101, Core, S, bearing_wear

T0 = 1_790_000_000 * S


@pytest.fixture
def note(core: Core) -> Annotation:
    """The annotation of one open episode."""
    return bearing_wear(core, T0)[2]


Send = Callable[..., Any]


@pytest.fixture
def review(core: Core, note: Annotation) -> Send:
    """Send a decision as a.moreau; (status, body)."""
    engineer = core.as_role("engineer", name="a.moreau")

    def send(annotation_id: str = note.annotation_id, **decision: object) -> tuple[int, Any]:
        answer = engineer.post(f"/api/v1/annotations/{annotation_id}/review", json=decision)
        return answer.status_code, answer.json()

    return send


def _listed(core: Core, **query: object) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = core.as_role("consumer").get("/api/v1/anomalies", params=query).json()["anomalies"]  # type: ignore[arg-type]
    return rows


def test_list_shows_newest_annotation_and_review(core: Core, note: Annotation, review: Send) -> None:
    """One row an episode with what the rules say; filters by state and review."""
    row = _listed(core)[0]

    assert row["anomaly_id"] == note.anomaly_id
    assert row["title"] == "mean shift on BearingTemp (+2 tags)"
    assert (row["state"], row["severity"], row["ne107"], row["origin"]) == ("open", 2, "S", "rules")
    assert row["cause"] == note.causes[0].text
    assert row["onset"] == "2026-09-21T14:13:20.000000000Z"
    assert (row["review"], row["closed"]) == (None, None)
    assert len(_listed(core, review="pending", state="open")) == 1
    assert _listed(core, state="closed") == []
    assert _listed(core, before=row["cursor"]) == []

    review(verdict="approved")

    assert _listed(core, review="pending") == []
    assert _listed(core, review="approved")[0]["reviewed_by"] == "a.moreau"


def test_detail_has_evidence_provenance_and_rendered_text(core: Core, note: Annotation) -> None:
    """Everything that a person needs to judge: facts with their numbers, who wrote the text, what it rests on."""
    body = core.as_role("consumer").get(f"/api/v1/anomalies/{note.anomaly_id}").json()

    assert body["anomaly"]["equipment"] == P101
    assert len(body["revisions"]) == 1
    facts = body["evidence"][0]["facts"]
    assert facts[0]["id"] == "E1"
    assert "BearingTemp rose to" in facts[0]["rendered"]
    told = body["annotations"][0]
    assert told["annotation_id"] == note.annotation_id
    assert told["origin"] == "rules"
    assert told["provenance"]["engine"].startswith("rules/")
    assert told["superseded"] is False
    assert "[E1: BearingTemp rose to" in told["rendered"]
    assert body["evidence_changed"] is False
    assert core.as_role("consumer").get("/api/v1/anomalies/none").status_code == 404


def test_approval_releases_documents(core: Core, note: Annotation, review: Send) -> None:
    """An approval answers with both documents, and both can be pulled and are in the audit."""
    status, body = review(verdict="approved", comment="heard it myself")

    assert status == 200
    assert body["verdict"] == "approved"
    assert [one["type"] for one in body["documents"]] == ["anomaly.annotation.v1", "maintenance.request.v1"]
    assert AnomalyAnnotationV1.model_validate(body["documents"][0]["data"]).review.by == "a.moreau"
    pulled = core.as_role("consumer").get("/api/v1/documents").json()
    assert [one["id"] for one in pulled["documents"]] == [one["id"] for one in body["documents"]]
    audit = core.as_role("auditor").get("/api/v1/audit").json()
    assert [(row["actor"], row["action"]) for row in reversed(audit["audit"])] == [
        ("a.moreau", "annotation_approved"),
        ("a.moreau", "document_released"),
        ("a.moreau", "document_released"),
    ]


def test_rejection_releases_nothing(core: Core, review: Send) -> None:
    """A rejection is kept with its reason, and no document comes of it."""
    assert review(verdict="rejected", reason="sensor_fault") == (200, {"verdict": "rejected", "documents": []})
    assert core.as_role("consumer").get("/api/v1/documents").json()["documents"] == []
    assert _listed(core)[0]["review"] == "rejected"


def test_edit_releases_what_the_person_wrote(core: Core, review: Send) -> None:
    """The documents carry the person's cause, text and actions, marked as a person's."""
    status, body = review(
        verdict="edited", cause_id="cavitation", text="Strainer blocked, see [E1].", actions=["Clean the strainer"]
    )

    assert status == 200
    told = AnomalyAnnotationV1.model_validate(body["documents"][0]["data"])
    request = MaintenanceRequestV1.model_validate(body["documents"][1]["data"])
    assert told.origin == "person"
    assert [cause.cause for cause in told.causes] == ["cavitation"]
    assert told.text.startswith("Strainer blocked, see [E1: BearingTemp rose")
    assert "Proposed: Clean the strainer" in request.long_text


@pytest.mark.parametrize(
    ("decision", "status", "text"),
    [
        ({"verdict": "rejected"}, 409, "a rejection needs a reason"),
        ({"verdict": "edited"}, 409, "changes the cause"),
        ({"verdict": "edited", "cause_id": "sabotage"}, 409, "not in the catalogue"),
        ({"verdict": "edited", "text": "as [E99] shows"}, 409, "cites E99"),
        ({"verdict": "rejected", "reason": "bad mood"}, 422, "reason"),
        ({"verdict": "maybe"}, 422, "verdict"),
        ({"verdict": "approved", "person": "somebody.else"}, 422, "person"),
        ({"verdict": "approved", "comment": "x" * 2001}, 422, "comment"),
        ({"verdict": "edited", "text": "x" * 601}, 422, "text"),
    ],
)
def test_decision_that_cannot_be_taken(
    core: Core, review: Send, decision: dict[str, object], status: int, text: str
) -> None:
    """A refusal says why and leaves the anomaly to be decided; nobody can sign for somebody else."""
    found, body = review(**decision)

    assert found == status
    assert text in json.dumps(body["detail"])
    assert len(_listed(core, review="pending")) == 1
    assert core.as_role("auditor").get("/api/v1/audit").json()["audit"] == []


def test_second_decision_is_refused(core: Core, review: Send) -> None:
    """One decision an annotation: the second answer names who was first, and releases nothing."""
    review(verdict="approved")

    status, body = review(verdict="approved")

    assert (status, body["detail"]) == (409, "a.moreau has approved this annotation already")
    assert len(core.as_role("consumer").get("/api/v1/documents").json()["documents"]) == 2


def test_decision_on_an_unknown_annotation_is_refused(review: Send) -> None:
    """An approval binds to exactly what was seen."""
    status, body = review("0" * 32, verdict="approved")
    assert (status, body["detail"]) == (409, "this annotation does not exist; reload the page")


def test_documents_by_cursor_and_type(core: Core, review: Send) -> None:
    """Documents come once each in the order of release; an empty page repeats the cursor."""
    consumer = core.as_role("consumer")
    assert consumer.get("/api/v1/documents").json()["documents"] == []
    review(verdict="approved")

    first = consumer.get("/api/v1/documents", params={"limit": 1}).json()
    second = consumer.get("/api/v1/documents", params={"limit": 1, "after": first["next"]}).json()
    end = consumer.get("/api/v1/documents", params={"after": second["next"]})

    assert [one["sequence"] for one in first["documents"] + second["documents"]] == ["1", "2"]
    assert first["has_more"] is True
    assert end.json() == {"documents": [], "next": second["next"], "has_more": False}
    assert end.headers["x-next-cursor"] == second["next"]
    typed = consumer.get("/api/v1/documents", params={"type": "maintenance.request.v1"}).json()["documents"]
    assert [one["type"] for one in typed] == ["maintenance.request.v1"]


def test_documents_behind_retention_are_410(core: Core, review: Send) -> None:
    """A consumer that stayed away too long learns it."""
    consumer = core.as_role("consumer")
    start = consumer.get("/api/v1/documents").json()["next"]
    review(verdict="approved")
    core.write(lambda tx: tx._connection.execute(sa.delete(tables.outbox).where(tables.outbox.c.seq == 1)))

    gone = consumer.get("/api/v1/documents", params={"after": start})

    assert gone.status_code == 410
    rest = consumer.get("/api/v1/documents", params={"after": gone.json()["earliest"]}).json()
    assert [one["sequence"] for one in rest["documents"]] == ["2"]


def test_documents_of_an_emptied_outbox_are_410(core: Core, review: Send) -> None:
    """Retention may have taken all of them; who had read them all (control) and who begins has lost nothing."""
    consumer = core.as_role("consumer")
    start = consumer.get("/api/v1/documents").json()["next"]
    review(verdict="approved")
    read = consumer.get("/api/v1/documents", params={"after": start}).json()["next"]
    core.write(lambda tx: tx._connection.execute(sa.delete(tables.outbox)))

    gone = consumer.get("/api/v1/documents", params={"after": start})

    assert (gone.status_code, gone.json()["earliest"]) == (410, read)
    assert "retention" in gone.json()["detail"]
    for place in (read, None):
        answer = consumer.get("/api/v1/documents", params={"after": place} if place else {})
        assert (answer.status_code, answer.json()["documents"]) == (200, [])


def test_document_cursor_ahead_of_a_restored_store(core: Core, review: Send) -> None:
    """After a restore from an older copy places are given again: the reader is told where to go on, and loses none."""
    review(verdict="approved")
    store_id = core.store.reader().store_id
    ahead = cursor.encode(store_id, 3)

    answer = core.as_role("consumer").get("/api/v1/documents", params={"after": ahead})

    assert answer.status_code == 410
    assert "older copy" in answer.json()["detail"]
    assert answer.json()["earliest"] == cursor.encode(store_id, 2)


def test_document_in_each_shape(core: Core, review: Send) -> None:
    """The request comes as CloudEvent, as B2MML WorkRequest and as SAP notification."""
    _, body = review(verdict="approved")
    told, request = (one["id"] for one in body["documents"])
    consumer = core.as_role("consumer")

    plain = consumer.get(f"/api/v1/documents/{request}").json()
    b2mml = consumer.get(f"/api/v1/documents/{request}", params={"shape": "b2mml"}).json()
    sap = consumer.get(f"/api/v1/documents/{request}", params={"shape": "sap"}).json()

    assert (plain["specversion"], plain["sequence"]) == ("1.0", "2")
    assert b2mml["ID"] == sap["MaintNotifExtReferenceNumber"] or b2mml["WorkType"] == "Other"
    assert sap["TechnicalObject"] == "10002345"
    assert consumer.get(f"/api/v1/documents/{told}", params={"shape": "b2mml"}).json()["OperationsEventType"] == "Alert"
    refused = consumer.get(f"/api/v1/documents/{told}", params={"shape": "sap"})
    assert (refused.status_code, refused.json()["detail"]) == (400, "anomaly.annotation.v1 has no shape 'sap'")
    assert consumer.get("/api/v1/documents/none").status_code == 404


def test_audit_is_intact_until_somebody_changes_it(core: Core, review: Send) -> None:
    """The chain holds after use; a changed row is found and named."""
    review(verdict="approved")
    auditor = core.as_role("auditor")
    whole = auditor.get("/api/v1/audit").json()
    assert (whole["intact"], whole["fault"]) == (True, None)
    older = auditor.get("/api/v1/audit", params={"before": whole["audit"][0]["audit_id"], "limit": 1}).json()
    assert [row["audit_id"] for row in older["audit"]] == [2]
    assert whole["audit"][0]["at"].endswith("Z")

    change = tables.audit.update().where(tables.audit.c.audit_id == 2).values(actor="somebody.else")
    core.write(lambda tx: tx._connection.execute(change))

    broken = auditor.get("/api/v1/audit").json()
    assert broken["intact"] is False
    assert broken["fault"] == {"audit_id": 2, "reason": "the row was changed"}
