"""What was released can still be rejected: over HTTP, from the release by a policy or a person to what ERP pulls."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from broker.cli.app import run
from broker.core.release import ReleaseService
from broker.release import ReleasePolicy
from broker.review import decide
from llm.rules import annotate_by_rules
from schemas.annotation import Annotation, Review
from schemas.anomaly import Anomaly
from schemas.documents import AnomalyAnnotationV1, MaintenanceRequestV1
from schemas.errors import Refused
from schemas.evidence import Evidence
from schemas.tagmap import TagMap
from tests.broker.api.core import Core, S, bearing_wear, plant

T0 = 1_790_000_000 * S
POLICY = ReleasePolicy.model_validate(
    {
        "name": "utilities",
        "approved_by": "J. Keller, head of maintenance",
        "approved_on": "2026-11-01",
        "reason": "Requests for greasing cost nothing and are wanted at night.",
        "wait": "0s",
        "rules": [{"severity": ["high"], "kind": ["mean_shift"]}],
    }
)
Episode = tuple[Anomaly, Evidence, Annotation]
Send = Callable[..., tuple[int, Any]]
Pull = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def episode(core: Core) -> Episode:
    """An open episode with the rules' annotation."""
    return bearing_wear(core, T0)


@pytest.fixture
def policy(core: Core) -> ReleaseService:
    """The service that core runs where a policy is in force."""
    return ReleaseService(core.store.reader(), core.services.writer, POLICY, "lyon", time.time_ns, lambda: False)


@pytest.fixture
def say(core: Core, episode: Episode) -> Send:
    """Send a decision on the episode's annotation; (status, body)."""

    def send(verdict: str, by: str = "a.moreau", note: Annotation = episode[2], **more: object) -> tuple[int, Any]:
        engineer = core.as_role("engineer", name=by)
        body = {"verdict": verdict, **({"reason": "known_work"} if verdict == "rejected" else {}), **more}
        answer = engineer.post(f"/api/v1/annotations/{note.annotation_id}/review", json=body)
        return answer.status_code, answer.json()

    return send


@pytest.fixture
def pull(core: Core) -> Pull:
    """What came into the outbox since the last pull, as a middleware reads it behind its cursor."""
    consumer, cursor = core.as_role("consumer"), [""]

    def page() -> list[dict[str, Any]]:
        answer = consumer.get("/api/v1/documents", params={"after": cursor[0]} if cursor[0] else {}).json()
        cursor[0] = answer["next"]
        return answer["documents"]  # type: ignore[no-any-return]

    return page


def grow(core: Core, episode: Episode, score: float = 9.9) -> Annotation:
    """The episode's next revision with an explanation of its own."""
    anomaly = episode[0].model_copy(update={"revision": episode[0].revision + 1, "detector_score": score})
    evidence = Evidence.model_validate(
        {**episode[1].model_dump(), "anomaly_revision": anomaly.revision, "at_ns": episode[1].at_ns + S}
    )
    note = annotate_by_rules(evidence, detector_score=score, created_ns=episode[2].created_ns + S)

    def command(tx: Any) -> None:
        tx.anomaly(anomaly)
        tx.evidence(evidence)
        tx.annotation(note)

    core.write(command)
    return note


def row_of(core: Core, **query: str) -> dict[str, Any] | None:
    """The episode as the list shows it under a filter; None where it is not in it."""
    rows = core.as_role("consumer").get("/api/v1/anomalies", params=query).json()["anomalies"]
    return rows[0] if rows else None


async def test_the_list_names_the_annotation_that_was_reviewed(
    core: Core, episode: Episode, policy: ReleaseService, say: Send
) -> None:
    """Once the episode has grown, the review is of the annotation before; the refusal names the one to reject."""
    assert await policy.look() == 1
    newer = grow(core, episode)
    row = row_of(core, review="policy")
    assert row is not None
    assert (row["annotation_id"], row["review"]) == (newer.annotation_id, "approved")
    assert row["reviewed_annotation_id"] == episode[2].annotation_id
    status, body = say("rejected", note=newer)
    assert status == 409
    assert f"({episode[2].annotation_id})" in body["detail"]
    assert say("rejected", note=episode[2])[0] == 200


async def test_a_person_rejects_what_the_policy_released(
    core: Core, episode: Episode, policy: ReleaseService, say: Send, pull: Pull
) -> None:
    """ERP pulls both documents again, withdrawn, under the same identity; audit, list and detail say who and why."""
    assert await policy.look() == 1
    told, request = pull()
    row = row_of(core, review="policy")
    assert row is not None
    assert (row["review"], row["reviewed_by"], row["withdrawn"]) == ("approved", "policy:utilities", False)

    status, body = say("rejected", comment="we had it open ourselves")

    assert status == 200
    taken_back, cancelled = pull()
    assert [taken_back["id"], cancelled["id"]] == [one["id"] for one in body["documents"]]
    for before, after in ((told, taken_back), (request, cancelled)):
        assert (before["data"]["revision"], before["data"]["status"]) == (0, "released")
        assert (after["data"]["revision"], after["data"]["status"]) == (1, "withdrawn")
        assert after["data"]["supersedes"] == before["id"] != after["id"]
    assert AnomalyAnnotationV1.model_validate(taken_back["data"]).annotation_id == told["data"]["annotation_id"]
    mark = MaintenanceRequestV1.model_validate(cancelled["data"]).withdrawn
    assert mark is not None
    assert (cancelled["data"]["request_id"], mark.by, mark.reason, mark.comment) == (
        request["data"]["request_id"], "a.moreau", "known_work", "we had it open ourselves",
    )  # fmt: skip
    consumer = core.as_role("consumer")
    b2mml = consumer.get(f"/api/v1/documents/{cancelled['id']}", params={"shape": "b2mml"}).json()
    assert (b2mml["ID"], b2mml["RequestState"]) == (request["data"]["request_id"], "Cancelled")

    assert row_of(core, review="policy") is None
    row = row_of(core, review="rejected")
    assert row is not None
    assert (row["reviewed_by"], row["withdrawn"]) == ("a.moreau", True)
    detail = consumer.get(f"/api/v1/anomalies/{episode[0].anomaly_id}").json()
    assert [(one["person"], one["verdict"]) for one in detail["annotations"][0]["reviews"]] == [
        ("policy:utilities", "approved"), ("a.moreau", "rejected"),
    ]  # fmt: skip
    audit = core.as_role("auditor").get("/api/v1/audit").json()
    assert audit["intact"] is True
    assert [(one["actor"], one["action"], one["object_id"]) for one in reversed(audit["audit"][:3])] == [
        ("a.moreau", "annotation_rejected", episode[2].annotation_id),
        ("a.moreau", "document_withdrawn", taken_back["id"]),
        ("a.moreau", "document_withdrawn", cancelled["id"]),
    ]
    assert json.loads(audit["audit"][0]["detail"])["supersedes"] == request["id"]
    rows = core.store.reader()
    assert [place for place, _ in rows.documents()] == [1, 2, 3, 4]


async def test_without_a_rejection_nothing_is_withdrawn(
    core: Core, episode: Episode, policy: ReleaseService, say: Send, pull: Pull
) -> None:
    """Control: looks, growth, a confirmation and a refused decision send nothing after the release."""
    assert await policy.look() == 1
    assert [one["data"]["status"] for one in pull()] == ["released", "released"]
    grow(core, episode)
    assert await policy.look() == 0
    assert say("rejected", reason=None) == (409, {"detail": "a rejection needs a reason"})
    assert say("approved") == (200, {"verdict": "approved", "documents": []})
    assert say("approved", by="b.petit")[0] == 409
    assert pull() == []
    row = row_of(core)
    assert row is not None
    assert (row["review"], row["reviewed_by"], row["withdrawn"]) == ("approved", "a.moreau", False)


async def test_a_rejected_one_that_grows_is_not_released_again(
    core: Core, episode: Episode, policy: ReleaseService, say: Send, pull: Pull
) -> None:
    """Neither the look nor the review itself lets the policy through; a person may release the newer explanation."""
    assert await policy.look() == 1
    assert say("rejected")[0] == 200
    newer = grow(core, episode)
    pull()

    assert await policy.look() == 0
    again = Review(annotation_id=newer.annotation_id, verdict="approved", person=POLICY.actor, at_ns=time.time_ns())
    with pytest.raises(Refused, match=r"a\.moreau has rejected an annotation of this anomaly"):
        core.write(lambda tx: decide(tx, again, "lyon"))
    assert pull() == []

    assert say("approved", note=newer)[0] == 200
    told, request = pull()
    assert (told["data"]["annotation_id"], told["data"]["revision"]) == (newer.annotation_id, 0)
    assert (request["data"]["revision"], request["data"]["status"]) == (2, "released")
    row = row_of(core)
    assert row is not None
    assert row["withdrawn"] is False


@pytest.mark.parametrize("by", ["a.moreau", "b.petit"])
async def test_what_a_person_released_can_be_rejected_once(
    core: Core, policy: ReleaseService, say: Send, pull: Pull, by: str
) -> None:
    """By that person or another; then it is decided for good, and the policy stays out."""
    assert say("approved")[0] == 200
    pull()
    refused = "a.moreau has approved this annotation already; reload, and reject it again to withdraw what was sent"
    status, body = say("rejected", by=by)  # as from a page that was loaded before the approval
    assert (status, body["detail"].startswith(refused)) == (409, True)
    assert pull() == []
    assert say("rejected", by=by, withdraw=True)[0] == 200
    assert [(one["data"]["revision"], one["data"]["status"]) for one in pull()] == [(1, "withdrawn")] * 2
    for verdict in ("rejected", "approved", "edited"):
        assert say(verdict, text="as [E1] shows") == (409, {"detail": f"{by} has rejected this annotation already"})
    assert await policy.look() == 0
    assert pull() == []


async def test_an_edit_corrects_what_the_policy_released(
    core: Core, policy: ReleaseService, say: Send, pull: Pull
) -> None:
    """The next revision has the person's words; its withdrawal takes back those."""
    assert await policy.look() == 1
    pull()
    assert say("edited", cause_id="cavitation", text="Strainer blocked, see [E1].")[0] == 200
    told, request = pull()
    assert (told["data"]["revision"], told["data"]["status"], told["data"]["origin"]) == (1, "released", "person")
    assert request["data"]["requested_by"] == "a.moreau"
    assert say("edited", by="b.petit", text="as [E1] shows")[0] == 409
    assert say("rejected", by="b.petit", withdraw=True)[0] == 200
    told, request = pull()
    assert (told["data"]["revision"], told["data"]["status"]) == (2, "withdrawn")
    assert [cause["cause"] for cause in told["data"]["causes"]] == ["cavitation"]
    assert "Strainer blocked" in request["data"]["long_text"]


async def test_another_explanation_is_rejected_through_the_one_that_was_released(
    core: Core, episode: Episode, policy: ReleaseService, say: Send, pull: Pull
) -> None:
    """Rejecting a newer text takes nothing back from ERP, and says what would."""
    assert await policy.look() == 1
    newer = grow(core, episode)
    pull()
    status, body = say("rejected", note=newer)
    assert (status, body["detail"]) == (
        409, f"policy:utilities has released another annotation ({episode[2].annotation_id}) of this anomaly already; "
        "reject that one to withdraw it",
    )  # fmt: skip
    assert say("rejected")[0] == 200
    assert len(pull()) == 2


async def test_the_verdict_counts_in_later_evidence(
    core: Core, episode: Episode, policy: ReleaseService, say: Send
) -> None:
    """A release by the policy is none (control), a rejection of it is one, with its reason."""
    assert await policy.look() == 1
    closed = episode[0].model_copy(update={"revision": 9, "state": "closed", "closed_ns": episode[0].updated_ns})
    core.write(lambda tx: tx.anomaly(closed))

    def past() -> Any:
        [one] = core.write(lambda tx: tx.past_episodes(closed.equipment, closed.onset_ns + 1, 5))
        return one.verdict, one.reason

    assert past() == (None, None)
    assert say("rejected", reason="wrong_cause")[0] == 200
    assert past() == ("rejected", "wrong_cause")


def test_erp_finds_one_notification_through_all_of_it(core: Core, episode: Episode, say: Send, pull: Pull) -> None:
    """The map names another object by the time of the rejection, and another explanation is released after it."""
    assert say("approved")[0] == 200
    machine = plant().equipment[0].model_copy(update={"sap_object": "20009999"})
    changed = TagMap(site="Acme/Lyon", tags=plant().tags, equipment=(machine,))
    core.write(lambda tx: tx.use_map(changed.revision, changed))
    newer = grow(core, episode)
    assert say("rejected", withdraw=True)[0] == 200
    assert say("approved", note=newer)[0] == 200

    requests = [one for one in pull() if one["type"] == "maintenance.request.v1"]

    assert [one["data"]["status"] for one in requests] == ["released", "withdrawn", "released"]
    assert [one["data"]["sap_object"] for one in requests] == ["10002345", "10002345", "20009999"]
    consumer = core.as_role("consumer")
    shapes = [consumer.get(f"/api/v1/documents/{one['id']}", params={"shape": "sap"}).json() for one in requests]
    assert [one["MaintNotifExtReferenceNumber"] for one in shapes] == [episode[2].annotation_id] * 3
    assert newer.annotation_id != episode[2].annotation_id


def test_only_an_engineer_withdraws(core: Core, episode: Episode, say: Send) -> None:
    """Whoever may read may not."""
    assert say("approved")[0] == 200
    address = f"/api/v1/annotations/{episode[2].annotation_id}/review"
    for role in ("admin", "auditor", "consumer", "integrator"):
        answer = core.as_role(role).post(address, json={"verdict": "rejected", "reason": "other"})  # type: ignore[arg-type]
        assert answer.status_code == 403


async def test_the_command_line_lists_what_nobody_has_looked_at(
    core: Core, policy: ReleaseService, say: Send, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its review, and then as withdrawn."""

    def listed(review: str) -> Any:
        assert run(("anomalies", "-c", str(core.services.config.path), "-o", "json", "--review", review)) == 0
        return [(row["review"], row["reviewed_by"], row["withdrawn"]) for row in json.loads(capsys.readouterr().out)]

    assert await policy.look() == 1
    capsys.readouterr()
    assert listed("policy") == [("approved", "policy:utilities", False)]
    assert listed("pending") == listed("rejected") == []
    assert say("rejected")[0] == 200
    capsys.readouterr()
    assert listed("policy") == []
    assert listed("rejected") == [("rejected", "a.moreau", True)]


async def test_an_answer_rests_on_what_stands(core: Core, episode: Episode, policy: ReleaseService, say: Send) -> None:
    """A question is answered with the released explanation; once that is withdrawn, with the newer one."""
    engineer = core.as_role("engineer")

    def answer() -> str:
        asked = {"question": "why did P101 trip on 2026-09-21?"}
        return " ".join(str(line) for line in engineer.post("/api/v1/ask", json=asked).json()["lines"])

    assert await policy.look() == 1
    grow(core, episode)
    assert "approved by policy:utilities" in answer()
    assert say("rejected")[0] == 200
    assert ", not reviewed" in answer()
