"""Questions over HTTP and on the page: answers that cite, queries that can be corrected, clear refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker.api.questions import Question, answer
from broker.ask.parse import NotUnderstood
from broker.models import registry
from broker.store import Transaction
from schemas.annotation import Annotation, Review
from schemas.anomaly import Anomaly
from schemas.errors import Refused
from schemas.evidence import Evidence
from schemas.ladder import Decision
from schemas.question import Answer
from schemas.tagmap import Tag, TagMap
from tests.broker.api.core import P101, Core, S, batch, bearing_wear, fill, plant, running_core
from tests.broker.models.site import AXES
from tests.llm.hostile_server import HostileServer

#: 2026-09-21 14:13:20 UTC.
T0 = 1_790_000_000 * S
SPAN = "from 2026-09-21T14:00Z to 2026-09-21T15:30Z"
Episode = tuple[Anomaly, Evidence, Annotation]


@pytest.fixture
def episode(core: Core) -> Episode:
    """An open episode with records, a gap before it and the rules' annotation."""
    return bearing_wear(core, T0)


def _ask(core: Core, question: str, **body: Any) -> Answer:
    answer = core.as_role("consumer").post("/api/v1/ask", json={"question": question, **body})
    assert answer.status_code == 200, answer.text
    return Answer.model_validate(answer.json())


def _cited(found: Answer) -> None:
    """Every mark in the lines stands for a citation, and every citation is used."""
    marks = set(re.findall(r"\[([RSAG]\d+)\]", " ".join((*found.lines, *found.reasons))))
    assert marks == {one.id for one in found.citations}


def test_why_tells_the_annotation_with_episode_and_records(core: Core, episode: Episode) -> None:
    """The cause, the text with measured facts, the record of each cited extreme, and the hole before it."""
    anomaly, evidence, note = episode
    found = _ask(core, f"why did P101 trip {SPAN}?")

    _cited(found)
    text = "\n".join(found.lines)
    assert note.causes[0].text in text
    assert "not reviewed" in text
    assert next(one for one in found.citations if one.kind == "episode").body["anomaly_id"] == anomaly.anomaly_id
    rows = [one.body for one in found.citations if one.kind == "record"]
    facts = {fact.path: fact.value for fact in evidence.facts if fact.id in note.causes[0].cites}
    assert rows
    assert all(facts[row["path"]] == row["value"] for row in rows)
    assert not found.complete
    assert "samples are missing" in found.reasons[0]


def test_why_follows_the_person_who_edited(core: Core, episode: Episode) -> None:
    """A released edit is what is told, with the name of who said it."""
    _, evidence, note = episode
    other = next(cause for cause in evidence.causes if cause.id != note.causes[0].id)
    review = Review(
        annotation_id=note.annotation_id,
        verdict="edited",
        person="a.moreau",
        at_ns=T0 + 900 * S,
        cause_id=other.id,
        text="seen at the pump [E1]",
    )
    core.write(lambda tx: tx.review(review))
    text = "\n".join(_ask(core, f"why did P101 trip {SPAN}?").lines)
    assert f"{other.text} (as a.moreau says" in text
    assert "seen at the pump [E1: " in text


def test_extreme_cites_the_record_that_has_it(core: Core, episode: Episode) -> None:
    """The number of the answer is the number of the cited record, and of the records that are pulled."""
    found = _ask(core, f"max bearing temperature of P101 {SPAN}")
    _cited(found)
    row = next(one.body for one in found.citations if one.kind == "record")
    pulled = (
        core.as_role("consumer").get("/api/v1/records", params={"path": f"{P101}/BearingTemp", "limit": 10_000}).json()
    )

    assert row["value"] == max(one["value"] for one in pulled["records"])
    assert row["seq"] in {one["seq"] for one in pulled["records"] if one["value"] == row["value"]}


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("what happened to P101", "mean shift on BearingTemp"),
        ("min SuctionPressure of P101", "The min of P101 SuctionPressure was 1.7"),
        ("mean Flow", "The mean of P101 Flow was 38.1 m³/h"),
        ("last value of Flow", "quality good"),
        ("how often was P101 abnormal", "P101: 1 episode began"),
        ("how often did BearingTemp exceed 60", "P101 BearingTemp above 60 °C: began 2 times"),
        ("when did BearingTemp first exceed 60 °C", "P101 BearingTemp above 60 °C: first at 2026-09-21 16:1"),
        ("when did BearingTemp first exceed 100", "did not begin at any time"),
        ("when was P101 first abnormal", "The first episode began at 2026-09-21 16:13:20 CEST"),
        ("compare Flow and BearingTemp of P101", "P101 Flow from 2026-09-21 16:00:00 CEST"),
    ],
)
def test_every_form_answers(core: Core, episode: Episode, question: str, said: str) -> None:
    """Each common form gives a cited answer in the site's time."""
    found = _ask(core, f"{question} {SPAN}")
    _cited(found)
    assert said in "\n".join(found.lines)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("how often was P101 abnormal", "P101: 25 episodes began"),
        ("how often was Flow of P101 abnormal", "P101 Flow: 3 episodes began"),
        ("how often was SuctionPressure of P101 abnormal", "P101 SuctionPressure: 0 episodes began"),
        ("when was P101 first abnormal", "The first episode began at 2026-09-21 16:13:20 CEST"),
        ("when was Flow of P101 first abnormal", "The first episode began at 2026-09-21 16:13:20 CEST"),
        ("when was SuctionPressure of P101 first abnormal", "No episode of P101 SuctionPressure began from"),
        ("why was Flow of P101 abnormal", "2026-09-21 16:13:20 CEST"),
        ("why was SuctionPressure of P101 abnormal", "these are of the same equipment"),
    ],
)
def test_many_episodes_are_counted_before_they_are_cut(core: Core, episode: Episode, question: str, said: str) -> None:
    """The number and the first one are those of the whole window, and of the named tag alone."""
    anomaly = episode[0]
    first = anomaly.members[0].model_copy(update={"path": f"{P101}/Flow"})

    def more(tx: Transaction) -> None:
        for i in range(25):
            onset_ns = T0 + 60 * i * S
            tx.anomaly(
                anomaly.model_copy(
                    update={
                        "anomaly_id": "a1" * 16 if i == 0 else f"{i:032x}",
                        "revision": 3,
                        "onset_ns": onset_ns,
                        "updated_ns": onset_ns + S,
                        "closed_ns": onset_ns + S,
                        "state": "closed",
                        "members": (first if i < 3 else anomaly.members[0],),
                    }
                )
            )

    core.write(more)
    found = _ask(core, f"{question} {SPAN}")
    _cited(found)
    assert said in "\n".join(found.lines)


def _states(core: Core, *told: tuple[int, float]) -> None:
    """The pump's state as (seconds from T0, number)."""
    known = plant()
    state = Tag(
        number=len(known.tags),
        id="state",
        path=f"{P101}/State",
        source="pumps",
        address="s",
        equipment=P101,
        role="state",
        enum={2: "Stopped", 6: "Execute", 9: "Aborted"},
    )
    tag_map = TagMap(site=known.site, tags=(*known.tags, state), equipment=known.equipment)

    def command(tx: Transaction) -> None:
        tx.use_map(tag_map.revision, tag_map)
        times, values = [T0 + at * S for at, _ in told], [value for _, value in told]
        tx.records(batch(tag_map, [state.number] * len(told), times, values))

    core.write(command)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (((-60, 6), (60, 9), (90, 2)), r"P101 State = Aborted: began at 2026-09-21 16:14:20 CEST \[R1\]\."),
        (
            ((-60, 6), (60, 6)),
            r"P101 State = Aborted did not begin from .* \[S1\]\. What follows is what detectors found",
        ),
        (((-9000, 9),), r"P101 State = Aborted: it was so already when the window began \[R1\]\."),
    ],
)
def test_why_looks_whether_it_happened(
    core: Core, episode: Episode, told: tuple[tuple[int, float], ...], said: str
) -> None:
    """The state that the question speaks of comes first, with its record; the episodes follow as they are."""
    _states(core, *told)
    found = _ask(core, f"why did P101 trip {SPAN}?")
    _cited(found)
    assert re.match(said, found.lines[0])
    assert "mean shift on BearingTemp" in "\n".join(found.lines[1:])


def test_why_does_not_say_that_it_did_not_happen_without_data(core: Core, episode: Episode) -> None:
    """Before the first record of the state nothing is known of it."""
    _states(core, (0, 6))
    found = _ask(core, "why did P101 trip on 2026-09-20?")
    assert "did not begin" not in "\n".join(found.lines)
    assert not found.complete
    assert "whether it began is not known" in found.reasons[0]


def test_the_value_at_a_moment(core: Core, episode: Episode) -> None:
    """The newest record at or before it, and not the newest of the quarter of an hour after it."""
    for when in ("on 21.09.2026 at 16:12:30", "at 2026-09-21T14:12:30Z"):
        found = _ask(core, f"what was Flow {when}")
        _cited(found)
        (row,) = (one.body for one in found.citations if one.kind == "record")
        assert row["source_time"].startswith("2026-09-21T14:12:30.000")
        assert "up to 2026-09-21 16:12:30 CEST" in found.lines[0]


def test_nothing_in_the_window_names_the_last_one_before(core: Core, episode: Episode) -> None:
    """No episode is said so, and the nearest earlier one is cited (it is still open, so it touches later windows)."""
    found = _ask(core, "why did P101 trip on 2026-09-20?")
    assert found.lines == ("No episode of P101 from 2026-09-20 00:00:00 CEST to 2026-09-21 00:00:00 CEST.",)
    assert found.complete


def test_a_query_is_corrected_and_run_again(core: Core, episode: Episode) -> None:
    """The query of an answer gives the same answer; changed, it gives another, marked as a person's."""
    first = _ask(core, f"max Flow {SPAN}")
    query = first.query.model_dump(mode="json")
    again = _ask(core, "", query=query)
    assert (again.lines, again.citations) == (first.lines, first.citations)
    assert (first.parsed_by, again.parsed_by) == ("code", "person")
    assert "The min of P101 Flow" in _ask(core, "", query={**query, "aggregate": "min"}).lines[0]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"question": "why did P1O1 trip"}, 400, "nearest: P101"),
        ({"question": "SELECT * FROM users"}, 400, "none of the forms"),
        ({"question": "why did P101 trip from 2026-01-01 to 2026-06-01"}, 400, "longer than ask.longest"),
        ({"question": "x" * 301}, 422, "question"),
        ({}, 422, "send a question or a query"),
        ({"question": "max Flow", "sql": "x"}, 422, "sql"),
        ({"query": {"form": "value", "tags": ["Acme/x"], "aggregate": "max", "windows": []}}, 422, "windows"),
    ],
)
def test_what_cannot_be_answered(core: Core, body: dict[str, Any], status: int, said: str) -> None:
    """400 and 422 say what is wrong and what to do."""
    fill(core, 0)
    answer = core.as_role("consumer").post("/api/v1/ask", json=body)
    assert answer.status_code == status
    assert said in answer.text


def test_a_query_about_an_unknown_path(core: Core, episode: Episode) -> None:
    """A corrected query with a path of no tag is refused with the nearest."""
    window = {"begin": "2026-09-21T15:00:00Z", "end": "2026-09-21T16:00:00Z"}
    query = {"form": "value", "aggregate": "max", "tags": [f"{P101}/Flaw"], "windows": [window]}
    answer = core.as_role("consumer").post("/api/v1/ask", json={"query": query})
    assert answer.status_code == 400
    assert f"{P101}/Flow" in answer.json()["detail"]


def test_an_answer_says_that_a_replay_is_correcting_its_window(core: Core) -> None:
    """As long as minutes of the window wait to be made anew, and not for another tag or window."""
    tag_map = fill(core, 70, T0)

    def correct(tx: Transaction) -> None:
        revision = tx.begin_replay("a", "", sources=(), span_ns=(0, 1), tag_map=tag_map)
        tx.records(batch(tag_map, [0], [T0], [9.0]), revision=revision)

    name, other = (tag.path.rsplit("/", 1)[1] for tag in tag_map.tags[:2])
    assert _replayed(_ask(core, f"max {name} of P101 {SPAN}")) == []
    core.write(correct)
    assert len(_replayed(_ask(core, f"max {name} of P101 {SPAN}"))) == 1
    assert _replayed(_ask(core, f"max {other} of P101 {SPAN}")) == []
    later = SPAN.replace("T14:00Z", "T14:30Z")
    assert _replayed(_ask(core, f"max {name} of P101 {later}")) == []
    while core.write(lambda tx: tx.rebuild()[0]):
        pass
    assert _replayed(_ask(core, f"max {name} of P101 {SPAN}")) == []


def _replayed(found: Answer) -> list[str]:
    return [reason for reason in found.reasons if reason.startswith("a replay has corrected")]


def _page(core: Core, **form: str) -> httpx.Response:
    return core.as_role("auditor").post("/ui/ask", data=form)


def test_page_shows_answer_query_and_correction(core: Core, episode: Episode) -> None:
    """The form is a page; an answer comes with its query in a field that can be changed and sent again."""
    assert 'hx-post="/ui/ask"' in core.as_role("auditor").get("/ask").text
    shown = _page(core, question=f"max Flow {SPAN}").text
    assert "The max of P101 Flow was" in shown
    assert 'href="#cite-R1"' in shown
    query = json.dumps(_ask(core, f"max Flow {SPAN}").query.model_dump(mode="json") | {"aggregate": "min"})
    assert "The min of P101 Flow was" in _page(core, question="", query=query).text


def test_page_says_what_is_wrong_and_escapes(core: Core, episode: Episode) -> None:
    """A wrong query stays in its field with the reason; markup in a question is text."""
    assert "role=&#34;alert&#34;" not in _page(core, query="{not json").text
    assert 'role="alert"' in _page(core, query="{not json").text
    shown = _page(core, question="why <b>did</b> Q9 trip").text
    assert "<b>did</b>" not in shown
    assert "no tag and no equipment is called" in shown


def test_without_a_model_nothing_else_is_tried(core: Core, episode: Episode) -> None:
    """The built-in annotator reads no questions: what the forms do not fit is refused."""
    assert not core.services.reasoner.reads_questions
    answer = core.as_role("consumer").post("/api/v1/ask", json={"question": "P101?"})
    assert answer.status_code == 400


async def test_a_question_leaves_this_machine_only_by_a_decision(tmp_path: Path, eventually) -> None:
    """A server that may annotate gets no question before one for ``questions``; the forms need none."""
    server = HostileServer()
    await server.start()
    llm = f"{{backend: openai, url: '{server.url}', model: plant-7b}}"
    with running_core(tmp_path, llm=llm) as core:
        bearing_wear(core, T0)
        reasoner, reader = core.services.reasoner, core.store.reader()
        await reasoner.start()
        try:
            await eventually(lambda: reasoner.reads_questions)
            before = len(server.seen)
            for use, model in (("annotation", "plant-7b"), ("questions", "builtin:plant-tiny")):
                _choose(core, use, model)
                with pytest.raises(Refused, match="fairlead model decide plant-7b --use questions"):
                    await answer(core.services, reader, Question(question="P101?"))
            assert (await answer(core.services, reader, Question(question=f"max Flow of P101 {SPAN}"))).lines
            assert len(server.seen) == before

            _choose(core, "questions", "plant-7b")
            with pytest.raises(NotUnderstood):  # what this server says is no form
                await answer(core.services, reader, Question(question="P101?"))
            assert len(server.seen) > before
        finally:
            await reasoner.close()
            await server.stop()


def _choose(core: Core, use: Any, model: str) -> None:
    rung: Any = "site_server" if model == "plant-7b" else "builtin"
    decision = Decision(use=use, model=model, rung=rung, axes=AXES, reason="it fits")
    core.write(lambda tx: registry.decide(tx, decision, "a.moreau"))
