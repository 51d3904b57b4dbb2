"""Options of the annotator."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.quantities import Duration


class ReasonerOptions(BaseModel):
    """Options of the annotator (``llm`` in fairlead.yaml)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: Annotated[
        Literal["local", "none"], Field(description="local: llama.cpp in its own process; none: rules only.")
    ] = "local"
    model: Annotated[
        str, Field(min_length=1, description="`builtin:plant-tiny`, or a GGUF file; relative to fairlead.yaml.")
    ] = "builtin:plant-tiny"
    sha256: Annotated[
        str | None,
        Field(pattern=r"^[0-9a-fA-F]{64}$", description="Hash the file must have; checked before it is loaded."),
    ] = None
    threads: Annotated[int, Field(ge=1, le=64, description="Threads; leave one core to the broker.")] = 1
    deadline: Annotated[Duration, Field(gt=0, description="Longest wait for an answer; then rules.")] = 45.0
    seed: Annotated[int, Field(ge=0, description="Of the free text; used when temperature is above 0.")] = 7
    temperature: Annotated[
        float, Field(ge=0, le=2, description="Of the free text; 0 takes the best token. Choices are never sampled.")
    ] = 0.0
    family: Annotated[
        Literal["auto", "v3", "v3-tekken", "v7"], Field(description="Prompt format; auto asks the vocabulary.")
    ] = "auto"
