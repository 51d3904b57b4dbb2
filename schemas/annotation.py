"""
Annotations: what the rules or the model said about one evidence snapshot, and what a person said of it.

Free text carries no digit except inside a citation ``[E3]``; :func:`render` puts the real tag, value and unit there.
"""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from typing import Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from schemas.evidence import Evidence, Fact

UNKNOWN = "unknown"
_CITATION = re.compile(r"\[(E[1-9][0-9]?)\]")


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Cause(_Frozen):
    """A chosen cause; ``probability`` is the chooser's own, renormalised over the options."""

    id: str
    text: str
    mechanism: str
    probability: float = Field(ge=0, le=1)
    cites: tuple[str, ...] = Field(description="Fact ids it rests on.")


class Provenance(_Frozen):
    """How the text came to be, enough to make it again."""

    engine: str = Field(description="`rules/1`, or name and version of the engine and the library.")
    prompt_version: str = ""
    prompt_sha256: str = ""
    prompt_text: str = ""
    plan_sha256: str = ""
    model_name: str = ""
    model_sha256: str = ""
    model_rung: str = Field(
        "", description="Step of the sovereign ladder: builtin, open_weights, air_gapped, frontier."
    )
    family: str = Field("", description="Prompt family of the vocabulary.")
    style: str = Field("", description="How evidence is written for the model: instruct or rows.")
    seed: int | None = None
    temperature: float | None = None
    threads: int | None = None
    context: int | None = Field(None, description="Most tokens in the model's cache.")
    sandbox: dict[str, str] = Field(default_factory=dict, description="Protections of the worker that held.")
    prompt_tokens: int = 0
    output_tokens: tuple[int, ...] = ()
    choices: tuple[tuple[str, float], ...] = Field((), description="(what was chosen, probability) in order.")
    queue_ms: float = 0.0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0
    checks: dict[str, bool] = Field(default_factory=dict)
    fallback_reason: str = Field("", description="Why rules stand here although a model is configured.")


class Annotation(_Frozen):
    """
    One explanation, bound to one evidence snapshot.

    ``annotation_id`` is the hash of what a person sees and approves (everything but provenance and time).
    """

    anomaly_id: str
    anomaly_revision: int
    evidence_id: str
    origin: Literal["model", "rules"]
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


ReviewVerdict = Literal["approved", "rejected", "edited"]
RejectReason = Literal["wrong_cause", "not_abnormal", "sensor_fault", "known_work", "duplicate", "other"]


class Review(_Frozen):
    """A named person's decision on one annotation; ``edited`` approves the changed cause, text or actions."""

    annotation_id: str
    verdict: ReviewVerdict
    person: str
    at_ns: int
    reason: RejectReason | None = None
    comment: str = Field("", max_length=2000)
    cause_id: str | None = Field(None, description="edited: the cause the person names instead.")
    text: str | None = Field(None, max_length=600, description="edited: the text the person writes instead.")
    actions: tuple[str, ...] | None = None


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
        return fact.text
    if fact.direction == "silent":
        return f"{fact.name} sends no samples"
    if fact.direction == "flat" and fact.value is not None:
        return f"{fact.name} does not move from {with_unit(fact.value, fact.unit)}"
    if fact.value is None:
        return f"{fact.name} deviates"
    text = f"{fact.name} {fact.direction or 'moved'} to {with_unit(fact.value, fact.unit)}"
    if fact.baseline is not None:
        text += f" (before: {with_unit(fact.baseline, fact.unit)})"
    return text


def render(text: str, evidence: Evidence) -> str:
    """The text with each citation followed by its fact; an unknown citation stays as it is."""

    def put(match: re.Match[str]) -> str:
        fact = evidence.fact(match.group(1))
        return match.group(0) if fact is None else f"[{fact.id}: {phrase(fact)}]"

    return _CITATION.sub(put, text)
