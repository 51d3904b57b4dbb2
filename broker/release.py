"""
The written policy by which annotations are released without a person, for named kinds and severities alone.

Without one nothing reaches ERP but by a person's approval. With one a named person has answered for it in writing: the
policy names who, when and why, its hash stands in every release, and a person who decides within ``wait`` comes first.
"""

from __future__ import annotations

import hashlib
from datetime import date
from fnmatch import fnmatchcase
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from broker.store.text import canonical
from schemas.annotation import POLICY, UNKNOWN, Annotation
from schemas.anomaly import Anomaly, Kind, Severity
from schemas.quantities import Duration, Share

_SEVERITIES: Final = {severity.name.lower(): severity for severity in Severity}


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReleaseRule(_Options):
    """What may be released: an annotation that fits every line of the rule."""

    severity: Annotated[
        tuple[Literal["critical", "high", "medium", "low"], ...],
        Field(min_length=1, description="Severities, now and when it was explained."),
    ]
    kind: Annotated[tuple[Kind, ...], Field(min_length=1, description="Kinds of anomaly, as detectors name them.")]
    equipment: Annotated[str, Field(min_length=1, description="Path of the equipment, `*` stands for anything.")] = "*"
    causes: Annotated[
        tuple[str, ...], Field(description="First causes, as the catalogue names them; empty: any that is known.")
    ] = ()
    origin: Annotated[
        tuple[Literal["model", "rules"], ...], Field(min_length=1, description="Whose explanation it may be.")
    ] = ("model", "rules")
    probability: Annotated[
        Share, Field(description="Least probability of the first cause; one that has none never fits, if above 0.")
    ] = 0.0

    def fits(self, anomaly: Anomaly, note: Annotation) -> bool:
        """Whether an annotation of this revision may be released. ``unknown`` and advisory texts never may."""
        cause = note.causes[0]
        return (
            anomaly.severity in {_SEVERITIES[name] for name in self.severity}
            and anomaly.kind in self.kind
            and fnmatchcase(anomaly.equipment, self.equipment)
            and cause.id != UNKNOWN
            and (not self.causes or cause.id in self.causes)
            and note.origin in self.origin
            and (self.probability == 0 or (cause.probability or 0.0) >= self.probability)
        )


class ReleasePolicy(_Options):
    """Who answers for releases without a person, why, and for what."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]{0,40}$", description="Stands in releases and in the audit.")]
    approved_by: Annotated[str, Field(min_length=3, max_length=200, description="The person who answers for it.")]
    approved_on: Annotated[date, Field(description="Day of that decision.")]
    reason: Annotated[str, Field(min_length=10, max_length=1000, description="Why no person needs to look.")]
    wait: Annotated[
        Duration,
        Field(ge=0, description="A person may decide for so long after the explanation; then the policy does."),
    ] = 600.0
    rules: Annotated[tuple[ReleaseRule, ...], Field(min_length=1, description="What is released; one has to fit.")]

    @property
    def actor(self) -> str:
        """Who stands in reviews and in the audit."""
        return f"{POLICY}{self.name}"

    @property
    def sha256(self) -> str:
        """Of its canonical JSON: another policy of the same name has another one."""
        return hashlib.sha256(canonical(self.model_dump(mode="json")).encode()).hexdigest()

    def rule_of(self, shown: Anomaly, now: Anomaly, note: Annotation) -> int | None:
        """Place of the first rule that fits the anomaly as it was explained and as it is now; None where none does."""
        fitting = (i for i, rule in enumerate(self.rules) if rule.fits(shown, note) and rule.fits(now, note))
        return next(fitting, None)


class ReviewOptions(_Options):
    """Options of review and release (``review`` in fairlead.yaml)."""

    policy: Annotated[
        ReleasePolicy | None,
        Field(description="Releases annotations without a person, where a person has decided so in writing."),
    ] = None
