"""What the decoder needs of a loaded model. :mod:`llm.engine` gives it on llama.cpp; tests give a scripted one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.errors import WorkerError, WorkerTimeout

Logits = NDArray[np.float32]


class EngineError(WorkerError):
    """The model cannot be loaded, or cannot answer this request; the process goes on."""


class NoRoom(EngineError):
    """The cache is full; the request fits when others have ended."""


class EngineBroken(WorkerError):
    """The model's context is lost; the process must be started anew."""


class DeadlineExceeded(WorkerTimeout):
    """The answer was not ready in time; the model is usable afterwards."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """
    Tokens that one sequence appends at a position; ``wanted`` asks for the logits after the last of them.

    Sequences have caches of their own, which may share what they have in common.
    """

    sequence: int
    tokens: tuple[int, ...]
    position: int
    wanted: bool = True


class Grammar(Protocol):
    """State of one grammar while a text is written."""

    def best(self, logits: Logits) -> int:
        """The token of the highest logit that the grammar allows here. Raises EngineError where there is none."""
        ...

    def accept(self, token: int) -> None:
        """Move on by a token that :meth:`best` returned."""
        ...

    def close(self) -> None:
        """Release it. Never raises."""
        ...


class LanguageModel(Protocol):
    """
    One loaded model with a cache of one or several sequences of tokens.

    Attributes:
        n_vocab: number of tokens in the vocabulary.
        n_context: longest sequence.
        n_batch: most tokens of one forward pass.
    """

    n_vocab: int
    n_context: int
    n_batch: int

    def encode(self, text: str) -> list[int]:
        """
        Tokens of a text as it stands, no control token and no added space; the pieces give the text again.

        Raises:
            EngineError: the vocabulary cannot spell the text.
        """
        ...

    def control(self, name: str) -> int | None:
        """Id of a control token such as ``[INST]``; None where the vocabulary has none of this name."""
        ...

    def piece(self, token: int) -> bytes:
        """Bytes a token stands for; empty for control tokens."""
        ...

    def decode(self, tokens: Sequence[int], position: int, sequence: int = 0) -> Logits:
        """
        Append tokens at a position; logits after the last one, float32[n_vocab], valid until the next call.

        Raises:
            DeadlineExceeded: the deadline passed meanwhile.
            EngineError: no room, or an invalid batch.
            EngineBroken: fatal in the library.
        """
        ...

    def forward(self, chunks: Sequence[Chunk]) -> list[Logits | None]:
        """
        One pass over chunks of different sequences, at most ``n_batch`` tokens; the logits of each that wants them.

        Raises:
            NoRoom: the cache is full; nothing was appended.
            DeadlineExceeded: the deadline passed meanwhile; what was appended is unknown.
            EngineBroken: fatal in the library.
        """
        ...

    def rewind(self, position: int, sequence: int = 0) -> bool:
        """Forget everything from a position on. False: nothing is kept at all, also not what stood before it."""
        ...

    def copy(self, source: int, target: int) -> None:
        """Let a sequence begin with all that another one has, whatever it had before; both share the memory."""
        ...

    def grammar(self, gbnf: str) -> Grammar:
        """A grammar at its start. Raises EngineError for an empty or malformed one."""
        ...

    def set_deadline(self, at_s: float | None) -> None:
        """Monotonic time in seconds from which :meth:`decode` raises DeadlineExceeded; None takes it away."""
        ...
