"""Options of the annotator."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from llm.egress import endpoint
from schemas.manifest import REGISTRY, parse_reference
from schemas.quantities import Duration

_REFERENCE: Final = re.compile(r"(env|file|cred):.+")
_BUILTIN: Final = "builtin:"
Mode = Literal["annotate", "advisory"]


class ReasonerOptions(BaseModel):
    """Options of the annotator (``llm`` in fairlead.yaml)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: Annotated[
        Literal["local", "openai", "none"],
        Field(
            description="local: llama.cpp in its own process; openai: a server on the site that speaks the"
            " OpenAI-compatible protocol (vLLM, llama-server); none: rules only."
        ),
    ] = "local"
    mode: Annotated[
        Mode,
        Field(
            description="annotate: the model explains where its score card passed, else it is advisory; advisory: its "
            "text only ever stands beside the rules'."
        ),
    ] = "annotate"
    model: Annotated[
        str,
        Field(
            min_length=1,
            description="`builtin:plant-tiny`, a GGUF file (relative to fairlead.yaml), or a model that was imported: "
            "`registry:NAME` or `registry:NAME@VERSION`.",
        ),
    ] = "builtin:plant-tiny"
    sha256: Annotated[
        str | None,
        Field(pattern=r"^[0-9a-fA-F]{64}$", description="Hash the file must have; checked before it is loaded."),
    ] = None
    adapter: Annotated[
        str | None,
        Field(
            min_length=1,
            description="LoRA adapter of the model: a GGUF file, or `registry:NAME[@VERSION]`, with `/FILE` behind it "
            "where that medium has several.",
        ),
    ] = None
    adapter_sha256: Annotated[
        str | None, Field(pattern=r"^[0-9a-fA-F]{64}$", description="Hash the adapter must have.")
    ] = None
    adapter_scale: Annotated[float, Field(gt=0, le=4, description="How strongly it works; 1 as trained.")] = 1.0
    threads: Annotated[int, Field(ge=1, le=64, description="Threads; leave one core to the broker.")] = 1
    gpu_layers: Annotated[
        int, Field(ge=-1, le=1000, description="Layers on the GPU; -1 is all. Without a GPU build this does nothing.")
    ] = -1
    slots: Annotated[
        int | None,
        Field(
            ge=1,
            le=64,
            description="Answers side by side. Not given: 1 on the CPU, 16 on a GPU, 4 at a server.",
        ),
    ] = None
    deadline: Annotated[Duration, Field(gt=0, description="Longest wait for an answer; then rules.")] = 45.0
    patience: Annotated[
        Duration,
        Field(gt=0, description="Longest that an anomaly waits for its turn; where it would be longer, rules stand."),
    ] = 600.0
    share: Annotated[
        Duration, Field(ge=0, description="For so long an answer is used for alike anomalies as well; 0: never.")
    ] = 60.0
    seed: Annotated[int, Field(ge=0, description="Of the free text; used when temperature is above 0.")] = 7
    temperature: Annotated[
        float, Field(ge=0, le=2, description="Of the free text; 0 takes the best token. Choices are never sampled.")
    ] = 0.0
    family: Annotated[
        Literal["auto", "v3", "v3-tekken", "v7", "v7-spm"],
        Field(description="Prompt format; auto asks the vocabulary."),
    ] = "auto"
    url: Annotated[
        str | None,
        Field(
            description="backend openai: address of the interface, such as `http://10.0.0.5:8000/v1`. Loopback and"
            " private addresses only; a name is resolved once."
        ),
    ] = None
    api_key: Annotated[
        str | None, Field(description="backend openai: key of the server; a reference: env:NAME, file:NAME, cred:NAME.")
    ] = None
    ca: Annotated[
        str | None,
        Field(description="backend openai: PEM file of the authority that signed the server's certificate."),
    ] = None

    @field_validator("url")
    @classmethod
    def _on_site(cls, value: str | None) -> str | None:
        if value is not None:
            endpoint(value)
        return value

    @field_validator("api_key")
    @classmethod
    def _is_reference(cls, value: str | None) -> str | None:
        if value is not None and not _REFERENCE.fullmatch(value):
            raise ValueError("a secret is a reference: env:NAME, file:NAME or cred:NAME")
        return value

    @model_validator(mode="after")
    def _of_one_backend(self) -> ReasonerOptions:
        if self.backend == "openai":
            if self.url is None:
                raise ValueError("backend openai needs url, such as http://10.0.0.5:8000/v1")
            if self.model.startswith((_BUILTIN, REGISTRY)):
                raise ValueError("backend openai needs model, the name that the server gives its model")
        else:
            for name in ("url", "api_key", "ca"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is for backend openai, and backend is {self.backend}")
        return self

    @field_validator("model", "adapter")
    @classmethod
    def _reference(cls, named: str | None) -> str | None:
        if named is not None and named.startswith(REGISTRY):
            parse_reference(named)
        return named
