"""
Which documents the reviews of an anomaly have caused: the first release, and what followed it.

Counted from the reviews, not from the outbox: retention may have taken a document whose withdrawal is to follow.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from schemas.annotation import Review


class Sending(NamedTuple):
    """
    One annotation and one maintenance request that went out together.

    Attributes:
        review: the decision that sent them.
        release: the decision whose cause, text and actions stand in them; *review* itself, unless it withdraws.
        annotation_revision: place among the documents of this annotation, from 0.
        request_revision: place among the maintenance requests of the anomaly, from 0.
        reference: annotation of the anomaly's first sending, by which other systems know the request from then on.
    """

    review: Review
    release: Review
    annotation_revision: int
    request_revision: int
    reference: str

    @property
    def withdraws(self) -> bool:
        """Whether it takes back what was sent before."""
        return self.review.verdict == "rejected"


def sendings(reviews: Iterable[Review]) -> list[Sending]:
    """What the reviews of one anomaly, oldest first, have sent; in that order."""
    sent: list[Sending] = []
    last: dict[str, Review] = {}
    for review in reviews:
        before = last.get(review.annotation_id)
        last[review.annotation_id] = review
        if _sends(before, review):
            mine = [one for one in sent if one.review.annotation_id == review.annotation_id]
            release = mine[-1].release if review.verdict == "rejected" else review
            reference = sent[0].reference if sent else review.annotation_id
            sent.append(Sending(review, release, len(mine), len(sent), reference))
    return sent


def standing(reviews: Iterable[Review]) -> dict[str, Review]:
    """By annotation: the decision in force, which is the newest."""
    return {review.annotation_id: review for review in reviews}


def _sends(before: Review | None, review: Review) -> bool:
    if review.verdict == "rejected":
        return before is not None and before.verdict != "rejected"
    # who confirms what a policy released sends nothing: it was sent as it is
    return before is None or review.verdict == "edited"
