"""
A model in service: how often its answers are refused or rejected, how often it names no cause, and whether what it is
asked has drifted. Read from SQL, never written here; the limits are options (``models.watch``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from broker.models.drift import DIMENSIONS, Shift, shifts, spread
from broker.models.options import WatchOptions
from broker.store import Reader
from schemas.annotation import UNKNOWN

#: How :mod:`llm.compose` begins the reason when a check has failed.
REFUSED: Final = "answer refused"
#: Answers of the window that are compared with the first ones, the newest.
MOST: Final = 500

Kind = Literal["reject_rate", "unknown_rate", "drift"]
KINDS: Final[tuple[Kind, ...]] = ("reject_rate", "unknown_rate", "drift")


@dataclass(frozen=True, slots=True)
class Figures:
    """
    One model over the window; rates are None, and ``shifts`` empty, where there are too few answers to judge.

    ``answers`` are those of the model that passed the checks, ``refused`` those that did not,
    ``rejected`` those answers whose newest review says so (of the answer itself, not of what a person had put in its
    place), ``silent`` attempts that brought no answer (late, crashed).
    ``baseline`` are the first answers that the others are compared with.
    """

    model_key: str
    answers: int
    refused: int
    rejected: int
    unknown: int
    silent: int
    baseline: int
    reject_rate: float | None
    unknown_rate: float | None
    shifts: tuple[Shift, ...]

    def over(self, limits: WatchOptions) -> dict[Kind, str]:
        """What is over its limit, in words."""
        found: dict[Kind, str] = {}
        span = _days(limits.window)
        if self.reject_rate is not None and self.reject_rate > limits.reject_rate:
            found["reject_rate"] = (
                f"{self.reject_rate:.0%} of its answers of {span} were refused by the checks ({self.refused}) or "
                f"rejected by people ({self.rejected}); the limit is {limits.reject_rate:.0%}"
            )
        if self.unknown_rate is not None and self.unknown_rate > limits.unknown_rate:
            found["unknown_rate"] = (
                f"{self.unknown_rate:.0%} of its answers of {span} name no cause of the catalogue; "
                f"the limit is {limits.unknown_rate:.0%}"
            )
        moved = [one for one in self.shifts if one.beyond_chance and one.psi > limits.drift]
        if moved:
            told = ", ".join(f"{DIMENSIONS[one.dimension]} ({one.psi:.2f}, most of it {one.most})" for one in moved)
            found["drift"] = (
                f"what it is asked has drifted from its first {self.baseline} answers: {told}; "
                f"the limit is {limits.drift:g}"
            )
        return found


def figures(reader: Reader, key: str, limits: WatchOptions, now_ns: int) -> Figures:
    """
    The figures of one model at *now_ns*.

    Raises:
        Refused, StoreError: the store did not answer in time.
    """
    from_ns = now_ns - int(limits.window) * 10**9
    answers, unknown, rejected = reader.model_counts(key, from_ns, UNKNOWN)
    rows = reader.model_answers(key, from_ns, limit=MOST, order="newest")
    refused, silent = reader.model_attempts(key, from_ns, REFUSED)
    first = reader.model_answers(key, 0, limit=limits.baseline, order="first")
    given = answers + refused
    last_ns = first[-1].created_ns if len(first) == limits.baseline else now_ns
    later = [(row.cause_id, row.evidence) for row in rows if row.created_ns > last_ns]
    moved: list[Shift] = []
    if len(later) >= limits.least:
        moved = shifts(spread(later), spread((row.cause_id, row.evidence) for row in first))
    return Figures(
        model_key=key,
        answers=answers,
        refused=refused,
        rejected=rejected,
        unknown=unknown,
        silent=silent,
        baseline=len(first),
        reject_rate=(refused + rejected) / given if given >= limits.least else None,
        unknown_rate=unknown / answers if answers >= limits.least else None,
        shifts=tuple(moved),
    )


def shown(found: Figures, limits: WatchOptions) -> dict[str, Any]:
    """The figures in plain values."""
    return {
        "model_key": found.model_key,
        "answers": found.answers,
        "refused": found.refused,
        "rejected": found.rejected,
        "unknown": found.unknown,
        "silent": found.silent,
        "baseline": found.baseline,
        "reject_rate": found.reject_rate,
        "unknown_rate": found.unknown_rate,
        "drift": {one.dimension: {"psi": one.psi, "beyond_chance": one.beyond_chance} for one in found.shifts},
        "over": found.over(limits),
    }


def _days(seconds: float) -> str:
    return f"{seconds / 86400:g} days" if seconds >= 2 * 86400 else f"{seconds / 3600:g} hours"
