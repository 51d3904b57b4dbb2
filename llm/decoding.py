"""
Constrained decoding of a plan on one loaded model.

Closed choices walk a trie of tokens, and a token without an alternative costs no forward pass: it waits and is decoded
together with the next token that is needed. Greedy; the free text may be sampled from a seed.

An answer is a generator that asks for forward passes: :meth:`Decoder.run` drives one, :mod:`llm.batching` several.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np

from llm.base import Chunk, EngineError, LanguageModel, Logits
from llm.plan import Chosen, Fixed, Free, Plan, Step
from llm.prompt import Control, Part

#: Longest answer in tokens; a plan bounds itself far below.
MAX_OUTPUT: Final = 1024


_T = TypeVar("_T")
#: Asks for forward passes and is sent the logits after each, valid until it asks again.
Forward = Generator[Chunk, Logits, _T]


@dataclass(frozen=True, slots=True)
class Decoded:
    """
    What a plan came to.

    Attributes:
        text: the answer's bytes.
        tokens: its token ids.
        choices: (name:label, probability) of each closed choice, in order.
        probabilities: what the plan returned.
        shares: (label, probability) of every option of the first choice that was weighed.
        prompt_tokens: length of the prompt in tokens, prefix included.
        prompt_sha256: hash of the prompt's token ids, each as 4 bytes, little-endian.
        plan_sha256: hash of the steps.
        prefill_ms: until the first choice could be made.
        decision_ms: until the first weighed choice was made; 0 without one.
        decode_ms: from the first choice to the end.
        calls: forward passes.
    """

    text: bytes
    tokens: tuple[int, ...]
    choices: tuple[tuple[str, float], ...]
    probabilities: tuple[float, ...]
    shares: tuple[tuple[str, float], ...]
    prompt_tokens: int
    prompt_sha256: str
    plan_sha256: str
    prefill_ms: float
    decision_ms: float
    decode_ms: float
    calls: int


def _softmax(logits: Logits, tokens: Sequence[int]) -> list[float]:
    """Probabilities of some tokens among themselves."""
    part = logits[list(tokens)].astype(np.float64)
    part = np.exp(part - part.max())
    return [float(p) for p in part / part.sum()]


def tempered(shares: Sequence[float], temperature: float) -> list[float]:
    """Probabilities as the same logits give them at another temperature; 1 leaves them as they are."""
    if temperature == 1.0 or not sum(shares) > 0:
        return list(shares)
    part = np.asarray(shares, np.float64) ** (1.0 / temperature)
    return [float(p) for p in part / part.sum()]


@dataclass(slots=True)
class _Run:
    """State of one answer: ``position`` tokens are in the model's cache, ``pending`` wait for the next forward pass."""

    sequence: int
    position: int
    pending: list[int]
    temperature: float
    out: list[int] = field(default_factory=list)
    logits: Logits | None = None
    calls: int = 0
    first_s: float | None = None
    shares: tuple[tuple[str, float], ...] = ()
    decided_s: float | None = None


class Decoder:
    """
    Decodes plans on one model; keeps the tokens of the common prefix in the cache, in the sequence ``home``.

    ``temperature`` draws the free text, 0 takes the best. ``calibration`` is the temperature of the weighed choices:
    above 1 their probabilities come closer together, and the order stays.
    """

    def __init__(
        self,
        model: LanguageModel,
        prefix: Sequence[Part],
        *,
        home: int = 0,
        seed: int = 7,
        temperature: float = 0.0,
        calibration: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self.home = home
        self._seed = seed
        self._temperature = temperature
        self._calibration = calibration
        self._clock = clock
        self._prefix = self.encode(prefix)
        self._spelled: dict[str, tuple[int, ...]] = {}
        self._cached = 0

    def warm(self) -> None:
        """Put the prefix into the model's cache. Raises as ``LanguageModel.decode``."""
        if self._cached != len(self._prefix):
            self._model.rewind(0, self.home)
            self._cached = 0
            self._model.decode(self._prefix, 0, self.home)
            self._cached = len(self._prefix)

    def forget(self) -> None:
        """Another decoder has used the model's cache: the prefix is decoded again at the next run."""
        self._cached = 0

    def run(self, body: Sequence[Part], plan: Plan, *, greedy: bool = False) -> Decoded:
        """
        Fill in a plan after the prefix and ``body``, alone; *greedy* takes the best tokens whatever the temperature.

        Raises:
            DeadlineExceeded: the model's deadline passed; the next run works.
            EngineError: prompt and answer do not fit, or the vocabulary cannot spell a step.
            EngineBroken: the model is lost.
        """
        if not self._model.rewind(self._cached, self.home):
            self._cached = 0
        answer = self.answer(body, plan, self.home, greedy=greedy)
        try:
            chunk = next(answer)
            while True:
                chunk = answer.send(self._model.decode(chunk.tokens, chunk.position, chunk.sequence))
        except StopIteration as stop:
            done: Decoded = stop.value
            return done
        finally:
            answer.close()

    def answer(self, body: Sequence[Part], plan: Plan, sequence: int, *, greedy: bool = False) -> Forward[Decoded]:
        """Like :meth:`run`, in a sequence that begins with the prefix, pass by pass; raises EngineError in between."""
        start = self._clock()
        self.warm()
        prompt = self.encode(body)
        state = _Run(sequence, self._cached, list(prompt), 0.0 if greedy else self._temperature)
        seen = hashlib.sha256()
        choices: list[tuple[str, float]] = []
        outcome: Chosen | None = None
        try:
            while True:
                step = plan.send(outcome)
                seen.update(repr(step).encode())
                outcome = yield from self._step(state, step, choices)
        except StopIteration as stop:
            probabilities: tuple[float, ...] = stop.value
        end = self._clock()
        first = end if state.first_s is None else state.first_s
        ids = np.asarray([*self._prefix, *prompt], dtype="<u4")
        return Decoded(
            text=b"".join(map(self._model.piece, state.out)),
            tokens=tuple(state.out),
            choices=tuple(choices),
            probabilities=probabilities,
            shares=state.shares,
            prompt_tokens=len(ids),
            prompt_sha256=hashlib.sha256(ids.tobytes()).hexdigest(),
            plan_sha256=seen.hexdigest(),
            prefill_ms=1e3 * (first - start),
            decision_ms=0.0 if state.decided_s is None else 1e3 * (state.decided_s - start),
            decode_ms=1e3 * (end - first),
            calls=state.calls,
        )

    @property
    def prefix_tokens(self) -> tuple[int, ...]:
        """Token ids of the common prefix."""
        return tuple(self._prefix)

    def encode(self, parts: Sequence[Part]) -> list[int]:
        """Token ids of parts: control tokens by id, text without any. Raises EngineError if it cannot be."""
        tokens: list[int] = []
        for part in parts:
            if isinstance(part, Control):
                token = self._model.control(part.name)
                if token is None:
                    raise EngineError(f"the vocabulary has no control token {part.name}")
                tokens.append(token)
            else:
                tokens += self._model.encode(part)
        return tokens

    def _spell(self, text: str) -> tuple[int, ...]:
        if text not in self._spelled:
            if len(self._spelled) > 4096:
                self._spelled.clear()
            self._spelled[text] = tuple(self._model.encode(text))
        return self._spelled[text]

    def _step(self, state: _Run, step: Step, choices: list[tuple[str, float]]) -> Forward[Chosen | None]:
        if isinstance(step, Fixed):
            self._push(state, self._spell(step.text))
            return None
        if isinstance(step, Free):
            yield from self._write(state, step)
            return None
        options = [self._spell(text) for _, text in step.options]
        if len(options) == 1:
            chosen = Chosen(0, 1.0, (1.0,))
        elif step.all_probabilities:
            shares = yield from self._weigh(state, options)
            best = max(range(len(options)), key=shares.__getitem__)
            chosen = Chosen(best, shares[best], tuple(shares))
        else:
            chosen = yield from self._follow(state, options)
        if step.all_probabilities or len(options) == 1:
            self._push(state, options[chosen.index])
        if step.all_probabilities and state.decided_s is None:
            names = (name for name, _ in step.options)
            state.shares = tuple(zip(names, chosen.probabilities, strict=True))
            state.decided_s = self._clock()
        choices.append((f"{step.name}:{step.options[chosen.index][0]}", chosen.probability))
        return chosen

    def _push(self, state: _Run, tokens: Sequence[int]) -> None:
        if tokens:
            state.out += tokens
            state.pending += tokens
            state.logits = None
        if len(state.out) > MAX_OUTPUT:
            raise EngineError(f"the answer is longer than {MAX_OUTPUT} tokens")

    def _flush(self, state: _Run) -> Forward[Logits]:
        """Decode what waits; logits after the last token."""
        if state.logits is None:
            logits = yield from self._pass(state, state.pending, state.position)
            state.logits = logits
            state.position += len(state.pending)
            state.pending = []
            if state.first_s is None:
                state.first_s = self._clock()
        return state.logits

    def _pass(self, state: _Run, tokens: Sequence[int], position: int) -> Forward[Logits]:
        if position + len(tokens) > self._model.n_context:
            raise EngineError(f"prompt and answer need more than the context of {self._model.n_context} tokens")
        logits = yield Chunk(state.sequence, tuple(tokens), position)
        state.calls += 1
        return logits

    def _follow(self, state: _Run, options: Sequence[tuple[int, ...]]) -> Forward[Chosen]:
        """Walk down the trie by the best token at each branching."""
        left = list(range(len(options)))
        depth, probability = 0, 1.0
        while len(left) > 1:
            heads = sorted({options[i][depth] for i in left})
            if len(heads) > 1:
                shares = _softmax((yield from self._flush(state)), heads)
                best = max(range(len(heads)), key=shares.__getitem__)
                probability *= shares[best]
                left = [i for i in left if options[i][depth] == heads[best]]
            self._push(state, (options[left[0]][depth],))
            depth += 1
        self._push(state, options[left[0]][depth:])
        return Chosen(left[0], probability)

    def _weigh(self, state: _Run, options: Sequence[tuple[int, ...]]) -> Forward[list[float]]:
        """Exact probability of each option: every branching is decoded, then the cache is put back."""
        result = [0.0] * len(options)
        yield from self._flush(state)
        base = state.position

        def visit(path: list[int], left: list[int], share: float) -> Forward[None]:
            if len(left) == 1:
                result[left[0]] = share
                return
            while len(heads := sorted({options[i][len(path)] for i in left})) == 1:
                path = [*path, heads[0]]
            if path:
                self._put_back(state, base)
                logits = yield from self._pass(state, path, base)
            else:
                logits = yield from self._flush(state)
            for head, part in zip(heads, _softmax(logits, heads), strict=True):
                yield from visit([*path, head], [i for i in left if options[i][len(path)] == head], share * part)

        yield from visit([], list(range(len(options))), 1.0)
        self._put_back(state, base)
        state.logits = None
        return tempered(result, self._calibration)

    def _put_back(self, state: _Run, position: int) -> None:
        if not self._model.rewind(position, state.sequence):
            raise EngineError("the model's cache cannot be put back")

    def _write(self, state: _Run, step: Free) -> Forward[None]:
        noise = np.random.default_rng(self._seed)
        end = step.end.encode()
        written = 0
        rules = self._model.grammar(step.gbnf)
        try:
            while True:
                logits = yield from self._flush(state)
                if state.temperature > 0:
                    # adding Gumbel noise and taking the best is the same as sampling
                    drawn = np.asarray(noise.gumbel(size=len(logits)), dtype=np.float32)
                    logits = logits / np.float32(state.temperature) + drawn
                token = rules.best(logits)
                rules.accept(token)
                piece = self._model.piece(token)
                written += len(piece)
                if not piece or written > step.max_bytes + len(end):
                    raise EngineError(f"the text is longer than {step.max_bytes} bytes")
                self._push(state, (token,))
                if piece.endswith(end):
                    return
        finally:
            rules.close()
