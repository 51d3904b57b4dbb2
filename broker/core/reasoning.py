"""
Hands evidence to the reasoning worker and stores what comes back; nothing on the data path waits for it.

The rules' annotation is in SQL before this begins. What a crash interrupts is still pending in SQL afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from broker import events
from broker.core.writer import Writer
from broker.store import Reader, Transaction
from llm.client import Reasoner
from schemas.annotation import Annotation
from schemas.errors import FairleadError
from schemas.evidence import Evidence

#: Evidence that nobody woke us for is looked for so often.
POLL_S: Final = 2.0
BATCH: Final = 20
#: How :mod:`llm.compose` begins the reason when a check has failed.
REFUSED: Final = "answer refused"


class ReasoningService:
    """
    Takes pending evidence from the store, newest first, one after another.

    While *waits* says so nothing is taken: the evidence stays pending, the rules' annotations stand.
    """

    def __init__(
        self,
        reader: Reader,
        writer: Writer,
        reasoner: Reasoner,
        now_ns: Callable[[], int],
        waits: Callable[[], bool] = lambda: False,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._reasoner = reasoner
        self._now_ns = now_ns
        self._waits = waits
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """New evidence may be there; call on the event loop."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        await self._reasoner.start()
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
        """Explain what is pending; whether the model answered any of it."""
        try:
            pending = await asyncio.to_thread(self._reader.annotations_pending, BATCH)
        except FairleadError as error:
            events.annotation_not_stored("", str(error))
            return False
        answered = [await self._explain(evidence, score) for evidence, score in pending]
        return any(answered)

    async def _explain(self, evidence: Evidence, score: float) -> bool:
        """Ask and store; whether the model answered (if not, the next look waits a little)."""
        annotation = await self._reasoner.annotate(evidence, detector_score=score, created_ns=self._now_ns())
        try:
            await asyncio.wrap_future(self._writer.submit(lambda tx: _keep(tx, evidence, annotation)))
        except FairleadError as error:
            # still pending in SQL: it is taken up again
            events.annotation_not_stored(evidence.anomaly_id, str(error))
            return False
        return annotation.origin == "model"


def _keep(tx: Transaction, evidence: Evidence, annotation: Annotation) -> None:
    """Store the model's answer; where rules stood in for it, note the attempt and why, so that it is not repeated."""
    reason = annotation.provenance.fallback_reason
    # an answer that was given and refused would be given again; a worker that died or was late may do better
    final = annotation.origin == "model" or reason.startswith(REFUSED)
    tx.annotation_attempt(evidence.evidence_id, annotation.created_ns, reason, final=final)
    if annotation.origin == "model":
        tx.annotation(annotation)
