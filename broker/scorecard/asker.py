"""The model under test: the worker process of the service, asked one evidence after another, no rules behind it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from llm.backends import setup_of
from llm.messages import Ask, Ready, Refusal, Reply
from llm.model_file import ModelFile
from llm.options import ReasonerOptions
from llm.process import WorkerProcess
from schemas.errors import Refused, WorkerError
from schemas.evidence import Evidence

LOAD_LIMIT_S: Final = 300.0
#: The worker keeps the deadline itself; one that does not is ended so much later.
GRACE_S: Final = 5.0
#: A model that ended its worker so often is not asked any more.
MOST_CRASHES: Final = 3


@dataclass(frozen=True, slots=True)
class Asked:
    """A reply, or why there is none; ``total_ms`` is what the caller waited, the pipe included."""

    reply: Reply | None
    fault: str
    total_ms: float


class Asker:
    """
    One model in a worker process. ``start`` before the first question, ``close`` at the end.

    A worker that dies or hangs is started again, and the question counts as unanswered.
    """

    def __init__(self, file: ModelFile, options: ReasonerOptions) -> None:
        self._file = file
        self._options = options
        self._worker: WorkerProcess | None = None
        self._ready: Ready | None = None
        self._number = 0
        self._crashes = 0

    @property
    def ready(self) -> Ready:
        """What the worker said of the model when it had loaded it."""
        if self._ready is None:
            raise WorkerError("the model is not loaded")
        return self._ready

    @property
    def worker_pid(self) -> int | None:
        """Process id of the worker, while there is one."""
        return self._worker.pid if self._worker is not None else None

    async def start(self) -> None:
        """
        Load the model.

        Raises:
            Refused: the worker refuses the file, or it ends; the message says why.
        """
        try:
            self._ready = await self._load()
        except (TimeoutError, WorkerError) as error:
            await self.close()
            reason = str(error) or f"it was not loaded within {LOAD_LIMIT_S:g} s"
            raise Refused(f"{self._file.name} cannot be scored: {reason}") from error

    async def _load(self) -> Ready:
        self._worker = await WorkerProcess.spawn()
        async with asyncio.timeout(LOAD_LIMIT_S):
            await self._worker.send(setup_of(self._file, self._options))
            message = await self._worker.receive()
        if isinstance(message, Refusal):
            raise WorkerError(message.reason)
        if not isinstance(message, Ready):
            raise WorkerError("the worker did not say that it is ready")
        return message

    async def ask(self, evidence: Evidence) -> Asked:
        """
        One answer within the deadline of the options.

        Raises:
            Refused: the model ended its worker ``MOST_CRASHES`` times.
        """
        if refused := self._file.refuses(evidence):
            return Asked(None, refused, 0.0)
        if self._worker is None:
            raise WorkerError("the model is not loaded")
        self._number += 1
        asked = time.perf_counter()
        try:
            async with asyncio.timeout(self._options.deadline + GRACE_S):
                await self._worker.send(Ask(self._number, evidence.body, 1e3 * self._options.deadline))
                message = await self._worker.receive()
        except (TimeoutError, WorkerError) as error:
            reason = str(error) or f"no answer within {self._options.deadline:g} s"
            await self._again(reason)
            return Asked(None, reason, 1e3 * (time.perf_counter() - asked))
        total_ms = 1e3 * (time.perf_counter() - asked)
        if isinstance(message, Reply):
            return Asked(message, "", total_ms)
        return Asked(None, getattr(message, "reason", "no reply"), total_ms)

    async def _again(self, reason: str) -> None:
        self._crashes += 1
        await self.close()
        if self._crashes >= MOST_CRASHES:
            raise Refused(f"{self._file.name} ended its worker {self._crashes} times and has no score card: {reason}")
        await self.start()

    async def close(self) -> None:
        """End the worker. Never raises."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.close()
