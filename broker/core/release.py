"""
Releases by the written policy: what waits for review, has been explained for good, and fits a rule.

It looks now and then; nothing on the data path waits for it. A release is a review like any other, by ``policy:NAME``,
made in one transaction with its documents.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from broker import events
from broker.core.writer import Writer
from broker.release import ReleasePolicy
from broker.review import decide
from broker.store import Reader, Transaction
from schemas.annotation import Review
from schemas.errors import FairleadError

LOOK_S: Final = 5.0
#: Anomalies without a decision that are looked at, the newest.
MOST: Final = 500


class ReleaseService:
    """
    Applies *policy* while core runs.

    *site* is its name in documents, *now_ns* this host's clock, *asked* whether a model is there whose answer may still
    come: what waits for one is not released.
    """

    def __init__(
        self,
        reader: Reader,
        writer: Writer,
        policy: ReleasePolicy,
        site: str,
        now_ns: Callable[[], int],
        asked: Callable[[], bool],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._policy = policy
        self._site = site
        self._now_ns = now_ns
        self._asked = asked
        self._refused: dict[str, str] = {}

    async def run(self) -> None:
        """Until cancelled."""
        await self._submit(self._announce)
        while True:
            try:
                await self.look()
            except FairleadError as error:
                events.policy_failed(self._policy.name, "", str(error))
            await asyncio.sleep(LOOK_S)

    async def look(self) -> int:
        """Release what is due, and return how many. Raises StoreError where SQL cannot be read."""
        released = 0
        for annotation_id, place in await asyncio.to_thread(self._due):
            released += await self._submit(partial(self._release, annotation_id, place), annotation_id)
        return released

    def _due(self) -> list[tuple[str, int]]:
        """Ids of annotations to release, with the place of the rule that fits."""
        waiting = {row.evidence_id for row in self._reader.annotations_pending(MOST)} if self._asked() else set()
        latest_ns = self._now_ns() - round(self._policy.wait * 1e9)
        due = []
        for row in self._reader.anomalies(review="pending", suppressed=False, limit=MOST):
            note = None if row.annotation_id is None else self._reader.annotation_by_id(row.annotation_id)
            if note is None or note.annotation_id in self._refused or note.evidence_id in waiting:
                continue
            shown = self._reader.anomaly_at(note.anomaly_id, note.anomaly_revision)
            place = None if shown is None else self._policy.rule_of(shown, row.anomaly, note)
            if place is not None and note.created_ns <= latest_ns:
                due.append((note.annotation_id, place))
        return due

    def _release(self, annotation_id: str, place: int, tx: Transaction) -> None:
        policy = self._policy
        comment = f"rule {place + 1} of the policy {policy.name}, which {policy.approved_by} answers for"
        detail = {"policy_sha256": policy.sha256, "rule": place + 1, "approved_by": policy.approved_by}
        tx.audit(policy.actor, "released_by_policy", annotation_id, detail)
        decide(
            tx,
            Review(
                annotation_id=annotation_id,
                verdict="approved",
                person=policy.actor,
                at_ns=self._now_ns(),
                comment=comment,
            ),
            self._site,
        )

    def _announce(self, tx: Transaction) -> None:
        """The whole policy in the audit, whenever core starts with it."""
        detail = {"policy_sha256": self._policy.sha256, "policy": self._policy.model_dump(mode="json")}
        tx.audit("core", "release_policy_in_force", self._policy.name, detail)

    async def _submit(self, command: Callable[[Transaction], None], annotation_id: str = "") -> bool:
        try:
            await asyncio.wrap_future(self._writer.submit(command))
        except FairleadError as error:
            # decided meanwhile, or no longer kept: told once, and not tried again
            self._refused[annotation_id] = str(error)
            events.policy_failed(self._policy.name, annotation_id, str(error))
            return False
        return True
