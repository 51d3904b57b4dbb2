"""The reasoning service: order, sharing, what is late, and a storm that leaves the data path alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from broker.core.reasoning import CAPACITY, ReasoningService
from broker.core.waiting import WaitingQueue
from broker.scorecard.standing import Standing
from llm.client import Reasoner
from llm.model_file import find
from llm.options import ReasonerOptions
from llm.rules import annotate_by_rules
from schemas.annotation import Annotation
from schemas.anomaly import Anomaly, Severity
from schemas.evidence import Evidence
from tests.broker.api.core import Core, S, batch, fill, running_core

Eventually = Callable[..., Awaitable[None]]


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    """A core over an empty journal."""
    with running_core(tmp_path) as core:
        yield core


class Scripted:
    """Answers as a model would, when *gate* is open; notes whom it was asked about."""

    def __init__(self) -> None:
        self.state = SimpleNamespace(status="ready", model_key="")
        self.slots = 1
        self.gate = asyncio.Event()
        self.asked: list[Evidence] = []

    async def start(self) -> None:
        pass

    def shown(self, evidence: Evidence) -> Evidence:
        return evidence

    async def annotate(self, evidence: Evidence, *, detector_score: float, created_ns: int) -> Annotation:
        self.asked.append(evidence)
        await self.gate.wait()
        note = annotate_by_rules(evidence, detector_score=detector_score, created_ns=created_ns)
        return note.model_copy(update={"origin": "model"})


class SlowModel(WaitingQueue):
    """Ten seconds an answer, whatever the clock says."""

    def answered(self, seconds: float) -> None:
        pass


def storm(core: Core, anomaly: Anomaly, evidence: Evidence, number: int, *, alike: bool) -> list[Evidence]:
    """So many anomalies at once on as many machines, each explained by rules; the most severe come last."""
    made = []
    for i in range(number):
        severity = Severity(4 - i * 4 // number)
        equipment = f"Acme/Lyon/Utilities/P{i}"
        sigmas = evidence.facts[0].sigmas if alike else None
        first = evidence.facts[0].model_copy(update={"sigmas": sigmas, "role": None if alike else f"role {i}"})
        fields = {"anomaly_id": f"{i:016x}", "severity": severity, "equipment": equipment}
        made.append(
            (
                Anomaly.model_validate(anomaly.model_dump() | fields),
                Evidence.model_validate(
                    evidence.model_dump()
                    | fields
                    | {"facts": [first.model_dump(), *(fact.model_dump() for fact in evidence.facts[1:])]}
                ),
            )
        )

    def command(tx, part) -> None:
        for one, seen in part:
            tx.anomaly(one)
            tx.evidence(seen)
            tx.annotation(annotate_by_rules(seen, detector_score=one.detector_score, created_ns=one.updated_ns))

    for start in range(0, number, 50):
        core.write(lambda tx, start=start: command(tx, made[start : start + 50]))
    return [seen for _, seen in made]


@asynccontextmanager
async def running(core: Core, reasoner: object, **options: object) -> AsyncIterator[ReasoningService]:
    chosen = ReasonerOptions.model_validate(options)
    service = ReasoningService(
        core.store.reader(),
        core.services.writer,
        reasoner,  # type: ignore[arg-type]
        time.time_ns,
        lambda _: Standing("annotate"),
        options=chosen,
    )
    task = asyncio.create_task(service.run())
    try:
        yield service
    finally:
        task.cancel()
        await asyncio.wait([task])


def notes(core: Core, evidence: Evidence) -> list[Annotation]:
    found = core.store.reader().anomaly(evidence.anomaly_id)
    assert found is not None
    return [entry.annotation for entry in found.annotations]


async def test_the_most_severe_is_explained_first(core: Core, anomaly, evidence, eventually: Eventually) -> None:
    """Of what waits, severity decides, then age; each is asked once and superseded by the model's revision."""
    seen = storm(core, anomaly, evidence, 8, alike=False)
    model = Scripted()
    model.gate.set()
    async with running(core, model):
        await eventually(lambda: all(notes(core, one)[0].origin == "model" for one in seen))
    assert [int(one.severity) for one in model.asked] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert [one.anomaly_id for one in model.asked[:2]] == [seen[6].anomaly_id, seen[7].anomaly_id]
    assert [note.origin for note in notes(core, seen[0])] == ["model", "rules"]


async def test_a_storm_leaves_records_alone_and_the_queue_bounded(
    core: Core, anomaly, evidence, eventually: Eventually
) -> None:
    """500 anomalies while the model hangs: records are committed at once, rules stand, one question is out."""
    seen = storm(core, anomaly, evidence, CAPACITY, alike=False)
    tag_map = fill(core, 1)
    model = Scripted()
    async with running(core, model):
        await eventually(lambda: len(model.asked) == 1)
        for i in range(20):
            rows = batch(tag_map, [0], [1_795_000_000 * S + i * S], [1.0])
            await asyncio.to_thread(core.write, lambda tx, rows=rows: tx.records(rows))
        assert core.store.reader().counts().records == 21
        assert len(model.asked) == 1
        assert all(notes(core, one)[0].origin == "rules" for one in (seen[0], seen[-1]))
    assert int(model.asked[0].severity) == 1


async def test_what_would_be_late_is_skipped_and_says_so(core: Core, anomaly, evidence, eventually: Eventually) -> None:
    """A slow model and little patience: the most severe are explained, of the others the page says why not."""
    seen = storm(core, anomaly, evidence, 40, alike=False)
    model = Scripted()
    model.gate.set()
    async with running(core, model, patience="65s") as service:
        service._queue = SlowModel(65.0, expected_s=10.0)
        reader = core.store.reader()
        await eventually(lambda: not reader.annotations_pending(CAPACITY))
    assert len(model.asked) == 6
    assert {int(one.severity) for one in model.asked} == {1}
    told = core.as_role("engineer").get(f"/ui/anomalies/{seen[0].anomaly_id}").text
    assert "Rules stand here although a model is configured: skipped: the answer would come after" in told
    assert [note.origin for note in notes(core, seen[0])] == ["rules"]


@pytest.mark.parametrize("late", [True, False])
async def test_an_answer_that_was_late_is_learned_from(
    core: Core, anomaly, evidence, eventually: Eventually, late: bool
) -> None:
    """The time that passed until the model gave up counts, whoever gave up first; a worker that died says nothing."""

    class Failing(Scripted):
        async def annotate(self, evidence: Evidence, *, detector_score: float, created_ns: int) -> Annotation:
            self.asked.append(evidence)
            reason = "the deadline passed while the model was thinking" if late else "the worker ended"
            note = annotate_by_rules(
                evidence, detector_score=detector_score, created_ns=created_ns, fallback_reason=reason
            )
            return note.model_copy(update={"provenance": note.provenance.model_copy(update={"late": late})})

    (seen,) = storm(core, anomaly, evidence, 1, alike=False)
    reader = core.store.reader()
    async with running(core, Failing()) as service:
        await eventually(lambda: reader.anomaly(seen.anomaly_id).annotations[0].reason)
        assert (service._queue.expected_s is not None) is late


async def test_more_than_fit_are_told_too(core: Core, anomaly, evidence, eventually: Eventually) -> None:
    """Anomalies behind the newest 500 are never asked about, and say so."""
    seen = storm(core, anomaly, evidence, CAPACITY + 3, alike=True)
    async with running(core, Scripted()):
        reader = core.store.reader()
        await eventually(lambda: not reader.annotations_passed_over(10))
    found = core.store.reader().anomaly(seen[0].anomaly_id)
    assert found is not None
    assert found.annotations[0].reason == "skipped: more than 500 newer anomalies waited for the model"


@pytest.mark.parametrize(("share", "asked"), [("60s", 1), ("0s", 12)])
async def test_alike_anomalies_share_one_call(
    core: Core, anomaly, evidence, eventually: Eventually, share: str, asked: int
) -> None:
    """The same thing on twelve machines is one question, visibly; with sharing off it is twelve."""
    seen = storm(core, anomaly, evidence, 12, alike=True)
    model = Scripted()
    model.gate.set()
    async with running(core, model, share=share):
        await eventually(lambda: all(notes(core, one)[0].origin == "model" for one in seen))
    assert len(model.asked) == asked
    first = notes(core, model.asked[0])[0]
    shared = [notes(core, one)[0].provenance.shared_with for one in seen]
    assert shared.count(first.annotation_id) == 12 - asked
    others = [one for one in seen if one.anomaly_id != model.asked[0].anomaly_id]
    page = core.as_role("engineer").get(f"/ui/anomalies/{others[0].anomaly_id}").text
    assert ("this one shares its answer" in page) is (asked == 1)


@pytest.mark.model
async def test_five_hundred_at_once_with_the_built_in_model(
    core: Core, anomaly, evidence, tmp_path: Path, eventually: Eventually
) -> None:
    """All are explained by one call of the real worker; a shared answer is made again from the one that was asked."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    from broker.audit.again import again

    seen = storm(core, anomaly, evidence, CAPACITY, alike=True)
    options = ReasonerOptions()
    reasoner = Reasoner(options, base_dir=tmp_path, now_ns=time.time_ns)
    try:
        async with running(core, reasoner):
            reader = core.store.reader()
            await eventually(lambda: not reader.annotations_pending(CAPACITY), within_s=90.0)
    finally:
        await reasoner.close()
    told = [notes(core, one)[0] for one in (seen[0], seen[250], seen[-1])]
    assert {note.origin for note in told} == {"model"}
    assert reasoner.state.answered < 10
    shared = next(note for note in told if note.provenance.shared_with)
    first = reader.annotation_by_id(shared.provenance.shared_with)
    assert first is not None
    asked, about = reader.evidence_by_id(first.evidence_id), reader.evidence_by_id(shared.evidence_id)
    assert asked is not None
    assert about is not None
    file = find(options.model, None, tmp_path)
    found = await again(shared, about, options, tmp_path, file, origin=(first, asked))
    assert found.equal, found.same
