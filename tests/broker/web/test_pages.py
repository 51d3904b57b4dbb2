"""The pages as they leave the server."""

from __future__ import annotations

import html
import re
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from broker.review import decide
from broker.store import Transaction
from llm.rules import annotate_by_rules
from schemas.alarms import Condition, Event
from schemas.annotation import Annotation, Provenance, Review
from schemas.anomaly import Anomaly
from schemas.entries import Position
from schemas.evidence import Evidence
from tests.broker.api.core import P101, PASSWORD, Core, S, bearing_wear, fill, running_core

HOSTILE = "<script>alert(1)</script>"
HTML = {"Accept": "text/html"}
Episode = tuple[Anomaly, Evidence, Annotation]


@pytest.fixture
def episode(core: Core) -> Episode:
    """An open episode with evidence and the rules' annotation."""
    return bearing_wear(core, (time.time_ns() // S - 250) * S)


def _post(client: httpx.Client, annotation_id: str, **form: str) -> httpx.Response:
    data = {"anomaly_id": "a1" * 16, **form}
    return client.post(f"/ui/annotations/{annotation_id}/review", data=data)


def test_hostile_names_and_texts_appear_as_text(core: Core) -> None:
    """A tag called <script>, a model's HTML and a comment with a quote are shown, not run."""
    tag_map = fill(core, 0)
    anomaly, evidence, note = bearing_wear(core, (time.time_ns() // S - 250) * S)
    odd = next(tag for tag in tag_map.tags if HOSTILE in tag.path)

    def command(tx: Transaction) -> Annotation:
        member = anomaly.members[0].model_copy(update={"path": odd.path, "tag_id": odd.id})
        shouted = anomaly.model_copy(update={"revision": 3, "members": (member, *anomaly.members)})
        fact = evidence.facts[0].model_copy(update={"path": odd.path})
        seen = evidence.model_copy(update={"anomaly_revision": 3, "facts": (fact, *evidence.facts[1:])})
        seen = Evidence.model_validate(seen.model_dump())
        told = note.model_copy(
            update={
                "anomaly_revision": 3,
                "evidence_id": seen.evidence_id,
                "origin": "model",
                "text": '<img src=x onerror="alert(2)"> [E1]',
                "actions": ("<b>bold</b>",),
                "provenance": Provenance(engine="e", model_name="<i>model</i>"),
            }
        )
        told = Annotation.model_validate(told.model_dump())
        tx.anomaly(shouted)
        tx.evidence(seen)
        tx.annotation(told)
        return told

    told = core.write(command)
    client = core.as_role("engineer", name="a.moreau")
    _post(client, told.annotation_id, verdict="rejected", reason="other", comment='"><script>alert(3)</script>')
    page = client.get(f"/?anomaly={anomaly.anomaly_id}", headers=HTML).text

    for text in (HOSTILE, '<img src=x onerror="alert(2)">', "<b>bold</b>", "<i>model</i>", "<script>alert(3)</script>"):
        assert text not in page
        assert text in html.unescape(page)
    assert len(re.findall("<script", page)) == 4
    assert page.count("AI-generated") == 1


def test_detail_shows_evidence_before_the_explanation(core: Core, episode: Episode) -> None:
    """A person sees the facts first, then who explains them and how."""
    text = core.as_role("engineer").get(f"/ui/anomalies/{episode[0].anomaly_id}").text

    places = [text.index(part) for part in ("data-trend", "<h2>Evidence", "<h2>Explanation", "<h2>Review")]
    assert places == sorted(places)
    assert "origin: rules" in text
    assert "AI-generated" not in text
    assert text.count("<figure") == 3
    assert 'id="fact-E1"' in text
    assert "BearingTemp rose to" in text
    assert re.search(r"since <time[^>]*>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d CES?T", text), "the site's zone is shown"


def test_detail_shows_what_the_server_said_meanwhile(core: Core, episode: Episode) -> None:
    """Alarms and events of the equipment in the trends' window stand under the trends; none makes no table."""
    client, address = core.as_role("engineer"), f"/ui/anomalies/{episode[0].anomaly_id}"
    assert "Events of the servers" not in client.get(address).text

    high = Condition("nsu=urn:a;s=High", "BearingHigh", active=True, acked=False)
    plain = Event(
        source="cell",
        notifier="i=2253",
        equipment=P101,
        event_id=b"1",
        event_type="i=9482",
        type_name="ExclusiveLevelAlarmType",
        source_node="nsu=urn:a;s=Bearing",
        source_name="Bearing",
        time_ns=episode[0].onset_ns + 60 * S,
        server_ns=None,
        received_ns=episode[0].onset_ns + 61 * S,
        severity=700,
        message=HOSTILE,
        condition=high,
        fields={},
    )
    others = (
        replace(plain, event_id=b"2", message="another machine", equipment="Acme/Lyon/Utilities"),
        replace(plain, event_id=b"3", message="long before", time_ns=episode[0].onset_ns - 7200 * S),
        replace(plain, event_id=b"4", message="batch begun", condition=None, time_ns=episode[0].onset_ns + 10 * S),
    )
    core.write(lambda tx: [tx.event(one, Position(1, 1)) for one in (plain, *others)])
    text = client.get(address).text

    places = [text.index(part) for part in ("data-trend", "Events of the servers", "batch begun", "BearingHigh")]
    assert places == sorted(places)
    assert places[-1] < text.index("<h2>Evidence")
    assert "active, not acknowledged" in text
    assert HOSTILE not in text
    assert html.escape(HOSTILE, quote=False) in text
    assert "another machine" not in text
    assert "long before" not in text


@pytest.mark.parametrize("role", ["integrator", "auditor", "admin"])
def test_only_an_engineer_sees_buttons(core: Core, episode: Episode, role: str) -> None:
    """Everybody of the plant may read; deciding is for engineers."""
    address = f"/ui/anomalies/{episode[0].anomaly_id}"

    text = core.as_role(role).get(address).text  # type: ignore[arg-type]
    assert "/review" not in text
    assert text.count("<form") == (2 if role == "admin" else 0), "an administrator may shelve"
    assert "A person with the role engineer can decide here." in core.as_role(role).get(address).text  # type: ignore[arg-type]
    assert core.as_role("engineer").get(address).text.count("<form") == 3


def test_consumer_gets_a_page_that_says_why_not(core: Core) -> None:
    """A machine's account that signs in at the form sees which roles the page is for."""
    plain = core.new_client()
    plain.post("/login", data={"name": "mes", "password": PASSWORD}, headers={"Origin": core.url})
    page = plain.get("/", headers=HTML)

    assert page.status_code == 403
    assert page.headers["content-type"].startswith("text/html")
    assert "this needs one of the roles admin, auditor, engineer, integrator" in page.text
    assert "Sign out" in page.text


def test_unknown_page_is_a_page(core: Core) -> None:
    """A person who mistypes an address gets a page, a program gets JSON."""
    page = core.client.get("/nothing", headers=HTML)
    assert (page.status_code, "there is no such page" in page.text) == (404, True)
    assert core.client.get("/nothing").json() == {"detail": "there is no such page"}


@pytest.mark.parametrize(
    ("show", "text"),
    [("all", "Nothing abnormal so far"), ("open", "Nothing abnormal goes on"), ("pending", "Nothing waits")],
)
def test_empty_list_says_what_is_empty(core: Core, show: str, text: str) -> None:
    """An empty list is no blank panel."""
    page = core.as_role("engineer").get("/", params={"show": show}).text
    assert text in page
    assert "Choose an anomaly" in page


def test_list_says_what_is_wrong_with_fairlead_itself(core: Core) -> None:
    """Without acquire no data comes: the list says so, above the anomalies."""
    core.services.writer.error = "disk is full"
    text = core.as_role("auditor").get("/ui/anomalies").text

    assert "Acquire does not run: no new data comes." in text
    assert "The store cannot be written: disk is full" in text


def test_what_is_read_without_protection_is_said(tmp_path: Path) -> None:
    """On the page and in the status, with who accepts it and until when; a source that is switched off is not named."""
    open_ = "mqtt, subscriptions: [{filter: a, decode: json}], broker: 'mqtt://192.0.2.1', insecure_ack: 'j.doe test"
    old = "opcua, endpoint: 'opc.tcp://192.0.2.2', security: None, insecure_ack: 'j.doe test 2020-01-31'"
    sources = f"  meters: {{kind: {open_} stand 2999-12-31'}}\n  cell: {{kind: {old}}}\n"
    sources += f"  off: {{enabled: false, kind: {old}}}\n"
    sources += "  near: {kind: opcua, endpoint: 'opc.tcp://127.0.0.1', security: None}\n"
    with running_core(tmp_path, sources=sources) as core:
        text = core.as_role("auditor").get("/ui/anomalies").text
        notes = core.client.get("/readyz").json()["notes"]
    accepted = "j.doe accepts it until 2999-12-31: test stand"
    said = [
        f"Source meters: mqtt://192.0.2.1 is open to anybody on the wire; {accepted}",
        "Source cell: opc.tcp://192.0.2.2:4840 with security None is not read any more: insecure_ack of j.doe ended on "
        "2020-01-31",
    ]
    assert [note for note in notes if note.startswith("Source ")] == said
    assert all(one in text for one in said)
    assert "Source near" not in text


def test_filters(core: Core, episode: Episode) -> None:
    """Open and to-review lists hold what their name says, and the page's own refresh keeps the choice."""
    client = core.as_role("engineer", name="a.moreau")
    assert episode[0].anomaly_id in client.get("/ui/anomalies", params={"show": "pending"}).text
    _post(client, episode[2].annotation_id, verdict="rejected", reason="known_work")

    assert episode[0].anomaly_id not in client.get("/ui/anomalies", params={"show": "pending"}).text
    assert episode[0].anomaly_id in client.get("/ui/anomalies", params={"show": "open"}).text
    assert 'hx-get="/ui/anomalies?show=open"' in client.get("/?show=open").text
    assert client.get("/ui/anomalies?show=some").status_code == 422


def test_gone_anomaly(core: Core) -> None:
    """An address of an anomaly that retention has removed says so."""
    client = core.as_role("engineer")
    assert client.get("/ui/anomalies/none").status_code == 404
    assert "is not kept" in client.get("/?anomaly=none").text


def test_approval_on_the_page(core: Core, episode: Episode) -> None:
    """After the approval the page shows who, when, and the released documents; a second one is refused in place."""
    client = core.as_role("engineer", name="a.moreau")

    first = _post(client, episode[2].annotation_id, verdict="approved", comment="heard it")
    second = _post(client, episode[2].annotation_id, verdict="approved")

    assert first.status_code == 200
    assert "Approved; 2 documents released." in first.text
    assert "<strong>a.moreau</strong> approved" in first.text
    assert "heard it" in first.text
    assert first.text.count("Released:") == 2
    assert "shape=sap" in first.text
    assert re.findall(r'name="verdict" value="(\w+)"', first.text) == ["rejected"]
    assert second.status_code == 409
    assert "a.moreau has approved this annotation already" in second.text
    stale = _post(client, episode[2].annotation_id, verdict="rejected", reason="other")
    assert (stale.status_code, "reject it again to withdraw" in stale.text) == (409, True)
    assert 'name="withdraw" value="true"' in stale.text
    assert 'name="withdraw"' not in client.get("/ui/anomalies").text
    taken_back = _post(client, episode[2].annotation_id, verdict="rejected", reason="other", withdraw="true")
    assert "Rejected; 2 documents withdrawn." in taken_back.text
    for link in re.findall(r'href="(/api/v1/documents/[^"]+)"', first.text):
        assert client.get(html.unescape(link)).status_code == 200


def test_a_release_by_the_policy_is_confirmed_or_withdrawn_on_the_page(core: Core, episode: Episode) -> None:
    """Who looks at it sees that nobody has, and what follows; afterwards who took it back, and nothing to decide."""
    client = core.as_role("engineer", name="a.moreau")
    note = episode[2]
    released = Review(annotation_id=note.annotation_id, verdict="approved", person="policy:greasing", at_ns=1)
    core.write(lambda tx: decide(tx, released, "lyon"))
    address = f"/ui/anomalies/{episode[0].anomaly_id}"

    shown = client.get(address).text
    assert re.findall(r'name="verdict" value="(\w+)"', shown) == ["approved", "rejected", "edited"]
    assert "nobody has looked at it" in shown
    assert "approved by policy:greasing" in client.get("/ui/anomalies?show=policy").text

    done = _post(client, note.annotation_id, verdict="rejected", reason="known_work").text
    assert "Rejected; 2 documents withdrawn." in done
    assert re.findall(r'name="verdict"', done) == []
    assert (done.count("Released:"), done.count("Withdrawn:")) == (2, 2)
    assert "rejected by a.moreau; withdrawn" in client.get("/ui/anomalies").text
    assert "Nothing was released that nobody has looked at." in client.get("/ui/anomalies?show=policy").text


def test_a_confirmation_on_the_page_sends_nothing(core: Core, episode: Episode) -> None:
    """It leaves the rejection open, and other pages see that something is new."""
    client = core.as_role("engineer", name="a.moreau")
    note = episode[2]
    released = Review(annotation_id=note.annotation_id, verdict="approved", person="policy:greasing", at_ns=1)
    core.write(lambda tx: decide(tx, released, "lyon"))
    versions = re.compile(r'data-revision="([^"]+)"')
    before = versions.findall(client.get("/ui/anomalies").text)
    done = _post(client, note.annotation_id, verdict="approved").text
    assert "Confirmed; nothing new is sent." in done
    assert done.count("Released:") == 2
    assert re.findall(r'name="verdict" value="(\w+)"', done) == ["rejected"]
    assert versions.findall(client.get("/ui/anomalies").text) == versions.findall(done) != before


def test_edit_sends_only_what_differs(core: Core, episode: Episode) -> None:
    """The form always sends cause, text and actions; unchanged ones are no edit."""
    client = core.as_role("engineer", name="a.moreau")
    note = episode[2]
    same = {"cause_id": note.causes[0].id, "text": note.text, "actions": "\r\n".join(note.actions)}

    refused = _post(client, note.annotation_id, verdict="edited", **same)
    assert refused.status_code == 409
    assert "an edit changes the cause, the text or the actions" in refused.text

    changed = same | {"actions": "Clean the strainer\r\n\r\n  Call the vendor "}
    assert _post(client, note.annotation_id, verdict="edited", **changed).status_code == 200
    review = client.get(f"/api/v1/anomalies/{note.anomaly_id}").json()["annotations"][0]["reviews"][0]
    assert (review["cause_id"], review["text"]) == (None, None)
    assert review["actions"] == ["Clean the strainer", "Call the vendor"]


def test_model_answer_shows_as_a_newer_version(core: Core, episode: Episode) -> None:
    """List and detail carry one version; when the model has answered since, the list's is another one."""
    client = core.as_role("engineer")
    address = f"/ui/anomalies/{episode[0].anomaly_id}"

    def versions() -> tuple[str, str]:
        both = [re.search(r'data-revision="([^"]+)"', client.get(a).text) for a in ("/ui/anomalies", address)]
        assert all(both)
        return both[0][1], both[1][1]  # type: ignore[index]

    before, shown = versions()
    assert before == shown
    later = annotate_by_rules(episode[1], detector_score=9.9, created_ns=time.time_ns())
    core.write(lambda tx: tx.annotation(later))
    after, reloaded = versions()
    assert after == reloaded
    assert after != before


def test_evidence_that_changed_is_said(core: Core, episode: Episode) -> None:
    """Growth after the approval marks the annotation; what was released stays."""
    client = core.as_role("engineer", name="a.moreau")
    _post(client, episode[2].annotation_id, verdict="approved")
    grown = Evidence.model_validate(episode[1].model_dump() | {"anomaly_revision": 7})
    core.write(lambda tx: tx.evidence(grown))

    text = client.get(f"/ui/anomalies/{episode[0].anomaly_id}").text

    assert "The evidence has changed since this was approved." in text
    assert text.count("Released:") == 2
