"""Episodes, what explains them, and what people say of it: idempotent, readable, in the same transaction."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from broker.store import Store, tables
from schemas.annotation import Review, ReviewVerdict
from schemas.anomaly import Anomaly
from schemas.calendar import Window
from schemas.evidence import CauseOption
from schemas.tagmap import TagMap
from tests.broker.store.conftest import Opener
from tests.broker.store.plant import (
    PUMP,
    T0,
    S,
    annotation,
    anomaly,
    document,
    dump,
    evidence,
    plant,
    rows_of,
)

MAP = plant()


def test_the_life_of_an_episode(store: Store) -> None:
    """Revisions, evidence, annotations, review and documents; doing all of it twice changes nothing."""
    first, second = anomaly(revision=1), anomaly(revision=2, state="closed")
    fact = evidence(first)
    rules, model = annotation(fact), annotation(fact, "model")
    review = Review(annotation_id=model.annotation_id, verdict="approved", person="Ada", at_ns=T0 + 9)

    def all_of_it() -> None:
        with store.transaction() as tx:
            tx.use_map(MAP.revision, MAP)
            tx.anomaly(first)
            tx.evidence(fact)
            tx.annotation(rules)
            tx.annotation(model)
            tx.anomaly(second)
            tx.review(review)
            assert tx.document(document("d1")) == 1
            assert tx.document(document("d2")) == 2
            assert tx.reviews_of("a1") == [review]
            assert tx.anomaly_by_id("a1") == second
            assert tx.anomaly_at("a1", 1) == first
            assert tx.anomaly_at("a1", 3) is None
            assert tx.evidence_by_id(fact.evidence_id) == fact
            assert tx.annotation_by_id(model.annotation_id) == model
            assert tx.equipment_by_path(PUMP) == MAP.equipment[0]

    all_of_it()
    once = dump(store)
    all_of_it()
    assert dump(store) == once
    reader = store.reader()
    row = reader.anomalies()[0]
    assert (row.anomaly, row.annotation_id, row.origin) == (second, model.annotation_id, "model")
    assert (row.cause, row.verdict, row.person) == ("worn bearing", "approved", "Ada")
    detail = reader.anomaly("a1")
    assert detail is not None
    assert detail.revisions == [first, second]
    assert [(entry.annotation.origin, entry.superseded) for entry in detail.annotations] == [
        ("model", False),
        ("rules", True),
    ]
    assert detail.annotations[0].reviews == [review]
    assert not detail.evidence_changed
    assert reader.anomaly("nobody") is None
    assert (reader.anomaly_at("a1", 1), reader.anomaly_at("a1", 2)) == (first, second)
    assert reader.anomaly_at("nobody", 1) is None
    assert [(seq, one.id, one.sequence) for seq, one in reader.documents(after=1)] == [(2, "d2", "2")]
    assert reader.documents(after=0, type="anomaly.annotation.v1") == []
    found = reader.document("d1")
    assert found is not None
    assert found.data == {"request_id": "d1"}
    with store.transaction() as tx:
        (past,) = tx.past_episodes(PUMP, T0 + 1, 5)
        assert (past.anomaly, past.cause, past.verdict) == (second, "worn bearing", "approved")
        assert tx.past_episodes(PUMP, T0, 5) == []
        tx.evidence(evidence(second))
    changed = reader.anomaly("a1")
    assert changed is not None
    assert changed.evidence_changed


def test_lists_of_episodes_filter_and_page(store: Store) -> None:
    """Newest first; state, review and cursor narrow the list."""
    with store.transaction() as tx:
        for i in range(5):
            one = anomaly(f"a{i}", state="open" if i % 2 else "closed", onset_ns=T0 + i * S)
            tx.anomaly(one)
            note = annotation(evidence(one))
            tx.annotation(note)
            if i == 3:
                tx.review(Review(annotation_id=note.annotation_id, verdict="rejected", person="B", at_ns=T0))
    reader = store.reader()
    rows = reader.anomalies(limit=2)
    assert [row.anomaly.anomaly_id for row in rows] == ["a4", "a3"]
    assert [row.anomaly.anomaly_id for row in reader.anomalies(before=rows[-1].cursor)] == ["a2", "a1", "a0"]
    assert [row.anomaly.anomaly_id for row in reader.anomalies(state="open")] == ["a3", "a1"]
    assert [row.anomaly.anomaly_id for row in reader.anomalies(review="rejected")] == ["a3"]
    assert len(reader.anomalies(review="pending")) == 4
    counts = reader.counts()
    assert (counts.anomalies_open, counts.pending_review) == (2, 4)
    with store.transaction() as tx:
        tx.anomaly(anomaly("unexplained"))
        tx.anomaly(anomaly("a1", 2, state="closed"))
        tx.annotation(annotation(evidence(anomaly("a3"), 9)))
    counts = reader.counts()
    assert (counts.anomalies_open, counts.pending_review) == (2, 4)


def test_episodes_of_a_tag_are_counted_where_they_lie(store: Store) -> None:
    """A tag takes part by its whole path with its letters; what began is told apart from what touches a window."""
    odd = f'{PUMP}/Débit "%_"'
    with store.transaction() as tx:
        for i, path in enumerate([odd, f"{PUMP}/Tag0", odd, odd]):
            one = anomaly(f"a{i}", state="closed", onset_ns=T0 + i * S)
            tx.anomaly(one.model_copy(update={"members": (one.members[0].model_copy(update={"path": path}),)}))
    reader = store.reader()

    def begun(*paths: str, from_ns: int = T0, limit: int = 9) -> tuple[int, list[str]]:
        number, found = reader.episodes_begun([PUMP], from_ns, T0 + 3 * S, paths=paths, limit=limit)
        return number, [one.anomaly_id for one in found]

    assert begun(limit=1) == (3, ["a0"])
    assert begun(odd) == (2, ["a0", "a2"])
    assert begun(odd, from_ns=T0 + 1) == (1, ["a2"])
    assert begun(f"{PUMP}/tag0", f"{PUMP}/Tag") == (0, [])
    touching = reader.episodes_between([PUMP], T0 + S, T0 + 3 * S, paths=[odd], limit=9)
    assert [one.anomaly_id for one in touching] == ["a0", "a2"]


def test_shifts_are_those_of_the_newest_map(store: Store) -> None:
    """Windows of other kinds are none; a map without a calendar has none."""
    assert store.reader().shifts() == ()
    early = Window(name="early", kind="shift", days=(0,), start_min=360, minutes=480)
    for windows in ((early, early.model_copy(update={"name": "off", "kind": "off"})), ()):
        made = TagMap(site=MAP.site, tags=MAP.tags, equipment=MAP.equipment, calendar=windows)
        with store.transaction() as tx:
            tx.use_map(made.revision, made)
        assert store.reader().shifts() == windows[:1]


def test_only_new_evidence_waits_for_the_model(store: Store) -> None:
    """The newest evidence of each anomaly, until the model answered or was asked in vain."""
    one, two, three = anomaly("a1"), anomaly("a2"), anomaly("a3")
    old, new = evidence(one, 1), evidence(one, 2)
    with store.transaction() as tx:
        for each in (one, two, three):
            tx.anomaly(each)
        for each_evidence in (old, new, evidence(two), evidence(three)):
            tx.evidence(each_evidence)
        tx.annotation(annotation(new))
        tx.annotation(annotation(evidence(two), "model"))
    reader = store.reader()
    assert [(row.evidence_id, row.detector_score) for row in reader.annotations_pending(9)] == [
        (new.evidence_id, 3.0),
        (evidence(three).evidence_id, 3.0),
    ]
    with store.transaction() as tx:
        tx.annotation_attempt(new.evidence_id, T0, "deadline")
        tx.annotation_attempt(new.evidence_id, T0 + 1, "deadline")
    assert [row.evidence_id for row in reader.annotations_pending(9)] == [evidence(three).evidence_id]
    assert rows_of(store, "SELECT attempts, last_ns FROM annotation_attempts") == [(2, T0 + 1)]


def test_a_passing_hindrance_is_tried_again(store: Store) -> None:
    """Three attempts in all, fewer when an attempt says that another one is of no use."""
    one, two = anomaly("a1"), anomaly("a2")
    with store.transaction() as tx:
        for each in (one, two):
            tx.anomaly(each)
            tx.evidence(evidence(each))
    reader = store.reader()

    def attempt(of: Anomaly, final: bool) -> list[str]:
        with store.transaction() as tx:
            tx.annotation_attempt(evidence(of).evidence_id, T0, "deadline", final=final)
        waiting = {row.evidence_id for row in reader.annotations_pending(9)}
        return [each.anomaly_id for each in (one, two) if evidence(each).evidence_id in waiting]

    assert attempt(one, False) == ["a1", "a2"]
    assert attempt(one, False) == ["a1", "a2"]
    assert attempt(one, False) == ["a2"]
    assert attempt(two, False) == ["a2"]
    assert attempt(two, True) == []


def test_an_annotation_says_why_no_model_speaks(store: Store) -> None:
    """The reason of the last attempt at that evidence, until a model's answer is there."""
    one = anomaly()
    asked, unasked = evidence(one, 1), evidence(one, 2)
    with store.transaction() as tx:
        tx.anomaly(one)
        for each in (asked, unasked):
            tx.evidence(each)
            tx.annotation(annotation(each))
        tx.annotation_attempt(asked.evidence_id, T0, "starting", final=False)
        tx.annotation_attempt(asked.evidence_id, T0, "deadline", final=False)

    def reasons() -> list[tuple[str, int, str]]:
        found = store.reader().anomaly("a1")
        assert found is not None
        seqs = {each.evidence_id: each.record_seq for each in found.evidence}
        return [(e.annotation.origin, seqs[e.annotation.evidence_id], e.reason) for e in found.annotations]

    assert reasons() == [("rules", 2, ""), ("rules", 1, "deadline")]
    with store.transaction() as tx:
        tx.annotation(annotation(asked, "model"))
    assert reasons() == [("model", 1, ""), ("rules", 2, ""), ("rules", 1, "")]


@pytest.mark.parametrize(
    ("verdict", "cause_id", "cause"),
    [
        ("approved", None, "worn bearing"),
        ("rejected", None, "worn bearing"),
        ("rejected", "seal", "worn bearing"),
        ("edited", "seal", "leaking seal"),
        ("edited", "unknown", "unknown"),
        ("edited", None, "worn bearing"),
    ],
)
def test_a_past_episode_tells_cause_and_verdict_apart(
    store: Store, verdict: ReviewVerdict, cause_id: str | None, cause: str
) -> None:
    """What was proposed where a person approved or rejected it, the person's own where it was edited."""
    one = anomaly(state="closed")
    options = (
        *evidence(one).causes,
        CauseOption(id="seal", text="leaking seal", mechanism="wear", signs=(), actions=()),
    )
    seen = evidence(one).model_copy(update={"causes": options})
    note = annotation(seen)
    with store.transaction() as tx:
        tx.anomaly(one)
        tx.evidence(seen)
        tx.annotation(note)
        tx.review(Review(annotation_id=note.annotation_id, verdict=verdict, person="Ada", at_ns=T0, cause_id=cause_id))
        (past,) = tx.past_episodes(PUMP, T0 + 1, 5)
        assert (past.anomaly, past.cause, past.verdict) == (one, cause, verdict)
        names = {"worn bearing": "bearing", "leaking seal": "seal", "unknown": "unknown"}
        assert past.cause_id == names[cause]


@pytest.mark.parametrize(
    ("edit", "cause_id"),
    [
        ({"cause_id": "seal", "text": "It leaks [E1]."}, "seal"),
        ({"cause_id": "unknown", "text": "Look there [E1]."}, "unknown"),
        ({"text": "Worn [E1]."}, "bearing"),
        (None, "bearing"),
    ],
)
def test_a_rejection_is_about_the_cause_that_it_withdraws(
    store: Store, edit: dict[str, str] | None, cause_id: str
) -> None:
    """The person's own where one was released; the proposed one (control) where nobody named another."""
    one = anomaly(state="closed")
    seal = CauseOption(id="seal", text="leaking seal", mechanism="wear", signs=(), actions=())
    seen = evidence(one).model_copy(update={"causes": (*evidence(one).causes, seal)})
    note, other = annotation(seen), annotation(seen, "model")
    released = Review(annotation_id=note.annotation_id, verdict="approved", person="Ada", at_ns=T0 + 1)
    if edit is not None:
        released = released.model_copy(update={"verdict": "edited", **edit})
    rejection = {"verdict": "rejected", "person": "Bo", "reason": "wrong_cause", "cause_id": None, "text": None}
    with store.transaction() as tx:
        tx.anomaly(one)
        tx.evidence(seen)
        tx.annotation(note)
        tx.annotation(other)
        tx.review(released)
        tx.review(released.model_copy(update={**rejection, "at_ns": T0 + 2}))
        (past,) = tx.past_episodes(PUMP, T0 + 1, 5)
        assert (past.verdict, past.reason, past.cause_id) == ("rejected", "wrong_cause", cause_id)
        # what was released of another annotation is not what this one withdraws
        last = {**rejection, "annotation_id": other.annotation_id, "at_ns": T0 + 3}
        tx.review(released.model_copy(update=last))
        (past,) = tx.past_episodes(PUMP, T0 + 1, 5)
        assert past.cause_id == "bearing"


def test_a_review_of_nothing_is_an_error(store: Store) -> None:
    """A verdict binds to what was seen."""
    with pytest.raises(ValueError, match="not in the store"), store.transaction() as tx:
        tx.review(Review(annotation_id="0" * 32, verdict="approved", person="Ada", at_ns=T0))


def test_a_nul_in_a_comment_is_stored_as_text(store: Store) -> None:
    """What was said around it stays, also a backslash before the same letters; SQL readers can read all of it."""
    comment, kept = "a\0b\\u0000\\\0", "a\ufffdb\\u0000\\\ufffd"
    one = anomaly()
    note = annotation(evidence(one))
    with store.transaction() as tx:
        tx.anomaly(one)
        tx.evidence(evidence(one))
        tx.annotation(note)
        tx.review(Review(annotation_id=note.annotation_id, verdict="approved", person="Ada", at_ns=T0, comment=comment))
        tx.document(document().model_copy(update={"data": {"revision": 2, "comment": comment}}))
        assert [review.comment for review in tx.reviews_of("a1")] == [kept]
    found = store.reader().document("d1")
    assert found is not None
    assert found.data["comment"] == kept
    assert rows_of(store, "SELECT revision, status FROM v_documents") == [(2, "released")]


def test_a_nul_of_an_earlier_version_fails_no_view(open_store: Opener, new_database: Callable[[], str]) -> None:
    """PostgreSQL: a row that bears the escape, which cannot be read as JSON (control), is told like the others."""
    store = open_store(new_database())
    with store.transaction() as tx:
        for name, data in (("d1", {"revision": 1, "comment": "a"}), ("d2", {"status": "withdrawn"})):
            tx.document(document(name).model_copy(update={"data": data}))
    with store._writing() as connection:
        connection.execute(
            tables.outbox.update().values(body=sa.func.replace(tables.outbox.c.body, '"a"', r'"a\u0000"'))
        )
    with pytest.raises(Exception, match="unsupported Unicode escape"):
        rows_of(store, "SELECT body::json -> 'data' ->> 'revision' FROM outbox")
    query = "SELECT document_id, revision, status FROM v_documents ORDER BY seq"
    assert rows_of(store, query) == [("d1", 1, "released"), ("d2", 0, "withdrawn")]
