"""
Reviewed annotations as a fine-tuning set: one conversation a line, in the form that Mistral's fine-tuning reads.

A line is what a model would have been asked and what a person let stand or put in its place; people are named by
pseudonyms only. What no model could answer in the form (a digit in the person's text, an action of their own) is left
out and counted.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from broker.store import Reader
from broker.store.rows.episodes import AnnotationEntry
from llm.checks import check_model
from llm.plan import MAX_CITES
from llm.prompt import INSTRUCTIONS, build
from llm.rules import UNKNOWN_ACTION
from llm.wording import OWN
from schemas.annotation import UNKNOWN, Cause, Review
from schemas.evidence import Evidence

_PAGE: Final = 200


@dataclass(slots=True)
class Dataset:
    """
    Lines of a set; iterate :meth:`lines`, then look at ``taken`` and ``left_out``.

    *key* makes the pseudonyms: the same key gives the same ones, and without it no name can be tried out.
    """

    reader: Reader
    key: bytes
    taken: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def lines(self) -> Iterator[str]:
        """One JSON text a reviewed annotation, newest anomalies first."""
        names = sorted({user.name for user in self.reader.users()}, key=len, reverse=True)
        before: int | None = None
        while page := self.reader.anomalies(limit=_PAGE, before=before):
            before = page[-1].cursor
            for row in page:
                found = self.reader.anomaly(row.anomaly.anomaly_id) if row.verdict is not None else None
                if found is None:
                    continue
                by_id = {one.evidence_id: one for one in found.evidence}
                for entry in found.annotations:
                    evidence = by_id.get(entry.annotation.evidence_id)
                    if entry.reviews and evidence is not None:
                        yield from self._line(entry, evidence, names)

    def _line(self, entry: AnnotationEntry, evidence: Evidence, names: list[str]) -> Iterator[str]:
        review = entry.reviews[-1]
        if review.by_policy:
            self.left_out["released by a policy: nobody looked at it"] += 1
            return
        if review.verdict == "rejected":
            # what is wrong is known, what would have been right is not
            self.left_out[f"rejected: {review.reason}"] += 1
            return
        answer, reason = _answer(entry, review, evidence)
        if answer is None:
            self.left_out[reason] += 1
            return
        # history facts and the text may name people who review
        people = [*names, *sorted({one.person for one in entry.reviews})]
        asked = build(evidence, "v7", "instruct").body[0]
        messages = [
            {"role": "system", "content": INSTRUCTIONS},
            {"role": "user", "content": self._hide(str(asked), people)},
            {"role": "assistant", "content": self._hide(json.dumps(answer, separators=(",", ":")), people)},
        ]
        self.taken[review.verdict] += 1
        yield json.dumps({"messages": messages}, ensure_ascii=False, separators=(",", ":"))

    def _hide(self, text: str, people: list[str]) -> str:
        for name in people:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", self.pseudonym(name), text, flags=re.IGNORECASE)
        return text

    def pseudonym(self, name: str) -> str:
        """A name that stands for a person: letters only, for a digit would need a citation."""
        drawn = hmac.new(self.key, name.lower().encode(), hashlib.sha256).digest()[:8]
        return "person_" + "".join(chr(ord("a") + byte % 26) for byte in drawn)


def _answer(entry: AnnotationEntry, review: Review, evidence: Evidence) -> tuple[dict[str, Any] | None, str]:
    """The form as a model would fill it in, or None and why it cannot."""
    note = entry.annotation
    causes = list(note.causes)
    if review.cause_id is not None and review.cause_id != causes[0].id:
        causes = [_named(review, evidence)]
    text = note.text if review.text is None else review.text
    by_text = {action.text: action.id for action in evidence.actions}
    wanted = note.actions if review.actions is None else review.actions
    actions = [by_text[action] for action in wanted if action in by_text]
    if review.actions is None:  # one in a model's own words, as the form has it; "unknown" has one that is not of it
        actions += [f"{OWN}{action}" for action in wanted if action not in by_text and action != UNKNOWN_ACTION]
    if review.actions is not None and len(actions) < len(wanted):
        return None, "an action is the person's own"
    checks = check_model(evidence, causes, actions, text)
    failed = next((name for name, passed in checks.items() if not passed), None)
    if failed is not None:
        return None, f"the text or its causes do not pass: {failed}"
    named = [{"id": cause.id, "cites": _in_order(cause.cites)} for cause in causes]
    return {"causes": named, "actions": actions, "text": text}, ""


def _in_order(cites: Sequence[str]) -> list[str]:
    """Citations as the form has them: in rising order, so many at most."""
    return sorted(dict.fromkeys(cites), key=lambda fact_id: int(fact_id[1:]))[:MAX_CITES]


def _named(review: Review, evidence: Evidence) -> Cause:
    """The cause that a person named, resting on what their text cites."""
    cites = tuple(dict.fromkeys(re.findall(r"\[(E[1-9][0-9]?)\]", review.text or "")))
    cites = tuple(sorted(cites, key=lambda fact_id: int(fact_id[1:])))
    option = next((one for one in evidence.causes if one.id == review.cause_id), None)
    if option is None:
        return Cause(id=UNKNOWN, text="Unknown", mechanism="", probability=1.0, cites=cites)
    return Cause(id=option.id, text=option.text, mechanism=option.mechanism, probability=1.0, cites=cites)
