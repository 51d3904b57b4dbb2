"""
Hands evidence to the reasoning worker and stores what comes back; nothing on the data path waits for it.

What a model says counts while its score card holds; without one it is stored as advisory, beside the rules'.

The rules' annotation is in SQL before this begins. What a crash interrupts is still pending in SQL afterwards.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from broker import events
from broker.core.waiting import WaitingQueue
from broker.core.writer import Writer
from broker.models.figures import REFUSED
from broker.scorecard.standing import StandingOf, stamped
from broker.store import Reader, Transaction
from broker.store.rows.episodes import PendingRow
from llm.client import Reasoner
from llm.options import ReasonerOptions
from llm.sharing import likeness, transfer
from schemas.annotation import Annotation
from schemas.errors import AnswerRefused, FairleadError
from schemas.evidence import Evidence

#: Evidence that nobody woke us for is looked for so often.
POLL_S: Final = 2.0
#: Answers between two looks at what waits.
BATCH: Final = 20
#: Most that waits at once; ``PENDING_SPAN`` anomalies are looked at.
CAPACITY: Final = 500
#: Answers kept for alike anomalies.
_SHARED: Final = 64
PASSED_OVER: Final = f"skipped: more than {CAPACITY} newer anomalies waited for the model"


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer of the model that alike anomalies may share until a time."""

    annotation: Annotation
    evidence: Evidence
    until_s: float


class ReasoningService:
    """
    Takes pending evidence from the store, the most severe first, as many at once as the model answers side by side.

    While *waits* says so nothing is taken: the evidence stays pending, the rules' annotations stand. *named* is the
    model that is configured, if one is.
    """

    def __init__(
        self,
        reader: Reader,
        writer: Writer,
        reasoner: Reasoner,
        now_ns: Callable[[], int],
        standing_of: StandingOf,
        waits: Callable[[], bool] = lambda: False,
        named: str | None = None,
        options: ReasonerOptions | None = None,
    ) -> None:
        options = ReasonerOptions() if options is None else options
        self._reader = reader
        self._writer = writer
        self._reasoner = reasoner
        self._now_ns = now_ns
        self._standing_of = standing_of
        self._waits = waits
        self._share_s = options.share
        self._queue = WaitingQueue(options.patience)
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._named = named
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """New evidence may be there; call on the event loop."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        await self._reasoner.start()
        state = self._reasoner.state
        if state.status == "off" and self._named is not None:
            events.model_refused(self._named, state.reason)
        while True:
            self._wake.clear()
            try:
                worked = self._reasoner.state.status == "ready" and not self._waits() and await self._work()
            except Exception as error:  # noqa: BLE001 - one evidence must not end the service; rules stand for it
                events.annotation_not_stored("", repr(error))
                worked = False
            if worked:
                continue
            try:
                await asyncio.wait_for(self._wake.wait(), POLL_S)
            except TimeoutError:
                continue

    async def _work(self) -> bool:
        """Explain some of what waits; whether the model answered any of it."""
        try:
            await self._look()
        except FairleadError as error:
            events.annotation_not_stored("", str(error))
            return False
        answered = False
        slots = self._reasoner.slots
        for _ in range(0, BATCH, slots):
            rows = self._queue.take(slots)
            if not rows:
                break
            for said in await asyncio.gather(*map(self._explain, rows), return_exceptions=True):
                if isinstance(said, BaseException):
                    raise said  # all of them have ended, so that none is asked about twice at once
                answered |= said
            if self._wake.is_set():
                break  # what has come since may be more urgent
        return answered

    async def _look(self) -> None:
        """Bring the queue up to date, and say of what would be late that rules stand."""
        loop = asyncio.get_running_loop()
        rows = await asyncio.to_thread(self._reader.annotations_pending, CAPACITY)
        unknown = self._queue.fill(rows, loop.time())
        for evidence_id, alike in await asyncio.to_thread(self._compare, unknown):
            self._queue.learn(evidence_id, alike)
        now_s = loop.time()
        for key in [key for key, answer in self._answers.items() if answer.until_s <= now_s]:
            del self._answers[key]
        late = [
            (row.evidence_id, reason) for row, reason in self._queue.late(now_s, self._answers, self._reasoner.slots)
        ]
        if len(rows) >= CAPACITY:
            passed = await asyncio.to_thread(self._reader.annotations_passed_over, CAPACITY)
            late += [(evidence_id, PASSED_OVER) for evidence_id in passed]
        events.llm_queue(len(self._queue.rows))
        if late:
            at_ns = self._now_ns()
            await asyncio.wrap_future(self._writer.submit(lambda tx: _skip(tx, late, at_ns)))
            events.llm_skipped(len(late))

    def _compare(self, evidence_ids: Sequence[str]) -> list[tuple[str, str]]:
        found = ((one, self._reader.evidence_by_id(one)) for one in evidence_ids)
        return [(one, likeness(self._reasoner.shown(evidence))) for one, evidence in found if evidence is not None]

    async def _explain(self, row: PendingRow) -> bool:
        """Ask, or share an answer, and store; whether the model answered (if not, the next look waits a little)."""
        try:
            evidence = await asyncio.to_thread(self._reader.evidence_by_id, row.evidence_id)
            if evidence is None:
                return False
            shared = self._shared(evidence, row.detector_score)
            annotation = shared or await self._ask(evidence, row.detector_score)
            key = annotation.provenance.model_key or self._reasoner.state.model_key
            if annotation.origin == "model":
                # of a model on a server no file is known, so that no card can be its
                scored = key if annotation.provenance.model_sha256 else ""
                annotation = stamped(annotation, await asyncio.to_thread(self._standing_of, scored))
            if shared is None and annotation.origin != "rules":
                self._remember(annotation, evidence)
            await asyncio.wrap_future(self._writer.submit(lambda tx: _keep(tx, evidence, annotation, key)))
        except FairleadError as error:
            # still pending in SQL: it is taken up again
            events.annotation_not_stored(row.evidence_id, str(error))
            return False
        return annotation.origin != "rules"

    def _shared(self, evidence: Evidence, score: float) -> Annotation | None:
        """The answer to an alike question as the annotation of this one; None where there is none that holds."""
        seen = self._reasoner.shown(evidence)
        told = self._answers.get(likeness(seen))
        if told is None or told.until_s <= asyncio.get_running_loop().time():
            return None
        both = (told.evidence, evidence), (self._reasoner.shown(told.evidence), seen)
        try:
            made = transfer(told.annotation, *both, detector_score=score, created_ns=self._now_ns())
        except AnswerRefused:
            return None
        events.llm_shared()
        return made

    async def _ask(self, evidence: Evidence, score: float) -> Annotation:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        annotation = await self._reasoner.annotate(evidence, detector_score=score, created_ns=self._now_ns())
        ended_s = loop.time()
        made = annotation.provenance
        if annotation.origin == "model" or made.fallback_reason.startswith(REFUSED) or made.late:
            self._queue.answered(ended_s - began_s)
        return annotation

    def _remember(self, annotation: Annotation, evidence: Evidence) -> None:
        """Keep an answer for alike anomalies, as it is stored."""
        if self._share_s > 0:
            until_s = asyncio.get_running_loop().time() + self._share_s
            self._answers[likeness(self._reasoner.shown(evidence))] = _Answer(annotation, evidence, until_s)
            while len(self._answers) > _SHARED:
                self._answers.popitem(last=False)


def _keep(tx: Transaction, evidence: Evidence, annotation: Annotation, model_key: str) -> None:
    """Store the model's answer; where rules stood in for it, note the attempt and why, so that it is not repeated."""
    reason = annotation.provenance.fallback_reason
    # an answer that was given and refused would be given again; a worker that died or was late may do better
    final = annotation.origin != "rules" or reason.startswith(REFUSED)
    tx.annotation_attempt(evidence.evidence_id, annotation.created_ns, reason, final=final, model_key=model_key)
    if annotation.origin != "rules":
        tx.annotation(annotation)


def _skip(tx: Transaction, late: Sequence[tuple[str, str]], at_ns: int) -> None:
    """Note of evidence that the model is not asked, and why; rules stand."""
    for evidence_id, reason in late:
        tx.annotation_attempt(evidence_id, at_ns, reason)
