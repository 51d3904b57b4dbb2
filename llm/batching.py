"""
Several answers in one context: each step is one forward pass that mixes prompt chunks and single tokens of all of them.

On a GPU a pass costs about the same for sixteen sequences as for one. On a CPU it does not pay (measured), and rounding
may differ by the company a sequence has: what must be repeated to the token is decoded alone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Generic, TypeVar

from llm.base import Chunk, DeadlineExceeded, EngineError, LanguageModel, NoRoom
from llm.decoding import Decoded, Forward
from schemas.errors import WorkerError

#: Sequences that hold prefixes; answers take those behind them.
HOMES: Final = 2
K = TypeVar("K", bound=Hashable)
#: Begins an answer in a sequence that already holds its prefix.
Start = Callable[[int], Forward[Decoded]]


@dataclass(slots=True)
class _Job(Generic[K]):
    """One answer; ``chunk`` is what it waits for, of which ``sent`` tokens are in the cache."""

    key: K
    start: Start
    home: int
    until_s: float
    answer: Forward[Decoded] | None = None
    sequence: int = -1
    chunk: Chunk | None = None
    sent: int = 0


class Batcher(Generic[K]):
    """
    Runs up to ``slots`` answers side by side on one model.

    Not thread-safe. A key names an answer; results are handed out by :meth:`step`.
    """

    def __init__(self, model: LanguageModel, slots: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._model = model
        self._clock = clock
        self._slots = slots
        self._free = list(range(HOMES + slots - 1, HOMES - 1, -1))
        self._active: list[_Job[K]] = []
        self._waiting: deque[_Job[K]] = deque()
        self._crowded = False  # until one ends, nobody else begins
        self.passes = 0

    @property
    def busy(self) -> int:
        """Answers that were taken and not handed out."""
        return len(self._active) + len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether one more would wait."""
        return self.busy >= self._slots

    def add(self, key: K, start: Start, home: int, until_s: float) -> None:
        """Take one more; *home* is the sequence of its prefix, *until_s* the clock's time of its deadline."""
        self._waiting.append(_Job(key, start, home, until_s))

    def step(self) -> list[tuple[K, Decoded | WorkerError]]:
        """
        One forward pass for all; what came to its end.

        Raises:
            EngineBroken: the model is lost, and every answer with it.
        """
        done: list[tuple[K, Decoded | WorkerError]] = []
        self._drop_late(done)
        while self._waiting and self._free and not self._crowded:
            self._begin(self._waiting.popleft(), done)
        if not self._active:
            return done
        jobs, chunks = self._compose()
        self._model.set_deadline(min(job.until_s for job in self._active))
        try:
            logits = self._model.forward(chunks)
        except DeadlineExceeded:
            self._take_back(jobs)
            self._drop_late(done)
            return done
        except NoRoom as error:
            self._take_back(jobs)
            self._yield_room(error, done)
            return done
        finally:
            self._model.set_deadline(None)
        self.passes += 1
        for job, chunk, row in zip(jobs, chunks, logits, strict=True):
            job.sent += len(chunk.tokens)
            if row is not None and job.answer is not None:
                self._advance(job, partial(job.answer.send, row), done)
        return done

    def _begin(self, job: _Job[K], done: list[tuple[K, Decoded | WorkerError]]) -> None:
        job.sequence = self._free.pop()
        self._model.copy(job.home, job.sequence)
        job.answer = answer = job.start(job.sequence)
        self._active.append(job)
        self._advance(job, partial(next, answer), done)

    def _advance(self, job: _Job[K], go: Callable[[], Chunk], done: list[tuple[K, Decoded | WorkerError]]) -> None:
        """Let an answer work with its logits until it needs a pass, or ends."""
        try:
            job.chunk, job.sent = go(), 0
        except StopIteration as stop:
            self._end(job)
            done.append((job.key, stop.value))
        except EngineError as error:
            self._end(job)
            done.append((job.key, error))

    def _end(self, job: _Job[K]) -> None:
        if job.answer is not None:
            job.answer.close()
        self._model.rewind(0, job.sequence)
        self._free.append(job.sequence)
        self._active.remove(job)
        self._crowded = False

    def _drop_late(self, done: list[tuple[K, Decoded | WorkerError]]) -> None:
        now = self._clock()
        for job in [job for job in self._active if job.until_s <= now]:
            self._end(job)
            done.append((job.key, DeadlineExceeded("the deadline passed while the model was thinking")))
        for job in [job for job in self._waiting if job.until_s <= now]:
            self._waiting.remove(job)
            done.append((job.key, DeadlineExceeded("the deadline passed before the model had room")))

    def _compose(self) -> tuple[list[_Job[K]], list[Chunk]]:
        """
        The batch: who needs few tokens first, so that a long prompt holds up nobody who is writing.

        A prompt takes what is left, and goes on in the next pass.
        """
        room = self._model.n_batch
        jobs: list[_Job[K]] = []
        chunks: list[Chunk] = []
        for job in sorted(self._active, key=_left):
            if job.chunk is None or room == 0:
                continue
            tokens = job.chunk.tokens[job.sent : job.sent + room]
            room -= len(tokens)
            whole = job.sent + len(tokens) == len(job.chunk.tokens)
            chunks.append(replace(job.chunk, tokens=tokens, position=job.chunk.position + job.sent, wanted=whole))
            jobs.append(job)
        return jobs, chunks

    def _take_back(self, jobs: Sequence[_Job[K]]) -> None:
        """Cut off what a pass that did not succeed may have appended."""
        for job in jobs:
            if job.chunk is not None and not self._model.rewind(job.chunk.position + job.sent, job.sequence):
                raise EngineError("the model's cache cannot be put back")

    def _yield_room(self, error: NoRoom, done: list[tuple[K, Decoded | WorkerError]]) -> None:
        """The youngest starts again when another has ended; alone it can only fail."""
        youngest = self._active[-1]
        alone = len(self._active) == 1
        self._end(youngest)
        if alone:
            done.append((youngest.key, error))
        else:
            youngest.answer = youngest.chunk = None
            self._waiting.appendleft(youngest)
            self._crowded = True


def _left(job: _Job[K]) -> int:
    return 0 if job.chunk is None else len(job.chunk.tokens) - job.sent
