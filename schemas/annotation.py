"""
Annotations: what the rules or the model said about one evidence snapshot, and what a person said of it.

Free text carries no digit except inside a citation ``[E3]``; :func:`render` puts the real tag, value and unit there.
"""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from typing import Any, Final, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from schemas.anomaly import Kind
from schemas.evidence import Evidence, Fact

UNKNOWN = "unknown"
#: Begins the name of a written policy where else a person's stands; no user's name can.
POLICY = "policy:"
#: Characters of a quotation within a sentence.
MAX_QUOTED = 120
#: Who wrote an annotation, and whether it counts.
Origin = Literal["model", "rules", "advisory"]
_CITATION = re.compile(r"\[(E[1-9][0-9]?)\]")


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Cause(_Frozen):
    """
    A chosen cause; ``probability`` is the chooser's own, renormalised over the options.

    None where the model is on a server that tells none (``Provenance.probabilities`` says which).
    """

    id: str
    text: str
    mechanism: str
    probability: float | None = Field(ge=0, le=1)
    cites: tuple[str, ...] = Field(description="Fact ids it rests on.")


def model_key(model_sha256: str, adapter_sha256: str = "", adapter_scale: float | None = None) -> str:
    """
    64 hex digits that name what answers: the model's own hash, or one over model, adapter and its scale.

    Score cards and figures in service belong to it: an adapter makes another model.
    """
    if not adapter_sha256:
        return model_sha256
    scale = 1.0 if adapter_scale is None else adapter_scale
    return hashlib.sha256(f"{model_sha256}+{adapter_sha256}*{scale!r}".encode()).hexdigest()


def served_key(authority: str, model: str) -> str:
    """The same of a model on a server, whose files are not known here: by address as configured and served name."""
    return hashlib.sha256(f"{model}@{authority}".encode()).hexdigest()


class Provenance(_Frozen):
    """How the text came to be, enough to make it again."""

    engine: str = Field(description="`rules/2`, or name and version of the engine and the library.")
    prompt_version: str = ""
    prompt_sha256: str = ""
    prompt_text: str = ""
    plan_sha256: str = ""
    model_name: str = ""
    model_sha256: str = ""
    model_rung: str = Field("", description="Step of the sovereign ladder, see `schemas.ladder`.")
    adapter_name: str = Field("", description="LoRA adapter; empty: none.")
    adapter_sha256: str = ""
    adapter_scale: float | None = None
    family: str = Field("", description="Prompt family of the vocabulary.")
    style: str = Field("", description="How evidence is written for the model: instruct or rows.")
    seed: int | None = None
    temperature: float | None = None
    threads: int | None = None
    context: int | None = Field(None, description="Most tokens in the model's cache.")
    slots: int | None = Field(None, description="Answers that were made side by side at most.")
    sandbox: dict[str, str] = Field(default_factory=dict, description="Protections of the worker that held.")
    endpoint: str = Field("", description="Model server as configured, and the address it was pinned to.")
    probabilities: str = Field(
        "", description="Where they come from: decoder (exact), logprobs (of a server, over its best tokens), absent."
    )
    calibration: float | None = Field(
        None,
        description="Temperature that was applied to the decoder's probabilities; 1 leaves them as they are, null: not "
        "recorded, or a server gave them.",
    )
    prompt_tokens: int = 0
    output_tokens: tuple[int, ...] = ()
    choices: tuple[tuple[str, float], ...] = Field((), description="(what was chosen, probability) in order.")
    shares: tuple[tuple[str, float], ...] = Field((), description="(cause, probability) of every cause weighed.")
    queue_ms: float = 0.0
    prefill_ms: float = 0.0
    decision_ms: float = 0.0
    decode_ms: float = 0.0
    checks: dict[str, bool] = Field(default_factory=dict)
    retried_after: str = Field(
        "", description="Why the first answer was refused, where this is the second, greedy one."
    )
    fallback_reason: str = Field("", description="Why rules stand here although a model is configured.")
    late: bool = Field(
        False, exclude=True, description="Rules stand here because the model's time was over; not stored."
    )
    card_id: str = Field("", description="The model's score card in force then; empty where it had none.")
    advisory_reason: str = Field("", description="Why a model's answer is only advisory; empty where it counts.")
    cited_by_code: tuple[str, ...] = Field(
        (), description="Facts that code cited for the first cause: passages that speak of it, reviewed episodes."
    )
    dropped: tuple[str, ...] = Field(
        (),
        description="Further causes of the answer that were left out: the evidence speaks against them, or none of the "
        "facts they cite is a sign of them.",
    )
    shared_with: str = Field("", description="The annotation of an alike anomaly whose answer of the model this is.")

    @property
    def model_key(self) -> str:
        """What answered, see :func:`model_key` and :func:`served_key`; empty for rules."""
        if self.endpoint and not self.model_sha256:
            return served_key(self.endpoint.partition(" at ")[0], self.model_name)
        return model_key(self.model_sha256, self.adapter_sha256, self.adapter_scale)


class Annotation(_Frozen):
    """
    One explanation, bound to one evidence snapshot.

    ``origin``: ``advisory`` is a model's answer that stands beside the rules' and never in their place, because no
    score card speaks for the model; nobody can approve it, and no document is made of it.

    ``annotation_id`` is the hash of what a person sees and approves (everything but provenance and time).
    """

    anomaly_id: str
    anomaly_revision: int
    evidence_id: str
    origin: Origin
    causes: tuple[Cause, ...] = Field(min_length=1, max_length=3)
    actions: tuple[str, ...] = Field(description="Action texts.")
    text: str = Field(max_length=600, description="With citations; no other digit.")
    detector_score: float
    created_ns: int
    provenance: Provenance

    @cached_property
    def annotation_id(self) -> str:
        """32 hex digits over what a person sees; an approval binds to it."""
        seen: dict[str, Any] = self.model_dump(mode="json", exclude={"created_ns", "provenance"})
        return hashlib.sha256(msgspec.json.encode(seen, order="sorted")).hexdigest()[:32]

    def counted_as(self, origin: Origin, provenance: Provenance) -> Annotation:
        """The same words with what they count for, and the id of that; a copy would keep the old id."""
        kept = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**(kept | {"origin": origin, "provenance": provenance}))


ReviewVerdict = Literal["approved", "rejected", "edited"]
RejectReason = Literal["wrong_cause", "not_abnormal", "sensor_fault", "known_work", "duplicate", "other"]


class Review(_Frozen):
    """
    A named person's decision on one annotation; ``edited`` approves the changed cause, text or actions.

    ``person`` is ``policy:NAME`` where a written policy released it: that says nothing of whether the cause is right.
    """

    annotation_id: str
    verdict: ReviewVerdict
    person: str
    at_ns: int
    reason: RejectReason | None = None
    comment: str = Field("", max_length=2000)
    cause_id: str | None = Field(None, description="edited: the cause the person names instead.")
    text: str | None = Field(None, max_length=600, description="edited: the text the person writes instead.")
    actions: tuple[str, ...] | None = None

    @property
    def by_policy(self) -> bool:
        """Whether nobody has looked at it."""
        return self.person.startswith(POLICY)

    def corrects(self, cause_id: str, text: str) -> bool:
        """Whether it puts another cause or text in the place of these; other actions alone are no correction."""
        return self.verdict == "edited" and not (self.cause_id in {None, cause_id} and self.text in {None, text})


def citations(text: str) -> list[str]:
    """Fact ids cited in a text, in order."""
    return _CITATION.findall(text)


def uncited_digits(text: str) -> bool:
    """Whether a digit stands anywhere outside a citation."""
    return any(ch.isdigit() for ch in _CITATION.sub("", text))


def number(value: float) -> str:
    """A number as people read it: four significant digits, no exponent between 1e-4 and 1e6."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        digits = f"{value:.4g}"
        return f"{value:.0f}" if "e" in digits else digits
    return f"{value:.3e}"


#: UCUM to what people write in a plant; anything else is shown as UCUM.
_SYMBOLS = {
    "1": "",
    "Cel": "°C",
    "[degF]": "°F",
    "m3/h": "m³/h",
    "m3": "m³",
    "kW.h": "kWh",
    "kV.A": "kVA",
    "{rev}/min": "rpm",
    "bar{gauge}": "barg",
    "m3{normal}/h": "Nm³/h",
    "{pcs}": "pcs",
}


def symbol(unit: str) -> str:
    """A UCUM unit as people write it; empty for a number without unit."""
    return _SYMBOLS.get(unit, unit)


def with_unit(value: float, unit: str) -> str:
    """A number with its unit as people read it."""
    return f"{number(value)} {symbol(unit)}".rstrip()


def place(fact: Fact) -> str:
    """Where a passage stands: its file with page or line."""
    where = f", page {fact.page}" if fact.page is not None else f", line {fact.line}" if fact.line is not None else ""
    return f"{fact.source}{where}"


def brief(fact: Fact) -> str:
    """The clause of a fact as it stands within a sentence: a long quotation is cut."""
    long = fact.kind == "passage" and len(fact.text) > MAX_QUOTED
    return phrase(fact.model_copy(update={"text": fact.text[:MAX_QUOTED].rstrip() + " …"}) if long else fact)


def phrase(fact: Fact) -> str:
    """One fact as a clause, written by code: tag, value and unit are the measured ones."""
    if fact.kind == "neighbour":
        return f"{fact.name} stayed normal"
    if fact.kind == "state":
        return f"{fact.name or 'state'} was {fact.text}"
    if fact.kind == "gap":
        return f"samples of {fact.name or 'the source'} are missing ({fact.text})"
    if fact.kind == "setpoint" and fact.value is not None and fact.baseline is not None:
        return f"{fact.name} was set from {number(fact.baseline)} to {with_unit(fact.value, fact.unit)}"
    if fact.kind == "history":
        return f"{fact.text}: “{fact.comment}”" if fact.comment else fact.text
    if fact.kind == "passage":
        return f"“{fact.text}” ({place(fact)})"
    return f"{fact.name} {_moved(fact)}"


#: What is true of a tag whatever it shows, by what saw it. Directions are few: rows that come late are ``silent``, too.
_SEEN: Final = {
    Kind.LATE: "arrives late",
    Kind.CLOCK: "carries times that cannot be believed",
    Kind.STALE: "repeats its device time",
    Kind.QUANTIZATION: "moves in coarser steps than before",
}
_ONLY_BAD: Final = "sends only bad values"
_WORDS: Final = {
    Kind.RATE: "changed faster than is believable, to",
    Kind.OSCILLATION: "swings, as far as",
    Kind.STICTION: "swings as behind a sticking valve, as far as",
}


def seen(detected: Kind | None, direction: str | None) -> str:
    """What is said of a tag for what saw it, whatever its value; empty where the direction says it."""
    if detected is Kind.VARIANCE:
        return "is calmer than before" if direction == "flat" else "is noisier than before"
    if direction == "bad":
        return _ONLY_BAD
    return "" if detected is None else _SEEN.get(detected, "")


def _moved(fact: Fact) -> str:
    """What a tag did, without its name."""
    if said := seen(fact.detected, fact.direction):
        return said
    if fact.direction == "silent":
        return "sends no samples"
    if fact.detected is Kind.MISSING:
        return _ONLY_BAD
    if fact.value is None:
        return "deviates"
    if fact.direction == "flat":
        return f"does not move from {with_unit(fact.value, fact.unit)}"
    words = (_WORDS.get(fact.detected) if fact.detected else None) or f"{fact.direction or 'moved'} to"
    before = "" if fact.baseline is None else f" (before: {with_unit(fact.baseline, fact.unit)})"
    return f"{words} {with_unit(fact.value, fact.unit)}{before}"


def render(text: str, evidence: Evidence) -> str:
    """The text with each citation followed by its fact; an unknown citation stays as it is."""

    def put(match: re.Match[str]) -> str:
        fact = evidence.fact(match.group(1))
        return match.group(0) if fact is None else f"[{fact.id}: {brief(fact)}]"

    return _CITATION.sub(put, text)
